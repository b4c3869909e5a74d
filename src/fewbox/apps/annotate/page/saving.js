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
  #queued = new Map(); // photo id -> change; NO_CHANGE where there is none but an unanswered one
  #unanswered = new Map(); // photo id -> a change that may be saved already: it goes again, alone, before those since
  #refused = new Map();
  #refusal = null; // why
  #labels = [];
  #sent = null; // [photo id, change] on its way
  #running = false;
  #kept = true;
  // Photo id -> {seen, content}: the version that is being changed, so that the server can tell of others, and a hash
  // of the photo that boxes are drawn in, so that it can refuse them once that has been turned or replaced.
  #seen = new Map();
  #wake = null;

  constructor(store, unsaved) {
    super();
    this.#store = store;
    this.#unsaved = unsaved;
  }

  /** Save `change` to a photo, or add it to what is waiting to be saved there; `kept` by a window that is gone. */
  add(id, { seen, content, isSent, ...change }) {
    if (seen || content) this.#seen.set(id, { seen, content });
    if (isSent && !this.#queued.has(id)) this.#sendAgain(id, change);
    else this.#queued.set(id, combined(this.#queued.get(id) ?? NO_CHANGE, change));
    this.#keep();
    this.#run();
  }

  /**
   * Note which version of a photo is seen now, and which picture; what waits to be saved was made to an older one.
   * True if it was another picture before; of one whose file is gone nothing is known.
   */
  saw(id, seen, content) {
    if (this.pending(id) !== NO_CHANGE) return false;
    const { content: before } = this.#seen.get(id) ?? {};
    this.#seen.set(id, { seen, content: content || before });
    return Boolean(before && content) && before !== content;
  }

  /** Forget which versions were seen, as this page has changed many photos itself. */
  forgetSeen() {
    for (const [id, { content }] of this.#seen) if (this.pending(id) === NO_CHANGE) this.#seen.set(id, { content });
  }

  addLabels(labels) {
    this.#labels = [...new Set([...this.#labels, ...labels])];
    this.#keep();
    this.#run();
  }

  /** What is not yet saved of a photo. */
  pending(id) {
    const waiting = this.#waiting(id);
    return waiting.length ? waiting.reduce(combined) : NO_CHANGE;
  }

  /** The changes that it is made of, the oldest first. */
  #waiting(id) {
    const all = [this.#refused.get(id), this.#sentOf(id), this.#queued.get(id)];
    return all.filter((change) => change && change !== NO_CHANGE);
  }

  /** What may be saved of a photo already. */
  #sentOf(id) {
    return this.#sent?.[0] === id ? this.#sent[1] : this.#unanswered.get(id);
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
    for (const id of this.#refused.keys()) this.#queued.set(id, this.pending(id));
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

  /**
   * Send this very change once more. With others it would be a new one, made to what the photo was before: the server
   * would take what this one has left there for somebody else's.
   */
  #sendAgain(id, change) {
    this.#unanswered.set(id, change);
    this.#queued.set(id, this.#queued.get(id) ?? NO_CHANGE);
  }

  #photos() {
    const ids = new Set([...this.#refused.keys(), ...this.#queued.keys()]);
    if (this.#sent) ids.add(this.#sent[0]);
    return [...ids].flatMap((id) => this.#parts(id).map((change) => [id, this.#withSeen(id, change)]));
  }

  /** What is pending of a photo, apart what may be saved already. */
  #parts(id) {
    const [sent, ...since] = this.#waiting(id);
    if (sent !== this.#sentOf(id)) return [this.pending(id)];
    return [{ ...sent, isSent: true }, ...since];
  }

  #withSeen(id, change) {
    const { seen, content } = this.#seen.get(id) ?? {};
    return { ...change, ...(seen && { seen }), ...(content && { content }) };
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
    const [id, waiting] = this.#queued.entries().next().value;
    const again = this.#unanswered.get(id);
    const change = again ?? waiting;
    this.#queued.delete(id);
    this.#unanswered.delete(id);
    if (again && waiting !== NO_CHANGE) this.#queued.set(id, waiting);
    this.#sent = [id, change];
    try {
      const state = await this.#store.patch(id, this.#withSeen(id, change));
      this.#sent = null;
      if (state.version) this.#seen.set(id, { ...this.#seen.get(id), seen: state.version });
      this.#keep();
      this.#acknowledge(id, state);
    } catch (error) {
      if (!error.refused) {
        this.#sent = null;
        this.#sendAgain(id, change);
        throw error;
      }
      this.#refused.set(id, this.pending(id));
      this.#sent = null;
      this.#queued.delete(id);
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
