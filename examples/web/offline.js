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
  let response;
  try {
    response = await whole(await fetch(request));
  } catch (error) {
    const kept = await (await caches.open(CACHE)).match(request, { ignoreSearch: true });
    if (kept) return isolated(kept);
    throw error;
  }
  if (response.status === 0) return response; // a redirect, which the browser follows, or from elsewhere: closed to us
  if (response.status === 200) await keep(request, response.clone()).catch(() => {}); // no room, or Vary: *
  return isolated(response);
}

/** The same once all of it is here: an answer that breaks off is none. */
async function whole(response) {
  if (response.status !== 200) return response;
  return new Response(await response.blob(), { status: 200, headers: response.headers });
}

async function keep(request, response) {
  await (await caches.open(CACHE)).put(request, response);
}

function isolated(response) {
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  const { status, statusText } = response;
  return new Response([204, 304].includes(status) ? null : response.body, { status, statusText, headers });
}
