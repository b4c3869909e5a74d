// Boxes as the network gives them: one flat Float32Array [M * 4], x1, y1, x2, y2 of each in pixels of its input.
// After core/boxes.py.
//
// Letters in shapes: M boxes, A anchors, C classes, K detections.

/** The boxes of a list of [x1, y1, x2, y2] as one flat array. */
export const flat = (list) => Float32Array.from(list.flat());

/** Intersection over union of box `i` of `first` with box `j` of `second`; 0 where neither has an area. */
export function iouAt(first, i, second, j) {
  const shared = sharedArea(first, i, second, j);
  return shared / Math.max(areaAt(first, i) + areaAt(second, j) - shared, 1e-12);
}

/** Square pixels that two boxes share. */
export function sharedArea(first, i, second, j) {
  const [a, b] = [4 * i, 4 * j];
  const width = Math.min(first[a + 2], second[b + 2]) - Math.max(first[a], second[b]);
  const height = Math.min(first[a + 3], second[b + 3]) - Math.max(first[a + 1], second[b + 1]);
  return width > 0 && height > 0 ? width * height : 0;
}

/** Square pixels of box `i`. */
export const areaAt = (boxes, i) => (boxes[4 * i + 2] - boxes[4 * i]) * (boxes[4 * i + 3] - boxes[4 * i + 1]);

/** The numbers 0 to `count` - 1, the highest of `values` first; equal ones keep their order. */
export function falling(values, count = values.length) {
  return Array.from({ length: count }, (_, i) => i).sort((a, b) => values[b] - values[a] || a - b);
}

/**
 * Non-maximum suppression within each class: `[{ row, classId, score }]`, the best first.
 *
 * `boxes` are [M * 4], `scores` [M * C]. A box goes if its IoU with a better one that stays is above `iouThreshold`.
 */
export function nmsPerClass(boxes, scores, numClasses, { scoreThreshold, iouThreshold, most }) {
  const found = [];
  for (let classId = 0; classId < numClasses; classId++) {
    const candidates = [];
    for (let row = 0; row < boxes.length / 4; row++) {
      const score = scores[row * numClasses + classId];
      if (score > scoreThreshold) candidates.push({ row, classId, score });
    }
    candidates.sort((a, b) => b.score - a.score || a.row - b.row);
    const kept = [];
    for (const one of candidates) {
      if (kept.length === most) break;
      if (kept.every((better) => iouAt(boxes, one.row, boxes, better.row) <= iouThreshold)) kept.push(one);
    }
    found.push(...kept);
  }
  return found.sort((a, b) => b.score - a.score).slice(0, most); // a sort that keeps the order of equal ones
}

/**
 * Each detection's box as the mean of those of its class that overlap it well: [x1, y1, x2, y2] each.
 *
 * A box weighs as much as its score times its IoU with the one that stayed; see `vote_boxes` in core/boxes.py.
 */
export function votedBoxes(boxes, scores, numClasses, found, voteIou) {
  return found.map(({ row, classId }) => {
    const sum = [0, 0, 0, 0];
    let total = 0;
    for (let other = 0; other < boxes.length / 4; other++) {
      const iou = iouAt(boxes, row, boxes, other);
      if (iou < voteIou) continue;
      const weight = iou * scores[other * numClasses + classId];
      total += weight;
      for (let edge = 0; edge < 4; edge++) sum[edge] += weight * boxes[4 * other + edge];
    }
    return sum.map((edge) => edge / Math.max(total, 1e-12));
  });
}
