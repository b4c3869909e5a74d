// Calibrated scores: of the boxes at 0.8 eight in ten are right. After finetuning/estimate.py, where the numbers
// have their reasons. Platt, "Probabilistic Outputs for Support Vector Machines", 1999: a logit is stretched and
// shifted, all classes alike, so the order of detections stays.

import { sigmoid } from "./logistic.js";

const SPREADS = [0.25, 0.5]; // of the prior: of the stretch's logarithm, and of the shift
const STEPS = 100;
const WELL_CALIBRATED = 0.06;
const SHOWN_SCORE = 0.05;
const CROSSED = 5;
const BINS = 10;

export const UNCHANGED = { stretch: 1, shift: 0 };

const logitOf = (score) => {
  const inside = Math.min(Math.max(score, 1e-6), 1 - 1e-6);
  return Math.log(inside / (1 - inside));
};

/** A calibrated score. */
export const calibrated = ({ stretch, shift }, score) => sigmoid(stretch * logitOf(score) + shift);

/** Coefficients that give calibrated scores by themselves. */
export function ofCoefficients({ stretch, shift }, { numClasses, baseLogits, towerFeatures, bias }) {
  const stretched = (values) => values.map((value) => stretch * value);
  return {
    numClasses,
    baseLogits: stretched(baseLogits),
    towerFeatures: stretched(towerFeatures),
    bias: bias.map((value) => stretch * value + shift),
  };
}

/**
 * The calibration that held-out detections ask for; the fewer they are, the nearer to none.
 *
 * Scores stay as they were learnt if they mean what they say already, or if what some photos ask for makes the
 * scores in the others no better.
 */
export function calibrate({ detections, isRight, isWrong }) {
  const all = detections
    .map(({ photo, score }, place) => ({ photo, score, isRight: isRight[place], isWrong: isWrong[place] }))
    .filter((one) => one.isRight || one.isWrong);
  const crossed = all.slice();
  for (let part = 0; part < CROSSED; part++) {
    const isOut = ({ photo }) => photo % CROSSED === part;
    const byOthers = mostLikely(all.filter((one) => !isOut(one)));
    all.forEach((one, place) => {
      if (isOut(one)) crossed[place] = { ...one, score: calibrated(byOthers, one.score) };
    });
  }
  const isShown = (_, place) => all[place].score >= SHOWN_SCORE;
  const [asLearnt, byOthers] = [all, crossed].map((some) => calibrationError(some.filter(isShown)));
  return asLearnt < WELL_CALIBRATED || byOthers >= asLearnt ? UNCHANGED : mostLikely(all);
}

/** The most likely stretch and shift (MAP) under a normal prior, found by Newton's method. */
function mostLikely(detections) {
  const logits = detections.map(({ score }) => logitOf(score));
  const [forStretch, forShift] = SPREADS.map((spread) => 1 / spread ** 2);
  let [logStretch, shift] = [0, 0];
  for (let step = 0; step < STEPS; step++) {
    const stretch = Math.exp(logStretch);
    let [slopeA, slopeB] = [forStretch * logStretch, forShift * shift];
    let [aa, ab, bb] = [forStretch, 0, forShift];
    logits.forEach((logit, place) => {
      const claimed = sigmoid(stretch * logit + shift);
      const [error, curvature, input] = [claimed - detections[place].isRight, claimed * (1 - claimed), stretch * logit];
      slopeA += input * error;
      slopeB += error;
      aa += curvature * input ** 2;
      ab += curvature * input;
      bb += curvature;
    });
    const determinant = aa * bb - ab ** 2;
    const moves = [(bb * slopeA - ab * slopeB) / determinant, (aa * slopeB - ab * slopeA) / determinant];
    const [moveA, moveB] = moves.map((move) => Math.min(Math.max(move, -0.5), 0.5));
    [logStretch, shift] = [logStretch - moveA, shift - moveB];
    if (Math.max(...moves.map(Math.abs)) < 1e-6) break;
  }
  return { stretch: Math.exp(logStretch), shift };
}

/** The expected calibration error, 0 to 1: over bins of score, the mean score less the share that is right. */
function calibrationError(detections) {
  const bins = Array.from({ length: BINS }, () => ({ count: 0, score: 0, right: 0 }));
  for (const { score, isRight } of detections) {
    const bin = bins[Math.min(Math.max(Math.ceil(score * BINS) - 1, 0), BINS - 1)]; // a bin holds its upper edge
    bin.count += 1;
    bin.score += score;
    bin.right += isRight;
  }
  const error = bins.reduce((sum, { score, right }) => sum + Math.abs(right - score), 0);
  return error / Math.max(detections.length, 1);
}
