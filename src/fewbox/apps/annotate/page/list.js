// Lists of photos of which only what is in sight is in the document, however many thousands there are.

import { h } from "./dom.js";

const BEYOND = 4; // rows kept ready above and below what is in sight
const SETTLED = 90; // milliseconds a photo has to stay in sight before its thumbnail is asked for
const THUMBNAIL = 160; // pixels of its longer side

export class PhotoGrid {
  #element;
  #inner = h("div", { class: "all", role: "presentation" });
  #cell;
  #fill;
  #photos = [];
  #shown = new Map(); // photo id -> its element
  #columns = 1;

  /**
   * `cell` {width, height} in CSS pixels, width null for one column.
   * `fill(element, photo, index, count)` shows one of `count` photos, and again when it may have changed.
   */
  constructor(element, cell, fill) {
    this.#element = element;
    this.#cell = cell;
    this.#fill = fill;
    element.replaceChildren(this.#inner);
    element.addEventListener("scroll", () => this.#layOut(), { passive: true });
    this.observer = new ResizeObserver(() => this.#layOut());
    this.observer.observe(element);
  }

  show(photos) {
    this.#photos = photos;
    this.#layOut();
    for (const [id, element] of this.#shown) {
      const index = Number(element.dataset.index);
      if (photos[index]?.id === id) this.#fill(element, photos[index], index, photos.length);
    }
  }

  /** Bring a photo into sight. */
  reveal(photo) {
    const index = this.#photos.indexOf(photo);
    if (index < 0) return;
    const { height } = this.#cell;
    const [top, room] = [Math.floor(index / this.#columns) * height, this.#element.clientHeight];
    const { scrollTop } = this.#element;
    if (top < scrollTop) this.#element.scrollTop = top - height;
    else if (top + height > scrollTop + room) this.#element.scrollTop = top + 2 * height - room;
    this.#layOut();
  }

  elementOf(photo) {
    return this.#shown.get(photo?.id);
  }

  #layOut() {
    const { width, height } = this.#cell;
    this.#columns = width ? Math.max(Math.floor(this.#inner.clientWidth / width), 1) : 1;
    this.#inner.style.height = `${Math.ceil(this.#photos.length / this.#columns) * height}px`;
    const first = Math.max(Math.floor(this.#element.scrollTop / height) - BEYOND, 0) * this.#columns;
    const rows = Math.ceil(this.#element.clientHeight / height) + 2 * BEYOND;
    const wanted = this.#photos.slice(first, first + rows * this.#columns);
    const ids = new Set(wanted.map(({ id }) => id));
    for (const [id, element] of this.#shown) {
      if (!ids.has(id)) {
        element.remove();
        this.#shown.delete(id);
      }
    }
    wanted.forEach((photo, at) => this.#place(photo, first + at));
  }

  #place(photo, index) {
    const isNew = !this.#shown.has(photo.id);
    const element = this.#shown.get(photo.id) ?? h("div", { class: "cell" });
    element.dataset.index = index;
    const [column, row] = [index % this.#columns, Math.floor(index / this.#columns)];
    element.style.width = `${100 / this.#columns}%`;
    element.style.transform = `translate(${100 * column}%, ${row * this.#cell.height}px)`;
    if (!isNew) return;
    this.#shown.set(photo.id, element);
    this.#fill(element, photo, index, this.#photos.length);
    this.#inner.append(element);
  }
}

/** The thumbnail of a photo, asked for once it has stayed in the document for a moment. */
export function thumbnail(photo, store) {
  const image = h("img", { alt: "", decoding: "async", draggable: false, class: "thumbnail" });
  image.onerror = () => image.removeAttribute("src"); // the photo itself says why, once it is opened
  setTimeout(async () => {
    if (!image.isConnected || photo.error) return;
    const address = await store.imageUrl(photo.id, THUMBNAIL).catch(() => null); // the photo may have gone
    if (address) image.src = address;
  }, SETTLED);
  return image;
}
