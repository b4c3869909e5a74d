// What held-out photos say of a detector: thresholds, AP50 with an interval, and what to look at again.
// After finetuning/estimate.py. There the interval is taken from draws of a Beta distribution; here from the
// distribution itself, so the two may differ in the last percent.

import { iouAt } from "./boxes.js";
import { calibrated } from "./calibration.js";
import { ap50Of, bestF1 } from "./outcomes.js";

const COVERAGE = 0.8;
const TARGET_PRECISION = 0.9;
const [USUAL_AP50, USUAL_OBJECTS] = [0.75, 0.5];
const OBJECT_WORTH = 0.4;
const USUAL_THRESHOLD = 0.4;
const BOXES_DIFFER = "what has a box in only one of them is learnt as background too: put the boxes together";
const SMALLEST_CELL = 8; // pixels of the network's input
const FOUND_SCORE = 0.05;
const SAME_BOX_IOU = 0.9; // of two boxes of one object, in whatever order they were drawn
const SAME_SIDE = 0.9; // from which ratio on a side of a box is that of one in a copy
const FRACTION_TERMS = 200; // more than thousands of objects need

/**
 * What is known of a detector, with the names that its file has: `fewbox show` tells it.
 *
 * `photos` are as for `learn`, `outcomes` of detections in photos held out with the scores as learnt, null if there
 * are none.
 */
export function estimateOf(photos, labels, outcomes, calibration) {
  const foundOf = (classId) => (outcomes ? ap50Of(outcomes, classId) : { objects: 0 });
  const classes = labels.map((label, classId) => expectedOf(label, foundOf(classId)));
  const known = classes.filter(({ objects }) => objects > 0);
  const mean = (name) => (known.length ? known.reduce((sum, one) => sum + one[name], 0) / known.length : null);
  const objects = known.reduce((sum, one) => sum + one.objects, 0);
  // What makes one class easy or hard does so for the others too, so the ends of the intervals are averaged.
  const overall = { label: "", objects, ap50: mean("ap50"), low: mean("low"), high: mean("high") };
  const [balanced, precise] = thresholdsOf(outcomes, calibration);
  const shown = new Set(photos.flatMap(({ classIds }) => classIds));
  // Photos without boxes say nothing of objects, and copies of one no more than it.
  const hasBoxes = (number) => photos[number].classIds.length > 0;
  const withBoxes = groupsOfCopies(photos).filter((numbers) => numbers.some(hasBoxes)).length;
  const boxless = labels.filter((_, classId) => !shown.has(classId));
  return {
    photos: withBoxes,
    overall: inPercent(overall),
    classes: classes.map(inPercent),
    calibration,
    score_threshold: balanced,
    precise_threshold: precise,
    remarks: [...warningsOf(photos, outcomes), ...twiceIn(photos, labels), ...limitsOf(classes, withBoxes, boxless)],
  };
}

/** An object that is found or missed is a draw; the usual detector is the prior of what is expected. */
function expectedOf(label, { ap50, objects }) {
  if (objects === 0) return { label, objects, ap50: null, low: null, high: null };
  const hits = USUAL_AP50 * USUAL_OBJECTS + ap50 * objects * OBJECT_WORTH;
  const misses = (1 - USUAL_AP50) * USUAL_OBJECTS + (1 - ap50) * objects * OBJECT_WORTH;
  const [low, high] = [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2].map((share) => betaQuantile(share, hits, misses));
  return { label, objects, ap50: hits / (hits + misses), low, high };
}

/** With the ends of the interval at whole percents, outwards. */
function inPercent(expected) {
  if (expected.objects === 0) return expected;
  return { ...expected, low: Math.floor(100 * expected.low) / 100, high: Math.ceil(100 * expected.high) / 100 };
}

/** Below which value a Beta distribution has the given share of its mass. */
function betaQuantile(share, a, b) {
  let [low, high] = [0, 1];
  for (let halving = 0; halving < 60; halving++) {
    const middle = (low + high) / 2;
    if (betaShare(middle, a, b) < share) low = middle;
    else high = middle;
  }
  return low;
}

/** The share of a Beta distribution below x: the continued fraction of DLMF 8.17.22, from its end. */
function betaShare(x, a, b) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - betaShare(1 - x, b, a);
  let rest = 1;
  for (let m = FRACTION_TERMS; m >= 0; m--) {
    rest = 1 - ((a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1)) / rest;
    if (m > 0) rest = 1 + (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)) / rest;
  }
  const logFront = a * Math.log(x) + b * Math.log1p(-x) + logGamma(a + b) - logGamma(a) - logGamma(b);
  return Math.exp(logFront) / a / rest;
}

/** The logarithm of the gamma function of x above 0: Stirling's series, DLMF 5.11.1. */
function logGamma(x) {
  let [shifted, product] = [x, 1];
  while (shifted < 12) product *= shifted++;
  const inverse = 1 / shifted;
  const series = inverse * (1 / 12 - inverse ** 2 * (1 / 360 - inverse ** 2 * (1 / 1260 - inverse ** 2 / 1680)));
  return (shifted - 0.5) * Math.log(shifted) - shifted + Math.log(2 * Math.PI) / 2 + series - Math.log(product);
}

/**
 * The threshold that balances misses and false alarms, and the one above which nine boxes in ten are right, or null.
 *
 * With calibrated scores the best threshold for F1 is half of the F1 it gives: Lipton et al., 2014.
 */
function thresholdsOf(outcomes, calibration) {
  if (!outcomes?.isRight.some(Boolean)) return [USUAL_THRESHOLD, null];
  const balanced = bestF1(outcomes) / 2;
  const counts = outcomes.detections.filter((_, place) => outcomes.isRight[place] || outcomes.isWrong[place]);
  const scores = counts.map(({ score }) => calibrated(calibration, score)).sort((a, b) => b - a);
  let [sum, precise] = [0, null];
  scores.forEach((score, place) => {
    sum += score;
    if (sum / (place + 1) >= TARGET_PRECISION) precise = score;
  });
  return [balanced, Math.max(precise ?? TARGET_PRECISION, balanced)];
}

/** One line for each thing in the photos that a person should look at again. */
function warningsOf(photos, outcomes) {
  const warnings = [];
  const groups = groupsOfCopies(photos);
  const copies = groups.flatMap(([_, ...others]) => others.map((number) => photos[number].name));
  if (copies.length) {
    const heldOut =
      heldTogether(photos).length < photos.length
        ? "it is held out together with it"
        : "finding its object again proves nothing, so the estimate is too high";
    const differ = groups.some((group) => group.some((n) => !haveSameBoxes(photos[n], photos[group[0]])));
    const learnt = differ ? BOXES_DIFFER : "nothing more is learnt from it";
    warnings.push(`the same picture as another: ${someOf(copies)}; ${learnt}, and ${heldOut}`);
  }
  const isSmall = ({ inputBoxes: b }) =>
    b.some((left, at) => at % 4 === 0 && (b[at + 2] - left) * (b[at + 3] - b[at + 1]) < SMALLEST_CELL ** 2);
  const small = photos.filter(isSmall);
  if (small.length) {
    warnings.push(
      `boxes below ${SMALLEST_CELL} x ${SMALLEST_CELL} pixels, as the network sees them: ${someOf(small.map(({ name }) => name))}; ` +
        "too small to be learnt well: cut the photos to the part that matters, or come nearer",
    );
  }
  const missed = outcomes?.objects.filter(({ foundScore }) => foundScore < FOUND_SCORE) ?? [];
  if (missed.length > (outcomes?.objects.length ?? 0) / 2) {
    const names = [...new Set(missed.map(({ photo }) => photos[photo].name))];
    warnings.push(
      `most objects are not recognised from the other photos: ${someOf(names)}; check that the boxes are around the ` +
        "right things, or add photos that are more alike",
    );
  }
  return warnings;
}

/**
 * The numbers of the photos, together those that are one picture, or that Roboflow made of one, as their names and
 * the sizes of their boxes tell: many are called `image_jpg`. In Python, which has the photos at hand, copies that
 * are brighter or smaller are known too.
 */
export function groupsOfCopies(photos) {
  const groups = [];
  const sourceOf = ({ name }) => /^(.+)\.rf\.[0-9a-f]{32}\.\w+$/.exec(name)?.[1];
  const isCopy = (one, other) =>
    isSame(one.features, other.features) ||
    (sourceOf(one) !== undefined && sourceOf(one) === sourceOf(other) && haveSameSizes(one, other));
  photos.forEach((photo, number) => {
    const group = groups.find((numbers) => numbers.some((before) => isCopy(photos[before], photo)));
    if (group) group.push(number);
    else groups.push([number]);
  });
  return groups;
}

/** Whether a copy says the same as another one: one picture may have been annotated twice, or marked empty. */
function haveSameBoxes(copy, other) {
  if (!isSame(copy.features, other.features)) return true; // by its boxes it is known as a copy
  const ids = [[...copy.classIds], [...other.classIds]];
  const [sorted, theirs] = ids.map((some) => [...some].sort((a, b) => a - b).join());
  const isFree = ids[1].map(() => true); // each is that of one
  const isThere = (id, i) => {
    const ious = ids[1].map((one, j) =>
      isFree[j] && one === id ? iouAt(copy.inputBoxes, i, other.inputBoxes, j) : 0,
    );
    const best = ious.indexOf(Math.max(...ious));
    isFree[best] = false;
    return ious[best] >= SAME_BOX_IOU;
  };
  return sorted === theirs && ids[0].every(isThere);
}

/** A line if some boxes in the very same place are of two classes. */
function twiceIn(photos, labels) {
  const pairs = new Map();
  for (const { inputBoxes: boxes, classIds } of photos) {
    const firstAt = new Map();
    const placeOf = (box) => boxes.slice(4 * box, 4 * box + 4).join();
    classIds.forEach((id, box) => {
      const before = firstAt.get(placeOf(box)) ?? [];
      for (const first of before) if (first !== id) pairs.set(`${first} ${id}`, [first, id]);
      firstAt.set(placeOf(box), [...before, id]);
    });
  }
  const sorted = [...pairs.values()].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const twice = sorted.map(([learnt, other]) => `${labels[learnt]} and ${labels[other]}`);
  const told = "only the first of the two is learnt there: make a detector for each";
  return twice.length ? [`the very same box is drawn as two classes: ${someOf(twice)}; ${told}`] : [];
}

/** Those that one fold holds out; if all that have boxes are copies of one, each alone, as there is nothing else. */
export function heldTogether(photos) {
  const groups = groupsOfCopies(photos);
  const withBoxes = groups.filter((numbers) => numbers.some((number) => photos[number].classIds.length > 0));
  return withBoxes.length > 1 ? groups : photos.map((_, number) => [number]);
}

/** Whether the boxes, in whatever order, are of the same classes and as large; a copy may be mirrored, or turned. */
function haveSameSizes(first, second) {
  const idsOf = ({ classIds }) => [...classIds].sort((a, b) => a - b).join();
  const isAsLarge = (own, other) => Math.min(own, other) >= SAME_SIDE * Math.max(own, other);
  const [own, others] = [sortedSides(first), sortedSides(second)];
  return (
    first.classIds.length > 0 &&
    idsOf(first) === idsOf(second) &&
    own.every((sides, which) => sides.every((side, box) => isAsLarge(side, others[which][box])))
  );
}

/** The shorter and the longer sides of the boxes, each sorted within each class. */
function sortedSides({ inputBoxes: b, classIds }) {
  return [Math.min, Math.max].map((pick) => {
    const sides = [...classIds].map((id, box) => ({
      id,
      side: pick(b[4 * box + 2] - b[4 * box], b[4 * box + 3] - b[4 * box + 1]),
    }));
    return sides.sort((one, other) => one.id - other.id || one.side - other.side).map(({ side }) => side);
  });
}

function isSame(first, second) {
  const [a, b] = [first.baseLogits, second.baseLogits];
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

/** What the numbers cannot know. */
function limitsOf(classes, numPhotos, boxless) {
  const limits = [];
  if (boxless.length) limits.push(`there is no box of ${someOf(boxless)} to learn from: nothing was learnt of it`);
  const unseen = classes.filter(({ label, objects }) => objects === 0 && !boxless.includes(label));
  if (unseen.length) {
    const names = someOf(unseen.map(({ label }) => label));
    limits.push(`nothing to check against for ${names}: one more photo of it would tell a lot`);
  } else if (numPhotos < 10) {
    limits.push(`${numPhotos} ${numPhotos === 1 ? "photo tells" : "photos tell"} little: more would narrow the interval`);
  }
  limits.push("all of this is for photos like these; other scenes, light and distances may differ");
  return limits;
}

const someOf = (names) => names.slice(0, 5).join(", ") + (names.length > 5 ? ` and ${names.length - 5} more` : "");
