"""`togetherchat-server tenants show|reset`: the quotas of a running service's tenants.

Calls the service over gRPC with a key, as any caller does. Exit status 0: done; 1: failed; 2: invalid
arguments.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Final, NoReturn, TextIO, final

from togetherchat.v1 import usage_service_pb2 as usage
from togetherchat_server.calls.usage_messages import METRICS
from togetherchat_server.cli.quota_client import QuotaCallError, UsageConnection, list_quotas, reset_quota
from togetherchat_server.config import is_loopback

DONE, FAILED, USAGE = 0, 1, 2
ADDRESS: Final = "localhost:50051"
KEY_VARIABLE: Final = "TOGETHERCHAT_API_KEY"
TIMEOUT_S: Final = 10.0
NANO_USD: Final = 10**9
NOTHING: Final = "-"
HEADINGS: Final = ("TENANT", "LIMIT", "MAX", "USED", "RESERVED", "LEFT", "SOFT", "RESET")
NUMBERS: Final = range(2, 7)
"""The columns that are aligned to the right."""
_METRIC_NAMES: Final[Mapping[int, str]] = {metric: bucket.value for bucket, metric in METRICS.items()}
COSTS: Final = frozenset({usage.QUOTA_METRIC_COST_PER_DAY, usage.QUOTA_METRIC_COST_PER_MONTH})


@final
class TenantArgumentError(Exception):
    """The arguments are invalid. The message is one line and contains no key."""


@final
class _TenantsParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise TenantArgumentError(f"{message}; {self.prog} --help lists the arguments")


def run_tenants(
    arguments: Sequence[str], *, environment: Mapping[str, str], out: TextIO, error: TextIO
) -> int:
    """Run the subcommand. Return the exit status."""
    try:
        options = _parser().parse_args(arguments)
        connection = _connection(options, environment)
        quotas = _run(options, connection)
    except TenantArgumentError as exc:
        return _fail(error, str(exc), USAGE)
    except QuotaCallError as exc:
        return _fail(error, str(exc), FAILED)
    if options.json:
        print(json.dumps([_json(quota) for quota in quotas], indent=2), file=out)
    else:
        _print_table(quotas, out)
    if not quotas:
        return _fail(error, f"{options.name or 'the service'} has no limits that the key may see", FAILED)
    return DONE


def _run(options: argparse.Namespace, connection: UsageConnection) -> Sequence[usage.Quota]:
    if options.command == "reset":
        return reset_quota(connection, options.name)
    return list_quotas(connection, [options.name] if options.name else [])


def _connection(options: argparse.Namespace, environment: Mapping[str, str]) -> UsageConnection:
    try:
        local = is_loopback(options.address)
        key = (
            environment.get(KEY_VARIABLE, "")
            if options.key_file is None
            else options.key_file.read_text("utf-8")
        )
        roots = None if options.ca_file is None else options.ca_file.read_bytes()
    except ValueError as exc:
        raise TenantArgumentError(f"--address {options.address}: {exc}") from None
    except OSError as exc:
        raise TenantArgumentError(f"cannot read {exc.filename}: {exc.strerror}") from None
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise TenantArgumentError("the key has characters that cannot be sent; a key begins with tc_")
    tls = (roots is not None or not local) if options.tls is None else options.tls
    return UsageConnection(
        address=options.address, key=key, ca_certificates=roots, tls=tls, timeout_s=options.timeout_s
    )


def _parser() -> argparse.ArgumentParser:
    parser = _TenantsParser(
        prog="togetherchat-server tenants",
        description="Show and reset the quotas of the tenants of a running service.",
        epilog=f"{KEY_VARIABLE} or --key-file has the key: one with the scope usage shows its own tenant, "
        "one with the scope admin all of them. Exit status: 0 done, 1 failed, 2 invalid arguments.",
    )
    commands = parser.add_subparsers(required=True, metavar="show|reset", dest="command")
    show = commands.add_parser("show", help="show what is used, reserved and left of each limit")
    show.add_argument("name", nargs="?", default="", metavar="NAME", help="show this tenant only")
    reset = commands.add_parser(
        "reset", help="forget the requests and tokens per minute that a tenant has used; money stays spent"
    )
    reset.add_argument("name", metavar="NAME", help="the tenant")
    for command in (show, reset):
        command.add_argument(
            "--address", default=ADDRESS, metavar="HOST:PORT", help=f"the service (default: {ADDRESS})"
        )
        command.add_argument("--key-file", type=Path, metavar="FILE", help="file with the key")
        command.add_argument(
            "--tls", action=argparse.BooleanOptionalAction, help="default: TLS, except to this machine"
        )
        command.add_argument("--ca-file", type=Path, metavar="FILE", help="trusted root certificates (PEM)")
        command.add_argument(
            "--timeout-s", type=_seconds, default=TIMEOUT_S, metavar="S", help="default: %(default)s"
        )
        command.add_argument("--json", action="store_true", help="print JSON; costs in 1e-9 USD")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError("must be more than 0 and at most 3600")
    return seconds


def _metric(quota: usage.Quota) -> str:
    """Return the name of the limit in the tenants file."""
    return _METRIC_NAMES.get(quota.metric, str(quota.metric))


def _reset_time(quota: usage.Quota) -> str | None:
    if not quota.HasField("reset_time"):
        return None
    return quota.reset_time.ToDatetime(tzinfo=UTC).isoformat(timespec="seconds")


def _json(quota: usage.Quota) -> dict[str, str | int | None]:
    return {
        "tenant": quota.tenant,
        "metric": _metric(quota),
        "limit": quota.limit,
        "used": quota.used,
        "reserved": quota.reserved,
        "left": quota.left,
        "soft_limit": quota.soft_limit if quota.HasField("soft_limit") else None,
        "reset_time": _reset_time(quota),
    }


def _print_table(quotas: Sequence[usage.Quota], out: TextIO) -> None:
    rows = [HEADINGS, *(_row(quota) for quota in quotas)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    for row in rows:
        cells = (
            cell.rjust(width) if column in NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip(), file=out)


def _row(quota: usage.Quota) -> tuple[str, ...]:
    amounts = [quota.limit, quota.used, quota.reserved, quota.left]
    shown = [_amount(quota, amount) for amount in amounts]
    soft = _amount(quota, quota.soft_limit) if quota.HasField("soft_limit") else NOTHING
    return (quota.tenant, _metric(quota), *shown, soft, _reset_time(quota) or NOTHING)


def _amount(quota: usage.Quota, amount: int) -> str:
    return f"${amount / NANO_USD:,.2f}" if quota.metric in COSTS else f"{amount:,}"


def _fail(error: TextIO, text: str, status: int) -> int:
    print(f"togetherchat-server tenants: {text}", file=error)
    return status
