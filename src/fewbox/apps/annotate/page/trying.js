// Try it: photos from elsewhere, what the detector finds in them, and one key that takes one into the project.

import { colourOf, inkOn } from "./colours.js";
import { opened } from "./dialogs.js";
import { button, h, key, named, text } from "./dom.js";
import { entryFor, keyTable } from "./keys.js";
import { Shooting } from "./shooting.js";
import { counted } from "./words.js";

const LARGEST = 50_000_000; // bytes
const TAKES = keyTable([{ keys: ["t", "Shift+t"], says: "take it in" }]);
const SHOWN = 900; // pixels of the longer side

const inWords = ({ message, hint }) => (hint ? `${message}; ${hint}` : message);

/** Open the window; returns {dialog, add}, where `add(files)` tries more photos. `open(id)` opens a photo. */
export function showTrying(parent, session, store, open) {
  if (!store.tryPhoto) {
    const says = 'In a notebook, try a detector in another cell: detector.detect("photo.jpg").show()';
    return { dialog: opened(parent, "try", "Try it", h("p", { class: "hint" }, says)), add: () => {} };
  }
  return new Trying(parent, session, store, open);
}

class Trying {
  dialog;
  #session;
  #store;
  #open;
  #cards = h("div", { class: "tries" });
  #says = h("p", { class: "hint", role: "status" });
  #camera;
  #current = null; // the card that the key is for
  #taken = 0;
  #waiting = Promise.resolve();

  constructor(parent, session, store, open) {
    this.#session = session;
    this.#store = store;
    this.#open = open;
    const files = h("input", { type: "file", accept: "image/*", multiple: true, hidden: true });
    files.onchange = () => {
      this.add([...files.files]);
      files.value = "";
    };
    const tell = (says) => (this.#says.textContent = says);
    const inFull = (says) => (isSecureContext ? says : `${says} ${store.cameraHint ?? ""}`);
    this.#camera = new Shooting((file) => this.add([file]), (says) => tell(inFull(says)));
    const choose = button("primary", () => files.click(), "Choose photos");
    const row = h("div", { class: "choose" }, choose, this.#camera.button, files, this.#says);
    this.dialog = opened(parent, "try", "Try it", row, this.#camera.element, this.#cards);
    this.dialog.addEventListener("keydown", (event) => this.#key(event));
    this.dialog.addEventListener("close", () => this.#close());
    this.#tellDetector();
  }

  async #tellDetector() {
    const { detector } = await this.#store.trying().catch(() => ({}));
    if (detector === undefined || this.#cards.firstChild) return;
    const first = `draw boxes in two photos${this.#store.learnsAlone ? "" : ", or press Finish and Fine-tune now"}`;
    this.#says.textContent = detector
      ? `Drop photos here: they are looked at with ${detector}, and stay out of the project until you take one.`
      : `Nothing has been learnt yet: ${first}.`;
  }

  add(files) {
    for (const file of files) this.#waiting = this.#waiting.then(() => this.#look(file));
  }

  async #look(file) {
    const card = h("article", { class: "card", tabIndex: 0, "aria-label": file.name }, text("", `${file.name} …`));
    card.onfocus = () => this.#choose(card);
    this.#cards.prepend(card);
    try {
      if (file.size > LARGEST) throw new Error(`${file.name}: larger than 50 MB; make the photo smaller`);
      const found = await this.#store.tryPhoto(file.name, file);
      await this.#fill(card, found);
      this.#choose(card);
    } catch (error) {
      card.classList.add("failed");
      card.replaceChildren(h("p", { role: "alert" }, inWords(error)));
    }
  }

  async #fill(card, found) {
    const { id, name, boxes, width, height, threshold } = found;
    const image = h("img", { alt: name, src: this.#store.triedUrl(id, SHOWN), width, height });
    const marks = boxes.map((box) => this.#mark(box, width, height));
    const from = `from ${Math.round(100 * threshold)}% on`;
    const says = boxes.length ? `${counted(boxes.length, "box", "boxes")} ${from}` : `nothing ${from}`;
    const take = button("primary take", () => this.#take(card), "Take it in", key("T"));
    card.tried = found;
    card.setAttribute("aria-label", `${name}, ${says}`);
    card.replaceChildren(
      h("div", { class: "tried" }, image, ...marks),
      h("div", { class: "caption" }, named("file", name), text("number", says)),
      take,
    );
    await image.decode().catch(() => {});
  }

  #mark({ box: [x1, y1, x2, y2], label, score }, width, height) {
    const colour = colourOf(Math.max(this.#session.labels.indexOf(label), 0));
    const name = text("name", `${label} ${Math.round(100 * score)}%`);
    name.style.background = colour;
    name.style.color = inkOn(colour);
    // At an edge of the photo the name would be cut off.
    if (y1 < 0.1 * height) Object.assign(name.style, { bottom: "auto", top: 0 });
    if (x1 > 0.6 * width) Object.assign(name.style, { left: "auto", right: "-2px" });
    const mark = h("span", { class: "mark-box" }, name);
    const style = { left: x1 / width, top: y1 / height, width: (x2 - x1) / width, height: (y2 - y1) / height };
    for (const [side, part] of Object.entries(style)) mark.style[side] = `${100 * part}%`;
    mark.style.borderColor = colour;
    return mark;
  }

  #choose(card) {
    this.#current?.classList.remove("current");
    this.#current = card;
    card.classList.add("current");
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input")) return;
    const cards = [...this.#cards.children];
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (direction) cards[Math.max(cards.indexOf(this.#current) + direction, 0)]?.focus();
    else if (entryFor(TAKES, event).entry && this.#current && !event.repeat) this.#take(this.#current);
    else if (event.key !== " " || event.target.closest("button") || !this.#camera.shoot()) return;
    event.preventDefault();
  }

  /** Copy the photo into the project, where what was found is proposed. */
  async #take(card) {
    const take = card.querySelector(".take");
    if (!take || take.disabled) return;
    take.disabled = true;
    try {
      const { id, name } = await this.#session.takeIn(card.tried);
      this.#taken += 1;
      const go = button("go", () => {
        this.#taken = 0;
        this.dialog.close();
        this.#open(id);
      }, "Correct its boxes");
      const had = card.contains(document.activeElement);
      take.replaceWith(text("done", `In the project as ${name}`), go);
      if (had) go.focus();
    } catch (error) {
      take.disabled = false;
      this.#says.textContent = inWords(error);
    }
  }

  #close() {
    this.#camera.stop();
    const says = `${counted(this.#taken, "photo is", "photos are")} in the project now, not reviewed yet`;
    if (this.#taken) this.#session.tell(says);
  }
}
