// The photos of a project: which are listed, which is open, and which lies before or after it. It says "change"
// whenever something is to be shown anew, "say" (detail: text) what a person who cannot see the page is to hear,
// and "tell" what everybody should notice.

import { isShown } from "./words.js";

export class PhotoList extends EventTarget {
  name = "";
  photos = []; // {id, name, width, height, file, reviewed, left_out, num_boxes, labels, error}
  filter = "all"; // which photos are shown; see words.js
  search = ""; // and what their names have in them
  current = null; // one of `photos`

  photo(id) {
    return this.photos.find((photo) => photo.id === id);
  }

  /** List the photos of `rows`, where `now(row)` is what to show of one, or null if it is shown as it is by now. */
  takeRows(rows, now) {
    const known = new Map(this.photos.map((photo) => [photo.id, photo]));
    this.photos = rows.map((row) => {
      const photo = known.get(row.id) ?? row; // one photo stays one object
      const { width, height, file } = photo;
      return Object.assign(photo, now(row), row.width || row.file !== file ? {} : { width, height });
    });
    this.current = this.photo(this.current?.id) ?? null;
  }

  get shownPhotos() {
    return this.photos.filter((photo) => isShown(photo, this.filter, this.search));
  }

  setFilter(filter) {
    this.filter = filter;
    this.changed();
  }

  /** The nearest shown photo before (-1) or after (1) the current one, of those that `isWanted`. */
  neighbour(direction, isWanted = () => true) {
    const from = this.photos.indexOf(this.current);
    for (let at = from + direction; at >= 0 && at < this.photos.length; at += direction) {
      const photo = this.photos[at];
      if (isShown(photo, this.filter, this.search) && isWanted(photo)) return photo;
    }
    return null;
  }

  say(text) {
    this.dispatchEvent(new CustomEvent("say", { detail: text }));
  }

  tell(text) {
    this.dispatchEvent(new CustomEvent("tell", { detail: text }));
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }
}
