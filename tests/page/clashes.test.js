import assert from "node:assert/strict";
import { test } from "node:test";
import { applied } from "../../src/fewbox/apps/annotate/page/history.js";
import { Saver } from "../../src/fewbox/apps/annotate/page/saving.js";
import { Session } from "../../src/fewbox/apps/annotate/page/session.js";
import { NOWHERE } from "../../src/fewbox/apps/annotate/page/unsaved.js";

const PLACES = [0, 20, 40, 60].map((x) => [x, 0, x + 10, 10]);
const THEIRS = { id: "theirs", box: [80, 80, 99, 99], label: "cup", ignore: false };
const turn = () => new Promise((resolve) => setTimeout(resolve, 5));

/** A server with one photo, in which somebody else draws unseen with `meanwhile(boxes)`. */
async function opened() {
  let state = { boxes: [], reviewed: false, width: 100, height: 100 };
  let labels = ["cup", "mug"];
  let unseen = null;
  const relabel = (names) => {
    const before = state.boxes.filter(({ label }) => label in names);
    const boxes = state.boxes.map((box) => ({ ...box, label: box.label in names ? names[box.label] : box.label }));
    state = { ...state, boxes: boxes.filter(({ label }) => label !== null) };
    state.reviewed &&= state.boxes.length > 0;
    labels = labels.map((label) => names[label] ?? label).filter((label) => names[label] !== null);
    labels = [...new Set(labels)];
    return { labels, before: [["1", { put: before, delete: [] }]], lost: before[0]?.label };
  };
  const row = () => ({ id: "1", name: "1.jpg", width: 100, height: 100, num_boxes: 0, labels: [], error: null });
  const store = {
    project: async () => ({ name: "photos", labels, photos: [{ ...row(), reviewed: state.reviewed }] }),
    photo: async () => state,
    proposals: async () => ({ boxes: [], pending: false }),
    patch: async (id, change) => {
      const meanwhile = unseen;
      unseen = null;
      state = applied(state, change);
      return meanwhile ? { ...state, meanwhile } : state;
    },
    labels: async ({ labels: added = [], rename, merge, delete: [gone] = [], restore }) => {
      if (rename ?? merge) return relabel(rename ?? merge);
      if (gone) return relabel({ [gone]: null });
      labels = [...new Set([...labels, ...added, ...(restore ? [restore] : [])])];
      return { labels };
    },
  };
  const session = new Session(store, new Saver(store, NOWHERE));
  await session.start();
  await turn();
  const meanwhile = (boxes) => {
    state = unseen = { ...state, boxes: [...state.boxes, ...boxes], reviewed: true };
  };
  const draw = async (box) => {
    await session.draw(box);
    await turn();
  };
  const keep = async (which) => {
    session.keep(which);
    await turn();
    return state.boxes.map(({ box, label }) => `${label} ${box}`);
  };
  return { session, meanwhile, draw, keep, relabel, stateOnServer: () => state };
}

/** The same, once a box of somebody else and one's own in PLACES[0] have met. */
async function met() {
  const all = await opened();
  all.meanwhile([THEIRS]);
  await all.draw(PLACES[0]);
  assert.ok(all.session.clashes.has(all.session.current));
  return all;
}

const cups = (...places) => places.map((place) => `cup ${place}`);

test("Only mine keeps what was drawn, moved and deleted since both were told to have drawn", async () => {
  const { session, draw, keep } = await met();
  for (const place of PLACES.slice(1)) await draw(place);
  session.nudge(1, 0);
  session.select(session.state.boxes.find(({ box }) => box[0] === 20).id);
  session.deleteSelected();
  assert.equal(session.wanted("mine").boxes.length, 3); // as the button says
  assert.deepEqual(await keep("mine"), cups(PLACES[0], PLACES[2], [61, 0, 71, 10]));
});

test("a step that is taken back before Only mine is not mine, nor is a box of theirs that is put back", async () => {
  const { session, draw, keep } = await met();
  await draw(PLACES[1]);
  await session.undo();
  session.select("theirs");
  session.deleteSelected();
  await session.undo();
  assert.deepEqual(await keep("mine"), cups(PLACES[0]));
});

test("a box of theirs that I have moved since is mine, as it is now", async () => {
  const { session, keep } = await met();
  session.select("theirs");
  session.nudge(-10, 0);
  assert.deepEqual(await keep("mine"), cups([70, 80, 89, 99], PLACES[0]));
});

test("Only theirs is what they drew, and undo brings back what I drew since", async () => {
  const { session, draw, keep, stateOnServer } = await met();
  await draw(PLACES[1]);
  assert.deepEqual(await keep("theirs"), cups(THEIRS.box));
  await session.undo();
  await turn();
  assert.equal(stateOnServer().boxes.length, 3);
});

test("somebody else who draws once more before I have decided does not make theirs mine", async () => {
  const { meanwhile, draw, keep } = await met();
  meanwhile([{ ...THEIRS, id: "theirs too", box: [50, 50, 70, 70] }]);
  await draw(PLACES[1]);
  assert.deepEqual(await keep("mine"), cups(PLACES[0], PLACES[1]));
});

for (const which of ["mine", "theirs"]) {
  const box = which === "mine" ? PLACES[0] : THEIRS.box;

  test(`a class renamed before Only ${which} does not come back by its old name`, async () => {
    const { session, keep } = await met();
    await session.renameClass("cup", "glass");
    assert.deepEqual(await keep(which), [`glass ${box}`]);
  });

  test(`a class that somebody else renames before Only ${which} does not come back by its old name`, async () => {
    const { session, keep, relabel } = await met();
    relabel({ cup: "glass" });
    await session.refresh();
    assert.deepEqual(await keep(which), [`glass ${box}`]);
  });

  test(`a class merged before Only ${which} stays so, and undone it is a class of its own`, async () => {
    const { session, keep } = await met();
    await session.mergeClass("cup", "mug");
    assert.deepEqual(session.wanted(which).boxes.map(({ label }) => label), ["mug"]);
    await session.undo();
    await turn();
    assert.deepEqual(await keep(which), [`cup ${box}`]);
  });

  test(`a class deleted before Only ${which} stays so, and the photo does not count as empty by that`, async () => {
    const { session, keep, stateOnServer } = await met();
    await session.deleteClass("cup");
    assert.equal(session.wanted(which).boxes.length, 0);
    assert.deepEqual([await keep(which), stateOnServer().reviewed], [[], false]);
  });

  test(`a class deleted and brought back before Only ${which} is there`, async () => {
    const { session, keep } = await met();
    await session.deleteClass("cup");
    await session.undo();
    await turn();
    assert.deepEqual(await keep(which), [`cup ${box}`]);
  });
}

test("a class that was renamed gives its name away, and the boxes it had do not go with it", async () => {
  const { session, keep } = await met();
  await session.renameClass("cup", "glass");
  session.letGo();
  session.addClass("cup");
  await turn();
  assert.deepEqual(await keep("mine"), [`glass ${PLACES[0]}`]);
});

test("a class of theirs that is not in my list yet stays", async () => {
  const { session, meanwhile, draw, keep } = await opened();
  meanwhile([{ ...THEIRS, label: "spoon" }]);
  await draw(PLACES[0]);
  session.select("theirs");
  session.deleteSelected();
  await turn();
  assert.deepEqual(await keep("theirs"), [`spoon ${THEIRS.box}`]);
});
