// One person at one project: which photo is open, its boxes, what is selected, what can be taken back.
// It knows the store and the saver, not the document. It says "change" whenever something is to be shown anew
// ("draft": only the box being drawn), "say" (detail: text) what a person who cannot see the page is to hear,
// and "tell" what everybody should notice.

import { iou, isBox, moved, resampled, resized } from "./geometry.js";
import { History, applied, newId } from "./history.js";
import { described, isOpen, isShown } from "./words.js";

const SAME_PLACE = 0.5; // IoU from which a proposal says what a box says already
const AGAIN = 1000; // milliseconds until what is not there yet is asked for again

export class Session extends EventTarget {
  name = "";
  isStarted = false;
  labels = [];
  photos = []; // {id, name, width, height, reviewed, num_boxes, labels, error}
  filter = "all"; // which photos are shown; see words.js
  active = 0; // number of the class that new boxes get
  current = null; // one of `photos`
  state = null; // {boxes, reviewed} of the current photo with what is not saved yet; null until it has come
  trouble = null; // why it has not come
  draft = null; // {id, box, label}: a box being drawn or moved; id is null for a new one
  selected = null; // id of a box or of a proposal
  learning = { state: "off", message: "", round: 0, progress: 0 };
  suggested = null; // id of the photo the detector is least sure of
  askForLabel = async () => null;
  #store;
  #saver;
  #states = new Map();
  #histories = new Map();
  #proposals = [];
  #changes = 0; // counts changes and answers, so that an older answer is told from a newer one

  constructor(store, saver) {
    super();
    this.#store = store;
    this.#saver = saver;
    saver.addEventListener("acknowledged", ({ detail }) => this.#take(detail.id, detail.state));
    saver.addEventListener("discarded", () => this.refresh().catch(() => {}));
  }

  /** Read the project and open the photo of that id, or else the first that nobody has looked at. */
  async start(id) {
    await this.#readProject();
    const first = this.#photo(id) ?? this.photos.find(isOpen) ?? this.photos[0];
    this.isStarted = true;
    if (first) this.open(first.id);
    this.#changed();
  }

  /** Read everything again: another window may have drawn boxes. */
  async refresh() {
    await this.#readProject();
    this.#states.clear();
    if (this.current) await this.#readBoxes(this.current);
    this.#changed();
  }

  async #readProject() {
    const before = this.#changes;
    const project = await this.#store.project();
    this.name = project.name;
    this.labels = [...new Set([...project.labels, ...this.#saver.pendingLabels])];
    this.suggested = project.suggested_next;
    if (before !== this.#changes) return;
    const known = new Map(this.photos.map((photo) => [photo.id, photo]));
    this.photos = project.photos.map((row) => {
      const photo = known.get(row.id) ?? row; // one photo stays one object
      const { width, height } = photo;
      const reviewed = this.#saver.pending(row.id).reviewed ?? row.reviewed;
      return Object.assign(photo, row, row.width ? {} : { width, height }, { reviewed });
    });
    this.current = this.#photo(this.current?.id) ?? null;
  }

  #photo(id) {
    return this.photos.find((photo) => photo.id === id);
  }

  async open(id) {
    const photo = this.#photo(id);
    if (!photo || photo === this.current) return;
    Object.assign(this, { current: photo, trouble: null, draft: null, selected: null });
    this.state = this.#states.get(id) ?? null;
    this.#proposals = [];
    this.#changed();
    this.#say(`${photo.name}, photo ${this.photos.indexOf(photo) + 1} of ${this.photos.length}`);
    await this.#readBoxes(photo);
  }

  async #readBoxes(photo) {
    if (photo.error) return;
    const before = this.#changes;
    try {
      const state = await this.#store.photo(photo.id);
      if (before === this.#changes) this.#take(photo.id, state);
      else if (this.current === photo && !this.state) await this.#readBoxes(photo);
    } catch (error) {
      if (error.refused) return this.refuse(error, photo);
      if (this.current !== photo || this.state) return undefined;
      this.trouble = error;
      this.#changed();
      setTimeout(() => this.current === photo && !this.state && this.#readBoxes(photo), AGAIN);
      return undefined;
    }
    return this.#readProposals(photo);
  }

  /** Note why a photo cannot be had. */
  refuse({ message, hint }, photo = this.current) {
    photo.error = hint ? `${message}; ${hint}` : message;
    this.#changed();
  }

  /** Take what the server says of a photo, and on top of it what is not saved yet. */
  #take(id, { boxes, reviewed, width, height, error }) {
    const photo = this.#photo(id);
    if (!photo) return;
    this.#changes += 1;
    Object.assign(photo, width ? { width, height } : {}, { error: error ?? photo.error });
    this.#show(photo, applied({ boxes, reviewed }, this.#saver.pending(id)));
  }

  #show(photo, state) {
    this.#states.set(photo.id, state);
    const labels = [...new Set(state.boxes.map(({ label }) => label))];
    Object.assign(photo, { reviewed: state.reviewed, num_boxes: state.boxes.length, labels });
    if (photo === this.current) {
      Object.assign(this, { state, trouble: null });
      if (!this.items.some((item) => item.id === this.selected)) this.selected = null;
    }
    this.#changed();
  }

  takeLearning(learning) {
    const isNewRound = learning.round !== this.learning.round;
    this.learning = learning;
    this.suggested = learning.suggested_next;
    if (isNewRound && this.current) this.#readProposals(this.current);
    this.#changed();
  }

  /** Proposals are for photos that nobody has looked at. */
  async #readProposals(photo) {
    if (this.learning.state === "off" || photo.error || photo.reviewed) return;
    const { boxes, pending } = await this.#store.proposals(photo.id).catch(() => ({ boxes: [] }));
    if (photo !== this.current || photo.reviewed) return; // what it has proposed before stays
    this.#proposals = boxes.map((box, number) => ({ ...box, id: `:${number}` })); // no box has such an id
    if (this.proposals.length) this.#say(`${this.proposals.length} proposed; Enter accepts one`);
    if (pending) setTimeout(() => photo === this.current && this.#readProposals(photo), AGAIN);
    this.#changed();
  }

  /** What the detector proposes and no box says already, the surest first. */
  get proposals() {
    const boxes = this.state?.boxes ?? [];
    const isSaid = ({ box }) => boxes.some((other) => iou(box, other.box) > SAME_PLACE);
    return this.#proposals.filter((proposal) => !isSaid(proposal)).sort((a, b) => b.score - a.score);
  }

  /** Everything that can be selected: the boxes, then the proposals. */
  get items() {
    return [...(this.state?.boxes ?? []), ...this.proposals];
  }

  get selectedItem() {
    return this.items.find(({ id }) => id === this.selected) ?? null;
  }

  get shownPhotos() {
    return this.photos.filter((photo) => isShown(photo, this.filter));
  }

  setFilter(filter) {
    this.filter = filter;
    this.#changed();
  }

  /** The nearest shown photo before (-1) or after (1) the current one. */
  neighbour(direction) {
    const from = this.photos.indexOf(this.current);
    for (let at = from + direction; at >= 0 && at < this.photos.length; at += direction) {
      if (isShown(this.photos[at], this.filter)) return this.photos[at];
    }
    return null;
  }

  // From here on: what keys, buttons and the pointer do.

  step(direction) {
    const next = this.neighbour(direction);
    if (next) this.open(next.id);
    else this.#tell(direction > 0 ? "this is the last photo" : "this is the first photo");
  }

  goToSuggested() {
    if (this.#photo(this.suggested)) this.open(this.suggested);
    else this.#tell("no photo is suggested yet");
  }

  /** Mark the photo as reviewed and go on; true if there is none to go on to. */
  reviewAndNext() {
    if (!this.current) return false;
    const next = this.neighbour(1) ?? this.photos.find((photo) => photo !== this.current && isOpen(photo));
    if (this.state && !this.state.reviewed) this.#change({ put: [], delete: [], reviewed: true });
    if (next) this.open(next.id);
    return !next;
  }

  toggleReviewed() {
    if (!this.state) return;
    if (this.state.boxes.length) this.#tell("a photo with boxes is reviewed");
    else this.#change({ put: [], delete: [], reviewed: !this.state.reviewed });
  }

  #change(change, row = null) {
    const { current, state } = this;
    const full = change.put.length && !state.reviewed ? { ...change, reviewed: true } : change;
    if (!this.#histories.has(current.id)) this.#histories.set(current.id, new History());
    this.#histories.get(current.id).add(state, full, row);
    this.#apply(full);
  }

  #apply(change) {
    this.#changes += 1;
    this.#saver.add(this.current.id, change);
    this.#show(this.current, applied(this.state, change));
  }

  undo() {
    this.#repeat(this.#histories.get(this.current?.id)?.undo(), "undo", "undone");
  }

  redo() {
    this.#repeat(this.#histories.get(this.current?.id)?.redo(), "redo", "done again");
  }

  #repeat(change, name, done) {
    if (change) this.#apply(change);
    this.#tell(change ? done : `nothing to ${name}`);
  }

  select(id) {
    this.selected = id;
    const item = this.selectedItem;
    if (item) this.#say(described(item));
    this.#changed();
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

  #put(box, row = null) {
    this.selected = box.id;
    this.#change({ put: [box], delete: [] }, row);
    this.#say(described(box));
  }

  /** Give an item another place; a proposal becomes a box by that. */
  replace(item, box, row = null) {
    this.draft = null;
    this.#put({ ...this.#asBox(item), box }, row);
  }

  #asBox({ id, box, label, ignore = false, score }) {
    return { id: score === undefined ? id : newId(), box, label, ignore };
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
    else this.#tell("no box is selected; Tab selects one");
  }

  deleteSelected() {
    const item = this.selectedItem;
    if (!item) return;
    const next = this.items[this.items.indexOf(item) + 1];
    this.#proposals = this.#proposals.filter((proposal) => proposal !== item);
    if (item.score === undefined) this.#change({ put: [], delete: [item.id] });
    this.select(next?.id ?? null);
    this.#say(`${item.label} deleted`);
  }

  toggleIgnore() {
    const item = this.selectedItem;
    if (item) this.#put({ ...this.#asBox(item), ignore: !item.ignore });
  }

  /** Copy the boxes of the photo before, at the same place; what is there already stays single. */
  async copyFromPrevious() {
    const photo = this.current;
    const previous = this.photos[this.photos.indexOf(photo) - 1];
    if (!previous || !this.state) return this.#tell("there is no photo before this one");
    const before = await this.#store.photo(previous.id);
    if (photo !== this.current) return undefined;
    const { boxes } = applied(before, this.#saver.pending(previous.id));
    const copies = boxes.map((box) => ({ ...box, id: newId(), box: resampled(box.box, before, photo) }));
    const isNew = (copy) => !this.state.boxes.some((box) => iou(copy.box, box.box) > 0.95);
    const put = copies.filter((copy) => isBox(copy.box) && isNew(copy));
    if (put.length) this.#change({ put, delete: [] });
    return this.#tell(`${put.length} copied from ${previous.name}`);
  }

  /** Make class `number` the active one, and that of the selected box. */
  chooseClass(number) {
    const label = this.labels[number];
    if (!label) return this.#tell(`there is no class ${number + 1}`);
    this.active = number;
    const item = this.selectedItem;
    return item && item.label !== label ? this.#put({ ...this.#asBox(item), label }) : this.#changed();
  }

  addClass(label) {
    if (!this.labels.includes(label)) {
      this.labels = [...this.labels, label];
      this.#saver.addLabels([label]);
    }
    this.chooseClass(this.labels.indexOf(label));
  }

  async renameClass(label, other) {
    if (this.#saver.status.kind !== "saved") return this.#tell("not now: wait until everything is saved");
    this.labels = (await this.#store.labels({ rename: { [label]: other } })).labels;
    this.#histories.clear(); // what they would bring back has the old label
    return this.refresh();
  }

  async removeClass(label) {
    this.labels = (await this.#store.labels({ remove: [label] })).labels;
    this.active = 0;
    this.#changed();
  }

  acceptOne() {
    const item = this.proposals.find(({ id }) => id === this.selected) ?? this.proposals[0];
    if (!item) return this.#tell("nothing is proposed here");
    this.#put(this.#asBox(item));
    if (this.proposals.length) this.selected = this.proposals[0].id;
    return this.#changed();
  }

  acceptAll() {
    const put = this.proposals.map((item) => this.#asBox(item));
    if (put.length) this.#change({ put, delete: [] });
    this.#tell(`${put.length} accepted`);
  }

  #say(text) {
    this.dispatchEvent(new CustomEvent("say", { detail: text }));
  }

  #tell(text) {
    this.dispatchEvent(new CustomEvent("tell", { detail: text }));
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
