// Beside the page, so that it stays quick while a photo is looked at: opens detectors and runs them.

import { Detector } from "./detector.js";
import { readPixels } from "./pixels.js";
import { loadRuntime, serve } from "./tasks.js";

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

serve(tasks);
