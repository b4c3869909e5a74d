// The window that tells which base model is learnt from, and the way back to the one that comes with the page.

/** Connect it; `learner` learns from another base once it was told so. */
export function connectBases(learner, tellTrouble) {
  const [open, dialog] = [document.querySelector("#open-base"), document.querySelector("#base")];
  const on = (selector, does) => dialog.querySelector(selector).addEventListener("click", does);

  async function show() {
    const own = await learner.ownBase();
    const name = learner.baseName || own?.name; // the page's own has none before it is open
    open.textContent = name ? `Base: ${name}` : "Base";
    dialog.querySelector("h2").textContent = `Base model: ${name ?? "the one of this page"}`;
    dialog.querySelector(".back").hidden = !own;
  }

  learner.addEventListener("change", () => show().catch(tellTrouble));
  open.addEventListener("click", () => show().then(() => dialog.showModal()).catch(tellTrouble));
  on(".choose", () => dialog.close());
  on(".done", () => dialog.close());
  on(".back", () => {
    dialog.close();
    learner.setBase(null).catch(tellTrouble);
  });
  return show();
}
