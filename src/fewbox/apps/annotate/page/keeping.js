// Photos that one does without: left out of what is learnt, or deleted; and taking back what changes more than
// the open photo.

import { NO_CHANGE, difference } from "./history.js";
import { Project } from "./project.js";
import { counted } from "./words.js";

export class Keeping extends Project {
  #steps = []; // {order, back, says}

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
      this.#setFlags(photo, change);
      this.noteStep(() => this.#setFlags(photo, { left_out: !isOut, reviewed }), "undone");
    }
    this.tell(isOut ? `${photo.name} is left out` : `${photo.name} is taken in again`);
  }

  #setFlags(photo, flags) {
    const { reviewed = photo.reviewed, left_out } = flags;
    Object.assign(photo, { reviewed, left_out });
    this.saver.add(photo.id, { ...NO_CHANGE, ...flags });
    this.changed();
  }

  /** What to keep of a photo that was changed here and elsewhere: "mine", "theirs", or else both. */
  keep(which, photo = this.current) {
    const clash = this.clashes.get(photo);
    this.clashes.delete(photo);
    if (which !== "both" && photo === this.current && this.state) this.change(difference(this.state, clash[which]));
    this.changed();
  }

  /** Whether everything is saved, as what changes the folder or many photos needs it; if not, say so. */
  isSettled() {
    if (this.saver.status.kind === "saved") return true;
    this.tell("not now: wait until everything is saved");
    return false;
  }

  /** Move the photo into the trash beside the photos, and open the next one. */
  async trashPhoto() {
    const photo = this.current;
    if (!photo || !this.isSettled()) return;
    const { reviewed, left_out = false } = photo;
    const next = this.neighbour(1) ?? this.neighbour(-1) ?? this.photos.find((other) => other !== photo);
    await this.store.trash(photo.id);
    this.photos = this.photos.filter((other) => other !== photo);
    Object.assign(this, { state: null, question: null, selected: null, held: null });
    if (next) this.open(next.id);
    else this.current = null;
    this.noteStep(async () => {
      await this.store.restore(photo.id);
      await this.refresh();
      this.#setFlags(this.photo(photo.id), { reviewed, left_out });
      this.open(photo.id);
    }, `${photo.name} is back`);
    this.tell(`${photo.name} deleted`);
    this.changed();
  }

  /** Copy a photo that was tried into the project; undo moves it into the trash. */
  async takeIn({ id: tried, boxes }) {
    const { id, name } = await this.store.takeIn(tried);
    const unknown = [...new Set(boxes.map(({ label }) => label))].filter((label) => !this.labels.includes(label));
    if (unknown.length) this.saver.addLabels(unknown);
    await this.refresh();
    return { id, name };
  }

  /** Take over boxes that lie beside the photos; undo takes them out again. */
  async takeOver(format) {
    if (!this.isSettled()) return;
    const { boxes, before } = await this.store.takeOver(format);
    await this.refresh();
    this.noteStep(async () => {
      for (const [id, change] of before) this.saver.add(id, change);
      await this.refresh();
    }, "what was taken over is gone again");
    this.tell(`${counted(boxes, "box", "boxes")} taken over`);
  }

  /** Remember how to take back what changes more than the open photo, and what is said then. */
  noteStep(back, says) {
    this.#steps.push({ order: this.nextStep(), back, says });
  }

  /** Take back what was done last, be it in this photo or in many. */
  async undo() {
    const step = this.#steps.at(-1);
    if (!step || step.order < this.lastStep) return super.undo();
    if (!this.isSettled()) return undefined;
    await step.back();
    this.#steps.pop();
    return this.tell(step.says);
  }
}
