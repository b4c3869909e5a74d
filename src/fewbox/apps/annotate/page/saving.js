// Every change is sent at once, one request after the other; what fails is tried again until it is saved.
//
// The store and what keeps unsaved changes across reloads come from outside, so this runs in node as well:
// `unsaved` has keep({labels, photos}) -> whether it could, and photos is [[photo id, change]].

import { NO_CHANGE, combined } from "./history.js";

const FIRST_PAUSE = 500; // milliseconds before a failed save is tried again; doubled each time
const LONGEST_PAUSE = 15_000;

export class Saver extends EventTarget {
  // What the status line shows. kind: "saved", "saving", "failed" (tried again by itself at `retryAt`), or
  // "refused" (the server will not take it, so trying again is left to the person).
  status = { kind: "saved", at: null };
  #store;
  #unsaved;
  #queued = new Map(); // photo id -> change
  #refused = new Map();
  #refusal = null; // why
  #labels = [];
  #sent = null; // [photo id, change] on its way
  #running = false;
  #kept = true;
  // Photo id -> {seen, file}: the version that is being changed, so that the server can tell of others, and the photo's
  // file that boxes are drawn in, so that it can refuse them once that has been turned or replaced.
  #seen = new Map();
  #wake = null;

  constructor(store, unsaved) {
    super();
    this.#store = store;
    this.#unsaved = unsaved;
  }

  /** Save `change` to a photo, or add it to what is waiting to be saved there. */
  add(id, change) {
    const { seen, file } = change;
    if (seen || file) this.#seen.set(id, { seen, file }); // kept by a window that is no longer there
    this.#queue(id, change);
    this.#run();
  }

  /**
   * Note which version of a photo is seen now, and which file; what waits to be saved was made to an older one. True
   * if it was another file before.
   */
  saw(id, seen, file) {
    if (this.pending(id) !== NO_CHANGE) return false;
    const { file: before } = this.#seen.get(id) ?? {};
    this.#seen.set(id, { seen, file });
    return before !== undefined && before !== file;
  }

  /** Forget which versions were seen, as this page has changed many photos itself. */
  forgetSeen() {
    for (const [id, { file }] of this.#seen) if (this.pending(id) === NO_CHANGE) this.#seen.set(id, { file });
  }

  addLabels(labels) {
    this.#labels = [...new Set([...this.#labels, ...labels])];
    this.#keep();
    this.#run();
  }

  /** What is not yet saved of a photo. */
  pending(id) {
    const sent = this.#sent?.[0] === id ? this.#sent[1] : null;
    const waiting = [sent, this.#refused.get(id), this.#queued.get(id)].filter(Boolean);
    return waiting.length ? waiting.reduce(combined) : NO_CHANGE;
  }

  get pendingLabels() {
    return this.#labels;
  }

  /** Whether nothing would be lost if the page were closed now. */
  get safe() {
    return this.#kept || this.#photos().length + this.#labels.length === 0;
  }

  /** Try again at once, also what was refused. */
  retry() {
    for (const [id, change] of this.#refused) {
      this.#queued.set(id, combined(change, this.#queued.get(id) ?? NO_CHANGE));
    }
    this.#refused.clear();
    this.#wake?.();
    this.#run();
  }

  /** Give up what was refused. */
  discard() {
    this.#refused.clear();
    this.#keep();
    this.#tell({ kind: "saved", at: null });
    this.dispatchEvent(new Event("discarded"));
    this.#run();
  }

  #queue(id, change) {
    this.#queued.set(id, combined(this.#queued.get(id) ?? NO_CHANGE, change));
    this.#keep();
  }

  #photos() {
    const ids = new Set([...this.#refused.keys(), ...this.#queued.keys()]);
    if (this.#sent) ids.add(this.#sent[0]);
    return [...ids].map((id) => [id, this.#withSeen(id, this.pending(id))]);
  }

  #withSeen(id, change) {
    const { seen, file } = this.#seen.get(id) ?? {};
    return { ...change, ...(seen && { seen }), ...(file && { file }) };
  }

  #keep() {
    this.#kept = this.#unsaved.keep({ labels: this.#labels, photos: this.#photos() });
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    for (let pause = FIRST_PAUSE; this.#labels.length || this.#queued.size; ) {
      if (this.status.kind === "saved") this.#tell({ kind: "saving" });
      try {
        await this.#sendNext();
        pause = FIRST_PAUSE;
        if (this.status.kind === "failed") this.#tell({ kind: "saving" });
      } catch (error) {
        this.#tell({ kind: "failed", error, retryAt: Date.now() + pause, kept: this.#kept });
        await this.#pause(pause);
        pause = Math.min(2 * pause, LONGEST_PAUSE);
      }
    }
    this.#running = false;
    if (this.#refused.size) this.#tell({ kind: "refused", error: this.#refusal });
    else this.#tell({ kind: "saved", at: new Date() });
  }

  /** Send the labels, or else the oldest change; throw if it is worth trying again. */
  async #sendNext() {
    if (this.#labels.length) {
      const labels = this.#labels;
      try {
        this.#acknowledge(null, await this.#store.labels({ labels }));
      } catch (error) {
        if (!error.refused) throw error; // else the boxes that have such a label are refused, and it is said
      }
      this.#labels = this.#labels.filter((label) => !labels.includes(label));
      this.#keep();
      return;
    }
    const [id, change] = this.#queued.entries().next().value;
    this.#queued.delete(id);
    this.#sent = [id, change];
    try {
      const state = await this.#store.patch(id, this.#withSeen(id, change));
      this.#sent = null;
      if (state.version) this.#seen.set(id, { ...this.#seen.get(id), seen: state.version });
      this.#keep();
      this.#acknowledge(id, state);
    } catch (error) {
      this.#sent = null;
      const waiting = combined(change, this.#queued.get(id) ?? NO_CHANGE);
      if (!error.refused) {
        this.#queued.set(id, waiting);
        throw error;
      }
      this.#queued.delete(id);
      this.#refused.set(id, waiting);
      this.#refusal = error;
      this.#keep();
    }
  }

  /** Say what the store answered; `id` is that of the photo, null after new labels. */
  #acknowledge(id, state) {
    this.dispatchEvent(new CustomEvent("acknowledged", { detail: { id, state } }));
  }

  #pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #tell(status) {
    this.status = status;
    this.dispatchEvent(new Event("status"));
  }
}
