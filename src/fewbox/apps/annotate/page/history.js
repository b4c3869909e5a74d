// Changes to the boxes of one photo, and taking them back. Pure.
//
// The state of a photo is {boxes, reviewed, left_out}; a box is {id, box, label, ignore}.
// A change is {put: [box], delete: [id], reviewed, left_out}: `put` replaces the box of that id or adds it, and
// the last two are there only if they change. Doing a change twice is doing it once, so it is safe to send again.

export const NO_CHANGE = Object.freeze({ put: [], delete: [] });

const FLAGS = ["reviewed", "left_out"];

/** The flags that either says, as the later one says them. */
function flagsOf(first, second) {
  const flags = FLAGS.map((flag) => [flag, second[flag] ?? first[flag]]);
  return Object.fromEntries(flags.filter(([, value]) => value !== undefined));
}

/** A name for a new box that no other window will give to another. */
export function newId() {
  const bytes = [...crypto.getRandomValues(new Uint8Array(12))];
  return bytes.map((byte) => byte.toString(36).padStart(2, "0")).join("");
}

export function applied(state, change) {
  const put = new Map(change.put.map((box) => [box.id, box]));
  const gone = new Set(change.delete);
  const known = new Set(state.boxes.map(({ id }) => id));
  const boxes = [
    ...state.boxes.filter(({ id }) => !gone.has(id)).map((box) => put.get(box.id) ?? box),
    ...change.put.filter(({ id }) => !known.has(id) && !gone.has(id)),
  ];
  return { ...state, boxes, ...flagsOf(state, change) };
}

/** The change that takes `change` back from what it makes of `state`. */
export function inverse(state, change) {
  const before = new Map(state.boxes.map((box) => [box.id, box]));
  const touched = [...new Set([...change.put.map(({ id }) => id), ...change.delete])];
  return {
    put: touched.filter((id) => before.has(id)).map((id) => before.get(id)),
    delete: touched.filter((id) => !before.has(id)),
    ...Object.fromEntries(FLAGS.filter((flag) => flag in change).map((flag) => [flag, state[flag] ?? false])),
  };
}

/** The change that makes `to` of `from`. */
export function difference(from, to) {
  const known = new Map(from.boxes.map((box) => [box.id, JSON.stringify(box)]));
  const wanted = new Set(to.boxes.map(({ id }) => id));
  const flags = FLAGS.filter((flag) => (from[flag] ?? false) !== (to[flag] ?? false));
  return {
    put: to.boxes.filter((box) => known.get(box.id) !== JSON.stringify(box)),
    delete: from.boxes.filter(({ id }) => !wanted.has(id)).map(({ id }) => id),
    ...Object.fromEntries(flags.map((flag) => [flag, to[flag] ?? false])),
  };
}

/** One change that does what `first` and then `second` do. */
export function combined(first, second) {
  const put = new Map(first.put.map((box) => [box.id, box]));
  const gone = new Set(first.delete);
  for (const id of second.delete) {
    put.delete(id);
    gone.add(id);
  }
  for (const box of second.put) {
    gone.delete(box.id);
    put.set(box.id, box);
  }
  return { put: [...put.values()], delete: [...gone], ...flagsOf(first, second) };
}

/** What is left to do of `first` where `second` says something else of the same boxes and flags. */
export function withoutThoseOf(first, second) {
  const said = new Set([...second.put.map(({ id }) => id), ...second.delete]);
  const flags = FLAGS.filter((flag) => flag in first && !(flag in second));
  return {
    put: first.put.filter(({ id }) => !said.has(id)),
    delete: first.delete.filter((id) => !said.has(id)),
    ...Object.fromEntries(flags.map((flag) => [flag, first[flag]])),
  };
}

export function isNothing(change) {
  return change.put.length + change.delete.length === 0 && !FLAGS.some((flag) => flag in change);
}

/** What was done to one photo, and what was taken back. */
export class History {
  #done = [];
  #undone = [];

  /**
   * Remember `change`, made to `state`. Changes in a row with one `row` name are taken back together.
   * `more` is kept with the step; its `order` is that of the last change.
   */
  add(state, change, row = null, more = {}) {
    const step = { ...more, change, back: inverse(state, change), row };
    const last = this.#done.at(-1);
    if (row !== null && last?.row === row && this.#undone.length === 0) {
      last.change = combined(last.change, change);
      last.back = combined(step.back, last.back);
      last.order = step.order;
    } else {
      this.#done.push(step);
    }
    this.#undone = [];
  }

  /** The step that undo would take back, or undefined. */
  get last() {
    return this.#done.at(-1);
  }

  /** The step that redo would do again, or undefined. */
  get next() {
    return this.#undone.at(-1);
  }

  /** The change that takes the last one back, or null. */
  undo() {
    const step = this.#done.pop();
    if (!step) return null;
    this.#undone.push(step);
    return step.back;
  }

  redo() {
    const step = this.#undone.pop();
    if (!step) return null;
    this.#done.push({ ...step, row: null });
    return step.change;
  }
}

/** The histories of all photos, by their ids. */
export class Histories {
  #histories = new Map();
  #order = 0; // counts the steps of all photos

  of(id) {
    if (!this.#histories.has(id)) this.#histories.set(id, new History());
    return this.#histories.get(id);
  }

  forget(id) {
    this.#histories.delete(id);
  }

  add(id, state, change, row, more) {
    this.of(id).add(state, change, row, { ...more, order: this.tick() });
  }

  /** The number of the next step; those of what changes many photos are counted too. */
  tick() {
    this.#order += 1;
    return this.#order;
  }

  /** What was done last of all: {id, step}, or null. */
  get last() {
    const steps = [...this.#histories].map(([id, { last }]) => ({ id, step: last })).filter(({ step }) => step);
    return steps.reduce((newest, one) => (newest?.step.order > one.step.order ? newest : one), null);
  }

  exchange(histories = new Map()) {
    const before = this.#histories;
    this.#histories = histories;
    return before;
  }
}
