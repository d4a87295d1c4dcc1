"use strict";

const byId = (id) => document.getElementById(id);
const integer = new Intl.NumberFormat("en");

/* Adds every text as a text node: nothing is ever parsed as markup. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function setText(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

function setBadge(id, word, tone) {
  setText(id, word);
  byId(id).className = tone ? `badge ${tone}` : "badge";
}

/* The key is kept in the session storage of this tab only. */
const KEY = "togetherchat-key";
byId("key").value = sessionStorage.getItem(KEY) ?? "";

function saveKey() {
  const key = byId("key").value.trim();
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

function withKey(headers = {}) {
  const key = byId("key").value.trim();
  return key ? { ...headers, authorization: `Bearer ${key}` } : headers;
}

/* Reads an error response of the service. */
async function errorOf(response) {
  const body = await response.json().catch(() => ({}));
  const headers = response.headers;
  return {
    status: response.status,
    reason: headers.get("x-error-reason") ?? body.error?.code ?? "",
    message: body.error?.message ?? response.statusText,
    retry: headers.get("x-should-retry") === "true",
    waitMs: Number(headers.get("retry-after-ms")) || Number(headers.get("retry-after")) * 1000 || 0,
    id: headers.get("x-request-id") ?? "",
  };
}

function seconds(value) {
  if (value === null || value === undefined) return "\u2013";
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(value < 10 ? 2 : 1)} s`;
}

function ago(value) {
  if (value < 90) return `${Math.round(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return value < 172800 ? `${Math.round(value / 3600)} h` : `${Math.round(value / 86400)} days`;
}

function dollars(value) {
  if (value === 0 || value >= 1) return `$${value.toFixed(2)}`;
  return `$${Number(value.toPrecision(3)).toFixed(9).replace(/0+$/, "").padEnd(4, "0")}`;
}

const sum = (values) => values.reduce((all, one) => all + one, 0);
