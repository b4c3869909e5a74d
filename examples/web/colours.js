// One colour per class, told apart by colour-blind eyes too: the palette of Okabe and Ito ("Color Universal
// Design", 2008) without its black, in the order in which fewbox draws. The label stands on every box anyway.

const PALETTE = ["#56b4e9", "#d55e00", "#f0e442", "#cc79a7", "#009e73", "#e69f00", "#0072b2"];
const DARK = new Set(["#d55e00", "#009e73", "#0072b2"]);

export const colourOf = (classId) => PALETTE[classId % PALETTE.length];

/** What is easier to read on the colour of a class. */
export const inkOn = (classId) => (DARK.has(colourOf(classId)) ? "#ffffff" : "#000000");
