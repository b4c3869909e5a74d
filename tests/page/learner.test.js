import assert from "node:assert/strict";
import { test } from "node:test";
import { Learner } from "../../examples/web/teach/learner.js";

/** A worker that does at once what it is asked, and has learnt nothing after a base was opened. */
class AtOnce extends EventTarget {
  constructor() {
    super();
    setTimeout(() => this.#say({ id: null }));
  }

  #say(data) {
    this.dispatchEvent(Object.assign(new Event("message"), { data }));
  }

  postMessage({ id, task, given }) {
    if (task === "learn") AtOnce.learntFrom = given;
    const results = { open: given.name, learn: { estimate: null, scoreThreshold: 0.5 }, find: { boxes: [] } };
    setTimeout(() => this.#say({ id, result: results[task] }));
  }
}

const base = (name) => new File([new Uint8Array(4)], name);

/** A project of photos in which one box is drawn each, of these labels. */
class Drawn extends EventTarget {
  constructor(...drawn) {
    super();
    this.all = (drawn.length ? drawn : ["duck", "duck"]).map((label, number) => {
      const [id, box] = [String(number), { label, box: [0, 0, 1, 1], ignore: false }];
      return { id, name: id, width: 9, height: 9, reviewed: true, boxes: [box] };
    });
  }

  photos = async () => this.all.map((photo) => ({ ...photo }));
  photo = async (id) => this.all.find((photo) => photo.id === id);
  labels = async () => ["duck", "mug"];
  file = async () => base("photo");

  change(number, changed) {
    Object.assign(this.all[number], changed);
    this.dispatchEvent(new Event("change"));
  }
}

/** A learner of a project, whose worker does at once what it is asked. */
function learnerOf(project, context, database = { get: async () => base("one.onnx") }) {
  const { Worker: before } = globalThis;
  globalThis.Worker = AtOnce;
  context.after(() => (globalThis.Worker = before));
  return new Learner(project, database);
}

async function until(learner, isSo) {
  while (!isSo()) await new Promise((resolve) => learner.addEventListener("change", resolve, { once: true }));
}

test("once another base is there, nothing of the one before is called learnt or ready", async (context) => {
  let kept;
  const database = { get: async () => base("one.onnx"), put: () => new Promise((resolve) => (kept = resolve)) };
  const learner = learnerOf(new Drawn(), context, database);
  await until(learner, () => learner.learning().state === "ready");
  assert.ok(learner.isLearnt);
  const setting = learner.setBase(base("two.onnx"));
  await until(learner, () => learner.baseName === "two.onnx");
  assert.deepEqual([learner.isLearnt, learner.learning().state], [false, "waiting"]);
  await until(learner, () => learner.learning().state === "ready"); // though it is not kept yet
  kept();
  await setting;
  assert.deepEqual([learner.isLearnt, learner.learning().state], [true, "ready"]);
});

test("a class that is first drawn when there are more photos than it learns from is learnt", async (context) => {
  const learner = learnerOf(new Drawn(...Array(60).fill("duck"), "mug"), context);
  await until(learner, () => learner.learning().state === "ready");
  const { photos, labels } = AtOnce.learntFrom;
  assert.equal(photos.length, 40);
  assert.ok(photos.some(({ classIds }) => classIds.includes(labels.indexOf("mug"))));
});

test("photos with nothing but boxes to ignore are not enough to learn from", async (context) => {
  const project = new Drawn();
  project.all[1].boxes[0].ignore = true;
  const learner = learnerOf(project, context);
  await until(learner, () => learner.learning().message);
  assert.equal(learner.learning().message, "draw boxes in one more photo");
});

test("after a round that failed, photos that are what they were are called learnt from again", async (context) => {
  const project = new Drawn();
  const learner = learnerOf(project, context);
  await until(learner, () => learner.learning().state === "ready");
  const { file, all: [{ boxes }] } = project;
  project.file = () => Promise.reject(new Error("the browser no longer has this photo"));
  project.change(0, { boxes: [{ ...boxes[0], box: [0, 0, 2, 2] }] });
  await until(learner, () => learner.learning().state === "failed");
  project.file = file;
  project.change(0, { boxes });
  await until(learner, () => learner.learning().state === "ready");
  assert.equal(learner.learning().message, "learnt from 2 photos");
});

test("a photo that was left out is not proposed as the next one", async (context) => {
  const project = new Drawn("duck", "duck", "duck", "duck");
  for (const photo of project.all.slice(2)) Object.assign(photo, { reviewed: false, boxes: [] });
  const learner = learnerOf(project, context);
  await until(learner, () => learner.learning().suggested_next === "2");
  project.change(2, { left_out: true });
  await until(learner, () => learner.learning().suggested_next !== "2");
  assert.equal(learner.learning().suggested_next, "3");
});
