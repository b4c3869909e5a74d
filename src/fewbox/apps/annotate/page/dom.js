// Making elements: h("button", { class: "plain", onclick: go }, "Go") and icons drawn as strokes.

const SVG = "http://www.w3.org/2000/svg";

// Paths on a grid of 24.
const ICONS = {
  previous: "M15 5l-7 7 7 7",
  next: "M9 5l7 7-7 7",
  undo: "M4 9h10a5 5 0 0 1 0 10h-3M8 5L4 9l4 4",
  redo: "M20 9H10a5 5 0 0 0 0 10h3M16 5l4 4-4 4",
  copy: "M9 9h10v11H9zM5 15V4h10",
  paste: "M8 5H5v16h14V5h-3M9 3h6v4H9zM9 13h6M9 17h4",
  duplicate: "M9 9h11v11H9zM4 15V4h11M14.5 12v5M12 14.5h5",
  before: "M11 5h9v14h-9M3 12h11M10 8l4 4-4 4",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  zoom: "M4 8V4h4M16 4h4v4M4 16v4h4M20 16v4h-4M8.5 9.5h7v5h-7z",
  eye: "M2 12q10-13 20 0q-10 13-20 0zM15 12a3 3 0 1 1-6 0a3 3 0 0 1 6 0",
  hidden: "M2 12q10-13 20 0q-10 13-20 0zM4 4l16 16",
  light: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18M12 8h7.5M12 12h9M12 16h7.5",
  first: "M6 5v14M18 6l-6 6 6 6",
  last: "M18 5v14M6 6l6 6-6 6",
  empty: "M4 5h8v14H4zM15 12h6M18 8.5l3.5 3.5L18 15.5",
  box: "M5 5h14v14H5zM12 9v6M9 12h6",
  out: "M4 5h16v14H4zM4 19L20 5",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11l4 5M14 11l-4 5",
  bin: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  check: "M5 12.5l5 5 9-11",
  list: "M4 6h16M4 12h16M4 18h16",
  plus: "M12 5v14M5 12h14",
  pencil: "M5 19l1-4L16 5l3 3L9 18zM14 7l3 3",
  close: "M6 6l12 12M18 6L6 18",
  keys: "M3 7h18v10H3zM7 11h.01M11 11h.01M15 11h.01M17 11h.01M8 14h8",
};

/** Whether keys have the names that Macs give them, and what Ctrl is called then. */
export const IS_MAC = /Mac|iPhone|iPad/.test(globalThis.navigator?.platform ?? "");
export const MOD = IS_MAC ? "⌘" : "Ctrl";

/** An element with properties and children; a name with a dash is an attribute, `class` is the class name. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name === "role" || name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

export const text = (className, content = "") => h("span", { class: className }, content);

/** A name that somebody has given: one that is written from right to left is cut off at its own end. */
export const named = (className, content = "") => h("span", { class: className, dir: "auto" }, content);

export function button(className, onclick, ...children) {
  return h("button", { type: "button", class: className, onclick }, ...children);
}

/** A button that is an icon; what it does is said in its tooltip and to screen readers. */
export function iconButton(name, says, onclick, className = "") {
  const made = button(`icon ${className}`, onclick, icon(name));
  made.title = says;
  made.setAttribute("aria-label", says);
  return made;
}

export const key = (name) => h("kbd", {}, name);

/** Replace the children of `parent` only if `says` is new, and keep the focus on the same one of them. */
export function rebuilt(parent, says, make) {
  const now = JSON.stringify(says);
  if (parent.dataset.says === now) return;
  parent.dataset.says = now;
  const focused = [...parent.querySelectorAll("button")].indexOf(parent.getRootNode().activeElement);
  parent.replaceChildren(...make());
  if (focused >= 0) parent.querySelectorAll("button")[focused]?.focus();
}
