"""The command `togetherchat-sandbox`: flags in, a listening sandbox out, until a signal comes."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

from togetherchat_sandbox.misbehaviour import table_markdown
from togetherchat_sandbox.server import Sandbox
from togetherchat_sandbox.settings import FIRST_TOKEN_MS, TOKENS_PER_SECOND, SandboxSettings

LISTEN = "127.0.0.1:8801"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the result is its exit status."""
    flags = _parser().parse_args(arguments)
    if flags.names:
        sys.stdout.write(table_markdown())
        return 0
    host, port = flags.listen
    settings = SandboxSettings(
        seed=flags.seed,
        first_token_ms=flags.first_token_ms,
        tokens_per_second=flags.tokens_per_second,
        unary_wait_max_ms=flags.unary_wait_max_ms,
        ledger_requests_max=flags.ledger_requests,
    )
    try:
        asyncio.run(_serve(Sandbox(settings, host=host, port=port)))
    except OSError as exc:
        sys.stderr.write(f"togetherchat-sandbox: cannot listen on {host}:{port}: {exc.strerror}\n")
        return 1
    return 0


async def _serve(sandbox: Sandbox) -> None:
    """Listen until SIGINT or SIGTERM."""
    told_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told_to_stop.set)
    async with sandbox:
        sys.stderr.write(f"togetherchat-sandbox: listening on {sandbox.base_url}\n")
        sys.stderr.flush()
        await told_to_stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="togetherchat-sandbox",
        description="A simulation of Together AI's chat API. It needs no key and costs nothing.",
    )
    parser.add_argument(
        "--listen", type=_address, default=_address(LISTEN), metavar="HOST:PORT",
        help=f"where to listen, port 0 for a free one (default {LISTEN})",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N",
        help="same seed, same requests: same answers (default 0)",
    )  # fmt: skip
    parser.add_argument(
        "--tokens-per-second", type=_not_negative, metavar="X",
        help=f"pace of an answer, 0 for no waiting (default {TOKENS_PER_SECOND:g})",
    )  # fmt: skip
    parser.add_argument(
        "--first-token-ms", type=_not_negative, metavar="N",
        help=f"time to the first token (default {FIRST_TOKEN_MS:g})",
    )  # fmt: skip
    parser.add_argument(
        "--unary-wait-max-ms", type=_not_negative, default=3_000.0, metavar="N",
        help="how long an answer that does not stream takes at most (default 3000)",
    )  # fmt: skip
    parser.add_argument(
        "--ledger-requests", type=_positive, default=1_000, metavar="N",
        help="how many requests /sandbox/ledger remembers (default 1000)",
    )  # fmt: skip
    parser.add_argument("--names", action="store_true", help="print the model names that misbehave, and end")
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
