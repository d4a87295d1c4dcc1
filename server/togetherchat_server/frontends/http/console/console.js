const POLL_MS = 1000;
const BARS_MAX = 8;
const ROWS_ON_A_PHONE = 30;
const phone = matchMedia("(max-width: 720px)");

function changeKey(event) {
  event.preventDefault();
  saveKey();
  loadModels();
  showStats();
}
byId("key").addEventListener("change", changeKey);
byId("key-form").addEventListener("submit", changeKey);

/* Live metrics. */
const PROVIDER = {
  idle: ["no recent calls", ""],
  healthy: ["healthy", "good"],
  degraded: ["some calls fail", "warn"],
  unavailable: ["all calls fail", "bad"],
  throttled: ["throttled", "warn"],
};

function drawSpark(id, values) {
  const top = Math.max(1, ...values);
  const points = values.map((value, index) => `${index},${(25 - (value / top) * 23).toFixed(1)}`);
  const svg = byId(id);
  if (!svg.firstChild) {
    for (const kind of ["area", "line"]) {
      const shape = document.createElementNS("http://www.w3.org/2000/svg", kind === "area" ? "polygon" : "polyline");
      shape.setAttribute("class", kind);
      svg.append(shape);
    }
  }
  svg.firstChild.setAttribute("points", `0,26 ${points.join(" ")} ${values.length - 1},26`);
  svg.lastChild.setAttribute("points", points.join(" "));
}

function toneOf(code) {
  if (code === "OK") return "";
  return /^4|^(CANCELLED|INVALID_ARGUMENT|NOT_FOUND|UNAUTHENTICATED|PERMISSION_DENIED)$/.test(code) ? "warn" : "bad";
}

function drawBars(id, counts, tone, empty) {
  const rows = Object.entries(counts).sort((one, other) => other[1] - one[1]).slice(0, BARS_MAX);
  const largest = Math.max(1, ...rows.map((row) => row[1]));
  const items = rows.map(([name, count]) => {
    const filled = make("i");
    filled.style.width = `${(count / largest) * 100}%`;
    return make("li", { class: tone(name) },
      make("span", { class: "name mono", title: name }, name),
      make("span", { class: "bar", "aria-hidden": "true" }, filled),
      make("span", { class: "number" }, integer.format(count)));
  });
  byId(id).replaceChildren(...(items.length ? items : [make("li", { class: "muted" }, empty)]));
}

function drawStats(stats) {
  const { provider, time_to_first_token: first } = stats;
  setText("version", stats.version);
  setText("in-flight", integer.format(stats.in_flight));
  const scope = stats.workers === 1 ? "" : " \u00b7 this worker only";
  setText("queued", `${integer.format(stats.queued)} queued \u00b7 up ${ago(stats.uptime_s)}${scope}`);
  setText("calls", integer.format(sum(stats.seconds.calls)));
  setText("calls-all", `${integer.format(stats.calls)} since start`);
  drawSpark("calls-spark", stats.seconds.calls);
  const tokens = sum(stats.seconds.output_tokens);
  byId("tokens").replaceChildren(integer.format(tokens), make("small", {}, ` ${(tokens / stats.window_s).toFixed(1)} per second`));
  setText("tokens-all", `${integer.format(stats.output_tokens)} since start \u00b7 ${dollars(stats.cost_usd)}`);
  drawSpark("tokens-spark", stats.seconds.output_tokens);
  byId("first-token").replaceChildren(seconds(first.p50_s), make("small", {}, " median"));
  setText("first-token-rest", first.calls ? `p95 ${seconds(first.p95_s)} \u00b7 ${integer.format(first.calls)} ${first.calls === 1 ? "call" : "calls"}` : "no recent completions");
  drawBars("codes", stats.codes, toneOf, "no calls yet");
  drawBars("reasons", stats.reasons, (reason) => (/^(CALLER|INVALID)_/.test(reason) ? "warn" : "bad"), "none");
  setBadge("provider", ...(PROVIDER[provider.state] ?? [provider.state, ""]));
  const last = provider.last_failure;
  setText("provider-rest",
    `${integer.format(provider.ok)} ok, ${integer.format(provider.error)} failed, ` +
    `${integer.format(provider.throttled)} throttled, ${integer.format(provider.retries)} retries` +
    (last ? ` \u00b7 last ${last.reason}, ${ago(last.age_s)} ago` : ""));
}

async function showStats() {
  try {
    const response = await fetch("console/stats", { headers: withKey() });
    if (response.ok) {
      drawStats(await response.json());
      setBadge("link", "live", "good");
    } else {
      const needs = { 401: "needs a key", 403: "needs an admin key" };
      setBadge("link", needs[response.status] ?? `error ${response.status}`, "warn");
    }
  } catch {
    setBadge("link", "no connection", "bad");
  }
}

async function pollStats() {
  if (!document.hidden) await showStats();
  setTimeout(pollStats, POLL_MS);
}

/* The models. */
const STATES = { active: ["active", "good"], unconfirmed: ["unconfirmed", "warn"], retired: ["retired", ""] };
const RANKS = { active: 0, unconfirmed: 1, retired: 2 };
const COLUMNS = [
  { key: "name", head: "Model", of: (model) => (model.display_name || model.id).toLowerCase(), cell: nameCell },
  { key: "organization", head: "Maker", of: (model) => model.organization?.toLowerCase(), cell: (model) => [model.organization ?? "\u2013"] },
  { key: "context", head: "Context", right: true, falling: true, of: (model) => model.context_length, cell: (model) => [model.context_length ? integer.format(model.context_length) : "\u2013"] },
  { key: "quantization", head: "Quant.", of: (model) => model.quantization, cell: (model) => [model.quantization ?? "\u2013"] },
  { key: "input", head: "In, $/M", right: true, of: (model) => model.pricing?.input, cell: (model) => [price(model.pricing?.input)] },
  { key: "output", head: "Out, $/M", right: true, of: (model) => model.pricing?.output, cell: (model) => [price(model.pricing?.output)] },
  { key: "availability", head: "Use", of: (model) => model.availability, cell: (model) => [model.availability === "both" ? "either" : model.availability ?? "\u2013"] },
  { key: "state", head: "State", of: (model) => RANKS[model.state], cell: stateCell },
];
let models = [];
let order = { column: COLUMNS[COLUMNS.length - 1], falling: false };
let shownMax = ROWS_ON_A_PHONE;

function price(value) {
  return value === undefined ? "\u2013" : value.toFixed(2).length - 1 < String(value).length ? String(value) : value.toFixed(2);
}

function nameCell(model) {
  const pick = make("button", { type: "button", class: "pick", title: "Use in the playground" },
    make("b", {}, model.display_name || model.id), make("span", {}, model.id));
  pick.addEventListener("click", () => selectModel(model.id));
  const notes = [];
  if (model.aliases) notes.push(`also ${model.aliases.join(", ")}`);
  if (model.type && model.type !== "chat") notes.push(model.type);
  if (model.pricing?.cached_input !== undefined) notes.push(`cached input $${price(model.pricing.cached_input)}`);
  if (model.pricing?.hourly !== undefined) notes.push(`$${price(model.pricing.hourly)} an hour`);
  return notes.length ? [pick, make("p", { class: "note" }, notes.join(" \u00b7 "))] : [pick];
}

function stateCell(model) {
  const [word, tone] = STATES[model.state] ?? ["unknown", ""];
  const badge = make("span", { class: `badge ${tone}` }, word);
  if (model.notes && model.state !== "retired") return [badge, make("p", { class: "note" }, model.notes.join(" "))];
  if (!model.retirement_date) return [badge];
  const when = model.state === "retired" ? "since" : "until";
  return [badge, make("p", { class: "note" }, `${when} ${model.retirement_date}`)];
}

function selectModel(id) {
  byId("model").value = id;
  markSelected();
  if (matchMedia("(max-width: 1080px)").matches) byId("playground").scrollIntoView();
  byId("prompt").focus({ preventScroll: true });
}

function markSelected() {
  for (const row of byId("list").children) {
    if (row.dataset.id === byId("model").value) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
}
byId("model").addEventListener("input", markSelected);

function filteredModels() {
  const words = byId("text").value.toLowerCase().split(/\s+/).filter(Boolean);
  const organization = byId("organization").value;
  const availability = byId("availability").value;
  const state = byId("state").value;
  return models.filter((model) => {
    const text = `${model.id} ${model.display_name ?? ""} ${model.organization ?? ""} ${model.quantization ?? ""} ${(model.aliases ?? []).join(" ")}`.toLowerCase();
    return words.every((word) => text.includes(word)) &&
      (!organization || model.organization === organization) &&
      (!availability || model.availability === availability || model.availability === "both") &&
      (!state || model.state === state);
  });
}

/* Models without a value come last in both directions. */
function sorted(matches) {
  const sign = order.falling ? -1 : 1;
  return matches.sort((one, other) => {
    const [a, b] = [order.column.of(one), order.column.of(other)];
    if (a !== b) {
      if (a === undefined) return 1;
      if (b === undefined) return -1;
      return (a < b ? -1 : 1) * sign;
    }
    return one.id.toLowerCase() < other.id.toLowerCase() ? -1 : 1;
  });
}

function rowOf(model) {
  const row = make("tr", { role: "row" });
  row.dataset.id = model.id;
  for (const column of COLUMNS) {
    const cell = make("td", { role: "cell", class: column.right ? "right number" : "" }, ...column.cell(model));
    cell.dataset.label = column.head;
    row.append(cell);
  }
  return row;
}

function showModels() {
  const matches = sorted(filteredModels());
  const shown = phone.matches ? matches.slice(0, shownMax) : matches;
  byId("list").replaceChildren(...shown.map(rowOf));
  setText("count", matches.length === models.length ? `${models.length}` : `${matches.length} of ${models.length}`);
  byId("none").hidden = matches.length > 0 || models.length === 0;
  byId("more").hidden = shown.length === matches.length;
  setText("more-button", `Show all ${matches.length}`);
  for (const head of byId("heads").children) {
    if (head.dataset.key === order.column.key) head.setAttribute("aria-sort", order.falling ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  byId("order").value = order.column.key;
  markSelected();
}

function sortBy(column) {
  const again = order.column === column;
  order = { column, falling: again ? !order.falling : Boolean(column.falling) };
  showModels();
}

function drawHeads() {
  for (const column of COLUMNS) {
    const button = make("button", { type: "button" }, column.head);
    button.addEventListener("click", () => sortBy(column));
    const head = make("th", { role: "columnheader", scope: "col", class: column.right ? "right" : "" }, button);
    head.dataset.key = column.key;
    byId("heads").append(head);
    byId("order").append(make("option", { value: column.key }, `Sort: ${column.head}`));
  }
}

function fillFilters() {
  const makers = [...new Set(models.map((model) => model.organization).filter(Boolean))];
  makers.sort((one, other) => one.localeCompare(other, "en", { sensitivity: "base" }));
  const chosen = byId("organization").value;
  byId("organization").replaceChildren(make("option", { value: "" }, "All makers"), ...makers.map((name) => make("option", { value: name }, name)));
  byId("organization").value = makers.includes(chosen) ? chosen : "";
  byId("ids").replaceChildren(...models.filter((model) => model.state !== "retired").map((model) => make("option", { value: model.id })));
  if (!byId("model").value) {
    const chat = models.filter((model) => (model.type ?? "chat") === "chat" && model.state !== "retired" && model.pricing);
    byId("model").value = chat.find((model) => model.id === "openai/gpt-oss-120b")?.id ?? chat[0]?.id ?? "";
  }
}

async function loadModels() {
  try {
    const response = await fetch("console/models", { headers: withKey() });
    if (!response.ok) throw await errorOf(response);
    const listed = await response.json();
    models = listed.data;
    const remarks = [...listed.warnings];
    if (listed.provider_list_time) remarks.unshift(`The provider's list was read at ${new Date(listed.provider_list_time * 1000).toLocaleTimeString("en", { hour12: false })}.`);
    setText("remarks", remarks.join(" "));
    byId("remarks").hidden = remarks.length === 0;
    fillFilters();
    showModels();
  } catch (error) {
    models = [];
    showModels();
    setText("count", error.status === 401 ? "need a key: enter one above" : `cannot be listed: ${error.reason || "no connection"}`);
  }
}

drawHeads();
for (const id of ["text", "organization", "availability", "state"]) byId(id).addEventListener("input", () => { shownMax = ROWS_ON_A_PHONE; showModels(); });
byId("order").addEventListener("change", () => sortBy(COLUMNS.find((column) => column.key === byId("order").value)));
byId("more-button").addEventListener("click", () => { shownMax = Infinity; showModels(); });
phone.addEventListener("change", showModels);

/* The playground runs one call at a time. */
let running = null;

function requestBody() {
  const messages = [{ role: "user", content: byId("prompt").value }];
  const system = byId("system").value.trim();
  if (system) messages.unshift({ role: "system", content: system });
  const body = { model: byId("model").value.trim(), messages, stream: true, stream_options: { include_usage: true } };
  if (byId("temperature").value !== "") body.temperature = Number(byId("temperature").value);
  if (byId("max-tokens").value !== "") body.max_tokens = Number(byId("max-tokens").value);
  return body;
}

/* Yields the events of a stream. A blank line ends an event; a chunk may end anywhere. */
async function* readEvents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    yield* events;
  }
}

function clearOutcome() {
  byId("outcome").hidden = false;
  for (const id of ["answer", "thoughts", "fault", "facts", "served", "remark"]) byId(id).replaceChildren();
  for (const id of ["thinking", "fault", "facts", "remark"]) byId(id).hidden = true;
  byId("thinking").open = true;
  byId("outcome").scrollIntoView({ block: "nearest" });
}

function appendText(id, text) {
  const element = byId(id);
  const atEnd = element.scrollHeight - element.scrollTop - element.clientHeight < 24;
  if (!element.firstChild) element.append(document.createTextNode(""));
  element.firstChild.appendData(text);
  if (atEnd) element.scrollTop = element.scrollHeight;
}

function showError(error) {
  const wait = error.waitMs ? ` in ${seconds(error.waitMs / 1000)}` : "";
  const hint = error.retry ? `Try again${wait}.` : "Do not retry: it would fail again, or could be billed twice.";
  const title = [error.status, error.reason].filter(Boolean).join(" \u00b7 ");
  byId("fault").replaceChildren(
    make("strong", {}, title), make("span", {}, error.message), make("span", { class: "muted" }, hint),
    ...(error.id ? [make("span", { class: "muted mono" }, `request ${error.id}`)] : []));
  byId("fault").hidden = false;
  setBadge("progress", "failed", "bad");
}

function showSummary(run) {
  const usage = run.usage ?? {};
  const total = (run.endedMs - run.startedMs) / 1000;
  const generation = (run.endedMs - run.firstMs) / 1000;
  const facts = [["Total time", seconds(total)]];
  if (run.firstMs) facts.unshift(["First token", seconds((run.firstMs - run.startedMs) / 1000)]);
  if (usage.prompt_tokens !== undefined) facts.push(["Tokens in", integer.format(usage.prompt_tokens)]);
  if (usage.completion_tokens !== undefined) {
    facts.push(["Tokens out", integer.format(usage.completion_tokens)]);
    if (generation > 0) facts.push(["Speed", `${(usage.completion_tokens / generation).toFixed(1)} tokens/s`]);
  }
  const reasoning = usage.completion_tokens_details?.reasoning_tokens;
  if (reasoning) facts.push(["Thinking", `${integer.format(reasoning)} tokens`]);
  if (usage.cost !== undefined) facts.push(["Cost", dollars(usage.cost)]);
  if (run.finish) facts.push(["Finish", run.finish]);
  byId("facts").replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  byId("facts").hidden = false;
}

function applyChunk(chunk, run) {
  if (chunk.model && !run.model) {
    run.model = chunk.model;
    setText("served", chunk.model);
  }
  if (chunk.usage) run.usage = chunk.usage;
  const choice = chunk.choices?.[0];
  if (!choice) return;
  const reasoning = choice.delta?.reasoning ?? choice.delta?.reasoning_content;
  if (reasoning || choice.delta?.content) run.firstMs ||= performance.now();
  if (reasoning) {
    byId("thinking").hidden = false;
    appendText("thoughts", reasoning);
  }
  if (choice.delta?.content) {
    if (!byId("answer").firstChild && !byId("thinking").hidden) byId("thinking").open = false;
    appendText("answer", choice.delta.content);
  }
  if (choice.finish_reason) run.finish = choice.finish_reason;
}

async function readStream(response, run) {
  for await (const event of readEvents(response.body)) {
    if (event.startsWith(": ")) {
      appendText("remark", event.slice(2) + " ");
      byId("remark").hidden = false;
    } else if (event === "data: [DONE]") {
      return;
    } else if (event.startsWith("data: ")) {
      const chunk = JSON.parse(event.slice(6));
      if (chunk.error) throw { status: "", reason: (chunk.error.code ?? "").toUpperCase(), message: chunk.error.message, retry: false, id: response.headers.get("x-request-id") };
      applyChunk(chunk, run);
    }
  }
  throw { status: "", reason: "INCOMPLETE STREAM", message: "The stream ended before it was complete.", retry: false, id: response.headers.get("x-request-id") };
}

async function submit(event) {
  event.preventDefault();
  if (running) return;
  saveKey();
  running = new AbortController();
  const run = { startedMs: performance.now(), firstMs: 0 };
  clearOutcome();
  setBusy(true);
  setBadge("progress", "streaming", "");
  try {
    const headers = withKey({ "content-type": "application/json" });
    const response = await fetch("v1/chat/completions", { method: "POST", headers, body: JSON.stringify(requestBody()), signal: running.signal });
    if (!response.ok) throw await errorOf(response);
    await readStream(response, run);
    setBadge("progress", "complete", "good");
  } catch (error) {
    if (running.signal.aborted) setBadge("progress", "stopped: the answer is incomplete", "warn");
    else showError(error.reason ? error : { status: "", reason: "NO CONNECTION", message: "The service cannot be reached, or the connection was lost.", retry: true });
  } finally {
    run.endedMs = performance.now();
    if (run.firstMs) showSummary(run);
    running = null;
    setBusy(false);
  }
}

function setBusy(now) {
  byId("answer").setAttribute("aria-busy", String(now));
  byId("send").disabled = now;
  byId("stop").disabled = !now;
  /* Do not take the focus from a field that is being edited. */
  if (now) byId("stop").focus({ preventScroll: true });
  else if ([document.body, byId("stop")].includes(document.activeElement)) byId("send").focus({ preventScroll: true });
}

byId("ask").addEventListener("submit", submit);
byId("stop").addEventListener("click", () => running?.abort());
byId("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("ask").requestSubmit();
});

loadModels();
pollStats();
