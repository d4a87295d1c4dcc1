"""Formats models as table rows for a terminal of a given width, and as plain rows for a pipe.

Formats one model as rows of a name and a value.

Prints nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from togetherchat.v1 import models_pb2 as models

UNKNOWN = "-"
GAP = 2
"""Spaces between two columns in `Terminal.table`."""

_Count: TypeAlias = Literal["context_length", "max_output_tokens"]
_Words: TypeAlias = Literal[
    "aliases", "features", "input_modalities", "notes", "output_modalities", "reasoning_efforts"
]
_Price: TypeAlias = Literal[
    "input_usd_per_million_tokens", "cached_input_usd_per_million_tokens", "output_usd_per_million_tokens"
]

WORD_BY_AVAILABILITY = {
    models.AVAILABILITY_UNSPECIFIED: UNKNOWN,
    models.AVAILABILITY_SERVERLESS: "serverless",
    models.AVAILABILITY_DEDICATED: "dedicated",
    models.AVAILABILITY_BOTH: "both",
}
WORD_BY_STATE = {
    models.MODEL_STATE_UNSPECIFIED: UNKNOWN,
    models.MODEL_STATE_ACTIVE: "active",
    models.MODEL_STATE_UNCONFIRMED: "unconfirmed",
    models.MODEL_STATE_RETIRED: "retired",
}
WORD_BY_SOURCE = {
    models.MODEL_SOURCE_UNSPECIFIED: UNKNOWN,
    models.MODEL_SOURCE_CATALOG: "catalog",
    models.MODEL_SOURCE_PROVIDER: "provider",
    models.MODEL_SOURCE_BOTH: "both",
}
SHORT_WORD_BY_STATE = {**WORD_BY_STATE, models.MODEL_STATE_UNCONFIRMED: "unconf."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Headings, rows, and the headings of right-aligned columns."""

    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    numbers: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    heading: str
    cell: Callable[[models.Model], str]
    number: bool = False


def plain_rows(listed: Sequence[models.Model]) -> list[tuple[str, ...]]:
    """All fields in a fixed order, numbers unrounded: for `cut`, `sort` and `awk`."""
    return [tuple(cell(model) for cell in _PLAIN) for model in listed]


def detail_rows(model: models.Model) -> list[tuple[str, str]]:
    """The name and the value of each known field, numbers unrounded."""
    rows = [(name, cell(model)) for name, cell in DETAILS]
    return [(name, value) for name, value in rows if value != UNKNOWN]


def table_for(listed: Sequence[models.Model], *, width: int) -> Table:
    """A table with all columns that fit into `width`. Ids are never cut, so that they can be copied."""
    wanted = [column for column in _COLUMNS if column not in _SPARSE or _any_known(column, listed)]
    for narrower in _NARROWER:
        if _width(wanted, listed) <= width:
            break
        wanted = narrower(wanted)
    return Table(
        headings=tuple(column.heading for column in wanted),
        rows=[tuple(column.cell(model) for column in wanted) for model in listed],
        numbers=frozenset(column.heading for column in wanted if column.number),
    )


def tokens(count: int) -> str:
    """Return a rounded context length: 131072 is 128k, 1048576 and 1000000 are 1M."""
    thousand = 1000 if count % 1000 == 0 else 1024
    millions, thousands = round(count / thousand**2, 2), round(count / thousand)
    if millions >= 1:
        return f"{millions:g}M"
    return f"{thousands}k" if thousands else str(count)


def price(usd: float) -> str:
    """Return a price in USD with two decimals, or more where the price has more. Zero is `free`."""
    if usd == 0:
        return "free"
    cents = f"{usd:.2f}"
    return cents if float(cents) == usd else f"{usd:g}"


def _counted(field: _Count, show: Callable[[int], str] = tokens) -> Callable[[models.Model], str]:
    def cell(model: models.Model) -> str:
        count: int = getattr(model, field)
        return show(count) if model.HasField(field) else UNKNOWN

    return cell


def _listed(field: _Words, separator: str = ",") -> Callable[[models.Model], str]:
    def cell(model: models.Model) -> str:
        words: Sequence[str] = getattr(model, field)
        return separator.join(words) or UNKNOWN

    return cell


def _priced(field: _Price, show: Callable[[float], str] = price) -> Callable[[models.Model], str]:
    def cell(model: models.Model) -> str:
        usd: float = getattr(model.pricing, field)
        return show(usd) if model.pricing.HasField(field) else UNKNOWN

    return cell


def _state(model: models.Model) -> str:
    """Return the state, with the past or future retirement date."""
    word = WORD_BY_STATE.get(model.state, UNKNOWN)
    if not model.retirement_date or _outlived_its_date(model):
        return word
    retired = model.state == models.MODEL_STATE_RETIRED
    return f"{word} {'since' if retired else 'until'} {model.retirement_date}"


def _short_state(model: models.Model) -> str:
    """The state in at most eight characters. A future retirement date replaces the state, without year."""
    retired = model.state == models.MODEL_STATE_RETIRED
    if model.retirement_date and not retired and not _outlived_its_date(model):
        return f"to {model.retirement_date[5:]}"
    return SHORT_WORD_BY_STATE.get(model.state, UNKNOWN)


def _outlived_its_date(model: models.Model) -> bool:
    """Return whether the provider lists the model after its retirement date. Its notes then have the date."""
    return any(model.retirement_date in note for note in model.notes)


def _use(model: models.Model) -> str:
    return WORD_BY_AVAILABILITY.get(model.availability, UNKNOWN)


def _quantization(model: models.Model) -> str:
    return model.quantization or UNKNOWN


def _streaming_only(model: models.Model) -> str:
    return str(model.streaming_only).lower() if model.HasField("streaming_only") else UNKNOWN


def _created(model: models.Model) -> str:
    return f"{model.create_time.ToDatetime():%Y-%m-%d}" if model.HasField("create_time") else UNKNOWN


def _hourly(model: models.Model) -> str:
    return f"{model.pricing.hourly_usd:g}" if model.pricing.HasField("hourly_usd") else UNKNOWN


_INPUT: Final = "input_usd_per_million_tokens"
_CACHED: Final = "cached_input_usd_per_million_tokens"
_OUTPUT: Final = "output_usd_per_million_tokens"

_STATE = _Column(heading="state", cell=_state)
_SHORT_STATE = _Column(heading="state", cell=_short_state)
_QUANTIZATION = _Column(heading="quant.", cell=_quantization)
_USE = _Column(heading="use", cell=_use)
_CACHED_PRICE = _Column(heading="$cached", cell=_priced(_CACHED), number=True)
_MAX_OUTPUT = _Column(heading="max out", cell=_counted("max_output_tokens"), number=True)
_FEATURES = _Column(heading="features", cell=_listed("features", " "))
_ALIASES = _Column(heading="aliases", cell=_listed("aliases", " "))
_SPARSE = (_MAX_OUTPUT, _FEATURES, _ALIASES)
"""Columns that are shown only if a listed model has the value."""
_COLUMNS = (
    _Column(heading="id", cell=lambda model: model.id),
    _Column(heading="context", cell=_counted("context_length"), number=True),
    _MAX_OUTPUT,
    _Column(heading="$in", cell=_priced(_INPUT), number=True),
    _CACHED_PRICE,
    _Column(heading="$out", cell=_priced(_OUTPUT), number=True),
    _QUANTIZATION,
    _USE,
    _STATE,
    _FEATURES,
    _ALIASES,
)


def _any_known(column: _Column, listed: Sequence[models.Model]) -> bool:
    return any(column.cell(model) != UNKNOWN for model in listed)


def _without(column: _Column) -> Callable[[list[_Column]], list[_Column]]:
    return lambda columns: [other for other in columns if other is not column]


def _shorter(columns: list[_Column]) -> list[_Column]:
    return [_SHORT_STATE if column is _STATE else column for column in columns]


_NARROWER = (
    _without(_FEATURES),
    _without(_MAX_OUTPUT),
    _without(_CACHED_PRICE),
    _without(_USE),
    _without(_QUANTIZATION),
    _shorter,
    _without(_ALIASES),
)
"""Steps that make the table narrower, in the order in which they are taken."""


def _width(columns: Sequence[_Column], listed: Sequence[models.Model]) -> int:
    widths = [max([len(column.heading), *(len(column.cell(m)) for m in listed)]) for column in columns]
    return sum(widths) + GAP * (len(widths) - 1)


_PLAIN: tuple[Callable[[models.Model], str], ...] = (
    lambda model: model.id,
    _counted("context_length", str),
    _priced(_INPUT, "{:g}".format),
    _priced(_OUTPUT, "{:g}".format),
    _quantization,
    _use,
    lambda model: WORD_BY_STATE.get(model.state, UNKNOWN),
    _priced(_CACHED, "{:g}".format),
    lambda model: model.retirement_date or UNKNOWN,
    _listed("aliases"),
    _counted("max_output_tokens", str),
    _listed("features"),
    _listed("input_modalities"),
    _listed("output_modalities"),
    _listed("reasoning_efforts"),
    _streaming_only,
)
DETAILS: tuple[tuple[str, Callable[[models.Model], str]], ...] = (
    ("id", lambda model: model.id),
    ("name", lambda model: model.display_name or UNKNOWN),
    ("organization", lambda model: model.organization or UNKNOWN),
    ("type", lambda model: model.type or UNKNOWN),
    ("state", _state),
    ("availability", _use),
    ("context length", _counted("context_length", str)),
    ("max output tokens", _counted("max_output_tokens", str)),
    ("quantization", _quantization),
    ("input modalities", _listed("input_modalities")),
    ("output modalities", _listed("output_modalities")),
    ("features", _listed("features")),
    ("reasoning efforts", _listed("reasoning_efforts")),
    ("streaming only", _streaming_only),
    ("notes", _listed("notes", " ")),
    ("input price", _priced(_INPUT, "{:g}".format)),
    ("cached input price", _priced(_CACHED, "{:g}".format)),
    ("output price", _priced(_OUTPUT, "{:g}".format)),
    ("hourly price", _hourly),
    ("license", lambda model: model.license or UNKNOWN),
    ("page", lambda model: model.uri or UNKNOWN),
    ("created", _created),
    ("aliases", _listed("aliases")),
    ("source", lambda model: WORD_BY_SOURCE.get(model.source, UNKNOWN)),
)
