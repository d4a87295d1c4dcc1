"""The TOML file of a model catalog: its members and its rules.

Every member is checked, and the first invalid one is reported. This module does not know what the
models are used for.
"""

import datetime as dt
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from togetherchat.v1 import models_pb2 as models
from togetherchat_server.config.file_table import FileTable, parse_toml, rule

ID_CHARACTERS_MAX: Final = 256
TOKENS_MAX: Final = 2**31 - 1

_PACKAGE: Final = "togetherchat_server.models"
_SHIPPED_FILE: Final = "models.toml"

_AVAILABILITY: Final[Mapping[str, models.Availability.ValueType]] = {
    "SERVERLESS": models.AVAILABILITY_SERVERLESS,
    "DEDICATED": models.AVAILABILITY_DEDICATED,
    "BOTH": models.AVAILABILITY_BOTH,
}


class CatalogError(ValueError):
    """The catalog file is invalid; the message names the member and the rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogFile:
    """The contents of the file."""

    by_id: dict[str, models.Model]
    """In the order of the file."""
    as_of: str
    """The month of the newest list; empty if the file has no list."""
    replacements: dict[str, str]
    """The id of each replaced model, and the id of its successor."""


def shipped_text() -> bytes:
    return importlib.resources.files(_PACKAGE).joinpath(_SHIPPED_FILE).read_bytes()


def read_models(text: bytes) -> CatalogFile:
    """Parse a catalog file.

    Raises:
        CatalogError: the text is not TOML, a member is unknown, missing or invalid, an id occurs twice,
            or the successor of a model is not in the catalog.
    """
    try:
        lists = parse_toml(text, _CatalogTable).lists
    except ValueError as exc:
        raise CatalogError(f"the model catalog: {exc}") from exc
    by_id: dict[str, models.Model] = {}
    replacements: dict[str, str] = {}
    for list_index, table in enumerate(lists):
        for index, row in enumerate(table.models):
            if row.id in by_id:
                path = f"lists[{list_index}].models[{index}].id"
                raise CatalogError(f"the model catalog: {path}: {row.id} is in the catalog twice")
            by_id[row.id] = _to_model(row, table)
            if row.replaced_by:
                replacements[row.id] = row.replaced_by
    _check_replacements(replacements, by_id)
    as_of = max((table.as_of for table in lists), default="")
    return CatalogFile(by_id=by_id, as_of=as_of, replacements=replacements)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("is not printable")
    return text


_Text = Annotated[
    str, Field(min_length=1), AfterValidator(_printable), rule("must be a text that is not empty")
]
_ModelId = Annotated[
    str,
    Field(max_length=ID_CHARACTERS_MAX, pattern="^[^ ]+$"),
    AfterValidator(_printable),
    rule(f"must be an id of 1 to {ID_CHARACTERS_MAX} characters without spaces"),
]
_TokenCount = Annotated[
    int, Field(ge=1, le=TOKENS_MAX), rule(f"must be a number of tokens from 1 to {TOKENS_MAX}")
]
_Price = Annotated[float, Field(ge=0, allow_inf_nan=False), rule("must be a number, 0 or above")]
_Modality = Annotated[Literal["text", "image", "video", "audio"], rule("must be text, image, video or audio")]
_Word = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$"), rule("must be a word of a-z 0-9 _")]
_Date = Annotated[dt.date, rule("must be a date such as 2026-11-22, without quotes")]


class _ModelTable(FileTable):
    id: _ModelId
    display_name: _Text
    organization: _Text
    context_length: _TokenCount | None = None
    quantization: _Text = ""
    license: _Text = ""
    link: _Text = ""
    input_modalities: list[_Modality] = Field([])
    output_modalities: list[_Modality] = Field([])
    features: list[_Word] = Field([])
    max_output_tokens: _TokenCount | None = None
    reasoning_efforts: list[_Word] = Field([])
    streaming_only: bool | None = None
    retirement_date: _Date | None = None
    replaced_by: _ModelId | None = None
    input_usd: _Price | None = None
    output_usd: _Price | None = None
    cached_input_usd: _Price | None = None
    hourly_usd: _Price | None = None


class _ListTable(FileTable):
    source: _Text
    as_of: Annotated[
        str, Field(pattern=r"^20\d\d-(0[1-9]|1[0-2])$"), rule('must be a month such as "2026-11"')
    ]
    type: _Text
    availability: Annotated[
        Literal["SERVERLESS", "DEDICATED", "BOTH"], rule("must be SERVERLESS, DEDICATED or BOTH")
    ]
    models: list[_ModelTable]


class _CatalogTable(FileTable):
    lists: list[_ListTable]


def _to_model(row: _ModelTable, table: _ListTable) -> models.Model:
    model = models.Model(
        id=row.id,
        display_name=row.display_name,
        organization=row.organization,
        type=table.type,
        availability=_AVAILABILITY[table.availability],
        context_length=row.context_length,
        quantization=row.quantization,
        license=row.license,
        uri=row.link,
        input_modalities=row.input_modalities,
        output_modalities=row.output_modalities,
        features=row.features,
        max_output_tokens=row.max_output_tokens,
        reasoning_efforts=row.reasoning_efforts,
        streaming_only=row.streaming_only,
        retirement_date="" if row.retirement_date is None else row.retirement_date.isoformat(),
    )
    pricing = models.Pricing(
        input_usd_per_million_tokens=row.input_usd,
        output_usd_per_million_tokens=row.output_usd,
        cached_input_usd_per_million_tokens=row.cached_input_usd,
        hourly_usd=row.hourly_usd,
    )
    if pricing.ListFields():
        model.pricing.CopyFrom(pricing)
    return model


def _check_replacements(replacements: Mapping[str, str], by_id: Mapping[str, models.Model]) -> None:
    for model_id, successor in replacements.items():
        if successor not in by_id or successor == model_id:
            raise CatalogError(
                f"the model catalog: replaced_by of {model_id}: {successor} is not another of its models"
            )
