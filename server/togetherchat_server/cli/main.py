"""What `togetherchat-server` does: reads what was set and takes the role that follows.

With `keys` as its first word it keeps the file of keys. Else a process serves alone, serves as the
supervisor that started it assigned, or is that supervisor and serves nothing. What serves is
imported last, when the settings are known to be good and signals are listened to: gRPC alone takes
a third of a second, in which a first process of a container would miss the signal to stop, and
gRPC's core decides at its import what it prints. A supervisor must not load it at all.
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

from togetherchat_server.cli.banner import addresses_of, banner
from togetherchat_server.cli.keys import CommandContext, run
from togetherchat_server.config import Configuration, SettingsError, exposure_warnings, read_configuration
from togetherchat_server.runtime.signals import StopSignals
from togetherchat_server.supervisor.control import REPLACED, Assignment
from togetherchat_server.supervisor.cpus import usable_cpus
from togetherchat_server.tenants.files import load_tenant_files

if TYPE_CHECKING:
    from togetherchat_server.runtime.app import BoundAddresses
    from togetherchat_server.supervisor.supervisor import FleetAddresses

TELEMETRY: Final = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-grpc")
OTLP_PROTOCOL: Final = "grpc"

EXIT_USAGE: Final = 2
EXIT_CANNOT_SERVE: Final = 1


def main() -> int:
    # gRPC's core would write to standard error from threads of its own, around the log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if sys.argv[1:2] == ["keys"]:
        return _keep_keys(sys.argv[2:])
    try:
        configuration = read_configuration(sys.argv[1:], os.environ)
        if configuration.settings.alias:
            _check_aliases(configuration)
        load_tenant_files(configuration.settings)
        if configuration.settings.traces is not None:
            _check_telemetry(os.environ)
    except SettingsError as exc:
        _complain(str(exc))
        return EXIT_USAGE
    return asyncio.run(_run(configuration))


def _keep_keys(words: list[str]) -> int:
    sessions = CommandContext(
        environment=os.environ, out=sys.stdout, error=sys.stderr, now=lambda: datetime.now(UTC)
    )
    return run(words, sessions)


def _check_aliases(configuration: Configuration) -> None:
    """Refuse now what every worker would refuse. Raises SettingsError."""
    from togetherchat_server.models.aliases import resolve_aliases  # noqa: PLC0415  see the top
    from togetherchat_server.models.catalog import configured_catalog  # noqa: PLC0415  as above

    resolve_aliases(configuration, configured_catalog(configuration))


def _check_telemetry(environment: Mapping[str, str]) -> None:
    """Refuse now, without loading what a supervisor must not load. Raises SettingsError."""
    for name in TELEMETRY:
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise SettingsError(
                f"--traces otlp needs {name}: pip install 'togetherchat[server,telemetry]'"
            ) from None
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environment.get(variable, OTLP_PROTOCOL) not in {"", OTLP_PROTOCOL}:
            raise SettingsError(f"{variable}: traces are sent over {OTLP_PROTOCOL} alone (port 4317)")


async def _run(configuration: Configuration) -> int:
    assignment = Assignment.of(os.environ)
    workers = configuration.settings.workers
    workers = usable_cpus() if workers == "auto" else workers
    if assignment is not None:
        return await _serve_as_assigned(configuration, assignment)
    for caution in exposure_warnings(configuration.settings):
        _complain(f"warning: {caution}")
    if workers > 1:
        return await _supervise(configuration, workers)
    return await _serve_alone(configuration)


async def _serve_alone(configuration: Configuration) -> int:
    signals = StopSignals()
    from togetherchat_server.runtime.process import Process, serve_alone  # noqa: PLC0415  see the top

    def greet(addresses: "BoundAddresses") -> None:
        places = addresses_of(addresses, configuration.settings)
        _say(banner(configuration, places, version=_version(), upstream=addresses.upstream, try_on=addresses))

    process = Process(configuration=configuration, signals=signals, log=_log_stream(), version=_version())
    problem = await serve_alone(process, greet)
    if problem:
        _complain(problem)
    return EXIT_CANNOT_SERVE if problem else 0


async def _serve_as_assigned(configuration: Configuration, assignment: Assignment) -> int:
    signals = StopSignals(REPLACED)
    from togetherchat_server.runtime.process import Process, serve_as_assigned  # noqa: PLC0415  see the top

    process = Process(configuration=configuration, signals=signals, log=_log_stream(), version=_version())
    return 0 if await serve_as_assigned(process, assignment) else EXIT_CANNOT_SERVE


async def _supervise(configuration: Configuration, workers: int) -> int:
    from togetherchat_server.supervisor.supervisor import Supervisor, SupervisorOptions  # noqa: PLC0415  no other role needs it

    def greet(reached: "FleetAddresses") -> None:
        upstream = configuration.upstream.base_url if configuration.upstream else reached.simulator
        places = addresses_of(reached, configuration.settings)
        places.insert(1, f"{workers} workers")
        _say(banner(configuration, places, version=_version(), upstream=upstream, try_on=reached))

    job = SupervisorOptions(
        settings=configuration.settings,
        workers=workers,
        words=sys.argv[1:],
        environment=os.environ,
        version=_version(),
        clock=time.monotonic,
        wall_clock=time.time,
        log=_log_stream(),
        greet=greet,
    )
    end = await Supervisor(job).run()
    if end.problem:
        _complain(end.problem)
    return 0 if end.clean else EXIT_CANNOT_SERVE


def _log_stream() -> TextIO:
    """Standard error once more, for the log alone. At its end Python flushes `sys.stderr`, and
    would wait for ever for the log's thread where that is in a write that nobody reads.
    """
    return os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="backslashreplace")


def _version() -> str:
    return importlib.metadata.version("togetherchat")


def _complain(text: str) -> None:
    _say(f"togetherchat-server: {text}")


def _say(text: str) -> None:
    """The command's own words. A disk that is full is no reason not to serve: they are lost then,
    past `sys.stderr`, which would keep them and fail once more at the end.
    """
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{text}\n".encode(errors="backslashreplace"))
