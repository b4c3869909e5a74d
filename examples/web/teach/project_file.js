// annotations.json, the project file of fewbox: COCO with fields of our own, told in data/project_file.py. Pure.

import { ReaderError } from "../errors.js";

const BOX_ID = /^[A-Za-z0-9_-]{1,64}$/;
const MAX_OUTSIDE = 1; // pixels, by which tools that count from 1 are off
const MAX_MOVED = 1; // pixels, by which a corner of a turned box may lie beside that of the upright one
const MAX_DEGREES = 45;
const [PARTS_BEGIN, PARTS_END] = [1, 2]; // in pixels nobody draws so small a box, in that corner
const short = (value) => Math.round(value * 100) / 100; // finer than a hand can draw

/** The file's text; `photos` are those of a BrowserProject, in their order. */
export function writeProject(photos, labels) {
  const images = [];
  const annotations = [];
  for (const [index, { name, width, height, boxes, reviewed, left_out }] of photos.entries()) {
    const image = { id: index + 1, file_name: name, width, height, reviewed };
    images.push(left_out ? { ...image, left_out } : image);
    for (const { id, box, label, ignore } of boxes) {
      const [x, y, x2, y2] = box.map(short);
      const [across, down] = [short(x2 - x), short(y2 - y)];
      annotations.push({
        id: annotations.length + 1,
        image_id: index + 1,
        category_id: labels.indexOf(label) + 1,
        bbox: [x, y, across, down],
        area: short(across * down),
        iscrowd: Number(ignore),
        box_id: id,
      });
    }
  }
  const categories = labels.map((name, index) => ({ id: index + 1, name }));
  return formatted({ info: {}, images, annotations, categories });
}

/** Every entry has a line of its own, so that a difference shows which boxes have changed. */
function formatted(parts) {
  const lines = Object.entries(parts).map(([key, value]) => {
    const isList = Array.isArray(value) && value.length > 0;
    const text = isList ? `[\n  ${value.map(inOneLine).join(",\n  ")}\n ]` : JSON.stringify(value);
    return ` ${JSON.stringify(key)}: ${text}`;
  });
  return `{\n${lines.join(",\n")}\n}\n`;
}

/** As Python writes it. */
function inOneLine(entry) {
  const inWords = (value) => (Array.isArray(value) ? `[${value.join(", ")}]` : JSON.stringify(value));
  return `{${Object.entries(entry).map(([key, value]) => `${JSON.stringify(key)}: ${inWords(value)}`).join(", ")}}`;
}

/**
 * What a file says: `{ labels, photos }`, where `photos` has for each name
 * `{ width, height, boxes, reviewed, left_out }`. Fields of other programs are not kept.
 */
export function readProject(text) {
  const { images, annotations, categories } = parsed(text);
  const labels = new Map();
  for (const { id, name } of categories) {
    const label = typeof name === "string" ? name.normalize().trim() : "";
    if (!label) refuse("a class without a name");
    if ((labels.get(id) ?? label) !== label) refuse(`two categories have the id ${id}`);
    labels.set(id, label);
  }
  const photos = new Map();
  const byId = new Map();
  for (const { id, file_name, width, height, reviewed = false, left_out = false } of images) {
    const name = typeof file_name === "string" ? plainPath(file_name) : "";
    if (!name) refuse("an image without a file_name");
    if (photos.has(name)) refuse(`two images are called ${name}`);
    if (byId.has(id)) refuse(`two images have the id ${id}`);
    const photo = { width, height, boxes: [], reviewed: Boolean(reviewed), left_out: Boolean(left_out) };
    photos.set(name, photo);
    byId.set(id, photo);
  }
  for (const annotation of annotations) {
    const { id, image_id, category_id, bbox, iscrowd = 0, box_id = `coco-${id}` } = annotation;
    const where = `annotation ${id}`;
    if (!byId.has(image_id)) refuse(`${where}: no image has the id ${image_id}`);
    if (!labels.has(category_id)) refuse(`${where}: no category has the id ${category_id}`);
    if (!BOX_ID.test(box_id)) refuse(`${where}: box_id: letters, digits, - and _ only`);
    if (bbox?.length !== 4 || !bbox.every(Number.isFinite)) refuse(`${where}: bbox is not four numbers`);
    const [x, y, width, height] = bbox;
    const photo = byId.get(image_id);
    if (width <= 0 || height <= 0) refuse(`${where}: bbox has no inside`);
    if (photo.boxes.some((other) => other.id === box_id)) refuse(`${where}: another box has the box_id ${box_id}`);
    const stated = [x, y, x + width, y + height].map((edge) => Number(edge.toFixed(6)));
    const box = photo.width ? boxInside(stated, photo) : stated;
    if (!box) refuse(`${where}: bbox lies outside of its photo, ${photo.width} × ${photo.height}`);
    if (isTurned(annotation)) refuse(`${where}: the box is rotated, and boxes here are upright`);
    photo.boxes.push({ id: box_id, box, label: labels.get(category_id), ignore: Boolean(iscrowd) });
    photo.reviewed = true;
  }
  const inPixels = ({ box_id, bbox }) =>
    box_id || Math.max(...bbox.slice(0, 2)) >= PARTS_BEGIN || Math.max(...reach(bbox).map(Math.abs)) >= PARTS_END;
  if (annotations.length && !annotations.some(inPixels)) {
    refuse("every box lies within the first two pixels of its photo; these seem to be parts of the photo");
  }
  const inOrder = [...labels].sort(([a], [b]) => a - b).map(([, label]) => label);
  return { labels: inOrder, photos };
}

const reach = ([x, y, width, height]) => [x, y, x + width, y + height];

/** Whether CVAT says of a box that it is turned, by more than a pixel at its corners. */
function isTurned({ bbox, attributes }) {
  const degrees = Number(attributes?.rotation ?? 0) % 360;
  const turn = Math.abs(degrees) > 180 ? 360 - Math.abs(degrees) : Math.abs(degrees);
  const moved = Math.hypot(bbox[2], bbox[3]) * Math.sin((turn * Math.PI) / 360); // half the diagonal, turned
  return turn > MAX_DEGREES || moved > MAX_MOVED;
}

/** A box with edges up to a pixel outside of its photo moved onto the border; null if it lies further outside. */
export function boxInside([x1, y1, x2, y2], { width, height }) {
  if (Math.max(-x1, -y1, x2 - width, y2 - height) > MAX_OUTSIDE) return null;
  return [Math.max(x1, 0), Math.max(y1, 0), Math.min(x2, width), Math.min(y2, height)];
}

/** What photos are compared by: macOS spells accents and Windows slashes otherwise, and tools write "./a.jpg". */
export function plainPath(name) {
  const parts = name.normalize().replaceAll("\\", "/").split("/");
  return parts.filter((part) => part && part !== ".").join("/");
}

function parsed(text) {
  let top;
  try {
    top = JSON.parse(text);
  } catch (error) {
    refuse(error.message);
  }
  for (const key of ["images", "annotations", "categories"]) {
    if (!Array.isArray(top?.[key])) refuse(`no list of ${key}`);
  }
  return top;
}

function refuse(why) {
  const hint = "open the annotations.json of fewbox annotate, or other COCO";
  throw new ReaderError(`not a project file of fewbox: ${why}`, hint);
}

/**
 * Which names in project files photos go by: a Map from each of `files`, by `name` and `webkitRelativePath`, to its
 * name or undefined. It is null where several names may be its own, or one name that of several photos, and `isOpen`
 * says that there are boxes to be had: those of another photo would be worse than none.
 */
export function namesOf(files, names, isOpen = () => true) {
  const alike = new Map(); // names by their last part
  for (const name of names) pushTo(alike, lastPart(name), name);
  const claims = files.map((file) => claimOf(file, alike));
  const claimed = new Map(); // for each name how sure it is that photos are it
  for (const { sure, found } of claims) {
    for (const name of found) pushTo(claimed, name, sure);
  }
  return new Map(files.map((file, index) => [file, nameBy(claims[index], claimed, isOpen)]));
}

/** The names that a photo may go by, the surest alone, and its own path: `{ sure, found, full }`. */
function claimOf({ name, webkitRelativePath: given }, alike) {
  const full = plainPath(given || name);
  const names = alike.get(lastPart(full)) ?? [];
  const below = plainPath(belowFolder(given));
  if (!below) return { sure: 0, found: names.filter((one) => endsIn(one, full)), full };
  const ways = [
    (one) => endsIn(one, below) || endsIn(below, one),
    (one) => endsIn(one, full),
    (one) => one === below || one === full,
  ];
  for (const sure of [2, 1, 0]) {
    const found = names.filter(ways[sure]);
    if (found.length) return { sure, found, full };
  }
  return { sure: 0, found: [], full };
}

function nameBy({ sure, found, full }, claimed, isOpen) {
  const left = found.filter((name) => Math.max(...claimed.get(name)) === sure); // others have their whole path
  if (!left.length) return undefined;
  const isOnly = found.length === 1 || (left.length === 1 && left[0] === full);
  if (isOnly && claimed.get(left[0]).filter((one) => one === sure).length === 1) return left[0];
  return left.some(isOpen) ? null : undefined;
}

/** A path without the folder that was chosen. */
export const belowFolder = (path) => path.split("/").slice(1).join("/");

function pushTo(lists, key, value) {
  if (!lists.has(key)) lists.set(key, []);
  lists.get(key).push(value);
}

const lastPart = (path) => path.split("/").at(-1);
const endsIn = (path, end) => path === end || path.endsWith(`/${end}`);
