"""Types of settings: addresses, numbers of workers, aliases.

Owns the syntax of each type and its error message. Knows no setting by name.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field

from togetherchat_server.config.listen_address import ListenAddress
from togetherchat_server.config.proxy import parse_proxy
from togetherchat_server.domain.addresses import Network
from togetherchat_server.domain.origins import Origin

MEBIBYTE = 2**20
WORKERS_MAX = 256
CLAIM_CHARACTERS_MAX = 256
NO_ALIASES = "{}"
OFF = "off"
AUTO = "auto"
ANY_ORIGIN = "*"

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?")
_MODEL_NAME = re.compile(r"[^\s,=]{1,256}")


def _address(text: str) -> str:
    ListenAddress.parse(text)
    return text


def _off_is_none(value: object) -> object:
    """Map `off` and the empty string to None."""
    return None if value in {"", OFF} else value


def _optional_address(text: str | None) -> str | None:
    return None if text is None else _address(text)


def _comma_separated(value: object) -> object:
    """Accept a list, or a comma-separated text; `off` and the empty text are an empty list."""
    if isinstance(value, str):
        return [] if value in {"", OFF} else [item.strip() for item in value.split(",")]
    return value


def _network(value: object) -> Network:
    try:
        return ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        raise ValueError(
            "must be addresses or networks separated by commas, for example 10.0.0.0/8,2001:db8::/32"
        ) from None


def _host_name(text: str) -> str:
    if not _HOST_NAME.fullmatch(text):
        raise ValueError("must be host names separated by commas, without ports, such as metrics.example.com")
    return text.lower()


def _origin(text: str) -> str:
    if text != ANY_ORIGIN and Origin.parse(text) is None:
        raise ValueError(
            "must be origins separated by commas, such as https://chat.example.com or app://obsidian.md, "
            "without a path; or * for every page"
        )
    return text


def _file_mode(value: object) -> object:
    """Accept octal digits; a number of the TOML file is written `0o660`."""
    if isinstance(value, int):
        return value
    if not re.fullmatch(r"0?o?[0-7]{3}", str(value)):
        raise ValueError("must be three octal digits, for example 0660")
    return int(str(value)[-3:], 8)


def _claim_name(text: str) -> str:
    if not 0 < len(text) <= CLAIM_CHARACTERS_MAX or not text.isprintable():
        raise ValueError(f"must be the name of a claim, of at most {CLAIM_CHARACTERS_MAX} characters")
    return text


def _upstream_proxy(text: str) -> str:
    if text in {OFF, AUTO}:
        return text
    try:
        parse_proxy(text)
    except ValueError as exc:
        raise ValueError(f"{exc}; or auto, or off") from None
    return text


def _workers(value: object) -> object:
    text = str(value)
    if text != "auto" and not (text.isdecimal() and 1 <= int(text) <= WORKERS_MAX):
        raise ValueError(f"must be a number from 1 to {WORKERS_MAX}, or auto")
    return text if text == "auto" else int(text)


def _aliases(value: object) -> object:
    """Accept a table of the file, repeated flags, or a comma-separated variable.

    `{}` means no aliases, whatever a weaker source sets.
    """
    if isinstance(value, Mapping):
        return cast("Mapping[str, str]", value)
    items = value.split(",") if isinstance(value, str) else cast("Sequence[object]", value)
    pairs = [str(item).partition("=") for item in items if item != NO_ALIASES]
    return {name.strip(): model.strip() for name, _, model in pairs}


def _named(aliases: Mapping[str, str]) -> Mapping[str, str]:
    for name, model in aliases.items():
        if not (_MODEL_NAME.fullmatch(name) and _MODEL_NAME.fullmatch(model)):
            raise ValueError(
                "must be NAME=MODEL, for example fast=openai/gpt-oss-120b, without spaces or commas, "
                "at most 256 characters per name"
            )
    return aliases


Address = Annotated[str, AfterValidator(_address)]
OptionalAddress = Annotated[str | None, AfterValidator(_optional_address), BeforeValidator(_off_is_none)]
OptionalText = Annotated[str | None, BeforeValidator(_off_is_none)]
OptionalAge = Annotated[
    Annotated[float, Field(gt=0, le=10 * 366 * 86_400, allow_inf_nan=False)] | None,
    BeforeValidator(_off_is_none),
]
ClaimName = Annotated[str, AfterValidator(_claim_name)]
UpstreamProxy = Annotated[str, AfterValidator(_upstream_proxy)]
Traces = Annotated[Literal["otlp"] | None, BeforeValidator(_off_is_none)]
Aliases = Annotated[Mapping[str, str], BeforeValidator(_aliases), AfterValidator(_named)]
Networks = Annotated[
    tuple[Annotated[Network, BeforeValidator(_network)], ...], BeforeValidator(_comma_separated)
]
HostNames = Annotated[
    tuple[Annotated[str, AfterValidator(_host_name)], ...], BeforeValidator(_comma_separated)
]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_comma_separated)]
Workers = Annotated[int | Literal["auto"], BeforeValidator(_workers)]
FileMode = Annotated[int, Field(ge=0, le=0o777), BeforeValidator(_file_mode)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
OptionalSeconds = Annotated[Seconds | None, BeforeValidator(_off_is_none)]
NonNegativeSeconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Bytes = Annotated[int, Field(ge=1024, le=1024 * MEBIBYTE)]
