// The service's own page: shows what openapi.json says, and tries one photo. It asks no other server.

const byId = (id) => document.getElementById(id);

/** An element with text or children; text is never read as HTML. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const nameOf = (reference) => reference.split("/").at(-1);

/** A schema in a few words: "string", "array of FoundObject", "number or null". */
function describe(schema = {}) {
  if (schema.$ref) return nameOf(schema.$ref);
  if (schema.anyOf) return schema.anyOf.map(describe).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
  if (schema.prefixItems) return `[${schema.prefixItems.map(describe).join(", ")}]`;
  if (schema.type === "array") return `array of ${describe(schema.items)}`;
  if (schema.additionalProperties) return `object of ${describe(schema.additionalProperties)}`;
  if (schema.format === "binary") return "file";
  return schema.type ?? "anything";
}

function table(head, rows) {
  const cells = (tag, row) => element("tr", {}, ...row.map((text) => element(tag, {}, text)));
  const body = element("tbody", {}, ...rows.map((row) => cells("td", row)));
  return element("table", {}, element("thead", {}, cells("th", head)), body);
}

/** How to ask for it with curl. */
function curl(method, path, operation, needsKey) {
  const key = needsKey ? ' -H "Authorization: Bearer $FEWBOX_API_KEY"' : "";
  const body = operation.requestBody ? " -F photo=@duck.jpg" : "";
  const verb = method === "get" || body ? "" : ` -X ${method.toUpperCase()}`;
  return `curl${verb}${key}${body} ${location.origin}${path.replace("{name}", "NAME")}`;
}

function showOperation(path, method, operation) {
  const parameters = (operation.parameters ?? []).map((one) => [
    one.name, one.in, describe(one.schema), one.description ?? "",
  ]);
  const answers = Object.entries(operation.responses).map(([status, answer]) => [
    status,
    Object.entries(answer.content ?? {}).map(([kind, { schema }]) => `${kind}: ${describe(schema)}`).join("; "),
  ]);
  const verb = element("span", { class: "method" }, method.toUpperCase());
  const title = element("summary", {}, verb, element("code", {}, path));
  const details = element("details", {}, title, element("p", {}, operation.description ?? ""));
  if (parameters.length) details.append(table(["parameter", "in", "is", "means"], parameters));
  if (operation.requestBody) {
    const kinds = Object.keys(operation.requestBody.content).join(", ");
    details.append(element("p", {}, `Body: ${kinds}. ${operation.requestBody.description}`));
  }
  const command = curl(method, path, operation, Boolean(operation.security));
  details.append(table(["status", "answer"], answers), element("pre", {}, command));
  return details;
}

function showSchema(name, schema) {
  const fields = Object.entries(schema.properties ?? {}).map(([field, one]) => [
    field, describe(one), one.description ?? "",
  ]);
  const title = element("summary", {}, element("code", {}, name), ` ${schema.description ?? ""}`);
  return element("details", {}, title, table(["field", "is", "means"], fields));
}

const form = byId("try");

const keyHeader = () => (form.key.value ? { Authorization: `Bearer ${form.key.value}` } : {});

function say(text, isWrong = false) {
  byId("message").textContent = text;
  byId("message").className = isWrong ? "wrong" : "";
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { ...keyHeader(), ...options.headers } });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ error: answer.statusText }));
  throw new Error(problem.hint ? `${problem.error} (${problem.hint})` : problem.error);
}

async function listDetectors() {
  const { detectors } = await (await ask("/v1/detectors")).json();
  const options = detectors.map(({ name, labels }) => (
    element("option", { value: name }, `${name}: ${labels.join(", ")}`)
  ));
  form.detector.replaceChildren(...options);
}

/** Detect in the photo that is chosen, and show what was found if `isLast()`, which no longer holds once another is. */
async function detect(isLast) {
  const photo = form.photo.files[0];
  const query = form.threshold.value ? `&threshold=${form.threshold.value}` : "";
  const path = `/v1/detectors/${encodeURIComponent(form.detector.value)}/detect?format=`;
  const headers = { "Content-Type": "application/octet-stream" };
  const send = (format) => ask(`${path}${format}${query}`, { method: "POST", body: photo, headers });
  say("looking");
  byId("result").hidden = true; // it is of the photo before
  const [numbers, picture] = await Promise.all([send("json"), send("png")]);
  const [found, drawn] = [await numbers.json(), await picture.blob()];
  if (!isLast()) return;
  URL.revokeObjectURL(byId("picture").src);
  byId("picture").src = URL.createObjectURL(drawn);
  byId("numbers").textContent = JSON.stringify(found, null, 1);
  byId("result").hidden = false;
  const count = found.photos[0].detections.length;
  say(`${count} found above ${found.score_threshold}`);
}

let asked = 0; // how often a photo was sent; the answer to one may come after that to the next

const told = (action, isLast = () => true) => action(isLast).catch((error) => isLast() && say(error.message, true));

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const turn = ++asked;
  told(detect, () => turn === asked);
});
form.key.addEventListener("change", () => told(async () => { await listDetectors(); say(""); }));

const openapi = await (await fetch("/openapi.json")).json();
const needsKey = Boolean(openapi.components.securitySchemes);
byId("key-row").hidden = !needsKey;
for (const [path, methods] of Object.entries(openapi.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    byId("operations").append(showOperation(path, method, operation));
  }
}
for (const [name, schema] of Object.entries(openapi.components.schemas)) {
  byId("schemas").append(showSchema(name, schema));
}
if (needsKey) say("give the key to try it");
else await told(listDetectors);
