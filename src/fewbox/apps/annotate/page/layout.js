// What the page is made of, before anything is in it. `act` is what buttons do; see main.js.

import { MOD, button, h, icon, iconButton, key, text } from "./dom.js";

const OUT_HINT = "Left out: nothing is learnt from it";
const OUT = "Leave the photo out, or take it in again (O)";
const TRASH = "Delete the photo (Shift Delete)";

export function makeLayout(act) {
  const parts = {
    name: h("h1", { dir: "auto" }),
    count: text("count"),
    filter: h("select", { "aria-label": "Which photos to show" }),
    search: h("input", { type: "search", placeholder: "Jump to a photo (J)", autocomplete: "off", spellcheck: false }),
    unfound: h("p", { class: "hint", role: "status" }),
    list: h("div", { class: "list", role: "listbox", tabIndex: 0, "aria-label": "Photos" }),
    suggestion: h("div", { class: "suggestion" }),
    notice: h("div", { class: "notice" }),
    offers: h("div", { class: "offers" }),
    look: h("div", { class: "look", role: "group", "aria-label": "Brightness and contrast", hidden: true }),
    lookHint: button("", () => act.resetLook(), icon("light"), text(""), key("Shift B")),
    outHint: button("", () => act.toggleLeftOut(), icon("out"), text("", OUT_HINT), key("O")),
    hiddenHint: button("", () => act.showAll()),
    asks: h("div", { class: "asks", role: "group", "aria-label": "To decide" }),
    classes: h("div", { class: "rows", role: "group", "aria-label": "Classes" }),
    boxes: h("div", { class: "rows", role: "group", "aria-label": "Boxes in this photo" }),
    tally: h("div", { class: "tally" }),
    learning: h("div", { class: "learning" }),
    saved: h("div", { class: "saved", role: "status", "aria-live": "polite" }),
    said: h("div", { class: "said", "aria-live": "polite" }),
    dialogs: h("div"),
  };
  parts.search.setAttribute("aria-label", "Jump to a photo: a part of its name");
  parts.toggleBoxes = iconButton("eye", "Hide all boxes (H)", () => act.toggleBoxes());
  parts.toggleLook = iconButton("light", "Brightness and contrast (B)", () => act.toggleLook());
  parts.stage = makeStage(parts);
  const root = h(
    "div",
    { class: "fewbox" },
    makeBar(parts, act),
    makePhotos(parts, act),
    parts.stage,
    makeSide(parts, act),
    makeStatus(parts, act),
    parts.said,
    parts.dialogs,
  );
  return { root, ...parts };
}

function makeBar({ name, count, toggleBoxes, toggleLook }, act) {
  const tools = h(
    "div",
    { class: "tools" },
    iconButton("undo", `Undo (${MOD} Z)`, () => act.undo()),
    iconButton("redo", `Redo (${MOD} Shift Z)`, () => act.redo()),
    iconButton("box", "New box in the middle (W)", () => act.newBox()),
    iconButton("copy", `Copy (${MOD} C)`, () => act.copy()),
    iconButton("paste", `Paste (${MOD} V)`, () => act.paste()),
    iconButton("duplicate", `Duplicate the selected box (${MOD} D)`, () => act.duplicate()),
    iconButton("before", "Copy the boxes of the photo before (C)", () => act.copyFromPrevious()),
    iconButton("bin", "Delete the selected box (Delete)", () => act.deleteSelected()),
    iconButton("zoom", "Enlarge the selected box (Z)", () => act.zoomToBox(), "first"),
    iconButton("fit", "The whole photo (F)", () => act.fit()),
    toggleBoxes,
    toggleLook,
    iconButton("out", OUT, () => act.toggleLeftOut(), "only-narrow"),
    iconButton("trash", TRASH, () => act.trashPhoto(), "only-narrow"),
    iconButton("keys", "Keys (?)", () => act.showHelp(), "only-wide"),
  );
  return h(
    "header",
    { class: "bar" },
    iconButton("list", "Photos", () => act.togglePhotos(), "only-narrow"),
    text("brand"),
    iconButton("previous", "Previous photo (A)", () => act.step(-1)),
    iconButton("next", "Next photo (D)", () => act.step(1)),
    h("div", { class: "which" }, name, count),
    tools,
    button("finish", () => act.showFinish(), "Finish"),
  );
}

function makePhotos({ search, unfound, filter, list, suggestion }, act) {
  const go = h(
    "div",
    { class: "filter" },
    search,
    iconButton("empty", "Next photo without boxes (E)", () => act.goToEmpty()),
    filter,
    iconButton("first", "First photo (Home)", () => act.goToEnd(-1)),
    iconButton("last", "Last photo (End)", () => act.goToEnd(1)),
    unfound,
  );
  return h("nav", { class: "photos", "aria-label": "Photos" }, go, list, suggestion);
}

function makeStage({ notice, asks, lookHint, hiddenHint, outHint, look }) {
  const layers = [h("canvas", { "aria-hidden": "true" }), h("canvas", { "aria-hidden": "true" })];
  const hints = h("div", { class: "hints" }, outHint, hiddenHint, lookHint);
  const says = "Photo: draw boxes; press ? for the keys";
  const properties = { class: "stage", role: "application", tabIndex: 0, "aria-label": says };
  return h("section", properties, ...layers, notice, hints, look, asks);
}

function makeSide({ classes, boxes, offers }, act) {
  const add = button("add", () => act.askForClass(), icon("plus"), "New class", key("N"));
  const ofPhoto = h(
    "div",
    { class: "head" },
    h("h2", {}, "In this photo"),
    iconButton("out", OUT, () => act.toggleLeftOut()),
    iconButton("trash", TRASH, () => act.trashPhoto()),
  );
  return h(
    "aside",
    { class: "side", "aria-label": "Classes and boxes" },
    h("section", {}, h("h2", {}, "Classes"), classes, add),
    h("section", { class: "of-photo" }, ofPhoto, boxes),
    offers,
  );
}

function makeStatus({ tally, learning, saved }, act) {
  const next = button("primary", () => act.reviewAndNext(), icon("check"), "Reviewed, next", key("Space"));
  return h("footer", { class: "status" }, tally, learning, saved, next);
}
