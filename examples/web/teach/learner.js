// Learns from the reviewed photos of the project, again after each change, and proposes boxes in the others. What
// Python does in apps/annotate/learning.py; the work itself is done in worker.js.

import { Helper } from "../engine.js";
import { inWords } from "../errors.js";
import { readBaseFile } from "./base.js";
import { chooseLessons, objectsIn } from "./lessons.js";

const MIN_PHOTOS = 2; // with boxes
const MAX_PHOTOS = 40; // that are learnt from, and that are looked at ahead
const CANDIDATES = 12; // photos that are looked at after a round
const SHOWN_SCORE = 0.5; // proposals have a higher score
const CANDIDATE_SCORE = 0.05; // detections above it count for how uncertain a photo is
const QUIET = 700; // milliseconds after a change until it learns, if no other comes
const PATIENCE = 3000; // but not longer than this after the first

const counted = (count) => `${count} ${count === 1 ? "photo" : "photos"}`;

/** It says "change" whenever `learning()` says something else. */
export class Learner extends EventTarget {
  #project;
  #database;
  #helper = null; // the worker
  #opening = null; // a promise of a base in it
  #baseName = "";
  #said = { state: "waiting", message: "", round: 0, progress: 0, suggested_next: null };
  #found = new Map(); // photo id -> promise of what the last round finds there
  #sure = new Map(); // photo id -> how uncertain the last round is there, 0 to 1
  #learntFrom = { says: "", ids: new Set(), labels: [] };
  #told = null; // {estimate, scoreThreshold} of the last round
  #seen = new Set(); // ids of photos that have been looked at
  #since = 0; // when the first change came that has not been learnt from
  #timer = 0;
  #isBusy = false;

  constructor(project, database) {
    super();
    this.#project = project;
    this.#database = database;
    project.addEventListener("change", () => this.#changed());
    this.#changed();
  }

  learning() {
    return this.#said;
  }

  /** For the annotation page's last window. */
  finishing() {
    const { state, message } = this.#said;
    if (!this.#told) return { state: "off", message, command: "" };
    const name = this.fileName;
    const next = [
      ["Download it, and open it on the page Use a detector: on this device or another, without this project", ""],
      ["Find it in many photos, with fewbox on a computer", `fewbox detect ${name} PHOTOS -o found`],
    ];
    const result = { estimate: this.#told.estimate, picture: null, next };
    const says = state === "ready" ? message : `${message} …`;
    return { state: "done", message: says, command: "", does: `Download ${name}`, result };
  }

  /** What the detector's file is called, once something has been learnt. */
  get fileName() {
    const name = this.#learntFrom.labels.join("-").replace(/[^\p{L}\p{N}_-]+/gu, "_").slice(0, 60);
    return `${name || "detector"}.onnx`;
  }

  get isLearnt() {
    return this.#told !== null;
  }

  async download(download) {
    const bytes = await this.#helper.ask("write", {});
    download(this.fileName, new Blob([bytes], { type: "application/octet-stream" }));
  }

  /** What is proposed for a photo; nothing for one that the last round has learnt from. */
  async proposals(id) {
    const { round } = this.#said;
    if (!this.#told || this.#learntFrom.ids.has(id)) return { round, boxes: [], pending: false };
    const boxes = await this.#candidates(id);
    const shown = Math.max(SHOWN_SCORE, this.#told.scoreThreshold);
    return { round, boxes: boxes.filter(({ score }) => score > shown), pending: false };
  }

  /** Look at a photo that is not in the project: `{ boxes, threshold }`; from the detector's own threshold on. */
  async look(file, size, scoreThreshold) {
    await this.#open();
    return this.#helper.ask("find", { file, size, scoreThreshold });
  }

  /** Look at a picture of a film, an ImageBitmap, which is the worker's from here on. */
  lookAtPicture(picture) {
    return this.#helper.ask("film", { picture }, [picture]);
  }

  /** What the base is called that is learnt from; empty until it is open. */
  get baseName() {
    return this.#baseName;
  }

  /** The file of the base that a person has brought, if they have. */
  ownBase() {
    return this.#database.get("project", "base");
  }

  /** Learn from another base, a File, from here on; null for the one beside the page. */
  async setBase(own) {
    await this.#opening?.catch(() => {});
    const before = this.#opening;
    const loading = this.#load(own);
    // While a base that cannot be opened is refused, and then, the one before stays.
    this.#opening = before ? loading.catch(() => {}) : loading;
    await loading.catch((error) => {
      this.#opening = before;
      throw error;
    });
    this.#changed();
    await this.#database.put("project", own, "base");
  }

  #forget() {
    this.#told = null;
    this.#learntFrom = { says: "", ids: new Set(), labels: [] };
    for (const known of [this.#found, this.#sure, this.#seen]) known.clear();
    this.#say({ state: "waiting", message: "another base, from which it learns anew", suggested_next: null });
  }

  #changed() {
    this.#since ||= performance.now();
    clearTimeout(this.#timer);
    const patience = this.#since + PATIENCE - performance.now();
    this.#timer = setTimeout(() => this.#work(), Math.max(0, Math.min(QUIET, patience)));
  }

  /** Do what there is to do, one thing after the other: learn, or look at photos ahead of that. */
  async #work() {
    if (this.#isBusy) return;
    this.#isBusy = true;
    try {
      do {
        this.#since = 0;
        await this.#learn();
        await this.#lookAhead();
      } while (this.#since && performance.now() - this.#since > QUIET);
    } catch (error) {
      this.#say({ state: "failed", message: inWords(error) });
    }
    this.#isBusy = false;
    if (this.#since) this.#changed();
  }

  /** Open the base, once. */
  #open() {
    this.#opening ??= this.#openBase().catch((error) => {
      this.#opening = null; // it may be there the next time
      throw error;
    });
    return this.#opening;
  }

  async #openBase() {
    await this.#load(await this.#database.get("project", "base"));
  }

  /** Have the worker open a base, which closes the one before. */
  async #load(own) {
    const bytes = await readBaseFile(own);
    this.#helper ??= new Helper("teach/worker.js");
    const isFirst = !this.#baseName;
    this.#baseName = await this.#helper.ask("open", { bytes, name: own?.name }, [bytes]);
    if (!isFirst) this.#forget(); // at once, as the worker has: there is nothing to download any more
    this.dispatchEvent(new Event("change"));
  }

  /** One round, if there is enough to learn from and it has changed since the last one. */
  async #learn() {
    const photos = await this.#project.photos();
    const reviewed = photos.filter((photo) => photo.reviewed && !photo.left_out);
    const missing = MIN_PHOTOS - reviewed.filter((photo) => objectsIn(photo).size).length;
    if (missing > 0) {
      const where = missing === 2 ? "two photos" : "one more photo";
      this.#forgetRound();
      return this.#say({ state: "waiting", message: `draw boxes in ${where}`, suggested_next: null });
    }
    const used = new Set(reviewed.flatMap(({ boxes }) => boxes.map(({ label }) => label)));
    const labels = (await this.#project.labels()).filter((label) => used.has(label));
    const chosen = chooseLessons(reviewed, MAX_PHOTOS);
    const says = JSON.stringify([labels, chosen.map(({ id, boxes }) => [id, boxes])]);
    if (says === this.#learntFrom.says) return this.#suggest(); // it may have failed since
    const message = `learning from ${counted(chosen.length)}`;
    this.#say({ state: "learning", message, progress: 0 });
    await this.#open();
    for (const [number, { id }] of chosen.entries()) {
      await this.#see(id);
      this.#say({ state: "learning", message, progress: (number + 1) / (chosen.length + 1) });
    }
    const given = await Promise.all(chosen.map(async (photo) => this.#lesson(photo, labels)));
    this.#told = await this.#helper.ask("learn", { photos: given, labels });
    this.#learntFrom = { says, ids: new Set(chosen.map(({ id }) => id)), labels };
    for (const known of [this.#found, this.#sure]) known.clear();
    this.#say({ round: this.#said.round + 1, ...this.#ready() });
    return this.#suggest();
  }

  /** Nothing is proposed any more once there is too little to learn from. */
  #forgetRound() {
    this.#told = null;
    this.#learntFrom = { says: "", ids: new Set(), labels: [] };
  }

  /** A photo as `learn` of learning/fit.js takes it, with its file. */
  async #lesson({ id, name, width, height, boxes }, labels) {
    const drawn = boxes.filter(({ ignore }) => !ignore);
    return {
      id,
      name,
      file: await this.#project.file(id),
      size: { width, height },
      boxes: drawn.map(({ box }) => box),
      classIds: drawn.map(({ label }) => labels.indexOf(label)),
      ignored: boxes.filter(({ ignore }) => ignore).map(({ box }) => box),
    };
  }

  async #see(id) {
    if (this.#seen.has(id)) return;
    await this.#helper.ask("look", { id, file: await this.#project.file(id) });
    this.#seen.add(id);
  }

  /** Look at photos as they come, so that only the fit is left after the last box. */
  async #lookAhead() {
    const photos = (await this.#project.photos()).filter(({ left_out }) => !left_out);
    if (!photos.length) return;
    await this.#open();
    for (const { id } of photos.slice(0, MAX_PHOTOS)) {
      if (this.#since && this.#seen.size) return; // something has changed: that first
      await this.#see(id).catch(() => this.#seen.add(id)); // whoever opens the photo is told
    }
  }

  /** Look at photos that nobody has reviewed, and say of which the last round is least sure. */
  async #suggest() {
    const open = (await this.#project.photos()).filter(({ reviewed, left_out }) => !reviewed && !left_out);
    const ids = new Set(open.map(({ id }) => id));
    for (const id of [...this.#sure.keys()].filter((id) => !ids.has(id))) {
      for (const known of [this.#found, this.#sure]) known.delete(id);
    }
    for (const { id } of open.slice(0, CANDIDATES)) {
      if (this.#since) break;
      await this.#candidates(id).catch(() => {});
    }
    this.#say(this.#ready());
  }

  #ready() {
    const [suggested_next = null] = [...this.#sure].sort(([, a], [, b]) => b - a)[0] ?? [];
    const message = `learnt from ${counted(this.#learntFrom.ids.size)}`;
    return { state: "ready", message, progress: 1, suggested_next };
  }

  #candidates(id) {
    if (!this.#found.has(id)) this.#found.set(id, this.#find(id));
    return this.#found.get(id);
  }

  async #find(id) {
    const { width, height } = await this.#project.photo(id);
    const given = { id, file: await this.#project.file(id), size: { width, height }, scoreThreshold: CANDIDATE_SCORE };
    const { boxes } = await this.#helper.ask("find", given);
    // Of a score of one half nobody can say which way it goes.
    this.#sure.set(id, Math.max(0, ...boxes.map(({ score }) => 1 - Math.abs(2 * score - 1))));
    return boxes;
  }

  #say(said) {
    this.#said = { ...this.#said, ...said };
    this.dispatchEvent(new Event("change"));
  }
}
