// What the page keeps in this browser, in IndexedDB: photos, boxes and classes outlive a reload.

const NAME = "fewbox";
const VERSION = 1;

/**
 * Stores: `photos` has for each id `{ id, order, name, width, height, boxes, reviewed, left_out, trashed }`,
 * `files` the photo itself, apart so that a box that moves rewrites no photo, and `project` values by name.
 */
export class Database {
  #opened;

  constructor(indexedDb = indexedDB) {
    this.#opened = new Promise((resolve, reject) => {
      const asked = indexedDb.open(NAME, VERSION);
      asked.onupgradeneeded = () => {
        asked.result.createObjectStore("photos", { keyPath: "id" });
        asked.result.createObjectStore("files");
        asked.result.createObjectStore("project");
      };
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error);
    });
    this.#opened.catch(() => {}); // whoever asks for something is told
  }

  get(store, key) {
    return this.change([store], (stores) => asPromise(stores[store].get(key)), "readonly");
  }

  all(store) {
    return this.change([store], (stores) => asPromise(stores[store].getAll()), "readonly");
  }

  put(store, value, key) {
    return this.change([store], (stores) => asPromise(stores[store].put(value, key)));
  }

  /** Do `change(stores)`, all of it or nothing; it may wait for nothing but these stores. Its result, once kept. */
  async change(names, change, mode = "readwrite") {
    const transaction = (await this.#opened).transaction(names, mode);
    const done = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
    done.catch(() => {});
    const stores = Object.fromEntries(names.map((name) => [name, transaction.objectStore(name)]));
    let result;
    try {
      result = await change(stores);
    } catch (error) {
      if (!transaction.error) transaction.abort();
      throw error;
    }
    await done;
    return result;
  }
}

/** What a request of IndexedDB gives. */
export function asPromise(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
