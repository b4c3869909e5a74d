// A base at work, with onnxruntime-web: pixels in, features out.

import { withoutAlpha } from "../detector.js";
import { ReaderError } from "../errors.js";
import { readBase } from "./base_file.js";

export class Base {
  #ort;
  #session;

  constructor(ort, session, file) {
    this.#ort = ort;
    this.#session = session;
    this.file = file; // what `learn`, `detect` and `writeDetector` take
  }

  /**
   * `ort` is the module of onnxruntime-web, `bytes` the whole file in a Uint8Array, `executionProviders` what computes,
   * the best first: `["webgpu", "wasm"]` with the module that has both. `name` is what the file is called.
   */
  static async open(ort, bytes, { executionProviders = ["wasm"], name } = {}) {
    const file = readBase(bytes, name);
    try {
      const session = await ort.InferenceSession.create(bytes, { executionProviders, logSeverityLevel: 4 });
      return new Base(ort, session, file);
    } catch (error) {
      throw new ReaderError(`The runtime cannot load it: ${error.message ?? error}`, "Export it again.");
    }
  }

  /** Look at a photo, an ImageData of it upright: Features of all anchors; see features.js. */
  look({ data, width, height }) {
    return this.#read(withoutAlpha(data), width, height);
  }

  /** The same of its mirror image, of which `learn` makes a second example. */
  lookMirrored({ data, width, height }) {
    const pixels = withoutAlpha(data);
    for (let row = 0; row < height; row++) mirror(pixels.subarray(3 * row * width, 3 * (row + 1) * width));
    return this.#read(pixels, width, height);
  }

  async #read(pixels, width, height) {
    const { Tensor } = this.#ort;
    const { outputs, levels } = this.file.header;
    const inputs = {
      photos: new Tensor("uint8", pixels, [1, height, width, 3]),
      score_threshold: new Tensor("float32", [1], []),
    };
    const told = await this.#session.run(inputs, Object.values(outputs));
    const [boxes, baseLogits, towerFeatures] = await Promise.all(
      [outputs.boxes, outputs.base_logits, outputs.tower_features].map((name) => told[name].getData()),
    );
    const levelOf = levels.flatMap(({ anchors }, level) => Array(anchors).fill(level));
    return { boxes, baseLogits, towerFeatures, levels: Uint8Array.from(levelOf) };
  }

  /** Give its memory back. */
  close() {
    return this.#session.release();
  }
}

/** Turn a row of red, green and blue round, in place. */
function mirror(row) {
  for (let left = 0, right = row.length - 3; left < right; left += 3, right -= 3) {
    for (let colour = 0; colour < 3; colour++) {
      [row[left + colour], row[right + colour]] = [row[right + colour], row[left + colour]];
    }
  }
}
