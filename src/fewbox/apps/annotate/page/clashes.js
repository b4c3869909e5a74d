// Photos that somebody else has changed unseen while one did: what each has made of them, until a person decides.

import { applied } from "./history.js";

/** photo -> {mine, theirs, notMine, labels}: its states here and elsewhere, before both became one. */
export class Clashes extends Map {
  /**
   * Note a clash, with the classes there are. Where one is undecided still, its `mine` goes on: by now the photo
   * shows the boxes of both.
   */
  note(photo, mine, theirs, labels) {
    const own = this.get(photo)?.mine ?? mine;
    const ids = new Set(own.boxes.map(({ id }) => id));
    const notMine = new Map(theirs.boxes.filter(({ id }) => !ids.has(id)).map((box) => [box.id, box]));
    this.set(photo, { mine: own, theirs, notMine, labels });
  }

  /** What is changed here since is one's own; but a box of theirs that is again as they had it is theirs. */
  follow(photo, change) {
    const clash = this.get(photo);
    if (!clash) return;
    const { boxes, ...flags } = applied(clash.mine, change);
    const isTheirs = (box) => JSON.stringify(clash.notMine.get(box.id)) === JSON.stringify(box);
    clash.mine = { ...flags, boxes: boxes.filter((box) => !isTheirs(box)) };
  }

  /** A class has another name from here on. */
  rename(label, other) {
    const renamed = (box) => (box.label === label ? { ...box, label: other } : box);
    for (const clash of this.values()) {
      for (const which of ["mine", "theirs"]) {
        clash[which] = { ...clash[which], boxes: clash[which].boxes.map(renamed) };
      }
      clash.notMine = new Map([...clash.notMine].map(([id, box]) => [id, renamed(box)]));
      clash.labels = clash.labels.map((one) => (one === label ? other : one));
    }
  }

  /**
   * What the photo is to be by `which`, "mine" or "theirs"; `state` is what it is now. Boxes of a class that is gone
   * since have the one that it has become, as the photo tells; where it has become none, they are gone with it.
   */
  wanted(photo, which, state, labels) {
    const clash = this.get(photo);
    const isGone = ({ label }) => clash.labels.includes(label) && !labels.includes(label);
    const now = new Map(state.boxes.map(({ id, label }) => [id, label]));
    const became = new Map();
    for (const box of [...clash.mine.boxes, ...clash.theirs.boxes]) {
      if (isGone(box) && now.has(box.id)) became.set(box.label, now.get(box.id));
    }
    const named = (box) => (isGone(box) ? { ...box, label: now.get(box.id) ?? became.get(box.label) } : box);
    const boxes = clash[which].boxes.map(named).filter(({ label }) => label !== undefined);
    const { reviewed } = clash[which];
    // That a class was deleted says nothing of a photo that is without boxes by that.
    return { ...clash[which], boxes, reviewed: reviewed && (boxes.length > 0 || !clash[which].boxes.length) };
  }
}
