// The camera of this device: opened into a <video>, pictures of it, and closed, so that its light does not stay on.

const WANTED = { facingMode: "environment", width: { ideal: 1920 }, height: { ideal: 1080 } };
const NEEDS_HTTPS =
  "The camera needs https, or the page on the machine itself. On a phone, where photos are chosen, it is offered too.";
const REASONS = { NotAllowedError: "the browser was not allowed to use it", NotFoundError: "there is none" };

export class Camera {
  #video;
  #asked = 0; // how often it was opened or closed

  constructor(video) {
    this.#video = video;
  }

  get isOpen() {
    return this.#video.srcObject !== null;
  }

  /** Show what it sees; an Error says why it cannot. False if it was closed before it was open. */
  async open() {
    const asked = ++this.#asked;
    if (!navigator.mediaDevices?.getUserMedia) throw new Error(NEEDS_HTTPS);
    const stream = await navigator.mediaDevices.getUserMedia({ video: WANTED }).catch(({ name, message }) => {
      throw new Error(`No picture from the camera: ${REASONS[name] ?? message}.`);
    });
    if (asked !== this.#asked) {
      stopped(stream);
      return false;
    }
    this.#video.srcObject = stream;
    await this.#video.play().catch(() => {}); // it was closed meanwhile
    return asked === this.#asked;
  }

  /** What it sees now, as the file of a photo. */
  async picture() {
    const { videoWidth, videoHeight } = this.#video;
    const canvas = new OffscreenCanvas(videoWidth, videoHeight);
    canvas.getContext("2d").drawImage(this.#video, 0, 0);
    const [day, time] = new Date().toISOString().split(/T|\./);
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
    return new File([blob], `camera-${day}-${time.replaceAll(":", "")}.jpg`, { type: "image/jpeg" });
  }

  close() {
    this.#asked += 1;
    stopped(this.#video.srcObject);
    this.#video.srcObject = null;
  }
}

function stopped(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}
