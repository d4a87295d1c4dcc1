"""One page of a list of models: filters, order, and stateless page tokens.

Owns the meaning of a `ListModelsRequest`. Does not know where the models come from.

A token has the sort position of the last model that was sent, not a number of models to skip: its sort
value and id, bound to the filters and the order. If the list changes between two pages, each model whose
sort position did not change is still sent exactly once. The state of a model is part of its position in
the default order alone, so the order by id is the one for a complete walk.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.domain.page_token import TOKEN_CHARACTERS_MAX, page_token, position_of
from togetherchat_server.domain.reasons import FieldViolation, Reason, ServiceError

PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1000
TEXT_CHARACTERS_MAX: Final = 1024

_Position = tuple[int, float, str]
"""The sort position of a model: 1 if the model lacks the sort value, the value, the id."""

_STATE_RANKS: Final[Mapping[int, float]] = {models.MODEL_STATE_ACTIVE: 0.0, models.MODEL_STATE_RETIRED: 2.0}
_OTHER_STATE_RANK: Final = 1.0


def _state(model: models.Model) -> float:
    return _STATE_RANKS.get(model.state, _OTHER_STATE_RANK)


def _same(_: models.Model) -> float:
    return 0.0


def _context_length(model: models.Model) -> float | None:
    return float(model.context_length) if model.HasField("context_length") else None


def _input_price(model: models.Model) -> float | None:
    if not model.pricing.HasField("input_usd_per_million_tokens"):
        return None
    price = model.pricing.input_usd_per_million_tokens
    return price if math.isfinite(price) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """An order of models: by value, and by id where the values are equal."""

    value: Callable[[models.Model], float | None]
    descending: bool = False
    """Whether the largest value is first. Models without a value are last all the same."""
    ids_descending: bool = False

    def position(self, model: models.Model) -> _Position:
        value = self.value(model)
        if value is None:
            return (1, 0.0, model.id)
        return (0, -value if self.descending else value, model.id)

    def is_after(self, position: _Position, last: _Position) -> bool:
        return position < last if self.ids_descending else position > last


ORDERS: Final[Mapping[str, _Order]] = {
    "": _Order(value=_state),
    "id": _Order(value=_same),
    "id desc": _Order(value=_same, ids_descending=True),
    "context_length": _Order(value=_context_length),
    "context_length desc": _Order(value=_context_length, descending=True),
    "input_price": _Order(value=_input_price),
    "input_price desc": _Order(value=_input_price, descending=True),
}

_USABLE_AS: Final[Mapping[int, frozenset[int]]] = {
    models.AVAILABILITY_SERVERLESS: frozenset({models.AVAILABILITY_SERVERLESS, models.AVAILABILITY_BOTH}),
    models.AVAILABILITY_DEDICATED: frozenset({models.AVAILABILITY_DEDICATED, models.AVAILABILITY_BOTH}),
    models.AVAILABILITY_BOTH: frozenset({models.AVAILABILITY_BOTH}),
}


def page(listed: Sequence[models.Model], request: service.ListModelsRequest) -> service.ListModelsResponse:
    """Return the requested page of `listed`, whose ids are unique.

    Raises:
        ServiceError: INVALID_REQUEST, as for `validate`.
    """
    last = validate(request)
    order = ORDERS[request.order_by]
    positions: list[tuple[_Position, models.Model]] = sorted(
        ((order.position(model), model) for model in listed if _matches(model, request)),
        key=lambda item: item[0],
        reverse=order.ids_descending,
    )
    start = 0 if last is None else sum(not order.is_after(position, last) for position, _ in positions)
    end = start + min(request.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    response = service.ListModelsResponse(total_size=len(positions))
    response.models.extend(model for _, model in positions[start:end])
    if end < len(positions):
        response.next_page_token = page_token(positions[end - 1][0], request)
    return response


def validate(request: service.ListModelsRequest) -> _Position | None:
    """Return the position after which the page begins; None for the first page.

    Raises:
        ServiceError: INVALID_REQUEST, with every violation.
    """
    violations = list(_violations(request))
    last: _Position | None = None
    if request.page_token and not violations:
        last = _position_of_token(request)
        if last is None:
            violations.append(
                FieldViolation(
                    field="page_token",
                    description="must be the next_page_token of a response with the same filters and order",
                )
            )
    if violations:
        first = violations[0]
        raise ServiceError(
            Reason.INVALID_REQUEST, f"{first.field}: {first.description}", violations=tuple(violations)
        )
    return last


def _violations(request: service.ListModelsRequest) -> Iterator[FieldViolation]:
    if request.page_size < 0:
        yield FieldViolation(field="page_size", description="must not be negative")
    if request.order_by not in ORDERS:
        yield FieldViolation(
            field="order_by",
            description="must be id, context_length or input_price, with ' desc' for the reverse order",
        )
    if request.availability and request.availability not in _USABLE_AS:
        yield FieldViolation(
            field="availability", description=f"{request.availability:d} is not a known value"
        )
    if request.state not in models.ModelState.values():
        yield FieldViolation(field="state", description=f"{request.state:d} is not a known value")
    if not math.isfinite(request.max_input_usd_per_million_tokens):
        yield FieldViolation(field="max_input_usd_per_million_tokens", description="must be a finite number")
    for field, text, characters_max in (
        ("page_token", request.page_token, TOKEN_CHARACTERS_MAX),
        ("type", request.type, TEXT_CHARACTERS_MAX),
        ("organization", request.organization, TEXT_CHARACTERS_MAX),
        ("quantization", request.quantization, TEXT_CHARACTERS_MAX),
        ("query", request.query, TEXT_CHARACTERS_MAX),
    ):
        if len(text) > characters_max:
            yield FieldViolation(field=field, description=f"must have at most {characters_max} characters")


def _matches(model: models.Model, request: service.ListModelsRequest) -> bool:
    query = request.query.casefold()
    return (
        (not request.type or model.type == request.type)
        and (not request.organization or model.organization.casefold() == request.organization.casefold())
        and (not request.availability or model.availability in _USABLE_AS[request.availability])
        and (not request.state or model.state == request.state)
        and (not request.quantization or model.quantization.casefold() == request.quantization.casefold())
        and (query in model.id.casefold() or query in model.display_name.casefold())
        and _has_context(model, request)
        and _is_within_price(model, request)
    )


def _has_context(model: models.Model, request: service.ListModelsRequest) -> bool:
    if not request.HasField("min_context_length"):
        return True
    return model.HasField("context_length") and model.context_length >= request.min_context_length


def _is_within_price(model: models.Model, request: service.ListModelsRequest) -> bool:
    if not request.HasField("max_input_usd_per_million_tokens"):
        return True
    price = _input_price(model)
    return price is not None and price <= request.max_input_usd_per_million_tokens


def _position_of_token(request: service.ListModelsRequest) -> _Position | None:
    """Return the position in the token; None if the token does not belong to this query."""
    match position_of(request.page_token, request):
        case [int(missing), float(value), str(model_id)]:
            return (missing, value, model_id)
        case _:
            return None
