// The page's side of the worker: a promise for each thing asked of it.

import { ReaderError } from "./errors.js";

/** A worker that answers by `serve` of tasks.js; `address` is that of its script. */
export class Helper {
  #worker;
  #waiting = new Map(); // id -> what settles the promise
  #last = 0;

  constructor(address) {
    // A worker from an address answers to that address's rules; one made of a blob to those of this page, among
    // them that nothing is sent anywhere.
    const script = `import ${JSON.stringify(new URL(address, import.meta.url).href)};`;
    const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    this.#worker = new Worker(url, { type: "module" });
    this.#worker.addEventListener("message", ({ data }) => this.#settle(data));
    this.#worker.addEventListener("error", () => {
      const error = { message: "The page's scripts cannot be loaded", hint: "Reload the page." };
      for (const id of [...this.#waiting.keys()]) this.#settle({ id, error });
    });
    this.started = new Promise((resolve, reject) => this.#waiting.set(null, { resolve, reject }));
    this.started.catch(() => {}); // whoever asks for something is told
  }

  /** What the task of that name gives; buffers `handedOver` are the worker's from here on. */
  async ask(task, given, handedOver = []) {
    await this.started;
    const id = ++this.#last;
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    this.#worker.postMessage({ id, task, given }, handedOver);
    return answer;
  }

  #settle({ id, result, error }) {
    const { resolve, reject } = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) reject(new ReaderError(error.message, error.hint));
    else resolve(result);
  }
}

/** The worker that opens detectors and runs them. */
export class Engine extends Helper {
  constructor() {
    super("worker.js");
  }

  /** Open a detector, and give the header of its file. */
  open(bytes) {
    return this.ask("open", { bytes }, [bytes]);
  }

  /** Look at the photo in a file: `{ found, width, height, milliseconds }`. */
  detect(file, scoreThreshold) {
    return this.ask("detect", { file, scoreThreshold });
  }
}
