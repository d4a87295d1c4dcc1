
/* Tiles, budgets and tables. */
const CALLERS_MAX = 10;
const MODELS_MAX = 12;
const PER = { budget_usd_per_day: "per day", budget_usd_per_month: "per month" };
const MINUTE_MS = 60_000;

function drawTiles(total) {
  const cost = total.cost_nano_usd / NANO;
  setText("cost", money(cost));
  const estimated = total.estimated_cost_nano_usd / NANO;
  setText("cost-rest", estimated > 0 ? `${money(estimated)} of it (${percent(estimated / cost)}) estimated` : "nothing estimated");
  setText("calls", integer.format(total.calls));
  setText("calls-rest", total.calls ? `${integer.format(total.failed_calls)} failed \u00b7 ${percent(total.failed_calls / total.calls)}` : "");
  byId("tokens").replaceChildren(compact.format(total.input_tokens + total.output_tokens));
  const cached = total.cached_tokens ? ` (${percent(total.cached_tokens / total.input_tokens)} cached)` : "";
  setText("tokens-rest", `${compact.format(total.input_tokens)} in${cached}, ${compact.format(total.output_tokens)} out`);
  byId("latency").replaceChildren(milliseconds(total.first_token_ms.p50), make("small", {}, " median"));
  setText("latency-rest", `p95 ${milliseconds(total.first_token_ms.p95)} \u00b7 whole call ${milliseconds(total.duration_ms.p50)}, p95 ${milliseconds(total.duration_ms.p95)}`);
}

function milliseconds(value) {
  return value === null || value === undefined ? "\u2013" : seconds(value / 1000);
}

function drawRemark(report) {
  const remarks = [];
  const { total } = report;
  if (total.unpriced_calls === 1) remarks.push("1 call is not in the cost: its model has no known price.");
  else if (total.unpriced_calls) remarks.push(`${integer.format(total.unpriced_calls)} calls are not in the cost: their models have no known price.`);
  if (report.next_page) remarks.push("The chart has the first 50,000 sums only: choose a shorter period, or a filter. The totals are complete.");
  showRemark(remarks.join(" "));
}

function showRemark(text) {
  setText("remark", text);
  byId("remark").hidden = !text;
}

function cell(label, classes, ...children) {
  const made = make("td", { role: "cell", class: classes }, ...children);
  made.dataset.label = label;
  return made;
}

/* Returns a bar of one or two lengths from 0 to 1. */
function track(...lengths) {
  const parts = lengths.map((length, index) => {
    const part = make("i", { class: lengths.length > 1 && index === 0 ? "late" : "" });
    part.style.width = `${Math.min(1, length) * 100}%`;
    return part;
  });
  return make("span", { class: "track", "aria-hidden": "true" }, ...parts);
}

function drawCallers(report) {
  const whole = report.total.cost_nano_usd;
  const largest = Math.max(1, ...report.rows.map((row) => row.cost_nano_usd));
  const rows = report.rows.map((row) => {
    const share = whole ? row.cost_nano_usd / whole : 0;
    const places = [row.tenant, row.user && row.key ? row.key : ""].filter(Boolean).join(" \u00b7 ");
    const name = row.user || row.key || "(no key and no user)";
    const about = row.estimated_cost_nano_usd ? [make("span", { class: "sub" }, `${percent(row.estimated_cost_nano_usd / (row.cost_nano_usd || 1))} est.`)] : [];
    return make("tr", { role: "row" },
      cell("Caller", "", make("span", { class: "who", title: name }, name), make("span", { class: "sub" }, places)),
      cell("Calls", "right number", integer.format(row.calls)),
      cell("Tokens", "right number", compact.format(row.input_tokens + row.output_tokens)),
      cell("Cost", "right number", money(row.cost_nano_usd / NANO), ...about),
      cell("Share", "number", percent(share), track(row.cost_nano_usd / largest)));
  });
  byId("callers").replaceChildren(...rows);
}

function drawLatencies(report) {
  const byCalls = [...report.rows].sort((one, other) => other.calls - one.calls);
  const shown = byCalls.slice(0, MODELS_MAX);
  const largest = Math.max(1, ...shown.map((row) => row.duration_ms.p95 ?? 0));
  byId("latencies").replaceChildren(...shown.map((row) => make("tr", { role: "row" },
    cell("Model", "", make("span", { class: "who" }, named(row.model, "model")), track((row.duration_ms.p95 ?? 0) / largest, (row.duration_ms.p50 ?? 0) / largest)),
    cell("Calls", "right number", compact.format(row.calls)),
    cell("First token", "right number", milliseconds(row.first_token_ms.p50), make("span", { class: "sub" }, `p95 ${milliseconds(row.first_token_ms.p95)}`)),
    cell("Whole call", "right number", milliseconds(row.duration_ms.p50), make("span", { class: "sub" }, `p95 ${milliseconds(row.duration_ms.p95)}`)))));
}

function untilText(time) {
  const minutes = Math.max(1, Math.round((Date.parse(time) - Date.now()) / MINUTE_MS));
  return ago(minutes * 60);
}

function budgetItem(quota) {
  const [limit, used, reserved] = [quota.limit, quota.used, quota.reserved].map((amount) => amount / NANO);
  const share = limit ? used / limit : 1;
  const [tone, word] = quota.left <= 0 ? ["bad", "used up"]
    : quota.soft_limit !== null && quota.used + quota.reserved >= quota.soft_limit ? ["warn", "over the soft limit"] : ["", ""];
  const bar = (kind, start, length) => {
    const part = make("i", { class: kind });
    part.style.left = `${Math.min(1, start) * 100}%`;
    if (kind !== "soft") part.style.width = `${Math.max(0, Math.min(1 - Math.min(1, start), length)) * 100}%`;
    return part;
  };
  const period = PER[quota.metric];
  const text = `${money(used)} of ${money(limit)}`;
  const soft = quota.soft_limit === null ? [] : [bar("soft", limit ? quota.soft_limit / quota.limit : 0, 0)];
  const rest = [`${money(quota.left / NANO)} left`];
  if (reserved > 0) rest.push(`${money(reserved)} reserved`);
  if (quota.reset_time) rest.push(`resets in ${untilText(quota.reset_time)}`);
  return make("div", { class: `budget ${tone}` },
    make("div", { class: "line" }, make("span", { class: "who" }, named(quota.tenant, "tenant"), make("small", {}, ` ${period}`)), make("span", { class: "number" }, text)),
    make("div", { class: "meter", role: "meter", "aria-label": `Budget of ${named(quota.tenant, "tenant")} ${period}`, "aria-valuemin": "0", "aria-valuemax": String(limit), "aria-valuenow": String(Math.min(used, limit)), "aria-valuetext": `${text}${word ? `, ${word}` : ""}` },
      bar("used", 0, share), ...(reserved > 0 ? [bar("reserved", share, limit ? reserved / limit : 0)] : []), ...soft),
    make("div", { class: "sub" }, ...(word ? [make("span", { class: "state" }, `${percent(share)} used, ${word}`)] : [`${percent(share)} used`]), ` \u00b7 ${rest.join(" \u00b7 ")}`));
}

/* `quotas` is null where no tenant has limits. */
function drawBudgets(quotas, problem) {
  const share = (quota) => (quota.used + quota.reserved) / (quota.limit || 1);
  const budgets = (quotas ?? []).filter((quota) => quota.metric in PER).sort((one, other) => share(other) - share(one));
  setText("budgets-count", budgets.length ? "used in the current day and month" : "");
  byId("budgets-marks").hidden = budgets.length === 0;
  const message = problem || "No tenant that you may see has a budget.";
  byId("budgets").replaceChildren(...(budgets.length ? budgets.map(budgetItem) : [make("p", { class: "muted" }, message)]));
}
