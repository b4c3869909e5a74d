import assert from "node:assert/strict";
import { test } from "node:test";
import { Saver } from "../../src/fewbox/apps/annotate/page/saving.js";
import { Session } from "../../src/fewbox/apps/annotate/page/session.js";
import { NOWHERE } from "../../src/fewbox/apps/annotate/page/unsaved.js";

const turn = () => new Promise((resolve) => setTimeout(resolve, 5));
const SIZES = { 1: [400, 300], 2: [800, 600], 3: [40, 30] };

/** Photos "1" (which has a mug and a lid), "2" (twice as large) and "3" (tiny), and what was told. */
async function opened({ proposed = [] } = {}) {
  const labels = ["mug", "lid"];
  const boxes = { 1: [box("a", [10, 20, 110, 120], "mug"), box("b", [200, 100, 204, 104], "lid")], 2: [], 3: [] };
  const sizeOf = (id) => ({ width: SIZES[id][0], height: SIZES[id][1] });
  const row = (id) => {
    const said = { reviewed: boxes[id].length > 0, num_boxes: boxes[id].length, labels: boxes[id].map(({ label }) => label) };
    return { id, name: `${id}.jpg`, ...sizeOf(id), error: null, ...said };
  };
  const store = {
    project: async () => ({ name: "photos", labels, photos: ["1", "2", "3"].map(row), suggested_next: null }),
    photo: async (id) => ({ boxes: boxes[id], reviewed: boxes[id].length > 0, ...sizeOf(id) }),
    patch: async (id, { put, delete: gone, reviewed }) => {
      const replaced = new Set([...gone, ...put.map((one) => one.id)]);
      boxes[id] = [...boxes[id].filter((one) => !replaced.has(one.id)), ...put];
      return { boxes: boxes[id], reviewed: reviewed ?? true, ...sizeOf(id) };
    },
    labels: async (change) => {
      for (const [from, to] of Object.entries(change.rename ?? {})) {
        labels.splice(labels.indexOf(from), 1, to);
        for (const one of Object.values(boxes).flat()) if (one.label === from) one.label = to;
      }
      return { labels: [...labels] };
    },
    proposals: async () => ({ boxes: proposed, pending: false }),
  };
  const session = new Session(store, new Saver(store, NOWHERE));
  session.learning = { state: "ready", message: "", round: 1, progress: 1 };
  const told = [];
  session.addEventListener("tell", ({ detail }) => told.push(detail));
  await session.start("1");
  await turn();
  const go = async (id) => {
    session.open(id);
    await turn();
  };
  return { session, store, told, go, saved: (id) => boxes[id].map(({ box: place, label }) => [label, ...place]) };
}

function box(id, place, label) {
  return { id, box: place, label, ignore: false };
}

test("a box copied and pasted elsewhere lies at the same relative place, is in hand, and is undone", async () => {
  const { session, told, go, saved } = await opened();
  assert.equal(session.paste(), false); // so that the browser pastes what it has, such as photos
  assert.equal(told.at(-1), "no box has been copied yet");
  session.select("a");
  session.copy();
  await go("2");
  session.paste();
  await turn();
  assert.deepEqual(saved("2"), [["mug", 20, 40, 220, 240]]);
  assert.deepEqual([session.selectedItem.label, session.held], ["mug", session.selected]);
  session.paste(); // a second one can be told from the first
  await turn();
  assert.deepEqual(saved("2")[1], ["mug", 36, 56, 236, 256]);
  await session.undo();
  await session.undo();
  await turn();
  assert.deepEqual(saved("2"), []);
  session.redo();
  await turn();
  assert.deepEqual(saved("2"), [["mug", 20, 40, 220, 240]]);
});

test("without a selected box all are copied; what is too small elsewhere is left out", async () => {
  const { session, told, go, saved } = await opened();
  session.copy();
  assert.equal(told.at(-1), "2 boxes copied");
  await go("3");
  session.paste();
  await turn();
  assert.deepEqual(saved("3"), [["mug", 1, 2, 11, 12]]);
  assert.equal(told.at(-1), "mug pasted");
});

test("a class renamed after copying is pasted by its new name, and stays hidden", async () => {
  const { session, go, saved } = await opened();
  session.select("a");
  session.copy();
  session.toggleClass("mug");
  await session.renameClass("mug", "cup");
  assert.deepEqual([...session.hiddenLabels], ["cup"]);
  await go("2");
  session.paste();
  await turn();
  assert.deepEqual(saved("2").map(([label]) => label), ["cup"]);
  assert.deepEqual([...session.hiddenLabels], []); // what was just made is seen
});

test("a duplicate lies a little beside; without a selected box there is none", async () => {
  const { session, told, saved } = await opened();
  session.duplicate();
  assert.match(told.at(-1), /no box is selected/);
  session.select("a");
  session.duplicate();
  await turn();
  assert.deepEqual(saved("1")[2], ["mug", 18, 28, 118, 128]);
});

test("hidden boxes are neither selected nor changed, and what is drawn is shown", async () => {
  const { session, saved } = await opened();
  const before = saved("1");
  session.select("a");
  session.toggleBoxes();
  assert.deepEqual([session.shownItems, session.selected], [[], null]);
  assert.equal(session.selectNext(1), false);
  session.toggleBoxes();
  session.select("a");
  session.toggleClass();
  assert.deepEqual(session.shownItems.map(({ label }) => label), ["lid"]);
  await turn();
  assert.deepEqual(saved("1"), before);
  session.active = 0;
  session.draw([300, 200, 350, 250]);
  assert.deepEqual(session.shownItems.map(({ label }) => label), ["mug", "lid", "mug"]);
});

test("a hidden proposal is not accepted unseen, and is asked about and seen all the same", async () => {
  const { session, told, go } = await opened({ proposed: [{ box: [10, 10, 50, 50], label: "mug", score: 0.9 }] });
  await go("2");
  session.toggleBoxes();
  session.acceptOne();
  assert.equal(told.at(-1), "nothing is proposed here");
  session.acceptAll();
  assert.equal(told.at(-1), "0 accepted");
  session.reviewAndNext(() => {});
  assert.equal(session.question.items.length, 1);
  assert.equal(session.shownItems.length, 1);
});

test("the first photo, the last, the next without boxes, and the one that a search means", async () => {
  const { session, told, go } = await opened();
  session.goToEnd(1);
  assert.equal(session.current.id, "3");
  session.goToEnd(-1);
  assert.equal(session.current.id, "1");
  session.goToEmpty();
  assert.equal(session.current.id, "2");
  await go("3");
  session.goToEmpty(); // after the last comes the first, which has boxes
  assert.equal(session.current.id, "2");
  session.setSearch("3.j");
  assert.deepEqual(session.shownPhotos.map(({ id }) => id), ["3"]);
  session.goToEmpty();
  assert.equal(session.current.id, "3");
  session.goToEmpty();
  assert.equal(told.at(-1), "no other photo is without boxes");
  session.setSearch("1");
  assert.equal(session.jump(), true);
  assert.deepEqual([session.current.id, session.search], ["1", ""]);
  session.setSearch("no such name");
  assert.equal(session.jump(), false);
});
