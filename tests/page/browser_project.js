// The project of the page that learns, on a database in memory: node has none.

import { register } from "node:module";

const PAGE = new URL("../../src/fewbox/apps/annotate/page/", import.meta.url);

// The modules that it shares with fewbox annotate are put beside it only once the page is built.
const hook = `export const resolve = (name, context, next) =>
  next(name.replace(/^\\.\\.\\/annotate\\//, ${JSON.stringify(PAGE.href)}), context);`;
register(`data:text/javascript,${encodeURIComponent(hook)}`);

globalThis.createImageBitmap = async () => ({ width: 100, height: 60, close() {} });
globalThis.BroadcastChannel = class {
  postMessage() {} // there is no other window, and node's own would never end
};
export const { BrowserProject } = await import("../../examples/web/teach/project.js");
export const { Taking } = await import("../../examples/web/teach/taking.js");
export const { browserStore } = await import("../../examples/web/teach/browser_store.js");

const copied = (value) => (value instanceof Blob ? value : structuredClone(value));

const answering = (result) => {
  const request = { result: copied(result) };
  queueMicrotask(() => request.onsuccess?.());
  return request;
};

/** What Database of database.js is, one transaction after the other. */
export class MemoryDatabase {
  #stores = { photos: new Map(), files: new Map(), project: new Map() };
  #last = Promise.resolve();

  get = (name, key) => this.change([name], (stores) => stores[name].get(key).result);
  all = (name) => this.change([name], (stores) => stores[name].getAll().result);

  change(names, change) {
    const result = this.#last.then(async () => {
      const changed = Object.fromEntries(names.map((name) => [name, new Map(this.#stores[name])]));
      const made = await change(Object.fromEntries(names.map((name) => [name, storeOf(changed[name])])));
      Object.assign(this.#stores, changed);
      return made;
    });
    this.#last = result.catch(() => {});
    return result;
  }
}

const storeOf = (values) => ({
  get: (key) => answering(values.get(key)),
  getAll: () => answering([...values.values()]),
  put: (value, key = value.id) => answering(void values.set(key, copied(value))),
  delete: (key) => answering(void values.delete(key)),
  clear: () => answering(values.clear()),
});
