// What the workers of these pages share: they answer what engine.js asks, one thing after the other.

import { ReaderError } from "./errors.js";
import { fetchUnpacked } from "./packed.js";

const WASM = { module: "ort.wasm.min.mjs", binary: "ort-wasm-simd-threaded.wasm.gz" };
/** With the graphics card beside the processor; it is there once the page is built. */
export const WEBGPU = { module: "ort.webgpu.min.mjs", binary: "ort-wasm-simd-threaded.asyncify.wasm.gz" };
const MOST_THREADS = 4; // what is computed here gains nothing from more

/** onnxruntime-web, from the folder that `npm install` makes. */
export async function loadRuntime({ module, binary } = WASM) {
  const folder = new URL("runtime/", import.meta.url).href;
  try {
    const [ort, wasmBinary] = await Promise.all([import(folder + module), fetchUnpacked(folder + binary)]);
    Object.assign(ort.env.wasm, { wasmPaths: folder, numThreads: countThreads() });
    if (!wasmBinary) throw new Error(binary);
    ort.env.wasm.wasmBinary = wasmBinary;
    return ort;
  } catch {
    const hint = "Run npm install in the page's folder.";
    throw new ReaderError("The page's folder runtime/ is missing or not whole", hint);
  }
}

/** Browsers give memory that threads share only to pages that are cross-origin isolated; see offline.js. */
const countThreads = () => (crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MOST_THREADS) : 1);

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
