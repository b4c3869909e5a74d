// Follows what the server learns in the background, and what others draw; drawing never waits for it.

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

/** Read everything again once somebody else has changed the project; nobody waits longer than some seconds. */
export async function followChanges(session, store, signal) {
  while (store.version && !signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, SOON));
    if (document.hidden || session.saver.status.kind === "saving") continue; // whoever comes back has it read again
    const version = await store.version().catch(() => session.version);
    if (version !== session.version) await session.catchUp();
  }
}
