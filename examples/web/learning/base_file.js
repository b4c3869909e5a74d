// A base's file, as `fewbox export --base starter -o base.onnx` writes it, and the detector's file that is made of
// it: the same graph with the head's numbers put in. What the file says is told in src/fewbox/export/onnx.py.
//
// An ONNX file is a ModelProto of onnx.proto3. Here it is cut into its fields and put together again; what is not
// changed stays byte for byte.

import { ReaderError } from "../errors.js";
import { BASE_KEY, fieldsOf, isDetector, readMetadata } from "../onnx_file.js";
import { sha256 } from "./sha256.js";

const HEADER_KEY = "fewbox";
const FORMAT_VERSION = 1;

// Numbers of fields in onnx.proto3.
const MODEL = { graph: 7, metadata: 14 };
const GRAPH = { node: 1, initializer: 5, output: 12 };
const TENSOR = { dims: 1, name: 8, rawData: 9 };
const NAMES = { [GRAPH.node]: 3, [GRAPH.initializer]: TENSOR.name, [GRAPH.output]: 1 }; // the field with the name

/**
 * @typedef {object} BaseFile
 * @property {Uint8Array} bytes the whole file
 * @property {object} header what it says of itself
 * @property {{kernel: Float32Array, shift: Float32Array}[]} levels what makes base logits [S] of tower features [D]:
 *   `kernel` is [S * D], `shift` [S]
 */

/**
 * @typedef {object} Head
 * @property {number} numClasses C
 * @property {{weight: Float32Array, bias: Float32Array}[]} levels [C * D] and [C] of each, the finest first
 */

/** Open a base, from a file of that name: BaseFile; throws a ReaderError if it is none. */
export function readBase(bytes, name = "FILE") {
  const metadata = readMetadata(bytes);
  const text = metadata.get(BASE_KEY);
  if (text === undefined && isDetector(metadata)) {
    throw new ReaderError("It is a detector, no base to learn from", "Open it in the page that uses a detector.");
  }
  if (text === undefined) {
    const prepare = `If it is a YOLOX, prepare it with: fewbox export --base ${name} -o base.onnx`;
    throw new ReaderError("It is a model, but not prepared to learn from", prepare);
  }
  const header = JSON.parse(text);
  if (header.format_version !== FORMAT_VERSION) {
    const versions = `It has format ${header.format_version}, and this page reads format ${FORMAT_VERSION}`;
    throw new ReaderError(versions, "Take the page from the fewbox that wrote the file.");
  }
  const wanted = new Map(header.levels.flatMap((level) => [[level.columns_weight, null], [level.columns_bias, null]]));
  for (const { number, value } of fieldsOf(graphOf(bytes))) {
    const name = number === GRAPH.initializer ? nameOf(number, value) : undefined;
    if (wanted.has(name)) wanted.set(name, numbersOf(value));
  }
  const levels = header.levels.map((level) => {
    return { kernel: wanted.get(level.columns_weight), shift: wanted.get(level.columns_bias) };
  });
  return { bytes, header, levels };
}

const graphOf = (bytes) => [...fieldsOf(bytes)].find(({ number }) => number === MODEL.graph).value;

/** The name of a node, a constant or an output. */
function nameOf(kind, value) {
  const name = [...fieldsOf(value)].find(({ number }) => number === NAMES[kind]);
  return new TextDecoder().decode(name?.value);
}

/** The numbers of a constant of 32-bit floating point. */
function numbersOf(tensor) {
  const { value } = [...fieldsOf(tensor)].find(({ number }) => number === TENSOR.rawData);
  return new Float32Array(value.slice().buffer); // a copy, as numbers must begin at a multiple of four
}

/**
 * What a detector's file says of itself.
 *
 * `learnt` is what `learn` gives, `photos` are those it learnt from: `{ name, boxes }` of each are kept.
 */
export function headerOf({ header }, learnt, labels, photos) {
  const { numClasses } = learnt.head;
  const config = { ...header.config, num_classes: numClasses, num_novel: numClasses };
  const identity = { architecture: header.architecture, config, labels, score_threshold: learnt.scoreThreshold };
  const last = learnt.losses.at(-1);
  const provenance = {
    fewbox: header.fewbox_version,
    made_in: "a browser",
    recipe: "probe",
    settings: { effort: "quick", seed: learnt.seed },
    photos: photos.map(({ name, boxes }) => ({ name, boxes: boxes.length })),
    final_loss: last.objects + last.background,
    plan: learnt.plan,
    estimate: learnt.estimate,
  };
  return {
    format_version: FORMAT_VERSION,
    fewbox_version: header.fewbox_version,
    input: header.input,
    ...identity,
    precision: "float32",
    base: header.base,
    provenance,
    detector_sha256: digestOf(identity, header.base.weights_sha256, learnt.head),
  };
}

/** What tells this detector from all others. */
function digestOf(identity, baseSha256, { levels }) {
  const parts = [new TextEncoder().encode(JSON.stringify(identity) + baseSha256)];
  for (const { weight, bias } of levels) parts.push(bytesOf(weight), bytesOf(bias));
  return sha256(joined(parts));
}

/** The file of a detector: the base's graph with the numbers of `head`, and `header`, as of `headerOf`. */
export function writeDetector({ bytes, header: { levels, outputs } }, head, header) {
  const put = new Map();
  levels.forEach(({ weight, bias }, level) => {
    put.set(weight, head.levels[level].weight);
    put.set(bias, head.levels[level].bias);
  });
  const dropped = new Set(Object.values(outputs));
  const parts = [];
  for (const { number, value, whole } of fieldsOf(bytes)) {
    if (number === MODEL.graph) parts.push(...field(number, graphWith(value, put, dropped, head.numClasses)));
    else if (number === MODEL.metadata) {
      const entry = [...textField(1, HEADER_KEY), ...textField(2, JSON.stringify(header))];
      parts.push(...field(number, entry));
    } else parts.push(whole);
  }
  return joined(parts);
}

/** The pieces of a graph without what is for learning, and with other numbers in the head. */
function graphWith(graph, put, dropped, numClasses) {
  const parts = [];
  for (const { number, value, whole } of fieldsOf(graph)) {
    const name = number in NAMES ? nameOf(number, value) : "";
    if (name.startsWith("learning/") || (number === GRAPH.output && dropped.has(name))) continue;
    if (number === GRAPH.initializer && put.has(name)) {
      parts.push(...field(number, tensorWith(value, put.get(name), numClasses)));
    } else parts.push(whole);
  }
  return parts;
}

/** The pieces of a constant with other numbers: those of `numClasses` classes in place of one. */
function tensorWith(tensor, numbers, numClasses) {
  const parts = [];
  let isFirst = true;
  for (const { number, whole } of fieldsOf(tensor)) {
    if (number === TENSOR.dims && isFirst) {
      parts.push(Uint8Array.from([...varint(8 * TENSOR.dims), ...varint(numClasses)]));
      isFirst = false;
    } else if (number === TENSOR.rawData) parts.push(...field(number, [bytesOf(numbers)]));
    else parts.push(whole);
  }
  return parts;
}

/** The pieces of a field that is a text or a message, of the pieces of its value. */
function field(number, parts) {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return [Uint8Array.from([...varint(8 * number + 2), ...varint(length)]), ...parts];
}

const textField = (number, text) => field(number, [new TextEncoder().encode(text)]);

function varint(value) {
  const bytes = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return [...bytes, value];
}

const bytesOf = ({ buffer, byteOffset, byteLength }) => new Uint8Array(buffer, byteOffset, byteLength);

function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
