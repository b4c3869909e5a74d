// What is dropped on a page: files, and those in folders.

/**
 * Hand the files of a drop to `take(files)`: at once, or where folders are among them once these have been read. A file
 * from a folder has its path there as `webkitRelativePath`, as if the folder had been chosen.
 */
export async function takeDrop({ items, files }, take) {
  // Now: after the event nobody can ask any more.
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const given = [...files];
  if (!entries.some(({ isDirectory }) => isDirectory)) return take(given);
  const inside = await Promise.all(entries.map(filesIn)).catch(() => [given]); // if it may not be read
  return take(inside.flat());
}

const NATURAL = new Intl.Collator("en", { numeric: true });

async function filesIn(entry) {
  if (!entry.isDirectory) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    const path = entry.fullPath.slice(1);
    return [path.includes("/") ? Object.defineProperty(file, "webkitRelativePath", { value: path }) : file];
  }
  const found = []; // in no order
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break; // browsers give a hundred at a time
    found.push(...some);
  }
  found.sort((a, b) => NATURAL.compare(a.name, b.name));
  return (await Promise.all(found.map(filesIn))).flat();
}
