import assert from "node:assert/strict";
import { test } from "node:test";
import { estimateInWords, thresholdInWords } from "../../src/fewbox/apps/annotate/page/words.js";

const ONE = { label: "duck", objects: 11, ap50: 0.968, low: 0.89, high: 1 };
const ALL = { ...ONE, label: "" };
const NONE = { label: "cup", objects: 0, ap50: null, low: null, high: null };

test("an estimate of one class is one line, with its interval and the objects held out", () => {
  const said = "Expected: AP50 97%, four times in five between 89% and 100% (11 objects held out)";
  assert.deepEqual(estimateInWords({ overall: ALL, classes: [ONE] }), [said]);
});

test("a class of which nothing was held out has no number", () => {
  const cup = "cup: none was held out, so nothing is known of it";
  const one = estimateInWords({ overall: ALL, classes: [ONE, NONE] });
  assert.match(one[0], /^duck: AP50 97%/); // and no mean with what nobody knows
  assert.deepEqual(one.slice(1), [cup]);
  const two = estimateInWords({ overall: ALL, classes: [ONE, NONE, { ...ONE, label: "mug" }] });
  assert.deepEqual(two.map((line) => line.split(":")[0]), ["All classes", "duck", "cup", "mug"]);
});

test("where nothing was held out there is no number at all", () => {
  const nothing = { overall: { ...NONE, label: "" }, classes: [NONE], score_threshold: 0.4, precise_threshold: null };
  for (const estimate of [nothing, null]) assert.doesNotMatch(estimateInWords(estimate).join(), /\d/);
  assert.match(thresholdInWords(nothing), /from a score of 40% on: a usual value/);
});

test("the threshold is said in words", () => {
  assert.equal(
    thresholdInWords({ overall: ALL, score_threshold: 0.42, precise_threshold: 0.71 }),
    "A box counts from a score of 42% on, which balances objects missed and false alarms. " +
      "Above 71% nine boxes in ten should be right: --threshold 0.71.",
  );
  assert.doesNotMatch(thresholdInWords({ overall: ALL, score_threshold: 0.42, precise_threshold: 0.42 }), /nine/);
});
