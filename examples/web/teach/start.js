// The page that learns: the annotation page on a project in this browser, and a bar above it.

import { mount } from "../annotate/main.js";
import { NOWHERE } from "../annotate/unsaved.js";
import { inWords } from "../errors.js";
import { takeFiles } from "./adding.js";
import { connectAnew } from "./anew.js";
import { connectBases } from "./bases.js";
import { browserStore } from "./browser_store.js";
import { Database } from "./database.js";
import { sendKeysTo } from "./focus.js";
import { Learner } from "./learner.js";
import { connectLive } from "./live.js";
import { oneByOne } from "./previews.js";
import { BrowserProject } from "./project.js";
import { writeProject } from "./project_file.js";
import { connectShooting } from "./shooting.js";
import { Taking } from "./taking.js";
import { zipped } from "./zip.js";

const byId = (id) => document.getElementById(id);
const tellTrouble = (error) => tell(inWords(error));
const tell = (text) => (byId("told").textContent = byId("told").title = text);

const database = new Database();
const project = new BrowserProject(database);
const learner = new Learner(project, database);
const taking = new Taking(project, learner, tell);
const store = browserStore(project, learner, download);
let session = null;
export { learner, project }; // for tests and for the console
const inTurn = oneByOne();

await project.emptyTrash().catch(tellTrouble);
mount(byId("page"), store, {
  unsaved: NOWHERE, // a change is in the database before a person could reload
  kept: sessionStorage,
  first: decodeURIComponent(location.hash.slice(1)),
  onOpen: (id) => history.replaceState(null, "", `#${encodeURIComponent(id)}`),
  onStart: (started) => (session = started),
});
sendKeysTo(byId("page"), document.querySelector("header.own"));
learner.addEventListener("change", showLearning);
const onClick = (id, does) => byId(id).addEventListener("click", () => does().catch(tellTrouble));
const saveDetector = () => learner.download(download);
onClick("save-detector", saveDetector);
onClick("save-project", saveProject);
onClick("save-photos", saveWithPhotos);
connectAnew(project, learner, { save: saveWithPhotos, saveDetector, tellTrouble });
connectBases(learner, tellTrouble).catch(tellTrouble);
connectLive((picture) => learner.lookAtPicture(picture), () => project.labels(), tellTrouble);
const takeInTurn = (files, areNew) => inTurn(() => take(files, areNew));
takeFiles((files) => takeInTurn(files).catch(tellTrouble));
connectShooting((files) => takeInTurn(files, true), tellTrouble);
// So that the page opens without a network; browsers allow it only by HTTPS and on this machine.
navigator.serviceWorker?.register(new URL("../offline.js", import.meta.url)).catch(() => {});

function showLearning() {
  session?.takeLearning(learner.learning());
  const save = byId("save-detector");
  save.disabled = byId("open-live").disabled = !learner.isLearnt;
  save.textContent = `Download ${learner.isLearnt ? learner.fileName : "the detector"}`;
}

function download(name, blob) {
  const href = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

/** Take what was chosen, dropped or pasted, and open its first photo where none is open. */
async function take(files, areNew) {
  const first = await taking.take(files, areNew);
  if (!session) return;
  await session.refresh();
  if (first && !session.current) session.open(first);
  if (first) navigator.storage?.persist?.(); // so that the browser asks before it makes room by forgetting them
}

async function projectFile() {
  const text = writeProject(await project.photos(), await project.labels());
  return new Blob([text], { type: "application/json" });
}

/** Hand out annotations.json. */
async function saveProject() {
  download("annotations.json", await projectFile());
  tell("annotations.json belongs beside the photos, which are not in it");
}

/** Hand out one file that the page opens again; unpacked, it is a folder for fewbox annotate. */
async function saveWithPhotos() {
  const entries = [{ name: "annotations.json", blob: await projectFile() }];
  for (const { id, name } of await project.photos()) entries.push({ name, blob: await project.file(id) });
  download("project.zip", await zipped(entries));
}
