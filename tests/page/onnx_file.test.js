import assert from "node:assert/strict";
import { test } from "node:test";
import { readHeader, readMetadata } from "../../examples/web/onnx_file.js";

const bytesOf = (text) => [...new TextEncoder().encode(text)];

function varint(value) {
  const bytes = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return [...bytes, value];
}

const message = (number, bytes) => [...varint(8 * number + 2), ...varint(bytes.length), ...bytes];
const whole = (number, value) => [...varint(8 * number), ...varint(value)];
const entry = (key, value) => message(14, [...message(1, bytesOf(key)), ...message(2, bytesOf(value))]);
const GRAPH = message(7, Array(300).fill(0));

const fileOf = (...parts) => new Uint8Array(parts.flat());
const exported = (changes = {}) =>
  fileOf(whole(1, 10), GRAPH, entry("fewbox", JSON.stringify({ format_version: 1, input: "photos", ...changes })));

test("keys and values are read, whatever else the file holds and in whatever order", () => {
  const fixed = [...varint(8 * 50 + 5), 1, 2, 3, 4, ...varint(8 * 51 + 1), 1, 2, 3, 4, 5, 6, 7, 8];
  const bytes = fileOf(entry("a", "1"), whole(5, 2 ** 40), fixed, GRAPH, entry("färbe", "黄"), entry("b", "x".repeat(500)));
  assert.deepEqual([...readMetadata(bytes)], [["a", "1"], ["färbe", "黄"], ["b", "x".repeat(500)]]);
  assert.deepEqual([...readMetadata(fileOf(GRAPH))], []);
});

test("the header is what fewbox wrote", () => {
  assert.deepEqual(readHeader(exported({ labels: ["Ente"] })).labels, ["Ente"]);
});

test("a file cut short anywhere, and what is no ONNX file, is refused", () => {
  const file = exported();
  for (let length = 0; length < file.length; length++) {
    assert.throws(() => readHeader(file.subarray(0, length)), { hint: /fewbox export/ }, `${length} bytes`);
  }
  const foreign = [bytesOf("%PDF-1.7 and so on"), [0x89, 0x50, 0x4e, 0x47], Array(64).fill(255), Array(64).fill(0), [0x3a, 255]];
  for (const bytes of foreign) assert.throws(() => readHeader(fileOf(bytes)), { message: /not an ONNX file/ });
});

test("a length that lies is refused", () => {
  const lies = [[...varint(8 * 7 + 2), ...varint(2 ** 50), 1], [...varint(8 * 7 + 2), ...Array(10).fill(255), 1]];
  for (const bytes of lies) assert.throws(() => readHeader(fileOf(bytes)), { message: /not an ONNX file/ });
});

test("other models are told from ours, and why ours cannot be used", () => {
  assert.throws(() => readHeader(fileOf(GRAPH)), { message: /not one of fewbox's/ });
  assert.throws(() => readHeader(fileOf(GRAPH, entry("fewbox", "{"))), { message: /header is damaged/ });
  assert.throws(() => readHeader(fileOf(GRAPH, entry("fewbox", "null"))), { message: /header is damaged/ });
  assert.throws(() => readHeader(exported({ format_version: 2 })), { message: /format 2/ });
  assert.throws(() => readHeader(exported({ input: "images" })), { message: /--raw/, hint: /without --raw/ });
});
