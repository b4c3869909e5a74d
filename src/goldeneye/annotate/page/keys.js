// The one table of keys: it drives the handler and the help. A key written twice is an error at start,
// and no other key is taken from the browser. "Mod" is Ctrl, or Command on a Mac.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const arrows = (modifiers = "") => Object.keys(ARROWS).map((arrow) => modifiers + arrow);

const nudge = (act, key, step) => act.nudge(...ARROWS[key.split("+").at(-1)].map((unit) => unit * step));

const stretch = (act, key, step) => act.stretch(...ARROWS[key.split("+").at(-1)].map((unit) => unit * step));

// keys, how they are shown, what the help says, what they do (act: the page's actions; key: which was pressed)
export const KEYS = [
  { group: "Photos" },
  { keys: [" "], shown: "Space", says: "reviewed, and on to the next photo", does: (act) => act.reviewAndNext() },
  { keys: ["d", "PageDown"], shown: "D", says: "next photo", does: (act) => act.step(1) },
  { keys: ["a", "PageUp"], shown: "A", says: "previous photo", does: (act) => act.step(-1) },
  { keys: ["g"], shown: "G", says: "the photo the detector is least sure of", does: (act) => act.goToSuggested() },
  { keys: ["r"], shown: "R", says: "reviewed or not, for a photo without boxes", does: (act) => act.toggleReviewed() },

  { group: "Boxes" },
  { keys: ["w"], shown: "W", says: "new box in the middle", does: (act) => act.newBox() },
  { keys: ["Tab"], shown: "Tab", says: "next box", does: (act) => act.selectNext(1) },
  { keys: ["Shift+Tab"], shown: "Shift Tab", says: "previous box", does: (act) => act.selectNext(-1) },
  { keys: arrows(), shown: "Arrows", says: "move the box by 1 pixel", does: (act, key) => nudge(act, key, 1) },
  { keys: arrows("Shift+"), shown: "Shift Arrows", says: "move it by 10", does: (act, key) => nudge(act, key, 10) },
  { keys: arrows("Alt+"), shown: "Alt Arrows", says: "move its right and lower edge", does: (act, key) => stretch(act, key, 1) },
  { keys: arrows("Alt+Shift+"), shown: "Alt Shift Arrows", says: "move them by 10", does: (act, key) => stretch(act, key, 10) },
  { keys: ["Delete", "Backspace", "x"], shown: "Delete", says: "delete the box", does: (act) => act.deleteSelected() },
  { keys: ["c"], shown: "C", says: "copy the boxes of the photo before", does: (act) => act.copyFromPrevious() },
  { keys: ["i"], shown: "I", says: "ignore: neither object nor background", does: (act) => act.toggleIgnore() },
  { keys: ["Mod+z"], shown: "Ctrl Z", says: "undo", does: (act) => act.undo() },
  { keys: ["Mod+Shift+z", "Mod+y"], shown: "Ctrl Shift Z", says: "redo", does: (act) => act.redo() },

  { group: "Classes" },
  { keys: [..."123456789"], shown: "1 – 9", says: "class of the box, and of the next ones", does: (act, key) => act.chooseClass(Number(key) - 1) },
  { keys: ["n"], shown: "N", says: "new class", does: (act) => act.askForClass() },

  { group: "Proposals" },
  { keys: ["Enter"], shown: "Enter", says: "accept one", does: (act) => act.acceptOne() },
  { keys: ["Shift+Enter"], shown: "Shift Enter", says: "accept all", does: (act) => act.acceptAll() },

  { group: "View" },
  { keys: ["+", "="], shown: "+", says: "larger (also the wheel, or two fingers)", does: (act) => act.zoom(1.25) },
  { keys: ["-"], shown: "−", says: "smaller (Space and drag moves the photo)", does: (act) => act.zoom(0.8) },
  { keys: ["0", "f"], shown: "F", says: "the whole photo", does: (act) => act.fit() },
  { keys: ["Escape"], shown: "Esc", says: "let go of the box", does: (act) => act.letGo() },
  { keys: ["?"], shown: "?", says: "these keys", does: (act) => act.showHelp() },
];

/** Map each key to its entry, or throw: two entries with one key would hide one of them. */
export function keyTable(entries) {
  const table = new Map();
  for (const entry of entries) {
    for (const key of entry.keys ?? []) {
      if (table.has(key)) throw new Error(`two entries for the key ${key}: ${table.get(key).says}; ${entry.says}`);
      table.set(key, entry);
    }
  }
  return table;
}

/** The entry for a keydown event: by what is written on the key, else by where it lies on the keyboard. */
export function entryFor(table, event) {
  const written = table.get(keyName(event, event.key));
  const place = /^(?:Key([A-Z])|Digit([0-9]))$/.exec(event.code ?? "");
  // Cyrillic and other letters stand for the Latin ones in their place; French digits need Shift to be written.
  const latin = place?.[1] && !/^[\x20-\x7e]$/.test(event.key) ? place[1] : null;
  const digit = place?.[2] && !event.shiftKey ? place[2] : null;
  const key = keyName(event, latin ?? digit ?? event.key);
  return written ? { entry: written, key: keyName(event, event.key) } : { entry: table.get(key), key };
}

function keyName({ ctrlKey, metaKey, altKey, shiftKey }, written) {
  const key = written.length === 1 ? written.toLowerCase() : written;
  // A sign such as "?" may need Shift to be written; only with letters, Space and named keys does it count.
  const saysShift = key.length > 1 || /[a-z ]/.test(key);
  return [
    ctrlKey || metaKey ? "Mod+" : "",
    altKey ? "Alt+" : "",
    shiftKey && saysShift ? "Shift+" : "",
    key,
  ].join("");
}
