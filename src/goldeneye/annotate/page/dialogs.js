// Windows over the page: the name of a class, the keys, and the end with its contact sheet.

import { h, iconButton } from "./dom.js";
import { colourOf } from "./colours.js";
import { KEYS } from "./keys.js";
import { PhotoGrid, thumbnail } from "./list.js";
import { counted, inWords, stateOf } from "./words.js";

const SHEET_CELL = { width: 168, height: 176 }; // CSS pixels

/** Open a modal window with a title; it leaves the document once it is closed. */
function opened(parent, className, title, ...children) {
  const heading = h("h2", {}, title);
  const dialog = h("dialog", { class: className, "aria-label": title },
    h("header", {}, heading, iconButton("close", "Close (Esc)", () => dialog.close())), ...children);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  parent.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask for the name of a class; null if the person thinks better of it. */
export function askForName(parent, title, before = "") {
  const input = h("input", { type: "text", value: before, maxLength: 100, required: true, autocomplete: "off", "aria-label": title, placeholder: "for example: mug" });
  const form = h("form", { method: "dialog" }, input, h("button", { class: "primary" }, before ? "Rename" : "Add"));
  const dialog = opened(parent, "ask", title, form);
  input.select();
  return new Promise((resolve) => {
    let answer = null;
    form.addEventListener("submit", () => (answer = input.value.trim() || null));
    dialog.addEventListener("close", () => resolve(answer));
  });
}

export function showHelp(parent) {
  const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
  const keys = (shown) => (shown === "1 – 9" ? [shown] : shown.split(" ")).map((key) =>
    h("kbd", {}, isMac ? ({ Ctrl: "⌘", Alt: "⌥", Shift: "⇧" }[key] ?? key) : key));
  const groups = [];
  for (const entry of KEYS) {
    if (entry.group) groups.push(h("section", {}, h("h3", {}, entry.group), h("dl")));
    else groups.at(-1).lastChild.append(h("dt", {}, ...keys(entry.shown)), h("dd", {}, entry.says));
  }
  opened(parent, "help", "Keys",
    h("p", { class: "hint" }, "Drag to draw; click a box to select it; drag the selected box or its edges to change it. "
      + "Shift and drag draws over it. Two fingers move and enlarge the photo."),
    h("div", { class: "columns" }, ...groups));
}

/** The end: all photos with their boxes, and the command that fine-tunes, or a button for it. */
export function showFinish(parent, session, store, act) {
  const sheet = h("div", { class: "sheet", role: "list", "aria-label": "All photos" });
  const { photos } = session;
  const left = photos.filter((photo) => !photo.reviewed && !photo.error).length;
  const boxes = photos.reduce((sum, photo) => sum + photo.num_boxes, 0);
  const says = left ? `${left} of ${photos.length} photos are not reviewed yet.` : "All photos are reviewed.";
  const run = h("div", { class: "run" });
  const dialog = opened(parent, "end", `${counted(boxes, "box", "boxes")} in ${counted(photos.length, "photo", "photos")}`, h("p", { class: "hint" }, says), sheet, run);
  const grid = new PhotoGrid(sheet, SHEET_CELL, (cell, photo) => fillCell(cell, photo, session, store, () => {
    dialog.close();
    act.open(photo.id);
  }));
  grid.show(photos);
  followFinish(dialog, run, store);
}

function fillCell(cell, photo, session, store, open) {
  if (cell.firstChild) return;
  cell.setAttribute("role", "listitem");
  const frame = h("span", { class: "picture" });
  const image = thumbnail(photo, store);
  frame.append(image);
  image.onload = async () => {
    const { boxes, width, height } = await store.photo(photo.id).catch(() => ({ boxes: [] }));
    for (const { box: [x1, y1, x2, y2], label } of boxes) {
      const mark = h("span", { class: "mark-box" });
      const [x, y] = [image.offsetWidth / width, image.offsetHeight / height];
      const [left, top] = [image.offsetLeft + x1 * x, image.offsetTop + y1 * y].map((edge) => `${edge}px`);
      const colour = colourOf(session.labels.indexOf(label));
      Object.assign(mark.style, { left, top, width: `${(x2 - x1) * x}px`, height: `${(y2 - y1) * y}px`, borderColor: colour });
      frame.append(mark);
    }
  };
  const mark = h("span", { class: "mark" });
  mark.dataset.state = stateOf(photo);
  cell.append(h("button", { type: "button", onclick: open, "aria-label": `${photo.name}, ${inWords(photo)}` },
    frame, h("span", { class: "caption" }, mark, h("span", { class: "file" }, photo.name))));
}

/** Show the command and, while it runs, how far fine-tuning is. */
async function followFinish(dialog, run, store) {
  const start = h("button", { type: "button", class: "primary" }, "Fine-tune now");
  const copy = h("button", { type: "button" }, "Copy");
  const [command, message] = [h("code"), h("p", { role: "status" })];
  run.append(h("div", { class: "command" }, command, copy), message, start);
  copy.onclick = () => navigator.clipboard.writeText(command.textContent).then(() => (copy.textContent = "Copied"));
  const show = (answer) => {
    command.textContent = answer.command;
    message.textContent = answer.state === "done" ? `Done: ${answer.output}. ${answer.message ?? ""}` : (answer.message ?? "");
    run.dataset.state = answer.state;
    start.disabled = answer.state === "running";
    copy.parentElement.hidden = !answer.command;
    start.hidden = answer.state === "off";
  };
  const fail = (error) => show({ state: "failed", message: [error.message, error.hint].filter(Boolean).join("; "), command: command.textContent });
  start.onclick = () => store.finish(true).then(show, fail);
  while (dialog.open) {
    await store.finish().then(show, fail);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
