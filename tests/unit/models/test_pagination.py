"""Filters, order and pages of a list of models."""

import base64
import hashlib

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.models import pagination
from togetherchat_server.models.catalog import load_catalog
from togetherchat_server.models.pagination import page

Request = service.ListModelsRequest


def model(model_id: str, *, context: int | None = None, price: float | None = None, **more) -> models.Model:
    listed = models.Model(id=model_id, context_length=context, **more)
    if price is not None:
        listed.pricing.input_usd_per_million_tokens = price
    return listed


def ids(response: service.ListModelsResponse) -> list[str]:
    return [listed.id for listed in response.models]


def violated(listed: list[models.Model], request: service.ListModelsRequest) -> list[str]:
    with pytest.raises(ServiceError) as raised:
        page(listed, request)
    assert raised.value.reason is Reason.INVALID_REQUEST
    return [violation.field for violation in raised.value.violations]


LISTED = [
    model(
        "meta/Small",
        context=8192,
        price=0.2,
        display_name="Little One",
        organization="Meta",
        type="chat",
        quantization="FP8",
        availability=models.AVAILABILITY_SERVERLESS,
        state=models.MODEL_STATE_ACTIVE,
    ),
    model(
        "qwen/large",
        context=131072,
        price=1.2,
        organization="Qwen",
        type="chat",
        quantization="FP16",
        availability=models.AVAILABILITY_BOTH,
        state=models.MODEL_STATE_RETIRED,
    ),
    model(
        "black/paint",
        organization="Black",
        type="image",
        availability=models.AVAILABILITY_DEDICATED,
        state=models.MODEL_STATE_UNCONFIRMED,
    ),
    model("a/unknown", type="chat", context=4096, price=float("nan")),
]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Request(), ["meta/Small", "a/unknown", "black/paint", "qwen/large"]),
        (Request(type="image"), ["black/paint"]),
        (Request(type="Image"), []),
        (Request(organization="mETA"), ["meta/Small"]),
        (Request(quantization="fp16"), ["qwen/large"]),
        (Request(query="SMALL"), ["meta/Small"]),
        (Request(query="little o"), ["meta/Small"]),
        (Request(availability=models.AVAILABILITY_SERVERLESS), ["meta/Small", "qwen/large"]),
        (Request(availability=models.AVAILABILITY_DEDICATED), ["black/paint", "qwen/large"]),
        (Request(availability=models.AVAILABILITY_BOTH), ["qwen/large"]),
        (Request(state=models.MODEL_STATE_ACTIVE), ["meta/Small"]),
        (Request(state=models.MODEL_STATE_RETIRED), ["qwen/large"]),
        (Request(min_context_length=8192), ["meta/Small", "qwen/large"]),
        (Request(min_context_length=8193), ["qwen/large"]),
        (Request(min_context_length=0), ["meta/Small", "a/unknown", "qwen/large"]),
        (Request(max_input_usd_per_million_tokens=1.2), ["meta/Small", "qwen/large"]),
        (Request(max_input_usd_per_million_tokens=1.1), ["meta/Small"]),
        (Request(max_input_usd_per_million_tokens=0.0), []),
        (Request(type="chat", max_input_usd_per_million_tokens=5, min_context_length=9000), ["qwen/large"]),
    ],
)
def test_filters_combine(request_, expected):
    """Each filter selects what its comment in the contract describes."""
    response = page(LISTED, request_)
    assert expected == ids(response)
    assert len(expected) == response.total_size


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("id", ["a/unknown", "black/paint", "meta/Small", "qwen/large"]),
        ("id desc", ["qwen/large", "meta/Small", "black/paint", "a/unknown"]),
        ("context_length", ["a/unknown", "meta/Small", "qwen/large", "black/paint"]),
        ("context_length desc", ["qwen/large", "meta/Small", "a/unknown", "black/paint"]),
        ("input_price", ["meta/Small", "qwen/large", "a/unknown", "black/paint"]),
        ("input_price desc", ["qwen/large", "meta/Small", "a/unknown", "black/paint"]),
    ],
)
def test_orders_put_models_without_the_value_last(order_by, expected):
    """` desc` reverses the values, not the place of a missing one; a price that is NaN counts as missing."""
    assert expected == ids(page(LISTED, Request(order_by=order_by)))


def test_the_default_order_starts_with_the_models_that_can_be_called():
    """Then come other models, then retired ones, each by id; nothing is hidden."""
    states = [
        models.MODEL_STATE_RETIRED,
        models.MODEL_STATE_UNSPECIFIED,
        models.MODEL_STATE_ACTIVE,
        models.MODEL_STATE_UNCONFIRMED,
    ]
    listing = [
        model(f"{letter}{number}", state=state) for letter in "ba" for number, state in enumerate(states)
    ]

    assert ["a2", "b2", "a1", "a3", "b1", "b3", "a0", "b0"] == ids(page(listing, Request()))


@pytest.mark.parametrize(
    "order_by", ["context_length", "context_length desc", "input_price", "input_price desc"]
)
def test_ties_are_ordered_by_id(order_by):
    """Also among models without the value, and in both directions."""
    listing = [model("d"), model("b", context=1, price=1), model("c"), model("a", context=1, price=1)]
    assert ids(page(listing, Request(order_by=order_by))) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("page_size", "expected"), [(0, 100), (1, 1), (1000, 1000), (1001, 1000)])
def test_a_page_has_100_models_by_default_and_at_most_1000(page_size, expected):
    """A larger page size is reduced to 1000, as the contract documents."""
    listing = [model(f"m/{number:04}") for number in range(1100)]
    response = page(listing, Request(page_size=page_size))
    assert expected == len(response.models)
    assert response.total_size == 1100


def test_the_last_page_has_no_token():
    """Also if the models fill it exactly."""
    listing = [model("a"), model("b")]
    assert page(listing, Request(page_size=2)).next_page_token == ""
    assert page(listing, Request(page_size=1)).next_page_token != ""
    assert page([], Request()).next_page_token == ""


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (Request(page_size=-1), ["page_size"]),
        *(
            (Request(order_by=order), ["order_by"])
            for order in ("price", "id asc", "desc", "id,input_price", "ID", "id  desc", "id desc ")
        ),
        (Request(availability=77), ["availability"]),
        (Request(state=77), ["state"]),
        (Request(max_input_usd_per_million_tokens=float("nan")), ["max_input_usd_per_million_tokens"]),
        (Request(max_input_usd_per_million_tokens=float("inf")), ["max_input_usd_per_million_tokens"]),
        (Request(query="x" * 1025), ["query"]),
        (Request(type="x" * 1025), ["type"]),
        (Request(organization="x" * 1025), ["organization"]),
        (Request(quantization="x" * 1025), ["quantization"]),
        (Request(page_token="x" * 4097), ["page_token"]),
        (Request(page_size=-1, order_by="price", state=9), ["page_size", "order_by", "state"]),
    ],
)
def test_an_invalid_request_gets_every_violation(request_, fields):
    """Each violation names its field."""
    assert fields == violated(LISTED, request_)


def test_a_text_of_1024_characters_is_valid():
    """The bound is inclusive."""
    assert ids(page(LISTED, Request(query="x" * 1024))) == []


def token(request: service.ListModelsRequest | None = None) -> str:
    return page(LISTED, request or Request(page_size=1)).next_page_token


@pytest.mark.parametrize(
    "other",
    [
        Request(type="chat"),
        Request(order_by="context_length"),
        Request(order_by="id"),
        Request(order_by="id desc"),
        Request(min_context_length=0),
        Request(state=models.MODEL_STATE_ACTIVE),
    ],
)
def test_a_token_belongs_to_its_filters_and_order(other):
    """For another query, the position has no meaning."""
    other.page_token = token()
    assert violated(LISTED, other) == ["page_token"]


def test_a_token_serves_pages_of_another_size():
    """The page size is not part of the query."""
    assert ids(page(LISTED, Request(page_size=2, page_token=token()))) == ["a/unknown", "black/paint"]


def test_a_token_does_not_depend_on_the_process():
    """The same query results in the same token."""
    assert token(Request(page_size=1)) == token(Request(page_size=1))


@pytest.mark.parametrize("more", ["", "x", "xx"])
def test_every_altered_character_of_a_token_is_detected(more):
    """This includes the last one, of which base64 ignores some bits, and inserted characters."""
    listing = [model(f"a{more}"), model("b")]
    good = page(listing, Request(page_size=1)).next_page_token
    for index in range(len(good)):
        for character in "ABCDEFGHIJKLMNOPabcdefghijklmnop0123456789-_":
            if good[index] != character:
                altered = good[:index] + character + good[index + 1 :]
                assert violated(listing, Request(page_size=1, page_token=altered)) == ["page_token"]
        padded = good[:index] + "\n!" + good[index:]
        assert violated(listing, Request(page_size=1, page_token=padded)) == ["page_token"]


def test_a_token_of_another_version_is_rejected():
    """The format of a later version is unknown."""
    text = token()
    data = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))[8:])
    assert page(LISTED, Request(page_size=1, page_token=forged(data))).models
    assert violated(LISTED, Request(page_token=forged([2, *data[1:]]))) == ["page_token"]


def forged(payload: object) -> str:
    text = orjson.dumps(payload)
    return base64.urlsafe_b64encode(hashlib.sha256(text).digest()[:8] + text).decode().rstrip("=")


@pytest.mark.parametrize(
    "foreign",
    [
        "x",
        "====",
        "with space",
        "ünïcode",
        "CAFE" * 20,
        forged([]),
        forged({}),
        forged([1, 2, 3, 4, 5]),
        forged([2, "0" * 16, 0, 0.0, "a"]),
        forged([1, "0" * 16, 0, 0.0, "a"]),
        forged([1, "0" * 16, 0, "x", "a"]),
    ],
)
def test_a_foreign_token_is_rejected(foreign):
    """The error names the field."""
    assert violated(LISTED, Request(page_token=foreign)) == ["page_token"]


@settings(deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_as_a_token_is_an_invalid_request(text):
    """An empty text is the first page."""
    if text:
        assert violated(LISTED, Request(page_token=text)) == ["page_token"]


def test_the_token_of_the_longest_id_is_accepted():
    """The id has 256 characters of four bytes each."""
    listing = [model("\U0001f999" * 255 + "a"), model("\U0001f999" * 255 + "b")]
    first = page(listing, Request(page_size=1))
    second = page(listing, Request(page_size=1, page_token=first.next_page_token))
    assert [listed.id for listed in listing] == ids(first) + ids(second)


def all_pages(lists: list[list[models.Model]], request: service.ListModelsRequest) -> list[str]:
    """Ids of all pages; the list changes after each page, and the last one stays."""
    got: list[str] = []
    for number in range(1000):
        response = page(lists[min(number, len(lists) - 1)], request)
        got += ids(response)
        if not response.next_page_token:
            return got
        request.page_token = response.next_page_token
    raise AssertionError("the pages do not end")


MODELS = st.builds(
    model,
    st.text(alphabet="abcXYZ/é🦙", min_size=1, max_size=6),
    context=st.none() | st.sampled_from([1, 4096, 8192, 2**31 - 1]),
    price=st.none() | st.sampled_from([0.0, 0.1, 0.2, 0.1 + 0.2, 1e300, float("inf"), -1.0]),
    type=st.sampled_from(["chat", "image"]),
    state=st.sampled_from(models.ModelState.values()),
)
LISTS = st.lists(MODELS, max_size=25, unique_by=lambda listed: listed.id)
ORDERS = st.sampled_from(list(pagination.ORDERS))


@settings(deadline=None)
@given(listing=LISTS, page_size=st.integers(1, 30), order_by=ORDERS, type_=st.sampled_from(["", "chat"]))
def test_the_pages_together_are_the_list(listing, page_size, order_by, type_):
    """For any page size, order and filter: no model twice, none missing, same order."""
    expected = ids(page(listing, Request(page_size=1000, order_by=order_by, type=type_)))
    assert expected == all_pages([listing], Request(page_size=page_size, order_by=order_by, type=type_))


@settings(deadline=None)
@given(
    listing=LISTS,
    others=st.lists(LISTS, max_size=6),
    page_size=st.integers(1, 5),
    order_by=ORDERS,
)
@example(
    listing=[model("b"), model("d"), model("f")],
    others=[[model("a"), model("c")], []],
    page_size=1,
    order_by="",
)
def test_an_unchanged_model_is_sent_once_while_others_change(listing, others, page_size, order_by):
    """A token has the position of the last model that was sent, not a number of models to skip."""
    constant = {listed.id for listed in listing}
    lists = [listing + [extra for extra in other if extra.id not in constant] for other in [*others, []]]
    got = all_pages(lists, Request(page_size=page_size, order_by=order_by))
    kept = [model_id for model_id in got if model_id in constant]
    assert ids(page(listing, Request(page_size=1000, order_by=order_by))) == kept


@settings(deadline=None)
@given(
    listing=LISTS,
    states=st.lists(st.sampled_from(models.ModelState.values()), min_size=1, max_size=7),
    page_size=st.integers(1, 5),
    order_by=st.sampled_from(["id", "id desc"]),
)
def test_the_order_by_id_is_complete_while_states_change(listing, states, page_size, order_by):
    """Every model is sent exactly once, even if the provider's list comes and goes between pages."""
    lists = [[_in_state(listed, states, turn) for listed in listing] for turn in range(len(states))]

    got = all_pages(lists, Request(page_size=page_size, order_by=order_by))

    assert sorted((listed.id for listed in listing), reverse=order_by == "id desc") == got


@settings(deadline=None)
@given(
    listing=LISTS,
    states=st.lists(st.sampled_from(models.ModelState.values()), min_size=1, max_size=7),
    page_size=st.integers(1, 5),
)
def test_a_change_of_state_never_fails_the_default_order(listing, states, page_size):
    """A model that changes may be repeated or missing, but every token stays valid and the pages end."""
    lists = [[_in_state(listed, states, turn) for listed in listing] for turn in range(len(states))]

    got = all_pages(lists, Request(page_size=page_size))

    assert set(got) <= {listed.id for listed in listing}


def _in_state(listed: models.Model, states: list[int], turn: int) -> models.Model:
    changed = models.Model()
    changed.CopyFrom(listed)
    changed.state = states[(turn + len(listed.id)) % len(states)]
    return changed


@pytest.mark.parametrize("order_by", list(pagination.ORDERS))
def test_the_shipped_catalog_is_paged_in_every_order(order_by):
    """Ten models per page: each model once."""
    shipped = [listed.id for listed in load_catalog(None).by_id.values()]

    got = all_pages([list(load_catalog(None).by_id.values())], Request(page_size=10, order_by=order_by))

    assert sorted(shipped) == sorted(got)
