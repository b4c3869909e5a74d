// Run by `npm install`: copies what the pages need of onnxruntime-web into runtime/, 14 of its 140 MB, and packs it
// to 4, since not every server packs what it sends.

import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";

const BINARY = "ort-wasm-simd-threaded.wasm"; // as it is, for pages of other people
const FILES = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", BINARY];
const dist = (file) => new URL(`node_modules/onnxruntime-web/dist/${file}`, import.meta.url);
const runtime = (file) => new URL(`runtime/${file}`, import.meta.url);

await mkdir(runtime(""), { recursive: true });
for (const file of FILES) await copyFile(dist(file), runtime(file));
await writeFile(runtime(`${BINARY}.gz`), gzipSync(await readFile(dist(BINARY)), { level: 9 }));
