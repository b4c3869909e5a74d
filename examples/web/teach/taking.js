// What comes in: photos, a project file, both in one file, and another base. A project file may come before its
// photos, or after them.

import { boxInside, nameIn, plainPath, readProject } from "./project_file.js";
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

  /** Take files one by one, so that one photo at a time is decoded; the id of the first photo added, or null. */
  async take(files) {
    const isCalled = (suffix) => (file) => file.name.toLowerCase().endsWith(suffix);
    const inside = await Promise.all(files.filter(isCalled(".zip")).map(unzipped));
    const all = [...files.filter((file) => !isCalled(".zip")(file)), ...inside.flat()];
    const bases = all.filter(isCalled(".onnx"));
    const projects = all.filter(isCalled(".json"));
    const photos = all.filter((file) => !bases.includes(file) && !projects.includes(file));
    const told = [];
    for (const file of bases) told.push(await this.#takeBase(file));
    for (const file of projects) {
      if (isOurs(file, all)) await this.#takeProject(await file.text(), homeOf(file, photos));
    }
    return this.#takePhotos(photos, told);
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

  async #takePhotos(files, troubles) {
    let first = null;
    for (const [number, file] of files.entries()) {
      this.#tell(`adding ${number + 1} of ${files.length}`);
      const size = await sizeOf(file).catch(() => null);
      if (!size) {
        const isFromFolder = file.webkitRelativePath && !file.type.startsWith("image/");
        if (!isFromFolder) troubles.push(`${file.name}: ${UNREADABLE}`); // folders have other files too
        continue;
      }
      // Of what is awaited in that moment: a class may be renamed while photos come.
      const { id, trouble } = await this.#project.addKnown(file, size, (awaited) => stated(awaited, file, size));
      if (trouble) troubles.push(trouble);
      first ??= id;
    }
    const left = (await this.#project.awaited()).size;
    if (left) troubles.push(`${inPhotos(left)} of the project file still to be added`);
    this.#tell(troubles.join("; "));
    return first;
  }

  /**
   * Take the boxes of photos that are here, where nobody has drawn any; keep the others until their photos come,
   * with those of other project files. They are told apart by `folder`, see `homeOf`.
   */
  async #takeProject(text, folder) {
    const { labels, photos: stated } = readProject(text);
    const photos = new Map([...stated].map(([name, state]) => [plainPath(folder + name), { ...state, name }]));
    await this.#project.changeLabels({ labels });
    for (const photo of await this.#project.photos()) {
      const key = plainPath(folder + photo.name);
      const state = photos.get(key);
      if (!state || state.width !== photo.width || state.height !== photo.height) continue;
      photos.delete(key);
      const { boxes: put, reviewed, left_out } = state;
      if (!photo.reviewed) await this.#project.patch(photo.id, { put, reviewed, left_out });
    }
    await this.#project.expect(photos);
  }
}

/** The folder of a project file in what was given, as "a/", where its photos are; empty if there are none in it. */
function homeOf({ webkitRelativePath: path }, photos) {
  const below = (one) => one.split("/").slice(1);
  const folder = below(path).slice(0, -1).map((one) => `${one}/`).join("");
  return photos.some((photo) => below(photo.webkitRelativePath).join("/").startsWith(folder)) ? folder : "";
}

/** In a folder, other programs have files of that ending too. */
const isOurs = (file, files) => !file.webkitRelativePath || files.length === 1 || file.name === "annotations.json";

const inPhotos = (count) => (count === 1 ? "1 photo is" : `${count} photos are`);

/** What a project file says of a photo, `{ name, state, trouble }`, and under which `key` of `awaited`. */
function stated(awaited, file, { width, height }) {
  const key = nameIn(awaited, file);
  if (!key) return { name: file.name };
  const { width: across = width, height: down = height, name = key, ...state } = awaited.get(key);
  const boxes = state.boxes.map((one) => ({ ...one, box: boxInside(one.box, { width, height }) }));
  const isOfIt = across === width && down === height && boxes.every(({ box }) => box);
  if (isOfIt) return { key, name, state: { ...state, boxes } };
  const why = across === width && down === height ? "reach further" : `were drawn on ${across} × ${down}`;
  const trouble = `${name}: has ${width} × ${height} pixels, and its boxes ${why}; they are left out`;
  return { key, name, trouble };
}
