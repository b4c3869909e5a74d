// Windows over the page: the name of a class, the keys, and the end with its contact sheet.

import { colourOf } from "./colours.js";
import { button, h, iconButton, key, text } from "./dom.js";
import { KEYS } from "./keys.js";
import { PhotoGrid, thumbnail } from "./list.js";
import { counted, inWords, isOpen, stateOf } from "./words.js";

const SHEET_CELL = { width: 168, height: 176 }; // CSS pixels
const ASK_AGAIN = 1000; // milliseconds between two questions how far fine-tuning is

/** Open a modal window with a title; it leaves the document once it is closed. */
function opened(parent, className, title, ...children) {
  const close = iconButton("close", "Close (Esc)", () => dialog.close());
  const header = h("header", {}, h("h2", {}, title), close);
  const dialog = h("dialog", { class: className, "aria-label": title }, header, ...children);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  parent.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask for the name of a class; null if the person thinks better of it. */
export function askForName(parent, title, before = "") {
  const input = h("input", {
    type: "text",
    value: before,
    maxLength: 100,
    required: true,
    autocomplete: "off",
    placeholder: "for example: mug",
    "aria-label": title,
  });
  const submit = h("button", { class: "primary" }, before ? "Rename" : "Add");
  const form = h("form", { method: "dialog" }, input, submit);
  const dialog = opened(parent, "ask", title, form);
  input.focus();
  input.select();
  return new Promise((resolve) => {
    let answer = null;
    form.addEventListener("submit", () => {
      answer = input.value.trim() || null;
    });
    dialog.addEventListener("close", () => resolve(answer));
  });
}

export function showHelp(parent) {
  const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
  const onMac = { Ctrl: "⌘", Alt: "⌥", Shift: "⇧" };
  const groups = [];
  for (const { group, shown, says } of KEYS) {
    if (group) {
      groups.push(h("section", {}, h("h3", {}, group), h("dl")));
    } else {
      const names = shown.map((name) => key((isMac && onMac[name]) || name));
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

/** The end: all photos with their boxes, and the command that fine-tunes, or a button for it. */
export function showFinish(parent, session, store, open) {
  const { photos } = session;
  const left = photos.filter(isOpen).length;
  const boxes = photos.reduce((sum, photo) => sum + photo.num_boxes, 0);
  const title = `${counted(boxes, "box", "boxes")} in ${counted(photos.length, "photo", "photos")}`;
  const says = left ? `${left} of ${photos.length} photos are not reviewed yet.` : "All photos are reviewed.";
  const sheet = h("div", { class: "sheet", role: "list", "aria-label": "All photos" });
  const run = h("div", { class: "run" });
  const dialog = opened(parent, "end", title, h("p", { class: "hint" }, says), sheet, run);
  const grid = new PhotoGrid(sheet, SHEET_CELL, (cell, photo) => {
    if (cell.firstChild) return;
    cell.setAttribute("role", "listitem");
    const go = () => {
      dialog.close();
      open(photo.id);
    };
    cell.append(sheetPhoto(photo, go, session, store));
  });
  grid.show(photos);
  followFinish(dialog, run, store);
}

function sheetPhoto(photo, go, session, store) {
  const image = thumbnail(photo, store);
  const picture = h("span", { class: "picture" }, image);
  image.onload = async () => {
    const { boxes, width, height } = await store.photo(photo.id).catch(() => ({ boxes: [] }));
    const [x, y] = [image.offsetWidth / width, image.offsetHeight / height];
    for (const { box, label } of boxes) {
      const mark = text("mark-box");
      mark.style.left = `${image.offsetLeft + box[0] * x}px`;
      mark.style.top = `${image.offsetTop + box[1] * y}px`;
      mark.style.width = `${(box[2] - box[0]) * x}px`;
      mark.style.height = `${(box[3] - box[1]) * y}px`;
      mark.style.borderColor = colourOf(session.labels.indexOf(label));
      picture.append(mark);
    }
  };
  const mark = text("mark");
  mark.dataset.state = stateOf(photo);
  const caption = h("span", { class: "caption" }, mark, text("file", photo.name));
  const made = button("", go, picture, caption);
  made.setAttribute("aria-label", `${photo.name}, ${inWords(photo)}`);
  return made;
}

/** Show the command and, while it runs, how far fine-tuning is. */
async function followFinish(dialog, run, store) {
  const command = h("code");
  const message = h("p", { role: "status" });
  const start = button("primary", () => store.finish(true).then(show, fail), "Fine-tune now");
  const copy = button("", async () => {
    getSelection().selectAllChildren(command); // for who has to copy by hand: not every page may do it
    await navigator.clipboard?.writeText(command.textContent);
    copy.textContent = "Copied";
  }, "Copy");
  run.append(h("div", { class: "command" }, command, copy), message, start);

  function show(answer) {
    command.textContent = answer.command;
    message.textContent = answer.message;
    run.dataset.state = answer.state;
    start.hidden = answer.state === "off"; // this store cannot do it
    start.disabled = answer.state === "running";
  }

  function fail({ message: says, hint }) {
    message.textContent = hint ? `${says}; ${hint}` : says;
    run.dataset.state = "failed";
  }

  while (dialog.open) {
    await store.finish().then(show, fail);
    await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN));
  }
}
