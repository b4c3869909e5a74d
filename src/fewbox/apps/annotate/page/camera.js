// The camera of this device, in the window that tries the detector.

import { button, h, key } from "./dom.js";

const NEEDS_HTTPS =
  "The camera needs https, or the page on the machine itself: start fewbox annotate with --certificate and --key. " +
  "On a phone, Choose photos offers the camera too.";

export class Camera {
  #video = h("video", { autoplay: true, muted: true, playsInline: true });
  #stream = null;
  #take;
  #tell;

  /** `take(file)` gets each picture, `tell(text)` why there is none. */
  constructor(take, tell) {
    this.#take = take;
    this.#tell = tell;
    this.button = button("", () => (this.#stream ? this.stop() : this.#start()), "Camera");
    const shoot = button("primary", () => this.shoot(), "Take a picture", key("Space"));
    shoot.disabled = true; // until there is a picture to take
    this.#video.onloadeddata = () => (shoot.disabled = false);
    this.#video.onemptied = () => (shoot.disabled = true);
    this.element = h("div", { class: "camera", hidden: true }, this.#video, shoot);
  }

  async #start() {
    if (!navigator.mediaDevices?.getUserMedia) return this.#tell(NEEDS_HTTPS);
    try {
      const wanted = { facingMode: "environment", width: { ideal: 1920 }, height: { ideal: 1080 } };
      this.#stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
    } catch ({ name, message }) {
      const says = { NotAllowedError: "the browser was not allowed to use it", NotFoundError: "there is none" };
      return this.#tell(`No picture from the camera: ${says[name] ?? message}.`);
    }
    this.#video.srcObject = this.#stream;
    this.#show();
    return undefined;
  }

  #show() {
    this.element.hidden = !this.#stream;
    this.button.textContent = this.#stream ? "Close the camera" : "Camera";
  }

  /** Take a picture; false if the camera is not on. */
  shoot() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    if (!this.#stream || !width) return false;
    const canvas = h("canvas", { width, height });
    canvas.getContext("2d").drawImage(this.#video, 0, 0);
    const [day, time] = new Date().toISOString().split(/T|\./);
    const name = `camera-${day}-${time.replaceAll(":", "")}.jpg`;
    canvas.toBlob((blob) => this.#take(new File([blob], name, { type: "image/jpeg" })), "image/jpeg", 0.92);
    return true;
  }

  stop() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.#video.srcObject = null;
    this.#show();
  }
}
