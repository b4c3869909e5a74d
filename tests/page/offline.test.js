import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { runInNewContext } from "node:vm";

const WORKER = readFileSync(new URL("../../examples/web/offline.js", import.meta.url), "utf8");
const FRESH = async () => new Response("new", { headers: { "Content-Type": "text/javascript" } });

/** What the page gets for a file from a server that answers so, where `kept` was kept before, or nothing. */
async function fetched(answers, { kept, put = (_, response) => response.text(), open }) {
  const heard = {};
  const cache = { put, match: async () => kept };
  runInNewContext(WORKER, {
    self: { registration: { scope: "http://h/web/" } },
    addEventListener: (type, hear) => (heard[type] = hear),
    caches: { open: open ?? (async () => cache) },
    fetch: answers,
    Response,
    Headers,
  });
  let answer;
  const request = { method: "GET", url: "http://h/web/main.js" };
  heard.fetch({ request, respondWith: (promise) => (answer = promise) });
  return answer;
}

/** What fails as the browser's cache does. */
const failing = (error) => async () => {
  throw error;
};
const full = failing(new DOMException("Quota exceeded.", "QuotaExceededError"));

for (const [why, able] of [
  ["the browser's storage is full", { put: full }],
  ["the browser's storage cannot be opened", { open: full }],
  ["the server says Vary: *, with which nothing is kept", { put: failing(new TypeError("Vary header contains *")) }],
]) {
  test(`${why}: the page gets what the server has, whether or not something was kept before`, async () => {
    for (const kept of [undefined, new Response("old")]) {
      const answer = await fetched(FRESH, { kept, ...able });
      assert.equal(await answer.text(), "new");
      assert.equal(answer.headers.get("Content-Type"), "text/javascript");
      assert.equal(answer.headers.get("Cross-Origin-Opener-Policy"), "same-origin");
    }
  });
}

test("what the server sends is kept for a visit without a network", async () => {
  const kept = [];
  await fetched(FRESH, { put: async ({ url }, response) => kept.push([url, await response.text()]) });
  assert.deepEqual(kept, [["http://h/web/main.js", "new"]]);
});

test("a redirect is the browser's to follow, also where an older answer is kept", async () => {
  const redirect = { type: "opaqueredirect", status: 0, statusText: "", headers: new Headers(), body: null };
  for (const kept of [undefined, new Response("old")]) {
    assert.equal(await fetched(async () => redirect, { kept }), redirect);
  }
});

test("where the server does not answer, or breaks off, the page gets what was kept", async () => {
  const breaking = new ReadableStream({ pull: (controller) => controller.error(new TypeError("network error")) });
  for (const answers of [failing(new TypeError("Failed to fetch")), async () => new Response(breaking)]) {
    assert.equal(await (await fetched(answers, { kept: new Response("old") })).text(), "old");
  }
  await assert.rejects(fetched(failing(new TypeError("Failed to fetch")), {}), { message: "Failed to fetch" });
});
