// Beside the page, so that drawing never waits: looks at photos, learns, and finds what has been learnt.

import { headerOf, writeDetector } from "../learning/base_file.js";
import { detect } from "../learning/detect.js";
import { learn } from "../learning/fit.js";
import { ReaderError } from "../errors.js";
import { readPixels } from "../pixels.js";
import { serve } from "../tasks.js";
import { openBase } from "./computing.js";

// 3.2 MB each with the starter: 40 photos to learn from, with their mirror images, and as many others.
const MAX_LOOKS = 120;

let base = null;
let learnt = null; // {head, labels, photos, ...}: what `learn` has told last
const looks = new Map(); // id of a photo, or "mirrored " and it -> Features; the least recently used first

/** What the base tells of a photo, looked at once. `read` gives its pixels. */
async function lookAt(key, read) {
  const features = looks.get(key) ?? (await look(key, await read()));
  looks.delete(key);
  looks.set(key, features);
  for (const oldest of [...looks.keys()].slice(0, -MAX_LOOKS)) looks.delete(oldest);
  return features;
}

const look = (key, { image }) => (key.startsWith("mirrored ") ? base.lookMirrored(image) : base.look(image));

/** Both sides of a photo, of which the pixels are read once at the most. */
async function bothSides({ id, file }) {
  let pixels = null;
  const read = () => (pixels ??= readPixels(file));
  return { features: await lookAt(id, read), mirrored: await lookAt(`mirrored ${id}`, read) };
}

function found(features, size, scoreThreshold) {
  const rows = detect(base.file, features, learnt.head, size, scoreThreshold);
  return rows.map(({ box, score, classId }) => ({ box, score, label: learnt.labels[classId] }));
}

function needsLearnt() {
  if (!learnt) throw new ReaderError("Nothing has been learnt yet", "Draw boxes in two photos.");
}

serve({
  /** Open a base, from a file of that name; what it calls itself. */
  async open({ bytes, name }) {
    const opened = await openBase(new Uint8Array(bytes), name);
    await base?.close();
    base = opened;
    learnt = null;
    looks.clear();
    return base.file.header.base.name;
  },

  async look(photo) {
    await bothSides(photo);
  },

  async learn({ photos, labels }) {
    const seen = [];
    for (const photo of photos) seen.push({ ...photo, ...(await bothSides(photo)) });
    learnt = { ...learn(base.file, seen, labels), labels, photos: photos.map(({ name, boxes }) => ({ name, boxes })) };
    const { estimate, scoreThreshold } = learnt;
    return { estimate, scoreThreshold };
  },

  /** What is found in a photo; without an `id`, it is looked at and forgotten. */
  async find({ id, file, size, scoreThreshold }) {
    needsLearnt();
    const read = () => readPixels(file);
    const features = id ? await lookAt(id, read) : await base.look((await read()).image);
    return { boxes: found(features, size, scoreThreshold ?? learnt.scoreThreshold), threshold: learnt.scoreThreshold };
  },

  /** What is found in a picture of a film. */
  async film({ picture }) {
    needsLearnt();
    const { width, height } = picture;
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    picture.close();
    const features = await base.look(context.getImageData(0, 0, width, height));
    return { boxes: found(features, { width, height }, learnt.scoreThreshold) };
  },

  /** The detector's file. */
  async write() {
    needsLearnt();
    return writeDetector(base.file, learnt.head, headerOf(base.file, learnt, learnt.labels, learnt.photos));
  },
});
