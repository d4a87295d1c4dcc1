"""The command `togetherchat-sandbox`: parses the flags and serves the sandbox until a signal."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence

from togetherchat_sandbox.faults import table_markdown
from togetherchat_sandbox.server import Sandbox
from togetherchat_sandbox.settings import FIRST_TOKEN_MS, TOKENS_PER_SECOND, SandboxSettings

LISTEN = "127.0.0.1:8801"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    flags = _parser().parse_args(arguments)
    if flags.list_models:
        sys.stdout.write(table_markdown())
        return 0
    # uvicorn warns of requests that are malformed or offer an upgrade; clients learn that from the reply.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    host, port = flags.listen
    settings = SandboxSettings(
        seed=flags.seed,
        first_token_ms=flags.first_token_ms,
        tokens_per_second=flags.tokens_per_second,
        unary_wait_max_ms=flags.unary_wait_max_ms,
        request_log_size=flags.request_log_size,
    )
    try:
        asyncio.run(_serve(Sandbox(settings, host=host, port=port)))
    except OSError as exc:
        sys.stderr.write(
            f"togetherchat-sandbox: --listen: {_reason(exc)}: {host}:{port} (choose another address)\n"
        )
        return 1
    return 0


async def _serve(sandbox: Sandbox) -> None:
    """Serve until SIGINT or SIGTERM."""
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled.set)
    async with sandbox:
        sys.stderr.write(f"togetherchat-sandbox: listening on {sandbox.base_url}\n")
        sys.stderr.flush()
        await signalled.wait()


def _reason(exc: OSError) -> str:
    """Return the system's own words; asyncio's repeat the address. A failed lookup has other numbers."""
    number = exc.errno or 0
    return (os.strerror(number) if number > 0 else str(exc.strerror)).lower()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="togetherchat-sandbox",
        description="Simulate Together AI's chat API, without a key and without cost.",
    )
    parser.add_argument(
        "--listen", type=_address, default=_address(LISTEN), metavar="HOST:PORT",
        help=f"address to listen on; port 0 selects a free port (default {LISTEN})",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N",
        help="equal seeds and equal requests give equal completions (default 0)",
    )  # fmt: skip
    parser.add_argument(
        "--tokens-per-second", type=_not_negative, metavar="X",
        help=f"pace of a completion, 0 for no waiting (default {TOKENS_PER_SECOND:g})",
    )  # fmt: skip
    parser.add_argument(
        "--first-token-ms", type=_not_negative, metavar="N",
        help=f"time to the first token (default {FIRST_TOKEN_MS:g})",
    )  # fmt: skip
    parser.add_argument(
        "--unary-wait-max-ms", type=_not_negative, default=3_000.0, metavar="N",
        help="longest time that a unary response takes (default 3000)",
    )  # fmt: skip
    parser.add_argument(
        "--request-log-size", type=_positive, default=1_000, metavar="N",
        help="number of requests that /sandbox/request-log keeps (default 1000)",
    )  # fmt: skip
    parser.add_argument("--list-models", action="store_true", help="print the sandbox's model ids and exit")
    return parser


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise argparse.ArgumentTypeError(f"{text} is not HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def _not_negative(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
