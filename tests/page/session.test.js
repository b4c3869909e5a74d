import assert from "node:assert/strict";
import { test } from "node:test";
import { Saver } from "../../src/fewbox/apps/annotate/page/saving.js";
import { Session } from "../../src/fewbox/apps/annotate/page/session.js";
import { NOWHERE } from "../../src/fewbox/apps/annotate/page/unsaved.js";

const PLACE = [10, 10, 50, 50];
const raccoon = (box = PLACE, score = 0.9) => ({ box, label: "raccoon", score });
const turn = () => new Promise((resolve) => setTimeout(resolve, 5));

/** A server with photos "1", "2" ..., which proposes `proposed[id]`: {boxes, pending}, or a promise of it. */
async function opened(count, proposed) {
  const states = new Map();
  const stateOf = (id) => states.get(id) ?? { boxes: [], reviewed: false };
  const row = (id) => {
    const { boxes, reviewed } = stateOf(id);
    const labels = boxes.map(({ label }) => label);
    return { id, name: `${id}.jpg`, width: 100, height: 100, reviewed, num_boxes: boxes.length, labels, error: null };
  };
  const ids = Array.from({ length: count }, (_, at) => `${at + 1}`);
  const store = {
    project: async () => ({ name: "photos", labels: ["raccoon", "cat"], photos: ids.map(row), suggested_next: null }),
    photo: async (id) => ({ ...stateOf(id), width: 100, height: 100 }),
    patch: async (id, { put, delete: gone, reviewed }) => {
      const kept = stateOf(id).boxes.filter((box) => !gone.includes(box.id) && !put.some((other) => other.id === box.id));
      const boxes = [...kept, ...put];
      states.set(id, { boxes, reviewed: (reviewed ?? stateOf(id).reviewed) || boxes.length > 0 });
      return { ...stateOf(id), width: 100, height: 100 };
    },
    labels: async () => ({ labels: ["raccoon", "cat"] }),
    labelCounts: async () => ({}),
    proposals: async (id) => (await proposed[id]) ?? { boxes: [], pending: false },
  };
  const session = new Session(store, new Saver(store, NOWHERE));
  session.learning = { state: "ready", message: "", round: 1, progress: 1 };
  await session.start();
  await turn();
  const onServer = async (id) => {
    await turn();
    return [stateOf(id).reviewed, stateOf(id).boxes.map(({ label }) => label)];
  };
  return { session, onServer, store };
}

/** Space, once the photo has come. */
async function next(session) {
  await turn();
  session.reviewAndNext(() => {});
}

test("Space on proposals that nobody has decided on asks, and writes nothing", async () => {
  const { session, onServer } = await opened(2, { 1: { boxes: [raccoon()] } });
  await next(session);
  assert.equal(session.current.id, "1");
  assert.equal(session.question.items.length, 1);
  assert.deepEqual(await onServer("1"), [false, []]);
  session.back();
  assert.deepEqual([session.question, session.proposals.length], [null, 1]);
});

test("the answer accepts all and goes on; undo brings everything back", async () => {
  const { session, onServer } = await opened(2, { 1: { boxes: [raccoon(), raccoon([60, 60, 90, 90])] } });
  await next(session);
  session.answer(true);
  assert.equal(session.current.id, "2");
  assert.deepEqual(await onServer("1"), [true, ["raccoon", "raccoon"]]);
  await session.undo();
  assert.equal(session.current.id, "1");
  assert.equal(session.proposals.length, 2);
  assert.deepEqual(await onServer("1"), [false, []]);
  session.redo();
  assert.deepEqual(await onServer("1"), [true, ["raccoon", "raccoon"]]);
});

test("really empty is written, goes on, and can be undone", async () => {
  const { session, onServer } = await opened(2, { 1: { boxes: [raccoon()] } });
  await next(session);
  session.answer(false);
  assert.deepEqual(await onServer("1"), [true, []]);
  await session.undo();
  assert.deepEqual(await onServer("1"), [false, []]);
  assert.deepEqual([session.current.id, session.proposals.length], ["1", 1]);
  await next(session); // and it is asked again
  assert.ok(session.question);
});

test("several photos in a row are undone one after the other, also without waiting", async () => {
  const { session, onServer } = await opened(4, { 2: { boxes: [raccoon()] } });
  await next(session);
  await next(session);
  session.answer(false);
  await next(session);
  assert.equal(session.current.id, "4");
  session.undo();
  session.undo();
  session.undo();
  await turn();
  assert.equal(session.current.id, "1");
  for (const id of ["1", "2", "3"]) assert.deepEqual(await onServer(id), [false, []]);
  session.undo();
  assert.equal(session.current.id, "1");
});

test("what was drawn in this photo is undone before Space in another", async () => {
  const { session, onServer } = await opened(3, {});
  await next(session);
  await turn();
  session.draw([1, 1, 20, 20]);
  await session.undo();
  assert.deepEqual(await onServer("2"), [false, []]);
  assert.equal(session.current.id, "2");
  assert.deepEqual(await onServer("1"), [true, []]);
  await session.undo();
  assert.deepEqual([session.current.id, ...(await onServer("1"))], ["1", false, []]);
});

test("a photo one has come back to by oneself keeps its own undo", async () => {
  const { session, onServer } = await opened(3, {});
  session.draw([1, 1, 20, 20]);
  await next(session);
  await next(session);
  session.open("1");
  await session.undo();
  assert.deepEqual([session.current.id, ...(await onServer("1"))], ["1", false, []]);
  assert.deepEqual(await onServer("2"), [true, []]);
});

for (const leave of ["reviewAndNext", "step", "open"]) {
  test(`beside boxes of one's own, what is proposed is asked about too: ${leave}`, async () => {
    const { session, onServer } = await opened(3, { 1: { boxes: [raccoon()] } });
    session.draw([60, 60, 90, 90]);
    const go = { reviewAndNext: () => session.reviewAndNext(() => {}), step: () => session.step(1), open: () => session.open("3") };
    go[leave]();
    assert.equal(session.question?.items.length, 1);
    session.answer(false);
    assert.notEqual(session.current.id, "1");
    assert.deepEqual(await onServer("1"), [true, ["raccoon"]]);
    await session.undo();
    assert.deepEqual([session.current.id, session.proposals.length], ["1", 1]);
    assert.deepEqual(await onServer("1"), [true, ["raccoon"]]);
  });
}

test("a photo left without review keeps its proposals and asks nothing", async () => {
  const { session, onServer } = await opened(2, { 1: { boxes: [raccoon()] } });
  session.step(1);
  assert.equal(session.current.id, "2");
  session.step(-1);
  assert.equal(session.proposals.length, 1);
  assert.deepEqual(await onServer("1"), [false, []]);
});

test("R asks as Space does; not reviewed any more, the proposal comes back", async () => {
  const { session, onServer } = await opened(2, { 1: { boxes: [raccoon()] } });
  session.toggleReviewed();
  assert.ok(session.question);
  session.answer(false);
  assert.equal(session.current.id, "1");
  assert.deepEqual(await onServer("1"), [true, []]);
  session.toggleReviewed();
  assert.deepEqual(await onServer("1"), [false, []]);
  assert.equal(session.proposals.length, 1);
});

test("a proposal turned down stays so in later rounds, is asked about no more, and comes back by undo", async () => {
  const proposed = { 1: { boxes: [raccoon()] } };
  const { session, onServer } = await opened(2, proposed);
  session.select(session.proposals[0].id);
  session.deleteSelected();
  proposed[1] = { boxes: [raccoon([11, 11, 51, 51])] };
  session.takeLearning({ ...session.learning, round: 2 });
  await turn();
  assert.equal(session.proposals.length, 0);
  await session.undo();
  await turn();
  assert.equal(session.proposals.length, 1);
  session.redo();
  await next(session);
  assert.equal(session.current.id, "2");
  assert.deepEqual(await onServer("1"), [true, []]);
});

test("an accepted proposal that is moved away is not proposed again", async () => {
  const { session } = await opened(2, { 1: { boxes: [raccoon()] } });
  session.acceptOne();
  session.nudge(40, 40);
  assert.equal(session.proposals.length, 0);
});

test("a proposal that comes after Space is told, and the photo can be looked at again", async () => {
  let answer;
  const late = new Promise((resolve) => (answer = resolve));
  const { session, onServer } = await opened(3, { 1: late });
  await next(session);
  assert.deepEqual(await onServer("1"), [true, []]);
  answer({ boxes: [raccoon()], pending: false });
  await turn();
  assert.deepEqual(session.late.map(({ name }) => name), ["1.jpg"]);
  session.lookAgain();
  await turn();
  assert.deepEqual([session.current.id, session.proposals.length, session.late.length], ["1", 1, 0]);
  assert.deepEqual(await onServer("1"), [false, []]);
});

test("a proposal that comes after Space can be left out", async () => {
  let answer;
  const { session, onServer } = await opened(3, { 1: new Promise((resolve) => (answer = resolve)) });
  await next(session);
  answer({ boxes: [raccoon()], pending: false });
  await turn();
  session.leaveEmpty();
  assert.equal(session.late.length, 0);
  assert.deepEqual(await onServer("1"), [true, []]);
});

test("proposals that come while a person draws are shown, and asked about", async () => {
  let answer;
  const { session } = await opened(2, { 1: new Promise((resolve) => (answer = resolve)) });
  session.draw([60, 60, 90, 90]);
  answer({ boxes: [raccoon()], pending: false });
  await turn();
  assert.equal(session.proposals.length, 1);
  session.step(1);
  assert.ok(session.question);
});

test("what has just been drawn is selected and not held; what is picked up is held", async () => {
  const { session } = await opened(1, {});
  session.draw([1, 1, 40, 40]);
  const [{ id }] = session.state.boxes;
  assert.deepEqual([session.selected, session.held], [id, null]);
  session.chooseClass(1);
  assert.deepEqual([session.selected, session.held, session.state.boxes[0].label], [id, null, "cat"]);
  session.select(id);
  session.nudge(1, 0);
  assert.deepEqual([session.selected, session.held], [id, id]);
});

test("undo held down takes a step back once, and then the one before", async () => {
  const { session, store } = await opened(1, {});
  let labels = ["raccoon", "cat"];
  const asked = [];
  store.labels = async ({ rename }) => {
    asked.push(rename);
    await turn();
    labels = labels.map((label) => rename[label] ?? label);
    return { labels };
  };
  await session.renameClass("cat", "lynx");
  await session.renameClass("lynx", "bobcat");
  const held = [session.undo(), session.undo(), session.undo()];
  await Promise.all(held);
  assert.deepEqual([asked.length, labels], [3, ["raccoon", "lynx"]]);
  await session.undo();
  assert.deepEqual(labels, ["raccoon", "cat"]);
  await Promise.all([session.redo(), session.redo()]);
  assert.deepEqual(labels, ["raccoon", "lynx"]);
});

test("whoever goes on while a photo is being deleted stays where they are", async () => {
  const { session, store } = await opened(3, {});
  store.trash = turn;
  const deleted = session.trashPhoto();
  session.step(1);
  session.step(1);
  await deleted;
  await turn();
  assert.equal(session.current.id, "3");
  assert.ok(session.state);
  assert.deepEqual(session.photos.map(({ id }) => id), ["2", "3"]);
});

test("a photo that is being deleted is not asked for, though the project has changed", async () => {
  const { session, store } = await opened(2, {});
  const { photo } = store;
  const asked = [];
  store.photo = async (id) => {
    asked.push(id);
    await turn(); // long enough for the next step to begin
    return photo(id);
  };
  let isAsking = false;
  store.trash = async () => {
    isAsking = asked.length > answered;
    await Promise.all([turn(), session.catchUp()]);
  };
  let answered = 0;
  const before = session.catchUp().then(() => (answered = asked.length));
  await Promise.all([before, session.trashPhoto()]);
  assert.equal(isAsking, false); // what was asked before is answered first
  assert.deepEqual(asked.filter((id) => id === "1"), ["1"]); // and nothing is asked meanwhile
  assert.equal(session.current.id, "2");
});

test("as long as a step is on its way not all is saved, and once it is done the next one can be", async () => {
  const { session, store } = await opened(2, {});
  let restored;
  store.trash = async () => {};
  store.restore = () => new Promise((resolve) => (restored = resolve));
  await session.trashPhoto();
  const shown = [];
  session.addEventListener("change", () => shown.push(session.isBusy));
  const back = session.undo();
  await turn();
  assert.ok(session.isBusy);
  assert.equal(session.isSettled(), false);
  restored();
  await back;
  assert.equal(session.isBusy, false);
  assert.deepEqual([shown[0], shown.at(-1)], [true, false]); // and the page is told of both
});

test("a change of one's own is no reason to read all again, and one of somebody else is", async () => {
  const { session, store } = await opened(2, {});
  let version = 1;
  const { project, patch } = store;
  store.project = async () => ({ ...(await project()), version });
  const written = () => ({ files: [version, (version += 1)] });
  store.labels = async ({ labels }) => ({ labels: ["raccoon", "cat", ...labels], ...written() });
  store.patch = async (...asked) => ({ ...(await patch(...asked)), ...written() });
  await session.refresh();
  session.addClass("dog");
  session.draw([1, 1, 20, 20]);
  await turn();
  assert.deepEqual([session.version, version], [3, 3]);
  session.letGo();
  version += 1; // somebody else
  session.addClass("cow");
  await turn();
  assert.deepEqual([session.version, version], [3, 5]);
});

test("Space before the boxes of a photo have come does not pass it over", async () => {
  const { session, onServer } = await opened(3, {});
  session.reviewAndNext(() => {});
  session.reviewAndNext(() => {}); // of the second nobody has seen anything yet
  assert.equal(session.current.id, "2");
  await next(session);
  assert.equal(session.current.id, "3");
  assert.deepEqual(await onServer("2"), [true, []]);
});

/** A photo in which two raccoons are proposed, and what the next round is to propose there. */
async function inHand() {
  const [first, second] = [raccoon([0, 0, 20, 20], 0.9), raccoon([50, 50, 90, 90], 0.8)];
  const proposed = { 1: { boxes: [first, second] } };
  const { session } = await opened(1, proposed);
  session.select(session.proposals[0].id);
  const nextRound = async (...boxes) => {
    proposed[1] = { boxes };
    session.takeLearning({ ...session.learning, round: session.learning.round + 1 });
    await turn();
  };
  const places = () => session.state.boxes.map(({ box }) => box);
  return { session, nextRound, places, first, second };
}

test("what is in hand stays so when a new round is surer of something else, and moves with its object", async () => {
  const { session, nextRound, places, second } = await inHand();
  await nextRound({ ...second, score: 0.95 }, raccoon([1, 0, 21, 20], 0.7));
  assert.deepEqual([session.selectedItem.box, session.held], [[1, 0, 21, 20], session.selected]);
  session.nudge(1, 0);
  assert.deepEqual(places(), [[2, 0, 22, 20]]);
  assert.deepEqual(session.proposals.map(({ box }) => box), [second.box]);
});

for (const [key, act] of Object.entries({
  arrow: (session) => session.nudge(1, 0),
  Delete: (session) => session.deleteSelected(),
  I: (session) => session.toggleIgnore(),
  2: (session) => session.chooseClass(1),
})) {
  test(`what a new round no longer proposes is in nobody's hand: ${key}`, async () => {
    const { session, nextRound, places, second } = await inHand();
    await nextRound({ ...second, score: 0.95 });
    assert.deepEqual([session.selected, session.held], [null, null]);
    act(session);
    assert.deepEqual(places(), []);
    assert.deepEqual(session.proposals.map(({ box, label }) => [box, label]), [[second.box, "raccoon"]]);
  });
}

test("of two proposals on one object each goes on as the one that lies closest", async () => {
  const { session, nextRound } = await inHand();
  await nextRound(raccoon([0, 0, 20, 20], 0.9), raccoon([0, 0, 20, 28], 0.8));
  session.select(session.proposals[1].id);
  await nextRound(raccoon([0, 0, 20, 27], 0.9), raccoon([0, 0, 20, 19], 0.8));
  assert.deepEqual(session.selectedItem.box, [0, 0, 20, 27]);
});

test("arrow keys on proposals of two rounds are undone one after the other", async () => {
  const { session, nextRound, places, second } = await inHand();
  session.nudge(1, 0);
  await nextRound(second);
  session.select(session.proposals[0].id);
  session.nudge(1, 0);
  assert.equal(places().length, 2);
  await session.undo();
  assert.deepEqual(places(), [[1, 0, 21, 20]]);
});

/** Photo "1" with what is proposed there, and a server that takes changes of the classes. */
async function openedWithClasses(boxes) {
  const page = await opened(2, { 1: { boxes } });
  const { store } = page;
  const { project } = store;
  let labels = ["raccoon", "cat"];
  store.project = async () => ({ ...(await project()), labels });
  store.labels = async ({ rename = {}, merge = {}, delete: deleted = [], remove = [], restore, labels: added = [] }) => {
    const gone = [...Object.keys(merge), ...deleted, ...remove];
    labels = labels.map((label) => rename[label] ?? label).filter((label) => !gone.includes(label));
    labels = [...new Set([...labels, ...added, ...(restore ? [restore.label] : [])])];
    return { labels, before: [], lost: { label: gone.at(-1), id: 1, photos: [] } };
  };
  const proposed = () => page.session.proposals.map(({ label }) => label);
  return { ...page, proposed, deletedElsewhere: (label) => (labels = labels.filter((other) => other !== label)) };
}

test("what is proposed goes with its class when that is renamed, and is asked about as before", async () => {
  const { session, proposed, onServer } = await openedWithClasses([raccoon()]);
  await session.renameClass("raccoon", "dog");
  await turn();
  assert.deepEqual(proposed(), ["dog"]); // although the detector still calls it raccoon
  await session.undo();
  await turn();
  assert.deepEqual(proposed(), ["raccoon"]);
  await session.redo();
  await turn();
  session.acceptOne();
  assert.deepEqual(session.labels, ["dog", "cat"]);
  assert.deepEqual(await onServer("1"), [true, ["dog"]]);
});

test("what is proposed of a class that is merged is of the other one", async () => {
  const { session, proposed } = await openedWithClasses([raccoon()]);
  await session.mergeClass("raccoon", "cat");
  await turn();
  assert.deepEqual([proposed(), session.labels], [["cat"], ["cat"]]);
});

test("what is proposed of a class that is deleted goes with it, and comes back with it", async () => {
  const { session, proposed } = await openedWithClasses([raccoon()]);
  await session.deleteClass("raccoon");
  await turn();
  assert.deepEqual(proposed(), []);
  session.acceptAll();
  assert.deepEqual(session.labels, ["cat"]);
  await session.undo();
  await turn();
  assert.deepEqual(proposed(), ["raccoon"]);
});

test("a question about a class that somebody else has deleted is not asked any more", async () => {
  const { session, deletedElsewhere } = await openedWithClasses([raccoon()]);
  await next(session);
  assert.ok(session.question);
  deletedElsewhere("raccoon");
  await session.refresh();
  assert.deepEqual([session.question, session.proposals], [null, []]);
});

test("what is taken in from elsewhere brings no class back that was renamed or deleted", async () => {
  const { session, store } = await openedWithClasses([]);
  store.takeIn = async () => ({ id: "2", name: "2.jpg" });
  await session.renameClass("raccoon", "dog");
  await session.deleteClass("cat");
  const boxes = ["raccoon", "cat", "owl"].map((label) => ({ ...raccoon(), label }));
  await session.takeIn({ id: "tried", boxes });
  await turn();
  assert.deepEqual(session.labels, ["dog", "owl"]);
});

test("undo of a rename waits while another class of that name has boxes, and bars the way to nothing for good", async () => {
  const { session, store, onServer } = await openedWithClasses([]);
  const { labels } = store;
  store.labels = async (change) => {
    if (session.labels.includes(change.rename?.dog) && !removed.length) throw Object.assign(new Error(), { refused: true });
    removed.push(...(change.remove ?? []));
    return labels(change);
  };
  const removed = [];
  let boxes = 1;
  store.labelCounts = async () => ({ raccoon: [boxes, 1] });
  session.draw([60, 60, 90, 90]);
  await turn();
  await session.renameClass("raccoon", "dog");
  session.addClass("raccoon");
  await turn();
  await assert.rejects(session.undo(), /another class is called raccoon meanwhile, and has 1 box/);
  boxes = 0;
  await session.undo();
  assert.deepEqual([session.labels, removed], [["raccoon", "cat"], ["raccoon"]]);
  await session.undo(); // the class that was drawn before, and then the box
  await session.undo();
  assert.deepEqual((await onServer("1"))[1], []);
});

test("undo brings back what was deleted in a photo whose file was only touched, not in another picture", async () => {
  const { session, onServer, store } = await opened(1, {});
  const shown = { file: "1", content: "a" };
  for (const name of ["photo", "patch"]) {
    const asked = store[name];
    store[name] = async (...of) => ({ ...(await asked(...of)), ...shown });
  }
  const drawn = (id) => ({ put: [{ id, box: PLACE, label: "cat", ignore: false }], delete: [] });
  await session.refresh();
  session.change(drawn("k1"));
  await turn();
  Object.assign(shown, { file: "2" });
  session.change({ put: [], delete: ["k1"] });
  await turn();
  session.undo();
  assert.deepEqual(await onServer("1"), [true, ["cat"]]);
  Object.assign(shown, { file: "3", content: "b" });
  await session.refresh();
  session.undo();
  assert.deepEqual(await onServer("1"), [true, ["cat"]]);
});
