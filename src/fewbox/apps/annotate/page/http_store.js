// The store of the page that `fewbox annotate` serves: every method is one request to that server.

const TIMEOUT = 20_000; // milliseconds; one answer takes a few
const TRY_TIMEOUT = 120_000; // for a photo to travel, and for the first one to start what detects

/** Why a request failed. `refused`: the server has understood it and would refuse it again. */
export class StoreError extends Error {
  constructor(message, { hint = "", refused = false } = {}) {
    super(message);
    this.hint = hint;
    this.refused = refused;
  }
}

let shown = null; // the key of the folder that this page shows; another may be served at this address meanwhile

async function send(method, path, body) {
  const isFile = body instanceof Blob;
  const signal = AbortSignal.timeout(isFile ? TRY_TIMEOUT : TIMEOUT);
  const headers = shown === null ? {} : { "Fewbox-Project": shown };
  const options = { method, signal, headers, credentials: "same-origin" };
  if (isFile) {
    options.body = body;
    headers["Content-Type"] = "application/octet-stream";
  } else if (body !== undefined) {
    options.body = JSON.stringify(body);
    headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    const hint = "if you have stopped fewbox annotate, start it again with the same photos";
    throw new StoreError("the server does not answer", { hint });
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401 || response.status === 403) {
    throw new StoreError(answer.error ?? "this page is no longer allowed to save", {
      hint: answer.hint ?? "open the address again that fewbox annotate has printed",
    });
  }
  const refused = response.status >= 400 && response.status < 500 && ![408, 429].includes(response.status);
  const message = answer.error ?? `the server answers ${response.status}`;
  throw new StoreError(message, { hint: answer.hint, refused });
}

const request = async (...asked) => (await send(...asked)).json();
const photoPath = (id) => `/api/photos/${encodeURIComponent(id)}`;
const imagePath = (id, side) => `${photoPath(id)}/image${side ? `?side=${side}` : ""}`;

export const httpStore = {
  async project() {
    const project = await request("GET", "/api/project");
    shown ??= project.key;
    return project;
  },
  version: async () => (await request("GET", "/api/version")).version,
  photo: (id) => request("GET", photoPath(id)),
  patch: (id, change) => request("PATCH", photoPath(id), change),
  trash: (id) => request("POST", `${photoPath(id)}/trash`, {}),
  restore: (id) => request("POST", `${photoPath(id)}/restore`, {}),
  labels: (body) => request("PUT", "/api/labels", body),
  labelCounts: () => request("GET", "/api/labels"),
  beside: () => request("GET", "/api/beside"),
  takeOver: (format) => request("POST", "/api/beside", { format }),
  // Also of photos that count as reviewed: the page knows what it has not saved yet.
  proposals: (id) => request("GET", `${photoPath(id)}/proposals?reviewed=1`),
  learning: () => request("GET", "/api/learning"),
  finish: (start = false) => request(start ? "POST" : "GET", "/api/finish", start ? {} : undefined),
  heldOutUrl: () => `/api/finish/picture?${Date.now()}`, // each time another one
  cameraHint: "fewbox annotate has --certificate and --key for https.",
  trying: () => request("GET", "/api/try"),
  tryPhoto: (name, file) => request("POST", `/api/try?name=${encodeURIComponent(name)}`, file),
  triedUrl: (id, side) => `/api/tried/${encodeURIComponent(id)}/image?side=${side}`,
  takeIn: (id) => request("POST", `/api/tried/${encodeURIComponent(id)}/take`, {}),
  formats: () => request("GET", "/api/export"),
  async exported(format) {
    const response = await send("GET", `/api/export?format=${encodeURIComponent(format)}`);
    return { ...JSON.parse(response.headers.get("Fewbox-Export")), blob: await response.blob() };
  },
  image: async (id, side) => (await send("GET", imagePath(id, side))).blob(),
  imageUrl: async (id, side) => imagePath(id, side),
};
