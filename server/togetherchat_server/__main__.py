"""The command `togetherchat-server`: reads what was set, runs the app, turns signals into a stop."""

import asyncio
import importlib.metadata
import os
import random
import signal
import sys
import time
from typing import Final

from togetherchat_server.app import Addresses, App, Outside
from togetherchat_server.config import Configuration, SettingsError, read_configuration

EXIT_USAGE: Final = 2
EXIT_CANNOT_SERVE: Final = 1


def main() -> int:
    try:
        configuration = read_configuration(sys.argv[1:], os.environ)
    except SettingsError as exc:
        _say(f"togetherchat-server: {exc}")
        return EXIT_USAGE
    return asyncio.run(_serve(configuration))


async def _serve(configuration: Configuration) -> int:
    outside = Outside(
        version=importlib.metadata.version("togetherchat"),
        clock=time.monotonic,
        wall_clock=time.time,
        random=random.random,
        log=sys.stderr,
    )
    first, second = _signals()
    app = App(configuration, outside)
    try:
        addresses = await app.start()
    except (OSError, RuntimeError) as exc:
        _say(f"togetherchat-server: cannot serve: {exc}")
        return EXIT_CANNOT_SERVE
    _say(_greeting(addresses, configuration, outside.version))
    number = await first
    propagation_s = configuration.settings.propagation_s if number == signal.SIGTERM else 0.0
    await app.stop(propagation_s=propagation_s, hurry=second)
    return 0


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


def _greeting(addresses: Addresses, configuration: Configuration, version: str) -> str:
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
    print(text, file=sys.stderr, flush=True)  # noqa: T201  the command's own words


if __name__ == "__main__":
    sys.exit(main())
