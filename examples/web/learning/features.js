// What the frozen network tells of the anchors of one picture: see `AnchorFeatures` in models/network.py.
//
// Letters in shapes: A anchors, S base logits, D tower features.

/**
 * @typedef {object} Features the anchors of one picture, those of one level together, the finest level first
 * @property {Float32Array} boxes [A * 4] that the base predicts, in pixels of its input
 * @property {Float32Array} baseLogits [A * S]; the last column says whether there is anything at all
 * @property {Float32Array} towerFeatures [A * D]
 * @property {Uint8Array} levels [A], ascending
 */

/** How many anchors there are. */
export const countOf = (features) => features.levels.length;

/** The last base logit of each anchor: higher where the base finds it likelier that there is any object. */
export function baseScores({ baseLogits, levels }) {
  const columns = baseLogits.length / levels.length;
  return Float32Array.from(levels, (_, row) => baseLogits[row * columns + columns - 1]);
}

/** Only the anchors `rows`, ascending; their columns are copied, so that the others can be forgotten. */
export function at(features, rows) {
  const chosen = (values) => {
    const width = values.length / countOf(features);
    const kept = new values.constructor(rows.length * width);
    rows.forEach((row, place) => kept.set(values.subarray(row * width, (row + 1) * width), place * width));
    return kept;
  };
  const { boxes, baseLogits, towerFeatures, levels } = features;
  return {
    boxes: chosen(boxes),
    baseLogits: chosen(baseLogits),
    towerFeatures: chosen(towerFeatures),
    levels: chosen(levels),
  };
}
