// Boxes and views, pure: nothing here knows the document.
//
// A box is [x1, y1, x2, y2] in pixels of the upright photo, edges continuous, as in core/boxes.py.
// A photo is {width, height}. A view {scale, x, y} puts the photo's point (u, v) at the stage's point
// (u * scale + x, v * scale + y); points of the stage are CSS pixels from its top left corner.

const MIN_SIDE = 2; // photo pixels: anything smaller is a click
const MAX_SCALE = 40; // stage pixels per photo pixel
const MARGIN = 24; // stage pixels around a fitted photo
const KEPT_IN_SIGHT = 64; // stage pixels of the photo that no pan may push out
export const SAME_PLACE = 0.95; // IoU above which eyes take two boxes for one

const KNOB_BELOW = 40; // stage pixels: a box with a shorter side has a knob to move it by
export const KNOB = 13; // stage pixels: its radius

export const clamp = (value, low, high) => Math.max(low, Math.min(value, high));

// A tenth of a pixel is finer than any hand, and keeps the project file easy to read.
const rounded = (value) => Math.round(value * 10) / 10;

export const toPhoto = (view, [x, y]) => [(x - view.x) / view.scale, (y - view.y) / view.scale];

export const toStage = (view, [u, v]) => [u * view.scale + view.x, v * view.scale + view.y];

export function boxOnStage(view, box) {
  return [...toStage(view, [box[0], box[1]]), ...toStage(view, [box[2], box[3]])];
}

/** The view that shows the whole photo in the middle of the stage, enlarged fourfold at most. */
export function fitted(photo, stage) {
  const room = (length) => Math.max(length - 2 * MARGIN, 1);
  const scale = Math.min(room(stage.width) / photo.width, room(stage.height) / photo.height, 4);
  return { scale, x: (stage.width - photo.width * scale) / 2, y: (stage.height - photo.height * scale) / 2 };
}

/** The view that shows a box in the middle of the stage, half as wide or high as that, and no smaller than fitted. */
export function framed([x1, y1, x2, y2], photo, stage) {
  const wanted = Math.min(stage.width / (x2 - x1), stage.height / (y2 - y1)) / 2;
  const scale = clamp(wanted, fitted(photo, stage).scale, MAX_SCALE);
  return { scale, x: (stage.width - (x1 + x2) * scale) / 2, y: (stage.height - (y1 + y2) * scale) / 2 };
}

/** Enlarge by `factor` and keep what is under `point` there. */
export function zoomed(view, point, factor, photo, stage) {
  const scale = clamp(view.scale * factor, fitted(photo, stage).scale / 2, MAX_SCALE);
  const [u, v] = toPhoto(view, point);
  return keptInSight({ scale, x: point[0] - u * scale, y: point[1] - v * scale }, photo, stage);
}

export function panned(view, dx, dy, photo, stage) {
  return keptInSight({ ...view, x: view.x + dx, y: view.y + dy }, photo, stage);
}

/** What two fingers do: the photo's points under them stay under them. Both are pairs of points. */
export function pinched(view, before, after, photo, stage) {
  const middle = ([[ax, ay], [bx, by]]) => [(ax + bx) / 2, (ay + by) / 2];
  const apart = ([[ax, ay], [bx, by]]) => Math.max(Math.hypot(ax - bx, ay - by), 1);
  const [from, to] = [middle(before), middle(after)];
  const under = panned(view, to[0] - from[0], to[1] - from[1], photo, stage);
  return zoomed(under, to, apart(after) / apart(before), photo, stage);
}

function keptInSight(view, photo, stage) {
  const kept = (offset, shown, room) => {
    const part = Math.min(KEPT_IN_SIGHT, shown, room);
    return clamp(offset, part - shown, room - part);
  };
  return {
    scale: view.scale,
    x: kept(view.x, photo.width * view.scale, stage.width),
    y: kept(view.y, photo.height * view.scale, stage.height),
  };
}

/** The box between two points of the photo, whichever way it was drawn, inside the photo. */
export function boxBetween([ax, ay], [bx, by], photo) {
  const inside = (value, length) => rounded(clamp(value, 0, length));
  return [
    inside(Math.min(ax, bx), photo.width),
    inside(Math.min(ay, by), photo.height),
    inside(Math.max(ax, bx), photo.width),
    inside(Math.max(ay, by), photo.height),
  ];
}

/** A box of photo `from` at the same place in photo `to`, which may have another size. */
export function resampled([x1, y1, x2, y2], from, to) {
  const [x, y] = [to.width / from.width, to.height / from.height];
  return boxBetween([x1 * x, y1 * y], [x2 * x, y2 * y], to);
}

export const isBox = ([x1, y1, x2, y2]) => x2 - x1 >= MIN_SIDE && y2 - y1 >= MIN_SIDE;

/** Move a box; it keeps its size and stops at the border of the photo. */
export function moved([x1, y1, x2, y2], dx, dy, photo) {
  const right = clamp(dx, -x1, photo.width - x2);
  const down = clamp(dy, -y1, photo.height - y2);
  return [x1 + right, y1 + down, x2 + right, y2 + down].map(rounded);
}

/**
 * Where a copy of a box can be seen: at its place, or if one of `others` is there, a little to the right and
 * below, or another way where the photo ends. A box that fills the photo stays.
 */
export function beside(box, others, photo) {
  const [x1, y1, x2, y2] = box;
  const little = Math.min(Math.min(x2 - x1, y2 - y1) / 4, Math.max(photo.width, photo.height) / 50);
  const step = Math.max(little, MIN_SIDE);
  const isTaken = (place) => others.some((other) => iou(place, other) > SAME_PLACE);
  for (const [right, down] of [[1, 1], [-1, -1], [1, -1], [-1, 1]]) {
    for (let [before, place] = [null, box]; before?.join() !== place.join(); ) {
      if (!isTaken(place)) return place;
      [before, place] = [place, moved(place, right * step, down * step, photo)];
    }
  }
  return box;
}

/** Move the edges that `part` names ("n", "se", ...), up to the border or the opposite edge. */
export function resized([x1, y1, x2, y2], part, dx, dy, photo) {
  return [
    part.includes("w") ? rounded(clamp(x1 + dx, 0, Math.max(x2 - MIN_SIDE, 0))) : x1,
    part.includes("n") ? rounded(clamp(y1 + dy, 0, Math.max(y2 - MIN_SIDE, 0))) : y1,
    part.includes("e") ? rounded(clamp(x2 + dx, Math.min(x1 + MIN_SIDE, photo.width), photo.width)) : x2,
    part.includes("s") ? rounded(clamp(y2 + dy, Math.min(y1 + MIN_SIDE, photo.height), photo.height)) : y2,
  ];
}

/**
 * The part of a box under a point of the stage: "n", "se" and so on for edges and corners, "inside", or null.
 * `reach` is how far outside an edge still counts; inwards it leaves the middle half of a small box free.
 */
export function partAt(view, box, [x, y], reach) {
  const [left, top, right, bottom] = boxOnStage(view, box);
  if (x < left - reach || x > right + reach || y < top - reach || y > bottom + reach) return null;
  const near = (at, low, high, names) => {
    const inwards = Math.min(reach, (high - low) / 4);
    if (at <= low + inwards) return names[0];
    return at >= high - inwards ? names[1] : "";
  };
  return near(y, top, bottom, "ns") + near(x, left, right, "we") || "inside";
}

/**
 * The same where the pointer may take hold of nothing but the handles: corners and the middles of edges. What
 * lies between them and inside is free for new boxes.
 */
export function handleAt(view, box, [x, y], reach) {
  const part = partAt(view, box, [x, y], reach);
  if (part === null || part === "inside") return null;
  const [left, top, right, bottom] = boxOnStage(view, box);
  const fromMiddle = part === "n" || part === "s" ? x - (left + right) / 2 : y - (top + bottom) / 2;
  return part.length === 2 || Math.abs(fromMiddle) <= reach ? part : null;
}

/** Where the knob is that moves a box too small to be taken hold of inside: [x, y], or null for none. */
export function knobOf(view, box, stage) {
  const [left, top, right, bottom] = boxOnStage(view, box);
  if (Math.min(right - left, bottom - top) >= KNOB_BELOW) return null;
  const y = bottom + 2 * KNOB + KNOB / 2 <= stage.height ? bottom + 1.5 * KNOB : top - 1.5 * KNOB;
  return [clamp((left + right) / 2, KNOB, stage.width - KNOB), y];
}

/** Of the items {id, box} under a point the smallest; if that is `held`, the next larger, and then none. */
export function itemAt(view, items, point, reach, held) {
  const area = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
  const under = items.filter(({ box }) => partAt(view, box, point, reach)).sort((a, b) => area(a) - area(b));
  return under[under.findIndex(({ id }) => id === held) + 1] ?? null;
}

/** A new box for the keyboard: a quarter as wide and high as what is in sight, in its middle. */
export function boxInMiddle(view, photo, stage) {
  const corner = toPhoto(view, [stage.width, stage.height]);
  const [x1, y1, x2, y2] = boxBetween(toPhoto(view, [0, 0]), corner, photo);
  const [cx, cy] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const [dx, dy] = [Math.max((x2 - x1) / 8, MIN_SIDE), Math.max((y2 - y1) / 8, MIN_SIDE)];
  return boxBetween([cx - dx, cy - dy], [cx + dx, cy + dy], photo);
}

/** Intersection over union. */
export function iou(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
  return (width * height) / (area(a) + area(b) - width * height);
}
