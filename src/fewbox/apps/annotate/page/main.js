// The page: puts the parts together and connects keys, buttons and pointer with what they do.

import { askingActions } from "./asking.js";
import { offerBeside } from "./beside.js";
import { Stage } from "./canvas.js";
import { showHelp } from "./dialogs.js";
import { MOD, button, h, key } from "./dom.js";
import { showFinish } from "./finish.js";
import { boxInMiddle } from "./geometry.js";
import { ANSWERS, KEYS, entryFor, keyTable } from "./keys.js";
import { makeLayout } from "./layout.js";
import { followChanges, followLearning } from "./learning.js";
import { Look } from "./look.js";
import { Panels } from "./panels.js";
import { Pictures } from "./pictures.js";
import { PointerInput } from "./pointer.js";
import { Saver } from "./saving.js";
import { Session } from "./session.js";
import { showTrying } from "./trying.js";

const RETRY = 1500; // milliseconds until a photo that did not come is asked for again

/**
 * Show the page in `element`, working on `store`: an object with the methods of http_store.js.
 * `unsaved` keeps changes that are not saved yet (see unsaved.js), `kept` is where the brightness outlives a
 * reload (see look.js), `first` is the id of the photo to open, `onOpen(id)` is told which one is open, and
 * `onStart(session)`, once the photos are listed, who is at the project (see session.js).
 * Returns a function that takes the page down again.
 */
export function mount(element, store, { unsaved, kept = null, first = null, onOpen = () => {}, onStart }) {
  const saver = new Saver(store, unsaved);
  const session = new Session(store, saver);
  const act = {};
  const parts = makeLayout(act);
  const stage = new Stage(parts.stage, session, new Pictures(store));
  const pointer = new PointerInput(parts.stage, stage, session);
  const panels = new Panels(parts, session, saver, store, act);
  const look = new Look(stage, parts, kept);
  Object.assign(act, actions({ session, stage, pointer, parts, store }), viewActions({ session, stage, look }));
  element.classList.add("fewbox-frame");
  element.append(parts.root);

  const stop = new AbortController();
  listenToDrops(element, act, stop.signal);
  listenToKeys(element, parts, pointer, session, act, stop.signal);
  showChanges({ session, saver, stage, panels, parts, act, onOpen });
  addEventListener("focus", () => session.catchUp(), { signal: stop.signal });
  addEventListener("online", () => saver.retry(), { signal: stop.signal });
  addEventListener("beforeunload", (event) => saver.safe || event.preventDefault(), { signal: stop.signal });
  const tell = (error) => show(parts.said, `${error.message}. ${error.hint ?? ""}`, true);
  begin({ session, saver, unsaved, store, first, parts, stop }).then(
    () => {
      if (stop.signal.aborted) return;
      onStart?.(session);
      offerBeside(parts.dialogs, session, kept, tell);
    },
  );
  return () => {
    stop.abort();
    panels.stop();
    stage.stop();
    parts.root.remove();
  };
}

async function begin({ session, saver, unsaved, store, first, parts, stop }) {
  await unsaved.adopt(({ labels, photos }) => {
    saver.addLabels(labels);
    for (const [id, change] of photos) saver.add(id, change);
  });
  while (!stop.signal.aborted) {
    try {
      await session.start(first);
      break;
    } catch (error) {
      parts.notice.replaceChildren(...words("The photos cannot be listed", error));
      await new Promise((resolve) => setTimeout(resolve, RETRY));
    }
  }
  followLearning(session, store, stop.signal);
  followChanges(session, store, stop.signal);
}

const OF_SESSION = [
  ...["step", "goToSuggested", "toggleReviewed", "toggleLeftOut", "chooseClass", "acceptOne", "acceptAll"],
  ...["paste", "duplicate", "toggleBoxes", "toggleClass", "showAll", "goToEnd", "goToEmpty"],
  ...["answer", "back", "lookAgain", "leaveEmpty", "keep", "selectNext", "nudge", "stretch", "deleteSelected"],
  "toggleIgnore",
];

/** Everything that keys and buttons can do, by name. */
function actions({ session, stage, pointer, parts, store }) {
  const tell = (error) => show(parts.said, `${error.message}. ${error.hint ?? ""}`, true);
  let trying = null; // the window, if it was opened
  const act = {
    newBox: () => stage.photo && session.draw(boxInMiddle(stage.view, stage.photo, stage.size)),
    copy() {
      if (!session.selectedItem && getSelection()?.toString()) return false; // that text is what is to be copied
      return session.copy();
    },
    letGo() {
      pointer.abandon();
      session.letGo();
    },
    reviewAndNext: () => session.reviewAndNext(act.showFinish),
    copyFromPrevious: () => session.copyFromPrevious().catch(tell),
    remove(id) {
      session.select(id);
      session.deleteSelected();
    },
    undo: () => session.undo().catch(tell),
    redo: () => session.redo().catch(tell),
    open(id) {
      parts.root.classList.remove("shows-photos");
      session.setSearch("");
      session.open(id);
    },
    search() {
      parts.root.classList.add("shows-photos");
      parts.search.focus();
      parts.search.select();
    },
    jump() {
      if (session.jump() !== false) act.leaveSearch();
    },
    leaveSearch() {
      parts.root.classList.remove("shows-photos");
      session.setSearch("");
      parts.stage.focus({ preventScroll: true });
    },
    togglePhotos: () => parts.root.classList.toggle("shows-photos"),
    showHelp: () => showHelp(parts.dialogs),
    showFinish: () => session.settle(() => showFinish(parts.dialogs, session, store, act)),
    tryIt(files = []) {
      if (!trying?.dialog.open) trying = showTrying(parts.dialogs, session, store, act.open);
      trying.add(files);
    },
  };
  Object.assign(act, askingActions(session, parts.dialogs, tell));
  for (const name of OF_SESSION) act[name] = session[name].bind(session);
  return act;
}

/** What changes no more than what is seen of the photo. */
function viewActions({ session, stage, look }) {
  const middle = () => [stage.size.width / 2, stage.size.height / 2];
  return {
    zoom: (factor) => stage.zoom(middle(), factor),
    fit: () => stage.fit(),
    zoomToBox() {
      const item = session.selectedItem;
      if (item) stage.frame(item.box);
      else session.tell("no box is selected; Tab selects one");
    },
    toggleLook: () => look.toggle(),
    resetLook: () => look.reset(),
  };
}

/** Whether an element wants a key for itself: what one types into all, a slider those that move it. */
function isTakenBy(target, { key }) {
  if (target.closest("input[type=range]")) return /^(Arrow|Page|Home|End|Tab)/.test(key);
  return target.closest("input, select, textarea") !== null;
}

/** Photos that are dropped on the page are for the detector to look at. */
function listenToDrops(element, act, signal) {
  const isOfFiles = ({ dataTransfer }) => dataTransfer?.types.includes("Files");
  element.addEventListener("dragover", (event) => isOfFiles(event) && event.preventDefault(), { signal });
  element.addEventListener("drop", (event) => {
    if (!isOfFiles(event)) return;
    event.preventDefault(); // or the browser would leave the page for the photo
    act.tryIt([...event.dataTransfer.files]);
  }, { signal });
}

/** Connect the table of keys. Space acts when it comes up, since held down it lets one drag the photo. */
function listenToKeys(element, parts, pointer, session, act, signal) {
  const [keys, answers] = [keyTable(KEYS), keyTable(ANSWERS)];
  const isBusy = () => parts.dialogs.querySelector("dialog") !== null; // its keys are its own
  const press = (event) => {
    const { target } = event;
    const answer = session.question ? entryFor(answers, event) : {};
    const { entry, key } = answer.entry ? answer : entryFor(keys, event);
    if (!entry || event.isComposing || isBusy() || isTakenBy(target, event)) return;
    if (entry.isOnce && event.repeat) {
      event.preventDefault();
      return;
    }
    if (key.endsWith("Tab") && target !== parts.stage) return; // there it goes from button to button
    if (target.closest("button") && ["Enter", "Shift+Enter", " "].includes(key)) return;
    if (key === " ") pointer.setSpace(true);
    else {
      if (session.question && !answer.entry) act.back();
      if (entry.does(act, key) === false) return;
    }
    event.preventDefault();
  };
  const release = (event) => {
    if (event.key !== " " || !pointer.setSpace(false)) return;
    event.preventDefault();
    (session.question ? answers : keys).get(" ").does(act, " ");
  };
  element.addEventListener("keydown", press, { signal });
  element.addEventListener("keyup", release, { signal });
  // After a click on a button the keys are for the photo again; who goes by Tab stays where they are. It is given the
  // focus before the button does anything, since a window that opens gives the focus back to where it was.
  element.addEventListener("click", ({ detail, target }) => {
    if (detail > 0 && target.closest("button, .row") && !isBusy()) parts.stage.focus({ preventScroll: true });
  }, { capture: true, signal });
  addEventListener("blur", () => pointer.setSpace(false), { signal }); // another window hears it come up
}

/** Show what changes: the panels once per frame, the photo when another one is open. */
function showChanges({ session, saver, stage, panels, parts, act, onOpen }) {
  let isDue = false;
  let opened = null;
  let retry = null; // timer; set while the picture cannot be had
  const showPicture = (photo = session.current) => stage.show().then(
    () => {
      retry = null;
      if (stage.photo) stage.preload([session.neighbour(1), session.neighbour(-1)]);
    },
    (error) => {
      if (error.refused) session.refuse(error, photo); // by now another one may be open
      else retry ??= setTimeout(() => {
        retry = null;
        showPicture();
      }, RETRY);
    },
  ).then(() => parts.notice.replaceChildren(...notice(session, Boolean(retry), act)));
  const showAll = () => {
    isDue = false;
    panels.show();
    stage.redrawBoxes();
    parts.notice.replaceChildren(...notice(session, Boolean(retry), act));
    const id = session.current?.id ?? null;
    if (id !== null && id !== opened) onOpen(id);
    opened = id;
    showPicture();
  };
  session.addEventListener("change", () => {
    if (!isDue) requestAnimationFrame(showAll);
    isDue = true;
  });
  session.addEventListener("draft", () => stage.redrawBoxes());
  session.addEventListener("say", ({ detail }) => show(parts.said, detail, false));
  session.addEventListener("tell", ({ detail }) => show(parts.said, detail, true));
  session.addEventListener("offer", ({ detail: { text, isLast } }) => {
    const undo = () => (isLast() ? act.undo() : session.tell("something else was done since"));
    show(parts.said, text, true, button("", undo, "Undo", key(`${MOD} Z`)));
  });
  saver.addEventListener("status", () => panels.showSaved());
}

/** Say something to those who listen, and with `isSeen` for a moment to those who look, with what they may press. */
function show(said, text, isSeen, ...buttons) {
  said.replaceChildren(text, ...buttons);
  said.classList.toggle("seen", isSeen);
  clearTimeout(said.timer);
  const hide = () => {
    said.classList.remove("seen");
    for (const one of buttons) one.remove();
  };
  said.timer = setTimeout(hide, buttons.length ? 8000 : 2500);
}

/** What stands in the place of a photo that cannot be shown. */
function notice({ current, photos, name, trouble, isStarted, store }, isPictureMissing, act) {
  if (!isStarted) return [];
  const skip = button("", () => act.step(1), "Skip it");
  const reload = { message: store.ifEmpty ?? `Put photos into ${name}, then reload this page.` };
  if (!photos.length) return words("No photos here yet", reload);
  if (current?.error) return [...words(`${current.name} cannot be opened`, { message: current.error }), skip];
  if (trouble) return [...words(`${current.name} cannot be opened`, trouble), skip];
  if (!isPictureMissing) return [];
  return [...words(`${current.name} cannot be shown`, { message: "Trying again." }), skip];
}

function words(title, { message, hint }) {
  const made = [h("h2", {}, title), h("p", {}, message)];
  return hint ? [...made, h("p", { class: "hint" }, hint)] : made;
}
