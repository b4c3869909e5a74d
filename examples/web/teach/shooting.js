// Photos from the camera: one after the other, each after a countdown that leaves time to move what is in front of it.

import { Camera } from "../annotate/camera.js";
import { counted } from "../annotate/words.js";
import { inWords } from "../errors.js";

const COUNTDOWN = [3, 2, 1];
const SECOND = 1000; // milliseconds
const byId = (id) => document.getElementById(id);

/** Connect the window; `take(files)` takes each photo into the project, `tellTrouble(error)` writes below the window. */
export function connectShooting(take, tellTrouble) {
  const dialog = byId("shooting");
  const [video, number, says] = ["video", "output", "p"].map((tag) => dialog.querySelector(tag));
  const button = (name) => dialog.querySelector(`.${name}`);
  const camera = new Camera(video);
  let taken = 0;
  let series = null; // what ends the countdown, while there is one

  async function shoot() {
    const file = await camera.picture();
    dialog.querySelector(".seen").animate([{ opacity: 0.2 }, { opacity: 1 }], 300); // as a shutter
    await take([file]);
    says.textContent = `${counted(++taken, "photo", "photos")} taken, and added to the project`;
  }

  /** End the series, and say why where a person looks: what is below the window is not seen. */
  function fail(error) {
    stop();
    if (dialog.open) says.textContent = `Stopped: ${inWords(error)}`;
    else tellTrouble(error);
  }

  async function repeat({ signal }) {
    while (!signal.aborted) {
      for (const left of COUNTDOWN) {
        number.textContent = left;
        await new Promise((resolve) => setTimeout(resolve, SECOND));
        if (signal.aborted) return;
      }
      number.textContent = "";
      await shoot();
    }
  }

  function stop() {
    series?.abort();
    series = null;
    number.textContent = "";
    button("repeat").textContent = "Start";
  }

  byId("open-shooting").addEventListener("click", async () => {
    taken = 0;
    says.textContent = "Start takes a photo every three seconds: move the object in between.";
    dialog.showModal();
    const able = (is) => ["repeat", "once"].forEach((name) => (button(name).disabled = !is));
    able(false);
    try {
      able(await camera.open());
    } catch (error) {
      dialog.close();
      tellTrouble(error);
    }
  });
  button("repeat").addEventListener("click", () => {
    if (series) return stop();
    series = new AbortController();
    button("repeat").textContent = "Stop";
    return repeat(series).catch(fail);
  });
  button("once").addEventListener("click", () => shoot().catch(fail));
  button("done").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    stop();
    camera.close();
  });
}
