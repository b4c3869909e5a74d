import assert from "node:assert/strict";
import { test } from "node:test";
import { PLAIN, filterOf, inWords, readLook } from "../../src/fewbox/apps/annotate/page/look.js";

test("the photo itself needs no filter", () => {
  assert.equal(filterOf(PLAIN), "");
  assert.equal(inWords(PLAIN), "");
});

test("fifty is twice as bright, minus fifty half as much contrast", () => {
  assert.equal(filterOf({ brightness: 50, contrast: 0 }), "brightness(2.000)");
  assert.equal(filterOf({ brightness: 0, contrast: -50 }), "contrast(0.500)");
  assert.equal(inWords({ brightness: 50, contrast: -50 }), "brightness +50, contrast −50");
});

test("what was kept is read again, and nonsense is the photo itself", () => {
  assert.deepEqual(readLook('{"brightness": 30, "contrast": -5}'), { brightness: 30, contrast: -5 });
  const nonsense = [null, "", "{", "null", "[]", '{"brightness": 30}', '{"brightness": 1e9, "contrast": 0}'];
  for (const kept of [...nonsense, '{"brightness": "url(x)", "contrast": 0}']) assert.deepEqual(readLook(kept), PLAIN);
});
