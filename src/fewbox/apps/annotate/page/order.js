// In which order things came, so that an older answer is told from a newer change. Pure.

export class Order {
  now = 0; // counts the changes of all photos, and the answers about them
  #last = new Map(); // photo id -> the number of the last one there

  note(id) {
    this.now += 1;
    this.#last.set(id, this.now);
  }

  /** Whether something has come of a photo since `before`, so that what was asked for then says nothing new of it. */
  isNewer(id, before) {
    return (this.#last.get(id) ?? 0) > before;
  }
}
