// A new project in place of the one in this browser, which is nowhere else: whoever starts one may save it first.

import { counted } from "../annotate/words.js";
import { inWords } from "../errors.js";

const byId = (id) => document.getElementById(id);

/** Connect the window; `save()` hands the project out with its photos, `saveDetector()` what has been learnt. */
export function connectAnew(project, learner, { save, saveDetector, tellTrouble }) {
  const dialog = byId("anew");
  const [says, saveButton, detectorButton] = ["p", ".save", ".detector"].map((one) => dialog.querySelector(one));
  const on = (selector, does) => {
    dialog.querySelector(selector).addEventListener("click", () => does().catch(fail));
  };

  /** Say in the window why something was not done: what is below it is not seen. */
  function fail(error) {
    if (dialog.open) says.textContent = `Not done, and nothing is deleted: ${inWords(error)}`;
    else tellTrouble(error);
  }

  async function open() {
    const photos = await project.photos();
    if (!photos.length) return begin();
    const boxes = photos.reduce((sum, photo) => sum + photo.boxes.length, 0);
    const all = `${counted(photos.length, "photo", "photos")} with ${counted(boxes, "box", "boxes")}`;
    says.textContent =
      `${all} will be deleted from this browser, and nothing brings them back. ` +
      "Photos that were taken here with the camera are nowhere else.";
    saveButton.textContent = "Save it first, with its photos";
    detectorButton.textContent = `Download ${learner.fileName}`;
    detectorButton.hidden = !learner.isLearnt;
    return dialog.showModal();
  }

  /** Go on with nothing: undo, proposals and what was learnt belong to the project that is gone. */
  async function begin() {
    await project.clear();
    history.replaceState(null, "", location.pathname + location.search);
    location.reload();
  }

  byId("new-project").addEventListener("click", () => open().catch(tellTrouble));
  on(".save", async () => {
    await save();
    saveButton.textContent = "Saved; save it again";
  });
  on(".detector", saveDetector);
  on(".stop", async () => dialog.close());
  on(".begin", begin);
}
