"""The settings of the service: every limit has its name here.

Owns what a setting is called, its default, its range and what it means, and the order in
which sources win (flags, then environment, then file). Refuses to know where those come
from: `__main__` hands in the words of the command line and a mapping of the environment.

Each field of `Settings` is a flag (`--first-token-s`), a variable
(`TOGETHERCHAT_FIRST_TOKEN_S`) and a key of the TOML file (`first_token_s`). The provider
alone is configured by its own names: `TOGETHER_API_KEY`, `TOGETHER_API_KEY_FILE` and
`TOGETHER_BASE_URL`.
"""

import argparse
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NoReturn, cast, final
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from togetherchat_server.secret import KeyFile, Secret

TOGETHER_BASE_URL = "https://api.together.ai/v1"
TOGETHER_DOMAINS = ("together.ai", "together.xyz")
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1", "[::1]")
MEBIBYTE = 2**20
WORKERS_MAX = 256
NO_ALIASES = "{}"

_MODEL_NAME = re.compile(r"[^\s,=]{1,256}")


@final
class SettingsError(Exception):
    """A setting is wrong. The message is one line that says which, and what to do."""


def _address(text: str) -> str:
    if text == "off":
        return text
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdigit() and int(port) < 65536):
        raise ValueError("must be HOST:PORT, for example 127.0.0.1:50051")
    return text


def _optional_address(text: str) -> str:
    return _address(text or "off")


def _workers(said: object) -> object:
    text = str(said)
    if text != "auto" and not (text.isdecimal() and 1 <= int(text) <= WORKERS_MAX):
        raise ValueError(f"must be a number from 1 to {WORKERS_MAX}, or auto")
    return text if text == "auto" else int(text)


def _aliases(said: object) -> object:
    """A table of the file, the words of repeated flags, or what one variable says, apart by commas.

    `{}` says that there are none, whatever a weaker source says.
    """
    if isinstance(said, Mapping):
        return cast("Mapping[str, str]", said)
    words = said.split(",") if isinstance(said, str) else cast("Sequence[object]", said)
    pairs = [str(word).partition("=") for word in words if word != NO_ALIASES]
    return {name.strip(): model.strip() for name, _, model in pairs}


def _named(aliases: Mapping[str, str]) -> Mapping[str, str]:
    for name, model in aliases.items():
        if not (_MODEL_NAME.fullmatch(name) and _MODEL_NAME.fullmatch(model)):
            raise ValueError(
                "must be NAME=MODEL, for example fast=openai/gpt-oss-120b, without spaces or commas, "
                "256 characters a name at most"
            )
    return aliases


Address = Annotated[str, AfterValidator(_address)]
OptionalAddress = Annotated[str, AfterValidator(_optional_address)]
Aliases = Annotated[Mapping[str, str], BeforeValidator(_aliases), AfterValidator(_named)]
Workers = Annotated[int | Literal["auto"], BeforeValidator(_workers)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Bytes = Annotated[int, Field(ge=1024, le=1024 * MEBIBYTE)]


@final
class Settings(BaseModel):
    """What can be set. Durations in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: Address = Field(
        "127.0.0.1:50051", description="Where callers find the gRPC service; port 0 takes a free one."
    )
    http: OptionalAddress = Field(
        "off",
        description="Where OpenAI's clients find the service over HTTP, for example 127.0.0.1:3000, or off.",
    )
    admin: OptionalAddress = Field(
        "127.0.0.1:9464", description="Where /healthz, /readyz and /version are served over HTTP, or off."
    )
    health: OptionalAddress = Field(
        "off",
        description="A second, plaintext gRPC listener with the health service alone, for probes, or off.",
    )
    workers: Workers = Field(
        1, description="Processes that serve, on the same port, or auto: as many as there are CPUs to use."
    )
    worker_silence_s: Seconds = Field(
        8.0, description="How long one of several workers may give no sign of life before it is replaced."
    )
    sandbox: bool = Field(False, description="Answer from the built-in simulator instead of a provider.")
    sandbox_tokens_per_second: Annotated[float, Field(ge=0, le=1e6)] = Field(
        80.0, description="How fast the simulator writes; 0 is as fast as it can."
    )
    upstream_key: Literal["server", "caller", "caller-then-server"] = Field(
        "server",
        description="Whose key the provider is asked with: this service's, or the caller's `authorization`.",
    )
    allow_open_access: bool = Field(
        False,
        description="Serve anyone on an address that is not loopback although this service's own key pays.",
    )
    reflection: bool = Field(True, description="Describe the service to grpcurl and its like.")
    log: Literal["json", "text"] = Field(
        "text", description="The form of the one line that each call leaves on standard error."
    )

    total_s: Seconds = Field(
        600.0, description="The longest that a call may take, whatever its own deadline."
    )
    connect_s: Seconds = Field(
        5.0, description="The longest that connecting to the provider may take, TLS included."
    )
    first_token_s: Seconds = Field(
        120.0, description="The longest wait for the first piece of a streamed answer."
    )
    answer_s: Seconds = Field(300.0, description="The longest wait for an answer that is not streamed.")
    silence_s: Seconds = Field(60.0, description="The longest silence within a streamed answer.")
    request_s: Seconds = Field(
        60.0, description="How long a caller may take to send its request before its call is dropped."
    )
    write_stall_s: Seconds = Field(
        30.0, description="How long a caller may refuse to read before its call is dropped."
    )
    connection_age_s: Seconds = Field(
        1800.0, description="The age, give or take a tenth, at which a caller's connection is replaced."
    )
    calls_max: Count = Field(1024, description="Calls in flight; one more is refused as OVERLOADED.")
    queue_max: Annotated[int, Field(ge=0, le=100_000)] = Field(
        128, description="Calls that may wait for a place when all are taken."
    )
    queue_s: Seconds = Field(0.25, description="How long one may wait before it is refused as OVERLOADED.")
    caller_calls_max: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        0,
        description="Calls in flight of one caller's key, beyond which CALLER_QUOTA; 0: no bound.",
    )
    memory_share_max: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="From this share of the container's memory on, new calls are refused as OVERLOADED."
    )
    retries: Annotated[int, Field(ge=0, le=5)] = Field(
        2, description="How often a request that the provider did not work on is sent again."
    )
    costly_retries: Annotated[int, Field(ge=0, le=1)] = Field(
        0, description="How often one is sent again that may have been worked on, and billed."
    )
    fold_from_tokens: Annotated[int, Field(ge=0)] = Field(
        4097,
        description="From this `max_tokens` on Complete reads a stream inside, which lasts; 0: always.",
    )
    request_bytes_max: Bytes = Field(32 * MEBIBYTE, description="The largest request.")
    body_bytes_max: Bytes = Field(16 * MEBIBYTE, description="The largest answer that is not streamed.")
    event_bytes_max: Bytes = Field(MEBIBYTE, description="The largest single event of a stream.")
    stream_bytes_max: Bytes = Field(32 * MEBIBYTE, description="The largest streamed answer.")
    models_fresh_s: Seconds = Field(
        300.0, description="How long the provider's list of models is taken as fresh."
    )
    alias: Aliases = Field(
        {}, description="Names of your own for models, NAME=MODEL; may be repeated. In the file a table."
    )
    alias_unlisted: bool = Field(
        False, description="Let aliases stand for models that the catalogue does not name: private ones."
    )
    replace_retired: bool = Field(
        True, description="Ask for the successor that Together names where it refuses a model."
    )
    propagation_s: SecondsOrNone = Field(
        0.0, description="How long new calls are still taken after SIGTERM, so that balancers can notice."
    )
    drain_s: SecondsOrNone = Field(30.0, description="How long running calls may finish after that.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Who answers: the address of an OpenAI-compatible API and this service's own key for it."""

    base_url: str
    key: KeyFile | Secret | None

    def current_key(self) -> Secret | None:
        """The key of now; a file is read again when it has changed."""
        return self.key.current() if isinstance(self.key, KeyFile) else self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything that was set: the settings, and the provider (None: the simulator)."""

    settings: Settings
    upstream: Upstream | None


def read_configuration(words: Sequence[str], environment: Mapping[str, str]) -> Configuration:
    """The configuration from flags, environment and file.

    Raises:
        SettingsError: something is wrong or missing.
        SystemExit: argparse printed help.
    """
    flags = vars(flag_parser().parse_args(words))
    path = flags.pop("config", None) or environment.get("TOGETHERCHAT_CONFIG")
    chosen = {**_from_file(path), **_from_environment(environment), **flags}
    try:
        settings = Settings.model_validate(chosen)
    except ValidationError as exc:
        raise SettingsError(_first_problem(exc)) from None
    upstream = None if settings.sandbox else _upstream(settings, environment)
    if upstream is not None:
        _refuse_open_access(settings, upstream)
    return Configuration(settings=settings, upstream=upstream)


@final
class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other source of settings does."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; --help lists the settings")


def flag_parser() -> argparse.ArgumentParser:
    """The flags, made from the fields of `Settings`."""
    parser = _Parser(
        prog="togetherchat-server",
        description="Together AI's chat models over gRPC.",
        epilog="TOGETHER_API_KEY or TOGETHER_API_KEY_FILE is the provider's key, TOGETHER_BASE_URL "
        "its address. "
        "Every flag is also TOGETHERCHAT_<FLAG> in the environment and a key of the TOML file.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="a TOML file with settings")
    for name, field in Settings.model_fields.items():
        flag = "--" + name.replace("_", "-")
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        text = f"{field.description} (default: {default})"
        if isinstance(field.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        elif isinstance(field.default, dict):
            parser.add_argument(flag, metavar=_metavar(name), action="append", help=text)
        else:
            parser.add_argument(flag, metavar=_metavar(name), help=text)
    return parser


def _metavar(name: str) -> str:
    if name in {"listen", "http", "admin", "health"}:
        return "HOST:PORT"
    if name == "workers":
        return "N|auto"
    if name == "alias":
        return "NAME=MODEL"
    return name.rpartition("_")[2].upper() if "_" in name else name.upper()


def _from_file(path: str | None) -> dict[str, object]:
    if path is None:
        return {}
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as exc:
        raise SettingsError(f"cannot read the configuration file {path}: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"the configuration file {path} is not TOML: {exc}") from None
    return {key.replace("-", "_"): value for key, value in table.items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    named = {"TOGETHERCHAT_" + name.upper(): name for name in Settings.model_fields}
    return {named[key]: value for key, value in environment.items() if key in named and value}


def _first_problem(exc: ValidationError) -> str:
    problem = exc.errors(include_url=False, include_context=False)[0]
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        return f"there is no setting {name!r}"
    flag = "--" + name.replace("_", "-")
    return f"{flag} (TOGETHERCHAT_{name.upper()}): {problem['msg'].removeprefix('Value error, ')}"


def _upstream(settings: Settings, environment: Mapping[str, str]) -> Upstream:
    base_url = _base_url(environment.get("TOGETHER_BASE_URL", "").strip() or TOGETHER_BASE_URL)
    key = _key(environment)
    if key is None and settings.upstream_key == "server" and is_together(base_url):
        raise SettingsError(
            "no key for Together: set TOGETHER_API_KEY or TOGETHER_API_KEY_FILE, "
            "or let callers bring theirs (--upstream-key caller), "
            "or ask for simulated answers (--sandbox)"
        )
    return Upstream(base_url=base_url, key=key)


def _key(environment: Mapping[str, str]) -> KeyFile | Secret | None:
    text, path = environment.get("TOGETHER_API_KEY", ""), environment.get("TOGETHER_API_KEY_FILE", "")
    try:
        if text.strip():
            return Secret(text)
        if path:
            return KeyFile(Path(path))
    except ValueError as exc:
        raise SettingsError(f"{'TOGETHER_API_KEY' if text.strip() else path}: {exc}") from None
    except OSError as exc:
        raise SettingsError(f"TOGETHER_API_KEY_FILE: cannot read {path}: {exc.strerror}") from None
    return None


def _base_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host or port == 0:
        raise SettingsError(
            "TOGETHER_BASE_URL must be an http or https address, for example " + TOGETHER_BASE_URL
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingsError("TOGETHER_BASE_URL must carry no user, password, query or fragment")
    path = parts.path.rstrip("/") or "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def is_together(base_url: str) -> bool:
    """Whether an address is Together's own, which serves nobody without a key."""
    host = urlsplit(base_url).hostname or ""
    return any(host == domain or host.endswith("." + domain) for domain in TOGETHER_DOMAINS)


def is_loopback(address: str) -> bool:
    return address.rpartition(":")[0] in LOOPBACK_HOSTS


def _refuse_open_access(settings: Settings, upstream: Upstream) -> None:
    pays = upstream.key is not None and settings.upstream_key != "caller"
    open_to_all = [
        f"--{name} {address}"
        for name, address in (("listen", settings.listen), ("http", settings.http))
        if address != "off" and not is_loopback(address)
    ]
    if pays and open_to_all and not settings.allow_open_access:
        raise SettingsError(
            f"{open_to_all[0]} would let anyone who reaches it spend this service's key: listen on "
            "127.0.0.1, let callers bring theirs (--upstream-key caller), or say --allow-open-access"
        )
