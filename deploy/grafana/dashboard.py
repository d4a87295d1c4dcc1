"""Generates the Grafana dashboard from a table: `python deploy/grafana/dashboard.py > togetherchat.json`.

A panel is a title, a unit, and queries with their legends; everything else that Grafana needs
follows from the kind of panel. `make generate` writes the file. Tests check that the file is up to
date, and every metric and label in it against what the server exports.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Json = dict[str, object]
WIDTH: Final = 24
SOURCE: Final[Json] = {"type": "prometheus", "uid": "${source}"}
SELECTED: Final = 'job=~"$job", instance=~"$instance"'
MODEL: Final = f'{SELECTED}, model=~"$model"'
SUCCEEDED: Final = f'{SELECTED}, reason="none"'
API_KEY_EXPIRY: Final = "togetherchat_api_key_not_after_timestamp_seconds"
CERTIFICATE_EXPIRY: Final = "togetherchat_tls_certificate_not_after_timestamp_seconds"
TENANT: Final = f'{MODEL}, tenant=~"$tenant"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel. `queries` are expressions with their legends; the grid has 24 columns."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    description: str = ""
    kind: Literal["timeseries", "stat"] = "timeseries"
    width: int = 8
    stacked: bool = False


def rate(metric: str, labels: str = SELECTED, *, by: str = "") -> str:
    """Sum of the rates per second."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{labels}}}[$__rate_interval]))"


def quantiles(metric: str, labels: str = MODEL) -> tuple[tuple[str, str], ...]:
    return tuple((quantile(q, metric, labels), f"{q:.0%}") for q in (0.5, 0.95, 0.99))


def quantile(q: float, metric: str, labels: str = MODEL, *, by: str = "le") -> str:
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', labels, by=by)})"


def ratio(part: str, total: str) -> str:
    return f"{part} / {total}"


def smallest(metric: str) -> str:
    """The smallest value of each instance."""
    return f"min by (instance) ({metric}{{{SELECTED}}})"


def largest(metric: str) -> str:
    """The largest value of each instance."""
    return f"max by (instance) ({metric}{{{SELECTED}}})"


def limit(name: str) -> str:
    """The provider's latest value of a rate limit, by model."""
    return f'max by (model) (togetherchat_upstream_rate_limit{{{MODEL}, limit="{name}"}})'


def current(metric: str, labels: str = SELECTED, *, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} ({metric}{{{labels}}})"


ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "Now",
        (
            Panel(
                title="Calls",
                kind="stat",
                width=4,
                unit="reqps",
                queries=((rate("togetherchat_calls_total"), "calls"),),
            ),
            Panel(
                title="Success rate",
                kind="stat",
                width=4,
                unit="percentunit",
                description="Of all calls. Failures caused by the caller count as failures, too.",
                queries=(
                    (
                        ratio(rate("togetherchat_calls_total", SUCCEEDED), rate("togetherchat_calls_total")),
                        "successful",
                    ),
                ),
            ),
            Panel(
                title="Time to first token, p95",
                kind="stat",
                width=4,
                unit="s",
                queries=((quantile(0.95, "togetherchat_time_to_first_token_seconds"), "95%"),),
            ),
            Panel(
                title="Output tokens",
                kind="stat",
                width=4,
                unit="short",
                queries=((rate("togetherchat_tokens_total", TENANT + ', kind="output"'), "tokens/s"),),
            ),
            Panel(
                title="Cost",
                kind="stat",
                width=4,
                unit="currencyUSD",
                description="Per hour, at the current rate. Models without a known price count as free.",
                queries=((f"3600 * {rate('togetherchat_cost_usd_total', TENANT)}", "per hour"),),
            ),
            Panel(
                title="Permits in use",
                kind="stat",
                width=4,
                unit="percentunit",
                queries=(
                    (
                        ratio(
                            current("togetherchat_calls_in_flight"),
                            current("togetherchat_max_concurrent_calls"),
                        ),
                        "in use",
                    ),
                ),
            ),
        ),
    ),
    (
        "Calls",
        (
            Panel(
                title="Calls by code",
                unit="reqps",
                stacked=True,
                queries=((rate("togetherchat_calls_total", by="protocol, code"), "{{protocol}} {{code}}"),),
            ),
            Panel(
                title="Failures by reason",
                unit="reqps",
                stacked=True,
                description="The reasons of the error table in the README.",
                queries=(
                    (
                        rate("togetherchat_calls_total", SELECTED + ', reason!="none"', by="reason"),
                        "{{reason}}",
                    ),
                ),
            ),
            Panel(
                title="Duration of successful calls",
                unit="s",
                queries=quantiles("togetherchat_call_duration_seconds", MODEL + ', outcome="ok"'),
            ),
        ),
    ),
    (
        "Latency",
        (
            Panel(
                title="Time to first token",
                unit="s",
                queries=quantiles("togetherchat_time_to_first_token_seconds"),
            ),
            Panel(
                title="Time per output token",
                unit="s",
                description="The mean of each completed stream, after its first token.",
                queries=quantiles("togetherchat_time_per_output_token_seconds"),
            ),
            Panel(
                title="Time to first token by model, p95",
                unit="s",
                queries=(
                    (quantile(0.95, "togetherchat_time_to_first_token_seconds", by="le, model"), "{{model}}"),
                ),
            ),
        ),
    ),
    (
        "Tenants and models",
        (
            Panel(
                title="Tokens by model",
                unit="short",
                stacked=True,
                queries=(
                    (rate("togetherchat_tokens_total", TENANT, by="model, kind"), "{{model}} {{kind}}"),
                ),
            ),
            Panel(
                title="Cost by tenant, per hour",
                unit="currencyUSD",
                stacked=True,
                queries=(
                    (f"3600 * {rate('togetherchat_cost_usd_total', TENANT, by='tenant')}", "{{tenant}}"),
                ),
            ),
            Panel(
                title="Calls by tenant",
                unit="reqps",
                stacked=True,
                queries=((rate("togetherchat_tenant_calls_total", TENANT, by="tenant"), "{{tenant}}"),),
            ),
        ),
    ),
    (
        "Provider",
        (
            Panel(
                title="Attempts and retries",
                unit="reqps",
                queries=(
                    (rate("togetherchat_upstream_attempts_total", MODEL), "attempts"),
                    (rate("togetherchat_upstream_retries_total", MODEL), "retries and fallbacks"),
                ),
            ),
            Panel(
                title="Retry budget and adaptive throttle",
                unit="short",
                queries=(
                    (current("togetherchat_retry_budget_left"), "retries left"),
                    (current("togetherchat_adaptive_throttles", by="state"), "pairs {{state}}"),
                ),
            ),
            Panel(
                title="Rate limit left",
                unit="percentunit",
                description="Requests left of the provider's limit for the service's own key.",
                queries=((ratio(limit("ratelimit-remaining"), limit("ratelimit-limit")), "{{model}}"),),
            ),
        ),
    ),
    (
        "Service",
        (
            Panel(
                title="Concurrent calls",
                unit="short",
                width=6,
                queries=(
                    (current("togetherchat_calls_in_flight"), "in flight"),
                    (current("togetherchat_calls_queued"), "queued"),
                    (current("togetherchat_max_concurrent_calls"), "limit"),
                ),
            ),
            Panel(
                title="Calls rejected by admission control",
                unit="reqps",
                width=6,
                queries=((rate("togetherchat_admission_rejected_total", by="reason"), "{{reason}}"),),
            ),
            Panel(
                title="Wait in the admission queue",
                unit="s",
                width=6,
                queries=quantiles("togetherchat_call_queue_wait_seconds", SELECTED),
            ),
            Panel(
                title="Connections to the provider",
                unit="short",
                width=6,
                stacked=True,
                queries=((current("togetherchat_upstream_connections", by="state"), "{{state}}"),),
            ),
            Panel(
                title="Event loop lag, p99",
                unit="s",
                width=6,
                description="More than a few milliseconds: add CPU.",
                queries=(
                    (
                        quantile(0.99, "togetherchat_event_loop_lag_seconds", SELECTED, by="le, instance"),
                        "{{instance}}",
                    ),
                ),
            ),
            Panel(
                title="CPU",
                unit="short",
                width=6,
                description="Cores in use.",
                queries=((rate("process_cpu_seconds_total", by="instance"), "{{instance}}"),),
            ),
            Panel(
                title="Memory",
                unit="bytes",
                width=6,
                queries=((current("process_resident_memory_bytes", by="instance"), "{{instance}}"),),
            ),
            Panel(
                title="Worker restarts, log lines dropped",
                unit="short",
                width=6,
                queries=(
                    (
                        f"sum(increase(togetherchat_worker_restarts_total{{{SELECTED}}}[$__rate_interval]))",
                        "workers",
                    ),
                    (
                        f"sum(increase(togetherchat_log_lines_dropped_total{{{SELECTED}}}[$__rate_interval]))",
                        "lines",
                    ),
                ),
            ),
        ),
    ),
    (
        "Dependencies",
        (
            Panel(
                title="Validity left of TLS certificate and API keys",
                unit="d",
                description="Time until the served certificate expires, and the first API key in use.",
                queries=(
                    (f"({smallest(CERTIFICATE_EXPIRY)} - time()) / 86400", "certificate {{instance}}"),
                    # A key that does not expire is infinite, which a graph cannot show.
                    (f"(({smallest(API_KEY_EXPIRY)} < +Inf) - time()) / 86400", "keys {{instance}}"),
                ),
            ),
            Panel(
                title="Redis and JWKS up",
                unit="short",
                description="1 while the Redis of the quotas answers; at 0 each replica counts alone. "
                "1 while the public keys of JWTs can be fetched; at 0 the last good keys are in use.",
                queries=(
                    (smallest("togetherchat_redis_up"), "Redis {{instance}}"),
                    (smallest("togetherchat_jwks_up"), "JWKS {{instance}}"),
                ),
            ),
            Panel(
                title="Budgets: part used",
                unit="percentunit",
                description="Spent and reserved, as of each tenant's last attempt in the day or month (UTC).",
                queries=(
                    (
                        "max by (tenant, period) (togetherchat_tenant_budget_used_ratio)",
                        "{{tenant}} per {{period}}",
                    ),
                ),
            ),
            Panel(
                title="Usage ledger: rows written, waiting and lost",
                unit="short",
                description="Rows per second, and rows that wait in files while the database is away.",
                queries=(
                    (rate("togetherchat_usage_ledger_rows_total"), "written per second"),
                    (current("togetherchat_usage_ledger_spilled_rows"), "waiting"),
                    (rate("togetherchat_usage_ledger_lost_rows_total", by="cause"), "lost: {{cause}}"),
                ),
            ),
            Panel(
                title="Usage ledger: age of the oldest row that waits",
                unit="s",
                description="About a second is normal.",
                queries=((largest("togetherchat_usage_ledger_lag_seconds"), "{{instance}}"),),
            ),
            Panel(
                title="Spans",
                unit="short",
                description="Made, exported, and lost because the collector accepts none.",
                queries=((rate("togetherchat_trace_spans_total", by="state"), "{{state}}"),),
            ),
        ),
    ),
)


def dashboard() -> Json:
    """The document that Grafana imports."""
    return {
        "title": "togetherchat",
        "uid": "togetherchat",
        "description": "Calls, latency, cost, the provider and the service itself.",
        "tags": ["togetherchat", "llm"],
        "editable": True,
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }


def _variables() -> Iterator[Json]:
    yield {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"}
    for name, metric in (
        ("job", "togetherchat_build_info"),
        ("instance", 'togetherchat_build_info{job=~"$job"}'),
        ("model", "togetherchat_tenant_calls_total"),
        ("tenant", "togetherchat_tenant_calls_total"),
    ):
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": f"label_values({metric}, {name})", "refId": name},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        }


def _panels() -> Iterator[Json]:
    number, top = 1, 0
    for title, panels in ROWS:
        position: Json = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": position,
        }
        number, top, left = number + 1, top + 1, 0
        height = 4 if panels[0].kind == "stat" else 8
        for panel in panels:
            if left + panel.width > WIDTH:
                left, top = 0, top + height
            yield _panel(panel, number, {"x": left, "y": top, "w": panel.width, "h": height})
            number, left = number + 1, left + panel.width
        top += height


def _panel(panel: Panel, number: int, position: Json) -> Json:
    targets = [
        {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
        for index, (expression, legend) in enumerate(panel.queries)
    ]
    custom = {
        "fillOpacity": 20 if panel.stacked else 0,
        "stacking": {"mode": "normal" if panel.stacked else "none"},
    }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": position,
        "targets": targets,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                **({"custom": custom} if panel.kind == "timeseries" else {}),
            },
            "overrides": [],
        },
        "options": {"graphMode": "area"}
        if panel.kind == "stat"
        else {"tooltip": {"mode": "multi", "sort": "desc"}},
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=2) + "\n")
