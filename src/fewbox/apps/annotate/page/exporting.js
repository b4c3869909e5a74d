// The boxes in another format, as a file that the browser keeps among its downloads.

import { button, h, text } from "./dom.js";

/** A row with the formats and a button; nothing in a notebook, where `fewbox.write_annotations` does it. */
export function exportRow(session) {
  const { store } = session;
  if (!store.formats) return null;
  const formats = h("select", { "aria-label": "Format of the export" });
  const message = h("p", { role: "status" });
  const start = button("", async () => {
    if (!session.isSettled((says) => (message.textContent = says))) return; // below a window nothing is seen
    start.disabled = true;
    message.textContent = await download(store, formats.value).catch(inWords);
    start.disabled = false;
  }, "Export");
  store.formats().then((all) => {
    formats.append(...Object.entries(all).map(([value, says]) => h("option", { value }, `${value}: ${says}`)));
  }, (error) => (message.textContent = inWords(error)));
  return h("div", { class: "export" }, text("", "The boxes as"), formats, start, message);
}

const inWords = ({ message, hint }) => (hint ? `${message}; ${hint}` : message);

/** Download the boxes, and say what the format cannot hold. */
async function download(store, format) {
  const { name, remarks, blob } = await store.exported(format);
  const href = URL.createObjectURL(blob);
  h("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
  return [`${name} is among your downloads`, ...remarks].join("; ");
}
