import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ANSWERS, KEYS, entryFor, keyTable } from "../../src/fewbox/apps/annotate/page/keys.js";

const TABLE = keyTable(KEYS);

function pressed(key, modifiers = {}, code = "", table = TABLE) {
  const calls = [];
  const act = new Proxy({}, { get: (_, name) => (...values) => calls.push([name, ...values]) });
  const { entry, key: name } = entryFor(table, { key, code, ...modifiers });
  entry?.does(act, name);
  return calls[0] ?? null;
}

test("a key written twice is an error that names both entries", () => {
  const twice = [{ keys: ["a"], says: "first" }, { keys: ["b", "a"], says: "second" }];
  assert.throws(() => keyTable(twice), /two entries for the key a: first; second/);
});

test("every entry has keys, is shown, and says what it does", () => {
  for (const entry of KEYS.filter(({ group }) => !group)) {
    assert.ok(entry.keys.length && entry.shown.length && entry.says && entry.does, JSON.stringify(entry));
  }
});

test("keys do what they say", () => {
  assert.deepEqual(pressed("ArrowLeft"), ["nudge", -1, 0]);
  assert.deepEqual(pressed("ArrowDown", { shiftKey: true }), ["nudge", 0, 10]);
  assert.deepEqual(pressed("ArrowRight", { altKey: true }), ["stretch", 1, 0]);
  assert.deepEqual(pressed("ArrowUp", { altKey: true, shiftKey: true }), ["stretch", 0, -10]);
  assert.deepEqual(pressed("3"), ["chooseClass", 2]);
  assert.deepEqual(pressed("z", { ctrlKey: true }), ["undo"]);
  assert.deepEqual(pressed("z", { metaKey: true }), ["undo"]);
  assert.deepEqual(pressed("Z", { ctrlKey: true, shiftKey: true }), ["redo"]);
  assert.deepEqual(pressed("?", { shiftKey: true }), ["showHelp"]);
  assert.deepEqual(pressed(" "), ["reviewAndNext"]);
  assert.deepEqual(pressed("Enter", { shiftKey: true }), ["acceptAll"]);
});

test("copies, what is seen, and jumps", () => {
  for (const modifier of [{ ctrlKey: true }, { metaKey: true }]) {
    assert.deepEqual(pressed("c", modifier), ["copy"]);
    assert.deepEqual(pressed("v", modifier), ["paste"]);
    assert.deepEqual(pressed("d", modifier), ["duplicate"]);
  }
  assert.deepEqual(pressed("c"), ["copyFromPrevious"]);
  assert.deepEqual(pressed("h"), ["toggleBoxes"]);
  assert.deepEqual(pressed("H", { shiftKey: true }), ["toggleClass"]);
  assert.deepEqual(pressed("b"), ["toggleLook"]);
  assert.deepEqual(pressed("B", { shiftKey: true }), ["resetLook"]);
  assert.deepEqual(pressed("z"), ["zoomToBox"]);
  assert.deepEqual(pressed("j"), ["search"]);
  assert.deepEqual(pressed("e"), ["goToEmpty"]);
  assert.deepEqual(pressed("Home"), ["goToEnd", -1]);
  assert.deepEqual(pressed("End"), ["goToEnd", 1]);
});

test("what is turned on and off, or copied, happens once while its key is held down", () => {
  for (const key of ["Mod+v", "Mod+d", "h", "Shift+h", "b", "z", "i", "r"]) assert.ok(TABLE.get(key).isOnce, key);
  for (const key of ["d", "ArrowUp", "Mod+z", "+"]) assert.ok(!TABLE.get(key).isOnce, key);
});

test("what is asked about proposals is answered by keys of its own", () => {
  const answered = (key, modifiers) => pressed(key, modifiers, "", keyTable(ANSWERS));
  for (const key of [" ", "Enter"]) assert.deepEqual(answered(key), ["answer", true]);
  assert.deepEqual(answered("n"), ["answer", false]);
  assert.deepEqual(answered(" ", { shiftKey: true }), ["answer", false]);
  assert.deepEqual(answered("Escape"), ["back"]);
  assert.equal(answered("d"), null);
});

test("Caps Lock changes nothing", () => {
  assert.deepEqual(pressed("D"), ["step", 1]);
});

test("keyboards that write other letters or signs there", () => {
  assert.deepEqual(pressed("в", {}, "KeyD"), ["step", 1]); // Russian
  assert.deepEqual(pressed("é", {}, "Digit2"), ["chooseClass", 1]); // French: digits need Shift
  assert.deepEqual(pressed("2", { shiftKey: true }, "Digit2"), ["chooseClass", 1]);
  assert.deepEqual(pressed("z", {}, "KeyW"), ["zoomToBox"]); // French: a Latin letter stands for itself
  assert.deepEqual(pressed("я", { ctrlKey: true }, "KeyZ"), ["undo"]);
});

test("what is not in the table is left to the browser", () => {
  for (const [key, modifiers] of [["F5", {}], ["t", { ctrlKey: true }], ["f", { ctrlKey: true }], ["r", { ctrlKey: true }], ["q", {}], ["!", { shiftKey: true }]]) {
    assert.equal(pressed(key, modifiers, key === "!" ? "Digit1" : ""), null);
  }
});

test("the docs list every key", () => {
  const docs = readFileSync(new URL("../../docs/annotate.md", import.meta.url), "utf8");
  for (const { shown, says } of KEYS.filter(({ group }) => !group)) {
    assert.ok(docs.includes(says), says);
    assert.ok(docs.includes(shown.join(" ")), shown.join(" "));
  }
});
