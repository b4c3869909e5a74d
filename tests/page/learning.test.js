import assert from "node:assert/strict";
import { test } from "node:test";
import { flat, nmsPerClass, votedBoxes } from "../../examples/web/learning/boxes.js";
import { readBase } from "../../examples/web/learning/base_file.js";
import { UNCHANGED, calibrate, calibrated } from "../../examples/web/learning/calibration.js";
import { detect } from "../../examples/web/learning/detect.js";
import { estimateOf, groupsOfCopies } from "../../examples/web/learning/estimate.js";
import { learn } from "../../examples/web/learning/fit.js";
import { ap50Of, outcomesOf } from "../../examples/web/learning/outcomes.js";
import { Generator } from "../../examples/web/learning/random.js";
import { sha256 } from "../../examples/web/learning/sha256.js";

test("random numbers are PyTorch's", () => {
  // torch.randperm(10, generator=torch.Generator().manual_seed(7))
  assert.deepEqual([...new Generator(7).permutation(10)], [5, 0, 3, 4, 1, 7, 9, 6, 8, 2]);
  assert.deepEqual([...new Generator(0).permutation(0)], []);
});

test("digests are those of FIPS 180-4, whatever the length", () => {
  const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  assert.equal(sha256(new TextEncoder().encode("abc")), abc);
  assert.equal(sha256(new Uint8Array(119)), "f616b0d54e78571a9611f343c9f8e022e859e920381ab0e4d3da01e193a7bd7e");
});

test("of boxes that overlap the best stays, each class for itself, and moves to their mean", () => {
  const boxes = flat([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]]);
  const scores = Float32Array.from([0.9, 0, 0.8, 0.7, 0.1, 0.6]);
  const found = nmsPerClass(boxes, scores, 2, { scoreThreshold: 0.2, iouThreshold: 0.5, most: 10 });
  assert.deepEqual(found.map(({ row, classId }) => [row, classId]), [[0, 0], [1, 1], [2, 1]]);
  const [first, , last] = votedBoxes(boxes, scores, 2, found, 0.65);
  assert.ok(first[3] > 9 && first[3] < 10);
  assert.deepEqual(last.map(Math.round), [20, 0, 30, 10]);
  assert.equal(nmsPerClass(boxes, scores, 2, { scoreThreshold: 0.2, iouThreshold: 0.5, most: 1 }).length, 1);
});

const truth = (boxes, ignored = []) => ({ boxes: flat(boxes), classIds: boxes.map(() => 0), ignored: flat(ignored) });
const foundAt = (...boxes) => {
  return { boxes: flat(boxes), rows: boxes.map((_, row) => ({ row, classId: 0, score: 0.9 - 0.1 * row })) };
};

test("an object is found once, and what lies on a region to ignore counts neither way", () => {
  const found = [foundAt([0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 55, 55], [80, 80, 90, 90])];
  const outcomes = outcomesOf(found, [truth([[0, 0, 10, 9]], [[40, 40, 70, 70]])], [true]);
  assert.deepEqual(outcomes.isRight, [1, 0, 0, 0]);
  assert.deepEqual(outcomes.isWrong, [0, 1, 0, 1]);
  assert.deepEqual(ap50Of(outcomes, 0), { ap50: 1, objects: 1 });
  assert.deepEqual(outcomesOf(found, [truth([[0, 0, 10, 9]])], [false]).detections, []);
});

test("in a crowded photo every detection counts, not a hundred", () => {
  const boxes = Array.from({ length: 130 }, (_, n) => [10 * n, 0, 10 * n + 9, 9]);
  const outcomes = outcomesOf([foundAt(...boxes)], [truth(boxes)], [true]);
  assert.equal(outcomes.isRight.reduce((sum, one) => sum + one, 0), 130);
});

test("the very same box of two classes is told: only the first is learnt", () => {
  const photo = (number, classIds, ...boxes) => {
    return { name: `${number}.jpg`, inputBoxes: flat(boxes), classIds, features: { baseLogits: [number] } };
  };
  const [box, beside] = [[1, 5, 60, 60], [1.5, 5, 60, 60]];
  const photos = [photo(0, [0, 1, 2], box, box, beside), photo(1, [0, 0, 1], box, box, beside), photo(2, [2, 1], box, box)];
  const { remarks } = estimateOf(photos, ["duck", "toy", "cup"], null, UNCHANGED);
  assert.match(remarks[0], /^the very same box is drawn as two classes: duck and toy, cup and toy; only the first/);
  assert.equal(remarks.length, 3);
});

test("photos without boxes do not make many of few", () => {
  const empty = (number) => ({ name: "", classIds: [], inputBoxes: [], features: { baseLogits: [number] } });
  const [first, second] = [1, 2].map((number) => ({ ...empty(number), classIds: [0], inputBoxes: [1, 5, 60, 60] }));
  const found = [first, second].map(() => foundAt([0, 0, 10, 10]));
  const outcomes = outcomesOf(found, found.map(() => truth([[0, 0, 10, 10]])), [true]);
  const photos = [first, second, ...[3, 4, 5, 6, 7, 8, 9, 10].map(empty)];
  const told = estimateOf(photos, ["duck"], outcomes, UNCHANGED);
  assert.equal(told.photos, 2);
  assert.match(told.remarks.join(), /2 photos tell little/);
});

test("the interval is that of a Beta distribution", () => {
  const found = Array.from({ length: 4 }, () => foundAt([0, 0, 10, 10]));
  const outcomes = outcomesOf(found, found.map(() => truth([[0, 0, 10, 10]])), [true]);
  const photos = found.map((_, number) => ({
    name: `${number}.jpg`,
    classIds: [0],
    inputBoxes: flat([[0, 0, 10, 10]]),
    features: { baseLogits: Float32Array.of(number) },
  }));
  const { overall, classes, remarks } = estimateOf(photos, ["duck"], outcomes, UNCHANGED);
  // Beta(1.975, 0.125): mean 0.9405; a tenth of its mass lies below 0.7962
  assert.deepEqual([overall.objects, overall.low, overall.high], [4, 0.79, 1]);
  assert.ok(Math.abs(overall.ap50 - 1.975 / 2.1) < 1e-12);
  assert.deepEqual(classes[0].low, overall.low);
  assert.match(remarks.join(), /4 photos tell little: more would narrow the interval/);
});

test("without anything held out nothing is claimed", () => {
  const photos = [{ name: "a.jpg", classIds: [], inputBoxes: flat([]), features: { baseLogits: Float32Array.of(1) } }];
  const told = estimateOf(photos, ["duck"], null, UNCHANGED);
  assert.deepEqual([told.overall.ap50, told.score_threshold, told.precise_threshold], [null, 0.4, null]);
  assert.match(told.remarks[0], /there is no box of duck to learn from/);
});

test("scores that claim too much are lowered, and good ones are left alone", () => {
  const outcomes = (isRight) => ({
    detections: isRight.map((_, number) => ({ photo: number % 10, classId: 0, score: 0.95 })),
    isRight,
    isWrong: isRight.map((right) => 1 - right),
  });
  const alternating = Array.from({ length: 60 }, (_, number) => (number % 3 ? 0 : 1));
  assert.ok(calibrated(calibrate(outcomes(alternating)), 0.95) < 0.6);
  assert.deepEqual(calibrate(outcomes(alternating.map(() => 1))), UNCHANGED);
});

test("what is no base is refused", () => {
  const graph = Uint8Array.of(0x3a, 2, 0x12, 0);
  const hint = /prepare it with: fewbox export --base yolox_nano.onnx -o base.onnx/;
  assert.throws(() => readBase(graph, "yolox_nano.onnx"), { message: /not prepared/, hint });
  assert.throws(() => readBase(Uint8Array.of(1, 2, 3)), { message: /not an ONNX file/ });
});

// A base of one level, with 16 anchors in a row, two base logits and two tower features; the object is where the
// first feature is 1.
const CONFIG = { size_hw: [64, 1024], iou_threshold: 0.5, score_threshold: 0.001, max_detections: 9, vote_iou: 0.65 };
const BASE = {
  header: { config: CONFIG, columns: [1, 3] },
  levels: [{ kernel: Float32Array.of(1, 0, 0, 1), shift: Float32Array.of(0, 0) }],
};

function photoOf(number) {
  const places = [...Array(16).keys()];
  const isShown = (place) => place === 3 * number;
  const features = {
    boxes: flat(places.map((place) => [64 * place, 0, 64 * place + 64, 64])),
    baseLogits: Float32Array.from(places.flatMap((place) => [isShown(place) ? 1 : 0, Math.sin(place + number)])),
    towerFeatures: Float32Array.from(places.flatMap((place) => [isShown(place) ? 1 : 0, Math.sin(place + number)])),
    levels: new Uint8Array(16),
  };
  const box = [192 * number, 0, 192 * number + 64, 64];
  return { name: `${number}.jpg`, size: { width: 1024, height: 64 }, boxes: [box], classIds: [0], features };
}

test("a head is learnt, found good in photos held out, and finds the object", () => {
  const photos = [0, 1, 2, 3].map(photoOf);
  const learnt = learn(BASE, photos, ["thing"]);
  assert.ok(learnt.losses.at(-1).objects < learnt.losses[0].objects / 2);
  assert.equal(learnt.estimate.overall.objects, 4);
  assert.ok(learnt.estimate.overall.ap50 > 0.7);
  const { features, size, boxes } = photoOf(4);
  const [best] = detect(BASE, features, learnt.head, size, 0.001);
  assert.deepEqual([best.classId, best.box.map(Math.round)], [0, boxes[0]]);
});

test("what no fold could know is held against none", () => {
  // An object of another class that looks the same: who has not learnt from its photo takes it for a thing.
  const [first, ...others] = [0, 1, 2, 3].map(photoOf);
  for (const values of [first.features.baseLogits, first.features.towerFeatures]) values[2 * 8] = 1;
  first.boxes.push([512, 0, 576, 64]);
  first.classIds.push(1);
  const { estimate } = learn(BASE, [first, ...others], ["thing", "other"]);
  const [thing, other] = estimate.classes;
  assert.deepEqual([thing.objects, other.objects], [4, 0]);
  assert.ok(thing.ap50 > 0.5); // 0.46 if that counts as a false positive
});

test("the same photos give the same head, and unchecked ones make no claim", () => {
  const photos = [0, 1, 2, 3].map(photoOf);
  const [first, second, unchecked] = [{}, {}, { isChecked: false }].map((options) => learn(BASE, photos, ["a"], options));
  assert.deepEqual(first, second);
  assert.deepEqual(unchecked.losses, first.losses);
  assert.deepEqual([unchecked.estimate.overall.ap50, unchecked.scoreThreshold], [null, 0.4]);
});

test("one photo is enough, and an empty one teaches what the background is", () => {
  const empty = { ...photoOf(2), boxes: [], classIds: [] };
  for (const photos of [[photoOf(1)], [photoOf(1), empty]]) {
    const { head, estimate } = learn(BASE, photos, ["thing"]);
    assert.ok(head.levels[0].weight.every(Number.isFinite));
    assert.equal(estimate.overall.ap50, null);
  }
});

test("what Roboflow made of a photo is known in whatever order its boxes are listed", () => {
  const made = (number, inputBoxes, classIds) => {
    return { name: `a_jpg.rf.${String(number).repeat(32)}.jpg`, features: { baseLogits: [number] }, inputBoxes, classIds };
  };
  const [wide, tall, larger] = [[0, 0, 40, 20], [50, 0, 60, 30], [0, 0, 40, 28]];
  const lists = [[wide, tall], [tall, wide], [tall, larger]];
  const photos = lists.map((boxes, number) => made(number, boxes.flat(), number ? [1, 0] : [0, 1]));
  assert.deepEqual(groupsOfCopies(photos), [[0, 1], [2]]);
  const oneClass = lists.map((boxes, number) => made(number, boxes.flat(), [0, 0]));
  assert.deepEqual(groupsOfCopies(oneClass), [[0, 1], [2]]);
});

test("copies of a photo are held out together and count once", () => {
  const named = (number, name) => ({ ...photoOf(number), name });
  const ofRoboflow = (digit) => `a_jpg.rf.${digit.repeat(32)}.jpg`;
  const photos = [named(0, ofRoboflow("1")), named(1, "b.jpg"), named(2, ofRoboflow("2")), named(1, "c.jpg"), named(3, "d.jpg")];
  const { estimate } = learn(BASE, photos, ["thing"]);
  assert.equal(estimate.overall.objects, 3);
  const told = `the same picture as another: ${ofRoboflow("2")}, c.jpg; nothing more is learnt from it, and it is held out`;
  assert.ok(estimate.remarks.some((remark) => remark.startsWith(told)));
  const emptied = { ...named(1, "c.jpg"), boxes: [], classIds: [] };
  const { remarks } = learn(BASE, [named(0, "a.jpg"), named(1, "b.jpg"), emptied, named(3, "d.jpg")], ["thing"]).estimate;
  assert.ok(remarks.some((remark) => remark.startsWith("the same picture as another: c.jpg; what has a box in only one")));
  const shifted = named(1, "c.jpg");
  const again = { ...shifted, boxes: shifted.boxes.map((edge, at) => (at % 4 === 2 ? edge + 1 : edge)) };
  const drawnAgain = learn(BASE, [named(0, "a.jpg"), named(1, "b.jpg"), again, named(3, "d.jpg")], ["thing"]).estimate.remarks;
  assert.ok(drawnAgain.some((remark) => remark.startsWith("the same picture as another: c.jpg; nothing more is learnt")));
  const alone = learn(BASE, [named(1, "b.jpg"), named(1, "c.jpg")], ["thing"]).estimate;
  assert.equal(alone.overall.objects, 2);
  assert.ok(alone.remarks.some((remark) => remark.endsWith("so the estimate is too high")));
});
