"""The documentation, the dashboard and the alerts match the metrics and log fields of the code."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from support.records import Lines, record
from togetherchat_server.domain.reasons import Blame, Reason
from togetherchat_server.telemetry.call_record import CallRecord
from togetherchat_server.telemetry.log import UNLOGGED, CallLog
from togetherchat_server.telemetry.metrics.definitions import DEFINITIONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "observability.md").read_text("utf-8")
ALERTS = (ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text("utf-8")
ALERT_TESTS = (ROOT / "deploy" / "prometheus" / "alerts_test.yaml").read_text("utf-8")
DASHBOARD = ROOT / "deploy" / "grafana" / "togetherchat.json"
PARTS = ("_bucket", "_sum", "_count")
SCRAPE_LABELS = {"le", "job", "instance"}


def expressions():
    """Yield where each expression is, and its text."""
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            yield f"dashboard: {panel['title']}", target["expr"]
    for alert, expression in re.findall(
        r"- alert: (\w+)\n(?:\s+#[^\n]*\n)?\s+expr: (.*?)\n\s+(?:for|labels):", ALERTS, re.DOTALL
    ):
        yield f"alert: {alert}", expression
    for block in re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL):
        for title, query in re.findall(r"# (.*)\n(.*)\n", block):
            yield f"page: {title}", query


def definition_of(sample):
    """Return the definition of the metric with this sample; None if there is none."""
    if sample in DEFINITIONS and DEFINITIONS[sample].kind != "histogram":
        return DEFINITIONS[sample]
    for part in PARTS:
        definition = DEFINITIONS.get(sample.removesuffix(part))
        if sample.endswith(part) and definition and definition.kind == "histogram":
            return definition
    return None


def names_in(expression):
    return set(re.findall(r"\b(?:togetherchat|process)_\w+", expression))


def matched_in(expression):
    """Yield each metric of an expression with the labels that are matched on it."""
    for metric, matchers in re.findall(r"\b((?:togetherchat|process)_\w+)\{([^}]*)\}", expression):
        yield metric, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))


EACH_EXPRESSION = pytest.mark.parametrize(
    "expression", [pytest.param(text, id=where) for where, text in expressions()]
)


@EACH_EXPRESSION
def test_every_queried_metric_exists(expression):
    """In the dashboard, the alerts and the page; histograms by their parts."""
    assert names_in(expression)
    assert set() == {name for name in names_in(expression) if definition_of(name) is None}


@EACH_EXPRESSION
def test_every_matched_label_exists_on_its_metric(expression):
    """A missing label matches nothing, without an error."""
    wrong = {
        metric: labels - set(definition_of(metric).labels) - SCRAPE_LABELS
        for metric, labels in matched_in(expression)
    }
    assert {} == {metric: labels for metric, labels in wrong.items() if labels}


@EACH_EXPRESSION
def test_every_grouping_label_exists(expression):
    """On one of the metrics of the expression."""
    existing = set().union(*(definition_of(name).labels for name in names_in(expression))) | SCRAPE_LABELS
    grouped = re.findall(r"\b(?:by|on|ignoring) ?\(([^)]*)\)", expression)

    assert set() == {label.strip() for labels in grouped for label in labels.split(",")} - existing


def test_all_expressions_are_found():
    """Of panels, alerts and queries: an expression that is not found is not checked."""
    sources = [where.partition(":")[0] for where, _ in expressions()]

    assert len(re.findall(r"- alert:", ALERTS)) == sources.count("alert") > 10
    assert (
        len(re.findall(r"\n# ", "".join(re.findall(r"```promql\n.*?```", PAGE, re.DOTALL))))
        == sources.count("page")
        > 5
    )
    assert sources.count("dashboard") > 25


def test_every_reason_in_an_alert_exists():
    """A renamed reason would be counted wrongly, or not at all."""
    named = {
        reason
        for text in re.findall(r'reason(?:=~|!~|!=|=)"([A-Za-z_|]+)"', ALERTS)
        for reason in text.split("|")
    }

    assert len(named) > 15
    assert set() == named - set(Reason) - {"none"}


def test_no_alert_on_failures_counts_those_of_callers():
    """A drain is not a failure either: its caller retries elsewhere."""
    (excluded,) = re.findall(r'reason!~"([A-Z_a-z|]+)"', ALERTS)
    callers = {reason for reason in Reason if reason.row.blame is Blame.CALLER}

    assert callers | {Reason.DRAINING, "none"} == set(excluded.split("|"))


def test_the_reasons_on_which_an_operator_acts_have_an_alert():
    """One handshake that fails is not a page: TLS failures that persist are in TogetherchatManyFailures."""
    named = {
        reason
        for text in re.findall(r'calls_total\{reason=~?"([A-Z_|]+)"', ALERTS)
        for reason in text.split("|")
    }
    acts = {reason for reason in Reason if reason.row.operator_acts}

    assert acts - {Reason.UPSTREAM_TLS_FAILED} == named


def test_every_alert_is_documented_and_tested():
    """The page says what to do, and the alert tests have series that fire it."""
    alerts = set(re.findall(r"- alert: (\w+)", ALERTS))

    assert alerts == set(re.findall(r"`(Togetherchat\w+)`", PAGE))
    assert alerts == set(re.findall(r"\b(Togetherchat\w+)\b", ALERT_TESTS))


def test_the_dashboard_is_up_to_date():
    """`make generate` writes it."""
    generated = subprocess.run(
        [sys.executable, ROOT / "deploy/grafana/dashboard.py"], check=True, capture_output=True, text=True
    )

    assert generated.stdout == DASHBOARD.read_text("utf-8")


def test_every_metric_is_on_the_page():
    """Name, kind, labels and help text, in the order of the code."""
    rows = re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    expected = [
        (name, definition.kind, ", ".join(f"`{label}`" for label in definition.labels), definition.help)
        for name, definition in DEFINITIONS.items()
    ]

    assert expected == rows


def test_every_field_of_a_log_line_is_on_the_page():
    """The fields of a call record that are logged, and the two of every line."""
    logged = [field.name for field in fields(CallRecord) if field.name not in UNLOGGED]
    table = PAGE.partition("| field | meaning |")[2].partition("\n\n")[0]

    assert ["event", "level", *logged] == re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_the_log_line_on_the_page_has_known_fields():
    """They are those of a call record."""
    (line,) = re.findall(r"```json\n(.*)\n```", PAGE)

    assert set() == set(json.loads(line)) - {"event", "level"} - {field.name for field in fields(CallRecord)}


def test_the_text_line_on_the_page_is_that_of_the_same_call():
    """As the code formats it."""
    (line,) = re.findall(r"```json\n(.*)\n```", PAGE)
    record_fields = {
        name: value for name, value in json.loads(line).items() if name not in {"event", "level"}
    }
    lines = Lines("text")
    CallLog(lines)(record(**record_fields))

    assert lines.lines == re.findall(r"^\[info +\] .*$", PAGE, re.MULTILINE)
