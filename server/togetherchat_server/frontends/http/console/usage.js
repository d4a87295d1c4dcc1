
/* Loads the report that is chosen, and keeps the choice in the address, so that it can be shared. */
const PAGES_MAX = 5;
const CSV_PAGES_MAX = 50;
const NOTICES = {
  401: ["A key is needed", "Enter an API key above. A key with the scope usage sees its own tenant; one with the scope admin sees all."],
  403: ["This key cannot read usage", "It needs the scope usage for its own tenant, or admin for all tenants."],
  501: ["Usage is not recorded", "The service has no usage ledger. Start it with one:", "togetherchat-server --usage-database sqlite:///usage.sqlite"],
};
const known = { tenant: new Set(), model: new Set() };
let loading = null;
let shownReport = null;

function dayText(offset, month = 0) {
  const now = new Date();
  return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + month, offset)).toISOString().slice(0, 10);
}

/* Periods begin with a whole hour or day of UTC, so that every bar but the last is complete. */
const PERIODS = {
  "24h": () => ({ since: `${new Date(Math.floor(Date.now() / HOUR_MS) * HOUR_MS - 23 * HOUR_MS).toISOString().slice(0, 19)}Z` }),
  "7d": () => ({ since: dayText(new Date().getUTCDate() - 6) }),
  "30d": () => ({ since: dayText(new Date().getUTCDate() - 29) }),
  month: () => ({ since: dayText(1) }),
  "last-month": () => ({ since: dayText(1, -1), until: dayText(1) }),
};

const unitOf = (period) => (period === "24h" ? "hour" : "day");

function choice() {
  const picked = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
  return { period: picked("period"), measure: picked("measure"), split: picked("split"), tenant: byId("tenant").value, model: byId("model").value };
}

function restoreChoice() {
  const saved = new URLSearchParams(location.hash.slice(1));
  for (const name of ["period", "measure", "split"]) {
    for (const input of document.querySelectorAll(`input[name="${name}"]`)) if (input.value === saved.get(name)) input.checked = true;
  }
  for (const name of ["tenant", "model"]) {
    if (saved.get(name)) known[name].add(saved.get(name));
    fillOptions(name, saved.get(name) ?? "");
  }
}

function saveChoice() {
  const { tenant, model, ...rest } = choice();
  const saved = new URLSearchParams({ ...rest, ...(tenant && { tenant }), ...(model && { model }) });
  history.replaceState(null, "", `#${saved}`);
}

function fillOptions(name, value = byId(name).value) {
  const names = [...known[name]].filter(Boolean).sort((one, other) => one.localeCompare(other, "en"));
  const all = name === "tenant" ? "All tenants" : "All models";
  byId(name).replaceChildren(make("option", { value: "" }, all), ...names.map((one) => make("option", { value: one }, one)));
  byId(name).value = value;
}

/* Returns the parameters of a report: the period and the filters that are chosen. */
function parameters(by, more = {}) {
  const { period, tenant, model } = choice();
  return new URLSearchParams({ ...PERIODS[period](), by, ...(tenant && { tenant }), ...(model && { model }), ...more });
}

async function getJson(path, signal) {
  const response = await fetch(path, { headers: withKey(), signal });
  if (!response.ok) throw await errorOf(response);
  return response.json();
}

/* The token of a page belongs to the query of the first page, and has its period: only `page` may change. */
async function getReport(by, more, signal, pagesMax = 1) {
  const query = parameters(by, more);
  const report = await getJson(`usage.json?${query}`, signal);
  for (let pages = 1; report.next_page && pages < pagesMax; pages += 1) {
    query.set("page", report.next_page);
    const next = await getJson(`usage.json?${query}`, signal);
    report.rows.push(...next.rows);
    report.next_page = next.next_page;
  }
  return report;
}

/* Budgets may be missing where there is usage: their failure is shown in their place. */
async function getQuotas(signal) {
  const { tenant } = choice();
  try {
    return { quotas: (await getJson(`quotas.json?${new URLSearchParams(tenant ? { tenant } : {})}`, signal)).quotas };
  } catch (error) {
    if (signal.aborted) throw error;
    return error.status === 501 ? { quotas: null } : { quotas: null, problem: `Budgets cannot be read: ${error.message}` };
  }
}

function showNotice(title, text, code = "", retry = false) {
  setText("notice-title", title);
  setText("notice-text", text);
  setText("notice-code", code);
  byId("notice-code").hidden = !code;
  byId("again").hidden = !retry;
  byId("notice").hidden = false;
}

function showFailure(error) {
  const [title, text, code] = NOTICES[error.status] ?? ["The report failed", error.status ? `${error.status} ${error.reason}: ${error.message}` : "The service cannot be reached."];
  shownReport = null;
  byId("report").hidden = true;
  byId("remark").hidden = true;
  showNotice(title, text, code, !(error.status in NOTICES));
  setBadge("link", title.toLowerCase(), error.status in NOTICES ? "warn" : "bad");
}

function showReport({ parts, callers, models, budgets }) {
  shownReport = parts;
  for (const row of parts.rows) if (known[parts.split]) known[parts.split].add(row[parts.split]);
  for (const row of callers.rows) known.tenant.add(row.tenant);
  for (const row of models.rows) known.model.add(row.model);
  for (const name of ["tenant", "model"]) fillOptions(name);
  const empty = parts.total.calls === 0;
  if (empty) showNotice("No calls in this period", choice().tenant || choice().model ? "None match these filters. Choose a longer period, or other filters." : "Choose a longer period, or make a call in the playground.");
  byId("notice").hidden = !empty;
  byId("report").hidden = false;
  for (const part of document.querySelectorAll(".tiles, .chart, .callers, .latencies")) part.hidden = empty;
  drawBudgets(budgets.quotas, budgets.problem);
  drawRemark(parts);
  if (empty) return;
  drawTiles(parts.total);
  drawChart(stacksOf(parts, { unit: parts.unit, split: parts.split, measure: choice().measure }));
  drawCallers(callers);
  drawLatencies(models);
}

async function load() {
  loading?.abort();
  const mine = new AbortController();
  loading = mine;
  saveChoice();
  const { period, split } = choice();
  const unit = unitOf(period);
  byId("csv").href = `usage.csv?${parameters(`${unit},tenant,model`)}`;
  byId("report").setAttribute("aria-busy", "true");
  if (!shownReport) showNotice("Loading", "The report is on its way.");
  setBadge("link", "loading", "");
  try {
    const [parts, callers, models, budgets] = await Promise.all([
      getReport(`${unit},${split}`, { limit: 10_000 }, mine.signal, PAGES_MAX),
      getReport("tenant,key,user", { limit: CALLERS_MAX }, mine.signal),
      getReport("model", { limit: 500 }, mine.signal),
      getQuotas(mine.signal),
    ]);
    showReport({ parts: Object.assign(parts, { unit, split }), callers, models, budgets });
    setBadge("link", `as of ${new Date().toISOString().slice(11, 16)} UTC`, "good");
  } catch (error) {
    if (mine.signal.aborted) return;
    mine.abort();
    showFailure(error);
  } finally {
    if (loading === mine) byId("report").removeAttribute("aria-busy");
  }
}

/* Links cannot send a key, so the file is requested, page by page, and then saved. */
async function saveCsv(event) {
  event.preventDefault();
  const { period } = choice();
  const query = parameters(`${unitOf(period)},tenant,model`);
  const pieces = [];
  let page = "";
  try {
    do {
      if (page) query.set("page", page);
      const response = await fetch(`usage.csv?${query}`, { headers: withKey() });
      if (!response.ok) throw await errorOf(response);
      const text = await response.text();
      pieces.push(page ? text.slice(text.indexOf("\r\n") + 2) : text);
      page = response.headers.get("x-next-page");
    } while (page && pieces.length < CSV_PAGES_MAX);
  } catch (error) {
    showRemark(`The file cannot be downloaded: ${error.message}`);
    return;
  }
  if (page) showRemark("The file is not complete: it has the first 500,000 lines. Choose a shorter period, or a filter.");
  const address = URL.createObjectURL(new Blob(pieces, { type: "text/csv" }));
  make("a", { href: address, download: `usage-${period}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), MINUTE_MS);
}

function changeKey(event) {
  event.preventDefault();
  saveKey();
  for (const names of Object.values(known)) names.clear();
  restoreChoice();
  load();
}

byId("key").addEventListener("change", changeKey);
byId("key-form").addEventListener("submit", changeKey);
byId("choices").addEventListener("change", load);
byId("choices").addEventListener("submit", (event) => event.preventDefault());
byId("switches").addEventListener("change", (event) => {
  if (event.target.name === "split" || !shownReport?.total.calls) return void load();
  saveChoice();
  drawChart(stacksOf(shownReport, { unit: shownReport.unit, split: shownReport.split, measure: choice().measure }));
});
byId("refresh").addEventListener("click", load);
byId("again").addEventListener("click", load);
byId("csv").addEventListener("click", saveCsv);
window.addEventListener("hashchange", () => { restoreChoice(); load(); });
for (const link of document.querySelectorAll("nav a")) if (link.getAttribute("href") === "usage") link.setAttribute("aria-current", "page");
restoreChoice();
load();
