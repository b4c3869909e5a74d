// The page as goldeneye annotate serves it: the project behind this address, in this browser.

import { httpStore } from "./http_store.js";
import { mount } from "./main.js";
import { Unsaved } from "./unsaved.js";

async function projectName() {
  for (;;) {
    const project = await httpStore.project().catch(() => null);
    if (project) return project.name;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

const name = await projectName();
document.title = `${name} – goldeneye`;
mount(document.body, httpStore, {
  unsaved: new Unsaved(localStorage, `${location.host} ${name}`),
  first: decodeURIComponent(location.hash.slice(1)),
  onOpen: (id) => history.replaceState(null, "", `#${encodeURIComponent(id)}`),
});
