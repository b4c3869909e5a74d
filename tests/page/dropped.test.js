import assert from "node:assert/strict";
import { test } from "node:test";
import { takeDrop } from "../../examples/web/dropped.js";

/** What browsers tell of a file, or of a folder with `inside`, which they give in parts. */
function entryOf(path, inside) {
  const name = path.split("/").at(-1);
  if (!inside) return { name, fullPath: path, isDirectory: false, file: (done) => done(new File([path], name)) };
  const parts = [inside.slice(0, 2), inside.slice(2)].filter((part) => part.length);
  const createReader = () => {
    const left = [...parts];
    return { readEntries: (done) => done(left.shift() ?? []) };
  };
  return { name, fullPath: path, isDirectory: true, createReader };
}

async function dropped(entries, files = []) {
  let taken;
  const items = entries.map((entry) => ({ webkitGetAsEntry: () => entry }));
  await takeDrop({ items, files }, (all) => (taken = all));
  return taken;
}

test("the files of a folder that is dropped are taken with their paths, in natural order", async () => {
  const deeper = entryOf("/ducks/b", [entryOf("/ducks/b/3.jpg")]);
  const folder = entryOf("/ducks", [entryOf("/ducks/10.jpg"), deeper, entryOf("/ducks/2.jpg")]);
  const files = await dropped([folder, entryOf("/alone.jpg")]);
  const paths = ["ducks/2.jpg", "ducks/10.jpg", "ducks/b/3.jpg", ""];
  assert.deepEqual(files.map((file) => file.webkitRelativePath ?? ""), paths);
  assert.deepEqual(files.map(({ name }) => name), ["2.jpg", "10.jpg", "3.jpg", "alone.jpg"]);
});

test("files are taken as they are, also where a browser says nothing of folders, or may not read them", async () => {
  const file = new File(["a"], "a.jpg");
  assert.deepEqual(await dropped([entryOf("/a.jpg")], [file]), [file]);
  assert.deepEqual(await dropped([null], [file]), [file]);
  const closed = { isDirectory: true, createReader: () => ({ readEntries: (_, fail) => fail(new Error("closed")) }) };
  assert.deepEqual(await dropped([closed], [file]), [file]);
});
