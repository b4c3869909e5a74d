// The page as fewbox annotate serves it: the project behind this address, in this browser.

import { httpStore } from "./http_store.js";
import { mount } from "./main.js";
import { Unsaved } from "./unsaved.js";

async function readProject() {
  for (;;) {
    const project = await httpStore.project().catch(() => null);
    if (project) return project;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

const { name, key } = await readProject();
document.title = `${name} – fewbox`;
mount(document.body, httpStore, {
  unsaved: new Unsaved(localStorage, `${location.host} ${key}`),
  kept: sessionStorage,
  first: decodeURIComponent(location.hash.slice(1)),
  onOpen: (id) => history.replaceState(null, "", `#${encodeURIComponent(id)}`),
});
document.querySelector(".stage").focus({ focusVisible: false });
