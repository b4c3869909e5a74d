// Where the base comes from that is learnt from: the file beside the page, or one that a person has dropped.

import { ReaderError } from "../errors.js";

const BESIDE = ["base.onnx.gz", "base.onnx"];

/** Its bytes, an ArrayBuffer: of `own`, a Blob, or else of the file beside the page. */
export async function readBaseFile(own) {
  if (own) return own.arrayBuffer();
  for (const name of BESIDE) {
    const answer = await fetch(new URL(`../${name}`, import.meta.url)).catch(() => null);
    if (answer?.ok) return unpacked(await answer.blob());
  }
  throw new ReaderError("The base is not beside this page", "run npm run build in its folder, or drop base.onnx here");
}

/** Some servers say that a .gz is only packed for the way, and the browser has unpacked it. */
async function unpacked(blob) {
  const [first, second] = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  if (first !== 0x1f || second !== 0x8b) return blob.arrayBuffer();
  return new Response(blob.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
