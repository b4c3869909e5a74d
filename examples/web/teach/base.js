// Where the base comes from that is learnt from: the file beside the page, or one that a person has dropped.

import { ReaderError } from "../errors.js";
import { fetchUnpacked } from "../packed.js";

const BESIDE = ["base.onnx.gz", "base.onnx"];

/** Its bytes, an ArrayBuffer: of `own`, a Blob, or else of the file beside the page. */
export async function readBaseFile(own) {
  if (own) return own.arrayBuffer();
  for (const name of BESIDE) {
    const bytes = await fetchUnpacked(new URL(`../${name}`, import.meta.url));
    if (bytes) return bytes;
  }
  throw new ReaderError("The base is not beside this page", "run npm run build in its folder, or drop base.onnx here");
}
