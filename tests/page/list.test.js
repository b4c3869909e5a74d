import assert from "node:assert/strict";
import { test } from "node:test";
import { thumbnail } from "../../src/fewbox/apps/annotate/page/list.js";

async function shown(imageUrl) {
  const image = { isConnected: true, append() {}, removeAttribute() {} };
  globalThis.document = { createElement: () => image };
  thumbnail({ id: "1" }, { imageUrl });
  await new Promise((resolve) => setTimeout(resolve, 150));
  return image.src;
}

test("a photo that has gone before its thumbnail was asked for has none, and that is no fault", async () => {
  assert.equal(await shown(async (id) => `${id}.jpg`), "1.jpg");
  assert.equal(await shown(() => Promise.reject(new Error("no such photo"))), undefined); // none that nobody handles
});
