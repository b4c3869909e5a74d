// The one table of keys: it drives the handler and the help. A key written twice is an error at start,
// and no other key is taken from the browser. "Mod" is Ctrl, or Command on a Mac.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const arrows = (modifiers = "") => Object.keys(ARROWS).map((arrow) => modifiers + arrow);

/** Where an arrow points, `step` pixels far: [dx, dy]. */
const way = (key, step) => ARROWS[key.split("+").at(-1)].map((unit) => unit * step);

/** Keys, how the help shows them and what it says, and what they do with the actions of the page. */
const entry = (keys, shown, says, does) => ({ keys, shown, says, does });

/** The same for what a key held down does only once, such as what is turned on and off. */
const once = (...row) => ({ ...entry(...row), isOnce: true });

export const KEYS = [
  { group: "Photos" },
  entry([" "], ["Space"], "reviewed, and on to the next photo", (act) => act.reviewAndNext()),
  entry(["d", "PageDown"], ["D"], "next photo", (act) => act.step(1)),
  entry(["a", "PageUp"], ["A"], "previous photo", (act) => act.step(-1)),
  entry(["Home"], ["Home"], "first photo", (act) => act.goToEnd(-1)),
  entry(["End"], ["End"], "last photo", (act) => act.goToEnd(1)),
  entry(["e"], ["E"], "next photo without boxes", (act) => act.goToEmpty()),
  entry(["j"], ["J"], "jump to a photo: type a part of its name", (act) => act.search()),
  entry(["g"], ["G"], "the photo the detector is least sure of", (act) => act.goToSuggested()),
  once(["r"], ["R"], "reviewed or not, for a photo without boxes", (act) => act.toggleReviewed()),
  once(["o"], ["O"], "leave the photo out, or take it in again", (act) => act.toggleLeftOut()),
  once(["Shift+Delete", "Shift+Backspace"], ["Shift", "Delete"], "delete the photo", (act) =>
    act.trashPhoto(),
  ),
  once(["t"], ["T"], "try the detector on other photos", (act) => act.tryIt()),
  entry(["l"], ["L"], "look again where a proposal came too late", (act) => act.lookAgain()),

  { group: "Boxes" },
  entry(["w"], ["W"], "new box in the middle", (act) => act.newBox()),
  entry(["Tab"], ["Tab"], "next box", (act) => act.selectNext(1)),
  entry(["Shift+Tab"], ["Shift", "Tab"], "previous box", (act) => act.selectNext(-1)),
  entry(arrows(), ["Arrows"], "move the box by 1 pixel", (act, key) => act.nudge(...way(key, 1))),
  entry(arrows("Shift+"), ["Shift", "Arrows"], "move it by 10", (act, key) => act.nudge(...way(key, 10))),
  entry(arrows("Alt+"), ["Alt", "Arrows"], "move its right and lower edge", (act, key) =>
    act.stretch(...way(key, 1)),
  ),
  entry(arrows("Alt+Shift+"), ["Alt", "Shift", "Arrows"], "move them by 10", (act, key) =>
    act.stretch(...way(key, 10)),
  ),
  entry(["Delete", "Backspace", "x"], ["Delete"], "delete the box, turn down the proposal", (act) =>
    act.deleteSelected(),
  ),
  once(["i"], ["I"], "ignore: neither object nor background", (act) => act.toggleIgnore()),
  entry(["Mod+z"], ["Ctrl", "Z"], "undo, also Space: back to the photo before", (act) => act.undo()),
  entry(["Mod+Shift+z", "Mod+y"], ["Ctrl", "Shift", "Z"], "redo", (act) => act.redo()),

  { group: "Copies" },
  once(["Mod+c"], ["Ctrl", "C"], "copy the box; if none is selected, all boxes", (act) => act.copy()),
  once(["Mod+v"], ["Ctrl", "V"], "paste, also in another photo", (act) => act.paste()),
  once(["Mod+d"], ["Ctrl", "D"], "duplicate the box", (act) => act.duplicate()),
  entry(["c"], ["C"], "copy the boxes of the photo before", (act) => act.copyFromPrevious()),

  { group: "Classes" },
  entry([..."123456789"], ["1 – 9"], "class of the box, and of the next ones", (act, key) =>
    act.chooseClass(Number(key) - 1),
  ),
  entry(["n"], ["N"], "new class", (act) => act.askForClass()),

  { group: "Proposals" },
  entry(["Enter"], ["Enter"], "accept one", (act) => act.acceptOne()),
  entry(["Shift+Enter"], ["Shift", "Enter"], "accept all", (act) => act.acceptAll()),

  { group: "View" },
  entry(["+", "="], ["+"], "larger (also the wheel, or two fingers)", (act) => act.zoom(1.25)),
  entry(["-"], ["−"], "smaller (Space and drag moves the photo)", (act) => act.zoom(0.8)),
  entry(["0", "f"], ["F"], "the whole photo", (act) => act.fit()),
  once(["z"], ["Z"], "the selected box, enlarged; again: the whole photo", (act) => act.zoomToBox()),
  once(["h"], ["H"], "hide all boxes, or show them again", (act) => act.toggleBoxes()),
  once(["Shift+h"], ["Shift", "H"], "hide the class of the box, or show it again", (act) => act.toggleClass()),
  once(["b"], ["B"], "brightness and contrast", (act) => act.toggleLook()),
  once(["Shift+b"], ["Shift", "B"], "brightness and contrast of the photo itself", (act) => act.resetLook()),
  entry(["Escape"], ["Esc"], "let go of the box", (act) => act.letGo()),
  entry(["?"], ["?"], "these keys", (act) => act.showHelp()),
];

/** The keys while the page asks about proposals that nobody has decided on; with others one goes on drawing. */
export const ANSWERS = [
  entry([" ", "Enter", "Shift+Enter"], ["Space"], "accept", (act) => act.answer(true)),
  entry(["n", "Shift+ "], ["N"], "turn down", (act) => act.answer(false)),
  entry(["Escape"], ["Esc"], "back", (act) => act.back()),
];

/** Map each key to its entry, or throw: two entries with one key would hide one of them. */
export function keyTable(entries) {
  const table = new Map();
  for (const row of entries) {
    for (const key of row.keys ?? []) {
      const other = table.get(key);
      if (other) throw new Error(`two entries for the key ${key}: ${other.says}; ${row.says}`);
      table.set(key, row);
    }
  }
  return table;
}

/** The entry for a keydown event: by what is written on the key, else by where it lies on the keyboard. */
export function entryFor(table, event) {
  const written = table.get(keyName(event, event.key));
  const place = /^(?:Key([A-Z])|Digit([0-9]))$/.exec(event.code ?? "");
  // Cyrillic and other letters stand for the Latin ones in their place; French digits need Shift.
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
