// Decoded photos, a few at a time: the one in sight, its neighbours, and the current one at full size.

const KEPT = 6;

export class Pictures {
  shown = null; // the ImageBitmap that is in sight, which stays open
  #store;
  #kept = new Map(); // "side id file" -> promise of an ImageBitmap; the least recently used first

  constructor(store) {
    this.#store = store;
  }

  /** The upright photo {id, file}, its longer side at most `side` pixels; 0: as large as it is. */
  get({ id, file = "" }, side) {
    const key = `${side} ${id} ${file}`;
    const picture = this.#kept.get(key) ?? this.#load(id, side);
    this.#kept.delete(key);
    this.#kept.set(key, picture);
    picture.catch(() => this.#kept.delete(key));
    for (const oldest of [...this.#kept.keys()].slice(0, -KEPT)) this.#forget(oldest);
    return picture;
  }

  /** Full-size pictures are large: forget them once another photo is open. */
  forgetFullSize() {
    for (const key of this.#kept.keys()) if (key.startsWith("0 ")) this.#forget(key);
  }

  async #load(id, side) {
    // Decodes in a thread of its own.
    return createImageBitmap(await this.#store.image(id, side));
  }

  #forget(key) {
    this.#kept.get(key).then((bitmap) => bitmap === this.shown || bitmap.close(), () => {});
    this.#kept.delete(key);
  }
}
