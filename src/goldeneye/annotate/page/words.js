// How photos and boxes are called, for eyes and for ears. Pure.

/** "boxes", "empty", "unseen" or "unreadable": the three states of a photo, and that there is none. */
export function stateOf(photo) {
  if (photo.error) return "unreadable";
  if (photo.num_boxes) return "boxes";
  return photo.reviewed ? "empty" : "unseen";
}

export const counted = (count, one, many) => `${count} ${count === 1 ? one : many}`;

export function inWords(photo) {
  const boxes = counted(photo.num_boxes, "box", "boxes");
  return { unreadable: "cannot be opened", boxes, empty: "reviewed, no boxes", unseen: "not looked at" }[stateOf(photo)];
}

/** A box, or a proposal (which has a score), for someone who cannot see it. */
export function described({ box: [x1, y1, x2, y2], label, ignore, score }) {
  const [width, height] = [x2 - x1, y2 - y1].map(Math.round);
  const words = [label];
  if (ignore) words.push("ignored");
  if (score !== undefined) words.push(`proposed, ${Math.round(100 * score)} percent sure`);
  return `${words.join(", ")}, ${width} by ${height} pixels at ${Math.round(x1)}, ${Math.round(y1)}`;
}
