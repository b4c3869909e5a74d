// A photo's file becomes pixels, as fewbox reads it: upright, white where it is transparent, its colour
// profile left aside.

import { ReaderError } from "./errors.js";

// More are halved in number as often as needed: phones give a canvas not more than 16 million.
const MAX_PIXELS = 16_000_000;

/** The pixels of a photo, and its whole size: `{ image, width, height }`, where `image` may be smaller. */
export async function readPixels(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => {
    throw new ReaderError("This browser cannot read it as a picture", "JPEG, PNG and WebP always work.");
  });
  const { width, height } = bitmap;
  const scale = Math.min(1, Math.sqrt(MAX_PIXELS / (width * height)));
  const canvas = new OffscreenCanvas(Math.max(1, Math.floor(width * scale)), Math.max(1, Math.floor(height * scale)));
  const context = canvas.getContext("2d", { willReadFrequently: true }); // kept where the processor reads it
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return { image: context.getImageData(0, 0, canvas.width, canvas.height), width, height };
}
