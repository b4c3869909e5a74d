// The live camera, with the boxes of what has been learnt and how many pictures a second are looked at.

import { Camera } from "../annotate/camera.js";
import { colourOf, inkOn } from "../annotate/colours.js";

const byId = (id) => document.getElementById(id);

/** Connect the window; `look(bitmap)` gives the boxes in a picture, `labelsOf()` the classes in their order. */
export function connectLive(look, labelsOf, tellTrouble) {
  const dialog = byId("live");
  const video = dialog.querySelector("video");
  const canvas = dialog.querySelector("canvas");
  const says = dialog.querySelector("p");
  const camera = new Camera(video);

  byId("open-live").addEventListener("click", async () => {
    dialog.showModal();
    says.textContent = "Starting";
    try {
      if (await camera.open()) await follow(await labelsOf());
    } catch (error) {
      dialog.close();
      tellTrouble(error);
    }
  });
  dialog.querySelector("button").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => camera.close());

  /** Look at one picture after the other, as fast as the worker answers. */
  async function follow(labels) {
    const { srcObject: opened } = video;
    while (camera.isOpen && video.srcObject === opened) {
      const started = performance.now();
      const picture = await createImageBitmap(video);
      const { boxes } = await look(await createImageBitmap(picture));
      draw(canvas, picture, boxes, labels);
      picture.close();
      const rate = 1000 / (performance.now() - started);
      says.textContent = `${boxes.length} found, ${rate.toFixed(1)} pictures a second`;
    }
  }
}

/** The picture that was looked at, so that boxes are where the objects are. */
function draw(canvas, picture, boxes, labels) {
  Object.assign(canvas, { width: picture.width, height: picture.height });
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  context.font = "600 16px system-ui, sans-serif";
  context.lineWidth = 3;
  for (const { box: [x1, y1, x2, y2], label, score } of boxes) {
    const colour = colourOf(Math.max(labels.indexOf(label), 0));
    const text = `${label} ${Math.round(100 * score)}%`;
    context.strokeStyle = context.fillStyle = colour;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    const top = Math.max(y1 - 22, 0);
    context.fillRect(x1 - 1.5, top, context.measureText(text).width + 12, 22);
    context.fillStyle = inkOn(colour);
    context.fillText(text, x1 + 4.5, top + 16);
  }
}
