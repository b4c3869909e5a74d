// One person at one project: which photo is open, what is in it, which photos count as reviewed, what is proposed, and
// what can be taken back. It knows the store and the saver, not the document. It says "draft" when only the box being
// drawn is to be shown anew, and all that a list of photos says.

import { Clashes } from "./clashes.js";
import { Histories, NO_CHANGE, applied } from "./history.js";
import { Order } from "./order.js";
import { PhotoList } from "./photo_list.js";
import { Proposals, asBox } from "./proposals.js";
import { counted, isOfNone, isOpen } from "./words.js";

const AGAIN = 1000; // milliseconds until what is not there yet is asked for again

export class Project extends PhotoList {
  isStarted = false;
  labels = [];
  active = 0; // number of the class that new boxes get
  state = null; // {boxes, reviewed, left_out} of the current photo with what is not saved yet; null until it has come
  trouble = null; // why it has not come
  draft = null; // {id, box, label}: a box being drawn or moved; id is null for a new one
  selected = null; // id of a box or of a proposal
  held = null; // the same id if it was picked up to be moved, as what has just been drawn was not
  question = null; // {items, go, isReviewing}: proposals to decide on before the photo may count as reviewed
  learning = { state: "off", message: "", round: 0, progress: 0 };
  suggested = null; // id of the photo the detector is least sure of
  version = null; // of the project, as it was read last
  clashes = new Clashes(); // of one's own changes with those of others
  askForLabel = async () => null;
  store;
  saver;
  #states = new Map();
  #histories = new Histories();
  proposed; // Proposals: what is proposed, photo by photo
  #late = []; // photos marked as empty before the answer came that something is proposed there
  #isFresh = false; // nobody had looked at the current photo when it was opened
  #ledBy = null; // the step of the history that opened it
  #order = new Order(); // of changes and answers

  constructor(store, saver) {
    super();
    Object.assign(this, { store, saver });
    this.proposed = new Proposals(store, () => this.labels);
    saver.addEventListener("acknowledged", ({ detail }) => this.#acknowledge(detail.id, detail.state));
    saver.addEventListener("discarded", () => this.refresh().catch(() => {}));
  }

  /** Read the project and open the photo of that id, or else the first that nobody has looked at. */
  async start(id) {
    await this.#readProject();
    const first = this.photo(id) ?? this.photos.find(isOpen) ?? this.photos[0];
    this.isStarted = true;
    if (first) this.#open(first);
    this.changed();
  }

  /** Read everything again: another window may have drawn boxes. */
  async refresh() {
    const { current, photos } = this;
    await this.#readProject();
    this.#states.clear();
    this.saver.forgetSeen();
    if (this.current) await this.#readBoxes(this.current);
    else if (current) {
      this.tell(`${current.name} is no longer there`);
      const next = this.photos[photos.indexOf(current)] ?? this.photos.at(-1);
      if (next) this.#open(next);
      else Object.assign(this, { state: null, question: null, selected: null, held: null });
    }
    this.changed();
  }

  /** Take what the server says of what was saved, and note what somebody else had changed before. */
  #acknowledge(id, { meanwhile, files, ...state }) {
    if (files && files[0] === this.version) [, this.version] = files; // nobody else has changed anything
    const mine = this.#states.get(id);
    this.#take(id, state);
    const photo = this.photo(id);
    if (!meanwhile || !photo) return;
    this.clashes.note(photo, mine ?? state, meanwhile, this.labels);
    this.tell(`somebody else has changed ${photo.name} meanwhile`);
    this.changed();
  }

  async #readProject() {
    const before = this.#order.now;
    const project = await this.store.project();
    this.name = project.name;
    const active = this.labels[this.active];
    this.labels = [...new Set([...project.labels, ...this.saver.pendingLabels])];
    this.active = Math.max(this.labels.indexOf(active), 0);
    if (isOfNone(this.filter, this.labels)) this.filter = "all";
    if (this.question?.items.some(({ label }) => !this.labels.includes(label))) this.question = null;
    this.suggested = project.suggested_next;
    if (before === this.#order.now) this.version = project.version; // else it is asked for again
    this.takeRows(project.photos, (row) => {
      if (this.#order.isNewer(row.id, before)) return null;
      const { reviewed = row.reviewed, left_out = row.left_out } = this.saver.pending(row.id);
      return { ...row, reviewed, left_out };
    });
  }

  /** Open a photo; if something in this one is to be decided first, that is asked before. */
  open(id) {
    const photo = this.photo(id);
    if (photo && photo !== this.current) this.settle(() => this.#open(photo));
  }

  async #open(photo, ledBy = null) {
    Object.assign(this, { current: photo, trouble: null, draft: null, selected: null, held: null, question: null });
    this.state = this.#states.get(photo.id) ?? null;
    this.#isFresh = !photo.reviewed;
    this.#ledBy = ledBy;
    this.changed();
    this.say(`${photo.name}, photo ${this.photos.indexOf(photo) + 1} of ${this.photos.length}`);
    await this.#readBoxes(photo);
  }

  async #readBoxes(photo) {
    if (photo.error) return;
    const before = this.#order.now;
    try {
      const state = await this.store.photo(photo.id);
      if (!this.#order.isNewer(photo.id, before)) this.#take(photo.id, state);
      else if (this.current === photo && !this.state) await this.#readBoxes(photo);
    } catch (error) {
      if (error.refused) return this.refuse(error, photo);
      if (this.current !== photo || this.state) return undefined;
      this.trouble = error;
      this.changed();
      return void setTimeout(() => this.current === photo && !this.state && this.#readBoxes(photo), AGAIN);
    }
    return this.#readProposals(photo);
  }

  /** Note why a photo cannot be had. */
  refuse({ message, hint }, photo) {
    photo.error = hint ? `${message}; ${hint}` : message;
    this.changed();
  }

  /** Take what the server says of a photo, and on top of it what is not saved yet. */
  #take(id, { boxes, reviewed, left_out, width, height, file, content, error, version }) {
    const photo = this.photo(id);
    if (!photo) return;
    if (this.saver.saw(id, version, content)) this.#histories.forget(id); // its places were in another picture
    this.#order.note(id);
    Object.assign(photo, width ? { width, height, file } : {}, { error: error ?? photo.error });
    this.#show(photo, applied({ boxes, reviewed, left_out }, this.saver.pending(id)));
  }

  #show(photo, state) {
    if (!photo.error) this.#states.set(photo.id, state);
    const { reviewed, left_out = false, boxes } = state;
    const labels = [...new Set(boxes.map(({ label }) => label))];
    Object.assign(photo, { reviewed, left_out, num_boxes: boxes.length, labels });
    if (photo === this.current && !photo.error) {
      Object.assign(this, { state, trouble: null });
      this.#letGoOfGone();
    }
    this.changed();
  }

  /** What is no longer there is no longer in hand. */
  #letGoOfGone() {
    if (!this.selectedItem) this.selected = this.held = null;
  }

  takeLearning(learning) {
    const isNewRound = learning.round !== this.learning.round;
    Object.assign(this, { learning, suggested: learning.suggested_next });
    if (isNewRound && this.current) this.#readProposals(this.current);
    this.changed();
  }

  /** Proposals are for photos that nobody had looked at before. */
  async #readProposals(photo) {
    if ((this.learning.state === "off" && !photo.tried) || photo.error || !this.#isFresh) return;
    const before = this.proposals.length;
    const isMore = await this.proposed.read(photo.id).catch(() => false);
    if (photo !== this.current) return;
    const count = this.proposals.length;
    if (count && count !== before) this.say(`${count} proposed; Enter accepts one`);
    if (isMore) setTimeout(() => photo === this.current && this.#readProposals(photo), AGAIN);
    this.#letGoOfGone();
    this.changed();
  }

  /** What the detector proposes and nobody has decided on, the surest first. */
  get proposals() {
    if (this.question) return this.question.items; // what is being asked about stays
    if (!this.#isFresh || !this.state || this.state.left_out) return [];
    return this.proposed.undecided(this.current.id, this.state.boxes);
  }

  /** Photos that count as empty although something was proposed there, too late to be seen. */
  get late() {
    return this.#late.filter((photo) => photo.reviewed && photo.num_boxes === 0);
  }

  /** Everything that can be selected: the boxes, then the proposals. */
  get items() {
    return [...(this.state?.boxes ?? []), ...this.proposals];
  }

  get selectedItem() {
    return this.items.find(({ id }) => id === this.selected) ?? null;
  }

  // From here on: whether a photo counts as reviewed.

  /**
   * Call `go`, but ask before if something is proposed that nobody has decided on and the photo counts as
   * reviewed, or is going to (`isReviewing`): what is not accepted would be learnt as background.
   */
  settle(go, isReviewing = false) {
    this.question = null;
    const items = this.proposals;
    if (!items.length || !(isReviewing || this.state.reviewed)) return go();
    this.question = { items, go, isReviewing };
    this.selected = this.held = null;
    const says = counted(items.length, "proposed box is", "proposed boxes are");
    this.say(`${says} not decided. Space accepts, N says that none is right, Escape goes back`);
    return this.changed();
  }

  /** Accept all that is asked about, or turn it down; then go on. */
  answer(isAccepted) {
    if (!this.question) return;
    const { items, go, isReviewing } = this.question;
    const put = isAccepted ? items.map((item) => asBox(item)) : [];
    this.change({ put, delete: [], reviewed: true }, { decided: items, isLeft: true });
    if (isAccepted) this.tell(`${put.length} accepted`);
    else this.tell(this.state.boxes.length ? "only your boxes count" : `${this.current.name} counts as empty`);
    this.settle(go, isReviewing); // meanwhile, more may have come
  }

  /** Leave the question open, and the photo as it is. */
  back() {
    this.question = null;
    this.changed();
  }

  /** Mark the photo as reviewed and go on, or call `atEnd` if there is none to go on to. */
  reviewAndNext(atEnd) {
    const { current, question, state, trouble } = this;
    if (!current || question) return;
    if (!state && !current.error && !trouble) return void this.tell("not yet: its boxes are still to come");
    this.settle(() => {
      this.#markReviewed();
      const step = this.#histories.of(current.id).last;
      const isLater = (photo) => photo !== current && isOpen(photo);
      const next = this.neighbour(1, (photo) => !photo.left_out) ?? this.photos.find(isLater);
      if (next) this.#open(next, step?.isLeft ? step : null);
      else atEnd();
    }, true);
  }

  #markReviewed() {
    if (!this.state || this.state.reviewed || this.state.left_out) return;
    this.change({ ...NO_CHANGE, reviewed: true }, { isLeft: true });
    this.tell(`${this.current.name} counts as empty`);
    const isLearning = this.learning.state === "learning";
    if (isLearning || this.proposed.isAwaited(this.current.id)) this.#watch(this.current);
  }

  /** See whether something is proposed for a photo that was marked as empty before the answer came. */
  async #watch(photo) {
    const first = this.learning.round;
    const isEmpty = () => photo.reviewed && photo.num_boxes === 0;
    while (isEmpty() && this.learning.round <= first + 1) {
      const isMore = await this.proposed.read(photo.id).catch(() => true);
      const count = this.proposed.undecided(photo.id, []).length;
      if (count && isEmpty()) {
        this.#late.push(photo);
        this.tell(`${count} proposed in ${photo.name}, which counts as empty`);
        return void this.changed();
      }
      if (!isMore && this.learning.state !== "learning") return;
      await new Promise((resolve) => setTimeout(resolve, AGAIN));
    }
  }

  /** Open a photo again in which something was proposed too late; it counts as not reviewed again. */
  lookAgain() {
    const photo = this.late[0];
    if (!photo) return this.tell("nothing was proposed too late");
    this.#late = this.#late.filter((other) => other !== photo);
    return this.settle(async () => {
      if (photo !== this.current) await this.#open(photo);
      if (photo === this.current && this.state?.reviewed && !this.state.boxes.length) this.toggleReviewed();
    });
  }

  /** The photo is empty all the same. */
  leaveEmpty() {
    const photo = this.late[0];
    this.#late = this.#late.filter((other) => other !== photo);
    this.proposed.decide(photo.id, this.proposed.undecided(photo.id, []));
    this.changed();
  }

  toggleReviewed() {
    if (!this.state) return;
    if (this.state.left_out) this.tell("this photo is left out; O takes it in again");
    else if (this.state.boxes.length) this.tell("a photo with boxes is reviewed");
    else if (!this.state.reviewed) this.settle(() => this.#markReviewed(), true);
    else {
      this.change({ ...NO_CHANGE, reviewed: false });
      this.proposed.recall(this.current.id);
      this.#lookFresh();
    }
  }

  /** Somebody has taken back what was decided: propose again. */
  #lookFresh() {
    this.#isFresh = true;
    this.changed();
    this.#readProposals(this.current);
  }

  // From here on: changes, and taking them back.

  /** The step that has led away from a photo, if it is what undo takes back: {id, step}; else null. */
  get #stepBefore() {
    const { id, step } = this.#histories.last ?? {};
    if (!step?.isLeft || !this.current) return null;
    return this.#ledBy === step || !this.#histories.of(this.current.id).last ? { id, step } : null;
  }

  /** The number of the step that undo takes back, 0 if there is none. */
  get lastStep() {
    const { step } = this.#stepBefore ?? { step: this.current && this.#histories.of(this.current.id).last };
    return step?.order ?? 0;
  }

  /** A number for a step that is no change of the open photo. */
  nextStep() {
    return this.#histories.tick();
  }

  /** Go on with another history of all photos, an empty one if none is given; return the one until now. */
  exchangeHistory(history) {
    return this.#histories.exchange(history);
  }

  /**
   * Change the boxes of the photo, or whether it is reviewed. `decided` are the proposals that are decided by
   * that, and `isLeft` says that the photo is left by it.
   */
  change(change, { row = null, decided = [], isLeft = false } = {}) {
    const { current, state } = this;
    this.question = null;
    const full = change.put.length && !state.reviewed && !state.left_out ? { ...change, reviewed: true } : change;
    this.#histories.add(current.id, state, full, row, { decided, isLeft, ledBy: this.#ledBy });
    this.proposed.decide(current.id, decided);
    this.#apply(full);
  }

  #apply(change) {
    this.#order.note(this.current.id);
    const { reviewed, left_out: isOut = false } = this.state;
    const isOther = (change.reviewed ?? reviewed) !== reviewed || (change.left_out ?? isOut) !== isOut;
    if (isOther || change.put.length + change.delete.length) this.saver.add(this.current.id, change);
    this.clashes.follow(this.current, change);
    this.#show(this.current, applied(this.state, change));
  }

  /**
   * Take back what was done last in this photo. Where that is nothing, or an answer or Space has just led here,
   * go back to the photo that was left, and take back there that it counts as reviewed.
   */
  async undo() {
    const { id, step } = this.#stepBefore ?? {};
    if (step) {
      const opened = this.photo(id) && id !== this.current.id ? this.#open(this.photo(id), step.ledBy) : null;
      if (!this.state) await opened;
    }
    this.#repeat("undo", "undone");
  }

  async redo() {
    this.#repeat("redo", "done again");
  }

  #repeat(name, done) {
    const history = this.current && this.state && this.#histories.of(this.current.id);
    const step = name === "undo" ? history?.last : history?.next;
    if (!step) return this.tell(`nothing to ${name}`);
    this.question = null;
    this.proposed[name === "undo" ? "recall" : "decide"](this.current.id, step.decided);
    this.#apply(history[name]());
    this.tell(`${done} in ${this.current.name}`);
    return name === "undo" && (step.isLeft || step.decided.length) ? this.#lookFresh() : undefined;
  }
}
