// What a window asks before it is done: names of classes, and what cannot be seen in the open photo.

import { askForName, confirmed } from "./dialogs.js";
import { MOD } from "./dom.js";
import { counted } from "./words.js";

const BACK = `${MOD} Z brings it back.`;

/** Actions of the page, by name; `dialogs` is where windows go, `tell` says what went wrong. */
export function askingActions(session, dialogs, tell) {
  const ask = (title, before) => askForName(dialogs, title, before);
  session.askForLabel = () => ask("What is it?");

  /** How many boxes have a class, in words, once everything is saved; null if it is not. */
  async function countOf(label) {
    if (!session.isSettled()) return null;
    const [boxes, photos] = (await session.store.labelCounts())[label] ?? [0, 0];
    const words = `${counted(boxes, "box", "boxes")} in ${counted(photos, "photo", "photos")}`;
    return { boxes, words };
  }

  async function merge(label, other) {
    const count = await countOf(label);
    if (!count) return;
    const says = [`${count.words} will be ${other}, and the class ${label} goes.`, BACK];
    const isSure = await confirmed(dialogs, `Merge ${label} into ${other}?`, says, "Merge");
    if (isSure) await session.mergeClass(label, other);
  }

  async function remove(label) {
    const count = await countOf(label);
    if (!count) return;
    if (!count.boxes) return void (await session.removeClass(label));
    const left = "A photo that then has no box counts as not reviewed.";
    const says = [`${count.words} will be deleted with it.`, left, BACK];
    const isSure = await confirmed(dialogs, `Delete the class ${label}?`, says, "Delete the class");
    if (isSure) await session.deleteClass(label);
  }

  return {
    async askForClass() {
      const label = await ask("New class");
      if (label) session.addClass(label);
    },
    async rename(label) {
      const hint = session.labels.length > 1 ? "The name of another class makes the two one." : "";
      const other = await askForName(dialogs, `Rename ${label}`, label, hint);
      if (!other || other === label) return;
      if (session.labels.includes(other)) await merge(label, other).catch(tell);
      else await session.renameClass(label, other).catch(tell);
    },
    async trashPhoto() {
      const { current } = session;
      if (!current) return;
      const moved = "It is moved into the folder .fewbox-trash beside the photos, and its boxes are kept.";
      const says = [session.store.whenTrashed ?? moved, BACK];
      const isSure = await confirmed(dialogs, `Delete ${current.name}?`, says, "Delete the photo");
      if (isSure && current === session.current) await session.trashPhoto().catch(tell);
    },
    removeClass: (label) => remove(label).catch(tell),
  };
}
