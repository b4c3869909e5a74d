// Files that lie packed beside the page, so that any server sends them small.

/** The answer to a request for a file that is packed with gzip, unpacked; null if it is not there. */
export async function fetchUnpacked(url) {
  const answer = await fetch(url).catch(() => null);
  if (!answer?.ok) return null;
  const blob = await answer.blob();
  const [first, second] = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  // Some servers say that a .gz is only packed for the way, and the browser has unpacked it.
  if (first !== 0x1f || second !== 0x8b) return blob.arrayBuffer();
  return new Response(blob.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
