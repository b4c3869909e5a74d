// Boxes of other programs that lie beside the photos: offered at start, never taken over without being asked.

import { opened } from "./dialogs.js";
import { MOD, button, h } from "./dom.js";
import { counted } from "./words.js";

const SHOWN = 20; // problems

function inWords({ boxes, classes, photos, name, empty }) {
  const what = `${counted(boxes, "box", "boxes")} of ${counted(classes, "class", "classes")}`;
  const lie = boxes === 1 ? "lies" : "lie";
  const says = `${what} in ${counted(photos, "photo", "photos")} ${lie} beside these photos as ${name}`;
  return empty ? `${says}; ${counted(empty, "photo is", "photos are")} looked at and empty by it` : says;
}

/**
 * Offer what lies beside the photos. `kept` (sessionStorage, or null) remembers what was answered, so that a
 * reload does not ask again.
 */
export async function offerBeside(parent, session, kept, tell) {
  const found = await session.store.beside?.().catch(() => null);
  if (!found) return;
  const { offers, problems } = found;
  const isNew = session.photos.every(({ num_boxes }) => !num_boxes); // else what is wrong is known
  if (!offers.length && !(problems.length && isNew)) return;
  const asked = JSON.stringify(found);
  if (kept?.getItem("fewbox beside") === asked || parent.querySelector("dialog")) return;
  const title = offers.length ? "Take over these boxes?" : "Boxes beside these photos cannot be read";
  const done = () => dialog.close();
  const rows = offers.map((offer) => {
    const take = () => {
      dialog.close();
      session.takeOver(offer.format).catch(tell);
    };
    return h("div", { class: "step" }, h("p", {}, `${inWords(offer)}.`), button("primary", take, "Take over"));
  });
  const hint = `Photos in which you have drawn, or which you have reviewed, stay as they are. ${MOD} Z takes it back.`;
  const dialog = opened(
    parent,
    "beside",
    title,
    ...rows,
    ...(offers.length ? [h("p", { class: "hint" }, hint)] : []),
    ...(problems.length ? [h("h3", {}, "What cannot be taken over as it is"), listOf(problems)] : []),
    h("div", { class: "ends" }, button("", done, offers.length ? "Not now" : "Close")),
  );
  dialog.addEventListener("close", () => kept?.setItem("fewbox beside", asked));
}

function listOf(problems) {
  const lines = problems.slice(0, SHOWN).map((problem) => h("li", {}, problem));
  if (problems.length > SHOWN) lines.push(h("li", {}, `and ${problems.length - SHOWN} more`));
  return h("ul", {}, ...lines);
}
