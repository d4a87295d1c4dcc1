"""One page of a list of models: filters, order, and tokens that need no memory.

Owns what a `ListModelsRequest` means. Knows nothing of where the models come from.

A token holds the place of the last model that was sent, not a number of models to skip: its
sort value and id, with a version, a hash of the filters and the order, and a checksum. So any
worker reads the token of any other, and when the list changes between two pages each model
that did not change is sent once all the same.
"""

import base64
import bisect
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import orjson

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.domain.reasons import Reason, ServiceError, Violation

PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1000
TEXT_CHARACTERS_MAX: Final = 1024
TOKEN_CHARACTERS_MAX: Final = 4096
"""Above the longest token of ours: an id has 256 characters at most."""

_TOKEN_VERSION: Final = 1
_CHECKSUM_BYTES: Final = 8

_Place = tuple[int, float, str]
"""Where a model stands: 1 if it lacks the value, the value (smallest first), the id."""


def _context_length(model: models.Model) -> float | None:
    return -float(model.context_length) if model.HasField("context_length") else None


def _input_price(model: models.Model) -> float | None:
    if not model.pricing.HasField("input_usd_per_million_tokens"):
        return None
    price = model.pricing.input_usd_per_million_tokens
    return price if math.isfinite(price) else None


_ORDERS: Final[Mapping[str, Callable[[models.Model], float | None]]] = {
    "": lambda _: 0.0,
    "id": lambda _: 0.0,
    "context_length": _context_length,
    "input_price": _input_price,
}

_USABLE_AS: Final[Mapping[int, frozenset[int]]] = {
    models.AVAILABILITY_SERVERLESS: frozenset({models.AVAILABILITY_SERVERLESS, models.AVAILABILITY_BOTH}),
    models.AVAILABILITY_DEDICATED: frozenset({models.AVAILABILITY_DEDICATED, models.AVAILABILITY_BOTH}),
    models.AVAILABILITY_BOTH: frozenset({models.AVAILABILITY_BOTH}),
}


def page(listed: Sequence[models.Model], request: service.ListModelsRequest) -> service.ListModelsResponse:
    """The page that `request` asks for, out of `listed`, whose ids differ.

    Raises:
        ServiceError: INVALID_REQUEST as `check` does.
    """
    last = check(request)
    value_of = _ORDERS[request.order_by]
    places: list[tuple[_Place, models.Model]] = sorted(
        ((_place(model, value_of), model) for model in listed if _passes(model, request)),
        key=lambda placed: placed[0],
    )
    start = 0 if last is None else bisect.bisect_right(places, last, key=lambda placed: placed[0])
    end = start + min(request.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    response = service.ListModelsResponse(total_size=len(places))
    response.models.extend(model for _, model in places[start:end])
    if end < len(places):
        response.next_page_token = _token(places[end - 1][0], request)
    return response


def check(request: service.ListModelsRequest) -> _Place | None:
    """The place after which the page begins, None for the first page.

    Raises:
        ServiceError: INVALID_REQUEST, with all that is wrong.
    """
    violations = list(_violations(request))
    last: _Place | None = None
    if request.page_token and not violations:
        last = _place_of_token(request)
        if last is None:
            violations.append(
                Violation(
                    field="page_token",
                    description="must be the next_page_token of an answer with the same filters and order",
                )
            )
    if violations:
        first = violations[0]
        raise ServiceError(
            Reason.INVALID_REQUEST, f"{first.field}: {first.description}", violations=tuple(violations)
        )
    return last


def _violations(request: service.ListModelsRequest) -> Iterator[Violation]:
    if request.page_size < 0:
        yield Violation(field="page_size", description="must not be negative")
    if request.order_by not in _ORDERS:
        yield Violation(field="order_by", description="must be id, context_length or input_price")
    if request.availability and request.availability not in _USABLE_AS:
        yield Violation(field="availability", description=f"{request.availability:d} is no known value")
    if request.state not in models.ModelState.values():
        yield Violation(field="state", description=f"{request.state:d} is no known value")
    if not math.isfinite(request.max_input_usd_per_million_tokens):
        yield Violation(field="max_input_usd_per_million_tokens", description="must be a finite number")
    for field, text, characters_max in (
        ("page_token", request.page_token, TOKEN_CHARACTERS_MAX),
        ("type", request.type, TEXT_CHARACTERS_MAX),
        ("organization", request.organization, TEXT_CHARACTERS_MAX),
        ("quantization", request.quantization, TEXT_CHARACTERS_MAX),
        ("query", request.query, TEXT_CHARACTERS_MAX),
    ):
        if len(text) > characters_max:
            yield Violation(field=field, description=f"must have at most {characters_max} characters")


def _passes(model: models.Model, request: service.ListModelsRequest) -> bool:
    query = request.query.casefold()
    return (
        (not request.type or model.type == request.type)
        and (not request.organization or model.organization.casefold() == request.organization.casefold())
        and (not request.availability or model.availability in _USABLE_AS[request.availability])
        and (not request.state or model.state == request.state)
        and (not request.quantization or model.quantization.casefold() == request.quantization.casefold())
        and (query in model.id.casefold() or query in model.display_name.casefold())
        and _holds_enough(model, request)
        and _costs_little_enough(model, request)
    )


def _holds_enough(model: models.Model, request: service.ListModelsRequest) -> bool:
    if not request.HasField("min_context_length"):
        return True
    return model.HasField("context_length") and model.context_length >= request.min_context_length


def _costs_little_enough(model: models.Model, request: service.ListModelsRequest) -> bool:
    if not request.HasField("max_input_usd_per_million_tokens"):
        return True
    price = _input_price(model)
    return price is not None and price <= request.max_input_usd_per_million_tokens


def _place(model: models.Model, value_of: Callable[[models.Model], float | None]) -> _Place:
    value = value_of(model)
    return (1, 0.0, model.id) if value is None else (0, value, model.id)


def _token(place: _Place, request: service.ListModelsRequest) -> str:
    text = orjson.dumps([_TOKEN_VERSION, _question(request), *place])
    return _encoded(_checksum(text) + text)


def _place_of_token(request: service.ListModelsRequest) -> _Place | None:
    """None where the token is not one of ours for this question.

    The checksum finds accidents. It keeps no secret: whoever forges a token chooses where
    their own page begins, nothing more.
    """
    token = request.page_token
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        parsed: object = orjson.loads(data[_CHECKSUM_BYTES:])
    except ValueError:  # of either: binascii.Error and JSONDecodeError are ValueErrors
        return None
    # Decoding ignores foreign characters and the last bits of the last one: compare the text.
    if data[:_CHECKSUM_BYTES] != _checksum(data[_CHECKSUM_BYTES:]) or token != _encoded(data):
        return None
    match parsed:
        case [int(version), str(question), int(lacks), float(value), str(model_id)]:
            ours = version == _TOKEN_VERSION and question == _question(request)
            return (lacks, value, model_id) if ours else None
        case _:
            return None


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _question(request: service.ListModelsRequest) -> str:
    """A hash of what must not change between pages; the size of a page may."""
    asked = service.ListModelsRequest()
    asked.CopyFrom(request)
    asked.DiscardUnknownFields()
    asked.ClearField("page_size")
    asked.ClearField("page_token")
    if asked.order_by == "id":
        asked.ClearField("order_by")
    return hashlib.sha256(asked.SerializeToString(deterministic=True)).hexdigest()[:16]


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()[:_CHECKSUM_BYTES]
