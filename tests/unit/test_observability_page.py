"""What is written of metrics and log lines, drawn and watched for, is what there is."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from support.records import Lines, record
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.telemetry.call_record import CallRecord
from togetherchat_server.telemetry.log import CallLog, logger_of
from togetherchat_server.telemetry.metrics.definitions import DEFINITIONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "observability.md").read_text("utf-8")
ALERTS = (ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text("utf-8")
PLAYED = (ROOT / "deploy" / "prometheus" / "alerts_test.yaml").read_text("utf-8")
DASHBOARD = ROOT / "deploy" / "grafana" / "togetherchat.json"
PARTS = ("_bucket", "_sum", "_count")
OF_A_SCRAPE = {"le", "job", "instance"}


def expressions():
    """Where an expression stands, and it."""
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            yield f"dashboard: {panel['title']}", target["expr"]
    for alert, expression in re.findall(
        r"- alert: (\w+)\n(?:\s+#[^\n]*\n)?\s+expr: (.*?)\n\s+(?:for|labels):", ALERTS, re.DOTALL
    ):
        yield f"alert: {alert}", expression
    for block in re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL):
        for question, query in re.findall(r"# (.*)\n(.*)\n", block):
            yield f"page: {question}", query


def family_of(sample):
    """The family that a sample of this name belongs to, None where there is none."""
    if sample in DEFINITIONS and DEFINITIONS[sample].kind != "histogram":
        return DEFINITIONS[sample]
    for part in PARTS:
        family = DEFINITIONS.get(sample.removesuffix(part))
        if sample.endswith(part) and family and family.kind == "histogram":
            return family
    return None


def names_in(expression):
    return set(re.findall(r"\b(?:togetherchat|process)_\w+", expression))


def matched_in(expression):
    """The metrics with the labels that are matched on each."""
    for metric, matchers in re.findall(r"\b((?:togetherchat|process)_\w+)\{([^}]*)\}", expression):
        yield metric, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))


WRITTEN = pytest.mark.parametrize(
    "expression", [pytest.param(text, id=where) for where, text in expressions()]
)


@WRITTEN
def test_every_metric_that_is_asked_for_exists(expression):
    """In the dashboard, in the alerts and on the page; a histogram by its parts."""
    assert names_in(expression)
    assert set() == {name for name in names_in(expression) if family_of(name) is None}


@WRITTEN
def test_every_label_that_is_matched_exists_on_its_metric(expression):
    """A label that is not there matches nothing, and says nothing."""
    wrong = {
        metric: labels - set(family_of(metric).labels) - OF_A_SCRAPE
        for metric, labels in matched_in(expression)
    }
    assert {} == {metric: labels for metric, labels in wrong.items() if labels}


@WRITTEN
def test_every_label_that_is_grouped_by_exists(expression):
    """On one of the metrics of the expression."""
    there = set().union(*(family_of(name).labels for name in names_in(expression))) | OF_A_SCRAPE
    grouped = re.findall(r"\b(?:by|on|ignoring) ?\(([^)]*)\)", expression)

    assert set() == {label.strip() for labels in grouped for label in labels.split(",")} - there


def test_the_scan_sees_all_of_them():
    """Panels, alerts and queries: an expression that is not read is not checked."""
    sources = [where.partition(":")[0] for where, _ in expressions()]

    assert len(re.findall(r"- alert:", ALERTS)) == sources.count("alert") > 10
    assert (
        len(re.findall(r"\n# ", "".join(re.findall(r"```promql\n.*?```", PAGE, re.DOTALL))))
        == sources.count("page")
        > 5
    )
    assert sources.count("dashboard") > 25


def test_every_reason_that_is_watched_for_is_a_kind():
    """A kind that is renamed would be counted as a failure of ours, or not at all."""
    named = {
        reason
        for text in re.findall(r'reason(?:=~|!~|!=|=)"([A-Za-z_|]+)"', ALERTS)
        for reason in text.split("|")
    }

    assert len(named) > 15
    assert set() == named - set(Reason) - {"none"}


def test_every_alert_is_explained_and_played_through():
    """What to do stands on the page, and series that fire it in the tests of the rules."""
    alerts = set(re.findall(r"- alert: (\w+)", ALERTS))

    assert alerts == set(re.findall(r"`(Togetherchat\w+)`", PAGE))
    assert alerts == set(re.findall(r"\b(Togetherchat\w+)\b", PLAYED))


def test_the_dashboard_is_what_its_table_makes():
    """`make generate` writes it; nobody edits it."""
    made = subprocess.run(
        [sys.executable, ROOT / "deploy/grafana/dashboard.py"], check=True, capture_output=True, text=True
    )

    assert made.stdout == DASHBOARD.read_text("utf-8")


def test_every_metric_is_on_the_page():
    """Name, kind, labels and meaning, in the order of the code."""
    rows = re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    wanted = [
        (name, family.kind, ", ".join(f"`{label}`" for label in family.labels), family.help)
        for name, family in DEFINITIONS.items()
    ]

    assert wanted == rows


def test_every_field_of_a_line_is_on_the_page():
    """And no other: those of a record, and the two that every line has."""
    table = PAGE.partition("| field | what it says |")[2].partition("\n\n")[0]

    assert ["event", "level", *(field.name for field in fields(CallRecord))] == re.findall(
        r"^\| `(\w+)` \|", table, re.MULTILINE
    )


def test_the_line_on_the_page_is_one():
    """Its fields are those of the table."""
    (line,) = re.findall(r"```json\n(.*)\n```", PAGE)

    assert set() == set(json.loads(line)) - {"event", "level"} - {field.name for field in fields(CallRecord)}


def test_the_line_of_words_on_the_page_is_that_line():
    """Of the same call, as the code words it."""
    (line,) = re.findall(r"```json\n(.*)\n```", PAGE)
    said = {name: value for name, value in json.loads(line).items() if name not in {"event", "level"}}
    lines = Lines()
    CallLog(logger_of(lines, "text"))(record(**said))

    assert lines.lines == re.findall(r"^\[info +\] .*$", PAGE, re.MULTILINE)
