"""The dashboard for Grafana, as a table of panels: `python deploy/grafana/dashboard.py > togetherchat.json`.

A row of the table is a title, a unit, and the queries with their legends. Everything else that
Grafana wants to be told follows from the kind of panel. `make generate` writes the file, a test
holds it to what this writes, and every metric and label in it to what the server exports.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Json = dict[str, object]
WIDTH: Final = 24
SOURCE: Final[Json] = {"type": "prometheus", "uid": "${source}"}
HERE: Final = 'job=~"$job", instance=~"$instance"'
MODEL: Final = f'{HERE}, model=~"$model"'
ANSWERED: Final = f'{HERE}, reason="none"'
TENANT: Final = f'{MODEL}, tenant=~"$tenant"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture. `queries` are expressions with their legends; `width` of 24."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    about: str = ""
    kind: Literal["timeseries", "stat"] = "timeseries"
    width: int = 8
    stacked: bool = False


def rate(metric: str, labels: str = HERE, *, by: str = "") -> str:
    """Per second, summed."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{labels}}}[$__rate_interval]))"


def quantiles(metric: str, labels: str = MODEL) -> tuple[tuple[str, str], ...]:
    return tuple((quantile(q, metric, labels), f"{q:.0%}") for q in (0.5, 0.95, 0.99))


def quantile(q: float, metric: str, labels: str = MODEL, *, by: str = "le") -> str:
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', labels, by=by)})"


def ratio(part: str, whole: str) -> str:
    return f"{part} / {whole}"


def limit(name: str) -> str:
    """The provider's last word, by model."""
    return f'max by (model) (togetherchat_upstream_rate_limit{{{MODEL}, limit="{name}"}})'


def now(metric: str, labels: str = HERE, *, by: str = "") -> str:
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
                title="Answered",
                kind="stat",
                width=4,
                unit="percentunit",
                about="Of all calls; those that failed by their caller's fault count as not answered.",
                queries=(
                    (
                        ratio(rate("togetherchat_calls_total", ANSWERED), rate("togetherchat_calls_total")),
                        "answered",
                    ),
                ),
            ),
            Panel(
                title="First token, 95 %",
                kind="stat",
                width=4,
                unit="s",
                queries=((quantile(0.95, "togetherchat_time_to_first_token_seconds"), "95%"),),
            ),
            Panel(
                title="Tokens made",
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
                about="In an hour, at the pace of now. Models without a known price cost nothing here.",
                queries=((f"3600 * {rate('togetherchat_cost_usd_total', TENANT)}", "an hour"),),
            ),
            Panel(
                title="Places taken",
                kind="stat",
                width=4,
                unit="percentunit",
                queries=(
                    (
                        f"{now('togetherchat_calls_in_flight')} / {now('togetherchat_max_concurrent_calls')}",
                        "taken",
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
                about="The kinds of failure of the error table in the README.",
                queries=(
                    (rate("togetherchat_calls_total", HERE + ', reason!="none"', by="reason"), "{{reason}}"),
                ),
            ),
            Panel(
                title="Duration of answered calls",
                unit="s",
                queries=quantiles("togetherchat_call_duration_seconds", MODEL + ', outcome="ok"'),
            ),
        ),
    ),
    (
        "Answers",
        (
            Panel(
                title="First token", unit="s", queries=quantiles("togetherchat_time_to_first_token_seconds")
            ),
            Panel(
                title="Time per token after the first",
                unit="s",
                about="The mean of each streamed answer.",
                queries=quantiles("togetherchat_time_per_output_token_seconds"),
            ),
            Panel(
                title="First token by model, 95 %",
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
                title="Cost by tenant, in an hour",
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
        "The provider",
        (
            Panel(
                title="Attempts and retries",
                unit="reqps",
                queries=(
                    (rate("togetherchat_upstream_attempts_total", MODEL), "attempts"),
                    (rate("togetherchat_upstream_retries_total", MODEL), "after the first"),
                ),
            ),
            Panel(
                title="Retry budget and breaker",
                unit="short",
                queries=(
                    (now("togetherchat_retry_budget_left"), "retries left"),
                    (now("togetherchat_adaptive_throttles", by="state"), "pairs {{state}}"),
                ),
            ),
            Panel(
                title="Requests left",
                unit="percentunit",
                about="Of the provider's limit on the service's own key, as its headers last said.",
                queries=((ratio(limit("ratelimit-remaining"), limit("ratelimit-limit")), "{{model}}"),),
            ),
        ),
    ),
    (
        "The service",
        (
            Panel(
                title="Places",
                unit="short",
                width=6,
                queries=(
                    (now("togetherchat_calls_in_flight"), "in flight"),
                    (now("togetherchat_calls_queued"), "waiting"),
                    (now("togetherchat_max_concurrent_calls"), "places"),
                ),
            ),
            Panel(
                title="Refused a place",
                unit="reqps",
                width=6,
                queries=((rate("togetherchat_admission_rejected_total", by="reason"), "{{reason}}"),),
            ),
            Panel(
                title="Waited for a place",
                unit="s",
                width=6,
                queries=quantiles("togetherchat_call_queue_wait_seconds", HERE),
            ),
            Panel(
                title="Connections to the provider",
                unit="short",
                width=6,
                stacked=True,
                queries=((now("togetherchat_upstream_connections", by="state"), "{{state}}"),),
            ),
            Panel(
                title="Loop lag, 99 %",
                unit="s",
                width=6,
                about="How late everything is. More than a few milliseconds: more CPU is wanted.",
                queries=(
                    (
                        quantile(0.99, "togetherchat_event_loop_lag_seconds", HERE, by="le, instance"),
                        "{{instance}}",
                    ),
                ),
            ),
            Panel(
                title="CPU",
                unit="short",
                width=6,
                about="Cores in use.",
                queries=((rate("process_cpu_seconds_total", by="instance"), "{{instance}}"),),
            ),
            Panel(
                title="Memory",
                unit="bytes",
                width=6,
                queries=((now("process_resident_memory_bytes", by="instance"), "{{instance}}"),),
            ),
            Panel(
                title="Workers lost, log lines lost",
                unit="short",
                width=6,
                queries=(
                    (
                        f"sum(increase(togetherchat_worker_restarts_total{{{HERE}}}[$__rate_interval]))",
                        "workers",
                    ),
                    (
                        f"sum(increase(togetherchat_log_lines_dropped_total{{{HERE}}}[$__rate_interval]))",
                        "lines",
                    ),
                ),
            ),
        ),
    ),
    (
        "What it leans on",
        (
            Panel(
                title="Certificate left",
                unit="d",
                about="Until the certificate that callers are shown is no longer valid.",
                queries=(
                    (
                        f"min by (instance) (togetherchat_tls_certificate_left_seconds{{{HERE}}}) / 86400",
                        "{{instance}}",
                    ),
                ),
            ),
            Panel(
                title="Counting apart from Redis",
                unit="short",
                about="Processes that hold tenants' limits by their own count, since Redis does not answer.",
                queries=((now("togetherchat_quota_redis_away"), "processes"),),
            ),
            Panel(
                title="Spans",
                unit="short",
                about="Made, sent, and given up because the collector takes none.",
                queries=((rate("togetherchat_trace_spans_total", by="state"), "{{state}}"),),
            ),
        ),
    ),
)


def dashboard() -> Json:
    """What Grafana imports."""
    return {
        "title": "togetherchat",
        "uid": "togetherchat",
        "description": "Calls, answers, cost, the provider and the service itself.",
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
        place: Json = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": place,
        }
        number, top, left = number + 1, top + 1, 0
        height = 4 if panels[0].kind == "stat" else 8
        for panel in panels:
            if left + panel.width > WIDTH:
                left, top = 0, top + height
            yield _panel(panel, number, {"x": left, "y": top, "w": panel.width, "h": height})
            number, left = number + 1, left + panel.width
        top += height


def _panel(panel: Panel, number: int, place: Json) -> Json:
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
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
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
