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
from togetherchat_server.models.catalog import load_catalog
from togetherchat_server.models.pagination import page

Request = service.ListModelsRequest


def model(model_id: str, *, context: int | None = None, price: float | None = None, **more) -> models.Model:
    made = models.Model(id=model_id, context_length=context, **more)
    if price is not None:
        made.pricing.input_usd_per_million_tokens = price
    return made


def ids(response: service.ListModelsResponse) -> list[str]:
    return [listed.id for listed in response.models]


def violated(listed: list[models.Model], request: service.ListModelsRequest) -> list[str]:
    with pytest.raises(ServiceError) as raised:
        page(listed, request)
    assert raised.value.reason is Reason.INVALID_REQUEST
    return [violation.field for violation in raised.value.violations]


SHELF = [
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
        (Request(), ["a/unknown", "black/paint", "meta/Small", "qwen/large"]),
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
        (Request(min_context_length=0), ["a/unknown", "meta/Small", "qwen/large"]),
        (Request(max_input_usd_per_million_tokens=1.2), ["meta/Small", "qwen/large"]),
        (Request(max_input_usd_per_million_tokens=1.1), ["meta/Small"]),
        (Request(max_input_usd_per_million_tokens=0.0), []),
        (Request(type="chat", max_input_usd_per_million_tokens=5, min_context_length=9000), ["qwen/large"]),
    ],
)
def test_filters_narrow_together(request_, expected):
    """Each filter lets through what its comment in the contract says."""
    response = page(SHELF, request_)
    assert expected == ids(response)
    assert len(expected) == response.total_size


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("id", ["a/unknown", "black/paint", "meta/Small", "qwen/large"]),
        ("context_length", ["qwen/large", "meta/Small", "a/unknown", "black/paint"]),
        ("input_price", ["meta/Small", "qwen/large", "a/unknown", "black/paint"]),
    ],
)
def test_orders_put_models_without_the_value_last(order_by, expected):
    """Largest context first, cheapest first; a price that is no number is none."""
    assert expected == ids(page(SHELF, Request(order_by=order_by)))


@pytest.mark.parametrize("order_by", ["context_length", "input_price"])
def test_ties_are_ordered_by_id(order_by):
    """Also among those without the value."""
    shelf = [model("d"), model("b", context=1, price=1), model("c"), model("a", context=1, price=1)]
    assert ids(page(shelf, Request(order_by=order_by))) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("page_size", "expected"), [(0, 100), (1, 1), (1000, 1000), (1001, 1000)])
def test_a_page_has_100_models_unless_asked_and_never_above_1000(page_size, expected):
    """More is taken as 1000, as the contract says."""
    shelf = [model(f"m/{number:04}") for number in range(1100)]
    response = page(shelf, Request(page_size=page_size))
    assert expected == len(response.models)
    assert response.total_size == 1100


def test_the_last_page_has_no_token():
    """Also when the models fill it exactly."""
    shelf = [model("a"), model("b")]
    assert page(shelf, Request(page_size=2)).next_page_token == ""
    assert page(shelf, Request(page_size=1)).next_page_token != ""
    assert page([], Request()).next_page_token == ""


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (Request(page_size=-1), ["page_size"]),
        (Request(order_by="price"), ["order_by"]),
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
def test_a_bad_request_is_told_all_that_is_wrong(request_, fields):
    """With the names of the fields."""
    assert fields == violated(SHELF, request_)


def test_a_size_of_1024_characters_is_allowed():
    """The bound is inclusive."""
    assert ids(page(SHELF, Request(query="x" * 1024))) == []


def token(request: service.ListModelsRequest | None = None) -> str:
    return page(SHELF, request or Request(page_size=1)).next_page_token


@pytest.mark.parametrize(
    "other",
    [
        Request(type="chat"),
        Request(order_by="context_length"),
        Request(min_context_length=0),
        Request(state=models.MODEL_STATE_ACTIVE),
    ],
)
def test_a_token_belongs_to_its_filters_and_order(other):
    """Another question makes the place meaningless."""
    other.page_token = token()
    assert violated(SHELF, other) == ["page_token"]


def test_a_token_serves_pages_of_another_size():
    """The size is not part of the question; `id` is the order that is meant by none."""
    assert ids(page(SHELF, Request(page_size=2, page_token=token()))) == ["black/paint", "meta/Small"]
    assert ids(page(SHELF, Request(page_size=1, order_by="id", page_token=token()))) == ["black/paint"]


def test_a_token_does_not_know_who_made_it():
    """Nothing in it depends on the process: the same question gives the same token."""
    assert token(Request(page_size=1)) == token(Request(page_size=1))


@pytest.mark.parametrize("more", ["", "x", "xx"])
def test_every_altered_character_of_a_token_is_noticed(more):
    """The last one too, of which base64 ignores some bits; and any that is put in."""
    shelf = [model(f"a{more}"), model("b")]
    good = page(shelf, Request(page_size=1)).next_page_token
    for place in range(len(good)):
        for character in "ABCDEFGHIJKLMNOPabcdefghijklmnop0123456789-_":
            if good[place] != character:
                altered = good[:place] + character + good[place + 1 :]
                assert violated(shelf, Request(page_size=1, page_token=altered)) == ["page_token"]
        padded = good[:place] + "\n!" + good[place:]
        assert violated(shelf, Request(page_size=1, page_token=padded)) == ["page_token"]


def test_a_token_of_another_version_is_refused():
    """What a later version writes is not guessed at."""
    text = token()
    data = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))[8:])
    assert page(SHELF, Request(page_size=1, page_token=forged(data))).models
    assert violated(SHELF, Request(page_token=forged([2, *data[1:]]))) == ["page_token"]


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
def test_a_foreign_token_is_refused(foreign):
    """Whatever it is, the answer names the field."""
    assert violated(SHELF, Request(page_token=foreign)) == ["page_token"]


@settings(deadline=None)
@given(text=st.text(max_size=200))
def test_no_token_fails_otherwise_than_by_name(text):
    """Any text at all is refused as INVALID_REQUEST, an empty one is the first page."""
    if text:
        assert violated(SHELF, Request(page_token=text)) == ["page_token"]


def test_the_longest_id_still_makes_a_token_that_is_taken():
    """256 characters of four bytes each."""
    shelf = [model("\U0001f999" * 255 + "a"), model("\U0001f999" * 255 + "b")]
    first = page(shelf, Request(page_size=1))
    second = page(shelf, Request(page_size=1, page_token=first.next_page_token))
    assert [listed.id for listed in shelf] == ids(first) + ids(second)


def all_pages(shelves: list[list[models.Model]], request: service.ListModelsRequest) -> list[str]:
    """Ids of all pages, the shelf changing after each page and staying as it is at the end."""
    got: list[str] = []
    for turn in range(1000):
        response = page(shelves[min(turn, len(shelves) - 1)], request)
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
)
SHELVES = st.lists(MODELS, max_size=25, unique_by=lambda listed: listed.id)
ORDERS = st.sampled_from(["", "id", "context_length", "input_price"])


@settings(deadline=None)
@given(shelf=SHELVES, page_size=st.integers(1, 30), order_by=ORDERS, type_=st.sampled_from(["", "chat"]))
def test_the_pages_together_are_the_list(shelf, page_size, order_by, type_):
    """For any size of page, order and filter: nothing twice, nothing missing, same order."""
    whole = ids(page(shelf, Request(page_size=1000, order_by=order_by, type=type_)))
    assert whole == all_pages([shelf], Request(page_size=page_size, order_by=order_by, type=type_))


@settings(deadline=None)
@given(
    shelf=SHELVES,
    others=st.lists(SHELVES, max_size=6),
    page_size=st.integers(1, 5),
    order_by=ORDERS,
)
@example(
    shelf=[model("b"), model("d"), model("f")],
    others=[[model("a"), model("c")], []],
    page_size=1,
    order_by="",
)
def test_a_model_that_does_not_change_is_sent_once_while_others_come_and_go(
    shelf, others, page_size, order_by
):
    """The place of the last model sent is what a token holds, not a number to skip."""
    constant = {listed.id for listed in shelf}
    shelves = [shelf + [extra for extra in other if extra.id not in constant] for other in [*others, []]]
    got = all_pages(shelves, Request(page_size=page_size, order_by=order_by))
    kept = [model_id for model_id in got if model_id in constant]
    assert ids(page(shelf, Request(page_size=1000, order_by=order_by))) == kept


def test_the_shipped_catalogue_pages_in_every_order():
    """The real data: all models, by context and by price, ten at a time."""
    shipped = list(load_catalog(None).by_id.values())
    for order_by in ("id", "context_length", "input_price"):
        assert {listed.id for listed in shipped} == set(
            all_pages([shipped], Request(page_size=10, order_by=order_by))
        )
