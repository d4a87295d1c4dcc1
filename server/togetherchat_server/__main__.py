"""The command `togetherchat-server`: reads what was set, runs the app, turns signals into a stop.

The app is imported last, when the settings are known to be good and signals are listened to:
gRPC alone takes a third of a second, in which a first process of a container would miss the
signal to stop, and gRPC's core decides at its import what it prints.
"""

import asyncio
import contextlib
import importlib.metadata
import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Final, TextIO

from togetherchat_server.config import Configuration, SettingsError, read_configuration

if TYPE_CHECKING:
    from togetherchat_server.app import Addresses

EXIT_USAGE: Final = 2
EXIT_CANNOT_SERVE: Final = 1


def main() -> int:
    # gRPC's core would write to standard error from threads of its own, around the log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        configuration = read_configuration(sys.argv[1:], os.environ)
    except SettingsError as exc:
        _say(f"togetherchat-server: {exc}")
        return EXIT_USAGE
    return asyncio.run(_serve(configuration))


async def _serve(configuration: Configuration) -> int:
    first, second = _signals()
    from togetherchat_server.app import App, Outside  # noqa: PLC0415  see the top

    outside = Outside(
        version=importlib.metadata.version("togetherchat"),
        clock=time.monotonic,
        wall_clock=time.time,
        random=random.random,
        log=_log_stream(),
    )
    app = App(configuration, outside)
    try:
        addresses = await app.start()
    except OSError as exc:
        _say(f"togetherchat-server: cannot serve: {exc}")
        return EXIT_CANNOT_SERVE
    _say(_greeting(addresses, configuration, outside.version))
    number = await first
    propagation_s = configuration.settings.propagation_s if number == signal.SIGTERM else 0.0
    await app.stop(propagation_s=propagation_s, hurry=second)
    return 0


def _log_stream() -> TextIO:
    """Standard error once more, for the log alone. At its end Python flushes `sys.stderr`, and
    would wait for ever for the log's thread where that is in a write that nobody reads.
    """
    return os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="backslashreplace")


def _signals() -> tuple[asyncio.Future[int], asyncio.Event]:
    """The first signal to stop, and whether a second one came."""
    loop = asyncio.get_running_loop()
    first: asyncio.Future[int] = loop.create_future()
    second = asyncio.Event()

    def stop(number: int) -> None:
        if first.done():
            second.set()
        else:
            first.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return first, second


def _greeting(addresses: "Addresses", configuration: Configuration, version: str) -> str:
    simulated = configuration.upstream is None
    places = [f"gRPC on {addresses.rpc}"]
    if addresses.health:
        places.append(f"health on {addresses.health}")
    if addresses.admin:
        places.append(f"admin on http://{addresses.admin}")
    places.append(("simulated answers from " if simulated else "answers from ") + addresses.upstream)
    line = f"togetherchat {version} SERVING: " + ", ".join(places)
    if configuration.settings.log == "json":
        return line
    return line + "\n" + _hints(addresses.rpc)


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


def _say(text: str) -> None:
    """The command's own words. A disk that is full is no reason not to serve: they are lost then,
    past `sys.stderr`, which would keep them and fail once more at the end.
    """
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{text}\n".encode(errors="backslashreplace"))


if __name__ == "__main__":
    sys.exit(main())
