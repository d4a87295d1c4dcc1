"""The command line, with defaults from the environment.

Keys are never arguments, because every process of the machine can read the arguments of another.
Keys come from the environment or from a file.
"""

import argparse
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from togetherchat_client.cli.usage_arguments import add_quotas, add_usage
from togetherchat_client.health import CHAT_SERVICE

DEFAULT_TARGET: Final = "localhost:50051"
DEFAULT_MODEL: Final = "openai/gpt-oss-120b"

ENVIRONMENT: Final = """\
environment:
  TOGETHERCHAT_TARGET        address of the service (default localhost:50051)
  TOGETHERCHAT_KEY           API key of the service
  TOGETHERCHAT_UPSTREAM_KEY  your Together API key, if the service requires one
  TOGETHERCHAT_MODEL         model (default openai/gpt-oss-120b)
  NO_COLOR                   disable colours

exit codes:
  0 success   1 failure of the service or the provider   2 wrong usage
  3 request rejected   4 key missing or rejected   5 not found
  6 rate limit, quota or spend limit   7 unavailable   8 deadline exceeded
  130 interrupted   141 output pipe closed
"""


class UsageError(Exception):
    """The command line is invalid. The message is one sentence, for people."""


class Arguments(argparse.Namespace):
    """The parsed command line. A subcommand sets the attributes of its own options."""

    subcommand: str
    target: str
    tls: bool | None
    ca_file: Path | None
    cert_file: Path | None
    cert_key_file: Path | None
    key_file: Path | None
    upstream_key_file: Path | None
    timeout: float | None
    retries: bool
    json: bool
    color: bool

    model: str
    system: str
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    user: str
    stop: list[str]
    reasoning_effort: str
    fallback: list[str]
    show_reasoning: bool

    prompt: list[str]
    image: list[Path]
    stream: bool

    history: Path | None

    type: str
    org: str
    query: str
    quantization: str
    availability: str
    min_context: int | None
    max_price: float | None
    state: str
    sort: str
    reverse: bool
    all: bool

    id: str

    service: str

    since: dt.datetime | None
    until: dt.datetime | None
    by: tuple[str, ...]
    tenants: list[str]
    models: list[str]
    keys: list[str]
    users: list[str]
    reasons: list[str]
    csv: bool


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Arguments:
    """Parse the command line. For an invalid one, print the error and end the process with 2."""
    parser = _parser(environ)
    arguments = parser.parse_args(argv, namespace=Arguments())
    if not all(_is_text(word) for word in argv):
        parser.error("the command line is not UTF-8 text")
    return arguments


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="togetherchat",
        description="Chat with the models behind a togetherchat service.",
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shared = _shared(environ)
    sampling = _sampling(environ)
    # No abbreviations: `--key` would mean `--key-file`, and the key would be on the command line.
    add = partial(
        parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND").add_parser,
        allow_abbrev=False,
    )
    _add_chat(add("chat", parents=[shared, sampling], help="chat with a model"))
    _add_complete(add("complete", parents=[shared, sampling], help="print one completion"))
    _add_models(add("models", parents=[shared], help="list models"))
    _add_model(add("model", parents=[shared], help="show one model"))
    _add_health(add("health", parents=[shared], help="check whether the service is serving"))
    add_usage(add("usage", parents=[shared], help="report usage and cost"))
    add_quotas(add("quotas", parents=[shared], help="report the limits of tenants"))
    return parser


def _shared(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    options = parser.add_argument_group("connection and output")
    options.add_argument(
        "--target",
        default=environ.get("TOGETHERCHAT_TARGET") or DEFAULT_TARGET,
        metavar="HOST:PORT",
        help="address of the service",
    )
    options.add_argument(
        "--tls", action=argparse.BooleanOptionalAction, help="default: TLS, except to this machine"
    )
    options.add_argument("--ca-file", type=Path, metavar="FILE", help="trusted root certificates (PEM)")
    options.add_argument(
        "--cert-file", type=Path, metavar="FILE", help="client certificate, with its chain (PEM)"
    )
    options.add_argument("--cert-key-file", type=Path, metavar="FILE", help="key of --cert-file (PEM)")
    options.add_argument("--key-file", type=Path, metavar="FILE", help="file with the service's API key")
    options.add_argument(
        "--upstream-key-file", type=Path, metavar="FILE", help="file with your Together API key"
    )
    options.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="deadline of each call")
    options.add_argument("--no-retries", dest="retries", action="store_false", help="do not retry calls")
    options.add_argument("--json", action="store_true", help="print JSON, also for errors")
    options.add_argument("--no-color", dest="color", action="store_false", help="disable colours")
    return parser


def _sampling(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    options = parser.add_argument_group("completion")
    options.add_argument(
        "-m", "--model", default=environ.get("TOGETHERCHAT_MODEL") or DEFAULT_MODEL, metavar="ID"
    )
    options.add_argument("-s", "--system", default="", metavar="TEXT", help="system message")
    options.add_argument("--max-tokens", type=_integer(32), metavar="N")
    options.add_argument("--temperature", type=float, metavar="X")
    options.add_argument("--top-p", type=float, metavar="X")
    options.add_argument("--seed", type=_unsigned(64), metavar="N")
    options.add_argument("--user", default="", metavar="ID", help="the end user, for the provider's cache")
    options.add_argument("--stop", action="append", default=[], metavar="TEXT", help="may be repeated")
    options.add_argument("--reasoning-effort", default="", metavar="EFFORT", help="low, medium, high, ...")
    options.add_argument(
        "--fallback", action="append", default=[], metavar="ID", help="model to try next; may be repeated"
    )
    options.add_argument("--show-reasoning", action="store_true", help="print the reasoning on stderr")
    return parser


def _add_chat(parser: argparse.ArgumentParser) -> None:
    parser.description = "Chat with a model. Ctrl-C stops a completion, Ctrl-D leaves the chat."
    parser.add_argument(
        "--history",
        type=Path,
        metavar="FILE",
        help="keep the typed lines in a file (default: in memory)",
    )


def _add_complete(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print one completion. `-` stands for standard input, which is also read when there is no PROMPT."
    )
    parser.add_argument("prompt", nargs="*", metavar="PROMPT")
    parser.add_argument(
        "--image", type=Path, action="append", default=[], metavar="FILE", help="may be repeated"
    )
    parser.add_argument(
        "--stream", action="store_true", help="print text as it arrives; with --json, one event per line"
    )


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.description = "List models. In a pipe: one model per line, columns separated by tabs."
    parser.add_argument("--type", default="", metavar="TYPE", help="chat, image, embedding, ...")
    parser.add_argument("--org", default="", metavar="NAME", help="organization that made the model")
    parser.add_argument("--query", default="", metavar="TEXT", help="text in the id or display name")
    parser.add_argument("--quantization", default="", metavar="TYPE", help="FP8, FP16, ...")
    parser.add_argument("--availability", choices=["serverless", "dedicated"], default="")
    parser.add_argument("--state", choices=["active", "unconfirmed", "retired"], default="")
    parser.add_argument("--min-context", type=_integer(32), metavar="TOKENS")
    parser.add_argument("--max-price", type=float, metavar="USD", help="per million prompt tokens")
    parser.add_argument(
        "--sort",
        choices=["id", "context", "price"],
        default="",
        help="largest context, or lowest price, first; default: callable models first",
    )
    parser.add_argument("--reverse", action="store_true", help="reverse the order of --sort")
    parser.add_argument("--all", action="store_true", help="also list retired models")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.description = "Show one model. In a pipe: one field per line, name and value separated by a tab."
    parser.add_argument("id", metavar="ID", help="id or alias of the model")


def _add_health(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print the health status. The exit code is 0 for SERVING and 7 for any other status."
    parser.add_argument(
        "--service", default=CHAT_SERVICE, metavar="NAME", help="empty for the server as a whole"
    )


def _is_text(word: str) -> bool:
    """Return whether `word` is UTF-8. Other bytes become surrogates, which protobuf cannot encode."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _integer(bits: int) -> Callable[[str], int]:
    """Return a parser of integers that fit a signed field of `bits` bits."""

    def integer(text: str) -> int:
        number = int(text)
        if number.bit_length() >= bits:
            raise argparse.ArgumentTypeError("is too large")
        return number

    return integer


def _unsigned(bits: int) -> Callable[[str], int]:
    """Return a parser of integers that fit an unsigned field of `bits` bits."""

    def integer(text: str) -> int:
        number = int(text)
        if not 0 <= number < 2**bits:
            raise argparse.ArgumentTypeError(f"must be 0 to 2^{bits} - 1")
        return number

    return integer


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be greater than 0")
    return seconds
