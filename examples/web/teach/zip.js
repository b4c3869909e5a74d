// A project with its photos as one file: a ZIP, in which photos lie as they are, since they are packed already.
//
// As PKWARE's APPNOTE tells it, without ZIP64. Pure.

import { ReaderError } from "../errors.js";

const LOCAL = { signature: 0x04034b50, size: 30 };
const CENTRAL = { signature: 0x02014b50, size: 46 };
const END = { signature: 0x06054b50, size: 22 };
const LARGEST = 0xffffffff; // bytes; more would need ZIP64
const MOST_FILES = 0xffff; // more would need ZIP64, too
const LONGEST_COMMENT = 0xffff;
const ENCRYPTED = 1;
// What the bytes from 128 on mean in names that are not UTF-8: the letters of the first PC.
const CP437 =
  "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐" +
  "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";
const [VERSION, UTF_8, STORED, DEFLATED, NEW_YEAR_1980] = [20, 0x0800, 0, 8, 0x21];

/** One Blob of `[{ name, blob }]`, where a name may have folders. Blobs are read one by one, and not copied. */
export async function zipped(entries) {
  const parts = [];
  const directory = [];
  let at = 0;
  if (entries.length > MOST_FILES) throw tooMuch("There are more than 65,534 photos");
  for (const { name, blob } of entries) {
    const path = new TextEncoder().encode(name);
    const shared = [VERSION, UTF_8, STORED, 0, NEW_YEAR_1980, await crc32(blob), blob.size, blob.size, path.length, 0];
    parts.push(record(LOCAL, SHARED, shared), path, blob);
    directory.push(record(CENTRAL, [2, ...SHARED, 2, 2, 2, 4, 4], [VERSION, ...shared, 0, 0, 0, 0, at]), path);
    at += LOCAL.size + path.length + blob.size;
    if (at >= LARGEST) throw tooMuch("The photos are larger than 4 GB");
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = record(END, [2, 2, 2, 2, 4, 4, 2], [0, 0, entries.length, entries.length, size, at, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

const tooMuch = (what) => new ReaderError(what, "Save the project without them.");

const SHARED = [2, 2, 2, 2, 2, 4, 4, 4, 2, 2]; // bytes of each number that both kinds of headers have

function record({ signature, size }, widths, values) {
  const view = new DataView(new ArrayBuffer(size));
  view.setUint32(0, signature, true);
  let at = 4;
  widths.forEach((width, place) => {
    if (width === 2) view.setUint16(at, values[place], true);
    else view.setUint32(at, values[place], true);
    at += width;
  });
  return new Uint8Array(view.buffer);
}

/**
 * The files in a ZIP; each has its path there as `webkitRelativePath`, below the name of the ZIP, as in a folder.
 *
 * What does not come out as it went in is refused: as a photo that cannot be read it would be left out in silence.
 */
export async function unzipped(file) {
  const tail = new DataView(await file.slice(-END.size - LONGEST_COMMENT).arrayBuffer());
  let end = tail.byteLength - END.size;
  while (end >= 0 && tail.getUint32(end, true) !== END.signature) end -= 1;
  if (end < 0) throw damaged(file);
  const [size, start] = [12, 16].map((field) => tail.getUint32(end + field, true));
  if (size === LARGEST || start === LARGEST) throw tooLarge(file);
  const directory = new DataView(await file.slice(start, start + size).arrayBuffer());
  if (directory.byteLength < size) throw damaged(file);
  const found = [];
  for (let at = 0; at < size; ) {
    if (at + CENTRAL.size > size || directory.getUint32(at, true) !== CENTRAL.signature) throw damaged(file);
    const [pathLength, extra, comment] = [28, 30, 32].map((field) => directory.getUint16(at + field, true));
    const next = at + CENTRAL.size + pathLength + extra + comment;
    if (next > size) throw damaged(file);
    const [flags, method] = [8, 10].map((field) => directory.getUint16(at + field, true));
    const path = textOf(new Uint8Array(directory.buffer, at + CENTRAL.size, pathLength), flags);
    const [crc, packed, local] = [16, 20, 42].map((field) => directory.getUint32(at + field, true));
    if (flags & ENCRYPTED) throw new ReaderError(`${file.name}: has a password`, UNPACK);
    if (packed === LARGEST || local === LARGEST) throw tooLarge(file);
    if (!path.endsWith("/")) found.push(await inside(file, path, { method, packed, local, crc }));
    at = next;
  }
  return found;
}

/** A name. Some programs write UTF-8 and do not say so; the letters of the first PC are hardly ever valid as such. */
function textOf(bytes, flags) {
  try {
    return new TextDecoder("utf-8", { fatal: !(flags & UTF_8) }).decode(bytes);
  } catch {
    return Array.from(bytes, (byte) => (byte < 128 ? String.fromCharCode(byte) : CP437[byte - 128])).join("");
  }
}

async function inside(file, path, { method, packed, local, crc }) {
  const header = new DataView(await file.slice(local, local + LOCAL.size).arrayBuffer());
  if (header.byteLength < LOCAL.size || header.getUint32(0, true) !== LOCAL.signature) throw damaged(file);
  const start = local + LOCAL.size + header.getUint16(26, true) + header.getUint16(28, true);
  const content = await unpacked(file.slice(start, start + packed), method);
  if (!content || (await crc32(content)) !== crc) throw damaged(file);
  const one = new File([content], path.split("/").at(-1));
  return Object.defineProperty(one, "webkitRelativePath", { value: `${file.name}/${path}` });
}

/** What was packed; null where it is damaged, or was packed in a way that browsers do not know. */
async function unpacked(blob, method) {
  if (method === STORED) return blob;
  if (method !== DEFLATED) return null;
  const stream = blob.stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(stream).blob().catch(() => null);
}

const UNPACK = "unpack it, and add the folder";
const damaged = ({ name }) => new ReaderError(`${name}: not a ZIP, or damaged`, UNPACK);
const tooLarge = ({ name }) => new ReaderError(`${name}: larger than 4 GB`, UNPACK);

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

async function crc32(blob) {
  let value = 0xffffffff;
  for (const reader = blob.stream().getReader(); ; ) {
    const { done, value: bytes } = await reader.read();
    if (done) return (value ^ 0xffffffff) >>> 0;
    for (const byte of bytes) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  }
}
