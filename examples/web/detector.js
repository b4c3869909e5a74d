// An exported detector at work, with onnxruntime-web: pixels in, boxes out. To read, to paste, to change.

import { ReaderError } from "./errors.js";
import { readHeader } from "./onnx_file.js";

export class Detector {
  #ort;
  #session;

  constructor(ort, session, header) {
    this.#ort = ort;
    this.#session = session;
    this.labels = header.labels;
    this.scoreThreshold = header.score_threshold; // its own
    this.header = header;
  }

  /** `ort` is the module of onnxruntime-web, `bytes` the whole file in a Uint8Array. */
  static async open(ort, bytes) {
    const header = readHeader(bytes);
    try {
      const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], logSeverityLevel: 4 });
      return new Detector(ort, session, header);
    } catch (error) {
      throw new ReaderError(`The runtime cannot load it: ${error.message ?? error}`, "Export it again.");
    }
  }

  /**
   * The objects in a photo whose score is above the threshold, the best first. `image` is an ImageData of the
   * upright photo; a box is [x1, y1, x2, y2] in its pixels.
   */
  async detect(image, scoreThreshold = this.scoreThreshold) {
    const { Tensor } = this.#ort;
    const outputs = await this.#session.run({
      photos: new Tensor("uint8", withoutAlpha(image.data), [1, image.height, image.width, 3]),
      score_threshold: new Tensor("float32", [scoreThreshold], []),
    });
    const [boxes, scores, classIds] = await Promise.all(
      ["boxes", "scores", "class_ids"].map((name) => outputs[name].getData()),
    );
    const found = [];
    for (let row = 0; row < scores.length; row++) {
      const classId = Number(classIds[row]); // 64 bits: a BigInt
      if (classId < 0) continue; // the rest of the rows is filled with -1
      const box = Array.from(boxes.subarray(4 * row, 4 * row + 4));
      found.push({ classId, label: this.labels[classId], score: scores[row], box });
    }
    return found;
  }

  /** Give its memory back. */
  close() {
    return this.#session.release();
  }
}

/** Red, green and blue of each pixel, without the fourth byte that a browser puts after them. */
export function withoutAlpha(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  return rgb;
}
