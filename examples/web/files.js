// Ways for files to come in: chosen, dropped anywhere on the page, or pasted.

import { takeDrop } from "./dropped.js";

const byId = (id) => document.getElementById(id);

/** Hand what comes to `take(files)`. */
export function takeFiles(take) {
  for (const [button, input] of [["choose-detector", "detector-file"], ["choose-photos", "photo-files"]]) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", ({ target }) => {
      take([...target.files]);
      target.value = ""; // so that the same file can be chosen again
    });
  }
  takeDropped(take);
  addEventListener("paste", ({ clipboardData }) => take([...clipboardData.files]));
}

/** In folders there are files of other programs too, and photos that were deleted, in .fewbox-trash. */
function isMeant({ name, type, webkitRelativePath: path }) {
  const isHidden = path.split("/").slice(1).some((part) => part.startsWith("."));
  return !path || (!isHidden && (type.startsWith("image/") || /\.onnx$/i.test(name)));
}

function takeDropped(take) {
  const { classList } = document.body;
  const hasFiles = ({ dataTransfer }) => dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault(); // else the browser would open the file instead of the page
    event.dataTransfer.dropEffect = "copy";
    classList.add("dragging");
  });
  addEventListener("dragleave", ({ relatedTarget }) => relatedTarget ?? classList.remove("dragging"));
  addEventListener("drop", (event) => {
    classList.remove("dragging");
    if (!hasFiles(event)) return;
    event.preventDefault();
    takeDrop(event.dataTransfer, (files) => take(files.filter(isMeant)));
  });
}
