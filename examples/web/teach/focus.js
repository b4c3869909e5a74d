// Keys are for the photo wherever nothing else wants them: the annotation page hears only those pressed inside of it.

const OF_BUTTONS = ["Enter", " ", "Tab"];

/** Send keys from the bar `header`, and from no place at all, to the photo in `page`. */
export function sendKeysTo(page, header) {
  document.addEventListener("keydown", (event) => {
    const isFromBar = header.contains(event.target) && !OF_BUTTONS.includes(event.key);
    const stage = page.querySelector(".stage");
    if (!stage || (event.target !== document.body && !isFromBar)) return;
    stage.focus({ preventScroll: true, focusVisible: false });
    if (!stage.dispatchEvent(new KeyboardEvent("keydown", event))) event.preventDefault();
  });
  // Else Space would press the button again that was clicked last.
  header.addEventListener("click", ({ detail }) => detail > 0 && document.activeElement?.blur());
  for (const dialog of document.querySelectorAll("body > dialog")) {
    dialog.addEventListener("close", () => document.activeElement?.blur());
  }
}
