// Files as they come: which of a folder are meant, in which order, and whether one is in the project already. Pure.

import { belowFolder, plainPath } from "./project_file.js";

const NUMBER = /-\d+(?=(\.\w+)?$)/; // what tells photos of one name apart, see project.js

/** Those chosen one by one, as they came, and then those of folders in natural order, without what is hidden there. */
export function inOrder(files) {
  const alone = files.filter((file) => !file.webkitRelativePath);
  const inFolders = files.filter((file) => file.webkitRelativePath && !isHidden(file));
  const keys = new Map(inFolders.map((file) => [file, file.webkitRelativePath.split("/").map(naturalKey)]));
  return [...alone, ...inFolders.sort((a, b) => compared(keys.get(a), keys.get(b)))];
}

/** As .fewbox-trash, with the photos that were deleted, and the notes of macOS beside each file. */
function isHidden({ webkitRelativePath }) {
  return plainPath(belowFolder(webkitRelativePath)).split("/").some((part) => part.startsWith("."));
}

/** Words and numbers in turns, and the plain text for what is then equal; as in data/images.py. */
function naturalKey(part) {
  const pieces = part.toLowerCase().split(/([0-9]+)/);
  return [pieces.map((piece, index) => (index % 2 ? BigInt(piece) : piece)), part];
}

/** Lists by their first difference, where the shorter one comes first, as Python does. */
function compared(a, b) {
  if (!Array.isArray(a)) return a < b ? -1 : Number(a > b);
  for (let index = 0; index < Math.min(a.length, b.length); index++) {
    const order = compared(a[index], b[index]);
    if (order) return order;
  }
  return a.length - b.length;
}

/** The path of a photo below the folder that was chosen, or below the one of `homes`, as "a/", that it lies in. */
export function pathOf(file, homes) {
  const path = plainPath(belowFolder(file.webkitRelativePath)) || file.name;
  const around = homes.map((home) => `${plainPath(home)}/`).filter((home) => path.startsWith(home));
  return path.slice(Math.max(0, ...around.map(({ length }) => length)));
}

/** The one of `photos` of the project that is this file, of one of these names and with the same bytes; else null. */
export async function foundAmong(photos, file, names, project) {
  const plain = names.map(plainPath);
  for (const photo of photos) {
    const path = plainPath(photo.name);
    const hasName = plain.includes(path);
    if (!hasName && !plain.includes(path.replace(NUMBER, ""))) continue;
    const kept = await project.file(photo.id).catch(() => null); // the browser may have lost it
    if (!kept || kept.size !== file.size || !(hasName || kept.name === file.name)) continue;
    if (await haveSameBytes(kept, file)) return photo;
  }
  return null;
}

async function haveSameBytes(...files) {
  const [one, other] = (await Promise.all(files.map((file) => file.arrayBuffer()))).map((all) => new Uint8Array(all));
  return one.every((byte, index) => byte === other[index]);
}
