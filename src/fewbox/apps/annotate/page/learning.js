// Follows what the server learns in the background; drawing never waits for it.

const SOON = 2_000; // milliseconds between two questions while something is going on
const LATER = 15_000;

export async function followLearning(session, store, signal) {
  let answer = null;
  while (!signal.aborted && answer?.state !== "off") {
    answer = await store.learning().catch(() => null);
    if (answer) session.takeLearning(answer);
    const isBusy = answer?.state === "learning" || answer?.state === "waiting";
    await new Promise((resolve) => setTimeout(resolve, isBusy ? SOON : LATER));
  }
}
