"""Reads the TOML of a catalogue, strictly: the first thing that is wrong ends the reading.

Owns the keys that the file may have and what may stand in them. Knows nothing of what the
models are used for.
"""

import datetime as dt
import importlib.resources
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from togetherchat.v1 import models_pb2 as models

ID_CHARACTERS_MAX: Final = 256

_PACKAGE: Final = "togetherchat_server.models"
_SHIPPED_FILE: Final = "models.toml"
_MONTH: Final = re.compile(r"20\d\d-(0[1-9]|1[0-2])")

_AVAILABILITY: Final[Mapping[object, models.Availability.ValueType]] = {
    "SERVERLESS": models.AVAILABILITY_SERVERLESS,
    "DEDICATED": models.AVAILABILITY_DEDICATED,
    "BOTH": models.AVAILABILITY_BOTH,
}


class CatalogError(ValueError):
    """The catalogue's file is wrong; the message says where and how."""


def shipped_text() -> bytes:
    return importlib.resources.files(_PACKAGE).joinpath(_SHIPPED_FILE).read_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogFile:
    """What the file says."""

    by_id: dict[str, models.Model]
    """In the order of the file."""
    as_of: str
    """The month of its newest list, empty where it has none."""
    replacements: dict[str, str]
    """An id to its successor's."""


def read_models(text: bytes) -> CatalogFile:
    """Everything that the file says.

    Raises:
        CatalogError: it is no TOML, or has an unknown or missing key, a value of the wrong
            kind, an id twice, or a model that is replaced by one that it does not name.
    """
    try:
        document: dict[str, object] = tomllib.loads(text.decode("utf-8"))
    except ValueError as exc:  # of the decoding, and of the parsing
        raise CatalogError(f"the catalogue is no TOML in UTF-8: {exc}") from exc
    _check_keys(document, _DOCUMENT_KEYS, "the catalogue")
    by_id: dict[str, models.Model] = {}
    replacements: dict[str, str] = {}
    months: list[str] = []
    for place, table in _tables(document["lists"], "lists"):
        _check_keys(table, _LIST_KEYS, place)
        months.append(cast("str", table["as_of"]))
        for model_place, row in _tables(table["models"], f"{place}.models"):
            model = _model(row, table, model_place)
            if model.id in by_id:
                raise CatalogError(f"{model_place}.id: {model.id} stands in the catalogue twice")
            by_id[model.id] = model
            if _REPLACED_BY in row:
                replacements[model.id] = cast("str", row[_REPLACED_BY])
    _check_replacements(replacements, by_id)
    return CatalogFile(by_id=by_id, as_of=max(months, default=""), replacements=replacements)


def _check_replacements(replacements: Mapping[str, str], by_id: Mapping[str, models.Model]) -> None:
    for model_id, successor in replacements.items():
        if successor not in by_id or successor == model_id:
            raise CatalogError(f"{model_id}.replaced_by: {successor} is no other model of the catalogue")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    fits: Callable[[object], bool]
    wanted: str
    required: bool = False


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value) and value.isprintable()


def _is_id(value: object) -> bool:
    return isinstance(value, str) and _is_text(value) and " " not in value and len(value) <= ID_CHARACTERS_MAX


def _is_price(value: object) -> bool:
    return type(value) in {int, float} and 0 <= cast("float", value) < math.inf


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value < 2**31


def _is_month(value: object) -> bool:
    return isinstance(value, str) and _MONTH.fullmatch(value) is not None


_TEXT: Final = _Key(fits=_is_text, wanted="a text that is not empty")
_REQUIRED_TEXT: Final = _Key(fits=_is_text, wanted="a text that is not empty", required=True)
_TABLES: Final = _Key(fits=lambda value: isinstance(value, list), wanted="a list of tables", required=True)
_PRICE: Final = _Key(fits=_is_price, wanted="a number, 0 or above")

_DOCUMENT_KEYS: Final = {"lists": _TABLES}
_LIST_KEYS: Final = {
    "source": _REQUIRED_TEXT,
    "as_of": _Key(fits=_is_month, wanted='a month such as "2026-11"', required=True),
    "type": _REQUIRED_TEXT,
    "availability": _Key(
        fits=lambda value: isinstance(value, str) and value in _AVAILABILITY,
        wanted="SERVERLESS, DEDICATED or BOTH",
        required=True,
    ),
    "models": _TABLES,
}
_PRICE_FIELDS: Final = {
    "input_usd": "input_usd_per_million_tokens",
    "output_usd": "output_usd_per_million_tokens",
    "cached_input_usd": "cached_input_usd_per_million_tokens",
    "hourly_usd": "hourly_usd",
}
_REPLACED_BY: Final = "replaced_by"
_MODEL_KEYS: Final = {
    "id": _Key(fits=_is_id, wanted="an id of 1 to 256 characters without spaces", required=True),
    "display_name": _REQUIRED_TEXT,
    "organization": _REQUIRED_TEXT,
    "context_length": _Key(fits=_is_count, wanted="a number of tokens, 1 or above"),
    "quantization": _TEXT,
    "license": _TEXT,
    "link": _TEXT,
    "retirement_date": _Key(
        fits=lambda value: type(value) is dt.date, wanted="a date such as 2026-11-22, without quotes"
    ),
    _REPLACED_BY: _Key(fits=_is_id, wanted="the id of another model"),
    **dict.fromkeys(_PRICE_FIELDS, _PRICE),
}


def _check_keys(table: Mapping[str, object], keys: Mapping[str, _Key], place: str) -> None:
    for name, value in table.items():
        key = keys.get(name)
        if key is None:
            raise CatalogError(f"{place}: unknown key {name!r}; known are {', '.join(keys)}")
        if not key.fits(value):
            raise CatalogError(f"{place}.{name}: must be {key.wanted}")
    for name, key in keys.items():
        if key.required and name not in table:
            raise CatalogError(f"{place}: {name!r} is missing")


def _tables(value: object, place: str) -> Iterator[tuple[str, dict[str, object]]]:
    for index, table in enumerate(cast("list[object]", value)):
        if not isinstance(table, dict):
            raise CatalogError(f"{place}[{index}]: must be a table")
        yield f"{place}[{index}]", cast("dict[str, object]", table)


def _model(row: dict[str, object], table: dict[str, object], place: str) -> models.Model:
    _check_keys(row, _MODEL_KEYS, place)
    model = models.Model(type=cast("str", table["type"]), availability=_AVAILABILITY[table["availability"]])
    for name, value in row.items():
        if name == _REPLACED_BY:
            continue
        if name in _PRICE_FIELDS:
            setattr(model.pricing, _PRICE_FIELDS[name], value)
        else:
            setattr(model, name, value.isoformat() if isinstance(value, dt.date) else value)
    return model
