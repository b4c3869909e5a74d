// The stage: two canvases over each other, drawn at the pixels of the screen. The photo is drawn again only
// when the view changes, so that drawing a box on 24 megapixels costs no more than on one.

import { colourOf, inkOn } from "./colours.js";
import { KNOB, boxOnStage, fitted, framed, knobOf, zoomed } from "./geometry.js";
import { sizeOf } from "./words.js";

const PREVIEW_SIDES = [1600, 2560]; // pixels of the picture that is shown until one zooms in
const HANDLE = 8; // this and all below: stage pixels
const TAG = 18;
const LENS = 64;
const FONT = "600 12px system-ui, sans-serif";

export class Stage {
  view = { scale: 1, x: 0, y: 0 };
  size = { width: 1, height: 1 };
  photo = null; // what can be drawn on: {id, width, height, file}, where `file` is other once it is turned or replaced
  pointer = null; // where the cross-hair is, [x, y], or null for none
  finger = null; // where a finger draws: it hides the place, so that is shown enlarged beside it
  #element;
  #session;
  #pictures;
  #observer = new ResizeObserver(() => this.#resize());
  #stop = new AbortController();
  #density = 1; // pixels of the screen in one of the stage, which the canvases were made for
  #isFitted = true;
  #filter = ""; // CSS: how the photo is shown; its pixels stay as they are
  #stale = new Set();

  constructor(element, session, pictures) {
    this.#element = element;
    this.#session = session;
    this.#pictures = pictures;
    this.#observer.observe(element);
    this.#followDensity();
  }

  /** Follow the window no longer. */
  stop() {
    this.#observer.disconnect();
    this.#stop.abort();
  }

  /** The window may go to a screen of another density, by which no size changes. */
  #followDensity() {
    const moved = () => {
      this.#followDensity();
      this.#resize();
    };
    const here = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    here.addEventListener("change", moved, { once: true, signal: this.#stop.signal });
  }

  /** Show the session's current photo once its size and picture are there; throw if it cannot be had. */
  async show() {
    const { id, width, height, file, error } = this.#session.current ?? {};
    const photo = width && !error ? { id, width, height, file } : null;
    if (JSON.stringify(this.photo) !== JSON.stringify(photo)) {
      this.#pictures.shown = null;
      this.#pictures.forgetFullSize();
      Object.assign(this, { photo, pointer: null });
      this.fit();
    }
    await this.#sharpen();
  }

  /** Have photos decoded before they are wanted; null for none. */
  preload(photos) {
    for (const photo of photos) {
      if (photo && !photo.error) this.#pictures.get(photo, this.#previewSide()).catch(() => {});
    }
  }

  /** Show the whole photo, and keep to that when the stage changes its size. */
  fit() {
    if (this.photo) this.setView(fitted(this.photo, this.size));
    else this.#redraw("photo", "boxes");
    this.#isFitted = true;
  }

  setView(view) {
    this.view = view;
    this.#isFitted = false;
    this.#redraw("photo", "boxes");
    this.#sharpen().catch(() => {}); // whoever called show() is told
  }

  /** Enlarge, and keep what is under `point` there. */
  zoom(point, factor) {
    if (this.photo) this.setView(zoomed(this.view, point, factor, this.photo, this.size));
  }

  /** Show a box enlarged, or the whole photo if it is shown so already. */
  frame(box) {
    const view = framed(box, this.photo, this.size);
    const isThere = Object.keys(view).every((name) => Math.abs(view[name] - this.view[name]) < 1e-6);
    if (isThere) this.fit();
    else this.setView(view);
  }

  /** Show the photo brighter, say, by a CSS filter. */
  setFilter(filter) {
    this.#filter = filter;
    this.#element.querySelector("canvas").style.filter = filter;
  }

  setPointer(point) {
    this.pointer = point;
    this.redrawBoxes();
  }

  setFinger(point) {
    this.finger = point;
    this.redrawBoxes();
  }

  redrawBoxes() {
    this.#redraw("boxes");
  }

  #previewSide() {
    const wanted = Math.max(this.size.width, this.size.height) * devicePixelRatio;
    return PREVIEW_SIDES.find((side) => side >= wanted) ?? PREVIEW_SIDES.at(-1);
  }

  /** Get the picture that the view needs: a preview, and the full size once that shows more. */
  async #sharpen() {
    const { photo } = this;
    if (!photo) return;
    const preview = this.#previewSide();
    const longer = Math.max(photo.width, photo.height);
    const isTooCoarse = longer > preview && longer * this.view.scale * devicePixelRatio > preview;
    for (const side of isTooCoarse ? [preview, 0] : [preview]) {
      const { shown } = this.#pictures;
      if (shown && (side || shown.width >= photo.width)) continue;
      const picture = await this.#pictures.get(photo, side);
      if (photo !== this.photo) return;
      this.#pictures.shown = picture;
      this.#redraw("photo");
    }
  }

  #resize() {
    const { width, height } = this.#element.getBoundingClientRect();
    if (!width || !height) return;
    this.size = { width, height };
    this.#density = devicePixelRatio;
    for (const canvas of this.#element.querySelectorAll("canvas")) {
      canvas.width = Math.round(width * this.#density);
      canvas.height = Math.round(height * this.#density);
    }
    if (this.#isFitted) this.fit();
    this.#redraw("photo", "boxes");
    this.#sharpen().catch(() => {}); // whoever called show() is told
  }

  #redraw(...layers) {
    if (!this.#stale.size) requestAnimationFrame(() => this.#paint());
    for (const layer of layers) this.#stale.add(layer);
  }

  #paint() {
    if (this.#density !== devicePixelRatio) this.#resize(); // not told yet
    const [photoCanvas, boxCanvas] = this.#element.querySelectorAll("canvas");
    const stale = this.#stale;
    this.#stale = new Set();
    if (stale.has("photo")) this.#paintPhoto(cleared(photoCanvas, this.#density));
    if (!stale.has("boxes")) return;
    const context = cleared(boxCanvas, this.#density);
    this.#paintBoxes(context, this.size);
    this.#paintKnob(context);
    if (this.pointer) paintCrossHair(context, this.pointer, this.size);
    if (this.finger) this.#paintLens(context, this.finger);
  }

  #paintPhoto(context) {
    const { shown } = this.#pictures;
    if (!this.photo || !shown) return;
    const [left, top, right, bottom] = boxOnStage(this.view, [0, 0, this.photo.width, this.photo.height]);
    // Far in, pixels are to be seen as what they are: an edge lies between two of them.
    context.imageSmoothingEnabled = this.view.scale < 6;
    context.imageSmoothingQuality = "medium";
    context.drawImage(shown, left, top, right - left, bottom - top);
  }

  /** Draw the boxes; their labels stay in sight in what is as large as `room`. */
  #paintBoxes(context, room) {
    const { draft, shownItems, selected, held, labels, question } = this.#session;
    context.font = FONT;
    const shown = shownItems.map((item) => (item.id === draft?.id ? { ...item, ...draft } : item));
    // Also where a new round no longer proposes what is being moved: it becomes a box all the same.
    if (draft && !shownItems.some(({ id }) => id === draft.id)) shown.push(draft);
    const isFocused = (item) => item.id === selected || item === draft || item.id === draft?.id;
    // The surest proposal lies above the others, and what one has in hand above all.
    for (const item of shown.reverse().sort((a, b) => isFocused(a) - isFocused(b))) {
      const colour = colourOf(labels.indexOf(item.label));
      const corners = boxOnStage(this.view, item.box);
      // What a drag would move, or what is asked about, is filled; what has just been drawn has handles only.
      const isFilled = item.id === held || item === draft || Boolean(question?.items.includes(item));
      paintBox(context, corners, item, colour, { isSelected: isFocused(item), isFilled });
      paintTag(context, corners, tagOf(item, Boolean(draft) && isFocused(item)), colour, room);
    }
  }

  /** What moves a small box that is held. */
  #paintKnob(context) {
    const { selectedItem, held, draft } = this.#session;
    const knob = selectedItem && selectedItem.id === held && !draft && knobOf(this.view, selectedItem.box, this.size);
    if (!knob) return;
    const arrows = new Path2D("M0-9V9M-9 0H9M-3-6L0-9L3-6M-3 6L0 9L3 6M-6-3L-9 0L-6 3M6-3L9 0L6 3");
    context.save();
    context.translate(...knob);
    context.fillStyle = "#ffffff";
    context.strokeStyle = "rgb(0 0 0 / 0.8)";
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(0, 0, KNOB, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
    context.stroke(arrows);
    context.restore();
  }

  /** What is under the finger, enlarged, in the corner of the stage that is further from it. */
  #paintLens(context, [x, y]) {
    const centre = [x < this.size.width / 2 ? this.size.width - LENS - 8 : LENS + 8, LENS + 8];
    const lens = new Path2D();
    lens.arc(...centre, LENS, 0, 2 * Math.PI);
    const own = this.view;
    context.save();
    context.clip(lens);
    context.fillStyle = "#444444";
    context.fill(lens);
    const scale = 2 * own.scale;
    this.view = { scale, x: centre[0] - 2 * (x - own.x), y: centre[1] - 2 * (y - own.y) };
    context.filter = this.#filter || "none"; // which Safari leaves out: there the lens shows the photo as it is
    this.#paintPhoto(context);
    context.filter = "none";
    this.#paintBoxes(context, { width: Infinity, height: Infinity });
    this.view = own;
    paintCrossHair(context, centre, this.size);
    context.restore();
    context.lineWidth = 3;
    context.strokeStyle = "#ffffff";
    context.stroke(lens);
  }
}

function cleared(canvas, density) {
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(density, 0, 0, density, 0, 0);
  return context;
}

function paintBox(context, [left, top, right, bottom], { score, ignore }, colour, { isSelected, isFilled }) {
  const [width, height] = [right - left, bottom - top];
  context.fillStyle = colour;
  context.globalAlpha = isFilled ? 0.16 : 0;
  context.fillRect(left, top, width, height);
  context.globalAlpha = 1;
  context.setLineDash(score === undefined ? (ignore ? [2, 4] : []) : [8, 6]);
  // A dark line under the coloured one, so that it shows on any photo.
  for (const [style, line] of [["rgb(0 0 0 / 0.55)", 4], [colour, isSelected ? 2.5 : 2]]) {
    context.strokeStyle = style;
    context.lineWidth = line;
    context.strokeRect(left, top, width, height);
  }
  context.setLineDash([]);
  if (!isSelected) return;
  const middle = [(left + right) / 2, (top + bottom) / 2];
  for (const x of [left, middle[0], right]) {
    for (const y of [top, middle[1], bottom]) {
      if (x === middle[0] && y === middle[1]) continue;
      context.fillStyle = "#ffffff";
      context.strokeStyle = "rgb(0 0 0 / 0.7)";
      context.lineWidth = 1;
      context.beginPath();
      context.rect(x - HANDLE / 2, y - HANDLE / 2, HANDLE, HANDLE);
      context.fill();
      context.stroke();
    }
  }
}

/** What is written on a box; while it is drawn or moved, its size too. */
function tagOf(item, isMoving) {
  const { label, score, ignore } = item;
  const words = [label];
  if (score !== undefined) words.push(`${Math.round(100 * score)}%?`);
  if (ignore) words.push("(ignored)");
  if (isMoving) words.push(sizeOf(item));
  return words.join(" ").trim();
}

function paintTag(context, [left, top, right, bottom], text, colour, room) {
  if (!text || right < 0 || bottom < 0 || left > room.width || top > room.height) return;
  const width = context.measureText(text).width + 12;
  const x = Math.max(Math.min(left - 2, room.width - width), 0);
  const y = top - TAG - 2 < 0 ? Math.max(top, 0) : top - TAG - 2;
  context.fillStyle = colour;
  context.beginPath();
  context.roundRect(x, y, width, TAG, 3);
  context.fill();
  context.fillStyle = inkOn(colour);
  context.fillText(text, x + 6, y + 13);
}

function paintCrossHair(context, [x, y], { width, height }) {
  for (const [style, shift] of [["rgb(0 0 0 / 0.6)", 1], ["rgb(255 255 255 / 0.9)", 0]]) {
    context.fillStyle = style;
    context.fillRect(0, Math.round(y) + shift, width, 1);
    context.fillRect(Math.round(x) + shift, 0, 1, height);
  }
}
