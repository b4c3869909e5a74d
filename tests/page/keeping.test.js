import assert from "node:assert/strict";
import { test } from "node:test";
import { applied } from "../../src/fewbox/apps/annotate/page/history.js";
import { Saver } from "../../src/fewbox/apps/annotate/page/saving.js";
import { Session } from "../../src/fewbox/apps/annotate/page/session.js";
import { NOWHERE } from "../../src/fewbox/apps/annotate/page/unsaved.js";

const turn = (milliseconds = 5) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const refused = (message) => Object.assign(new Error(message), { refused: true });

/** A folder with photos "1", "2" ... and a trash; `slowly(does)` has it answer only once `does` is done. */
async function opened(count) {
  const states = new Map();
  const trash = new Set();
  let version = 0;
  let waitFor = async () => {};
  for (let number = 1; number <= count; number += 1) states.set(`${number}`, { boxes: [], reviewed: false });
  const row = ([id, { boxes, reviewed, left_out }]) => {
    const size = { width: 100, height: 100, num_boxes: boxes.length, labels: boxes.map(({ label }) => label) };
    return { id, name: `${id}.jpg`, ...size, reviewed, left_out, error: null };
  };
  const move = (id, isThere) => {
    if (!states.has(id) || trash.has(id) !== isThere) throw refused(`${id}.jpg is not there`);
    if (isThere) trash.delete(id);
    else trash.add(id);
    version += 1;
  };
  const store = {
    project: async () => {
      const photos = [...states].filter(([id]) => !trash.has(id)).map(row);
      const answer = { name: "photos", labels: ["cup"], photos, version };
      await waitFor();
      return answer;
    },
    photo: async (id) => {
      const answer = { ...states.get(id), width: 100, height: 100 };
      await waitFor();
      return answer;
    },
    proposals: async () => ({ boxes: [], pending: false }),
    labels: async () => ({ labels: ["cup"] }),
    patch: async (id, change) => {
      states.set(id, applied(states.get(id), change));
      version += 1;
      return { ...states.get(id), width: 100, height: 100, files: [version - 1, version] };
    },
    trash: async (id) => move(id, false),
    restore: async (id) => move(id, true),
    takeIn: async () => {
      states.set("new", { boxes: [], reviewed: false });
      return { id: "new", name: "new.jpg" };
    },
  };
  const session = new Session(store, new Saver(store, NOWHERE));
  await session.start();
  await turn();
  const slowly = async (does) => {
    let isDone = null;
    waitFor = () => (isDone ??= Promise.resolve(does()).then(turn));
    await turn();
    return () => (waitFor = async () => {});
  };
  const listed = () => session.photos.map(({ id, num_boxes }) => `${id}: ${num_boxes}`);
  return { session, store, states, slowly, listed, others: { move } };
}

/** Move the open photo into the trash, and then the one that is opened in its place. */
async function trashTwo(session) {
  for (let count = 0; count < 2; count++) {
    await session.trashPhoto();
    await turn();
  }
}

test("a deleted photo comes back also while one draws, and older steps can be undone after it", async () => {
  const { session, slowly, listed } = await opened(3);
  await trashTwo(session);
  assert.deepEqual(listed(), ["3: 0"]);
  const stop = await slowly(() => session.draw([1, 1, 30, 30])); // in the photo that is open
  await session.undo();
  stop();
  await turn();
  assert.deepEqual([session.current.id, ...listed()], ["2", "2: 0", "3: 1"]);
  await session.undo();
  await turn();
  assert.deepEqual([session.current.id, ...listed()], ["1", "1: 0", "2: 0", "3: 1"]);
});

test("a photo that somebody else has brought back is back", async () => {
  const { session, listed, others } = await opened(2);
  const said = [];
  session.addEventListener("tell", ({ detail }) => said.push(detail));
  await session.trashPhoto();
  others.move("1", true);
  await session.undo();
  assert.deepEqual([listed(), said], [["1: 0", "2: 0"], ["1.jpg is back"]]);
});

test("what cannot be undone says so once, and does not bar the way to what was done before it", async () => {
  const { session, states, listed } = await opened(3);
  await trashTwo(session);
  states.delete("2"); // somebody has emptied the trash of it
  await assert.rejects(session.undo(), /2.jpg is not there/);
  await session.undo();
  await turn();
  assert.deepEqual([session.current.id, ...listed()], ["1", "1: 0", "3: 0"]);
});

test("what cannot be done again says so once, and does not bar the way either", async () => {
  const { session, listed, others } = await opened(3);
  await trashTwo(session);
  await session.undo();
  await session.undo();
  await turn();
  others.move("1", false); // somebody else has deleted it
  await assert.rejects(session.redo(), /1.jpg is not there/);
  await session.redo();
  assert.ok(!listed().includes("2: 0"));
});

test("while nobody answers, a step stays to be undone", async () => {
  const { session, store, listed } = await opened(2);
  const { restore } = store;
  await session.trashPhoto();
  store.restore = () => Promise.reject(new Error("the server does not answer"));
  await assert.rejects(session.undo(), /does not answer/);
  store.restore = restore;
  await session.undo();
  assert.deepEqual(listed(), ["1: 0", "2: 0"]);
});

test("a photo that is taken in is listed also while one draws", async () => {
  const { session, slowly, listed } = await opened(1);
  const stop = await slowly(() => session.draw([1, 1, 30, 30]));
  await session.takeIn({ id: "tried", boxes: [] });
  stop();
  assert.deepEqual(listed(), ["1: 1", "new: 0"]);
});

test("what somebody else has drawn is seen also if a change of another photo is saved meanwhile", async () => {
  const { session, states, slowly, listed } = await opened(2);
  states.set("1", { boxes: [{ id: "theirs", box: [1, 1, 9, 9], label: "cup", ignore: false }], reviewed: true });
  const stop = await slowly(async () => session.saver.add("2", { put: [], delete: [], reviewed: true }));
  await session.refresh();
  stop();
  assert.deepEqual(session.state.boxes.map(({ id }) => id), ["theirs"]);
  assert.deepEqual([listed(), session.photo("2").reviewed], [["1: 1", "2: 0"], true]);
});
