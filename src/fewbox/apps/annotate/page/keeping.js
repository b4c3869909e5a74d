// Photos that one does without: left out of what is learnt, or deleted; and taking back what changes more than
// the open photo.

import { NO_CHANGE, difference } from "./history.js";
import { Project } from "./project.js";
import { counted } from "./words.js";

export class Keeping extends Project {
  #steps = []; // {order, back, again, undone, done, history}
  #undone = []; // what was taken back: one of those steps, or null for a change of the open photo
  #isBusy = false; // while one of those steps is on its way: a key that is held down must not take it back twice
  #catchingUp = null; // a promise: what others have changed is being read

  /** Leave the photo out: it is neither learnt from nor to do; or take it in again. */
  toggleLeftOut() {
    const { current: photo, state } = this;
    if (!photo) return;
    const isOut = !photo.left_out;
    const change = { ...NO_CHANGE, left_out: isOut };
    // Nothing is said of an empty photo that is left out, so that no program takes it for background.
    if (isOut && photo.reviewed && !photo.num_boxes) change.reviewed = false;
    if (state && !photo.error) this.change(change);
    else {
      const { reviewed } = photo;
      const again = () => this.#setFlags(photo, change);
      again();
      this.#note({ again, back: () => this.#setFlags(photo, { left_out: !isOut, reviewed }) });
    }
    this.#offerUndo(isOut ? `${photo.name} is left out` : `${photo.name} is taken in again`);
  }

  #setFlags(photo, flags) {
    const { reviewed = photo.reviewed, left_out } = flags;
    Object.assign(photo, { reviewed, left_out });
    this.#send(photo.id, { ...NO_CHANGE, ...flags });
    this.changed();
  }

  /** Change a photo that need not be the open one. */
  #send(id, change) {
    this.saver.add(id, change);
    this.clashes.follow(this.photo(id), change);
  }

  /** What the open photo, which was changed here and elsewhere, is to be by `which`: "mine" or "theirs". */
  wanted(which) {
    const { boxes = [] } = this.state ?? {}; // they are still to come
    return this.clashes.wanted(this.current, which, { boxes }, this.labels);
  }

  /** What to keep of a photo that was changed here and elsewhere: "mine", "theirs", or else both. */
  keep(which, photo = this.current) {
    const isChoice = which !== "both" && photo === this.current && this.state;
    const wanted = isChoice ? this.wanted(which) : null;
    this.clashes.delete(photo);
    if (wanted) this.change(difference(this.state, wanted));
    this.changed();
  }

  /** Whether a step that changes more than the open photo is on its way. */
  get isBusy() {
    return this.#isBusy;
  }

  /** Whether everything is saved, as what changes the folder or many photos needs it; if not, `tell` is called. */
  isSettled(tell = (says) => this.tell(says)) {
    if (this.saver.status.kind === "saved" && !this.#isBusy) return true;
    tell("not now: wait until everything is saved");
    return false;
  }

  /** Read everything again, as others may have changed it; a step does that itself, and waits for this to end. */
  catchUp() {
    if (!this.#isBusy) this.#catchingUp = this.refresh().catch(() => {});
    return this.#catchingUp;
  }

  /** Move the photo into the trash beside the photos, and open the next one. */
  async trashPhoto() {
    const photo = this.current;
    if (!photo || !this.isSettled()) return;
    const { reviewed, left_out = false } = photo;
    const back = async () => {
      await this.#restore(photo.id);
      this.#setFlags(this.photo(photo.id), { reviewed, left_out });
      this.open(photo.id);
    };
    const says = { done: `${photo.name} deleted`, undone: `${photo.name} is back` };
    await this.doStep({ again: () => this.#trash(photo.id), back, ...says });
  }

  async #trash(id) {
    const photo = this.photo(id);
    await this.store.trash(id);
    const isOpen = photo === this.current; // somebody may have gone on meanwhile
    const next = this.neighbour(1) ?? this.neighbour(-1) ?? this.photos.find((other) => other !== photo);
    this.photos = this.photos.filter((other) => other !== photo);
    this.clashes.delete(photo);
    if (!isOpen) return;
    Object.assign(this, { state: null, question: null, selected: null, held: null });
    if (next) this.open(next.id);
    else this.current = null;
  }

  async #restore(id) {
    const refusal = await this.store.restore(id).then(
      () => null,
      (error) => {
        if (error.refused) return error;
        throw error;
      },
    );
    await this.refresh();
    if (refusal && !this.photo(id)) throw refusal; // or somebody else has brought it back
  }

  /** Copy a photo that was tried into the project; undo moves it into the trash. */
  async takeIn({ id: tried, boxes }) {
    const { id, name } = await this.store.takeIn(tried);
    const labels = new Set(this.proposed.relabelled(boxes).map(({ label }) => label));
    const isNew = (label) => !this.labels.includes(label) && !this.proposed.isGone(label);
    const unknown = [...labels].filter(isNew);
    if (unknown.length) this.saver.addLabels(unknown);
    await this.refresh();
    const again = async () => {
      await this.#restore(id);
      this.#setFlags(this.photo(id), { left_out: false });
    };
    const says = { done: `${name} is in the project again`, undone: `${name} is in the trash` };
    this.#note({ again, back: () => this.#trash(id), ...says });
    return { id, name };
  }

  /** Take over boxes that lie beside the photos; undo takes them out again. */
  async takeOver(format) {
    if (!this.isSettled()) return;
    let taken;
    const again = async () => {
      taken = await this.store.takeOver(format);
      await this.refresh();
    };
    const back = async () => {
      for (const [id, change] of taken.before) this.#send(id, change);
      await this.refresh();
    };
    await this.doStep({ again, back, undone: "what was taken over is gone again" });
    if (taken) this.#offerUndo(`${counted(taken.boxes, "box", "boxes")} taken over`);
  }

  /**
   * Do what changes more than the open photo: `again` does it, `back` takes it back, and what is said then is
   * `done` and `undone`. With `isOfClasses`, older changes can be undone only once it is, as they know other classes.
   */
  async doStep(step) {
    if (!(await this.#alone(step.again))) return;
    this.#note(step);
    if (step.done) this.#offerUndo(step.done);
    this.changed();
  }

  /** Do a part of a step; false if that is not possible now. */
  async #alone(does) {
    if (!this.isSettled()) return false;
    this.#isBusy = true;
    this.changed();
    try {
      await this.#catchingUp; // or it would ask for a photo that has just been deleted
      await does();
    } finally {
      this.#isBusy = false;
      this.changed();
    }
    return true;
  }

  #note({ isOfClasses = false, ...step }) {
    const history = isOfClasses ? this.exchangeHistory() : null;
    this.#steps.push({ undone: "undone", done: "done again", ...step, history, order: this.nextStep() });
    this.#undone = [];
  }

  change(...changed) {
    this.#undone = [];
    super.change(...changed);
  }

  /** The number of what undo would take back. */
  get #newest() {
    return Math.max(this.#steps.at(-1)?.order ?? 0, this.lastStep);
  }

  /** Tell what was done, with a button that takes it back. */
  #offerUndo(text) {
    const order = this.#newest;
    const isLast = () => this.#newest === order;
    this.dispatchEvent(new CustomEvent("offer", { detail: { text, isLast } }));
  }

  /** Take back what was done last, be it in this photo or in many. */
  async undo() {
    const step = this.#steps.at(-1);
    if (!step || step.order < this.lastStep) {
      if (this.lastStep) this.#undone.push(null);
      return super.undo();
    }
    if (!(await this.#tried(step, step.back))) return undefined;
    this.#steps = this.#steps.filter((other) => other !== step);
    return this.#settleStep(step, this.#undone, step.undone);
  }

  /** Do again what was taken back last. */
  async redo() {
    const step = this.#undone.at(-1);
    if (!step) {
      this.#undone.pop();
      return super.redo();
    }
    if (!(await this.#tried(step, step.again))) return undefined;
    this.#undone = this.#undone.filter((other) => other !== step);
    step.order = this.nextStep();
    return this.#settleStep(step, this.#steps, step.done);
  }

  /** Take a step back or do it again; one that is refused is given up, or it would bar the way to all others. */
  async #tried(step, does) {
    try {
      return await this.#alone(does);
    } catch (error) {
      if (error.refused) {
        const isOther = (other) => other !== step;
        [this.#steps, this.#undone] = [this.#steps.filter(isOther), this.#undone.filter(isOther)];
        this.changed();
      }
      throw error;
    }
  }

  #settleStep(step, steps, says) {
    if (step.history) step.history = this.exchangeHistory(step.history);
    steps.push(step);
    this.tell(says);
    this.changed();
  }
}
