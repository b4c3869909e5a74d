import assert from "node:assert/strict";
import { test } from "node:test";
import { unzipped, zipped } from "../../examples/web/teach/zip.js";

const PHOTOS = [
  { name: "a.jpg", blob: new Blob(["one photo"]) },
  { name: "ducks/b.jpg", blob: new Blob(["another"]) },
];
const bytesOf = async (entries) => new Uint8Array(await (await zipped(entries)).arrayBuffer());
const fileOf = (bytes) => new File([bytes], "project.zip");
const CENTRAL = [0x50, 0x4b, 1, 2];

/** Where a record begins that is told by its signature. */
const at = (bytes, signature) => bytes.findIndex((_, place) => signature.every((byte, i) => bytes[place + i] === byte));

test("what was packed comes out again", async () => {
  const files = await unzipped(fileOf(await bytesOf(PHOTOS)));
  assert.deepEqual(files.map((file) => file.webkitRelativePath), ["project.zip/a.jpg", "project.zip/ducks/b.jpg"]);
  assert.deepEqual(await Promise.all(files.map((file) => file.text())), ["one photo", "another"]);
});

test("a file cut short anywhere is refused", async () => {
  const bytes = await bytesOf(PHOTOS);
  for (let length = 0; length < bytes.length; length++) {
    await assert.rejects(unzipped(fileOf(bytes.subarray(0, length))), { message: /damaged/ }, `${length} bytes`);
  }
});

test("a photo that is not what was packed is refused, and so is a list of files that is damaged", async () => {
  for (const signature of [[..."one photo"].map((letter) => letter.charCodeAt(0)), CENTRAL]) {
    const bytes = await bytesOf(PHOTOS);
    bytes[at(bytes, signature)] ^= 1;
    await assert.rejects(unzipped(fileOf(bytes)), { message: "project.zip: not a ZIP, or damaged", hint: /unpack it/ });
  }
});

test("a password, and what only ZIP64 can hold, are told", async () => {
  const changed = async (signature, place, value) => {
    const bytes = await bytesOf(PHOTOS);
    bytes.set(value, at(bytes, signature) + place);
    return fileOf(bytes);
  };
  const large = { message: "project.zip: larger than 4 GB", hint: /unpack it/ };
  await assert.rejects(unzipped(await changed(CENTRAL, 8, [1])), { message: "project.zip: has a password" });
  await assert.rejects(unzipped(await changed(CENTRAL, 42, [255, 255, 255, 255])), large);
  await assert.rejects(unzipped(await changed([0x50, 0x4b, 5, 6], 16, [255, 255, 255, 255])), large);
});

test("more than a ZIP can hold is not written", async () => {
  const hint = "Save the project without them.";
  const many = Array.from({ length: 65536 }, () => PHOTOS[0]);
  await assert.rejects(zipped(many), { message: "There are more than 65,534 photos", hint });
  const large = { size: 2 ** 32, stream: () => new Blob([]).stream() };
  await assert.rejects(zipped([{ name: "a.jpg", blob: large }]), { message: "The photos are larger than 4 GB", hint });
});

/** A ZIP of one file, whose name has these bytes first, with these flags. */
async function named(text, bytes, flags) {
  const packed = await bytesOf([{ name: `${"x".repeat(bytes.length)}${text}`, blob: new Blob(["photo"]) }]);
  const [local, central] = [at(packed, [0x50, 0x4b, 3, 4]), at(packed, CENTRAL)];
  packed.set(bytes, local + 30);
  packed.set(bytes, central + 46);
  packed.set(flags, central + 8);
  const [file] = await unzipped(fileOf(packed));
  return file.name;
}

test("names are UTF-8, also where that is not said, or else in the letters of the first PC, as Windows writes them", async () => {
  const [utf8, said] = [new TextEncoder().encode("ü"), [0, 8]];
  assert.equal(await named(".jpg", utf8, said), "ü.jpg");
  assert.equal(await named(".jpg", utf8, [0, 0]), "ü.jpg");
  assert.equal(await named(".jpg", [0x81], [0, 0]), "ü.jpg");
  assert.equal(await named(".jpg", [0x94, 0xe1, 0x90], [0, 0]), "ößÉ.jpg");
  assert.equal(await named(".jpg", [0x81], said), "\ufffd.jpg");
});
