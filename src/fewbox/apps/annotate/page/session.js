// What a person does with the boxes of the open photo: what keys, buttons and the pointer do.

import { SAME_PLACE, beside, iou, isBox, moved, resampled, resized } from "./geometry.js";
import { NO_CHANGE, applied, newId } from "./history.js";
import { Keeping } from "./keeping.js";
import { asBox } from "./proposals.js";
import { bestMatch, counted, described, filterOf, isShown } from "./words.js";

export class Session extends Keeping {
  hidesAll = false; // no box and no proposal is shown; what is saved stays as it is
  hiddenLabels = new Set(); // nor those of these classes
  #copied = null; // {boxes, from}, where `from` is the size of their photo: {width, height}

  select(id) {
    this.question = null;
    this.selected = this.held = id;
    const item = this.selectedItem;
    if (item) this.#reveal([item]);
    if (item) this.say(described(item));
    this.changed();
  }

  /** Select the item after or before the selected one; false if there is none further that way. */
  selectNext(direction) {
    const ids = this.shownItems.map(({ id }) => id);
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
    this.#reveal([box]);
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
    const next = this.shownItems[this.shownItems.indexOf(item) + 1];
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
    const isNew = (copy) => !this.state.boxes.some((box) => iou(copy.box, box.box) > SAME_PLACE);
    const put = copies.filter((copy) => isBox(copy.box) && isNew(copy));
    if (put.length) this.#add(put);
    return this.tell(`${put.length} copied from ${previous.name}`);
  }

  /** Remember the selected item, or all boxes in sight if none is selected, for `paste`. */
  copy() {
    const { selectedItem: item, current } = this;
    const seen = item ? [item] : this.shownItems.filter(({ score }) => score === undefined);
    const boxes = seen.map(asBox);
    if (!boxes.length) return this.tell("there is no box to copy");
    this.#copied = { boxes, from: { width: current.width, height: current.height } };
    return this.tell(`${item?.label ?? counted(boxes.length, "box", "boxes")} copied`);
  }

  /** Add the boxes copied at the same place in this photo, or beside it where that is taken; false without any. */
  paste() {
    if (!this.#copied) this.tell("no box has been copied yet");
    if (!this.state || !this.#copied) return false; // the browser may have photos to paste
    const { boxes, from } = this.#copied;
    const others = this.state.boxes.map(({ box }) => box);
    const place = ({ box }) => beside(resampled(box, from, this.current), others, this.current);
    const put = boxes.map((box) => ({ ...box, id: newId(), box: place(box) })).filter(({ box }) => isBox(box));
    if (!put.length) return this.tell("what was copied is too small for this photo");
    this.#add(put);
    return this.tell(`${put.length === 1 ? put[0].label : `${put.length} boxes`} pasted`);
  }

  duplicate() {
    const item = this.selectedItem;
    if (!item) return this.tell("no box is selected; Tab selects one");
    const others = this.items.map(({ box }) => box);
    this.#add([{ ...asBox(item), id: newId(), box: beside(item.box, others, this.current) }]);
    return this.tell(`${item.label} duplicated`);
  }

  /** Add boxes that were made elsewhere; a single one can be dragged to its place at once. */
  #add(put) {
    const unknown = [...new Set(put.map(({ label }) => label))].filter((label) => !this.labels.includes(label));
    if (unknown.length) {
      this.labels = [...this.labels, ...unknown];
      this.saver.addLabels(unknown);
    }
    this.#reveal(put);
    this.selected = this.held = put.length === 1 ? put[0].id : null;
    this.change({ put, delete: [] });
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
    if (!this.isSettled()) return;
    const says = { done: `${label} is ${other} now`, undone: `${other} is ${label} again` };
    const back = () => this.#rename(other, label);
    await this.doStep({ again: () => this.#rename(label, other), back, ...says, isOfClasses: true });
  }

  async #rename(label, other) {
    if (this.labels.includes(other)) await this.#makeWay(other);
    const { labels } = await this.store.labels({ rename: { [label]: other } });
    this.clashes.rename(label, other);
    await this.#takeLabels(labels, label, other);
  }

  /** Remove a class that has got the name of one to come back; if it has boxes, the step waits until it has none. */
  async #makeWay(label) {
    const counts = (await this.store.labelCounts())[label];
    const has = counted(counts?.[0], "box", "boxes");
    if (counts?.[0]) throw new Error(`not now: another class is called ${label} meanwhile, and has ${has}`);
    if (counts) await this.store.labels({ remove: [label] });
  }

  /** Go on with other classes, where what was `label` is `other` now, or gone. */
  async #takeLabels(labels, label = null, other = null) {
    const active = this.labels[this.active];
    this.labels = labels;
    this.active = Math.max(labels.indexOf(active === label ? other : active), 0);
    if (label !== null) this.proposed.relabel(label, other);
    for (const box of this.#copied?.boxes ?? []) if (box.label === label) box.label = other ?? label;
    if (this.hiddenLabels.delete(label) && other) this.hiddenLabels.add(other);
    if (this.filter === filterOf(label) && other) this.filter = filterOf(other);
    await this.refresh();
  }

  mergeClass(label, other) {
    const says = { done: `${label} is ${other} now`, undone: `${label} is a class of its own again` };
    return this.#loseClass(label, other, { merge: { [label]: other } }, says);
  }

  deleteClass(label) {
    const says = { done: `the class ${label} is deleted`, undone: `${label} is back` };
    return this.#loseClass(label, null, { delete: [label] }, says);
  }

  /** Remove a class that no box has. */
  removeClass(label) {
    const says = { done: `the class ${label} is removed`, undone: `${label} is back` };
    return this.#loseClass(label, null, { remove: [label] }, says);
  }

  /** Let a class go by a change of the labels; undo brings it back with its boxes. */
  #loseClass(label, other, asked, says) {
    let gone; // {before, lost}: [[photo id, change]], which bring its boxes back, and what brings back the class
    const again = async () => {
      const { labels, ...rest } = await this.store.labels(asked);
      gone = rest;
      await this.#takeLabels(labels, label, other);
    };
    const back = async () => {
      const { labels } = await this.store.labels({ restore: gone.lost });
      for (const [id, change] of gone.before ?? []) this.saver.add(id, change);
      await this.#takeLabels(labels);
    };
    return this.doStep({ again, back, ...says, isOfClasses: true });
  }

  acceptOne() {
    const item = this.shownProposals.find(({ id }) => id === this.selected) ?? this.shownProposals[0];
    if (!item) return this.tell("nothing is proposed here");
    this.#put(asBox(item), { before: item });
    if (this.shownProposals.length) this.selected = this.shownProposals[0].id;
    this.held = null;
    return this.changed();
  }

  acceptAll() {
    const items = this.shownProposals;
    const put = items.map((item) => asBox(item));
    if (put.length) this.change({ put, delete: [] }, { decided: items });
    this.tell(`${put.length} accepted`);
  }

  // From here on: what is shown of the boxes. Nothing of it is saved, and nobody is asked less by it.

  /** Whether an item is not drawn; what one is asked about always is. */
  isHidden(item) {
    if (this.question?.items.includes(item)) return false;
    return this.hidesAll || this.hiddenLabels.has(item.label);
  }

  get shownItems() {
    return this.items.filter((item) => !this.isHidden(item));
  }

  get shownProposals() {
    return this.proposals.filter((item) => !this.isHidden(item));
  }

  toggleBoxes() {
    this.hidesAll = !this.hidesAll;
    this.#letGoOfHidden();
    this.tell(this.hidesAll ? "boxes hidden" : "boxes shown");
  }

  /** Hide a class or show it: `label`, or that of the selected box; without one show all, or hide the active one. */
  toggleClass(label = this.selectedItem?.label) {
    const { hiddenLabels } = this;
    const one = label ?? this.labels[this.active];
    if (one === undefined) return this.tell("there is no class yet");
    if (label === undefined && hiddenLabels.size) hiddenLabels.clear();
    else if (!hiddenLabels.delete(one)) hiddenLabels.add(one);
    this.#letGoOfHidden();
    return this.tell(hiddenLabels.size ? `hidden: ${[...hiddenLabels].join(", ")}` : "all classes shown");
  }

  showAll() {
    this.hidesAll = false;
    this.hiddenLabels.clear();
    this.changed();
  }

  /** Show what somebody has just made or picked up. */
  #reveal(items) {
    this.hidesAll = false;
    for (const { label } of items) this.hiddenLabels.delete(label);
  }

  #letGoOfHidden() {
    const item = this.selectedItem;
    if (item && this.isHidden(item)) this.selected = this.held = null;
    this.changed();
  }

  // From here on: other photos.

  setSearch(search) {
    this.search = search;
    this.changed();
  }

  /** Open the photo that the search means, and list all again; false if it means none. */
  jump() {
    const photo = bestMatch(this.shownPhotos, this.search);
    if (!photo) return false; // the list says so
    this.setSearch("");
    this.open(photo.id);
    return true;
  }

  step(direction) {
    const next = this.neighbour(direction);
    if (next) this.open(next.id);
    else this.tell(direction > 0 ? "this is the last photo" : "this is the first photo");
  }

  goToSuggested() {
    if (this.photo(this.suggested)) this.open(this.suggested);
    else this.tell("no photo is suggested yet");
  }

  /** Open the first (-1) or the last (1) photo. */
  goToEnd(direction) {
    const photo = this.shownPhotos.at(direction < 0 ? 0 : -1);
    if (photo) this.open(photo.id);
  }

  /** Open the next photo without boxes, looked at or not; after the last one comes the first. */
  goToEmpty() {
    const at = this.photos.indexOf(this.current);
    const inTurn = [...this.photos.slice(at + 1), ...this.photos.slice(0, at)];
    const isEmpty = (photo) => !photo.num_boxes && !photo.error && !photo.left_out;
    const isNext = (photo) => isEmpty(photo) && isShown(photo, this.filter, this.search);
    const next = inTurn.find(isNext);
    if (next) this.open(next.id);
    else this.tell("no other photo is without boxes");
  }
}
