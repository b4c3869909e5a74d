// What a head finds in a photo that the base has looked at: what the finished detector would find, without
// looking again. After `YoloxDetector.select`.

import { nmsPerClass, votedBoxes } from "./boxes.js";
import { countOf } from "./features.js";
import { likeliestAlone, scoresOf } from "./fit.js";

/**
 * The objects in a photo of `size` whose score is above the threshold, the best first: `[{ classId, score, box }]`,
 * boxes in pixels of the photo.
 */
export function detect(base, features, head, size, scoreThreshold) {
  const { config } = base.header;
  const { numClasses } = head;
  const threshold = Math.max(scoreThreshold, config.score_threshold);
  const scores = likeliestAlone(scoresOf(base, features, head), numClasses);
  // Not above the threshold alone: where a box is does not depend on what was asked for.
  const candidates = candidatesOf(features, scores, numClasses, config.score_threshold);
  const found = nmsPerClass(candidates.boxes, candidates.scores, numClasses, {
    scoreThreshold: threshold,
    iouThreshold: config.iou_threshold,
    most: config.max_detections,
  });
  const boxes = votedBoxes(candidates.boxes, candidates.scores, numClasses, found, config.vote_iou);
  const ratio = Math.min(config.size_hw[0] / size.height, config.size_hw[1] / size.width);
  const ends = [size.width, size.height, size.width, size.height];
  return found
    .map(({ classId, score }, place) => {
      const box = boxes[place].map((edge, which) => Math.min(Math.max(edge / ratio, 0), ends[which]));
      return { classId, score, box };
    })
    .filter(({ box: [x1, y1, x2, y2] }) => x2 > x1 && y2 > y1); // the others lie in the padding
}

/** The anchors with a score above the threshold: their boxes, flat, and scores. */
function candidatesOf(features, scores, numClasses, threshold) {
  const rows = [];
  for (let row = 0; row < countOf(features); row++) {
    if (scores.subarray(row * numClasses, (row + 1) * numClasses).some((score) => score > threshold)) rows.push(row);
  }
  const chosen = (values, width) => {
    const kept = new Float32Array(rows.length * width);
    rows.forEach((row, place) => kept.set(values.subarray(row * width, (row + 1) * width), place * width));
    return kept;
  };
  return { boxes: chosen(features.boxes, 4), scores: chosen(scores, numClasses) };
}
