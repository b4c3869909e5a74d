import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseLessons } from "../../examples/web/teach/lessons.js";

let next = 0;

function photos(count, ...labels) {
  return Array.from({ length: count }, () => {
    next += 1;
    const boxes = labels.map((label) => ({ label, ignore: false }));
    return { id: String((next * 7919) % 10007), name: `${labels}${next}`, boxes };
  });
}

const counted = (chosen, ...labels) => chosen.filter(({ boxes }) => labels.every((label) => boxes.some((box) => box.label === label))).length;
const empty = (chosen) => chosen.filter(({ boxes }) => !boxes.some(({ ignore }) => !ignore)).length;

test("a class that is drawn late is learnt, and has as many photos as the others", () => {
  const many = photos(100, "duck", "duck", "duck");
  assert.equal(counted(chooseLessons([...many, ...photos(1, "mug")], 40), "mug"), 1);
  const chosen = chooseLessons([...many, ...photos(50, "mug")], 40);
  assert.deepEqual([counted(chosen, "duck"), counted(chosen, "mug")], [20, 20]);
});

test("some empty photos teach what is no object, and no more where there is enough else", () => {
  const few = photos(38);
  assert.equal(empty(chooseLessons([...few, ...photos(100, "duck")], 40)), 10);
  assert.equal(empty(chooseLessons([...few, ...photos(20, "duck")], 40)), 20);
  const ignored = few.map((photo) => ({ ...photo, boxes: [{ label: "duck", ignore: true }] }));
  assert.equal(empty(chooseLessons([...ignored, ...photos(100, "duck")], 40)), 10);
});

test("it is the same choice in whatever order the photos come", () => {
  const all = [...photos(60, "duck"), ...photos(60)];
  assert.deepEqual(chooseLessons(all, 40), chooseLessons([...all].reverse(), 40));
});
