// What is said of photos and boxes, to eyes and to ears. Pure.

/** "boxes", "empty", "unseen" or "unreadable": the three states of a photo, and that there is none. */
export function stateOf(photo) {
  if (photo.error) return "unreadable";
  if (photo.num_boxes) return "boxes";
  return photo.reviewed ? "empty" : "unseen";
}

/** Whether somebody still has to look at it. */
export const isOpen = (photo) => !photo.reviewed && !photo.error;

/** Whether a photo passes a filter: "all", "unreviewed", "empty", or "class " and a label. */
export function isShown(photo, filter) {
  if (filter === "unreviewed") return !photo.reviewed;
  if (filter === "empty") return photo.reviewed && photo.num_boxes === 0;
  return filter === "all" || photo.labels.includes(filter.slice("class ".length));
}

export const counted = (count, one, many) => `${count} ${count === 1 ? one : many}`;

export function inWords(photo) {
  const words = { unreadable: "cannot be opened", empty: "reviewed, no boxes", unseen: "not looked at" };
  return words[stateOf(photo)] ?? counted(photo.num_boxes, "box", "boxes");
}

export const sizeOf = ({ box: [x1, y1, x2, y2] }) => `${Math.round(x2 - x1)} × ${Math.round(y2 - y1)}`;

/** A box, or a proposal (which has a score), for someone who cannot see it. */
export function described({ box: [x1, y1, x2, y2], label, ignore, score }) {
  const [width, height] = [x2 - x1, y2 - y1].map(Math.round);
  const words = [label];
  if (ignore) words.push("ignored");
  if (score !== undefined) words.push(`proposed, ${Math.round(100 * score)} percent sure`);
  return `${words.join(", ")}, ${width} by ${height} pixels at ${Math.round(x1)}, ${Math.round(y1)}`;
}
