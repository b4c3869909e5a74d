// One colour per class, told apart by colour-blind eyes too: the palette of Okabe and Ito ("Color Universal
// Design", 2008) without its black, which does not show on photos. With more classes the colours begin again;
// the label is written on every box in any case.

const PALETTE = ["#56b4e9", "#e69f00", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2"];

export const colourOf = (number) => PALETTE[Math.max(number, 0) % PALETTE.length];

/** Black or white, whichever is easier to read on a colour (relative luminance as in WCAG 2.2). */
export function inkOn(colour) {
  return (luminance(colour) + 0.05) ** 2 > 1.05 * 0.05 ? "#000000" : "#ffffff";
}

export function luminance(colour) {
  const linear = (channel) => (channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4);
  const [r, g, b] = [1, 3, 5].map((at) => linear(parseInt(colour.slice(at, at + 2), 16) / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
