// What the linear probe learns from: which anchors of a picture teach what, and all of them as one table.
// After finetuning/linear_probe/__init__.py, where the numbers have their reasons.
//
// Letters in shapes: A anchors, R of them that are learnt from, S base logits, D tower features, G levels.

import { areaAt, iouAt, sharedArea } from "./boxes.js";
import { at, baseScores, countOf } from "./features.js";

const MATCHED_IOU = 0.6;
const NEAR_IOU = 0.2;
const IGNORED_IOU = 0.3;
const IGNORED_SHARE = 0.5;
const OBJECT_WEIGHT = 20;
const TOWER_SCALE = 0.4;

/**
 * @typedef {object} Sample the anchors of one picture that are learnt from
 * @property {import("./features.js").Features} features R of them
 * @property {Int32Array} classIds [R] what each shows, -1 for the background
 * @property {Float64Array} weights [R] how many anchors of the background each counts as
 */

/**
 * Decide which anchors of a picture teach what: a Sample.
 *
 * `boxes` and `ignored` are flat, in pixels of the network's input, `classIds` one number for each box;
 * `generator` draws the background, `numBackground` anchors of each of two kinds.
 */
export function assignTargets(features, { boxes, classIds, ignored }, generator, numBackground) {
  const count = countOf(features);
  const targets = new Int32Array(count).fill(-1);
  const weights = new Float64Array(count).fill(1);
  const certain = likeliest(baseScores(features), numBackground);
  for (let region = 0; region < ignored.length / 4; region++) {
    for (let row = 0; row < count; row++) {
      const share = sharedArea(features.boxes, row, ignored, region) / Math.max(areaAt(features.boxes, row), 1e-12);
      if (share >= IGNORED_SHARE || iouAt(ignored, region, features.boxes, row) >= IGNORED_IOU) weights[row] = 0;
    }
  }
  if (classIds.length) {
    const { matched, bestIou, isPositive } = matchAnchors(features.boxes, boxes);
    const perObject = new Uint32Array(classIds.length);
    for (let row = 0; row < count; row++) perObject[matched[row]] += isPositive[row];
    for (let row = 0; row < count; row++) {
      if (isPositive[row]) {
        targets[row] = classIds[matched[row]];
        weights[row] = OBJECT_WEIGHT / perObject[matched[row]];
      }
      if (isPositive[row] || bestIou[row] >= NEAR_IOU) certain[row] = 1;
    }
  }
  const rows = [...certain.keys()].filter((row) => certain[row] && weights[row] > 0);
  const others = [...certain.keys()].filter((row) => !certain[row] && weights[row] > 0);
  const drawn = Array.from(generator.permutation(others.length).subarray(0, numBackground), (n) => others[n]);
  for (const row of drawn) weights[row] *= others.length / drawn.length; // they stand for all the others
  const learnt = [...rows, ...drawn].sort((a, b) => a - b);
  return {
    features: at(features, learnt),
    classIds: Int32Array.from(learnt, (row) => targets[row]),
    weights: Float64Array.from(learnt, (row) => weights[row]),
  };
}

/** For each anchor the box that it overlaps most, by how much, and whether it shows that box's object. */
function matchAnchors(anchors, boxes) {
  const [count, numBoxes] = [anchors.length / 4, boxes.length / 4];
  const matched = new Uint32Array(count);
  const bestIou = new Float32Array(count).fill(-1);
  const bestAnchor = [];
  for (let box = 0; box < numBoxes; box++) {
    let highest = -1;
    for (let row = 0; row < count; row++) {
      const iou = Math.fround(iouAt(boxes, box, anchors, row));
      if (iou > bestIou[row]) [bestIou[row], matched[row]] = [iou, box];
      if (iou > highest) [highest, bestAnchor[box]] = [iou, row];
    }
  }
  const isPositive = Uint8Array.from(bestIou, (iou) => iou >= Math.fround(MATCHED_IOU));
  // The best anchor of a box shows it in any case; of two boxes with the same one, the first has it.
  for (const [box, row] of [...bestAnchor.entries()].reverse()) {
    if (iouAt(boxes, box, anchors, row) > 0) [isPositive[row], matched[row]] = [1, box];
  }
  return { matched, bestIou, isPositive };
}

/** 1 for the `number` highest of `values`, and for what is as high as the last of them, else 0. */
function likeliest(values, number) {
  const lowest = Float32Array.from(values).sort().at(-Math.min(number, values.length));
  return Uint8Array.from(values, (value) => value >= lowest);
}

/**
 * @typedef {object} Design the samples of all pictures as one table: columns standardised, rows sorted by level
 * @property {Float32Array} columns [R * (S + D)]: base logits, then tower features
 * @property {number} numBase S
 * @property {number} numTower D
 * @property {number[]} starts [G + 1] where the rows of each level begin, and where the last end
 * @property {Int32Array} classIds [R]
 * @property {Float64Array} weights [R]
 * @property {Int32Array} photos [R] the photo that each row's picture is a view of
 * @property {{shift: Float64Array, factor: Float64Array}} scale [S + D]: columns as read, less shift, times factor
 */

/**
 * Put samples together: a Design.
 *
 * `samples` are one per picture, `photos` the photo that each is a view of: all views of one weigh as one
 * together. `columnScale` [S] is the base's own, `numLevels` G.
 */
export function designOf(samples, photos, columnScale, numLevels) {
  const views = new Map();
  for (const photo of photos) views.set(photo, (views.get(photo) ?? 0) + 1);
  const numBase = columnScale.length;
  const numTower = samples[0].features.towerFeatures.length / countOf(samples[0].features);
  const total = samples.reduce((sum, { classIds }) => sum + classIds.length, 0);
  const design = {
    columns: new Float32Array(total * (numBase + numTower)),
    numBase,
    numTower,
    starts: [],
    classIds: new Int32Array(total),
    weights: new Float64Array(total),
    photos: new Int32Array(total),
  };
  let place = 0;
  for (let level = 0; level < numLevels; level++) {
    design.starts.push(place);
    samples.forEach((sample, number) => {
      place = putRows(design, place, sample, level, photos[number], views.get(photos[number]));
    });
  }
  design.starts.push(place);
  return standardised(design, columnScale);
}

/** Put a sample's rows of a level at `place` of the table; where the next ones go. */
function putRows(design, place, { features, classIds, weights }, level, photo, numViews) {
  const { numBase, numTower, columns } = design;
  features.levels.forEach((own, row) => {
    if (own !== level) return;
    const start = place * (numBase + numTower);
    columns.set(features.baseLogits.subarray(row * numBase, (row + 1) * numBase), start);
    columns.set(features.towerFeatures.subarray(row * numTower, (row + 1) * numTower), start + numBase);
    design.classIds[place] = classIds[row];
    design.weights[place] = weights[row] / numViews;
    design.photos[place++] = photo;
  });
  return place;
}

/** Standardise the columns, in place. Tower features are not shifted: that would be another bias for each level. */
function standardised(design, columnScale) {
  const { columns, weights, numBase, numTower } = design;
  const width = numBase + numTower;
  const { mean, spread } = meanAndSpread(columns, weights, width);
  const shift = mean.map((value, column) => (column < numBase ? value : 0));
  const factor = spread.map((value, column) => (columnScale[column] ?? TOWER_SCALE) / value);
  for (let at = 0; at < columns.length; at += width) {
    for (let column = 0; column < width; column++) {
      columns[at + column] = (columns[at + column] - shift[column]) * factor[column];
    }
  }
  return { ...design, scale: { shift, factor } };
}

/** Weighted mean and standard deviation of each column; a column that never changes gets a spread of 1. */
function meanAndSpread(columns, weights, width) {
  const total = Math.max(weights.reduce((sum, weight) => sum + weight, 0), 1e-12);
  const [mean, variance] = [new Float64Array(width), new Float64Array(width)];
  weights.forEach((weight, row) => {
    for (let column = 0; column < width; column++) mean[column] += (weight / total) * columns[row * width + column];
  });
  weights.forEach((weight, row) => {
    for (let column = 0; column < width; column++) {
      variance[column] += (weight / total) * (columns[row * width + column] - mean[column]) ** 2;
    }
  });
  return { mean, spread: variance.map((value) => (Math.sqrt(value) > 1e-6 ? Math.sqrt(value) : 1)) };
}
