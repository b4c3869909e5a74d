// The page: what is dropped, chosen or pasted becomes a detector or photos, and photos are looked at one by one.

import { connectCamera } from "./camera.js";
import { Engine } from "./engine.js";
import { ReaderError } from "./errors.js";
import { takeFiles } from "./files.js";
import { PhotoCard } from "./photo_card.js";
import { View } from "./view.js";

const engine = new Engine();
const view = new View();
const cards = [];
let detector = null; // header of the file that is open
let scoreThreshold = 0;
let isLooking = false;

const isDue = (card) => !card.isSeenBy(detector, scoreThreshold);
const showState = () => view.showState(detector, cards, !cards.some(isDue));

async function openDetector(name, read) {
  try {
    view.showTrouble(null);
    view.showLoading(name);
    const bytes = await read();
    const size = bytes.byteLength;
    const header = await engine.open(bytes); // the bytes are the worker's from here on
    detector = header;
    scoreThreshold = header.score_threshold;
    view.showDetector(name, header, size);
    view.showThreshold(scoreThreshold);
    look();
  } catch (error) {
    view.showTrouble(`${name} cannot be used`, error);
  }
  showState();
}

/** Look at every photo not seen by this detector with this threshold yet; new ones may come meanwhile. */
async function look() {
  if (isLooking) return;
  isLooking = true;
  for (let card; detector && (card = cards.find(isDue)); ) {
    const [by, threshold] = [detector, scoreThreshold];
    showState();
    card.showBusy();
    try {
      card.showFound(by, threshold, await engine.detect(card.file, threshold));
    } catch (error) {
      card.showTrouble(by, threshold, error);
    }
    showState();
  }
  isLooking = false;
}

function addPhotos(files) {
  for (const file of files) {
    const card = new PhotoCard(file, () => remove([card]));
    cards.push(card);
    view.photos.append(card.element);
  }
  showState();
  look();
}

function remove(some) {
  for (const card of some) {
    cards.splice(cards.indexOf(card), 1);
    card.close();
  }
  showState();
}

function take(files) {
  view.showTrouble(null);
  const detectors = files.filter((file) => /\.onnx$/i.test(file.name));
  const weights = files.find((file) => /\.(safetensors|pth?|tflite|xml)$/i.test(file.name));
  if (weights) {
    const hint = "Write one with: fewbox export duck.safetensors duck.onnx";
    const message = "The page runs detectors exported as .onnx";
    view.showTrouble(`${weights.name} cannot be used`, { message, hint });
  }
  addPhotos(files.filter((file) => file !== weights && !detectors.includes(file)));
  const last = detectors.at(-1);
  if (last) openDetector(last.name, () => last.arrayBuffer());
}

/** What `?model=duck.onnx` names. */
async function fetchModel(address) {
  const url = new URL(address, location.href);
  if (url.origin !== location.origin) {
    throw new ReaderError("It lies on another server, which this page never asks", "Download it, and drop it here.");
  }
  const answer = await fetch(url).catch(() => {
    throw new ReaderError("The server does not answer", "Is it still running?");
  });
  if (!answer.ok) {
    throw new ReaderError(`The server answers ${answer.status} ${answer.statusText}`, "Check what follows ?model=");
  }
  return answer.arrayBuffer();
}

let pause = 0;
function setThreshold(value) {
  scoreThreshold = value;
  view.showThreshold(value);
  clearTimeout(pause);
  pause = setTimeout(look, 120); // not at every step of a slider that is being pulled
}

takeFiles(take);
view.onThreshold(setThreshold, () => setThreshold(detector.score_threshold));
view.onClear(() => remove([...cards]));
connectCamera(view, (file) => addPhotos([file]));
showState();
const address = new URLSearchParams(location.search).get("model");
if (address) openDetector(address.split("/").at(-1), () => fetchModel(address));
