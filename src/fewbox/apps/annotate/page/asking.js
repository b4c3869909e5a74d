// What a window asks before it is done: names of classes, and what cannot be seen in the open photo.

import { askForName, confirmed } from "./dialogs.js";
import { MOD } from "./dom.js";

const BACK = `${MOD} Z brings it back.`;

/** Actions of the page, by name; `dialogs` is where windows go, `tell` says what went wrong. */
export function askingActions(session, dialogs, tell) {
  const ask = (title, before) => askForName(dialogs, title, before);
  session.askForLabel = () => ask("What is it?");
  return {
    async askForClass() {
      const label = await ask("New class");
      if (label) session.addClass(label);
    },
    async rename(label) {
      const other = await ask(`Rename ${label}`, label);
      if (other && other !== label) await session.renameClass(label, other).catch(tell);
    },
    async trashPhoto() {
      const { current } = session;
      if (!current) return;
      const says = [
        "It is moved into the folder .fewbox-trash beside the photos, and its boxes are kept.",
        BACK,
      ];
      const isSure = await confirmed(dialogs, `Delete ${current.name}?`, says, "Delete the photo");
      if (isSure && current === session.current) await session.trashPhoto().catch(tell);
    },
    removeClass: (label) => session.removeClass(label).catch(tell),
  };
}
