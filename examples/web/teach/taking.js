// What comes in: photos, a project file, both in one file, and another base. A project file may come before its
// photos, or after them.

import { foundAmong, inOrder, pathOf } from "./coming.js";
import { belowFolder, boxInside, namesOf, plainPath, readProject } from "./project_file.js";
import { sizeOf } from "./previews.js";
import { unzipped } from "./zip.js";

export const UNREADABLE = "this browser cannot read it as a picture; JPEG, PNG and WebP always work";

export class Taking {
  #project;
  #learner;
  #tell;

  /** `tell(text)` says how far it is. */
  constructor(project, learner, tell) {
    this.#project = project;
    this.#learner = learner;
    this.#tell = tell;
  }

  /**
   * Take files one by one, so that one photo at a time is decoded; the id of the first photo added, or null. `areNew`:
   * none can be here yet, as they come from the camera.
   */
  async take(files, areNew = false) {
    const isCalled = (suffix) => (file) => file.name.toLowerCase().endsWith(suffix);
    const inside = await Promise.all(files.filter(isCalled(".zip")).map(unzipped));
    const all = inOrder([...files.filter((file) => !isCalled(".zip")(file)), ...inside.flat()]);
    const bases = all.filter(isCalled(".onnx"));
    const projects = all.filter(isCalled(".json"));
    const ours = projects.filter((file) => isOurs(file, all));
    const photos = all.filter((file) => !bases.includes(file) && !projects.includes(file));
    const told = [];
    for (const file of bases) told.push(await this.#takeBase(file));
    const keys = new Map(); // photo -> by what it is awaited, where its name does not say that
    for (const file of ours) {
      const { doubts, own } = await this.#takeProject(await file.text(), homeOf(file, photos), photos);
      told.push(...doubts);
      for (const [photo, key] of own) keys.set(photo, key);
    }
    const homes = ours.map((file) => homeOf(file, photos)).filter(Boolean);
    return this.#takePhotos(photos, told, { homes, areNew, keys });
  }

  /** Learn from another base from now on; what has become of it. */
  async #takeBase(file) {
    this.#tell(`opening ${file.name}`);
    try {
      await this.#learner.setBase(file);
      return `learning from ${this.#learner.baseName} from now on`;
    } catch ({ message, hint }) {
      return `${file.name}: ${message}. ${hint ?? ""}`;
    }
  }

  /** A photo in one of `homes`, the folders of project files, has its name from there, as in the project file. */
  async #takePhotos(files, troubles, { homes, areNew, keys }) {
    const here = areNew ? [] : await this.#project.photos();
    const toCome = await this.#project.awaited();
    const names = namesOf(files, await this.#project.stated(), (name) => toCome.has(name));
    const doubtful = [];
    let first = null;
    let again = 0;
    for (const [number, file] of files.entries()) {
      this.#tell(`adding ${number + 1} of ${files.length}`);
      const [name, path] = [keys.get(file) ?? names.get(file), pathOf(file, homes)];
      if (!toCome.has(name) && (await foundAmong(here, file, [name ?? path, path], this.#project))) {
        again += 1;
        continue;
      }
      const size = await sizeOf(file).catch(() => null);
      if (!size) {
        const isFromFolder = file.webkitRelativePath && !file.type.startsWith("image/");
        if (!isFromFolder) troubles.push(`${file.name}: ${UNREADABLE}`); // folders have other files too
        continue;
      }
      if (name === null) {
        doubtful.push(file.name);
        continue;
      }
      // Of what is awaited in that moment: a class may be renamed while photos come.
      const known = (awaited) => stated(awaited, name, path, size);
      const { id, trouble, ...added } = await this.#project.addKnown(file, size, known);
      if (!areNew) here.push({ id, ...added });
      if (trouble) troubles.push(trouble);
      first ??= id;
    }
    if (doubtful.length) troubles.push(doubt("added", doubtful));
    if (again) troubles.push(`${inPhotos(again)} here already, and not added again`);
    const left = (await this.#project.awaited()).size;
    if (left) troubles.push(`${inPhotos(left)} of the project file still to be added`);
    this.#tell(troubles.join("; "));
    return first;
  }

  /**
   * Take the boxes of photos that are here, where nobody has drawn any; keep the others until their photos come,
   * with those of other project files. They are told apart by `folder`, see `homeOf`. A photo that is one of `along`,
   * which came together with the file, is known by its bytes: a photo that is here may have its name and be another.
   * `{ doubts, own }`: what is in doubt, in words, and which of `along` are awaited by what is not their name.
   */
  async #takeProject(text, folder, along) {
    const { labels, photos: stated } = readProject(text);
    const photos = new Map([...stated].map(([name, state]) => [plainPath(folder + name), { ...state, name }]));
    await this.#project.changeLabels({ labels });
    const here = await this.#project.photos();
    const files = new Map(here.map((photo) => [photo, asFile(photo)]));
    const expected = [...photos.keys()];
    const names = namesOf([...files.values()], expected);
    const brought = new Map(); // key -> the photo that came along
    for (const [file, key] of namesOf(along, expected)) if (photos.has(key)) brought.set(key, file);
    const found = new Map(); // the photo that is here -> its key
    for (const [key, file] of brought) {
      const photo = await foundAmong(here, file, [photos.get(key).name, key], this.#project);
      if (photo) found.set(photo, key);
    }
    const doubtful = [];
    for (const photo of here) {
      const isFound = found.has(photo);
      const key = isFound ? found.get(photo) : names.get(files.get(photo));
      if (!isFound && brought.has(key)) continue; // the one that came along is another
      if (key === null && !photo.reviewed) doubtful.push(photo.name);
      // One that was chosen alone, or came with a project file, is known by its whole name.
      const isIt = isFound || key === plainPath(folder + photo.name) || (photo.name.includes("/") && !photo.stated);
      const state = isIt && photos.get(key);
      if (!state || state.width !== photo.width || state.height !== photo.height) continue;
      photos.delete(key);
      const { boxes: put, reviewed, left_out } = state;
      if (!photo.reviewed) await this.#project.patch(photo.id, { put, reviewed, left_out });
    }
    const { own, left } = await this.#project.expect(photos, expected, new Set(brought.keys()));
    const doubts = doubtful.length ? [doubt("given boxes", doubtful)] : [];
    if (left.length) doubts.push(`${left[0]}${andMore(left)}: what another project file told before stays`);
    return { doubts, own: new Map([...own].map(([key, awaited]) => [brought.get(key), awaited])) };
  }
}

/** A photo of the project as what it was added as, by its path if that is known. */
const asFile = ({ name }) => ({ name, webkitRelativePath: name.includes("/") ? `/${name}` : "" });

function doubt(done, names) {
  const are = `${names[0]}${andMore(names)} ${names.length === 1 ? "is" : "are"}`;
  return `${are} not ${done}, as there are several of this name; add the whole folder, or give it another name`;
}

const andMore = ({ length }) => (length === 1 ? "" : ` and ${length - 1} more`);

/** The folder of a project file in what was given, as "a/", where its photos are; empty if there are none in it. */
function homeOf({ webkitRelativePath: path }, photos) {
  const folder = belowFolder(path).split("/").slice(0, -1).map((one) => `${one}/`).join("");
  return photos.some((photo) => belowFolder(photo.webkitRelativePath).startsWith(folder)) ? folder : "";
}

/** In a folder, other programs have files of that ending too. */
const isOurs = (file, files) => !file.webkitRelativePath || files.length === 1 || file.name === "annotations.json";

const inPhotos = (count) => (count === 1 ? "1 photo is" : `${count} photos are`);

/**
 * What a project file says of the photo that it calls `key`, as `addKnown` takes it; `trouble`: what does not fit.
 * Where it says nothing, the photo is called by its `path`.
 */
function stated(awaited, key, path, { width, height }) {
  if (!awaited.has(key)) return { name: path };
  const { width: across = width, height: down = height, name = key, ...state } = awaited.get(key);
  const boxes = state.boxes.map((one) => ({ ...one, box: boxInside(one.box, { width, height }) }));
  const isOfIt = across === width && down === height && boxes.every(({ box }) => box);
  if (isOfIt) return { key, name, state: { ...state, boxes } };
  const why = across === width && down === height ? "reach further" : `were drawn on ${across} × ${down}`;
  const trouble = `${name}: has ${width} × ${height} pixels, and its boxes ${why}; they are left out`;
  return { key, name, trouble };
}
