// The page that learns: the annotation page on a project in this browser, and a bar above it.

import { mount } from "../annotate/main.js";
import { NOWHERE } from "../annotate/unsaved.js";
import { takeFiles } from "./adding.js";
import { browserStore } from "./browser_store.js";
import { Database } from "./database.js";
import { Learner } from "./learner.js";
import { oneByOne, sizeOf } from "./previews.js";
import { BrowserProject } from "./project.js";

const byId = (id) => document.getElementById(id);
const inWords = ({ message, hint }) => (hint ? `${message}; ${hint}` : message);
const tell = (text) => (byId("told").textContent = byId("told").title = text);

const project = new BrowserProject(new Database());
const learner = new Learner(project);
const store = browserStore(project, learner, download);
let session = null;
const inTurn = oneByOne();

mount(byId("page"), store, {
  unsaved: NOWHERE, // a change is in the database before a person could reload
  kept: sessionStorage,
  first: decodeURIComponent(location.hash.slice(1)),
  onOpen: (id) => history.replaceState(null, "", `#${encodeURIComponent(id)}`),
  onStart: (started) => (session = started),
});
learner.addEventListener("change", () => session?.takeLearning(learner.learning()));
takeFiles((files) => inTurn(() => take(files)).catch((error) => tell(inWords(error))));

function download(name, blob) {
  const href = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

/** Add photos, one decoded at a time, and open the first where none is open. */
async function take(files) {
  const unreadable = [];
  let first = null;
  for (const [number, file] of files.entries()) {
    tell(files.length > 1 ? `adding ${number + 1} of ${files.length}` : "");
    const size = await sizeOf(file).catch(() => null);
    if (size) {
      const added = await project.add(file, file.name, size);
      first ??= added;
    } else if (!file.webkitRelativePath || file.type.startsWith("image/")) unreadable.push(file.name); // folders have others
  }
  const hint = "this browser cannot read it as a picture; JPEG, PNG and WebP always work";
  tell(unreadable.length ? `${unreadable.join(", ")}: ${hint}` : "");
  if (first) await showAdded(first.id);
  if (first) navigator.storage?.persist?.(); // so that the browser asks before it makes room by forgetting them
}

async function showAdded(id) {
  if (!session) return;
  await session.refresh();
  if (!session.current) session.open(id);
}
