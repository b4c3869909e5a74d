// Photos from the computer's own camera.

const byId = (id) => document.getElementById(id);

/** Let the camera button open the camera; `add(file)` takes each photo, `view` tells what goes wrong. */
export function connectCamera(view, add) {
  const dialog = byId("camera");
  const video = dialog.querySelector("video");

  byId("open-camera").hidden = !navigator.mediaDevices; // browsers hide it where the page's address is not safe
  byId("open-camera").addEventListener("click", async () => {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      await video.play();
      dialog.showModal();
    } catch (error) {
      const hint = "Is there one, and may this page use it?";
      view.showTrouble("The camera cannot be used", { message: error.message, hint });
    }
  });
  dialog.querySelector(".take").addEventListener("click", async () => {
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    const time = new Date().toTimeString().slice(0, 8);
    add(new File([await canvas.convertToBlob()], `Camera ${time}`));
    dialog.close();
  });
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    for (const track of video.srcObject.getTracks()) track.stop(); // else its light stays on
  });
}
