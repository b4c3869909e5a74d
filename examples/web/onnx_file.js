// What an ONNX file says of itself, read from its bytes: onnxruntime-web does not hand out the metadata.
//
// An ONNX file is a ModelProto of onnx.proto3 in the encoding of protocol buffers: fields one after the other,
// each a number that says which field it is and how it is stored, then its value.

import { ReaderError } from "./errors.js";

const GRAPH = 7;
const METADATA = 14; // StringStringEntryProto: 1 is the key, 2 the value
const HEADER_KEY = "fewbox";
const FORMER_NAME = "goldeneye"; // in files from before the package was renamed
export const BASE_KEY = "fewbox_base"; // of a base to learn from: see learning/base_file.js
const FORMAT_VERSION = 1;
const EXPORT_ONE = "Write one with: fewbox export duck.safetensors duck.onnx";

const headerText = (metadata) => metadata.get(HEADER_KEY) ?? metadata.get(FORMER_NAME);

/** Whether metadata is that of a detector that fewbox exported. */
export const isDetector = (metadata) => headerText(metadata) !== undefined;

/** The header that `fewbox export` left in a file; throws a ReaderError if it is no such file. */
export function readHeader(bytes) {
  const metadata = readMetadata(bytes);
  const text = headerText(metadata);
  if (text === undefined && metadata.has(BASE_KEY)) {
    throw new ReaderError("It is a base to learn from, and no detector yet", EXPORT_ONE);
  }
  if (text === undefined) throw new ReaderError("It is a model, but not one of fewbox's", EXPORT_ONE);
  const header = parse(text);
  header.fewbox_version ??= header[`${FORMER_NAME}_version`];
  if (header.format_version !== FORMAT_VERSION) {
    const versions = `It has format ${header.format_version}, and this page reads format ${FORMAT_VERSION}`;
    throw new ReaderError(versions, "Take the page from the fewbox that wrote the file.");
  }
  if (header.input !== "photos") {
    throw new ReaderError("It was written with --raw, without what prepares photos", "Write it without --raw.");
  }
  return header;
}

function parse(text) {
  try {
    const header = JSON.parse(text);
    if (header !== null) return header;
  } catch {
    // told below
  }
  throw new ReaderError("Its header is damaged", EXPORT_ONE);
}

/** Key -> value of the metadata of an ONNX file. */
export function readMetadata(bytes) {
  const metadata = new Map();
  let hasGraph = false;
  for (const { number, value } of fieldsOf(bytes)) {
    hasGraph ||= number === GRAPH && value instanceof Uint8Array;
    if (number !== METADATA || !(value instanceof Uint8Array)) continue;
    const entry = { 1: "", 2: "" };
    for (const field of fieldsOf(value)) entry[field.number] = new TextDecoder().decode(field.value);
    metadata.set(entry[1], entry[2]);
  }
  if (!hasGraph) throw damaged();
  return metadata;
}

/**
 * The fields of one message: their numbers, the bytes of those that are texts or messages, and the whole of each with
 * what stands before its value.
 */
export function* fieldsOf(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; scale < 2 ** 64; scale *= 128) {
      if (at >= bytes.length) throw damaged();
      const byte = bytes[at++];
      value += (byte & 127) * scale; // not by bits: those of JavaScript end at 32
      if (byte < 128) return value;
    }
    throw damaged();
  };
  while (at < bytes.length) {
    const start = at;
    const tag = varint();
    const [number, stored] = [Math.floor(tag / 8), tag % 8];
    const length = { 0: 0, 1: 8, 2: -1, 5: 4 }[stored];
    if (number === 0 || length === undefined) throw damaged();
    if (stored === 0) varint();
    const size = stored === 2 ? varint() : length;
    if (at + size > bytes.length) throw damaged();
    const value = stored === 2 ? bytes.subarray(at, at + size) : null;
    at += size;
    yield { number, value, whole: bytes.subarray(start, at) };
  }
}

const damaged = () => new ReaderError("It is not an ONNX file, or it is damaged", "Write one with: fewbox export");
