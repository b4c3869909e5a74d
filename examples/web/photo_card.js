// One photo on the page, with the boxes found in it and a list of them in words.

import { colourOf, inkOn } from "./colours.js";
import { count, h } from "./dom.js";

export class PhotoCard {
  #picture = h("div", { class: "picture" });
  #name;
  #state = h("span", { class: "state" }, "Waits for a detector");
  #list = h("ul", { class: "found" });
  #image;
  #seen = null; // by which detector, and with which threshold
  found = [];

  /** `onRemove` is called when the button to remove it is pressed. */
  constructor(file, onRemove) {
    this.file = file;
    this.#name = file.name || "pasted picture";
    this.#image = h("img", { src: URL.createObjectURL(file), alt: this.#name });
    this.#image.addEventListener("error", () => this.#image.remove(), { once: true });
    this.#picture.append(this.#image);
    const remove = h("button", { type: "button", class: "remove", onclick: onRemove }, "×");
    remove.setAttribute("aria-label", `Remove ${this.#name}`);
    const title = h("h2", { title: this.#name }, this.#name);
    const caption = h("div", { class: "caption" }, title, this.#state, remove);
    this.element = h("li", { class: "card" }, this.#picture, caption, this.#list);
  }

  isSeenBy(detector, scoreThreshold) {
    return this.#seen !== null && this.#seen.detector === detector && this.#seen.scoreThreshold === scoreThreshold;
  }

  showBusy() {
    this.element.setAttribute("aria-busy", "true");
    if (this.#seen === null) this.#state.textContent = "Looking";
  }

  showFound(detector, scoreThreshold, { found, width, height, milliseconds }) {
    this.#end({ detector, scoreThreshold }, found);
    this.#state.textContent = `${found.length || "nothing"} found · ${milliseconds.toFixed(0)} ms`;
    this.#state.title = `${width} × ${height} pixels`;
    this.#image.alt = `${this.#name}: ${count(found.length, "object")} found`;
    // The first box, the best, is drawn last, over the others.
    this.#picture.append(...found.map((one) => boxOf(one, width, height)).reverse());
    this.#list.replaceChildren(...found.map(wordsOf));
  }

  showTrouble(detector, scoreThreshold, { message, hint }) {
    this.#end({ detector, scoreThreshold }, []);
    this.element.classList.add("failed");
    this.#state.textContent = "Cannot be read";
    this.#list.replaceChildren(h("li", {}, `${message}. ${hint ?? ""}`));
  }

  #end(seen, found) {
    this.#seen = seen;
    this.found = found;
    this.element.removeAttribute("aria-busy");
    this.element.classList.remove("failed");
    for (const old of this.#picture.querySelectorAll(".box")) old.remove();
  }

  close() {
    this.element.remove();
    URL.revokeObjectURL(this.#image.src);
  }
}

/** A box over the picture; in per cent, so that it stays in place whatever the picture's size. */
function boxOf({ label, score, classId, box: [x1, y1, x2, y2] }, width, height) {
  const tag = h("span", { class: "tag" }, `${label} ${score.toFixed(2)}`);
  const box = h("div", { class: "box", "aria-hidden": "true" }, tag);
  box.style.setProperty("--colour", colourOf(classId));
  box.style.setProperty("--ink", inkOn(classId));
  box.style.left = `${(100 * x1) / width}%`;
  box.style.top = `${(100 * y1) / height}%`;
  box.style.width = `${(100 * (x2 - x1)) / width}%`;
  box.style.height = `${(100 * (y2 - y1)) / height}%`;
  // A tag stands over its box where there is room, and reaches towards the middle of the photo.
  box.classList.toggle("at-top", y1 < 0.1 * height);
  box.classList.toggle("at-right", x1 + x2 > width);
  return box;
}

function wordsOf({ label, score, classId, box }) {
  const swatch = h("span", { class: "swatch", "aria-hidden": "true" });
  swatch.style.setProperty("--colour", colourOf(classId));
  const words = [h("span", { class: "label" }, label), h("span", { class: "score" }, score.toFixed(2))];
  const row = h("li", {}, swatch, ...words);
  row.title = `x1, y1, x2, y2: ${box.map((edge) => edge.toFixed(1)).join(", ")}`;
  row.dataset.score = score; // in full, for whoever reads the page by script
  row.dataset.box = JSON.stringify(box);
  return row;
}
