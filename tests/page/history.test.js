import assert from "node:assert/strict";
import { test } from "node:test";
import { History, NO_CHANGE, applied, combined, inverse } from "../../src/fewbox/apps/annotate/page/history.js";

const box = (id, x = 0) => ({ id, box: [x, 0, x + 10, 10], label: "mug", ignore: false });
const put = (...boxes) => ({ put: boxes, delete: [] });
const remove = (...ids) => ({ put: [], delete: ids });
const EMPTY = { boxes: [], reviewed: false };

test("a change puts, replaces in place and deletes", () => {
  const state = applied(EMPTY, put(box("a"), box("b")));
  assert.deepEqual(applied(state, put(box("a", 5))).boxes, [box("a", 5), box("b")]);
  assert.deepEqual(applied(state, remove("a", "unknown")).boxes, [box("b")]);
  assert.deepEqual(EMPTY.boxes, []);
});

test("a change done twice is a change done once", () => {
  const change = { put: [box("a", 3), box("c")], delete: ["b"], reviewed: true };
  const once = applied({ boxes: [box("a"), box("b")], reviewed: false }, change);
  assert.deepEqual(applied(once, change), once);
});

// Every order of a handful of changes, so that no combination is left out.
const CHANGES = [put(box("a")), put(box("a", 5), box("b")), remove("a"), { put: [], delete: [], reviewed: true }, { ...put(box("c")), reviewed: true }];

test("two changes combined do what both do one after the other", () => {
  for (const first of CHANGES) {
    for (const second of CHANGES) {
      for (const state of [EMPTY, { boxes: [box("a", 9), box("d")], reviewed: true }]) {
        const byId = ({ boxes, reviewed }) => ({ reviewed, boxes: [...boxes].sort((a, b) => a.id.localeCompare(b.id)) });
        assert.deepEqual(byId(applied(state, combined(first, second))), byId(applied(applied(state, first), second)));
      }
    }
  }
  assert.deepEqual(combined(NO_CHANGE, NO_CHANGE), { put: [], delete: [] });
});

test("the inverse of a change takes it back", () => {
  for (const change of CHANGES) {
    const state = { boxes: [box("a", 9), box("b", 9)], reviewed: false };
    const after = applied(applied(state, change), inverse(state, change));
    assert.deepEqual(after.boxes.map(({ id }) => id).sort(), ["a", "b"]);
    assert.deepEqual(after.boxes.find(({ id }) => id === "a"), box("a", 9));
    assert.equal(after.reviewed, false);
  }
});

function played(steps) {
  const history = new History();
  let state = EMPTY;
  const does = {
    do: (change, row) => {
      history.add(state, change, row);
      state = applied(state, change);
    },
    undo: () => (state = applied(state, history.undo() ?? NO_CHANGE)),
    redo: () => (state = applied(state, history.redo() ?? NO_CHANGE)),
  };
  for (const [name, ...values] of steps) does[name](...values);
  return state;
}

test("undo and redo, as often as there is something", () => {
  const drawn = [["do", put(box("a"))], ["do", put(box("b"))], ["do", put(box("a", 7))]];
  assert.deepEqual(played([...drawn, ["undo"]]).boxes, [box("a"), box("b")]);
  assert.deepEqual(played([...drawn, ["undo"], ["undo"], ["undo"], ["undo"]]), EMPTY);
  assert.deepEqual(played([...drawn, ["undo"], ["undo"], ["redo"], ["redo"], ["redo"]]).boxes, [box("a", 7), box("b")]);
});

test("undoing the first box also takes back that the photo is reviewed", () => {
  assert.deepEqual(played([["do", { ...put(box("a")), reviewed: true }], ["undo"]]), EMPTY);
});

test("after a new change there is nothing to redo", () => {
  assert.deepEqual(played([["do", put(box("a"))], ["undo"], ["do", put(box("b"))], ["redo"]]).boxes, [box("b")]);
});

test("nudges in a row are taken back together, others are not", () => {
  const nudged = [["do", put(box("a"))], ["do", put(box("a", 1)), "nudge a"], ["do", put(box("a", 2)), "nudge a"]];
  assert.deepEqual(played([...nudged, ["undo"]]).boxes, [box("a")]);
  assert.deepEqual(played([...nudged, ["undo"], ["redo"]]).boxes, [box("a", 2)]);
  assert.deepEqual(played([...nudged, ["do", put(box("a", 3)), "stretch a"], ["undo"]]).boxes, [box("a", 2)]);
  assert.deepEqual(played([...nudged, ["undo"], ["redo"], ["do", put(box("a", 9)), "nudge a"], ["undo"]]).boxes, [box("a", 2)]);
});
