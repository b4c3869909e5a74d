// What the detector proposes, photo by photo, and what a person has decided about it. A proposal is decided
// once it is accepted or turned down; one that is neither must never become background in silence.

import { iou } from "./geometry.js";
import { newId } from "./history.js";

const SAME_OBJECT = 0.5; // IoU from which two boxes mean one object

export class Proposals {
  #store;
  #labels; // a function: the classes there are
  #renamed = new Map(); // what was a class -> what it is now, or null if it is gone
  #found = new Map(); // photo id -> [{id, box, label, score}]
  #decided = new Map(); // photo id -> [{box, label}]
  #awaited = new Set(); // ids of photos for which more may come
  #count = 0; // of all that was ever proposed

  constructor(store, labels) {
    this.#store = store;
    this.#labels = labels;
  }

  /** A class was renamed or merged into `other`, or is gone: what was proposed of it goes with it. */
  relabel(label, other) {
    for (const [before, now] of this.#renamed) if (now === label) this.#renamed.set(before, other);
    this.#renamed.set(label, other);
    if (other === null) return; // what is of no class is not shown, and comes back with it
    const items = [...this.#found.values(), ...this.#decided.values()].flat();
    for (const item of items) if (item.label === label) item.label = other;
  }

  /** What a detector has found that has learnt from classes of before, by the classes there are now. */
  relabelled(boxes) {
    const now = (label) => (this.#labels().includes(label) ? label : (this.#renamed.get(label) ?? label));
    return boxes.map((box) => ({ ...box, label: now(box.label) }));
  }

  /** Whether this was a class, and is none any more. */
  isGone(label) {
    return this.#renamed.has(label) && !this.#labels().includes(label);
  }

  /** Ask what is proposed for a photo; true if more is to come. */
  async read(id) {
    this.#awaited.add(id);
    const { boxes, pending } = await this.#store.proposals(id);
    this.#found.set(id, this.#named(this.relabelled(boxes), this.#found.get(id) ?? []));
    if (!pending) this.#awaited.delete(id);
    return Boolean(pending);
  }

  /**
   * Give each box an id, which no box of one's own has: that of the proposal `before` that means the same object,
   * or else one that nothing had yet. The place in an answer is none, as the next round has another order.
   */
  #named(boxes, before) {
    const isSame = (box, old) => old.label === box.label && iou(old.box, box.box) > SAME_OBJECT;
    const closeness = ([box, old]) => iou(box.box, old.box);
    const pairs = boxes.flatMap((box) => before.filter((old) => isSame(box, old)).map((old) => [box, old]));
    const ids = new Map(); // box -> id
    const used = new Set();
    for (const [box, { id }] of pairs.sort((a, b) => closeness(b) - closeness(a))) {
      if (ids.has(box) || used.has(id)) continue;
      ids.set(box, id);
      used.add(id);
    }
    return boxes.map((box) => ({ ...box, id: ids.get(box) ?? `:${this.#count++}` }));
  }

  /** Whether the answer for a photo is still to come. */
  isAwaited(id) {
    return this.#awaited.has(id);
  }

  /** What nobody has decided on and none of `boxes` says already, the surest first. */
  undecided(id, boxes) {
    const isDecided = ({ box, label }) =>
      !this.#labels().includes(label) || // accepted, it would bring back a class that somebody has deleted
      boxes.some((other) => iou(box, other.box) > SAME_OBJECT) ||
      this.#decidedOf(id).some((other) => other.label === label && iou(box, other.box) > SAME_OBJECT);
    return (this.#found.get(id) ?? []).filter((item) => !isDecided(item)).sort((a, b) => b.score - a.score);
  }

  decide(id, items) {
    if (items.length) this.#decided.set(id, [...this.#decidedOf(id), ...items]);
  }

  /** Take decisions back: those on `items`, or all. */
  recall(id, items = this.#decidedOf(id)) {
    this.#decided.set(id, this.#decidedOf(id).filter((item) => !items.includes(item)));
  }

  #decidedOf(id) {
    return this.#decided.get(id) ?? [];
  }
}

/** A proposal as a box of one's own; a box stays as it is. */
export function asBox({ id, box, label, ignore = false, score }) {
  return { id: score === undefined ? id : newId(), box, label, ignore };
}
