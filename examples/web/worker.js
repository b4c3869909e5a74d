// Beside the page, so that it stays quick while a photo is looked at: opens detectors and runs them.

import { Detector } from "./detector.js";
import { ReaderError } from "./errors.js";
import { readPixels } from "./pixels.js";

let detector = null;

const tasks = {
  async open({ bytes }) {
    const opened = await Detector.open(await loadRuntime(), new Uint8Array(bytes));
    await detector?.close();
    detector = opened;
    return opened.header;
  },

  async detect({ file, scoreThreshold }) {
    const { image, width, height } = await readPixels(file);
    const started = performance.now();
    const found = await detector.detect(image, scoreThreshold);
    const milliseconds = performance.now() - started;
    const [across, down] = [width / image.width, height / image.height];
    for (const { box } of found) for (const edge of box.keys()) box[edge] *= edge % 2 ? down : across;
    return { found, width, height, milliseconds };
  },
};

async function loadRuntime() {
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

async function answer({ id, task, given }) {
  try {
    postMessage({ id, result: await tasks[task](given) });
  } catch (error) {
    // What WebAssembly throws may be a mere number.
    postMessage({ id, error: { message: error.message ?? `The runtime fails: ${error}`, hint: error.hint ?? "" } });
  }
}

let last = Promise.resolve();
addEventListener("message", ({ data }) => {
  last = last.then(() => answer(data)); // one after the other: a detector in use is not closed
});
postMessage({ id: null }); // it has started
