"""The command `togetherchat-server`: reads the configuration and runs the process's role.

`togetherchat-server keys` edits the API keys file, `usage` migrates the usage ledger, and `tenants` calls a
running service. Any other process serves alone, serves as its supervisor assigned, or is the supervisor. The
modules that serve are imported last, when the settings are valid and signal handlers are installed. gRPC
alone takes a third of a second to load; the first process of a container would ignore SIGTERM in that
time. gRPC's core also reads its environment at its import. A supervisor must not load gRPC at all.
"""

import asyncio
import contextlib
import importlib.metadata
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TextIO

from togetherchat_server.cli.banner import banner, describe_listeners
from togetherchat_server.cli.keys import CommandContext, run_keys
from togetherchat_server.cli.usage import run_usage
from togetherchat_server.config import Configuration, SettingsError, exposure_warnings, read_configuration
from togetherchat_server.frontends.grpc import environment as grpc_environment
from togetherchat_server.runtime.file_limit import raise_file_limit
from togetherchat_server.runtime.heap import limit_heap
from togetherchat_server.runtime.signals import StopSignals
from togetherchat_server.supervisor.control import REPLACED_SIGNAL, Assignment
from togetherchat_server.supervisor.cpus import usable_cpus
from togetherchat_server.telemetry.audit_file import check_audit_log
from togetherchat_server.tenants.files import load_tenant_files
from togetherchat_server.usage.settings_check import check_usage_settings

if TYPE_CHECKING:
    from togetherchat_server.runtime.app import BoundAddresses
    from togetherchat_server.supervisor.supervisor import FleetAddresses

TELEMETRY_PACKAGES: Final = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-grpc")
OTLP_PROTOCOL: Final = "grpc"

EXIT_USAGE: Final = 2
EXIT_CANNOT_SERVE: Final = 1


def main() -> int:
    """Run the command. Return its exit status."""
    grpc_environment.set_defaults(os.environ)
    if sys.argv[1:2] == ["keys"]:
        return _run_keys(sys.argv[2:])
    if sys.argv[1:2] == ["usage"]:
        return run_usage(sys.argv[2:], os.environ, out=sys.stdout, error=sys.stderr)
    if sys.argv[1:2] == ["tenants"]:
        return _run_tenants(sys.argv[2:])
    try:
        configuration = read_configuration(sys.argv[1:], os.environ)
        if configuration.settings.alias:
            _check_aliases(configuration)
        load_tenant_files(configuration.settings)
        check_audit_log(configuration.settings.audit_log)
        check_usage_settings(configuration.settings)
        if configuration.settings.traces is not None:
            _check_telemetry(os.environ)
    except SettingsError as exc:
        _print_error(str(exc))
        return EXIT_USAGE
    return asyncio.run(_run(configuration))


def _run_keys(arguments: list[str]) -> int:
    context = CommandContext(
        environment=os.environ, out=sys.stdout, error=sys.stderr, now=lambda: datetime.now(UTC)
    )
    return run_keys(arguments, context)


def _run_tenants(arguments: list[str]) -> int:
    from togetherchat_server.cli.tenants import run_tenants  # noqa: PLC0415  it loads gRPC, see the top

    return run_tenants(arguments, environment=os.environ, out=sys.stdout, error=sys.stderr)


def _check_aliases(configuration: Configuration) -> None:
    """Reject aliases that every worker would reject. Raises SettingsError."""
    from togetherchat_server.models.aliases import resolve_aliases  # noqa: PLC0415  see the top
    from togetherchat_server.models.catalog import configured_catalog  # noqa: PLC0415  as above

    resolve_aliases(configuration, configured_catalog(configuration))


def _check_telemetry(environment: Mapping[str, str]) -> None:
    """Reject `--traces` without its packages, and load none of them. Raises SettingsError."""
    for name in TELEMETRY_PACKAGES:
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise SettingsError(
                f"--traces otlp needs {name}: pip install 'togetherchat[server,telemetry]'"
            ) from None
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environment.get(variable, OTLP_PROTOCOL) not in {"", OTLP_PROTOCOL}:
            raise SettingsError(
                f"{variable}: traces are exported over {OTLP_PROTOCOL} only (port 4317); "
                f"set it to {OTLP_PROTOCOL} or unset it"
            )


async def _run(configuration: Configuration) -> int:
    raise_file_limit()
    limit_heap()
    assignment = Assignment.from_environment(os.environ)
    workers = configuration.settings.workers
    workers = usable_cpus() if workers == "auto" else workers
    if assignment is not None:
        return await _serve_as_assigned(configuration, assignment)
    for warning in exposure_warnings(configuration.settings, configuration.provider):
        _print_error(f"warning: {warning}")
    if workers > 1:
        return await _supervise(configuration, workers)
    return await _serve_alone(configuration)


async def _serve_alone(configuration: Configuration) -> int:
    signals = StopSignals()
    from togetherchat_server.runtime.process import ProcessContext, serve_alone  # noqa: PLC0415  see the top

    def on_serving(addresses: "BoundAddresses") -> None:
        listeners = describe_listeners(addresses, configuration.settings)
        _print_banner(configuration, listeners, addresses, provider_url=addresses.provider_url)

    context = ProcessContext(
        configuration=configuration, signals=signals, log=_log_stream(), version=_version()
    )
    problem = await serve_alone(context, on_serving)
    if problem:
        _print_error(problem)
    return EXIT_CANNOT_SERVE if problem else 0


async def _serve_as_assigned(configuration: Configuration, assignment: Assignment) -> int:
    signals = StopSignals(REPLACED_SIGNAL)
    from togetherchat_server.runtime.process import ProcessContext, serve_as_assigned  # noqa: PLC0415  see the top

    context = ProcessContext(
        configuration=configuration, signals=signals, log=_log_stream(), version=_version()
    )
    return 0 if await serve_as_assigned(context, assignment) else EXIT_CANNOT_SERVE


async def _supervise(configuration: Configuration, workers: int) -> int:
    from togetherchat_server.supervisor.supervisor import Supervisor, SupervisorOptions  # noqa: PLC0415  no other role needs it

    def on_serving(addresses: "FleetAddresses") -> None:
        provider = configuration.provider
        listeners = describe_listeners(addresses, configuration.settings)
        listeners.insert(1, f"{workers} workers")
        provider_url = provider.base_url if provider else addresses.sandbox_url
        _print_banner(configuration, listeners, addresses, provider_url=provider_url)

    options = SupervisorOptions(
        settings=configuration.settings,
        workers=workers,
        arguments=sys.argv[1:],
        environment=os.environ,
        version=_version(),
        clock=time.monotonic,
        wall_clock=time.time,
        log=_log_stream(),
        on_serving=on_serving,
    )
    result = await Supervisor(options).run()
    if result.problem:
        _print_error(result.problem)
    return 0 if result.clean else EXIT_CANNOT_SERVE


def _log_stream() -> TextIO:
    """Return a second stream to standard error, for the log only.

    At exit Python flushes `sys.stderr`. If the log used it, and its thread were blocked in a write to
    a pipe that is not read, the flush would wait forever.
    """
    return os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="backslashreplace")


def _version() -> str:
    return importlib.metadata.version("togetherchat")


def _print_banner(
    configuration: Configuration,
    listeners: list[str],
    addresses: "BoundAddresses | FleetAddresses",
    *,
    provider_url: str,
) -> None:
    text = banner(
        configuration,
        listeners,
        version=_version(),
        provider_url=provider_url,
        addresses=addresses,
        terminal=sys.stderr.isatty(),
    )
    _print(text)


def _print_error(text: str) -> None:
    _print(f"togetherchat-server: {text}")


def _print(text: str) -> None:
    """Write to standard error. On a full disk the text is lost and the service continues.

    `sys.stderr` would keep the text and fail again at exit, so it is bypassed.
    """
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{text}\n".encode(errors="backslashreplace"))
