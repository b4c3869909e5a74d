// What the page is made of, before anything is in it. `act` is what buttons do; see main.js.

import { h, icon, iconButton } from "./dom.js";

export function makeLayout(act) {
  const parts = {
    name: h("h1"),
    count: h("span", { class: "count" }),
    filter: h("select", { "aria-label": "Which photos to show" }),
    list: h("div", { class: "list", role: "listbox", tabIndex: 0, "aria-label": "Photos" }),
    suggestion: h("div", { class: "suggestion" }),
    notice: h("div", { class: "notice" }),
    offers: h("div", { class: "offers" }),
    classes: h("div", { class: "rows", role: "group", "aria-label": "Classes" }),
    boxes: h("div", { class: "rows", role: "group", "aria-label": "Boxes in this photo" }),
    progress: h("div", { class: "progress" }),
    learning: h("div", { class: "learning" }),
    saved: h("div", { class: "saved", role: "status", "aria-live": "polite" }),
    said: h("div", { class: "unseen-text", "aria-live": "polite" }),
    dialogs: h("div"),
  };
  parts.stage = makeStage(parts);
  parts.photos = h("nav", { class: "photos", "aria-label": "Photos" },
    h("div", { class: "filter" }, parts.filter), parts.list, parts.suggestion);
  const root = h("div", { class: "goldeneye" },
    makeBar(parts, act), parts.photos, parts.stage, makeSide(parts, act), makeStatus(parts, act), parts.said, parts.dialogs);
  return { root, ...parts };
}

function makeBar({ photos, name, count }, act) {
  return h("header", { class: "bar" },
    iconButton("list", "Photos", () => act.togglePhotos(), "only-narrow"),
    h("span", { class: "brand", "aria-hidden": "true" }),
    iconButton("previous", "Previous photo (A)", () => act.step(-1)),
    iconButton("next", "Next photo (D)", () => act.step(1)),
    h("div", { class: "which" }, name, count),
    h("div", { class: "tools" },
      iconButton("undo", "Undo (Ctrl Z)", () => act.undo()),
      iconButton("redo", "Redo (Ctrl Shift Z)", () => act.redo()),
      iconButton("box", "New box in the middle (W)", () => act.newBox()),
      iconButton("copy", "Copy the boxes of the photo before (C)", () => act.copyFromPrevious()),
      iconButton("bin", "Delete the selected box (Delete)", () => act.deleteSelected()),
      iconButton("fit", "The whole photo (F)", () => act.fit()),
      iconButton("keys", "Keys (?)", () => act.showHelp())),
    h("button", { type: "button", class: "finish", onclick: () => act.showFinish() }, "Finish"));
}

function makeStage({ notice }) {
  const layers = [h("canvas"), h("canvas")];
  for (const canvas of layers) canvas.setAttribute("aria-hidden", "true");
  return h("main", { class: "stage", role: "application", tabIndex: 0, "aria-label": "Photo: draw boxes; press ? for the keys" },
    ...layers, notice);
}

function makeSide({ classes, boxes, offers }, act) {
  return h("aside", { class: "side", "aria-label": "Classes and boxes" },
    h("section", {}, h("h2", {}, "Classes"), classes,
      h("button", { type: "button", class: "add", onclick: () => act.askForClass() }, icon("plus"), "New class", h("kbd", {}, "N"))),
    h("section", { class: "of-photo" }, h("h2", {}, "In this photo"), boxes),
    offers);
}

function makeStatus({ progress, learning, saved }, act) {
  return h("footer", { class: "status" }, progress, learning, saved,
    h("button", { type: "button", class: "primary", onclick: () => act.reviewAndNext() }, icon("check"), "Reviewed, next", h("kbd", {}, "Space")));
}
