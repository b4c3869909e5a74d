import assert from "node:assert/strict";
import { test } from "node:test";
import { colourOf, inkOn, luminance } from "../../src/fewbox/apps/annotate/page/colours.js";

// How a colour looks without one kind of cone, in linear RGB: Machado, Oliveira and Fernandes,
// "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009), severity 1.
const EYES = {
  ordinary: [1, 0, 0, 0, 1, 0, 0, 0, 1],
  protanopia: [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
  deuteranopia: [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881],
  tritanopia: [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.3039],
};

const linear = (colour) =>
  [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));

/** Oklab of a linear colour (B. Ottosson, 2020), in which distances are about what eyes see. */
function oklab([r, g, b]) {
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s, 1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s, 0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s];
}

const seen = (colour, eyes) => {
  const rgb = linear(colour);
  return oklab([0, 1, 2].map((row) => Math.max(0, [0, 1, 2].reduce((sum, column) => sum + EYES[eyes][3 * row + column] * rgb[column], 0))));
};

test("the first seven classes are told apart by every kind of eye", () => {
  for (const eyes of Object.keys(EYES)) {
    for (let a = 0; a < 7; a++) {
      for (let b = a + 1; b < 7; b++) {
        const apart = Math.hypot(...seen(colourOf(a), eyes).map((value, at) => value - seen(colourOf(b), eyes)[at]));
        assert.ok(apart > 0.07, `${eyes}: ${colourOf(a)} and ${colourOf(b)} are ${apart.toFixed(3)} apart`);
      }
    }
  }
});

test("the label on a box can be read: contrast of at least 4.5", () => {
  for (let number = 0; number < 9; number++) {
    const [lighter, darker] = [luminance(colourOf(number)), luminance(inkOn(colourOf(number)))].sort((a, b) => b - a);
    assert.ok((lighter + 0.05) / (darker + 0.05) >= 4.5, colourOf(number));
  }
});
