// The third store of the annotation page: the project in this browser, with a learner in a worker beside it.
// Its methods are those of annotate/http_store.js; what they give is told in apps/annotate/answers.py.

import { ReaderError } from "../errors.js";
import { Previews, sizeOf } from "./previews.js";
import { UNREADABLE } from "./taking.js";

const EMPTY = "Drop photos here, paste them, or press Add photos. They stay in this browser.";
const TRASHED =
  "It goes from this browser, with its boxes, once this page is closed. The file that you added stays where it is.";

/** `project` is a BrowserProject, `learner` who proposes boxes, `download(name, blob)` hands a file to the person. */
export function browserStore(project, learner, download) {
  const previews = new Previews();
  const tried = new Map(); // id -> {name, file, url, boxes, ...size}
  const addresses = new Map(); // "side id" -> what an <img> shows
  const image = (id, side) => previews.get(id, side, () => project.file(id));

  return {
    learnsAlone: true, // by itself, after each change, and there is no command line
    ifEmpty: EMPTY,
    whenTrashed: TRASHED,

    async project() {
      const { version } = project; // before all else: what changes meanwhile is asked for again
      const photos = await project.photos();
      const { suggested_next } = learner.learning();
      const labels = await project.labels();
      return { name: "fewbox", key: "browser", labels, photos: photos.map(asRow), suggested_next, version };
    },
    version: async () => project.version,
    photo: (id) => project.photo(id),
    patch: (id, change) => project.patch(id, change),
    trash: (id) => project.setTrashed(id, true),
    restore: (id) => project.setTrashed(id, false),
    labels: (change) => project.changeLabels(change),
    async labelCounts() {
      const counts = Object.fromEntries((await project.labels()).map((label) => [label, [0, 0]]));
      const toCome = (await project.awaited()).values(); // their boxes are lost with a class too
      for (const { boxes } of [...(await project.photos()), ...toCome]) {
        for (const { label } of boxes) (counts[label] ??= [0, 0])[0] += 1; // a page of before left some without
        for (const label of new Set(boxes.map((box) => box.label))) counts[label][1] += 1;
      }
      return counts;
    },

    proposals: (id) => learner.proposals(id),
    learning: async () => learner.learning(),

    async finish(isStarted = false) {
      if (isStarted) await learner.download(download);
      return learner.finishing();
    },

    trying: async () => ({ detector: learner.isLearnt ? "what has been learnt" : null }),
    async tryPhoto(name, file) {
      const size = await sizeOf(file).catch(() => {
        throw new ReaderError(`${name}: ${UNREADABLE}`);
      });
      const { boxes, threshold } = await learner.look(file, size);
      const id = String(tried.size);
      tried.set(id, { name, file, size, url: URL.createObjectURL(file) });
      return { id, name, boxes, threshold, ...size };
    },
    triedUrl: (id) => tried.get(id).url,
    async takeIn(id) {
      const { name, file, size } = tried.get(id);
      return project.add(file, name, size);
    },

    image,
    async imageUrl(id, side) {
      const key = `${side} ${id}`;
      if (!addresses.has(key)) addresses.set(key, URL.createObjectURL(await image(id, side)));
      return addresses.get(key);
    },
  };
}

function asRow({ boxes, ...photo }) {
  const labels = [...new Set(boxes.map(({ label }) => label))].sort();
  return { ...photo, labels, num_boxes: boxes.length, tried: false, error: null };
}
