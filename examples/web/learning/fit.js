// The recipe: from what the base told of photos, and boxes drawn in them, to a head, with how good it should be.
// After finetuning/linear_probe/recipe.py and crossval.py, effort "quick": the photo and its mirror image, and
// no layer of the base is changed.
//
// Letters in shapes: C classes, S base logits, D tower features, G levels.

import { flat, nmsPerClass } from "./boxes.js";
import { UNCHANGED, calibrate, ofCoefficients } from "./calibration.js";
import { estimateOf, heldTogether } from "./estimate.js";
import { at, baseScores, countOf } from "./features.js";
import { TOLERANCE, fit, sigmoid } from "./logistic.js";
import { outcomesOf } from "./outcomes.js";
import { Generator } from "./random.js";
import { assignTargets, designOf } from "./targets.js";

const MAX_IMAGES = 600;
const [MIN_BACKGROUND, MAX_BACKGROUND, BACKGROUND_IN_ALL] = [30, 300, 30_000];
const [MAX_KEPT, KEPT_IN_ALL] = [4000, 400_000];
const FOLDS = 3;
const RIDGE = 100;
const [MAX_STEPS, FOLD_STEPS] = [80, 40];
const [MIN_SCORE, MIN_DETECTIONS] = [0.01, 100];

/**
 * @typedef {object} Photo
 * @property {string} name
 * @property {{width: number, height: number}} size in pixels
 * @property {number[][]} boxes [x1, y1, x2, y2] each, in pixels of the upright photo
 * @property {number[]} classIds of the boxes, 0 to C - 1
 * @property {number[][]} [ignored] regions that teach neither way
 * @property {import("./features.js").Features} features of all anchors
 * @property {import("./features.js").Features} [mirrored] the same of its mirror image; all photos have it, or none
 */

/**
 * @typedef {object} Learnt
 * @property {import("./base_file.js").Head} head with calibrated scores
 * @property {number} scoreThreshold
 * @property {object} estimate as `fewbox show` tells it; see estimate.js
 * @property {string[]} plan what was done, in words
 * @property {number} seed
 * @property {{objects: number, background: number}[]} losses of each step
 */

/**
 * Learn classes from photos that all have been looked at, with boxes or without, one photo at least: Learnt.
 *
 * `base` is what `readBase` gives, `labels` the names of the classes. The same photos, in the same order, give the
 * same head. It takes about a second for a few photos, and more with many photos and classes: call it in a worker.
 * Without `isChecked`, in half the time, no photo is held out: scores are as learnt, and nobody knows how good they
 * are. `maxSteps` and `tolerance` say when the fit to all photos ends.
 */
export function learn(base, photos, labels, options = {}) {
  const { seed = 0, isChecked = true, maxSteps = MAX_STEPS, tolerance = TOLERANCE } = options;
  const budget = budgetFor(photos.length, photos.every(({ mirrored }) => mirrored));
  const placed = photos.map((photo) => ({ ...photo, ...inInput(base, photo) }));
  const design = designFor(base, placed, budget, seed);
  const { coefficients, losses } = fit(design, labels.length, { ridge: RIDGE, maxSteps, tolerance });
  const outcomes = isChecked ? heldOut(base, placed, design, budget, labels.length) : null;
  const calibration = outcomes ? calibrate(outcomes) : UNCHANGED;
  const estimate = estimateOf(placed, labels, outcomes, calibration);
  return {
    head: headOf(base, ofCoefficients(calibration, coefficients)),
    scoreThreshold: estimate.score_threshold,
    estimate,
    plan: budget.plan,
    seed,
    losses,
  };
}

/** How much work the photos deserve. */
function budgetFor(numPhotos, hasMirrored) {
  const views = hasMirrored ? Math.min(1, Math.max(Math.floor(MAX_IMAGES / numPhotos) - 1, 0)) : 0;
  const each = Math.floor(BACKGROUND_IN_ALL / (numPhotos * (views + 1)));
  const photos = `${numPhotos} ${numPhotos === 1 ? "photo" : "photos"}`;
  return {
    views,
    background: Math.min(Math.max(each, MIN_BACKGROUND), MAX_BACKGROUND),
    kept: Math.min(Math.floor(KEPT_IN_ALL / numPhotos), MAX_KEPT),
    folds: numPhotos > 1 ? Math.min(FOLDS, numPhotos) : 0,
    plan: [`${photos}, effort quick: ${views} ${views === 1 ? "view" : "views"} of each beside the photo itself`],
  };
}

/** A photo's boxes in pixels of the network's input, flat: as they are, and in the mirror image. */
function inInput({ header }, { size, boxes, ignored = [] }) {
  const [height, width] = header.config.size_hw;
  const ratio = Math.fround(Math.min(height / size.height, width / size.width));
  const scaled = (list) => flat(list).map((edge) => edge * ratio);
  const flipped = (list) => list.map(([x1, y1, x2, y2]) => [size.width - x2, y1, size.width - x1, y2]);
  return {
    inputBoxes: scaled(boxes),
    inputIgnored: scaled(ignored),
    mirroredBoxes: scaled(flipped(boxes)),
    mirroredIgnored: scaled(flipped(ignored)),
  };
}

/** What there is to learn in all photos and their mirror images. */
function designFor(base, photos, { views, background }, seed) {
  const samples = [];
  const numbers = [];
  photos.forEach((photo, number) => {
    const generator = new Generator(seed + number);
    const { features, mirrored, classIds, inputBoxes, inputIgnored, mirroredBoxes, mirroredIgnored } = photo;
    const pictures = [[features, { boxes: inputBoxes, classIds, ignored: inputIgnored }]];
    if (views) pictures.push([mirrored, { boxes: mirroredBoxes, classIds, ignored: mirroredIgnored }]);
    for (const [own, truth] of pictures) {
      samples.push(assignTargets(own, truth, generator, background));
      numbers.push(number);
    }
  });
  return designOf(samples, numbers, base.header.columns, base.levels.length);
}

/** What became of detections in every photo by a head that has not learnt from it; null if nothing can be checked. */
function heldOut(base, photos, design, { folds, kept }, numClasses) {
  if (folds === 0) return null;
  // Copies of one photo are held out together, and count once; if there is nothing else, from each other.
  const parts = heldTogether(photos);
  const shown = parts.map((numbers) => numbers.flatMap((number) => [...photos[number].classIds]));
  const divided = stratifiedFolds(shown, Math.min(folds, parts.length)).map((fold) =>
    fold.flatMap((place) => parts[place]).sort((a, b) => a - b),
  );
  const numBoxes = (number) => photos[number].classIds.length;
  const said = parts.map((numbers) => numbers.reduce((best, one) => (numBoxes(one) > numBoxes(best) ? one : best)));
  const copies = new Set([...photos.keys()].filter((number) => !said.includes(number)));
  const seenIn = Array.from({ length: numClasses }, () => new Set());
  divided.forEach((numbers, fold) =>
    numbers.forEach((number) => photos[number].classIds.forEach((classId) => seenIn[classId].add(fold))),
  );
  const isChecked = seenIn.map((some) => some.size > 1); // no detector could know a class that is in one fold alone
  if (!isChecked.some(Boolean)) return null;
  const most = Math.max(MIN_DETECTIONS, 2 * Math.max(...photos.map(({ classIds }) => classIds.length)));
  const found = [];
  for (const numbers of divided) {
    const { coefficients } = fit(design, numClasses, { ridge: RIDGE, maxSteps: FOLD_STEPS, heldOut: numbers });
    const head = headOf(base, coefficients);
    for (const number of numbers) {
      const features = likeliest(photos[number].features, kept);
      const { boxes } = features;
      const rows = nmsPerClass(boxes, likeliestAlone(scoresOf(base, features, head), numClasses), numClasses, {
        scoreThreshold: MIN_SCORE,
        iouThreshold: base.header.config.iou_threshold,
        most,
      });
      found[number] = { boxes, rows: copies.has(number) ? [] : rows };
    }
  }
  const truths = photos.map(({ classIds, inputBoxes, inputIgnored }, number) => {
    if (copies.has(number)) return { boxes: [], classIds: [], ignored: [] };
    // Once all photos are learnt from, objects of an unchecked class will no longer be taken for those of another.
    const unknown = [...inputBoxes].filter((_, place) => !isChecked[classIds[Math.floor(place / 4)]]);
    return { boxes: inputBoxes, classIds, ignored: [...inputIgnored, ...unknown] };
  });
  return outcomesOf(found, truths, isChecked);
}

/**
 * The numbers of the photos that each fold holds out, with every class spread over the folds. Photos of the rarest
 * classes come first, and each goes to the fold that shows its rarest class in the fewest photos, then its next
 * rarest, then to the one with the fewest objects.
 */
export function stratifiedFolds(classIds, numFolds) {
  const seenIn = new Map();
  for (const shown of classIds) for (const id of new Set(shown)) seenIn.set(id, (seenIn.get(id) ?? 0) + 1);
  const rarestFirst = classIds.map((shown) => [...new Set(shown)].sort((a, b) => seenIn.get(a) - seenIn.get(b) || a - b));
  const rank = (number) => [seenIn.get(rarestFirst[number][0]) ?? Infinity, -classIds[number].length, number];
  const folds = Array.from({ length: numFolds }, (_, fold) => ({ fold, numbers: [], shows: new Map(), objects: 0 }));
  const size = Math.floor(classIds.length / numFolds);
  let larger = classIds.length % numFolds;
  for (const number of [...classIds.keys()].sort((a, b) => inOrder(rank(a), rank(b)))) {
    const room = folds.filter(({ numbers }) => numbers.length < size + (larger > 0 ? 1 : 0));
    const burden = ({ fold, numbers, shows, objects }) => [
      ...rarestFirst[number].map((id) => shows.get(id) ?? 0),
      objects,
      numbers.length,
      fold,
    ];
    const [least] = room.sort((a, b) => inOrder(burden(a), burden(b)));
    least.numbers.push(number);
    for (const id of rarestFirst[number]) least.shows.set(id, (least.shows.get(id) ?? 0) + 1);
    least.objects += classIds[number].length;
    if (least.numbers.length > size) larger--;
  }
  return folds.map(({ numbers }) => numbers.sort((a, b) => a - b));
}

/** As a comparison of lists of numbers of one length: by the first place in which they differ. */
function inOrder(a, b) {
  const place = a.findIndex((value, i) => value !== b[i]);
  return place < 0 ? 0 : a[place] < b[place] ? -1 : 1;
}

/** The anchors that the base finds likeliest to show anything, `count` of them at the most. */
function likeliest(features, count) {
  if (countOf(features) <= count) return features;
  const scores = baseScores(features);
  const order = [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, count);
  return at(features, order.sort((a, b) => a - b));
}

/** The head that gives the logits of coefficients from tower features alone: what a detector's file holds. */
export function headOf(base, { numClasses, baseLogits, towerFeatures, bias }) {
  const numBase = base.header.columns.length;
  const levels = base.levels.map(({ kernel, shift }, level) => {
    const numTower = kernel.length / numBase;
    const weight = new Float32Array(numClasses * numTower);
    const biases = new Float32Array(numClasses);
    for (let classId = 0; classId < numClasses; classId++) {
      const own = baseLogits.subarray(classId * numBase, (classId + 1) * numBase);
      const start = (level * numClasses + classId) * numTower;
      const sums = towerFeatures.slice(start, start + numTower);
      own.forEach((factor, column) => {
        for (let i = 0; i < numTower; i++) sums[i] += factor * kernel[column * numTower + i];
      });
      weight.set(sums, classId * numTower);
      biases[classId] = own.reduce((sum, factor, column) => sum + factor * shift[column], bias[classId]);
    }
    return { weight, bias: biases };
  });
  return { numClasses, levels };
}

/** Scores [A * C] of anchors by a head. */
export function scoresOf(base, features, { numClasses, levels }) {
  const { towerFeatures, levels: levelOf } = features;
  const numTower = towerFeatures.length / levelOf.length;
  const scores = new Float32Array(levelOf.length * numClasses);
  levelOf.forEach((level, row) => {
    const { weight, bias } = levels[level];
    for (let classId = 0; classId < numClasses; classId++) {
      let logit = bias[classId];
      for (let i = 0; i < numTower; i++) {
        logit += weight[classId * numTower + i] * towerFeatures[row * numTower + i];
      }
      scores[row * numClasses + classId] = sigmoid(logit);
    }
  });
  return scores;
}

/** Scores with all but the highest of each anchor 0, in place: a cell stands for one object. */
export function likeliestAlone(scores, numClasses) {
  for (let start = 0; start < scores.length; start += numClasses) {
    const row = scores.subarray(start, start + numClasses);
    const best = row.indexOf(Math.max(...row));
    row.forEach((_, classId) => {
      if (classId !== best) row[classId] = 0;
    });
  }
  return scores;
}
