import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import { applied } from "../../src/fewbox/apps/annotate/page/history.js";
import { Saver } from "../../src/fewbox/apps/annotate/page/saving.js";
import { Unsaved } from "../../src/fewbox/apps/annotate/page/unsaved.js";

const box = (id, x = 0) => ({ id, box: [x, 0, x + 10, 10], label: "mug", ignore: false });
const put = (...boxes) => ({ put: boxes, delete: [] });

/** A server: `saved` is what it has; `fail(call)` may throw before it saves. */
class Server {
  saved = {};
  labelled = [];
  calls = [];
  fail = () => {};

  async labels({ labels }) {
    this.calls.push("labels");
    await this.fail("labels");
    this.labelled.push(...labels);
    return { labels: this.labelled };
  }

  async patch(id, change) {
    this.calls.push(id);
    await this.fail(id, change);
    this.saved[id] = applied(this.saved[id] ?? { boxes: [], reviewed: false }, change);
    return this.saved[id];
  }
}

const KEPT = { keep: () => true };
const until = async (holds) => {
  for (let tries = 0; !holds(); tries++) {
    assert.ok(tries < 600, "did not happen");
    await sleep(5);
  }
};

test("a change is saved at once, and said to be", async () => {
  const server = new Server();
  const saver = new Saver(server, KEPT);
  const kinds = [];
  saver.addEventListener("status", () => kinds.push(saver.status.kind));
  saver.add("p", put(box("a")));
  assert.deepEqual(saver.pending("p").put, [box("a")]);
  await until(() => saver.status.kind === "saved");
  assert.deepEqual(server.saved.p.boxes, [box("a")]);
  assert.deepEqual(kinds, ["saving", "saved"]);
  assert.deepEqual(saver.pending("p"), { put: [], delete: [] });
});

test("labels are saved before the boxes that need them", async () => {
  const server = new Server();
  const saver = new Saver(server, KEPT);
  saver.add("p", put(box("a")));
  saver.addLabels(["mug"]);
  saver.add("q", put(box("b")));
  await until(() => server.saved.q);
  assert.ok(server.calls.indexOf("labels") < server.calls.indexOf("q"));
});

test("a failed save is said, tried again, and nothing is lost or out of order", async () => {
  const server = new Server();
  let failures = 2;
  server.fail = () => {
    if (failures-- > 0) throw new Error("no answer");
  };
  const saver = new Saver(server, KEPT);
  saver.add("p", put(box("a")));
  await until(() => saver.status.kind === "failed");
  assert.equal(saver.status.error.message, "no answer");
  saver.add("p", put(box("a", 5)));
  saver.add("p", put(box("b")));
  saver.retry();
  await until(() => saver.status.kind === "saved");
  assert.deepEqual(server.saved.p.boxes, [box("a", 5), box("b")]);
});

test("what is changed while a save is on its way is saved after it", async () => {
  const server = new Server();
  let release;
  server.fail = () => new Promise((resolve) => (release = resolve));
  const saver = new Saver(server, KEPT);
  const answers = [];
  saver.addEventListener("acknowledged", ({ detail }) => answers.push([detail.state.boxes[0].box[0], saver.pending("p").put[0]?.box[0]]));
  saver.add("p", put(box("a", 1)));
  await until(() => release);
  saver.add("p", put(box("a", 2)));
  server.fail = () => {};
  release();
  await until(() => saver.status.kind === "saved");
  assert.deepEqual(server.saved.p.boxes, [box("a", 2)]);
  assert.deepEqual(answers, [[1, 2], [2, undefined]]); // the first answer is older than what is on the screen
});

test("what the server refuses is said, does not hold up the rest, and can be given up", async () => {
  const server = new Server();
  server.fail = (id) => {
    if (id === "gone") throw Object.assign(new Error("no such photo"), { refused: true });
  };
  const saver = new Saver(server, KEPT);
  saver.add("gone", put(box("a")));
  saver.add("p", put(box("b")));
  await until(() => server.saved.p);
  await until(() => saver.status.kind === "refused");
  assert.deepEqual(saver.pending("gone").put, [box("a")]);
  saver.discard();
  assert.equal(saver.status.kind, "saved");
  assert.deepEqual(saver.pending("gone").put, []);
});

/** A server whose answers to the first `lost` changes do not arrive; `sent` are the ids of boxes in each, and `seen`. */
function losingAnswers(lost) {
  const server = new Server();
  const sent = [];
  const { patch } = server;
  server.patch = async (id, change) => {
    const state = await patch.call(server, id, change);
    sent.push([change.put.map((one) => one.id).join(), change.seen]);
    if (sent.length <= lost) throw new Error("no answer");
    return { ...state, version: `after ${sent.length}` };
  };
  return { server, sent };
}

test("a change whose answer was lost goes again alone, and what came since after it", async () => {
  const { server, sent } = losingAnswers(2);
  const kept = {};
  const saver = new Saver(server, { keep: (unsaved) => Boolean(Object.assign(kept, unsaved)) });
  saver.saw("p", "first");
  saver.add("p", put(box("a")));
  await until(() => saver.status.kind === "failed");
  saver.add("p", put(box("b")));
  saver.add("p", put(box("c")));
  assert.deepEqual(saver.pending("p").put.map(({ id }) => id), ["a", "b", "c"]);
  const left = structuredClone(kept);
  saver.retry();
  await until(() => sent.length === 2);
  saver.retry();
  await until(() => saver.status.kind === "saved");
  assert.deepEqual(sent, [["a", "first"], ["a", "first"], ["a", "first"], ["b,c", "after 3"]]);
  assert.deepEqual(server.saved.p.boxes.map(({ id }) => id), ["a", "b", "c"]);

  const after = losingAnswers(0); // the page was loaded again in the meantime
  const next = new Saver(after.server, KEPT);
  for (const [id, change] of left.photos) next.add(id, change);
  await until(() => next.status.kind === "saved");
  assert.deepEqual(after.sent, [["a", "first"], ["b,c", "after 1"]]);
});

test("what was refused first is not forgotten when more is", async () => {
  const server = new Server();
  server.fail = () => {
    throw Object.assign(new Error("no such photo"), { refused: true });
  };
  const saver = new Saver(server, KEPT);
  for (const id of ["a", "b"]) {
    saver.add("p", put(box(id)));
    await until(() => server.calls.length === (id === "a" ? 1 : 2) && saver.status.kind === "refused");
  }
  assert.deepEqual(saver.pending("p").put.map(({ id }) => id), ["a", "b"]);
  server.fail = () => {};
  saver.retry();
  await until(() => saver.status.kind === "saved");
  assert.deepEqual(server.saved.p.boxes.map(({ id }) => id), ["a", "b"]);
});

test("boxes go with the picture that was shown when they were drawn, also after a reload", async () => {
  const server = new Server();
  const sent = [];
  server.fail = (id, { content }) => {
    sent.push(content);
    if (sent.length === 1) throw Object.assign(new Error("it has changed"), { refused: true });
  };
  const kept = {};
  const saver = new Saver(server, { keep: (unsaved) => Boolean(Object.assign(kept, unsaved)) });
  assert.equal(saver.saw("p", undefined, "before"), false);
  saver.add("p", put(box("a")));
  await until(() => saver.status.kind === "refused");
  assert.equal(saver.saw("p", undefined, "after"), true); // read again: the box was drawn in the one before
  saver.retry();
  await until(() => saver.status.kind === "saved");
  assert.equal(saver.saw("p", undefined, "after"), false);
  saver.forgetSeen();
  saver.add("p", put(box("b")));
  await until(() => saver.status.kind === "saved");
  assert.deepEqual(sent, ["before", "before", "after"]);

  server.fail = (id, { content }) => sent.push(content);
  const next = new Saver(server, KEPT);
  next.add("p", { ...put(box("c")), content: "before" });
  await until(() => next.status.kind === "saved");
  assert.equal(sent.at(-1), "before");
});

/** A saver whose boxes "a" and "b" were refused, as another picture has come, and what its server and window have. */
async function afterAnotherPicture() {
  const server = new Server();
  server.fail = (id, { content }) => {
    if (content === "before") throw Object.assign(new Error("another picture"), { refused: true });
  };
  const kept = {};
  const saver = new Saver(server, { keep: (unsaved) => Boolean(Object.assign(kept, unsaved)) });
  saver.saw("p", undefined, "before");
  saver.add("p", { ...put(box("a"), box("b")), reviewed: true });
  await until(() => saver.status.kind === "refused");
  saver.saw("p", undefined, "after");
  return { server, saver, kept };
}

test("what is drawn in a new picture is saved, whatever was refused in the one before", async () => {
  const { server, saver, kept } = await afterAnotherPicture();
  saver.add("p", put(box("c")));
  await until(() => server.saved.p);
  await until(() => saver.status.kind === "refused");
  assert.deepEqual(server.saved.p.boxes, [box("c")]);
  assert.deepEqual(saver.pending("p"), { put: [box("a"), box("b")], delete: [], reviewed: true });
  saver.retry(); // as long as the new picture is there
  await until(() => saver.status.kind === "refused");
  assert.deepEqual(server.saved.p.boxes, [box("c")]);

  saver.add("p", put(box("b", 7))); // where it is in the new one
  await until(() => server.saved.p.boxes.length === 2 && saver.status.kind === "refused");
  assert.deepEqual(applied(server.saved.p, saver.pending("p")).boxes, [box("c"), box("b", 7), box("a")]);
  saver.add("p", { put: [], delete: ["a"] });
  await until(() => saver.pending("p").delete.length === 0);
  saver.discard();
  assert.deepEqual([saver.status.kind, server.saved.p.boxes, kept.photos], ["saved", [box("c"), box("b", 7)], []]);
});

test("a reload keeps apart what was drawn in each picture", async () => {
  const { server, saver, kept } = await afterAnotherPicture();
  const { fail } = server;
  server.fail = () => {
    throw new Error("no answer");
  };
  saver.add("p", put(box("c")));
  saver.add("q", put(box("d")));
  await until(() => saver.status.kind === "failed");
  const left = structuredClone(kept);
  const next = new Saver(server, KEPT);
  server.fail = fail;
  for (const [id, change] of left.photos) next.add(id, change);
  await until(() => next.status.kind === "refused");
  assert.deepEqual(server.saved.p.boxes, [box("c")]);
  assert.deepEqual(server.saved.q.boxes, [box("d")]);
  assert.deepEqual(next.pending("p").put, [box("a"), box("b")]);
});

test("a photo that cannot be saved does not hold up the others", async () => {
  const server = new Server();
  server.fail = (id) => {
    if (id === "p") throw new Error("a full disk");
  };
  const saver = new Saver(server, KEPT);
  saver.add("p", put(box("a")));
  saver.add("q", put(box("b")));
  await until(() => saver.status.kind === "failed");
  saver.retry();
  await until(() => server.saved.q);
  server.fail = () => {};
  saver.retry();
  await until(() => saver.status.kind === "saved");
  assert.deepEqual(server.saved.p.boxes, [box("a")]);
});

test("a photo whose file is gone is not taken for another picture", () => {
  const saver = new Saver(new Server(), KEPT);
  const changes = ["before", "", "before", "after"].map((content) => saver.saw("p", undefined, content));
  assert.deepEqual(changes, [false, false, false, true]);
});

test("whether the page may be closed", async () => {
  const server = new Server();
  server.fail = () => {
    throw new Error("no answer");
  };
  const nowhere = new Saver(server, { keep: () => false });
  const kept = new Saver(server, KEPT);
  assert.ok(nowhere.safe);
  for (const saver of [nowhere, kept]) saver.add("p", put(box("a")));
  assert.equal(nowhere.safe, false);
  assert.ok(kept.safe);
  server.fail = () => {};
  for (const saver of [nowhere, kept]) saver.retry();
  await until(() => nowhere.safe && kept.status.kind === "saved");
});

class Storage {
  setItem(name, value) {
    this[name] = value;
  }
  getItem(name) {
    return this[name];
  }
  removeItem(name) {
    delete this[name];
  }
}

/** As the browser's own: a lock is held until its window is closed. */
class Locks {
  held = [];
  request = (name) => this.held.push({ name });
  query = async () => ({ held: this.held });
}

test("the next window takes over what is not saved, and only of its own project", async () => {
  const storage = new Storage();
  const locks = new Locks();
  const left = { labels: ["mug"], photos: [["p", put(box("a"))]] };
  assert.equal(new Unsaved(storage, "8000 cups", locks).keep(left), true);
  new Unsaved(storage, "8000 lids", locks).keep({ labels: [], photos: [["x", put(box("b"))]] });
  const taken = [];
  const next = new Unsaved(storage, "8000 cups", locks);
  await next.adopt((unsaved) => taken.push(unsaved));
  assert.deepEqual(taken, []); // its window is still open
  locks.held = [];
  await next.adopt((unsaved) => taken.push(unsaved));
  assert.deepEqual(taken, [left]);
  assert.equal(Object.keys(storage).length, 1);
});

test("nothing stays behind once all is saved, and a full storage is told", () => {
  const storage = new Storage();
  const unsaved = new Unsaved(storage, "cups", new Locks());
  unsaved.keep({ labels: [], photos: [["p", put(box("a"))]] });
  assert.equal(unsaved.keep({ labels: [], photos: [] }), true);
  assert.deepEqual(Object.keys(storage), []);
  storage.setItem = () => {
    throw new Error("quota exceeded");
  };
  assert.equal(unsaved.keep({ labels: ["mug"], photos: [] }), false);
});
