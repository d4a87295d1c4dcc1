import pytest

from support.records import record
from togetherchat_server.domain.trace_context import CANCELLED, AttemptTrace, SpanContext
from togetherchat_server.frontends.grpc.status import CODES
from togetherchat_server.frontends.http.openai import chat, models
from togetherchat_server.providers.together import attempt_span
from togetherchat_server.telemetry.semconv import (
    ERROR_CODES,
    HTTP_ROUTES,
    PARAMETERS,
    USAGE,
    ListenerAttributes,
    ProviderAttributes,
    attempt_attributes,
    attempt_name,
    call_attributes,
    call_name,
)

PROVIDER = ProviderAttributes.of("https://api.example/v1")
LISTENERS = ListenerAttributes.of(grpc="127.0.0.1:50051", http="0.0.0.0:443", tls=True, hostname="pod-1")


def attempt(**changed):
    return AttemptTrace(
        **{
            "span": SpanContext(trace_id=1, span_id=2),
            "http_method": "POST",
            "path": "chat/completions",
            "started_s": 1.0,
            "ended_s": 2.0,
            "model": "some/model",
            "upstream": "together",
            **changed,
        }
    )


def test_the_tables_are_total():
    """Every recorded parameter has an attribute, every HTTP method a route."""
    assert set(attempt_span.PARAMETERS) == set(PARAMETERS)
    assert {"prompt_tokens", "completion_tokens", *attempt_span.TOKENS} == set(USAGE)
    assert {chat.METHOD.name, models.LIST_METHOD.name, models.ONE_METHOD.name} == set(HTTP_ROUTES)
    assert attempt_span.chat.FinishReason.values()[1:] == list(attempt_span.FINISH_REASONS)


@pytest.mark.parametrize(
    ("seed", "expected"), [(0, 0), (2**63 - 1, 2**63 - 1), (2**63, None), (2**64 - 1, None)]
)
def test_a_seed_that_otlp_cannot_hold_is_left_out(seed, expected):
    """OTLP's integers are signed: a larger seed would fail the export of the whole batch of spans."""
    parameters = {"seed": seed, "n": 2}
    attributes = attempt_attributes(attempt(parameters=parameters), 0, PROVIDER, record())

    assert (expected, 2) == (
        attributes.get("gen_ai.request.seed"),
        attributes["gen_ai.request.choice.count"],
    )


@pytest.mark.parametrize("reason", sorted(CODES), ids=str)
def test_an_error_of_the_server_has_its_reason_as_type(reason):
    """A code that blames the caller sets no error; every failure sets the reason."""
    code = CODES[reason].name
    attributes = call_attributes(record(code=code, reason=reason.value), LISTENERS)

    assert (reason.value if code in ERROR_CODES else None) == attributes.get("error.type")
    assert (code, reason.value) == (attributes["rpc.response.status_code"], attributes["togetherchat.reason"])


@pytest.mark.parametrize(("code", "error"), [("503", "OVERLOADED"), ("429", None)])
def test_an_http_status_from_500_on_is_an_error(code, error):
    """A status below 500 is the caller's mistake."""
    attributes = call_attributes(
        record(protocol="http", method=chat.METHOD.name, code=code, reason="OVERLOADED"), LISTENERS
    )

    assert (int(code), error) == (attributes["http.response.status_code"], attributes.get("error.type"))


@pytest.mark.parametrize(
    ("protocol", "method", "name"),
    [
        ("grpc", "/togetherchat.v1.ChatService/Complete", "togetherchat.v1.ChatService/Complete"),
        ("http", "chat.completions", "POST /v1/chat/completions"),
        ("http", "models.retrieve", "GET /v1/models/{id}"),
    ],
)
def test_a_call_is_named_by_its_method_and_route(protocol, method, name):
    """Their number is bounded: no name holds a caller's path or model."""
    assert name == call_name(record(protocol=protocol, method=method))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:50051", {"server.address": "127.0.0.1", "server.port": 50051}),
        ("[::1]:50051", {"server.address": "::1", "server.port": 50051}),
        ("0.0.0.0:50051", {"server.address": "pod-1", "server.port": 50051}),
        ("[::]:50051", {"server.address": "pod-1", "server.port": 50051}),
        ("localhost:0", {"server.address": "localhost"}),
        (None, {}),
    ],
)
@pytest.mark.parametrize(("protocol", "method"), [("grpc", "/x/Complete"), ("http", chat.METHOD.name)])
def test_the_servers_address_is_that_of_the_listener(address, expected, protocol, method):
    """From the settings, not from callers; a wildcard address is replaced by the hostname."""
    listeners = ListenerAttributes.of(grpc=address, http=address, tls=False, hostname="pod-1")
    attributes = call_attributes(record(protocol=protocol, method=method, code="200"), listeners)

    assert expected == {name: value for name, value in attributes.items() if name.startswith("server.")}


@pytest.mark.parametrize(("tls", "scheme"), [(True, "https"), (False, "http")])
def test_the_url_scheme_is_https_with_tls(tls, scheme):
    """gRPC's conventions have no such attribute."""
    listeners = ListenerAttributes.of(grpc="h:1", http="h:2", tls=tls, hostname="")

    assert (
        scheme
        == call_attributes(record(protocol="http", method=chat.METHOD.name, code="200"), listeners)[
            "url.scheme"
        ]
    )
    assert "url.scheme" not in call_attributes(record(), listeners)


@pytest.mark.parametrize(
    ("base_url", "host", "port"),
    [
        ("https://api.example/v1", "api.example", 443),
        ("http://h/v1/", "h", 80),
        ("http://[::1]:8/v1", "::1", 8),
    ],
)
def test_an_attempt_has_the_address_of_the_provider(base_url, host, port):
    """As configured, with the default port of the scheme."""
    attributes = attempt_attributes(attempt(), 0, ProviderAttributes.of(base_url), record())

    assert (host, port) == (attributes["server.address"], attributes["server.port"])
    assert f"{base_url.rstrip('/')}/chat/completions" == attributes["url.full"]


@pytest.mark.parametrize(
    ("failure", "ended_s", "reason", "error"),
    [
        ("RATE_LIMITED", 2.0, "", "RATE_LIMITED"),
        (CANCELLED, 2.0, "CALLER_CANCELLED", "CALLER_CANCELLED"),
        (CANCELLED, 2.0, "", CANCELLED),
        ("", None, "DRAINING", "DRAINING"),
        ("", 2.0, "", None),
    ],
)
def test_an_attempt_has_the_type_of_its_error(failure, ended_s, reason, error):
    """A cancelled or unfinished attempt has the reason of its call."""
    attributes = attempt_attributes(
        attempt(failure=failure, ended_s=ended_s), 0, PROVIDER, record(reason=reason)
    )

    assert error == attributes.get("error.type")


def test_long_names_of_models_are_cut():
    """They are the caller's text."""
    long = attempt(model="m" * 5000)

    assert 256 == len(attempt_attributes(long, 0, PROVIDER, record())["gen_ai.request.model"])
    assert 261 == len(attempt_name(long))


def test_estimated_tokens_are_not_attributes():
    """Only tokens that the provider counted are."""
    attributes = attempt_attributes(attempt(), 0, PROVIDER, record())

    assert [] == [name for name in attributes if name.startswith("gen_ai.usage")]
