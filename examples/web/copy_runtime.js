// Run by `npm install`: copies what the page needs of onnxruntime-web into runtime/, 14 of its 140 MB.

import { copyFile, mkdir } from "node:fs/promises";

const FILES = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];

await mkdir(new URL("runtime/", import.meta.url), { recursive: true });
for (const file of FILES) {
  const from = new URL(`node_modules/onnxruntime-web/dist/${file}`, import.meta.url);
  await copyFile(from, new URL(`runtime/${file}`, import.meta.url));
}
