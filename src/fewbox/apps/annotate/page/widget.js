// The page inside a notebook: what anywidget calls to show it.

import { kernelStore } from "./kernel_store.js";
import { mount } from "./main.js";
import { NOWHERE } from "./unsaved.js";

export function render({ model, el }) {
  el.classList.add("fewbox-notebook");
  // The notebook must not take the keys for its own: "d" twice would delete a cell.
  el.dataset.lmSuppressShortcuts = "true";
  for (const type of ["keydown", "keyup", "keypress"]) {
    el.addEventListener(type, (event) => event.stopPropagation());
  }
  return mount(el, kernelStore(model), { unsaved: NOWHERE });
}
