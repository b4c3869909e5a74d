// How bright the photo is shown, and with how much contrast. It is for the eyes alone: the photo's pixels stay
// as they are, and so does what is learnt from them.

import { button, h, key, text } from "./dom.js";

const REACH = 100; // what a slider goes to, either way; 0 is the photo itself
const DOUBLED_BY = 50; // so much more is twice as bright, or has twice the contrast
const KEPT_AS = "fewbox look";
const NAMES = ["brightness", "contrast"];

export const PLAIN = Object.freeze({ brightness: 0, contrast: 0 });

/** The CSS filter that shows a photo so; none for the photo itself. */
export function filterOf(look) {
  const changed = NAMES.filter((name) => look[name] !== 0);
  return changed.map((name) => `${name}(${(2 ** (look[name] / DOUBLED_BY)).toFixed(3)})`).join(" ");
}

/** What differs from the photo itself: "brightness +30, contrast −5". */
export function inWords(look) {
  const changed = NAMES.filter((name) => look[name] !== 0);
  return changed.map((name) => `${name} ${inSigns(look[name])}`).join(", ");
}

/** What was kept of an earlier look; what is no number in reach is left out. */
export function readLook(kept) {
  try {
    const { brightness, contrast } = JSON.parse(kept);
    const isRight = [brightness, contrast].every((value) => Number.isFinite(value) && Math.abs(value) <= REACH);
    return isRight ? { brightness, contrast } : PLAIN;
  } catch {
    return PLAIN;
  }
}

const titled = (name) => name[0].toUpperCase() + name.slice(1);
const inSigns = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value)}`;

/** The look as it is, and the panel over the photo that sets it. */
export class Look {
  #stage;
  #parts;
  #kept;
  #look;
  #inputs = [];

  /** `kept` is where it outlives a reload, such as sessionStorage; null for nowhere. */
  constructor(stage, parts, kept) {
    this.#stage = stage;
    this.#parts = parts;
    this.#kept = kept;
    this.#look = readLook(kept?.getItem(KEPT_AS) ?? null);
    this.#inputs = NAMES.map((name) => this.#slider(name));
    const rows = this.#inputs.map((input, at) => h("label", {}, text("", titled(NAMES[at])), input, h("output")));
    const says = "Only for your eyes: neither the file nor what is learnt from it changes.";
    const reset = button("", () => this.reset(), "Reset", key("Shift B"));
    const close = button("", () => this.toggle(), "Close", key("B"));
    parts.look.append(...rows, h("p", { class: "hint" }, says), h("div", { class: "ends" }, reset, close));
    parts.look.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.toggle();
    });
    this.#show();
  }

  #slider(name) {
    const input = h("input", { type: "range", min: -REACH, max: REACH, step: 5, "aria-label": titled(name) });
    input.oninput = () => this.#set({ ...this.#look, [name]: input.valueAsNumber });
    return input;
  }

  /** Open the panel with the first slider in hand, or close it. */
  toggle() {
    const { look, stage } = this.#parts;
    look.hidden = !look.hidden;
    if (look.hidden) stage.focus({ preventScroll: true });
    else this.#inputs[0].focus();
    this.#show();
  }

  reset() {
    this.#set(PLAIN);
  }

  #set(look) {
    this.#look = look;
    try {
      this.#kept?.setItem(KEPT_AS, JSON.stringify(look));
    } catch {
      // full, or forbidden by the browser's settings: then it lasts until the page is closed
    }
    this.#show();
  }

  #show() {
    const { look, toggleLook } = this.#parts;
    const filter = filterOf(this.#look);
    this.#stage.setFilter(filter);
    this.#inputs.forEach((input, at) => {
      input.value = this.#look[NAMES[at]];
      input.nextSibling.textContent = inSigns(this.#look[NAMES[at]]);
    });
    toggleLook.setAttribute("aria-expanded", !look.hidden);
    toggleLook.classList.toggle("on", Boolean(filter));
    const { lookHint } = this.#parts;
    lookHint.hidden = !filter || !look.hidden;
    lookHint.title = "Show the photo as it is";
    lookHint.querySelector("span").textContent = inWords(this.#look);
  }
}
