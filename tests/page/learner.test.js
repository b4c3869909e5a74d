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
    const results = { open: given.name, learn: { estimate: null, scoreThreshold: 0.5 }, find: { boxes: [] } };
    setTimeout(() => this.#say({ id, result: results[task] }));
  }
}

const base = (name) => new File([new Uint8Array(4)], name);

/** A project of two photos in which something is drawn. */
class Drawn extends EventTarget {
  photos = async () => ["1", "2"].map((id) => ({ id, name: id, reviewed: true, boxes: [{ label: "duck", box: [0, 0, 1, 1] }] }));
  labels = async () => ["duck"];
  file = async () => base("photo");
}

async function until(learner, isSo) {
  while (!isSo()) await new Promise((resolve) => learner.addEventListener("change", resolve, { once: true }));
}

test("once another base is there, nothing of the one before is called learnt or ready", async (context) => {
  const { Worker: before } = globalThis;
  globalThis.Worker = AtOnce;
  context.after(() => (globalThis.Worker = before));
  let kept;
  const database = { get: async () => base("one.onnx"), put: () => new Promise((resolve) => (kept = resolve)) };
  const learner = new Learner(new Drawn(), database);
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
