// Logistic regression of several classes at once: the loss, and its minimum by L-BFGS.
// After finetuning/linear_probe/__init__.py; in 64-bit numbers, of columns in 32 bits.
//
// The numbers sought stand in one Float64Array: for each class S for base logits, then for each level and class D
// for tower features, then a bias for each class.
//
// Letters in shapes: R rows, C classes, S columns of base logits and D of tower features, G levels.

const MEMORY = 10; // the last steps, from which the curvature is estimated; Nocedal and Wright, 2006, section 7.2
export const TOLERANCE = 1e-5; // relative progress of a step below which it is the last
const START_BIAS = -4; // everything is unlikely

/**
 * @typedef {object} Coefficients of columns as read
 * @property {number} numClasses C
 * @property {Float64Array} baseLogits [C * S]
 * @property {Float64Array} towerFeatures [G * C * D]
 * @property {Float64Array} bias [C]
 */

/**
 * The coefficients of columns as read that have the least loss, and the loss before the first step and after each:
 * `{ coefficients, losses: [{ objects, background }] }`, in nats per object as in Python.
 *
 * `design` is as of targets.js; rows of the photos `heldOut` teach nothing.
 */
export function fit(design, numClasses, { ridge, maxSteps, tolerance = TOLERANCE, heldOut = [] }) {
  const weights = design.weights.map((weight, row) => (heldOut.includes(design.photos[row]) ? 0 : weight));
  const loss = new Loss({ ...design, weights }, numClasses, ridge);
  const losses = [];
  const solution = minimise(loss, loss.start(), { maxSteps, tolerance }, () => losses.push(loss.latest));
  return { coefficients: unscaled(design, loss.parts(solution)), losses };
}

/** The weighted cross-entropy, summed, and `ridge / 2` times the squares of all numbers but the biases. */
class Loss {
  latest = { objects: 0, background: 0 };
  #design;
  #numClasses;
  #ridge;
  #ofObjects;
  #sizes;

  constructor(design, numClasses, ridge) {
    const { classIds, weights, starts, numBase, numTower } = design;
    this.#design = design;
    this.#numClasses = numClasses;
    this.#ridge = ridge;
    this.#ofObjects = Math.max(weights.reduce((sum, weight, row) => sum + (classIds[row] >= 0 ? weight : 0), 0), 1e-12);
    this.#sizes = [numClasses * numBase, (starts.length - 1) * numClasses * numTower, numClasses];
  }

  start() {
    const point = new Float64Array(this.#sizes[0] + this.#sizes[1] + this.#sizes[2]);
    return point.fill(START_BIAS, this.#sizes[0] + this.#sizes[1]);
  }

  /** The parts of a point, which share its memory: Coefficients. */
  parts(point) {
    const [base, tower] = this.#sizes;
    return {
      numClasses: this.#numClasses,
      baseLogits: point.subarray(0, base),
      towerFeatures: point.subarray(base, base + tower),
      bias: point.subarray(base + tower),
    };
  }

  /** The loss at a point, and its gradient. */
  at(point) {
    const gradient = new Float64Array(point.length);
    const [here, slope] = [this.parts(point), this.parts(gradient)];
    let [objects, all] = [0, 0];
    for (let level = 0; level + 1 < this.#design.starts.length; level++) {
      for (let classId = 0; classId < this.#numClasses; classId++) {
        const sums = this.#ofRows(level, classId, here, slope);
        objects += sums.objects;
        all += sums.all;
      }
    }
    this.latest = { objects: objects / this.#ofObjects, background: (all - objects) / this.#ofObjects };
    let squares = 0;
    for (let i = 0; i < point.length - this.#numClasses; i++) {
      squares += point[i] ** 2;
      gradient[i] += this.#ridge * point[i];
    }
    return { loss: all + (this.#ridge / 2) * squares, gradient };
  }

  /** What a level's rows add to the loss of a class, and, into `slope`, to its gradient. */
  #ofRows(level, classId, here, slope) {
    const { columns, starts, classIds, weights, numBase, numTower } = this.#design;
    const width = numBase + numTower;
    const [inBase, inTower] = [classId * numBase, (level * this.#numClasses + classId) * numTower];
    const factors = new Float64Array(width);
    factors.set(here.baseLogits.subarray(inBase, inBase + numBase));
    factors.set(here.towerFeatures.subarray(inTower, inTower + numTower), numBase);
    const sums = new Float64Array(width);
    let [objects, all, errors] = [0, 0, 0];
    for (let row = starts[level]; row < starts[level + 1]; row++) {
      const weight = weights[row];
      if (weight === 0) continue;
      const logit = here.bias[classId] + dotRow(columns, row * width, factors);
      const isShown = classIds[row] === classId;
      // log(1 + exp(-logit)) of what is shown, log(1 + exp(logit)) of what is not, without overflow
      const each = weight * (Math.max(isShown ? -logit : logit, 0) + Math.log1p(Math.exp(-Math.abs(logit))));
      all += each;
      if (isShown) objects += each;
      const error = weight * (sigmoid(logit) - (isShown ? 1 : 0));
      errors += error;
      addRow(sums, error, columns, row * width);
    }
    for (let i = 0; i < numBase; i++) slope.baseLogits[inBase + i] += sums[i];
    for (let i = 0; i < numTower; i++) slope.towerFeatures[inTower + i] += sums[numBase + i];
    slope.bias[classId] += errors;
    return { objects, all };
  }
}

export const sigmoid = (logit) => 1 / (1 + Math.exp(-logit));

/** A row of the table times factors, summed; in four parts, as one addition would wait for the last. */
function dotRow(columns, start, factors) {
  const last = factors.length - (factors.length % 4);
  let [a, b, c, d] = [0, 0, 0, 0];
  for (let i = 0; i < last; i += 4) {
    a += columns[start + i] * factors[i];
    b += columns[start + i + 1] * factors[i + 1];
    c += columns[start + i + 2] * factors[i + 2];
    d += columns[start + i + 3] * factors[i + 3];
  }
  for (let i = last; i < factors.length; i++) a += columns[start + i] * factors[i];
  return a + b + (c + d);
}

function addRow(sums, factor, columns, start) {
  const last = sums.length - (sums.length % 4);
  for (let i = 0; i < last; i += 4) {
    sums[i] += factor * columns[start + i];
    sums[i + 1] += factor * columns[start + i + 1];
    sums[i + 2] += factor * columns[start + i + 2];
    sums[i + 3] += factor * columns[start + i + 3];
  }
  for (let i = last; i < sums.length; i++) sums[i] += factor * columns[start + i];
}

// The same of whole arrays of 64 bits: a function that is given arrays of one kind alone is several times faster.
function dot(first, second) {
  let sum = 0;
  for (let i = 0; i < first.length; i++) sum += first[i] * second[i];
  return sum;
}

function add(sums, factor, values) {
  for (let i = 0; i < sums.length; i++) sums[i] += factor * values[i];
}

/**
 * The minimum of a smooth convex function by L-BFGS; Nocedal and Wright, 2006, 7.2.
 *
 * `loss.at(point)` is `{ loss, gradient }`; `onStep` is called at the first point and wherever a step ends.
 */
function minimise(loss, start, { maxSteps, tolerance }, onStep) {
  let here = { point: start, ...loss.at(start) };
  onStep();
  const steps = [];
  for (let number = 0; number < maxSteps; number++) {
    const direction = timesInverseHessian(here.gradient, steps).map((value) => -value);
    const descent = dot(here.gradient, direction);
    if (descent >= 0) break;
    const there = searched(loss, here, direction, descent);
    const step = there.point.map((value, i) => value - here.point[i]);
    const change = there.gradient.map((value, i) => value - here.gradient[i]);
    if (dot(step, change) > 1e-12) steps.push({ step, change });
    if (steps.length > MEMORY) steps.shift();
    const progress = here.loss - there.loss;
    const isLast = progress < tolerance * Math.max(Math.abs(here.loss), 1e-3);
    here = there;
    onStep();
    if (isLast) break;
  }
  return here.point;
}

/** Where a step along `direction` ends: Armijo and the weak Wolfe condition, by bisection. */
function searched(loss, here, direction, descent) {
  let [size, lower, upper] = [1, 0, Infinity];
  let there;
  for (let trial = 0; trial < 20; trial++) {
    const point = here.point.map((value, i) => value + size * direction[i]);
    there = { point, ...loss.at(point) };
    if (there.loss > here.loss + 1e-4 * size * descent) upper = size;
    else if (dot(there.gradient, direction) < 0.9 * descent) lower = size;
    else break;
    size = upper === Infinity ? 2 * size : (lower + upper) / 2;
  }
  return there;
}

/** The gradient times the inverse Hessian that the last steps suggest. */
function timesInverseHessian(gradient, steps) {
  if (steps.length === 0) {
    const size = Math.max(gradient.reduce((sum, value) => sum + Math.abs(value), 0), 1e-12);
    return gradient.map((value) => value / size);
  }
  const result = gradient.slice();
  const alphas = [];
  for (const { step, change } of [...steps].reverse()) {
    const alpha = dot(step, result) / dot(step, change);
    alphas.unshift(alpha);
    add(result, -alpha, change);
  }
  const { step, change } = steps.at(-1);
  const scale = dot(step, change) / dot(change, change);
  for (let i = 0; i < result.length; i++) result[i] *= scale;
  steps.forEach((one, number) => {
    add(result, alphas[number] - dot(one.change, result) / dot(one.step, one.change), one.step);
  });
  return result;
}

/** The coefficients of columns as read that give the same logits as those of standardised ones. */
function unscaled({ numBase, numTower, scale: { shift, factor } }, { numClasses, baseLogits, towerFeatures, bias }) {
  const ofBase = baseLogits.map((value, i) => value * factor[i % numBase]);
  const shifted = bias.map((value, classId) => {
    return value - dot(ofBase.subarray(classId * numBase, (classId + 1) * numBase), shift);
  });
  return {
    numClasses,
    baseLogits: ofBase,
    towerFeatures: towerFeatures.map((value, i) => value * factor[numBase + (i % numTower)]),
    bias: shifted,
  };
}
