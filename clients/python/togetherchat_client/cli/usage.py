"""`togetherchat usage`, a report of usage and cost, and `togetherchat quotas`, the limits of tenants.

Owns the requests and the notes. `usage_table.py` formats the rows.
"""

from togetherchat.v1 import usage_service_pb2 as usage
from togetherchat_client import Client
from togetherchat_client.cli.arguments import Arguments, UsageError
from togetherchat_client.cli.exit_codes import ExitCode
from togetherchat_client.cli.proto_json import to_json
from togetherchat_client.cli.terminal import Terminal
from togetherchat_client.cli.usage_arguments import SUCCESS
from togetherchat_client.cli.usage_table import (
    Group,
    cost_usd,
    csv_text,
    plain_rows,
    quota_rows,
    sparklines_of,
    usage_table,
)
from togetherchat_client.usage_requests import UsageFields

PAGE_ROWS = 10_000
QUOTA_HEADINGS = ("tenant", "metric", "limit", "used", "reserved", "left", "reset")


def run(client: Client, arguments: Arguments, terminal: Terminal) -> ExitCode:
    """Print the usage of a period."""
    if arguments.json and arguments.csv:
        raise UsageError("--json and --csv contradict each other")
    fields = _fields(arguments)
    as_table = terminal.interactive and not (arguments.json or arguments.csv)
    with terminal.progress("waiting"):
        report = _all_pages(client, fields)
        sparklines = _sparklines(client, fields, report) if as_table else {}
    if arguments.json:
        terminal.line(to_json(report, pretty=terminal.interactive))
    elif arguments.csv:
        terminal.write(csv_text(report, arguments.by))
    elif as_table:
        table = usage_table(report, arguments.by, width=terminal.columns, sparklines=sparklines)
        terminal.table(table.headings, table.rows, numbers=table.numbers)
        terminal.note(_summary(report))
    else:
        for row in plain_rows(report, arguments.by):
            terminal.tab_separated(row)
    return ExitCode.DONE


def run_quotas(client: Client, arguments: Arguments, terminal: Terminal) -> ExitCode:
    """Print the limits of tenants."""
    with terminal.progress("waiting"):
        response = client.list_quotas(arguments.tenants)
    if arguments.json:
        terminal.line(to_json(response, pretty=terminal.interactive))
    elif terminal.interactive:
        rows = quota_rows(response.quotas, exact=False)
        terminal.table(QUOTA_HEADINGS, rows, numbers=frozenset(QUOTA_HEADINGS[2:6]))
    else:
        for row in quota_rows(response.quotas, exact=True):
            terminal.tab_separated(row)
    return ExitCode.DONE


def _fields(arguments: Arguments) -> UsageFields:
    fields = UsageFields(
        group_by=arguments.by,
        tenants=arguments.tenants,
        models=arguments.models,
        keys=arguments.keys,
        users=arguments.users,
        reasons=["" if reason == SUCCESS else reason for reason in arguments.reasons],
        page_size=PAGE_ROWS,
    )
    if arguments.since is not None:
        fields["start_time"] = arguments.since
    if arguments.until is not None:
        fields["end_time"] = arguments.until
    return fields


def _all_pages(client: Client, fields: UsageFields) -> usage.QueryUsageResponse:
    """All pages merged into one."""
    report = client.query_usage(**fields)
    token = report.next_page_token
    while token:
        page = client.query_usage(**{**fields, "page_token": token})
        report.rows.extend(page.rows)
        token = page.next_page_token
    report.next_page_token = ""
    return report


def _sparklines(client: Client, fields: UsageFields, report: usage.QueryUsageResponse) -> dict[Group, str]:
    """Ask for the same period by day, unless the report itself is by time or has no rows."""
    by = [name for name in fields.get("group_by", ()) if isinstance(name, str)]
    if not report.rows or {"day", "hour"} & {*by}:
        return {}
    period = UsageFields(start_time=report.start_time, end_time=report.end_time, group_by=[*by, "day"])
    return sparklines_of(report, by, _all_pages(client, {**fields, **period}).rows)


def _summary(report: usage.QueryUsageResponse) -> str:
    total = report.total
    start, end = (moment.ToDatetime() for moment in (report.start_time, report.end_time))
    text = f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
    if total.estimated_cost_nano_usd:
        text += f"; ${cost_usd(total.estimated_cost_nano_usd)} of the cost is estimated"
    if total.unpriced_calls:
        text += f"; the cost of {total.unpriced_calls} calls is not known, because their model has no price"
    return text
