// Every change is sent at once, one request after the other; what fails is tried again until it is saved.
//
// The store and what keeps unsaved changes across reloads come from outside, so this runs in node as well:
// `unsaved` has keep({labels, photos}) -> whether it could, and photos is [[photo id, change]].

import { NO_CHANGE, combined, isNothing, withoutThoseOf } from "./history.js";

const FIRST_PAUSE = 500; // milliseconds before a failed save is tried again; doubled each time
const LONGEST_PAUSE = 15_000;

/** A change with what it was made to, as the server takes it. */
function toSend({ change, seen, content }) {
  return { ...change, ...(seen && { seen }), ...(content && { content }) };
}

/** As `add` takes it, in the window that goes on. */
function toKeep(part) {
  const isSent = part.state === "sent" || part.state === "unanswered";
  return { ...toSend(part), ...(isSent && { isSent }) };
}

export class Saver extends EventTarget {
  // What the status line shows. kind: "saved", "saving", "failed" (tried again by itself at `retryAt`), or
  // "refused" (the server will not take it, so trying again is left to the person).
  status = { kind: "saved", at: null };
  #store;
  #unsaved;
  // Photo id -> what is not saved of it, the oldest first: {change, seen, content, state}. `seen` is the version that
  // is changed, so that the server can tell of others, and `content` a hash of the picture that the boxes are drawn in,
  // so that it can refuse them once that has been turned or replaced. state: "waiting", "sent", "unanswered" (it may be
  // saved already, so this very change goes again), or "refused".
  #parts = new Map();
  #refusal = null; // why
  #labels = [];
  #running = false;
  #kept = true;
  #seen = new Map(); // photo id -> {seen, content}, as it is now
  #wake = null;

  constructor(store, unsaved) {
    super();
    this.#store = store;
    this.#unsaved = unsaved;
  }

  /** Save `change` to a photo, or add it to what is waiting to be saved there; `kept` by a window that is gone. */
  add(id, { seen, content, isSent, ...change }) {
    if (seen || content) this.#seen.set(id, { seen, content });
    const now = this.#seen.get(id) ?? {};
    const parts = this.#of(id).flatMap((part) => {
      if (part.state !== "refused") return [part];
      const left = { ...part, change: withoutThoseOf(part.change, change) };
      return isNothing(left.change) ? [] : [left];
    });
    const last = parts.at(-1);
    if (last?.state === "waiting" && !isSent && last.content === now.content) {
      last.change = combined(last.change, change);
    } else {
      parts.push({ change, ...now, state: isSent ? "unanswered" : "waiting" });
    }
    this.#parts.set(id, parts);
    this.#keep();
    this.#run();
  }

  /**
   * Note which version of a photo is seen now, and which picture; what waits to be saved was made to an older one.
   * True if it was another picture before; of one whose file is gone nothing is known.
   */
  saw(id, seen, content) {
    const { content: before } = this.#seen.get(id) ?? {};
    const isOther = Boolean(before && content) && before !== content;
    if (isOther || this.#of(id).length === 0) this.#seen.set(id, { seen, content: content || before });
    return isOther;
  }

  /** Forget which versions were seen, as this page has changed many photos itself. */
  forgetSeen() {
    for (const [id, { content }] of this.#seen) if (this.#of(id).length === 0) this.#seen.set(id, { content });
  }

  addLabels(labels) {
    this.#labels = [...new Set([...this.#labels, ...labels])];
    this.#keep();
    this.#run();
  }

  /** What is not yet saved of a photo. */
  pending(id) {
    return this.#of(id).reduce((all, { change }) => combined(all, change), NO_CHANGE);
  }

  #of(id) {
    return this.#parts.get(id) ?? [];
  }

  get pendingLabels() {
    return this.#labels;
  }

  /** Whether nothing would be lost if the page were closed now. */
  get safe() {
    return this.#kept || this.#parts.size + this.#labels.length === 0;
  }

  /** Try again at once, also what was refused. */
  retry() {
    for (const part of [...this.#parts.values()].flat()) if (part.state === "refused") part.state = "waiting";
    this.#wake?.();
    this.#run();
  }

  /** Give up what was refused. */
  discard() {
    for (const [id, parts] of this.#parts) this.#leave(id, parts.filter(({ state }) => state !== "refused"));
    this.#keep();
    this.#tell(this.#parts.size + this.#labels.length ? { kind: "saving" } : { kind: "saved", at: null });
    this.dispatchEvent(new Event("discarded"));
    this.#run();
  }

  /** Let these parts be all that is not saved of a photo. */
  #leave(id, parts) {
    if (parts.length) this.#parts.set(id, parts);
    else this.#parts.delete(id);
  }

  #keep() {
    const photos = [...this.#parts].flatMap(([id, parts]) => parts.map((part) => [id, toKeep(part)]));
    this.#kept = this.#unsaved.keep({ labels: this.#labels, photos });
  }

  /** The oldest change that the server has not answered: [photo id, part]. */
  #next() {
    for (const [id, parts] of this.#parts) {
      const part = parts.find(({ state }) => state !== "refused");
      if (part) return [id, part];
    }
    return null;
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    for (let pause = FIRST_PAUSE; this.#labels.length || this.#next(); ) {
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
    if (this.#parts.size) this.#tell({ kind: "refused", error: this.#refusal });
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
    const [id, part] = this.#next();
    part.state = "sent";
    try {
      const state = await this.#store.patch(id, toSend(part));
      this.#leave(id, this.#of(id).filter((one) => one !== part));
      if (state.version) {
        this.#seen.set(id, { ...this.#seen.get(id), seen: state.version });
        for (const one of this.#of(id)) one.seen = state.version;
      }
      this.#keep();
      this.#acknowledge(id, state);
    } catch (error) {
      if (!error.refused) {
        part.state = "unanswered";
        const parts = this.#of(id);
        this.#parts.delete(id); // the others come first, should it be this photo that fails
        this.#parts.set(id, parts);
        throw error;
      }
      this.#refuse(id, part);
      this.#refusal = error;
      this.#keep();
    }
  }

  /**
   * With what was done since in the same picture, and with what was refused there before, but for the boxes that have
   * been drawn anew in another picture.
   */
  #refuse(id, { content }) {
    const isSame = (part) => part.content === content;
    const same = this.#of(id).filter(isSame);
    const others = this.#of(id).filter((part) => !isSame(part));
    const change = others.reduce(
      (left, other) => withoutThoseOf(left, other.change),
      same.map((part) => part.change).reduce(combined),
    );
    const refused = isNothing(change) ? [] : [{ ...same[0], change, state: "refused" }];
    this.#leave(id, [...refused, ...others]);
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
