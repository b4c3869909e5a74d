// What a person does with the boxes of the open photo: what keys, buttons and the pointer do.

import { iou, isBox, moved, resampled, resized } from "./geometry.js";
import { NO_CHANGE, applied, newId } from "./history.js";
import { Project } from "./project.js";
import { asBox } from "./proposals.js";
import { described } from "./words.js";

export class Session extends Project {
  select(id) {
    this.question = null;
    this.selected = this.held = id;
    const item = this.selectedItem;
    if (item) this.say(described(item));
    this.changed();
  }

  /** Select the item after or before the selected one; false if there is none further that way. */
  selectNext(direction) {
    const ids = this.items.map(({ id }) => id);
    const at = ids.indexOf(this.selected);
    const next = at < 0 ? (direction > 0 ? 0 : ids.length - 1) : at + direction;
    this.select(ids[next] ?? null);
    return ids[next] !== undefined;
  }

  letGo() {
    this.draft = null;
    this.select(null);
  }

  setDraft(draft) {
    this.draft = draft;
    this.dispatchEvent(new Event("draft"));
  }

  /** Add a box of the active class; where there is no class yet, its name is asked for first. */
  async draw(box) {
    if (!this.state || !isBox(box)) return this.setDraft(null);
    const photo = this.current;
    if (!this.labels.length) {
      this.setDraft({ id: null, box, label: "" });
      const label = await this.askForLabel();
      if (photo !== this.current || !label) return this.setDraft(null);
      this.addClass(label);
    }
    this.draft = null;
    this.#put({ id: newId(), box, label: this.labels[this.active], ignore: false });
  }

  /** Keep a box. What was held is held on; what has just been drawn is not, so that a drag in it draws. */
  #put(box, { before = box, ...more } = {}) {
    this.held = this.held === before.id ? box.id : null;
    this.selected = box.id;
    this.change({ put: [box], delete: [] }, { ...more, decided: before.score === undefined ? [] : [before] });
    this.say(described(box));
  }

  /** Give an item another place; a proposal becomes a box by that. */
  replace(item, box, row = null) {
    this.draft = null;
    this.#put({ ...asBox(item), box }, { before: item, row });
  }

  nudge(dx, dy) {
    this.#edit("nudge", (box) => moved(box, dx, dy, this.current));
  }

  /** Move the right edge, or the lower one. */
  stretch(dx, dy) {
    this.#edit("stretch", (box) => resized(box, dx ? "e" : "s", dx, dy, this.current));
  }

  #edit(row, change) {
    const item = this.selectedItem;
    if (item) this.replace(item, change(item.box), `${row} ${item.id}`);
    else this.tell("no box is selected; Tab selects one");
  }

  deleteSelected() {
    const item = this.selectedItem;
    if (!item) return;
    const next = this.items[this.items.indexOf(item) + 1];
    if (item.score === undefined) this.change({ put: [], delete: [item.id] });
    else this.change(NO_CHANGE, { decided: [item] });
    this.select(next?.id ?? null);
    this.held = null; // nobody has picked it up
    this.say(item.score === undefined ? `${item.label} deleted` : `${item.label} turned down`);
  }

  toggleIgnore() {
    const item = this.selectedItem;
    if (item) this.#put({ ...asBox(item), ignore: !item.ignore }, { before: item });
  }

  /** Copy the boxes of the photo before, at the same place; what is there already stays single. */
  async copyFromPrevious() {
    const photo = this.current;
    const previous = this.photos[this.photos.indexOf(photo) - 1];
    if (!previous || !this.state) return this.tell("there is no photo before this one");
    const before = await this.store.photo(previous.id);
    if (photo !== this.current) return undefined;
    const { boxes } = applied(before, this.saver.pending(previous.id));
    const copies = boxes.map((box) => ({ ...box, id: newId(), box: resampled(box.box, before, photo) }));
    const isNew = (copy) => !this.state.boxes.some((box) => iou(copy.box, box.box) > 0.95);
    const put = copies.filter((copy) => isBox(copy.box) && isNew(copy));
    if (put.length) this.change({ put, delete: [] });
    return this.tell(`${put.length} copied from ${previous.name}`);
  }

  /** Make class `number` the active one, and that of the selected box. */
  chooseClass(number) {
    const label = this.labels[number];
    if (!label) return this.tell(`there is no class ${number + 1}`);
    this.active = number;
    const item = this.selectedItem;
    if (!item) this.tell(`next boxes: ${label}`);
    else if (item.label !== label) {
      this.#put({ ...asBox(item), label }, { before: item });
      this.tell(`${item.label} is now ${label}, and so are the next boxes`);
    }
    return this.changed();
  }

  addClass(label) {
    if (!this.labels.includes(label)) {
      this.labels = [...this.labels, label];
      this.saver.addLabels([label]);
    }
    this.chooseClass(this.labels.indexOf(label));
  }

  async renameClass(label, other) {
    if (this.saver.status.kind !== "saved") return this.tell("not now: wait until everything is saved");
    this.labels = (await this.store.labels({ rename: { [label]: other } })).labels;
    this.forgetHistory(); // what they would bring back has the old label
    return this.refresh();
  }

  async removeClass(label) {
    this.labels = (await this.store.labels({ remove: [label] })).labels;
    this.active = 0;
    this.changed();
  }

  acceptOne() {
    const item = this.proposals.find(({ id }) => id === this.selected) ?? this.proposals[0];
    if (!item) return this.tell("nothing is proposed here");
    this.#put(asBox(item), { before: item });
    if (this.proposals.length) this.selected = this.proposals[0].id;
    this.held = null;
    return this.changed();
  }

  acceptAll() {
    const items = this.proposals;
    const put = items.map((item) => asBox(item));
    if (put.length) this.change({ put, delete: [] }, { decided: items });
    this.tell(`${put.length} accepted`);
  }
}
