// Windows over the page: the name of a class, questions, and the keys.

import { IS_MAC, MOD, h, iconButton, key } from "./dom.js";
import { KEYS } from "./keys.js";

/** Open a modal window with a title; it leaves the document once it is closed. */
export function opened(parent, className, title, ...children) {
  const close = iconButton("close", "Close (Esc)", () => dialog.close());
  const header = h("header", {}, h("h2", {}, title), close);
  const dialog = h("dialog", { class: className, "aria-label": title }, header, ...children);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  parent.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask whether something is to be done: a question, what comes of it, and the button that does it. */
export function confirmed(parent, title, says, does) {
  const stop = h("button", { type: "submit" }, "Cancel");
  const submit = h("button", { type: "submit", class: "primary", value: "yes" }, does);
  const form = h("form", { method: "dialog" }, ...says.map((line) => h("p", {}, line)), stop, submit);
  const dialog = opened(parent, "ask sure", title, form);
  submit.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"));
  });
}

/** Ask for the name of a class; null if the person thinks better of it. */
export function askForName(parent, title, before = "", hint = "") {
  const input = h("input", {
    type: "text",
    value: before,
    maxLength: 100,
    required: true,
    autocomplete: "off",
    dir: "auto",
    placeholder: "for example: mug",
    "aria-label": title,
  });
  const submit = h("button", { class: "primary" }, before ? "Rename" : "Add");
  const form = h("form", { method: "dialog" }, input, submit);
  const dialog = opened(parent, "ask", title, form, ...(hint ? [h("p", { class: "hint" }, hint)] : []));
  input.focus();
  input.select();
  return new Promise((resolve) => {
    let answer = null;
    form.addEventListener("submit", () => {
      answer = input.value.normalize().trim() || null;
    });
    dialog.addEventListener("close", () => resolve(answer));
  });
}

export function showHelp(parent) {
  const onMac = { Ctrl: MOD, Alt: "⌥", Shift: "⇧", Home: "fn ←", End: "fn →" };
  const groups = [];
  for (const { group, shown, says } of KEYS) {
    if (group) {
      groups.push(h("section", {}, h("h3", {}, group), h("dl")));
    } else {
      const names = shown.map((name) => key((IS_MAC && onMac[name]) || name));
      groups.at(-1).lastChild.append(h("dt", {}, ...names), h("dd", {}, says));
    }
  }
  const hint = [
    "Drag to draw, also inside of a box. Click or tap a box to pick it up: then a drag moves it, or its edges.",
    "Another click lets go of it, or takes the larger box below. Shift (or Ctrl, Alt) and drag always draws.",
    "Two fingers move and enlarge the photo.",
  ];
  const columns = h("div", { class: "columns" }, ...groups);
  opened(parent, "help", "Keys", h("p", { class: "hint" }, hint.join(" ")), columns);
}
