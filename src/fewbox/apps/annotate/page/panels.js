// What stands around the photo, shown anew whenever the session or the saver says so.

import { colourOf, inkOn } from "./colours.js";
import { button, h, icon, iconButton, key, named, rebuilt, text } from "./dom.js";
import { PhotoGrid, thumbnail } from "./list.js";
import { counted, filterOf, inWords, isOpen, isShown, sizeOf, stateOf } from "./words.js";

const ROW = { width: null, height: 56 }; // CSS pixels

export class Panels {
  #parts;
  #session;
  #saver;
  #store;
  #act;
  #list;
  #revealed = null; // the photo that the list was last scrolled to
  #searched = ""; // and for which search
  #clock;

  constructor(parts, session, saver, store, act) {
    this.#parts = parts;
    this.#session = session;
    this.#saver = saver;
    this.#store = store;
    this.#act = act;
    this.#list = new PhotoGrid(parts.list, ROW, (...row) => this.#fillRow(...row));
    let isPointed = false; // after a choice with the mouse the keys are for the photo again
    parts.filter.onpointerdown = () => (isPointed = true);
    parts.filter.onkeydown = () => (isPointed = false);
    parts.filter.onchange = () => {
      session.setFilter(parts.filter.value);
      if (isPointed) parts.stage.focus({ preventScroll: true });
    };
    parts.list.addEventListener("keydown", (event) => this.#listKey(event));
    parts.search.oninput = () => session.setSearch(parts.search.value);
    parts.search.addEventListener("keydown", (event) => this.#searchKey(event));
    this.#clock = setInterval(() => this.showSaved(), 1000); // counts the seconds to the next try
  }

  stop() {
    clearInterval(this.#clock);
    this.#list.observer.disconnect();
  }

  show() {
    const { current, name, photos } = this.#session;
    this.#parts.name.textContent = current?.name ?? name;
    this.#parts.count.textContent = current ? `${photos.indexOf(current) + 1} / ${photos.length}` : "";
    this.#showFilter();
    this.#showList();
    this.#showSuggestion();
    this.#showClasses();
    this.#parts.outHint.hidden = !current?.left_out;
    this.#showHidden();
    this.#showBoxes();
    this.#showOffers();
    this.#showAsks();
    this.#showProgress();
    this.#showLearning();
    this.showSaved();
  }

  #showFilter() {
    const { filter, labels, photos } = this.#session;
    const filters = [
      ["all", "All photos"],
      ["unreviewed", "Not reviewed"],
      ["empty", "Reviewed, no boxes"],
      ...(photos.some((photo) => photo.left_out) || filter === "out" ? [["out", "Left out"]] : []),
      ...labels.map((label) => [filterOf(label), `With ${label}`]),
    ];
    const options = filters.map(([value, says]) => {
      const count = photos.filter((photo) => isShown(photo, value)).length;
      return { value, textContent: `${says} (${count})`, selected: value === filter };
    });
    rebuilt(this.#parts.filter, options, () => options.map((option) => h("option", option)));
  }

  #showList() {
    const { current, shownPhotos, search } = this.#session;
    if (this.#parts.search.value !== search) this.#parts.search.value = search;
    this.#parts.unfound.textContent = search && !shownPhotos.length ? "No photo is called so." : "";
    this.#list.show(shownPhotos);
    if (current !== this.#revealed || search !== this.#searched) this.#list.reveal(current);
    this.#revealed = current;
    this.#searched = search;
    const row = this.#list.elementOf(current);
    if (row) this.#parts.list.setAttribute("aria-activedescendant", row.id);
    else this.#parts.list.removeAttribute("aria-activedescendant");
  }

  #fillRow(row, photo, index, count) {
    const isCurrent = photo === this.#session.current;
    const says = JSON.stringify([photo.name, stateOf(photo), photo.num_boxes, isCurrent, index, count]);
    if (row.dataset.says === says) return;
    row.dataset.says = says;
    if (!row.firstChild) {
      row.append(thumbnail(photo, this.#store), text("mark"), named("file"), text("number"));
      row.setAttribute("role", "option");
      row.id = `fewbox-${photo.id}`;
      row.onclick = () => this.#act.open(photo.id);
    }
    const [, mark, file, number] = row.children;
    row.className = `cell row ${isCurrent ? "current" : ""} ${photo.left_out ? "out" : ""}`;
    row.title = photo.error ?? photo.name;
    mark.dataset.state = stateOf(photo);
    file.textContent = photo.name;
    number.textContent = { unseen: "", unreadable: "!", out: "" }[stateOf(photo)] ?? photo.num_boxes;
    row.setAttribute("aria-selected", isCurrent);
    row.setAttribute("aria-label", `${photo.name}, ${inWords(photo)}`);
    row.setAttribute("aria-posinset", index + 1);
    row.setAttribute("aria-setsize", count);
  }

  /** In the list the arrows go from photo to photo, as in any list. */
  #listKey(event) {
    const direction = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!direction || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.#act.step(direction);
  }

  /** Enter opens what the search means, the arrows go from one photo found to the next, Escape lists all again. */
  #searchKey(event) {
    if (event.isComposing) return;
    if (event.key === "Enter") this.#act.jump();
    else if (event.key === "Escape") this.#act.leaveSearch();
    else return this.#listKey(event);
    event.preventDefault();
    return event.stopPropagation();
  }

  #showSuggestion() {
    const { suggested, photos, current } = this.#session;
    const photo = photos.find((one) => one.id === suggested && isOpen(one));
    const isNews = photo && photo !== current;
    const go = () => this.#act.goToSuggested();
    rebuilt(this.#parts.suggestion, isNews ? photo.id : "", () =>
      isNews ? [button("", go, text("", "Least sure of"), h("strong", {}, photo.name), key("G"))] : [],
    );
  }

  #showClasses() {
    const { labels, active, photos } = this.#session;
    const counts = labels.map((label) => photos.filter((photo) => photo.labels.includes(label)).length);
    const { hiddenLabels } = this.#session;
    rebuilt(this.#parts.classes, [labels, active, counts, [...hiddenLabels]], () =>
      labels.map((label, number) => this.#classRow(label, number, counts[number], number === active)),
    );
  }

  #classRow(label, number, count, isActive) {
    const swatch = text("swatch", number < 9 ? String(number + 1) : "");
    swatch.style.background = colourOf(number);
    swatch.style.color = inkOn(colourOf(number));
    const photos = text("number", String(count));
    photos.title = `in ${counted(count, "photo", "photos")}`;
    const isHidden = this.#session.hiddenLabels.has(label);
    const says = `${isHidden ? "Show" : "Hide"} ${label}`;
    const removes = count ? `Delete the class ${label}` : `Remove ${label}`;
    const remove = iconButton("bin", removes, () => this.#act.removeClass(label), "quiet second");
    return h(
      "div",
      { class: isActive ? "row active" : "row" },
      pick(isActive, () => this.#act.chooseClass(number), swatch, named("label", label), photos),
      remove,
      iconButton("pencil", `Rename ${label}`, () => this.#act.rename(label), "quiet"),
      iconButton(isHidden ? "hidden" : "eye", says, () => this.#act.toggleClass(label), isHidden ? "eye off" : "eye"),
    );
  }

  /** Over the photo, that boxes are hidden: nobody is to take it for one without any. */
  #showHidden() {
    const { hidesAll, hiddenLabels, labels } = this.#session;
    const hidden = labels.filter((label) => hiddenLabels.has(label));
    const says = hidesAll ? "Boxes are hidden" : hidden.length ? `Hidden: ${hidden.join(", ")}` : "";
    const { hiddenHint, toggleBoxes } = this.#parts;
    hiddenHint.hidden = !says;
    const name = hidesAll ? "H" : "Shift H";
    rebuilt(hiddenHint, says, () => [icon("hidden"), text("", says), key(name)]);
    hiddenHint.title = says && "Show them again";
    rebuilt(toggleBoxes, hidesAll, () => [icon(hidesAll ? "hidden" : "eye")]);
    toggleBoxes.classList.toggle("on", hidesAll);
    toggleBoxes.title = hidesAll ? "Show all boxes (H)" : "Hide all boxes (H)";
    toggleBoxes.setAttribute("aria-label", toggleBoxes.title);
  }

  #showBoxes() {
    const { current, items, selected, labels, state } = this.#session;
    const toDo = state && !state.reviewed && !state.left_out ? "Drag on the photo to draw a box." : "";
    const hint = state?.reviewed ? "Nothing: reviewed and empty." : toDo;
    const hidden = items.map((item) => this.#session.isHidden(item));
    this.#parts.boxes.ariaBusy = Boolean(current) && !current.error && !state; // they have not come yet
    rebuilt(this.#parts.boxes, [items, selected, labels, hint, hidden], () => {
      if (items.length) return items.map((item) => this.#boxRow(item, item.id === selected));
      return [h("p", { class: "hint" }, hint)];
    });
  }

  #boxRow(item, isSelected) {
    const isProposal = item.score !== undefined;
    const frame = text(isProposal ? "frame proposed" : "frame");
    frame.style.borderColor = colourOf(this.#session.labels.indexOf(item.label));
    const detail = isProposal ? `${Math.round(100 * item.score)}%?` : item.ignore ? "ignored" : sizeOf(item);
    const label = named("label", item.label);
    if (this.#session.isHidden(item)) label.append(" (hidden)");
    const says = isProposal ? "Dismiss the proposal" : `Delete ${item.label}`;
    return h(
      "div",
      { class: isSelected ? "row active" : "row" },
      pick(isSelected, () => this.#session.select(item.id), frame, label, text("number", detail)),
      iconButton("bin", says, () => this.#act.remove(item.id), "quiet"),
    );
  }

  #showOffers() {
    const count = this.#session.question ? 0 : this.#session.shownProposals.length;
    rebuilt(this.#parts.offers, count, () => {
      if (!count) return [];
      const one = button("primary", () => this.#act.acceptOne(), "Accept", key("Enter"));
      const all = button("", () => this.#act.acceptAll(), "Accept all", key("Shift Enter"));
      return [text("", `${count} proposed`), one, all];
    });
  }

  /** What is to be decided: proposals before the photo counts as reviewed, or those that came too late. */
  #showAsks() {
    const { question, late, state, clashes, current, photos } = this.#session;
    const clash = clashes.has(current) ? current : photos.find((photo) => clashes.has(photo));
    const count = question?.items.length ?? 0;
    const own = state?.boxes.length ?? 0;
    // What is drawn now, or a class that goes, is counted in.
    const sides = clash && clash === current ? ["mine", "theirs"].map((one) => this.#session.wanted(one)) : [];
    const counts = sides.map(({ boxes }) => boxes.length);
    rebuilt(this.#parts.asks, [count, own, late[0]?.name, clash?.name, counts], () => {
      if (count) return this.#question(count, own);
      if (clash) return clash === current ? this.#clash(...counts) : this.#clashElsewhere(clash);
      return late.length ? this.#tooLate(late[0]) : [];
    });
  }

  #question(count, own) {
    const [it, counts] = count === 1 ? ["it", "it counts"] : ["them", "they count"];
    const left = own ? `Left out, ${counts} as background.` : `Without ${it}, the photo counts as empty.`;
    return [
      h("p", {}, h("strong", {}, `${counted(count, "proposed box", "proposed boxes")} to decide. `), left),
      button("primary", () => this.#act.answer(true), count === 1 ? "Accept it" : `Accept all ${count}`, key("Space")),
      button("", () => this.#act.answer(false), own ? "Only my boxes" : "Nothing here", key("N")),
      button("", () => this.#act.back(), "Back", key("Esc")),
    ];
  }

  #clash(mine, theirs) {
    const one = (name, count) => `Only ${name} (${counted(count, "box", "boxes")})`;
    const keep = (which) => () => this.#act.keep(which);
    return [
      h("p", {}, h("strong", {}, "Somebody else has changed this photo while you did. "), "What both drew is saved."),
      button("primary", keep("both"), "Keep both"),
      button("", keep("mine"), one("mine", mine)),
      button("", keep("theirs"), one("theirs", theirs)),
    ];
  }

  #clashElsewhere(photo) {
    return [
      h("p", {}, h("strong", {}, photo.name), " was changed by somebody else while you did. What both drew is saved."),
      button("primary", () => this.#act.open(photo.id), "Look"),
      button("", () => this.#act.keep("both", photo), "Keep both"),
    ];
  }

  #tooLate(photo) {
    const says = " counts as empty, but while you went on, a box was proposed there.";
    return [
      h("p", {}, h("strong", {}, photo.name), says),
      button("primary", () => this.#act.lookAgain(), "Look again", key("L")),
      button("", () => this.#act.leaveEmpty(), "It is empty"),
    ];
  }

  #showProgress() {
    const { photos } = this.#session;
    const wanted = photos.filter((photo) => !photo.left_out);
    const readable = wanted.filter(({ error }) => !error);
    const reviewed = readable.filter((photo) => photo.reviewed).length;
    const boxes = wanted.reduce((sum, photo) => sum + photo.num_boxes, 0);
    const words = [`${reviewed} of ${readable.length} reviewed`, counted(boxes, "box", "boxes")];
    if (wanted.length < photos.length) words.push(`${photos.length - wanted.length} left out`);
    if (readable.length < wanted.length) words.push(`${wanted.length - readable.length} unreadable`);
    const isDone = readable.length > 0 && reviewed === readable.length;
    this.#parts.root.classList.toggle("all-reviewed", isDone);
    rebuilt(this.#parts.tally, words, () => [
      h("progress", { max: readable.length || 1, value: reviewed, "aria-label": "Reviewed photos" }),
      text("", words.join(" · ")),
    ]);
  }

  #showLearning() {
    const { state, message, round, progress } = this.#session.learning;
    const percent = progress ? ` ${Math.round(100 * progress)}%` : "";
    const words = { learning: `Learning${percent}`, ready: `Proposals: round ${round}` };
    const { learning } = this.#parts;
    learning.textContent = words[state] ?? message;
    learning.title = message;
    learning.dataset.state = state;
  }

  /** The state of saving; as long as a step is on its way that changes many photos, not all is saved. */
  get #status() {
    const { status } = this.#saver;
    return status.kind === "saved" && this.#session.isBusy ? { kind: "saving" } : status;
  }

  /** Show it: quiet when all is well, loud when not. */
  showSaved() {
    const { saved } = this.#parts;
    const { kind, error } = this.#status;
    const isTrouble = kind === "failed" || kind === "refused";
    saved.dataset.state = kind;
    saved.title = error?.hint ?? "";
    saved.setAttribute("role", isTrouble ? "alert" : "status");
    saved.parentElement.classList.toggle("trouble", isTrouble);
    const words = this.#savedInWords();
    rebuilt(saved, words, () => {
      const made = [text("", words)];
      if (kind === "saved") made.unshift(icon("check"));
      if (isTrouble) made.push(button("", () => this.#saver.retry(), "Try now"));
      if (kind === "refused") made.push(button("", () => this.#saver.discard(), "Discard"));
      return made;
    });
  }

  #savedInWords() {
    const { kind, at, error, retryAt, kept } = this.#status;
    if (kind === "saving") return "Saving…";
    if (kind === "saved") return at ? `Saved ${at.toLocaleTimeString("en-GB")}` : "All saved";
    if (kind === "refused") return `Not saved: ${error.message}.`;
    const wait = Math.max(Math.ceil((retryAt - Date.now()) / 1000), 0);
    const where = kept ? "Your changes are kept in this browser." : "Keep this window open.";
    return `Not saved: ${error.message}. Trying again${wait ? ` in ${wait} s` : ""}. ${where}`;
  }
}

/** The part of a row that selects what the row is about. */
function pick(isSelected, onclick, ...children) {
  const made = button("pick", onclick, ...children);
  made.setAttribute("aria-pressed", isSelected);
  return made;
}
