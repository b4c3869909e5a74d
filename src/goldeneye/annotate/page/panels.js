// What stands around the photo, shown anew whenever the session or the saver says so.

import { h, icon, iconButton, rebuilt } from "./dom.js";
import { colourOf, inkOn } from "./colours.js";
import { PhotoGrid, thumbnail } from "./list.js";
import { counted, inWords, stateOf } from "./words.js";

const ROW = 56; // CSS pixels

export class Panels {
  #parts;
  #session;
  #saver;
  #act;
  #list;
  #revealed = null;
  #clock;

  constructor(parts, session, saver, store, act) {
    Object.assign(this, { observer: null });
    [this.#parts, this.#session, this.#saver, this.#act] = [parts, session, saver, act];
    this.#list = new PhotoGrid(parts.list, { width: null, height: ROW }, (row, photo, index) => this.#fillRow(row, photo, index, store));
    parts.filter.onchange = () => session.setFilter(parts.filter.value);
    parts.list.addEventListener("keydown", (event) => this.#listKey(event));
    this.#clock = setInterval(() => this.showSaved(), 1000); // counts the seconds to the next try
  }

  stop() {
    clearInterval(this.#clock);
    this.#list.observer.disconnect();
  }

  show() {
    const { current, photos } = this.#session;
    this.#parts.name.textContent = current?.name ?? this.#session.name;
    this.#parts.count.textContent = current ? `${photos.indexOf(current) + 1} / ${photos.length}` : "";
    this.#showList();
    this.#showSuggestion();
    this.#showClasses();
    this.#showBoxes();
    this.#showOffers();
    this.#showProgress();
    this.#showLearning();
    this.showSaved();
  }

  #showList() {
    const { filter, labels, current, photos } = this.#session;
    const kinds = [["all", "All photos"], ["unreviewed", "Not reviewed"], ["empty", "Reviewed, no boxes"]];
    const choices = [...kinds, ...labels.map((label) => [`class ${label}`, `With ${label}`])];
    const options = choices.map(([value, says]) => [value, `${says} (${photos.filter((photo) => this.#session.isShown(photo, value)).length})`]);
    rebuilt(this.#parts.filter, JSON.stringify([filter, options]), () =>
      options.map(([value, says]) => h("option", { value, selected: value === filter }, says)));
    this.#list.show(this.#session.shownPhotos);
    if (current !== this.#revealed) this.#list.reveal(current);
    this.#revealed = current;
    const row = this.#list.elementOf(current);
    if (row) this.#parts.list.setAttribute("aria-activedescendant", row.id);
    else this.#parts.list.removeAttribute("aria-activedescendant");
  }

  #fillRow(row, photo, index, store) {
    const isCurrent = photo === this.#session.current;
    const key = JSON.stringify([photo.name, stateOf(photo), photo.num_boxes, isCurrent, index]);
    if (row.dataset.key === key) return;
    if (!row.firstChild) {
      row.append(thumbnail(photo, store), h("span", { class: "mark" }), h("span", { class: "file" }), h("span", { class: "number" }));
      row.setAttribute("role", "option");
      row.onclick = () => this.#act.open(photo.id);
    }
    const [, mark, file, number] = row.children;
    Object.assign(row, { className: `cell row ${isCurrent ? "current" : ""}`, id: `goldeneye-${photo.id}` });
    row.dataset.key = key;
    row.title = photo.error ?? photo.name;
    mark.dataset.state = stateOf(photo);
    file.textContent = photo.name;
    number.textContent = stateOf(photo) === "unseen" ? "" : photo.error ? "!" : photo.num_boxes;
    row.setAttribute("aria-selected", isCurrent);
    row.setAttribute("aria-label", `${photo.name}, ${inWords(photo)}`);
    row.setAttribute("aria-posinset", index + 1);
    row.setAttribute("aria-setsize", this.#session.shownPhotos.length);
  }

  /** In the list the arrows go from photo to photo, as in any list. */
  #listKey(event) {
    const direction = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!direction || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.#act.step(direction);
  }

  #showSuggestion() {
    const { suggested, photos, current } = this.#session;
    const photo = photos.find(({ id, reviewed }) => id === suggested && !reviewed);
    const isNews = photo && photo !== current;
    rebuilt(this.#parts.suggestion, isNews ? photo.id : "", () => !isNews ? [] : [
      h("button", { type: "button", onclick: () => this.#act.goToSuggested() },
        h("span", {}, "Least sure of"), h("strong", {}, photo.name), h("kbd", {}, "G"))]);
  }

  #showClasses() {
    const { labels, active, photos } = this.#session;
    const counts = labels.map((label) => photos.filter((photo) => photo.labels.includes(label)).length);
    rebuilt(this.#parts.classes, JSON.stringify([labels, active, counts]), () => labels.map((label, number) => {
      const colour = colourOf(number);
      const swatch = h("span", { class: "swatch" }, number < 9 ? String(number + 1) : "");
      Object.assign(swatch.style, { background: colour, color: inkOn(colour) });
      const says = `in ${counted(counts[number], "photo", "photos")}`;
      return h("div", { class: number === active ? "row active" : "row" },
        h("button", { type: "button", class: "pick", "aria-pressed": number === active, onclick: () => this.#act.chooseClass(number) },
          swatch, h("span", { class: "label" }, label), h("span", { class: "number", title: says, "aria-label": says }, String(counts[number]))),
        ...(counts[number] ? [] : [iconButton("bin", `Remove ${label}`, () => this.#act.removeClass(label), "quiet second")]),
        iconButton("pencil", `Rename ${label}`, () => this.#act.rename(label), "quiet"));
    }));
  }

  #showBoxes() {
    const { items, selected, labels, state } = this.#session;
    const sizes = items.map(({ box: [x1, y1, x2, y2] }) => `${Math.round(x2 - x1)} × ${Math.round(y2 - y1)}`);
    const key = JSON.stringify([items.map(({ id, label, ignore }) => [id, label, ignore]), sizes, selected, labels, state?.reviewed]);
    const words = !state ? "" : state.reviewed ? "Nothing: reviewed and empty." : "Drag on the photo to draw a box.";
    rebuilt(this.#parts.boxes, key, () => !items.length ? [h("p", { class: "hint" }, words)] : items.map((item, at) => {
      const isProposal = item.score !== undefined;
      const swatch = h("span", { class: isProposal ? "frame proposed" : "frame" });
      swatch.style.borderColor = colourOf(labels.indexOf(item.label));
      const detail = isProposal ? `${Math.round(100 * item.score)}%?` : item.ignore ? "ignored" : sizes[at];
      return h("div", { class: item.id === selected ? "row active" : "row" },
        h("button", { type: "button", class: "pick", "aria-pressed": item.id === selected, onclick: () => this.#session.select(item.id) },
          swatch, h("span", { class: "label" }, item.label), h("span", { class: "number" }, detail)),
        iconButton("bin", isProposal ? "Dismiss" : `Delete ${item.label}`, () => this.#act.remove(item.id), "quiet"));
    }));
  }

  #showOffers() {
    const count = this.#session.proposals.length;
    rebuilt(this.#parts.offers, String(count), () => !count ? [] : [
      h("span", {}, `${count} proposed`),
      h("button", { type: "button", class: "primary", onclick: () => this.#act.acceptOne() }, "Accept", h("kbd", {}, "Enter")),
      h("button", { type: "button", onclick: () => this.#act.acceptAll() }, "Accept all", h("kbd", {}, "Shift Enter"))]);
  }

  #showProgress() {
    const { photos } = this.#session;
    const readable = photos.filter(({ error }) => !error);
    const reviewed = readable.filter((photo) => photo.reviewed).length;
    const boxes = photos.reduce((sum, photo) => sum + photo.num_boxes, 0);
    const unreadable = photos.length - readable.length;
    this.#parts.root.classList.toggle("all-reviewed", readable.length > 0 && reviewed === readable.length);
    const words = [`${reviewed} of ${readable.length} reviewed`, counted(boxes, "box", "boxes")];
    if (unreadable) words.push(`${unreadable} unreadable`);
    rebuilt(this.#parts.progress, words.join(" · "), () => [
      h("progress", { max: readable.length || 1, value: reviewed, "aria-label": "Reviewed photos" }),
      h("span", {}, words.join(" · "))]);
  }

  #showLearning() {
    const { state, message, round, progress } = this.#session.learning;
    const percent = state === "learning" && progress ? ` ${Math.round(100 * progress)}%` : "";
    const words = { off: "", learning: `Learning${percent}`, ready: `Proposals: round ${round}` }[state] ?? message;
    this.#parts.learning.textContent = words;
    this.#parts.learning.title = message ?? "";
    this.#parts.learning.dataset.state = state;
  }

  /** The state of saving: quiet when all is well, loud when not. */
  showSaved() {
    const { kind, at, error, retryAt, kept } = this.#saver.status;
    const isTrouble = kind === "failed" || kind === "refused";
    const time = at?.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
    const wait = Math.max(Math.ceil((retryAt - Date.now()) / 1000), 0);
    const where = kept ? "Your changes are kept in this browser." : "Keep this window open.";
    const words = {
      saved: time ? `Saved ${time}` : "All saved",
      saving: "Saving…",
      failed: `Not saved: ${error?.message}. Trying again${wait ? ` in ${wait} s` : ""}. ${where}`,
      refused: `Not saved: ${error?.message}.`,
    }[kind];
    const { saved } = this.#parts;
    saved.dataset.state = kind;
    saved.setAttribute("role", isTrouble ? "alert" : "status");
    saved.parentElement.classList.toggle("trouble", isTrouble);
    saved.title = error?.hint ?? "";
    rebuilt(saved, words, () => [
      ...(kind === "saved" ? [icon("check")] : []),
      h("span", {}, words),
      ...(isTrouble ? [h("button", { type: "button", onclick: () => this.#saver.retry() }, "Try now")] : []),
      ...(kind === "refused" ? [h("button", { type: "button", onclick: () => this.#saver.discard() }, "Discard")] : [])]);
  }
}
