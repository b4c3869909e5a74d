// What the workers of these pages share: they answer what engine.js asks, one thing after the other.

import { ReaderError } from "./errors.js";

/** onnxruntime-web, from the folder that `npm install` makes. */
export async function loadRuntime() {
  const folder = new URL("runtime/", import.meta.url).href;
  try {
    const ort = await import(`${folder}ort.wasm.min.mjs`);
    ort.env.wasm.wasmPaths = folder;
    return ort;
  } catch {
    const hint = "Run npm install in the page's folder.";
    throw new ReaderError("The page's folder runtime/ is missing or not whole", hint);
  }
}

/** Answer with what the tasks of these names give. */
export function serve(tasks) {
  let last = Promise.resolve();
  addEventListener("message", ({ data }) => {
    last = last.then(() => answer(tasks, data)); // one after the other: what is in use is not closed
  });
  postMessage({ id: null }); // it has started
}

async function answer(tasks, { id, task, given }) {
  try {
    postMessage({ id, result: await tasks[task](given) });
  } catch (error) {
    // What WebAssembly throws may be a mere number.
    postMessage({ id, error: { message: error.message ?? `The runtime fails: ${error}`, hint: error.hint ?? "" } });
  }
}
