// Run by `npm run build`: puts beside the page that learns what it shares with fewbox, and what it learns from.
//
//   node build.js [FOLDER]
//
// FOLDER has the modules of the annotation page; without it, those of this clone. They become annotate/, copied
// anew each time, so that there is one source of them. base.onnx, where it is not there yet, is written by fewbox.
// It is packed, since not every server packs what it sends, and so is the runtime for graphics cards.

import { execFileSync } from "node:child_process";
import { access, copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

const here = (path) => new URL(path, import.meta.url);
const [, , given] = process.argv;
const source = given ? pathToFileURL(`${given}/`) : here("../../src/fewbox/apps/annotate/page/");

await rm(here("annotate/"), { recursive: true, force: true });
await mkdir(here("annotate/"));
for (const name of await readdir(source)) {
  if (/\.(js|css|svg)$/.test(name)) await copyFile(new URL(name, source), here(`annotate/${name}`));
}

const base = fileURLToPath(here("base.onnx"));
const isThere = await access(base).then(() => true, () => false);
if (!isThere) execFileSync("fewbox", ["export", "--base", "starter", "-o", base], { stdio: "inherit" });
const pack = async (from, to) => writeFile(to, gzipSync(await readFile(from), { level: 9 }));
await pack(base, `${base}.gz`);

const ORT = "ort-wasm-simd-threaded";
const dist = (name) => here(`node_modules/onnxruntime-web/dist/${name}`);
// For graphics cards, and only fetched where there is one.
await pack(dist(`${ORT}.asyncify.wasm`), here(`runtime/${ORT}.asyncify.wasm.gz`));
for (const name of ["ort.webgpu.min.mjs", `${ORT}.asyncify.mjs`]) await copyFile(dist(name), here(`runtime/${name}`));

/** Every file of the page, for offline.js. */
async function listed(folder) {
  const entries = await readdir(here(folder), { withFileTypes: true });
  const inside = entries.map((entry) => {
    const path = `${folder}${entry.name}`;
    if (entry.isDirectory()) return entry.name === "node_modules" ? [] : listed(`${path}/`);
    const isKept = /\.(html|css|m?js|svg|webmanifest|gz)$/.test(entry.name) && !NOT_KEPT.test(entry.name);
    return isKept ? [path] : [];
  });
  return (await Promise.all(inside)).flat();
}

// Nor the runtime for graphics cards, which not everybody needs: it is kept once it was fetched.
const NOT_KEPT = /^(build|copy_runtime|offline)\.js$|webgpu|asyncify/;
await writeFile(here("offline.json"), JSON.stringify(await listed("./"), null, 1));
