// Mouse, pen and fingers on the stage: draw, select, move, resize, pan, zoom, pinch.
//
// A drag draws a box, also over and inside of others. It moves or resizes a box only if that is held, which
// means that a click, a tap or Tab has picked it up; what has just been drawn is not, and has no more than its
// handles to resize it by, so that the next box may lie in it. With Shift, Ctrl, Alt or Command a drag always
// draws. What is not a drag is a click, and picks up. Two fingers move and zoom the photo.

import { KNOB, boxBetween, clamp, handleAt, isBox, itemAt, knobOf, moved, resized } from "./geometry.js";
import { panned, partAt, pinched, toPhoto } from "./geometry.js";

const SLIP = 4; // stage pixels that a click may slip
const REACH = { mouse: 7, pen: 12, touch: 20 }; // stage pixels around an edge that still take hold of it
const CURSORS = { n: "ns", s: "ns", w: "ew", e: "ew", nw: "nwse", se: "nwse", ne: "nesw", sw: "nesw" };

export class PointerInput {
  #element;
  #stage;
  #session;
  #down = new Map(); // pointer id -> where it is now
  // {kind, photo, start, from, ...}: where it began, on the stage and in the photo, which may be zoomed meanwhile;
  // kind: "draw", "edit", "pan", "pinch", or "over" until all fingers are up
  #gesture = null;
  #spaceIsDown = false;
  #hasPanned = false; // since Space went down

  constructor(element, stage, session) {
    this.#element = element;
    this.#stage = stage;
    this.#session = session;
    const options = { passive: false }; // all may keep the browser from doing what it would
    const on = (type, handle) => element.addEventListener(type, (event) => handle.call(this, event), options);
    on("pointerdown", this.#press);
    on("pointermove", this.#move);
    on("pointerup", this.#release);
    on("pointercancel", this.#cancel);
    on("pointerleave", () => stage.setPointer(null));
    on("wheel", this.#wheel);
    on("contextmenu", (event) => event.preventDefault());
  }

  /** While Space is down a drag moves the photo. True if Space came up and no drag has moved it. */
  setSpace(isDown) {
    const wasDown = this.#spaceIsDown;
    if (isDown && !wasDown) this.#hasPanned = false;
    this.#spaceIsDown = isDown;
    this.#element.style.cursor = isDown ? "grab" : "";
    return wasDown && !isDown && !this.#hasPanned;
  }

  /** Forget a drag in progress. */
  abandon() {
    if (this.#gesture) this.#gesture = { kind: "over" };
  }

  #point({ clientX, clientY }) {
    const { left, top } = this.#element.getBoundingClientRect();
    return [clientX - left, clientY - top];
  }

  #press(event) {
    const { photo } = this.#stage;
    if (event.target.closest("button, .asks, .look") || !photo || !this.#session.state) return;
    event.preventDefault();
    this.#element.focus({ preventScroll: true });
    this.#element.setPointerCapture(event.pointerId);
    const start = this.#point(event);
    this.#down.set(event.pointerId, start);
    if (this.#down.size === 2) {
      this.#session.setDraft(null);
      this.#stage.setFinger(null);
      this.#gesture = { kind: "pinch", photo, view: this.#stage.view, before: [...this.#down.values()] };
    } else if (this.#down.size === 1) {
      const reach = REACH[event.pointerType] ?? REACH.mouse;
      const from = toPhoto(this.#stage.view, start);
      this.#gesture = { photo, start, from, reach, ...this.#begun(event, start, reach) };
    } else {
      this.#gesture = { kind: "over" };
    }
  }

  #begun(event, start, reach) {
    if (this.#spaceIsDown || event.button === 1) return { kind: "pan", view: this.#stage.view };
    if (event.button !== 0) return { kind: "over" };
    if (this.#session.question) this.#session.back();
    const part = this.#gripAt(event, start, reach);
    return part ? { kind: "edit", item: this.#session.selectedItem, part } : { kind: "draw" };
  }

  /** The part of the selected box that a drag from `point` takes hold of, or null. */
  #gripAt(event, point, reach) {
    const { selectedItem: item, held } = this.#session;
    const { view, size } = this.#stage;
    if (!item || event.shiftKey || event.ctrlKey || event.altKey || event.metaKey) return null;
    if (item.id !== held) return handleAt(view, item.box, point, reach);
    const knob = knobOf(view, item.box, size);
    const isOnKnob = knob && Math.hypot(point[0] - knob[0], point[1] - knob[1]) <= KNOB;
    return isOnKnob ? "inside" : partAt(view, item.box, point, reach);
  }

  #move(event) {
    const point = this.#point(event);
    if (!this.#gesture) return this.#hover(event, point);
    if (!this.#down.has(event.pointerId)) return undefined;
    this.#down.set(event.pointerId, point);
    if (this.#gesture.photo !== this.#stage.photo) this.abandon();
    const { kind, view, before, start } = this.#gesture;
    const { photo, size } = this.#stage;
    if (kind === "pinch") {
      return this.#stage.setView(pinched(view, before, [...this.#down.values()], photo, size));
    }
    if (kind === "pan") {
      this.#hasPanned = true;
      return this.#stage.setView(panned(view, point[0] - start[0], point[1] - start[1], photo, size));
    }
    this.#stage.setPointer(kind === "draw" && event.pointerType === "mouse" ? point : null);
    if (!this.#isDrag(point)) return undefined;
    if (event.pointerType === "touch") this.#stage.setFinger(point);
    return this.#session.setDraft(this.#drafted(point));
  }

  #isDrag([x, y]) {
    const { kind, start, dragged } = this.#gesture;
    if (kind !== "draw" && kind !== "edit") return false;
    this.#gesture.dragged = dragged || Math.hypot(x - start[0], y - start[1]) >= SLIP;
    return this.#gesture.dragged;
  }

  /** The box that the drag up to `point` makes. */
  #drafted(point) {
    const { kind, from, item, part } = this.#gesture;
    const { view, photo } = this.#stage;
    const to = toPhoto(view, point);
    if (kind === "draw") {
      const { labels, active } = this.#session;
      return { id: null, box: boxBetween(from, to, photo), label: labels[active] ?? "" };
    }
    const change = part === "inside" ? moved : (box, ...by) => resized(box, part, ...by);
    return { id: item.id, box: change(item.box, to[0] - from[0], to[1] - from[1], photo), label: item.label };
  }

  #release(event) {
    if (!this.#down.has(event.pointerId)) return;
    if (this.#gesture.photo !== this.#stage.photo) this.abandon();
    const point = this.#point(event);
    const { kind, item } = this.#gesture;
    if (this.#isDrag(point)) {
      const { box } = this.#drafted(point);
      if (kind === "edit") this.#session.replace(item, box);
      else if (isBox(box)) this.#session.draw(box);
      else this.#session.setDraft(null);
    } else if (kind === "draw" || kind === "edit") {
      this.#click(point);
    }
    this.#lift(event);
  }

  #click(point) {
    const { shownItems: items, held } = this.#session;
    this.#session.select(itemAt(this.#stage.view, items, point, this.#gesture.reach, held)?.id ?? null);
  }

  #cancel(event) {
    this.#session.setDraft(null);
    this.#lift(event);
  }

  /** A finger that stays down after a pinch must not draw. */
  #lift(event) {
    this.#stage.setFinger(null);
    this.#down.delete(event.pointerId);
    this.#gesture = this.#down.size ? { kind: "over" } : null;
  }

  #hover(event, point) {
    if (event.pointerType === "touch" || !this.#stage.photo) return;
    const part = this.#gripAt(event, point, REACH.mouse);
    const isOnStage = event.target.tagName === "CANVAS";
    this.#stage.setPointer(part || this.#spaceIsDown || !isOnStage ? null : point);
    const cursor = part ? (part === "inside" ? "move" : `${CURSORS[part]}-resize`) : "crosshair";
    this.#element.style.cursor = this.#spaceIsDown ? "grab" : isOnStage ? cursor : "";
  }

  #wheel(event) {
    const { photo, size } = this.#stage;
    // In a notebook the wheel scrolls the notebook until one has clicked into the stage.
    const isOurs = event.ctrlKey || this.#element.getRootNode().activeElement === this.#element;
    if (!photo || !isOurs) return;
    event.preventDefault();
    const pixels = event.deltaY * [1, 16, size.height][event.deltaMode];
    const factor = Math.exp(-clamp(pixels, -120, 120) * (event.ctrlKey ? 0.01 : 0.002));
    this.#stage.zoom(this.#point(event), factor);
  }
}
