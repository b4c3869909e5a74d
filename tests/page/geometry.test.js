import assert from "node:assert/strict";
import { test } from "node:test";
import * as geometry from "../../src/fewbox/apps/annotate/page/geometry.js";

const PHOTO = { width: 6000, height: 4000 };
const STAGE = { width: 900, height: 700 };

// Numbers that are the same in every run (a linear congruential generator).
function randomNumbers(seed) {
  let state = seed;
  return (low, high) => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return low + (high - low) * (state / 2 ** 32);
  };
}

function cases(count, run) {
  for (let seed = 1; seed <= count; seed++) {
    const random = randomNumbers(seed);
    const photo = { width: Math.ceil(random(1, 8000)), height: Math.ceil(random(1, 8000)) };
    const view = { scale: random(0.05, 30), x: random(-4000, 900), y: random(-4000, 700) };
    run(random, photo, view);
  }
}

function assertClose(actual, expected, tolerance = 1e-6) {
  assert.equal(actual.length, expected.length);
  actual.forEach((value, at) => assert.ok(Math.abs(value - expected[at]) <= tolerance, `${actual} is not ${expected}`));
}

function assertInside([x1, y1, x2, y2], photo) {
  assert.ok(x1 >= 0 && y1 >= 0 && x2 <= photo.width && y2 <= photo.height && x1 <= x2 && y1 <= y2, `${[x1, y1, x2, y2]}`);
}

const someBox = (random, photo) =>
  geometry.boxBetween([random(-99, photo.width + 99), random(-99, photo.height + 99)], [random(0, photo.width), random(0, photo.height)], photo);

test("a point goes to the stage and back", () => {
  cases(200, (random, photo, view) => {
    const point = [random(0, photo.width), random(0, photo.height)];
    assertClose(geometry.toPhoto(view, geometry.toStage(view, point)), point);
  });
});

test("a fitted photo is wholly in sight and in the middle", () => {
  cases(200, (random, photo) => {
    const [left, top, right, bottom] = geometry.boxOnStage(geometry.fitted(photo, STAGE), [0, 0, photo.width, photo.height]);
    assert.ok(left >= 0 && top >= 0 && right <= STAGE.width && bottom <= STAGE.height);
    assertClose([left + right, top + bottom], [STAGE.width, STAGE.height]);
  });
});

test("what is under the pointer stays there while zooming in", () => {
  const point = [300, 250];
  let view = geometry.fitted(PHOTO, STAGE);
  const before = geometry.toPhoto(view, point);
  for (let step = 0; step < 20; step++) view = geometry.zoomed(view, point, 1.25, PHOTO, STAGE);
  assertClose(geometry.toPhoto(view, point), before);
  assert.ok(view.scale > 5);
});

test("zooming has limits both ways", () => {
  const fitted = geometry.fitted(PHOTO, STAGE);
  assert.equal(geometry.zoomed(fitted, [0, 0], 1e9, PHOTO, STAGE).scale, 40);
  assert.equal(geometry.zoomed(fitted, [0, 0], 1e-9, PHOTO, STAGE).scale, fitted.scale / 2);
});

test("no pan or zoom loses the photo", () => {
  cases(300, (random, photo, view) => {
    const gone = geometry.panned(view, random(-1e5, 1e5), random(-1e5, 1e5), photo, STAGE);
    const [left, top, right, bottom] = geometry.boxOnStage(gone, [0, 0, photo.width, photo.height]);
    const kept = (low, high, room) => Math.min(high, room) - Math.max(low, 0);
    assert.ok(kept(left, right, STAGE.width) >= Math.min(64, right - left) - 1e-6);
    assert.ok(kept(top, bottom, STAGE.height) >= Math.min(64, bottom - top) - 1e-6);
  });
});

test("two fingers keep the photo under them", () => {
  const view = { scale: 0.2, x: -100, y: -50 };
  const [before, after] = [[[300, 300], [500, 300]], [[250, 320], [650, 320]]];
  const pinched = geometry.pinched(view, before, after, PHOTO, STAGE);
  assert.ok(Math.abs(pinched.scale - 0.4) < 1e-9);
  before.forEach((point, at) => assertClose(geometry.toPhoto(pinched, after[at]), geometry.toPhoto(view, point)));
});

test("fingers on one point do not divide by nothing", () => {
  const view = geometry.pinched({ scale: 0.2, x: 0, y: 0 }, [[5, 5], [5, 5]], [[5, 5], [5, 5]], PHOTO, STAGE);
  assert.ok(Object.values(view).every(Number.isFinite));
});

test("a box is the same whichever corner one begins with, and inside the photo", () => {
  const corners = [[10, 20], [110, 220]];
  const expected = [10, 20, 110, 220];
  const [[ax, ay], [bx, by]] = corners;
  for (const [from, to] of [[[ax, ay], [bx, by]], [[bx, by], [ax, ay]], [[ax, by], [bx, ay]], [[bx, ay], [ax, by]]]) {
    assert.deepEqual(geometry.boxBetween(from, to, PHOTO), expected);
  }
  assert.deepEqual(geometry.boxBetween([-50, -50], [9000, 9000], PHOTO), [0, 0, 6000, 4000]);
});

test("less than two pixels is a click", () => {
  assert.equal(geometry.isBox([5, 5, 6.9, 50]), false);
  assert.equal(geometry.isBox([5, 5, 50, 5]), false);
  assert.equal(geometry.isBox([5, 5, 7, 7]), true);
});

test("moving keeps the size and stops at the border", () => {
  cases(200, (random, photo) => {
    const box = someBox(random, photo);
    const moved = geometry.moved(box, random(-9999, 9999), random(-9999, 9999), photo);
    assertInside(moved, photo);
    assertClose([moved[2] - moved[0], moved[3] - moved[1]], [box[2] - box[0], box[3] - box[1]], 0.11);
  });
  assert.deepEqual(geometry.moved([10, 10, 20, 20], 3, -4, PHOTO), [13, 6, 23, 16]);
  assert.deepEqual(geometry.moved([10, 10, 20, 20], -100, 1e6, PHOTO), [0, 3990, 10, 4000]);
});

test("resizing moves only the edges that were taken hold of, and leaves a box a box", () => {
  cases(200, (random, photo) => {
    const box = someBox(random, photo);
    if (!geometry.isBox(box)) return;
    for (const part of ["n", "e", "s", "w", "ne", "nw", "se", "sw"]) {
      const resized = geometry.resized(box, part, random(-9999, 9999), random(-9999, 9999), photo);
      assertInside(resized, photo);
      assert.ok(resized[2] - resized[0] > 1.85 && resized[3] - resized[1] > 1.85, `${part}: ${box} -> ${resized}`);
      ["w", "n", "e", "s"].forEach((edge, at) => part.includes(edge) || assert.equal(resized[at], box[at]));
    }
  });
});

test("the parts of a box", () => {
  const view = { scale: 0.5, x: 100, y: 50 };
  const box = [200, 200, 600, 400]; // on the stage: 200, 150, 400, 250
  const part = (x, y, reach = 7) => geometry.partAt(view, box, [x, y], reach);
  assert.equal(part(200, 150), "nw");
  assert.equal(part(406, 256), "se");
  assert.equal(part(300, 146), "n");
  assert.equal(part(395, 200), "e");
  assert.equal(part(300, 200), "inside");
  assert.equal(part(420, 200), null);
  assert.equal(part(420, 200, 20), "e"); // a finger reaches further
});

test("the middle of a box of a few pixels can still be taken hold of", () => {
  assert.equal(geometry.partAt({ scale: 1, x: 0, y: 0 }, [100, 100, 108, 108], [104, 104], 20), "inside");
});

test("a click takes the smallest box, and then the next larger", () => {
  const view = { scale: 1, x: 0, y: 0 };
  const items = [{ id: "large", box: [0, 0, 500, 500] }, { id: "small", box: [100, 100, 200, 200] }, { id: "elsewhere", box: [300, 300, 400, 400] }];
  const at = (held) => geometry.itemAt(view, items, [150, 150], 7, held)?.id;
  assert.equal(at(null), "small");
  assert.equal(at("small"), "large");
  assert.equal(at("large"), undefined); // let go of, so that one can draw there
  assert.equal(geometry.itemAt(view, items, [900, 900], 7, null), null);
});

test("what has just been drawn can be resized by its handles and leaves the rest of its edges free", () => {
  const view = { scale: 1, x: 0, y: 0 };
  const at = (x, y, reach = 7) => geometry.handleAt(view, [100, 100, 300, 300], [x, y], reach);
  assert.equal(at(102, 97), "nw");
  assert.equal(at(200, 303), "s");
  assert.equal(at(150, 303), null); // between two handles
  assert.equal(at(150, 150), null);
  assert.equal(at(150, 303, 20), null);
});

test("a small box has a knob to move it by, outside of the box and in sight; a large one has none", () => {
  assert.equal(geometry.knobOf({ scale: 1, x: 0, y: 0 }, [100, 100, 300, 300], STAGE), null);
  cases(200, (random) => {
    const [x, y] = [random(0, STAGE.width - 10), random(0, STAGE.height - 10)];
    const [left, top] = geometry.knobOf({ scale: 1, x: 0, y: 0 }, [x, y, x + 10, y + 10], STAGE);
    assert.ok(left >= geometry.KNOB && left <= STAGE.width - geometry.KNOB);
    assert.ok(top >= geometry.KNOB && top <= STAGE.height - geometry.KNOB);
    assert.ok(Math.abs(top - y - 5) - geometry.KNOB >= 5);
  });
});

test("a box from the keyboard is in the middle of what is in sight", () => {
  const view = { scale: 1, x: -2000, y: -3000 }; // in sight: 2000..2900, 3000..3700
  assert.deepEqual(geometry.boxInMiddle(view, PHOTO, STAGE), [2337.5, 3262.5, 2562.5, 3437.5]);
  cases(200, (random, photo) => {
    if (photo.width < 8 || photo.height < 8) return;
    const fitted = geometry.fitted(photo, STAGE);
    const box = geometry.boxInMiddle(fitted, photo, STAGE);
    assertInside(box, photo);
    assert.ok(geometry.isBox(box));
  });
});

test("intersection over union", () => {
  assert.equal(geometry.iou([0, 0, 10, 10], [0, 0, 10, 10]), 1);
  assert.equal(geometry.iou([0, 0, 10, 10], [5, 0, 15, 10]), 50 / 150);
  assert.equal(geometry.iou([0, 0, 10, 10], [10, 10, 20, 20]), 0);
});

test("a box at the same place in a photo of another size", () => {
  assert.deepEqual(geometry.resampled([10, 20, 30, 40], { width: 100, height: 100 }, { width: 200, height: 50 }), [20, 10, 60, 20]);
});

test("a box enlarged lies in the middle of the stage, whole, and never smaller than in the whole photo", () => {
  cases(100, (random, photo) => {
    const box = someBox(random, photo);
    if (!geometry.isBox(box)) return;
    const view = geometry.framed(box, photo, STAGE);
    const [left, top, right, bottom] = geometry.boxOnStage(view, box);
    assertClose([left + right, top + bottom], [STAGE.width, STAGE.height], 1e-3);
    assert.ok(view.scale >= geometry.fitted(photo, STAGE).scale && view.scale <= 40);
  });
  const view = geometry.framed([100, 100, 300, 140], PHOTO, STAGE);
  const [left, , right] = geometry.boxOnStage(view, [100, 100, 300, 140]);
  assert.equal(right - left, STAGE.width / 2);
});

test("a copy lies where it was if that is free", () => {
  assert.deepEqual(geometry.beside([10, 10, 50, 50], [[60, 60, 90, 90]], PHOTO), [10, 10, 50, 50]);
});

test("a copy beside its box keeps its size, stays in the photo and can be told from it", () => {
  cases(100, (random, photo) => {
    const box = someBox(random, photo);
    const [width, height] = [box[2] - box[0], box[3] - box[1]];
    if (!geometry.isBox(box) || width > 0.9 * photo.width || height > 0.9 * photo.height) return;
    const others = [box];
    for (let count = 0; count < 3; count++) others.push(geometry.beside(box, others, photo));
    others.forEach((one, at) => {
      assertInside(one, photo);
      assertClose([one[2] - one[0], one[3] - one[1]], [width, height], 0.2);
      for (const other of others.slice(0, at)) assert.ok(geometry.iou(one, other) < 0.96, `${one} over ${other}`);
    });
  });
});

test("in a corner a copy goes the other way; one that fills the photo stays", () => {
  const photo = { width: 400, height: 300 };
  assert.deepEqual(geometry.beside([300, 200, 400, 300], [[300, 200, 400, 300]], photo), [292, 192, 392, 292]);
  assert.deepEqual(geometry.beside([0, 0, 400, 300], [[0, 0, 400, 300]], photo), [0, 0, 400, 300]);
});
