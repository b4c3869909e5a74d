import assert from "node:assert/strict";
import { test } from "node:test";
import { Stage } from "../../src/fewbox/apps/annotate/page/canvas.js";

const turn = () => new Promise((resolve) => setTimeout(resolve, 5));

/** A stage of 100 × 80 on a screen of density 1, and `moveTo(density)`, another screen: no size changes by that. */
function shown(t) {
  const canvases = [0, 1].map(() => {
    const canvas = { width: 0, height: 0, scale: 1 }; // how much larger than the stage it is drawn
    const own = { setTransform: (scale) => (canvas.scale = scale) };
    const context = new Proxy(own, { get: (_, name) => own[name] ?? (() => {}) });
    return Object.assign(canvas, { getContext: () => context });
  });
  const queries = [];
  const browser = {
    devicePixelRatio: 1,
    requestAnimationFrame: (paint) => setTimeout(paint),
    ResizeObserver: class {
      constructor(resized) {
        this.observe = resized;
        this.disconnect = () => {};
      }
    },
    matchMedia: (asked) => {
      const query = Object.assign(new EventTarget(), { asked });
      queries.push(query);
      return query;
    },
  };
  Object.assign(globalThis, browser);
  t.after(() => Object.keys(browser).forEach((name) => delete globalThis[name]));
  const element = {
    getBoundingClientRect: () => ({ width: 100, height: 80 }),
    querySelectorAll: () => canvases,
  };
  const session = { shownItems: [], labels: [], draft: null };
  const stage = new Stage(element, session, {});
  const moveTo = async (density) => {
    await turn();
    const left = `(resolution: ${globalThis.devicePixelRatio}dppx)`;
    globalThis.devicePixelRatio = density;
    for (const query of queries.splice(0)) if (query.asked === left) query.dispatchEvent(new Event("change"));
    await turn();
  };
  const drawn = () => canvases.map(({ width, height, scale }) => [width, height, scale]);
  return { stage, moveTo, drawn, queries };
}

test("on a screen of another density all is drawn anew at its pixels, with nothing pressed", async (t) => {
  const { moveTo, drawn } = shown(t);
  for (const density of [2, 1.25, 1]) {
    await moveTo(density);
    const seen = [100 * density, 80 * density, density];
    assert.deepEqual(drawn(), [seen, seen]);
  }
});

test("where that is not told, it is noticed with whatever is drawn next", async (t) => {
  const { stage, drawn } = shown(t);
  await turn();
  globalThis.devicePixelRatio = 2;
  stage.setPointer(null);
  await turn();
  assert.deepEqual(drawn(), [[200, 160, 2], [200, 160, 2]]);
});

test("a page that was taken down follows no screen any more", async (t) => {
  const { stage, moveTo, drawn, queries } = shown(t);
  stage.stop();
  await moveTo(2);
  assert.deepEqual([drawn()[0], queries.length], [[100, 80, 1], 0]);
});
