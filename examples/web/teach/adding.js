// Ways for photos to come in: files, a folder, dropped anywhere, or pasted.

import { takeDrop } from "../dropped.js";

const byId = (id) => document.getElementById(id);

const INPUTS = {
  "#add-photos": "photo-files",
  "#add-folder": "folder-files",
  "#open-project": "project-files",
  "#base .choose": "base-file",
};

/** Hand what comes to `take(files)`; a file from a folder has its path there as `webkitRelativePath`. */
export function takeFiles(take) {
  for (const [button, input] of Object.entries(INPUTS)) {
    document.querySelector(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", ({ target }) => {
      take([...target.files]);
      target.value = ""; // so that the same file can be chosen again
    });
  }
  addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData?.files.length) take([...clipboardData.files]);
  });
  takeDropped(take);
}

function takeDropped(take) {
  const { classList } = document.body;
  const isOurs = ({ dataTransfer }) => {
    // Over a window of the annotation page photos are tried, as there.
    return dataTransfer?.types.includes("Files") && !document.querySelector("#page dialog[open]");
  };
  const listen = (type, hear) => document.addEventListener(type, (event) => isOurs(event) && hear(event), true);
  listen("dragover", (event) => {
    event.preventDefault(); // else the browser would open the file instead of the page
    classList.add("dragging");
  });
  listen("dragleave", ({ relatedTarget }) => relatedTarget ?? classList.remove("dragging"));
  listen("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    classList.remove("dragging");
    takeDrop(event.dataTransfer, take);
  });
}
