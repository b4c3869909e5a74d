// The project in this browser: photos with their boxes, and the classes. What Python does in data/project_file.py.

import { StoreError } from "../annotate/http_store.js";
import { applied, newId } from "../annotate/history.js";
import { asPromise } from "./database.js";
import { plainPath } from "./project_file.js";

const BOTH = ["photos", "project"];
const WINDOWS = "fewbox project"; // what its windows are called among each other
const MAX_LABEL_LENGTH = 100;

export class BrowserProject extends EventTarget {
  version = 0; // how often another window has changed it
  #database;
  #others = new BroadcastChannel(WINDOWS);

  /** It says "change" whenever there is something else to learn from. */
  constructor(database) {
    super();
    this.#database = database;
    this.#others.onmessage = () => {
      this.version += 1;
      this.dispatchEvent(new Event("change"));
    };
  }

  /** The photos in the order in which they came, but for those in the trash. */
  async photos() {
    const photos = await this.#database.all("photos");
    return photos.filter(({ trashed }) => !trashed).sort((a, b) => a.order - b.order);
  }

  async labels() {
    return (await this.#database.get("project", "labels")) ?? [];
  }

  async photo(id) {
    const photo = await this.#database.get("photos", id);
    if (!photo || photo.trashed) throw refused("no such photo");
    return photo;
  }

  async file(id) {
    const file = await this.#database.get("files", id);
    if (!file) throw refused("the browser no longer has this photo", "add it again");
    return file;
  }

  /** Keep a photo, under another name if one of this name is there; `{ id, name }`. */
  add(file, name, size) {
    return this.addKnown(file, size, () => ({ name }));
  }

  /**
   * Keep a photo as `known(awaited)` tells it of what is awaited now, `{ name, key, state, ...told }`: from then on
   * `key` is awaited no more. `{ id, name, ...told }`.
   */
  async addKnown(file, { width, height }, known) {
    const id = newId();
    const added = await this.#database.change([...BOTH, "files"], async ({ photos, files, project }) => {
      const all = await asPromise(photos.getAll());
      const awaited = await awaitedIn(project);
      const { name, key, state, ...told } = known(awaited);
      const photo = { boxes: [], reviewed: false, left_out: false, ...state, id, width, height };
      if (state) photo.stated = key; // where boxes come back to, once their class does
      photo.name = unusedName(name, all);
      photo.order = Math.max(0, ...all.map(({ order }) => order)) + 1;
      await asPromise(files.put(file, id));
      await asPromise(photos.put(photo));
      await addLabels(project, photo.boxes.map(({ label }) => label));
      if (awaited.delete(key)) await asPromise(project.put([...awaited], "awaited"));
      return { id, name: photo.name, ...told };
    });
    this.#changed();
    return added;
  }

  /** Put and delete boxes of a photo: the photo as it is then. */
  async patch(id, change) {
    const result = await this.#database.change(BOTH, async ({ photos, project }) => {
      const photo = await asPromise(photos.get(id));
      if (!photo) throw refused("no such photo");
      const { boxes, reviewed, left_out } = applied(photo, { put: [], delete: [], ...change });
      const now = { ...photo, boxes, left_out, reviewed: (reviewed && !left_out) || boxes.length > 0 };
      await asPromise(photos.put(now));
      await addLabels(project, boxes.map(({ label }) => label));
      return now;
    });
    this.#changed();
    return result;
  }

  /** Move a photo into the trash, or back. */
  async setTrashed(id, trashed) {
    await this.#database.change(["photos"], async ({ photos }) => {
      const photo = await asPromise(photos.get(id));
      if (!photo) throw refused("the browser no longer has this photo", "add it again");
      await asPromise(photos.put({ ...photo, trashed }));
    });
    this.#changed();
  }

  /** Forget what is in the trash, if no other window is open that could bring it back. */
  emptyTrash() {
    const empty = async ({ photos, files }) => {
      for (const { id, trashed } of await asPromise(photos.getAll())) {
        if (!trashed) continue;
        await asPromise(photos.delete(id));
        await asPromise(files.delete(id));
      }
    };
    return ifAlone(() => this.#database.change(["photos", "files"], empty));
  }

  /** Forget photos, boxes and classes, all of them. */
  async clear() {
    await this.#database.change(["photos", "files", "project"], async ({ photos, files, project }) => {
      const values = ["labels", "awaited", "stated"].map((name) => project.delete(name));
      await Promise.all([photos.clear(), files.clear(), ...values].map(asPromise));
    });
    this.#others.postMessage("");
  }

  /**
   * Add, rename, remove, merge and delete classes, as `change_labels` in apps/annotate/answers.py; also those of
   * photos that are still to come.
   */
  async changeLabels({ labels: added = [], rename = {}, remove = [], merge = {}, restore = null, ...asked }) {
    const result = await this.#database.change(BOTH, async ({ photos, project }) => {
      let labels = await addLabels(project, added);
      const gone = new Set([...(asked.delete ?? []), ...remove]);
      const losing = new Set([...gone, ...Object.keys(merge)]);
      const missing = [...losing, ...Object.keys(rename)].find((label) => !labels.includes(label));
      if (missing !== undefined) throw refused(`no class has the label ${missing}`);
      const other = new Map([...Object.entries(rename), ...Object.entries(merge)]);
      const before = [];
      for (const photo of await asPromise(photos.getAll())) {
        before.push(...losses(photo.id, photo, losing));
        await asPromise(photos.put(relabelled(photo, gone, other)));
      }
      const stated = [];
      const awaited = await awaitedIn(project);
      for (const [key, state] of awaited) {
        stated.push(...losses(key, state, losing));
        awaited.set(key, relabelled(state, gone, other));
      }
      await asPromise(project.put([...awaited], "awaited"));
      const lost = [...losing].map((label) => ({ label, at: labels.indexOf(label), stated })).at(-1);
      labels = labels.filter((label) => !losing.has(label)).map((label) => other.get(label) ?? label);
      if (new Set(labels).size < labels.length) throw refused("two classes would have one name");
      if (restore && !labels.includes(restore.label)) labels.splice(restore.at, 0, restore.label);
      await asPromise(project.put(labels, "labels"));
      if (restore) await putBack(restore.stated, photos, project);
      return { labels, before, lost };
    });
    this.#changed();
    return result;
  }

  /** What a project file said of photos that have not been added yet, by name. */
  awaited() {
    return this.#database.change(["project"], ({ project }) => awaitedIn(project), "readonly");
  }

  /** The names of all photos of which project files told, whether they are still awaited or not. */
  async stated() {
    const toCome = [...(await this.awaited()).keys()].filter((key) => !key.startsWith("/"));
    return [...new Set([...((await this.#database.get("project", "stated")) ?? []), ...toCome])];
  }

  /**
   * Await these photos too, of those of which a project file tells, `names`. Where another project file has told
   * otherwise of a photo of that name, that stays. `{ own, left }`: those of `coming` are awaited all the same, by keys
   * that are nobody's name, `own`; `left` are the others.
   */
  expect(states, names, coming = new Set()) {
    return this.#database.change(["project"], async ({ project }) => {
      const awaited = await awaitedIn(project);
      const [own, left] = [new Map(), []];
      for (const [key, state] of states) {
        const isOther = awaited.has(key) && JSON.stringify(awaited.get(key)) !== JSON.stringify(state);
        if (isOther && !coming.has(key)) {
          left.push(key);
          continue;
        }
        if (isOther) own.set(key, unnamed(key, awaited));
        awaited.set(own.get(key) ?? key, state);
      }
      await asPromise(project.put([...awaited], "awaited"));
      const stated = (await asPromise(project.get("stated"))) ?? [];
      await asPromise(project.put([...new Set([...stated, ...names])], "stated"));
      return { own, left };
    });
  }

  #changed() {
    this.#others.postMessage("");
    this.dispatchEvent(new Event("change"));
  }
}

/** Call `does` if this page is open in no other window; from here on it is open in this one. */
async function ifAlone(does) {
  const { locks } = navigator; // undefined if the page comes neither from this machine nor by https
  if (!locks) return void (await does());
  await locks.request(WINDOWS, { ifAvailable: true }, (lock) => lock && does());
  locks.request(WINDOWS, { mode: "shared" }, () => new Promise(() => {}));
}

const refused = (message, hint) => new StoreError(message, { hint, refused: true });

/** A key for another photo of that name, which is no name itself: those have no slash before them. */
function unnamed(key, awaited) {
  let free = key;
  while (awaited.has(free)) free = `/${free}`;
  return free;
}

const awaitedIn = async (project) => new Map(await asPromise(project.get("awaited")));

/** `[[key, change]]`, the change that brings back what a photo loses with classes; empty if it has none of them. */
function losses(key, { boxes, reviewed }, losing) {
  const put = boxes.filter(({ label }) => losing.has(label));
  return put.length ? [[key, { put, delete: [], reviewed }]] : [];
}

/** A photo without the boxes of classes that are gone, where others have another name. */
function relabelled(photo, gone, other) {
  const left = photo.boxes.filter(({ label }) => !gone.has(label));
  const boxes = left.map((box) => ({ ...box, label: other.get(box.label) ?? box.label }));
  return { ...photo, boxes, reviewed: photo.reviewed && (boxes.length > 0 || photo.boxes.length === 0) };
}

/** Bring boxes back that a class had in photos that were still to come, be they here by now or not. */
async function putBack(stated, photos, project) {
  const awaited = await awaitedIn(project);
  const all = await asPromise(photos.getAll());
  for (const [key, change] of stated) {
    if (awaited.has(key)) awaited.set(key, applied(awaited.get(key), change));
    const photo = all.find((one) => one.stated === key);
    if (photo) await asPromise(photos.put(applied(photo, change)));
  }
  await asPromise(project.put([...awaited], "awaited"));
}

async function addLabels(project, added) {
  const known = (await asPromise(project.get("labels"))) ?? [];
  const labels = [...new Set([...known, ...added.map((label) => label.trim())])];
  if (labels.some((label) => !label || label.length > MAX_LABEL_LENGTH)) throw refused("not the name of a class");
  if (labels.length > known.length) await asPromise(project.put(labels, "labels"));
  return labels;
}

/** The name, or with a number where that is taken, be it spelled otherwise: in the project file both are one. */
function unusedName(name, photos) {
  const taken = new Set(photos.map((photo) => plainPath(photo.name)));
  const [, stem, suffix] = /^(.*?)(\.\w+)?$/s.exec(name);
  let free = name;
  for (let number = 2; taken.has(plainPath(free)); number++) free = `${stem}-${number}${suffix ?? ""}`;
  return free;
}
