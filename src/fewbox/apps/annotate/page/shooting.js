// The camera in the window that tries the detector: a button that opens it, and one that takes a picture.

import { Camera } from "./camera.js";
import { button, h, key } from "./dom.js";

export class Shooting {
  #video = h("video", { muted: true, playsInline: true });
  #camera = new Camera(this.#video);
  #take;
  #tell;

  /** `take(file)` gets each picture, `tell(text)` why there is none. */
  constructor(take, tell) {
    this.#take = take;
    this.#tell = tell;
    this.button = button("", () => (this.#camera.isOpen ? this.stop() : this.#start()), "Camera");
    const shoot = button("primary", () => this.shoot(), "Take a picture", key("Space"));
    shoot.disabled = true; // until there is a picture to take
    this.#video.onloadeddata = () => (shoot.disabled = false);
    this.#video.onemptied = () => (shoot.disabled = true);
    this.element = h("div", { class: "camera", hidden: true }, this.#video, shoot);
  }

  async #start() {
    await this.#camera.open().catch(({ message }) => this.#tell(message));
    this.#show();
  }

  #show() {
    this.element.hidden = !this.#camera.isOpen;
    this.button.textContent = this.#camera.isOpen ? "Close the camera" : "Camera";
  }

  /** Take a picture; false if the camera is not on. */
  shoot() {
    if (!this.#video.videoWidth) return false;
    this.#camera.picture().then(this.#take);
    return true;
  }

  stop() {
    this.#camera.close();
    this.#show();
  }
}
