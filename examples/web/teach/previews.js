// Photos as small as they are shown: one is decoded at a time, so that twenty of 12 million pixels fit a phone.

const KEPT = 300; // pictures: thumbnails have some 10 kB
const KEPT_SIDE = 512; // pixels; larger ones are kept by nobody but the page, decoded
const QUALITY = 0.88;

/** Run tasks one after the other. */
export function oneByOne() {
  let last = Promise.resolve();
  return (task) => {
    const result = last.then(task);
    last = result.catch(() => {});
    return result;
  };
}

export class Previews {
  #kept = new Map(); // "side id" -> promise of a Blob; the least recently used first
  #inTurn = oneByOne();

  /** The upright photo as a Blob, its longer side at most `side` pixels; 0: as it is. `read` gives its file. */
  get(id, side, read) {
    if (!side) return read();
    const key = `${side} ${id}`;
    const picture = this.#kept.get(key) ?? this.#inTurn(async () => smaller(await read(), side));
    this.#kept.delete(key);
    if (side > KEPT_SIDE) return picture;
    this.#kept.set(key, picture);
    picture.catch(() => this.#kept.delete(key));
    for (const oldest of [...this.#kept.keys()].slice(0, -KEPT)) this.#kept.delete(oldest);
    return picture;
  }
}

async function smaller(file, side) {
  const bitmap = await createImageBitmap(file);
  const { width, height } = bitmap;
  const scale = side / Math.max(width, height);
  if (scale >= 1) {
    bitmap.close();
    return file;
  }
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // where the photo is transparent, as fewbox has it
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
}

/** The size of the upright photo in a file: `{ width, height }`. */
export async function sizeOf(file) {
  const bitmap = await createImageBitmap(file);
  const { width, height } = bitmap;
  bitmap.close();
  return { width, height };
}
