"""The command line: what can be said, and its defaults from the environment.

Keys are never arguments, for every process of the machine can read those: they come from
the environment or from a file.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from togetherchat_client.health import CHAT_SERVICE

DEFAULT_TARGET: Final = "localhost:50051"
DEFAULT_MODEL: Final = "openai/gpt-oss-120b"

ENVIRONMENT: Final = """\
environment:
  TOGETHERCHAT_TARGET        where the service is (default localhost:50051)
  TOGETHERCHAT_KEY           what the service knows you by
  TOGETHERCHAT_UPSTREAM_KEY  your own Together key, where the service asks for one
  TOGETHERCHAT_MODEL         the model (default openai/gpt-oss-120b)
  NO_COLOR                   no colours

exit codes:
  0 done   1 failure of the service or the provider   2 wrong usage   3 request refused
  4 key missing or refused   5 not found   6 rate limit, quota or spend limit
  7 unavailable   8 out of time   130 interrupted   141 nobody reads the output
"""


class UsageError(Exception):
    """The command was asked for something that cannot be. One sentence, for people."""


class Arguments(argparse.Namespace):
    """The command line, parsed. A subcommand sets what it has options for."""

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
    stop: list[str]
    reasoning_effort: str
    fallback: list[str]
    thinking: bool

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
    all: bool

    service: str


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Arguments:
    """Parse the command line. What is wrong with it is printed, and the process ends with 2."""
    parser = _parser(environ)
    arguments = parser.parse_args(argv, namespace=Arguments())
    if not all(_is_text(word) for word in argv):
        parser.error("the command line is not text in UTF-8")
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
    # No abbreviations: `--key` would be taken for `--key-file`, and the key be on the command line.
    add = partial(
        parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND").add_parser,
        allow_abbrev=False,
    )
    _add_chat(add("chat", parents=[shared, sampling], help="talk, with history"))
    _add_complete(add("complete", parents=[shared, sampling], help="ask once"))
    _add_models(add("models", parents=[shared], help="list the models"))
    _add_health(add("health", parents=[shared], help="ask whether the service takes calls"))
    return parser


def _shared(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    options = parser.add_argument_group("connection and output")
    options.add_argument(
        "--target",
        default=environ.get("TOGETHERCHAT_TARGET") or DEFAULT_TARGET,
        metavar="HOST:PORT",
        help="where the service is",
    )
    options.add_argument(
        "--tls", action=argparse.BooleanOptionalAction, help="default: TLS, but plain text on this machine"
    )
    options.add_argument("--ca-file", type=Path, metavar="FILE", help="trust these certificates (PEM)")
    options.add_argument(
        "--cert-file", type=Path, metavar="FILE", help="show this certificate, with its chain (PEM)"
    )
    options.add_argument("--cert-key-file", type=Path, metavar="FILE", help="its private key (PEM)")
    options.add_argument("--key-file", type=Path, metavar="FILE", help="a file with the key")
    options.add_argument(
        "--upstream-key-file", type=Path, metavar="FILE", help="a file with your Together key"
    )
    options.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="deadline of a call")
    options.add_argument("--no-retries", dest="retries", action="store_false", help="never send a call twice")
    options.add_argument("--json", action="store_true", help="print JSON, errors as well")
    options.add_argument("--no-color", dest="color", action="store_false", help="no colours")
    return parser


def _sampling(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    options = parser.add_argument_group("answer")
    options.add_argument(
        "-m", "--model", default=environ.get("TOGETHERCHAT_MODEL") or DEFAULT_MODEL, metavar="ID"
    )
    options.add_argument("-s", "--system", default="", metavar="TEXT", help="instructions for the model")
    options.add_argument("--max-tokens", type=_integer(32), metavar="N")
    options.add_argument("--temperature", type=float, metavar="X")
    options.add_argument("--top-p", type=float, metavar="X")
    options.add_argument("--seed", type=_integer(64), metavar="N")
    options.add_argument("--stop", action="append", default=[], metavar="TEXT", help="may be repeated")
    options.add_argument("--reasoning-effort", default="", metavar="WORD", help="low, medium, high, ...")
    options.add_argument(
        "--fallback", action="append", default=[], metavar="ID", help="a model to try next; may be repeated"
    )
    options.add_argument("--thinking", action="store_true", help="show the model's thinking on stderr")
    return parser


def _add_chat(parser: argparse.ArgumentParser) -> None:
    parser.description = "Talk. Ctrl-C stops an answer and keeps the session, Ctrl-D ends it."
    parser.add_argument(
        "--history", type=Path, metavar="FILE", help="keep your lines in a file (default: nowhere)"
    )


def _add_complete(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Ask once. `-` stands for standard input, which is also read when there is no prompt."
    )
    parser.add_argument("prompt", nargs="*", metavar="PROMPT")
    parser.add_argument(
        "--image", type=Path, action="append", default=[], metavar="FILE", help="may be repeated"
    )
    parser.add_argument(
        "--stream", action="store_true", help="print while it is made; with --json, an event a line"
    )


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.description = "List the models. Without a terminal: a model a line, columns apart by tabs."
    parser.add_argument("--type", default="", metavar="WORD", help="chat, image, embedding, ...")
    parser.add_argument("--org", default="", metavar="NAME", help="who made it")
    parser.add_argument("--query", default="", metavar="TEXT", help="text in the id or name")
    parser.add_argument("--quantization", default="", metavar="WORD", help="FP8, FP16, ...")
    parser.add_argument("--availability", choices=["serverless", "dedicated"], default="")
    parser.add_argument("--state", choices=["active", "unconfirmed", "retired"], default="")
    parser.add_argument("--min-context", type=_integer(32), metavar="TOKENS")
    parser.add_argument("--max-price", type=float, metavar="USD", help="for a million prompt tokens")
    parser.add_argument("--sort", choices=["id", "context", "price"], default="id")
    parser.add_argument("--all", action="store_true", help="show retired models, too")


def _add_health(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print SERVING and end with 0, or what else it is and end with 7."
    parser.add_argument("--service", default=CHAT_SERVICE, metavar="NAME", help="empty for the whole server")


def _is_text(word: str) -> bool:
    """Python keeps bytes that are no UTF-8 as lone surrogates, which no message can carry."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _integer(bits: int) -> Callable[[str], int]:
    """A parser of whole numbers that fit a field of `bits` bits."""

    def integer(text: str) -> int:
        number = int(text)
        if number.bit_length() >= bits:
            raise argparse.ArgumentTypeError("is too large")
        return number

    return integer


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return seconds
