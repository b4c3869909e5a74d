// What is said of photos and boxes, to eyes and to ears. Pure.

/** "boxes", "empty", "unseen", "out" or "unreadable": the states of a photo, and that there is none. */
export function stateOf(photo) {
  if (photo.left_out) return "out";
  if (photo.error) return "unreadable";
  if (photo.num_boxes) return "boxes";
  return photo.reviewed ? "empty" : "unseen";
}

/** Whether somebody still has to look at it. */
export const isOpen = (photo) => !photo.reviewed && !photo.error && !photo.left_out;

const OF_CLASS = "class ";

/** The filter that shows the photos with a class. */
export const filterOf = (label) => OF_CLASS + label;

/** Whether a filter is for a class that is not one of `labels`. */
export const isOfNone = (filter, labels) => filter.startsWith(OF_CLASS) && !labels.map(filterOf).includes(filter);

/** Whether a photo passes a search and a filter: "all", "unreviewed", "empty", "out", or that of a class. */
export function isShown(photo, filter, search = "") {
  if (search && !isCalled(photo, search)) return false;
  if (filter === "out") return Boolean(photo.left_out);
  if (filter === "unreviewed") return !photo.reviewed && !photo.left_out;
  if (filter === "empty") return photo.reviewed && photo.num_boxes === 0;
  return filter === "all" || photo.labels.includes(filter.slice(OF_CLASS.length));
}

// Some systems write an accented letter as two signs, which look like the one that a keyboard writes.
const plain = (name) => name.normalize("NFC").toLowerCase();

/** Whether the name of a photo has every word of a search in it. */
function isCalled({ name }, search) {
  return plain(search).split(/\s+/).every((part) => plain(name).includes(part));
}

/** Of photos the one that a search means: that of this very name, else one that begins so, else the first. */
export function bestMatch(photos, search) {
  const wanted = plain(search.trim());
  const found = photos.filter((photo) => isCalled(photo, search));
  const isExact = ({ name }) => [plain(name), plain(name).replace(/\.\w+$/, "")].includes(wanted);
  return found.find(isExact) ?? found.find(({ name }) => plain(name).startsWith(wanted)) ?? found[0] ?? null;
}

export const counted = (count, one, many) => `${count} ${count === 1 ? one : many}`;

export function inWords(photo) {
  const words = {
    unreadable: "cannot be opened", empty: "reviewed, no boxes", unseen: "not looked at", out: "left out",
  };
  return words[stateOf(photo)] ?? counted(photo.num_boxes, "box", "boxes");
}

export const sizeOf = ({ box: [x1, y1, x2, y2] }) => `${Math.round(x2 - x1)} × ${Math.round(y2 - y1)}`;

/** A box, or a proposal (which has a score), for someone who cannot see it. */
export function described({ box: [x1, y1, x2, y2], label, ignore, score }) {
  const [width, height] = [x2 - x1, y2 - y1].map(Math.round);
  const words = [label];
  if (ignore) words.push("ignored");
  if (score !== undefined) words.push(`proposed, ${Math.round(100 * score)} percent sure`);
  return `${words.join(", ")}, ${width} by ${height} pixels at ${Math.round(x1)}, ${Math.round(y1)}`;
}

const percent = (share) => `${Math.round(100 * share)}%`;

/** How good a detector will be, line by line; of a class of which nothing was held out no number is known. */
export function estimateInWords(estimate) {
  const nothing = ["No object could be held out, so nothing is known: one or two more photos would tell a lot."];
  if (!estimate?.overall.objects) return nothing;
  const line = ({ label, objects, ap50, low, high }) => {
    const name = label || (estimate.classes.length > 1 ? "All classes" : "Expected");
    if (!objects || ap50 === null) return `${name}: none was held out, so nothing is known of it`;
    const held = counted(objects, "object", "objects");
    const range = `four times in five between ${percent(low)} and ${percent(high)}`;
    return `${name}: AP50 ${percent(ap50)}, ${range} (${held} held out)`;
  };
  const { overall, classes } = estimate;
  if (classes.length === 1) return [line(overall)];
  const isOneKnown = classes.filter(({ objects }) => objects).length === 1; // which says it all
  return (isOneKnown ? classes : [overall, ...classes]).map(line);
}

// What an estimate has for the precise threshold where no box held out was so sure; after finetuning/estimate.py.
const UNREACHED = 0.9;

/** What the score threshold does; `option` is how a command is told another one, empty where there is none. */
export function thresholdInWords(estimate, option = "--threshold") {
  const { overall, score_threshold: usual, precise_threshold: precise } = estimate;
  const from = `A box counts from a score of ${percent(usual)} on`;
  if (!overall.objects) return `${from}: a usual value, as nothing was held out to find a better one.`;
  const balanced = `${from}, which balances objects missed and false alarms.`;
  if (!precise || precise <= usual) return balanced;
  if (precise === UNREACHED) return `${balanced} No box held out was so sure that nine in ten like it should be right.`;
  const set = option && `: ${option} ${precise.toFixed(2)}`;
  return `${balanced} Above ${percent(precise)} nine boxes in ten should be right${set}.`;
}
