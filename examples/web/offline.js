// The service worker: after the first visit the page opens without a network. Of this folder, and of nothing else.
// What the server has comes first, so that nobody goes on with an old page; what was kept, where it does not answer.
// And it adds the headers of cross-origin isolation, which few hosts of static files send: with them, from the second
// visit on, the runtime uses more than one core.

const CACHE = "fewbox";
const LIST = "offline.json"; // written by build.js: every file of the page

addEventListener("install", (event) => {
  event.waitUntil(keepAll());
  self.skipWaiting();
});

addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(self.registration.scope)) event.respondWith(answer(event.request));
});

async function keepAll() {
  const files = await (await fetch(LIST, { cache: "no-cache" })).json();
  await (await caches.open(CACHE)).addAll(files);
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.status === 200) await cache.put(request, response.clone());
    return isolated(response);
  } catch (error) {
    const kept = await cache.match(request, { ignoreSearch: true });
    if (kept) return isolated(kept);
    throw error;
  }
}

function isolated(response) {
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  const { status, statusText } = response;
  return new Response([204, 304].includes(status) ? null : response.body, { status, statusText, headers });
}
