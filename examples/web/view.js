// What is on the page beside the photos: the detector's name, the threshold, what is missing, what went wrong.

import { count, h } from "./dom.js";

const byId = (id) => document.getElementById(id);
const MEGABYTE = 1e6;

export class View {
  photos = byId("photos");

  showLoading(name) {
    byId("detector").textContent = `Opening ${name}`;
    byId("start-title").textContent = `Opening ${name}`;
  }

  /** `header` is what the file says of itself. */
  showDetector(name, header, numBytes) {
    const { labels, base, fewbox_version: version } = header;
    byId("detector").dataset.name = name;
    byId("labels").textContent = `finds ${labels.join(", ")}`;
    const licence = base?.licence ? `, base ${base.name} (${base.licence})` : "";
    byId("detector").title = `${(numBytes / MEGABYTE).toFixed(1)} MB, by fewbox ${version}${licence}`;
    byId("own-threshold").textContent = `its own: ${header.score_threshold.toFixed(2)}`;
    byId("threshold-row").hidden = false;
    document.title = `${name} · fewbox`;
  }

  showThreshold(value) {
    byId("threshold").value = value;
    byId("threshold-value").textContent = value.toFixed(2);
  }

  /** Once the detector or the photos are others, or more is known of them; `isDone`: all there is to know. */
  showState(detector, cards, isDone) {
    byId("detector").textContent = byId("detector").dataset.name ?? "No detector yet";
    byId("choose-detector").classList.toggle("primary", !detector);
    byId("choose-photos").classList.toggle("primary", Boolean(detector));
    byId("clear").hidden = cards.length === 0;
    byId("start").hidden = Boolean(detector) && cards.length > 0;
    byId("end").hidden = !byId("start").hidden;
    this.#showNextStep(detector);
    const boxes = cards.reduce((sum, { found }) => sum + found.length, 0);
    const told = `${count(cards.length, "photo")}, ${count(boxes, "box", "boxes")}`;
    byId("summary").textContent = !detector || cards.length === 0 || !isDone ? "" : told;
  }

  #showNextStep(detector) {
    const [title, text, button] = detector
      ? ["Drop photos here", "or paste one. They are looked at on this computer.", "choose-photos"]
      : ["Drop a detector here", "A file that fewbox export wrote, such as duck.onnx.", "choose-detector"];
    byId("start-title").textContent = title;
    byId("start-text").textContent = text;
    const start = byId("start-button");
    start.textContent = byId(button).textContent;
    start.onclick = () => byId(button).click();
    start.hidden = false;
  }

  /** Say that something failed; `title` null: nothing did. */
  showTrouble(title, error) {
    const trouble = byId("trouble");
    trouble.hidden = title === null;
    if (title === null) return;
    const hint = error.hint ? [h("p", { class: "hint" }, error.hint)] : [];
    trouble.replaceChildren(h("h2", {}, title), h("p", {}, `${error.message}.`), ...hint);
  }

  onThreshold(set, reset) {
    byId("threshold").addEventListener("input", ({ target }) => set(Number(target.value)));
    byId("own-threshold").addEventListener("click", reset);
  }

  onClear(clear) {
    byId("clear").addEventListener("click", clear);
  }
}
