// What computes: the graphics card where the browser lets a page use one and it is quick, else the processor.

import { Base } from "../learning/base.js";
import { WEBGPU, loadRuntime } from "../tasks.js";

const SLOW = 250; // milliseconds a look; one core of a processor takes 100 to 300

/** Open a base at the quicker of the two; `name` is what its file is called. */
export async function openBase(bytes, name) {
  const ort = (await hasGraphics()) && (await loadRuntime(WEBGPU).catch(() => null));
  if (!ort) return Base.open(await loadRuntime(), bytes, { name });
  const base = await Base.open(ort, bytes, { executionProviders: ["webgpu", "wasm"], name }).catch(() => null);
  if (base && (await isQuick(base).catch(() => false))) return base;
  await base?.close();
  return Base.open(ort, bytes, { name });
}

/** Whether there is a graphics card: a browser may offer one that it only imitates. */
async function hasGraphics() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}

async function isQuick(base) {
  const blank = new ImageData(640, 480);
  await base.look(blank); // the first time, what is to be computed is compiled
  const started = performance.now();
  await base.look(blank);
  return performance.now() - started < SLOW;
}
