
/* The chart: bars of one day or hour each, stacked by tenant or model. */
const SERIES_MAX = 7;
const RIGHT = 14;
const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const NANO = 1e9;
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const cents = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

const MEASURES = {
  cost: { name: "Cost", of: (row) => row.cost_nano_usd / NANO, text: money, axis: (value, step) => `$${value.toLocaleString("en", fractionsOf(step))}` },
  calls: { name: "Calls", of: (row) => row.calls, text: (value) => integer.format(value), axis: (value) => compact.format(value), whole: true },
  tokens: { name: "Tokens", of: (row) => row.input_tokens + row.output_tokens, text: (value) => compact.format(value), axis: (value) => compact.format(value), whole: true },
};

function money(value) {
  return value >= 0.1 ? `$${cents.format(value)}` : dollars(value);
}

/* Returns the fraction digits that the lines of the axis need. */
function fractionsOf(step) {
  const [factor, power] = step.toExponential(1).split("e").map(Number);
  const digits = Math.max(0, -power + (Number.isInteger(factor) ? 0 : 1));
  return { minimumFractionDigits: digits, maximumFractionDigits: digits };
}

function draw(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/* Returns the days or hours of a report, those without calls included. */
function bucketsOf(report, unit) {
  const step = unit === "hour" ? HOUR_MS : DAY_MS;
  const end = Date.parse(report.end_time);
  const buckets = [];
  for (let start = Math.floor(Date.parse(report.start_time) / step) * step; start < end; start += step) {
    const time = new Date(start).toISOString();
    buckets.push({ key: unit === "hour" ? `${time.slice(0, 19)}Z` : time.slice(0, 10), start, values: new Map(), estimated: 0 });
  }
  return buckets;
}

function timeText(start, unit, long) {
  const date = { timeZone: "UTC", month: "short", day: "numeric" };
  if (unit === "day") return new Date(start).toLocaleDateString("en", long ? { ...date, weekday: "short", year: "numeric" } : date);
  const hour = `${String(new Date(start).getUTCHours()).padStart(2, "0")}:00`;
  return long ? `${new Date(start).toLocaleDateString("en", date)}, ${hour} UTC` : hour;
}

/* Sums the rows by bucket and part. The parts with the largest sums keep their names; the rest are "others". */
function stacksOf(report, { unit, split, measure }) {
  const { of } = MEASURES[measure];
  const buckets = bucketsOf(report, unit);
  const byKey = new Map(buckets.map((bucket) => [bucket.key, bucket]));
  const totals = new Map();
  for (const row of report.rows) totals.set(row[split], (totals.get(row[split]) ?? 0) + of(row));
  const ranked = [...totals.keys()].sort((one, other) => totals.get(other) - totals.get(one) || (one < other ? -1 : 1));
  const shown = ranked.length > SERIES_MAX + 1 ? ranked.slice(0, SERIES_MAX) : ranked;
  const indexes = new Map(shown.map((name, index) => [name, index]));
  const series = shown.map((name, index) => ({ name: named(name, split), total: totals.get(name), style: index < SERIES_MAX ? `s${index}` : "s-others" }));
  const rest = ranked.slice(shown.length);
  if (rest.length) series.push({ name: `${rest.length} others`, total: sum(rest.map((name) => totals.get(name))), style: "s-others" });
  for (const row of report.rows) {
    const bucket = byKey.get(row[unit]);
    if (!bucket) continue;
    const index = indexes.get(row[split]) ?? shown.length;
    bucket.values.set(index, (bucket.values.get(index) ?? 0) + of(row));
    bucket.estimated += row.estimated_cost_nano_usd / NANO;
  }
  const hasSome = series.some((one) => one.total > 0);
  series.forEach((one) => { one.shown = one.total > 0 || !hasSome; });
  for (const bucket of buckets) bucket.total = sum([...bucket.values.values()]);
  return { buckets, series, unit, measure, whole: sum(series.map((one) => one.total)) };
}

function named(name, dimension) {
  return name || `(no ${dimension})`;
}

/* Returns a round distance for at most six lines. */
function stepOf(largest, whole) {
  const rough = largest / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough - 1e-12) * power;
  return whole ? Math.max(1, Math.ceil(step)) : step;
}

let chart = null;
let chosen = -1;

function drawChart(stacks) {
  chart = stacks;
  chosen = -1;
  byId("tip").hidden = true;
  const { name } = MEASURES[stacks.measure];
  setText("chart-title", `${name} per ${stacks.unit}`);
  drawPlot();
  drawLegend();
  drawFigures();
}

function drawPlot() {
  if (!chart) return;
  const plot = byId("bars");
  const { width, height } = plot.getBoundingClientRect();
  if (!width) return;
  const { buckets, series, unit } = chart;
  const measure = MEASURES[chart.measure];
  const largest = Math.max(...buckets.map((bucket) => bucket.total), 0) || 1;
  const step = stepOf(largest, measure.whole);
  const top = Math.ceil(largest / step - 1e-9) * step;
  const marks = Array.from({ length: Math.round(top / step) + 1 }, (_, index) => index * step);
  const texts = marks.map((value) => measure.axis(value, step));
  const left = Math.max(...texts.map((text) => text.length)) * 6.6 + 12;
  const [above, below] = [10, 24];
  const yOf = (value) => height - below - (value / top) * (height - above - below);
  const columnWidth = (width - left - RIGHT) / buckets.length;
  const barWidth = Math.max(1.5, Math.min(columnWidth * 0.72, 54));
  chart.place = { left, columnWidth, width };

  const lines = marks.flatMap((value, index) => [
    draw("line", { class: index ? "grid" : "base", x1: left, x2: width - RIGHT, y1: Math.round(yOf(value)) + 0.5, y2: Math.round(yOf(value)) + 0.5 }),
    draw("text", { x: left - 8, y: yOf(value) + 4, "text-anchor": "end" }, texts[index]),
  ]);
  const every = Math.ceil((unit === "hour" ? 44 : 52) / columnWidth);
  const columns = buckets.flatMap((bucket, index) => {
    const x = left + index * columnWidth;
    const parts = [draw("rect", { class: "hit", x, y: 0, width: columnWidth, height, "data-index": index })];
    let base = 0;
    series.forEach((one, part) => {
      const value = bucket.values.get(part) ?? 0;
      if (value <= 0) return;
      const y = yOf(base + value);
      parts.push(draw("rect", { class: `bar-part ${one.style}`, x: x + (columnWidth - barWidth) / 2, y, width: barWidth, height: Math.max(0.5, yOf(base) - y), rx: 1.5 }));
      base += value;
    });
    if ((buckets.length - 1 - index) % every === 0) {
      parts.push(draw("text", { x: x + columnWidth / 2, y: height - 7, "text-anchor": "middle" }, timeText(bucket.start, unit)));
    }
    return parts;
  });
  plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
  plot.replaceChildren(...lines, draw("rect", { class: "band", id: "band", x: 0, y: above - 6, width: columnWidth, height: height - above - below + 6, visibility: "hidden" }), ...columns);
}

function drawLegend() {
  const { text } = MEASURES[chart.measure];
  byId("legend").replaceChildren(...chart.series.filter((one) => one.shown).map((one) => make("li", {},
    make("span", { class: `swatch ${one.style}`, "aria-hidden": "true" }),
    make("span", { class: "name", title: one.name }, one.name),
    make("span", { class: "muted number" }, chart.whole ? `${text(one.total)} \u00b7 ${percent(one.total / chart.whole)}` : text(one.total)))));
}

function drawFigures() {
  const { text } = MEASURES[chart.measure];
  const shown = [...chart.series.entries()].filter(([, one]) => one.shown);
  const heads = [chart.unit === "hour" ? "Hour" : "Day", ...shown.map(([, one]) => one.name), "All"];
  const head = make("tr", {}, ...heads.map((name, index) => make("th", { scope: "col", class: index ? "right" : "", title: name }, name)));
  const rows = chart.buckets.map((bucket) => make("tr", {},
    make("td", {}, timeText(bucket.start, chart.unit, true)),
    ...shown.map(([index]) => make("td", { class: "right number" }, text(bucket.values.get(index) ?? 0))),
    make("td", { class: "right number" }, text(bucket.total))));
  byId("figures").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
}

function percent(part) {
  if (part > 0 && part < 0.001) return "< 0.1%";
  return `${(part * 100).toFixed(part < 0.1 ? 1 : 0)}%`;
}

/* Shows the values of one bar; -1 for none. */
function choose(index) {
  chosen = index;
  const band = byId("band");
  byId("tip").hidden = index < 0;
  band?.setAttribute("visibility", index < 0 ? "hidden" : "visible");
  if (index < 0) return;
  const { left, columnWidth, width } = chart.place;
  const bucket = chart.buckets[index];
  const { text } = MEASURES[chart.measure];
  const line = (style, name, value, kind = "") => make("div", { class: kind },
    ...(style ? [make("span", { class: `swatch ${style}`, "aria-hidden": "true" })] : []),
    make("span", { class: "name" }, name), make("span", { class: "number" }, value));
  const parts = chart.series.map((one, part) => [one, bucket.values.get(part) ?? 0]).filter(([, value]) => value > 0);
  const tip = byId("tip");
  tip.replaceChildren(make("b", {}, timeText(bucket.start, chart.unit, true)),
    ...parts.reverse().map(([one, value]) => line(one.style, one.name, text(value))),
    line("", "All", text(bucket.total), "whole"),
    ...(chart.measure === "cost" && bucket.estimated > 0 ? [line("", "of it estimated", money(bucket.estimated), "muted")] : []));
  const x = left + index * columnWidth;
  band.setAttribute("x", x);
  const beside = x + columnWidth + 8;
  const fits = beside + tip.offsetWidth < width;
  tip.style.left = `${Math.max(0, fits ? beside : Math.min(x - tip.offsetWidth - 8, width - tip.offsetWidth))}px`;
}

const KEYS = { ArrowLeft: (index) => index - 1, ArrowRight: (index) => index + 1, Home: () => 0, End: () => Infinity };

byId("plot").addEventListener("keydown", (event) => {
  if (!chart) return;
  if (event.key === "Escape") choose(-1);
  const move = KEYS[event.key];
  if (!move) return;
  event.preventDefault();
  const last = chart.buckets.length - 1;
  choose(Math.max(0, Math.min(last, move(chosen < 0 ? last + (event.key === "ArrowLeft" ? 1 : 0) : chosen))));
});
byId("plot").addEventListener("blur", () => choose(-1));
byId("plot").addEventListener("pointerleave", () => choose(-1));
for (const kind of ["pointermove", "pointerdown"]) {
  byId("bars").addEventListener(kind, (event) => {
    if (!chart?.place) return;
    const { left, columnWidth } = chart.place;
    const index = Math.floor((event.clientX - byId("bars").getBoundingClientRect().left - left) / columnWidth);
    const inside = index >= 0 && index < chart.buckets.length;
    if (index !== chosen) choose(inside ? index : -1);
  });
}
new ResizeObserver(() => { drawPlot(); choose(-1); }).observe(byId("bars"));
