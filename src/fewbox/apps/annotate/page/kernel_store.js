// The store of the page inside a notebook: every method is a message to the Python kernel and its answer.

import { StoreError } from "./http_store.js";

const PATIENCE = 30_000; // milliseconds; a kernel that runs another cell answers only after that
const LARGEST_SIDE = 1600; // pixels; photos travel through the notebook's own connection

/** `model` is that of anywidget. */
export function kernelStore(model) {
  const waiting = new Map(); // id of a message -> what to do with its answer
  const view = crypto.getRandomValues(new Uint32Array(1))[0]; // a page may be shown more than once
  let count = 0;

  model.on("msg:custom", ({ id, result, error }, buffers) => {
    const { resolve, reject } = waiting.get(id) ?? {};
    waiting.delete(id);
    if (error) reject?.(new StoreError(error.message, error));
    else resolve?.(buffers.length ? new Blob([buffers[0]], { type: "image/jpeg" }) : result);
  });

  function ask(method, ...values) {
    const id = `${view}-${count++}`;
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      setTimeout(() => {
        waiting.delete(id);
        reject(new StoreError("the kernel does not answer; it may be running another cell"));
      }, PATIENCE);
      model.send({ id, method, values });
    });
  }

  const image = (id, side) => ask("image", id, Math.min(side || LARGEST_SIDE, LARGEST_SIDE));
  return {
    project: () => ask("project"),
    photo: (id) => ask("photo", id),
    patch: (id, change) => ask("patch", id, change),
    trash: (id) => ask("trash", id),
    restore: (id) => ask("restore", id),
    labels: (change) => ask("labels", change),
    labelCounts: () => ask("labelCounts"),
    beside: () => ask("beside"),
    takeOver: (format) => ask("takeOver", format),
    finish: () => ask("finish"),
    proposals: (id) => ask("proposals", id),
    learning: () => ask("learning"),
    image,
    imageUrl: async (id, side) => URL.createObjectURL(await image(id, side)),
  };
}
