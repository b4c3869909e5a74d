// What became of every detection in photos held out: a true or false positive, and which objects were found.
// After evaluation/matching.py, outcomes.py and metrics.py, for one overlap: half, as in COCO's AP50.

import { areaAt, falling, sharedArea } from "./boxes.js";

const HIT_IOU = 0.5;

/**
 * @typedef {object} Outcomes of K detections and M boxes to be found, of all photos, one after the other
 * @property {{photo: number, classId: number, score: number}[]} detections [K]
 * @property {{photo: number, classId: number, foundScore: number}[]} objects [M]; `foundScore` is 0 if nothing found it
 * @property {Uint8Array} isRight [K] it found an object
 * @property {Uint8Array} isWrong [K] it is a false alarm; one that is neither lies on a region to ignore
 */

/**
 * Match what was found in each photo with what is to be found there: Outcomes.
 *
 * `found` are, for each photo, `{ boxes, rows }`: flat boxes, and `[{ row, classId, score }]` of them. `truths` are,
 * for each photo, `{ boxes, classIds, ignored }`, flat. Classes of which `isChecked` is not true are left out.
 */
export function outcomesOf(found, truths, isChecked) {
  const outcomes = { detections: [], objects: [], isRight: [], isWrong: [] };
  found.forEach(({ boxes, rows }, photo) => {
    const truth = truths[photo];
    const free = Array.from(truth.classIds, (classId, box) => ({ photo, classId, box, foundScore: 0 }));
    const counted = free.filter(({ classId }) => isChecked[classId]);
    // Best first; equal ones keep their order.
    for (const { row, classId, score } of [...rows].sort((a, b) => b.score - a.score)) {
      if (!isChecked[classId]) continue;
      const took = taken(boxes, row, truth, counted, classId);
      if (took && took !== "ignored") took.foundScore = score;
      outcomes.detections.push({ photo, classId, score });
      outcomes.isRight.push(took && took !== "ignored" ? 1 : 0);
      outcomes.isWrong.push(took ? 0 : 1);
    }
    outcomes.objects.push(...counted);
  });
  return outcomes;
}

/** The object that a detection finds: of those of its class still free the one it overlaps most; "ignored"; or null. */
function taken(boxes, row, truth, objects, classId) {
  let [best, highest] = [null, HIT_IOU];
  for (const one of objects) {
    if (one.classId !== classId || one.foundScore > 0) continue;
    const shared = sharedArea(boxes, row, truth.boxes, one.box);
    const iou = shared / Math.max(areaAt(boxes, row) + areaAt(truth.boxes, one.box) - shared, 1e-12);
    if (iou >= highest) [best, highest] = [one, iou]; // of equal ones the later, which COCO prefers
  }
  if (best) return best;
  for (let region = 0; region < truth.ignored.length / 4; region++) {
    // A region may be a crowd: what counts is the part of the detection that lies in it.
    const inside = sharedArea(boxes, row, truth.ignored, region) / Math.max(areaAt(boxes, row), 1e-12);
    if (inside >= HIT_IOU) return "ignored";
  }
  return null;
}

/** AP50 of a class, 0 to 1, and of how many objects; 0 of 0 if there is none. */
export function ap50Of({ detections, objects, isRight, isWrong }, classId) {
  const numObjects = objects.filter((one) => one.classId === classId).length;
  if (numObjects === 0) return { ap50: 0, objects: 0 };
  const scores = detections.map(({ score }) => score);
  let [hits, alarms] = [0, 0];
  const curve = [];
  for (const place of falling(scores)) {
    if (detections[place].classId !== classId) continue;
    hits += isRight[place];
    alarms += isWrong[place];
    curve.push({ recall: hits / numObjects, precision: hits / Math.max(hits + alarms, 1) });
  }
  for (let i = curve.length - 2; i >= 0; i--) {
    curve[i].precision = Math.max(curve[i].precision, curve[i + 1].precision);
  }
  let sum = 0;
  for (let level = 0; level <= 100; level++) sum += curve.find(({ recall }) => recall >= level / 100)?.precision ?? 0;
  return { ap50: sum / 101, objects: numObjects };
}

/** The highest F1 of all classes together at score thresholds of 0.00 to 0.99. */
export function bestF1({ detections, objects, isRight, isWrong }) {
  const thresholds = Array.from({ length: 100 }, (_, hundredths) => hundredths / 100);
  return Math.max(
    ...thresholds.map((threshold) => {
      const above = (flags) => detections.filter(({ score }, place) => flags[place] && score > threshold).length;
      const [found, alarms] = [above(isRight), above(isWrong)];
      return (2 * found) / (objects.length + found + alarms);
    }),
  );
}
