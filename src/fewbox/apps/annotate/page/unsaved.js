// Changes that are not saved yet, kept in the browser: a reload, a crash or a dead server loses none.

/** What a page has where it has no such place: a notebook. */
export const NOWHERE = { keep: () => false, adopt: async () => {} };

/**
 * Keep the unsaved changes of this window in `storage` (localStorage), under a name of its own, because
 * several windows may be open on one project.
 */
export class Unsaved {
  #storage;
  #prefix;
  #formerPrefix;
  #name;
  #locks;

  constructor(storage, project, locks = navigator.locks) {
    this.#storage = storage;
    this.#locks = locks; // undefined if the page comes neither from this machine nor by https
    this.#prefix = `fewbox unsaved ${project} `;
    this.#formerPrefix = `goldeneye unsaved ${project} `; // what fewbox was called before
    this.#name = this.#prefix + crypto.getRandomValues(new Uint32Array(2)).join("-");
    // Held while this window lives, so that others leave its changes alone.
    locks?.request(this.#name, () => new Promise(() => {}));
  }

  keep({ labels, photos }) {
    try {
      if (labels.length + photos.length === 0) this.#storage.removeItem(this.#name);
      else this.#storage.setItem(this.#name, JSON.stringify({ labels, photos }));
      return true;
    } catch {
      return false; // full, or forbidden by the browser's settings
    }
  }

  /** Take over what windows left behind that are no longer there; once it is kept here, forget it there. */
  async adopt(take) {
    const { held = [] } = (await this.#locks?.query()) ?? {};
    const alive = new Set(held.map(({ name }) => name));
    for (const name of Object.keys(this.#storage)) {
      const ours = name.startsWith(this.#prefix) || name.startsWith(this.#formerPrefix);
      if (!ours || alive.has(name)) continue;
      try {
        take(JSON.parse(this.#storage.getItem(name)));
      } catch {
        continue; // not what was put there; the page must open all the same
      }
      this.#storage.removeItem(name);
    }
  }
}
