// Which of many reviewed photos a round of learning is about, as apps/annotate/learning.py chooses them. Pure.

const EMPTY_SHARE = 4; // one photo in so many is kept for photos without objects, which teach what is none

/**
 * At most `most` of the photos, in the order of their names: of every class equally many, as far as there are, and some
 * empty ones. By their ids, which are random: photos taken one after the other look alike.
 */
export function chooseLessons(photos, most) {
  const mixed = [...photos].sort((a, b) => (a.id < b.id ? -1 : 1));
  const empty = mixed.filter((photo) => !objectsIn(photo).size);
  const room = most - Math.min(empty.length, Math.floor(most / EMPTY_SHARE));
  const chosen = ofEachClass(mixed.filter((photo) => objectsIn(photo).size), room);
  return [...chosen, ...empty.slice(0, most - chosen.length)].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The classes of which there is something to learn in a photo: not of boxes to ignore. */
export function objectsIn({ boxes }) {
  return new Set(boxes.filter(({ ignore }) => !ignore).map(({ label }) => label));
}

/** Take photos one by one, always of the class of which there are fewest so far. */
function ofEachClass(photos, room) {
  const left = photos.map((photo) => ({ photo, labels: [...objectsIn(photo)] }));
  const taken = new Map();
  const fewestOf = ({ labels }) => Math.min(...labels.map((label) => taken.get(label) ?? 0));
  const chosen = [];
  while (left.length && chosen.length < room) {
    const counts = left.map(fewestOf);
    const [{ photo, labels }] = left.splice(counts.indexOf(Math.min(...counts)), 1);
    for (const label of labels) taken.set(label, (taken.get(label) ?? 0) + 1);
    chosen.push(photo);
  }
  return chosen;
}
