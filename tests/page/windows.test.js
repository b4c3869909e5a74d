import assert from "node:assert/strict";
import { test } from "node:test";
import "./browser_project.js"; // which finds the modules that are shared with fewbox annotate

const { connectCamera } = await import("../../examples/web/camera.js");
const { connectAnew } = await import("../../examples/web/teach/anew.js");
const { connectShooting } = await import("../../examples/web/teach/shooting.js");

const FULL = "The quota has been exceeded.";
const full = async () => {
  throw new DOMException(FULL, "QuotaExceededError");
};
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

class Element extends EventTarget {
  #parts = {};
  open = false;
  textContent = "";
  srcObject = null;
  play = async () => {};
  animate() {}

  querySelector(selector) {
    return (this.#parts[selector] ??= new Element());
  }

  showModal() {
    this.open = true;
  }

  close() {
    this.open = false;
    this.dispatchEvent(new Event("close"));
  }
}

/** A page with a camera; `click` clicks on a selector or into a window, and `below` is the line below all windows. */
function openPage(context) {
  const page = new Element();
  const given = {
    document: { getElementById: (id) => page.querySelector(`#${id}`) },
    navigator: { mediaDevices: { getUserMedia: async () => ({ getTracks: () => [] }) } },
    OffscreenCanvas: class {
      getContext = () => ({ drawImage() {} });
      convertToBlob = async () => new Blob(["photo"]);
    },
  };
  for (const [name, value] of Object.entries(given)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    context.after(() => (before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]));
  }
  const below = [];
  const click = async (...selectors) => {
    const at = selectors.reduce((element, selector) => element.querySelector(selector), page);
    at.dispatchEvent(new Event("click"));
    await settled();
  };
  return { page, click, below, tellTrouble: ({ message }) => below.push(message) };
}

test("a photo counts as taken once it is in the project", async (context) => {
  const { page, click, tellTrouble } = openPage(context);
  const adding = [];
  connectShooting(() => new Promise((resolve) => adding.push(resolve)), tellTrouble);
  await click("#open-shooting");
  const says = page.querySelector("#shooting").querySelector("p");
  await click("#shooting", ".once");
  assert.doesNotMatch(says.textContent, /taken/);
  adding[0]();
  await settled();
  assert.equal(says.textContent, "1 photo taken, and added to the project");
});

test("where no more photos can be kept, the window that takes them says so, and the series ends", async (context) => {
  const { page, click, below, tellTrouble } = openPage(context);
  let tried = 0;
  const take = () => {
    tried += 1;
    return full();
  };
  connectShooting(take, tellTrouble);
  await click("#open-shooting");
  const says = page.querySelector("#shooting").querySelector("p");
  await click("#shooting", ".once");
  assert.equal(says.textContent, `Stopped: ${FULL}`);

  context.mock.timers.enable({ apis: ["setTimeout"] });
  page.querySelector("#shooting").querySelector(".repeat").dispatchEvent(new Event("click"));
  for (let second = 0; second < 20; second++) {
    context.mock.timers.tick(1000);
    for (let turn = 0; turn < 20; turn++) await null;
  }
  context.mock.timers.reset();
  assert.equal(tried, 2);
  assert.equal(says.textContent, `Stopped: ${FULL}`);
  assert.equal(page.querySelector("#shooting").querySelector(".repeat").textContent, "Start");
  assert.deepEqual(below, []);
});

test("what goes wrong once the window is closed is told below it", async (context) => {
  const { click, below, tellTrouble } = openPage(context);
  let fail;
  connectShooting(() => new Promise((_, reject) => (fail = reject)), tellTrouble);
  await click("#open-shooting");
  await click("#shooting", ".once");
  await click("#shooting", ".done");
  fail(new Error(FULL));
  await settled();
  assert.deepEqual(below, [FULL]);
});

test("a project that cannot be saved before a new one begins says so in the window that asks", async (context) => {
  const { page, click, below, tellTrouble } = openPage(context);
  const project = { photos: async () => [{ boxes: [] }], clear: full };
  connectAnew(project, {}, { save: full, saveDetector: full, tellTrouble });
  const says = page.querySelector("#anew").querySelector("p");
  for (const button of [".save", ".detector", ".begin"]) {
    await click("#new-project");
    assert.match(says.textContent, /^1 photo with 0 boxes will be deleted/);
    await click("#anew", button);
    assert.equal(says.textContent, `Not done, and nothing is deleted: ${FULL}`);
  }
  assert.deepEqual(below, []);
});

test("a camera that is asked for twice, as by a double click, is off once its window is closed", async (context) => {
  const { page } = openPage(context);
  const [streams, troubles] = [[], []];
  navigator.mediaDevices.getUserMedia = async () => {
    const track = { isOn: true, stop: () => (track.isOn = false) };
    streams.push(track);
    await settled();
    return { getTracks: () => [track] };
  };
  connectCamera({ showTrouble: (title) => troubles.push(title) }, () => {});
  for (let click = 0; click < 2; click++) page.querySelector("#open-camera").dispatchEvent(new Event("click"));
  await settled();
  await settled();
  assert.deepEqual(streams.map(({ isOn }) => isOn), [false, true]);
  assert.ok(page.querySelector("#camera").open);
  page.querySelector("#camera").close();
  assert.deepEqual(streams.map(({ isOn }) => isOn), [false, false]);
  assert.deepEqual(troubles, []);
});
