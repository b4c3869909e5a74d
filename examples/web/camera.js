// Photos from the computer's own camera.

const byId = (id) => document.getElementById(id);

/** Let the camera button open the camera; `add(file)` takes each photo, `view` tells what goes wrong. */
export function connectCamera(view, add) {
  const dialog = byId("camera");
  const video = dialog.querySelector("video");
  let asked = 0; // how often it was opened or closed

  byId("open-camera").hidden = !navigator.mediaDevices; // browsers hide it where the page's address is not safe
  byId("open-camera").addEventListener("click", async () => {
    const turn = ++asked;
    let stream = null;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      if (turn === asked) {
        video.srcObject = stream;
        await video.play();
      }
      if (turn === asked) return dialog.showModal(); // else it was clicked again meanwhile
    } catch (error) {
      const hint = "Is there one, and may this page use it?";
      if (turn === asked) view.showTrouble("The camera cannot be used", { message: error.message, hint });
    }
    return stop(stream);
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
    asked += 1;
    stop(video.srcObject);
  });
}

/** Else its light stays on. */
function stop(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}
