"""The command `togetherchat-server`: reads what was set and takes the role that follows.

A process serves alone, serves as the supervisor that started it assigned, or is that
supervisor and serves nothing. A supervisor must not load gRPC: what each role needs is
imported once the role is known.
"""

import asyncio
import importlib.metadata
import os
import sys
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Final

from togetherchat_server.config import Configuration, SettingsError, read_configuration
from togetherchat_server.supervisor.control import Assignment
from togetherchat_server.supervisor.cpus import usable_cpus

if TYPE_CHECKING:
    from togetherchat_server.app import Addresses
    from togetherchat_server.supervisor.supervise import Reached

EXIT_USAGE: Final = 2
EXIT_CANNOT_SERVE: Final = 1


def main() -> int:
    try:
        configuration = read_configuration(sys.argv[1:], os.environ)
    except SettingsError as exc:
        _complain(str(exc))
        return EXIT_USAGE
    assignment = Assignment.of(os.environ)
    workers = configuration.settings.workers
    workers = usable_cpus() if workers == "auto" else workers
    try:
        return asyncio.run(_role(configuration, assignment, workers))
    except (OSError, RuntimeError) as exc:
        _complain(f"cannot serve: {exc}")
        return EXIT_CANNOT_SERVE


def _role(
    configuration: Configuration, assignment: Assignment | None, workers: int
) -> Coroutine[None, None, int]:
    if assignment is not None:
        return _serve_as_assigned(configuration, assignment)
    return _serve_alone(configuration) if workers == 1 else _supervise(configuration, workers)


async def _serve_alone(configuration: Configuration) -> int:
    from togetherchat_server.serving import serve_alone  # noqa: PLC0415  see above

    def greet(addresses: "Addresses") -> None:
        places = _places(addresses.rpc, health=addresses.health, admin=addresses.admin)
        _say(_greeting(configuration, places, upstream=addresses.upstream, try_on=addresses.rpc))

    await serve_alone(configuration, _version(), greet)
    return 0


async def _serve_as_assigned(configuration: Configuration, assignment: Assignment) -> int:
    from togetherchat_server.serving import serve_as_assigned  # noqa: PLC0415  see above

    return 0 if await serve_as_assigned(configuration, assignment, _version()) else EXIT_CANNOT_SERVE


async def _supervise(configuration: Configuration, workers: int) -> int:
    from togetherchat_server.supervisor.supervise import Job, Supervisor  # noqa: PLC0415  see above

    def greet(reached: "Reached") -> None:
        upstream = configuration.upstream.base_url if configuration.upstream else reached.simulator
        places = _places(reached.rpc, health=reached.health, admin=reached.admin)
        places[0] += f" by {workers} workers"
        _say(_greeting(configuration, places, upstream=upstream, try_on=reached.rpc))

    job = Job(
        settings=configuration.settings,
        workers=workers,
        words=sys.argv[1:],
        environment=os.environ,
        version=_version(),
        clock=time.monotonic,
        log=sys.stderr,
        greet=greet,
    )
    end = await Supervisor(job).run()
    if end.problem:
        _complain(f"the workers cannot start: {end.problem}")
    return 0 if end.clean else EXIT_CANNOT_SERVE


def _places(rpc: str, *, health: str | None, admin: str | None) -> list[str]:
    places = [f"gRPC on {rpc}"]
    if health:
        places.append(f"health on {health}")
    if admin:
        places.append(f"admin on http://{admin}")
    return places


def _greeting(configuration: Configuration, places: list[str], *, upstream: str, try_on: str) -> str:
    source = "answers from " if configuration.upstream else "simulated answers from "
    line = f"togetherchat {_version()} SERVING: " + ", ".join([*places, source + upstream])
    if configuration.settings.log == "json":
        return line
    return line + "\n" + _hints(try_on)


def _hints(address: str) -> str:
    """Lines to try, as they are."""
    message = '{"role": "ROLE_USER", "content": [{"text": "Hello!"}]}'
    ask = f'{{"model": "openai/gpt-oss-120b", "messages": [{message}]}}'
    call = f"grpcurl -plaintext -d '{ask}' {address} togetherchat.v1.ChatService"
    return (
        "Try:\n"
        f"  grpcurl -plaintext {address} list\n"
        f"  {call}/Complete\n"
        f"  {call}/StreamComplete\n"
        f"  grpcurl -plaintext -d '{{\"page_size\": 3}}' {address} togetherchat.v1.ChatService/ListModels"
    )


def _version() -> str:
    return importlib.metadata.version("togetherchat")


def _complain(text: str) -> None:
    _say(f"togetherchat-server: {text}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201  the command's own words


if __name__ == "__main__":
    sys.exit(main())
