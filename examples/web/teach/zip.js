// A project with its photos as one file: a ZIP, in which photos lie as they are, since they are packed already.
//
// As PKWARE's APPNOTE tells it, without ZIP64. Pure.

import { ReaderError } from "../errors.js";

const LOCAL = { signature: 0x04034b50, size: 30 };
const CENTRAL = { signature: 0x02014b50, size: 46 };
const END = { signature: 0x06054b50, size: 22 };
const LARGEST = 0xffffffff; // bytes; more would need ZIP64
const LONGEST_COMMENT = 0xffff;
const [VERSION, UTF_8, STORED, DEFLATED, NEW_YEAR_1980] = [20, 0x0800, 0, 8, 0x21];

/** One Blob of `[{ name, blob }]`, where a name may have folders. Blobs are read one by one, and not copied. */
export async function zipped(entries) {
  const parts = [];
  const directory = [];
  let at = 0;
  for (const { name, blob } of entries) {
    const path = new TextEncoder().encode(name);
    const shared = [VERSION, UTF_8, STORED, 0, NEW_YEAR_1980, await crc32(blob), blob.size, blob.size, path.length, 0];
    parts.push(record(LOCAL, SHARED, shared), path, blob);
    directory.push(record(CENTRAL, [2, ...SHARED, 2, 2, 2, 4, 4], [VERSION, ...shared, 0, 0, 0, 0, at]), path);
    at += LOCAL.size + path.length + blob.size;
    if (at > LARGEST) throw new ReaderError("The photos are larger than 4 GB", "Save the project without them.");
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = record(END, [2, 2, 2, 2, 4, 4, 2], [0, 0, entries.length, entries.length, size, at, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

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

/** The files in a ZIP; each has its path there as `webkitRelativePath`, below the name of the ZIP, as in a folder. */
export async function unzipped(file) {
  const tail = new DataView(await file.slice(-END.size - LONGEST_COMMENT).arrayBuffer());
  let end = tail.byteLength - END.size;
  while (end >= 0 && tail.getUint32(end, true) !== END.signature) end -= 1;
  if (end < 0) throw damaged(file);
  const [size, start] = [tail.getUint32(end + 12, true), tail.getUint32(end + 16, true)];
  const directory = new DataView(await file.slice(start, start + size).arrayBuffer());
  const found = [];
  for (let at = 0; at + CENTRAL.size <= directory.byteLength; ) {
    const [pathLength, extra, comment] = [28, 30, 32].map((field) => directory.getUint16(at + field, true));
    const path = new TextDecoder().decode(new Uint8Array(directory.buffer, at + CENTRAL.size, pathLength));
    const method = directory.getUint16(at + 10, true);
    const [packed, local] = [20, 42].map((field) => directory.getUint32(at + field, true));
    if (!path.endsWith("/")) found.push(await inside(file, path, { method, packed, local }));
    at += CENTRAL.size + pathLength + extra + comment;
  }
  return found;
}

async function inside(file, path, { method, packed, local }) {
  const header = new DataView(await file.slice(local, local + LOCAL.size).arrayBuffer());
  if (header.byteLength < LOCAL.size || header.getUint32(0, true) !== LOCAL.signature) throw damaged(file);
  const start = local + LOCAL.size + header.getUint16(26, true) + header.getUint16(28, true);
  let content = file.slice(start, start + packed);
  if (method === DEFLATED) {
    const stream = content.stream().pipeThrough(new DecompressionStream("deflate-raw"));
    content = await new Response(stream).blob();
  } else if (method !== STORED) throw damaged(file);
  const one = new File([content], path.split("/").at(-1));
  return Object.defineProperty(one, "webkitRelativePath", { value: `${file.name}/${path}` });
}

const damaged = ({ name }) => new ReaderError(`${name}: not a ZIP, or damaged`, "unpack it, and add the folder");

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
