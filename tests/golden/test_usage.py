"""The golden cases of reports: the messages of the contract, and the JSON and CSV that HTTP sends."""

import csv
import io
import json
from pathlib import Path

import pytest
from google.protobuf import text_format

from support import golden
from togetherchat.v1 import usage_service_pb2 as service
from togetherchat_server.calls.usage_messages import DIMENSIONS, METRICS
from togetherchat_server.frontends.http.usage.document import COUNTERS, quotas_json, usage_csv, usage_json
from togetherchat_server.tenants.quota_status import Bucket
from togetherchat_server.usage.report import Dimension

GROUP_BY = "# group_by:"
VALUES = {dimension: value for value, dimension in DIMENSIONS.items()}


def report_of(case: Path):
    """Return the report of a case, and its dimensions, which its first line names."""
    text = (case / "report.textproto").read_text("utf-8")
    names = text.partition("\n")[0].removeprefix(GROUP_BY).split(",")
    group_by = [VALUES[Dimension(name.strip())] for name in names if name.strip()]
    return text_format.Parse(text, service.QueryUsageResponse()), group_by


@pytest.mark.parametrize("case", golden.cases("usage"), ids=golden.name)
def test_usage_json(case: Path):
    """A report has exactly this JSON, with every member in every row."""
    found = json.loads(usage_json(*report_of(case)))

    assert json.loads((case / "usage.json").read_text("utf-8")) == found


@pytest.mark.parametrize("case", golden.cases("usage"), ids=golden.name)
def test_usage_csv(case: Path):
    """A report has exactly this CSV; lines end with CR and LF, and no cell is a formula."""
    report, group_by = report_of(case)
    found = usage_csv(report, group_by)

    assert (case / "usage.csv").read_bytes() == found
    headings, *rows = csv.reader(io.StringIO(found.decode(), newline=""))
    assert len(report.rows) == len(rows)
    assert {len(headings)} == {len(row) for row in rows}
    assert not [
        cell for row in rows for cell in row[: len(group_by)] if cell.startswith(("=", "+", "-", "@"))
    ]


@pytest.mark.parametrize("case", golden.cases("quotas"), ids=golden.name)
def test_quotas_json(case: Path):
    """Quotas have exactly this JSON."""
    quotas = text_format.Parse((case / "quotas.textproto").read_text("utf-8"), service.ListQuotasResponse())

    assert json.loads((case / "quotas.json").read_text("utf-8")) == json.loads(quotas_json(quotas))


def test_the_tables_are_total():
    """Each dimension, metric and counter of the contract has a name."""
    assert {*service.UsageDimension.values()} - {0} == DIMENSIONS.keys()
    assert {*Dimension} == {*DIMENSIONS.values()}
    assert {*service.QuotaMetric.values()} - {0} == {*METRICS.values()}
    assert {*Bucket} == METRICS.keys()
    integers = [
        field.name for field in service.UsageRow.DESCRIPTOR.fields if field.cpp_type == field.CPPTYPE_INT64
    ]
    assert tuple(integers) == COUNTERS
