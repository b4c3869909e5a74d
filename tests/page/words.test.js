import assert from "node:assert/strict";
import { test } from "node:test";
import { bestMatch, estimateInWords, isShown, thresholdInWords } from "../../src/fewbox/apps/annotate/page/words.js";

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
  const alone = thresholdInWords({ overall: ALL, score_threshold: 0.42, precise_threshold: 0.71 }, "");
  assert.match(alone, /nine boxes in ten should be right\.$/); // where there is no command to tell it
  assert.doesNotMatch(thresholdInWords({ overall: ALL, score_threshold: 0.42, precise_threshold: 0.42 }), /nine/);
  const unsure = thresholdInWords({ overall: ALL, score_threshold: 0.1, precise_threshold: 0.9 });
  assert.match(unsure, /No box held out was so sure that nine in ten like it should be right\.$/);
});

const named = (...names) => names.map((name) => ({ name, reviewed: false, num_boxes: 0, labels: [], error: null }));

test("a search finds photos by parts of their names, whatever the case, and beside the filter", () => {
  const photos = named("IMG_0012.jpg", "IMG_0120.jpg", "Küche 12.png");
  const found = (search, filter = "all") => photos.filter((photo) => isShown(photo, filter, search)).map(({ name }) => name);
  assert.deepEqual(found("012"), ["IMG_0012.jpg", "IMG_0120.jpg"]);
  assert.deepEqual(found("img 20"), ["IMG_0120.jpg"]);
  assert.deepEqual(found("  "), photos.map(({ name }) => name));
  assert.deepEqual(found("ku\u0308che"), ["Küche 12.png"]); // as a Mac writes it
  assert.deepEqual(found("012", "empty"), []);
});

test("what a search means: the very name, then one that begins so, then the first", () => {
  const photos = named("a1.png", "photo10.png", "photo1.png", "1b.png");
  const means = (search) => bestMatch(photos, search)?.name;
  assert.equal(means("photo1"), "photo1.png");
  assert.equal(means("PHOTO1.PNG"), "photo1.png");
  assert.equal(means("1"), "1b.png");
  assert.equal(means("o1"), "photo10.png");
  assert.equal(means("nothing"), undefined);
});
