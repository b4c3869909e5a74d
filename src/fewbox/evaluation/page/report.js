// Moves the threshold: boxes come and go, counts and words change. All numbers were computed beforehand.
"use strict";

const numbers = JSON.parse(document.getElementById("numbers").textContent);
const byId = (id) => document.getElementById(id);
const slider = byId("threshold");
const tiles = [...document.querySelectorAll("#photos > li")];
const ranged = [...document.querySelectorAll("[data-from]")].map((element) => ({
  element,
  from: Number(element.dataset.from),
  below: Number(element.dataset.below),
}));

function show(place) {
  const threshold = numbers.thresholds[place];
  slider.value = place;
  slider.setAttribute("aria-valuetext", threshold.toFixed(2));
  byId("threshold-value").textContent = threshold.toFixed(2);
  for (const { element, from, below } of ranged) {
    element.classList.toggle("off", threshold < from || threshold >= below);
  }
  for (const button of document.querySelectorAll("[data-place]")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.place) === place));
  }
  showCounts(place);
  showMistakes();
  showPhotos();
  showClasses(place);
  showConfusion(place);
}

function showCounts(place) {
  const { annotations, found, alarms } = numbers.total;
  byId("words").textContent = numbers.words[place];
  byId("found").textContent = found[place];
  byId("missed").textContent = annotations - found[place];
  byId("alarms").textContent = alarms[place];
  byId("likely").textContent = numbers.likely[place];
  byId("miss-words").textContent = numbers.miss_words[place];
  byId("alarm-words").textContent = numbers.alarm_words[place];
  for (const table of document.querySelectorAll("[data-kinds]")) {
    const counts = numbers[table.dataset.kinds];
    for (const row of table.tBodies[0].rows) row.cells[1].textContent = counts[row.dataset.kind][place];
  }
  countBeside("misses-count", annotations - found[place]);
  countBeside("alarms-count", alarms[place]);
  const dot = byId("now-recall");
  dot.setAttribute("cx", share(found[place], annotations) ?? 0);
  dot.setAttribute("cy", share(found[place], found[place] + alarms[place]) ?? 1);
  byId("now-threshold").setAttribute("d", `M${numbers.thresholds[place]} 0V1`);
}

// Beside a heading: how many mistakes there are, and how many of them are shown.
function countBeside(id, total) {
  const shown = byId(id).closest("section").querySelectorAll(".crop:not(.off)").length;
  byId(id).textContent = shown < total ? `${shown} of ${total}` : String(total);
}

function share(part, whole) {
  return whole ? part / whole : null;
}

function percent(value) {
  return value === null ? "–" : `${Math.round(100 * value)}%`;
}

function showMistakes() {
  for (const list of document.querySelectorAll(".crops")) {
    list.classList.toggle("empty", !list.querySelector(".crop:not(.off)"));
  }
}

function showPhotos() {
  const onlyMistakes = byId("only-mistakes").checked;
  for (const tile of tiles) {
    const count = (kind) => tile.querySelectorAll(`.mark.${kind}:not(.off)`).length;
    const parts = [[count("miss"), "missed"], [count("alarm"), "false"], [count("hit"), "right"]];
    const present = parts.filter(([number]) => number);
    tile.querySelector(".badges").textContent =
      present.map(([number, kind]) => `${number} ${kind}`).join(" · ") || "empty, and nothing found";
    tile.classList.toggle("off", onlyMistakes && !count("miss") && !count("alarm"));
  }
  byId("photos").classList.toggle("empty", tiles.every((tile) => tile.classList.contains("off")));
}

function showClasses(place) {
  for (const { cells, dataset } of byId("classes").tBodies[0].rows) {
    const { annotations, found, alarms } = numbers.classes[dataset.class];
    const precision = share(found[place], found[place] + alarms[place]);
    const values = [found[place], annotations - found[place], alarms[place]];
    values.push(percent(precision), percent(share(found[place], annotations)));
    values.forEach((value, column) => (cells[column + 2].textContent = value));
  }
}

function showConfusion(place) {
  const table = byId("confusion");
  if (!table) return;
  numbers.confusion.counts[place].forEach((row, number) => {
    const total = Math.max(1, row.reduce((sum, count) => sum + count, 0));
    row.forEach((count, column) => {
      const cell = table.tBodies[0].rows[number].cells[column + 1];
      const last = row.length - 1;
      cell.textContent = number === last && column === last ? "" : count || "·";
      cell.className = !count ? "" : number === column ? "same" : "some";
      cell.style.setProperty("--share", `${Math.round((70 * count) / total)}%`);
    });
  });
}

// Whether the curves of all classes are shown while none is chosen, as the page came.
const showAll = !document.querySelector(".of-class.off");

function chooseClass() {
  const chosen = byId("curve-class").value;
  for (const curve of document.querySelectorAll(".of-class")) {
    curve.classList.toggle("off", chosen === "" ? !showAll : curve.dataset.class !== chosen);
  }
}

// The large view holds the tile's own picture while it is open, so the threshold moves its boxes too.
const large = byId("large");
let open = -1;

function putBack() {
  const picture = large.querySelector(".picture");
  if (picture) tiles[open].querySelector("button").prepend(picture);
}

function enlarge(number) {
  putBack();
  open = number;
  const tile = tiles[number];
  large.querySelector(".caption").textContent =
    `${tile.querySelector(".name").textContent}: ${tile.querySelector(".badges").textContent}`;
  large.querySelector(".frame").append(tile.querySelector(".picture"));
  if (!large.open) large.showModal();
}

function step(by) {
  if (by === 0) {
    large.close();
    return;
  }
  const shown = tiles.map((_, number) => number).filter((number) => !tiles[number].classList.contains("off"));
  const next = shown[(shown.indexOf(open) + by + shown.length) % shown.length];
  enlarge(next);
}

slider.addEventListener("input", () => show(Number(slider.value)));
for (const button of document.querySelectorAll("[data-place]")) {
  button.addEventListener("click", () => show(Number(button.dataset.place)));
}
byId("only-mistakes").addEventListener("change", showPhotos);
byId("curve-class")?.addEventListener("change", chooseClass);
tiles.forEach((tile, number) => tile.querySelector("button").addEventListener("click", () => enlarge(number)));
for (const button of large.querySelectorAll("[data-step]")) {
  button.addEventListener("click", () => step(Number(button.dataset.step)));
}
large.addEventListener("close", putBack);
large.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by) step(by);
});
byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = getComputedStyle(root).colorScheme === "dark" ||
    (getComputedStyle(root).colorScheme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  root.style.colorScheme = dark ? "light" : "dark";
});
show(Number(numbers.own));
