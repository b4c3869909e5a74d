// The end: all photos on a contact sheet, fine-tuning, and what has come of it.

import { colourOf } from "./colours.js";
import { opened } from "./dialogs.js";
import { MOD, button, h, named, text } from "./dom.js";
import { exportRow } from "./exporting.js";
import { PhotoGrid, thumbnail } from "./list.js";
import { counted, estimateInWords, inWords, isOpen, stateOf, thresholdInWords } from "./words.js";

const SHEET_CELL = { width: 168, height: 176 }; // CSS pixels
const ASK_AGAIN = 1000; // milliseconds between two questions how far fine-tuning is

/** The end: all photos with their boxes, and the command that fine-tunes, or a button for it. */
export function showFinish(parent, session, store, act) {
  const photos = session.photos.filter((photo) => !photo.left_out);
  const left = photos.filter(isOpen).length;
  const boxes = photos.reduce((sum, photo) => sum + photo.num_boxes, 0);
  const all = counted(photos.length, "photo", "photos");
  const title = `${counted(boxes, "box", "boxes")} in ${all}`;
  const outs = session.photos.length - photos.length;
  const out = outs ? ` ${counted(outs, "photo is", "photos are")} left out.` : "";
  const says = left ? `${left} of ${all} ${left === 1 ? "is" : "are"} not reviewed yet.` : "All photos are reviewed.";
  const sheet = h("div", { class: "sheet", role: "list", "aria-label": "All photos" });
  const run = h("div", { class: "run" });
  const dialog = opened(parent, "end", title, h("p", { class: "hint" }, says + out), sheet, run);
  const row = exportRow(session);
  if (row) dialog.append(row);
  const grid = new PhotoGrid(sheet, SHEET_CELL, (cell, photo) => {
    if (cell.firstChild) return;
    cell.setAttribute("role", "listitem");
    const go = () => {
      dialog.close();
      act.open(photo.id);
    };
    cell.append(sheetPhoto(photo, go, session, store));
  });
  grid.show(photos);
  followFinish(dialog, run, store, act.tryIt);
}

function sheetPhoto(photo, go, session, store) {
  const image = thumbnail(photo, store);
  const picture = h("span", { class: "picture" }, image);
  image.onload = async () => {
    const { boxes, width, height } = await store.photo(photo.id).catch(() => ({ boxes: [] }));
    const marks = boxes.map(({ label }) => {
      const mark = text("mark-box");
      mark.style.borderColor = colourOf(session.labels.indexOf(label));
      return mark;
    });
    const place = () => boxes.forEach(({ box }, at) => putMark(marks[at], box, image, { width, height }));
    place();
    picture.append(...marks);
    new ResizeObserver(place).observe(picture); // a phone may be turned
  };
  const mark = text("mark");
  mark.dataset.state = stateOf(photo);
  const caption = h("span", { class: "caption" }, mark, named("file", photo.name));
  const made = button("", go, picture, caption);
  made.setAttribute("aria-label", `${photo.name}, ${inWords(photo)}`);
  return made;
}

/** Put a mark around a box of a photo of this size over its picture. */
function putMark({ style }, [x1, y1, x2, y2], image, { width, height }) {
  const [x, y] = [image.offsetWidth / width, image.offsetHeight / height];
  const [left, top] = [image.offsetLeft + x1 * x, image.offsetTop + y1 * y];
  const place = { left, top, width: (x2 - x1) * x, height: (y2 - y1) * y };
  for (const [name, value] of Object.entries(place)) style[name] = `${value}px`;
}

/** A command to copy. */
function copied(words) {
  const command = h("code", {}, words);
  const copy = button("", async () => {
    getSelection().selectAllChildren(command); // also for who has to copy by hand
    copy.textContent = (await isCopied(command.textContent)) ? "Copied" : `Press ${MOD} C`;
  }, "Copy");
  return h("div", { class: "command" }, command, copy);
}

/** Copy a text that is selected, if the page may; one that came by http may not write into the clipboard itself. */
async function isCopied(words) {
  try {
    await navigator.clipboard.writeText(words);
    return true;
  } catch {
    return document.execCommand("copy");
  }
}

/** Show the command, while it runs how far fine-tuning is, and then what has come of it. */
async function followFinish(dialog, run, store, tryIt) {
  const command = copied("");
  const message = h("p", { role: "status" });
  const start = button("primary", () => store.finish(true).then(show, fail), "Fine-tune now");
  const result = h("div", { class: "result" });
  run.append(command, message, start, button("", () => tryIt(), "Try it"));
  run.after(result);
  let shown = null; // what the result was made of

  function show(answer) {
    const code = command.firstChild;
    if (code.textContent !== answer.command) code.textContent = answer.command; // or what is selected would not stay so
    command.hidden = !answer.command;
    start.textContent = answer.does ?? "Fine-tune now";
    message.textContent = answer.message;
    run.dataset.state = answer.state;
    start.hidden = answer.state === "off"; // this store cannot do it
    start.disabled = answer.state === "running";
    const says = answer.result ? JSON.stringify(answer) : null;
    if (says === shown) return;
    const isNews = shown === null && answer.state === "done";
    shown = says;
    result.replaceChildren(...(says ? resultOf(answer, store, tryIt) : []));
    dialog.classList.toggle("has-result", answer.state === "done");
    if (isNews) result.scrollIntoView({ block: "start" });
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

/** What has come of fine-tuning: how good it will be, held-out photos, and what to do next. */
function resultOf({ state, result: { estimate, picture, next } }, store, tryIt) {
  const made = [];
  if (state === "done") {
    const lines = estimateInWords(estimate).map((line) => h("li", {}, line));
    made.push(h("h3", {}, "How good it will be"), h("ul", { class: "estimate" }, ...lines));
    if (estimate) made.push(h("p", {}, thresholdInWords(estimate, store.learnsAlone ? "" : "--threshold")));
  }
  if (picture) {
    const alt = "Held-out photos: boxes drawn beside boxes found";
    const image = h("img", { class: "held-out", alt, src: store.heldOutUrl() });
    const says =
      "Left what you have drawn, right what was found by a detector that had not learnt from that photo; " +
      "mistakes come first. A dashed box on the left was missed, one on the right is a false alarm, unless " +
      "its object has no box yet.";
    made.push(h("h3", {}, "Held-out photos"), h("p", { class: "hint" }, says), image);
  }
  made.push(h("h3", {}, "What to do next"));
  if (state === "done") {
    const says = "Try it here on other photos, and take those into the project on which it fails";
    made.push(h("div", { class: "step" }, text("", says), button("", () => tryIt(), "Try it")));
  }
  for (const [says, command] of next) {
    const does = command ? [copied(command)] : [];
    made.push(h("div", { class: command ? "step" : "step whole" }, text("", says), ...does));
  }
  if (state === "done") {
    const again = store.learnsAlone ? "and it learns again by itself" : "fine-tune again";
    const better = [
      ...(estimate?.remarks ?? []),
      `what helps most: photos on which it fails: take them in with Try it, correct their boxes, ${again}`,
    ];
    const lines = better.map((line) => h("li", {}, line));
    made.push(h("h3", {}, "How it gets better"), h("ul", { class: "better" }, ...lines));
  }
  return made;
}
