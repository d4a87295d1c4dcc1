import pytest

from support.records import record
from togetherchat_server.domain.trace_context import CANCELLED, AttemptTrace, SpanContext
from togetherchat_server.frontends.grpc.status import ROWS
from togetherchat_server.frontends.http.openai import chat, models
from togetherchat_server.providers.together import attempt_span
from togetherchat_server.telemetry.semconv import (
    DOOR,
    ERROR_CODES,
    PARAMETERS,
    USAGE,
    ListenerAttributes,
    ProviderAttributes,
    attempt_attributes,
    attempt_name,
    call_attributes,
    call_name,
)

HERE = ProviderAttributes.of("https://api.example/v1")
DOORS = ListenerAttributes.of(grpc="127.0.0.1:50051", http="0.0.0.0:443", tls=True, machine="pod-1")


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
    """Whatever is noted has a name, and the door's methods have routes."""
    assert set(attempt_span.PARAMETERS) == set(PARAMETERS)
    assert {"prompt_tokens", "completion_tokens", *attempt_span.TOKENS} == set(USAGE)
    assert {chat.METHOD, models.LIST_METHOD, models.ONE_METHOD} == set(DOOR)
    assert attempt_span.chat.FinishReason.values()[1:] == list(attempt_span.FINISH_REASONS)


@pytest.mark.parametrize("row", sorted(ROWS), ids=str)
def test_an_error_of_the_server_has_its_reason_as_type(row):
    """Codes that blame the caller leave the span without an error, every code leaves the reason."""
    code = ROWS[row].code.name
    told = call_attributes(record(code=code, reason=row.value), DOORS)

    assert (row.value if code in ERROR_CODES else None) == told.get("error.type")
    assert (code, row.value) == (told["rpc.response.status_code"], told["togetherchat.reason"])


@pytest.mark.parametrize(("code", "error"), [("503", "OVERLOADED"), ("429", None)])
def test_an_http_status_from_500_on_is_an_error(code, error):
    """Below, the caller can do something about it."""
    told = call_attributes(record(protocol="http", method=chat.METHOD, code=code, reason="OVERLOADED"), DOORS)

    assert (int(code), error) == (told["http.response.status_code"], told.get("error.type"))


@pytest.mark.parametrize(
    ("protocol", "method", "name"),
    [
        ("grpc", "/togetherchat.v1.ChatService/Complete", "togetherchat.v1.ChatService/Complete"),
        ("http", "chat.completions", "POST /v1/chat/completions"),
        ("http", "models.retrieve", "GET /v1/models/{id}"),
    ],
)
def test_a_call_is_named_by_its_method_and_route(protocol, method, name):
    """Of which there are few: no path and no model of a caller's."""
    assert name == call_name(record(protocol=protocol, method=method))


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1:50051", {"server.address": "127.0.0.1", "server.port": 50051}),
        ("[::1]:50051", {"server.address": "::1", "server.port": 50051}),
        ("0.0.0.0:50051", {"server.address": "pod-1", "server.port": 50051}),
        ("[::]:50051", {"server.address": "pod-1", "server.port": 50051}),
        ("localhost:0", {"server.address": "localhost"}),
        (None, {}),
    ],
)
@pytest.mark.parametrize(("protocol", "method"), [("grpc", "/x/Complete"), ("http", chat.METHOD)])
def test_where_callers_come_in(address, here, protocol, method):
    """As it is set; a machine that is listened at whole goes by its name. What callers say it is called is theirs."""
    doors = ListenerAttributes.of(grpc=address, http=address, tls=False, machine="pod-1")
    told = call_attributes(record(protocol=protocol, method=method, code="200"), doors)

    assert here == {name: value for name, value in told.items() if name.startswith("server.")}


@pytest.mark.parametrize(("tls", "scheme"), [(True, "https"), (False, "http")])
def test_the_doors_scheme_is_that_of_its_connections(tls, scheme):
    """Encrypted or not; gRPC's conventions have no word for it."""
    doors = ListenerAttributes.of(grpc="h:1", http="h:2", tls=tls, machine="")

    assert (
        scheme
        == call_attributes(record(protocol="http", method=chat.METHOD, code="200"), doors)["url.scheme"]
    )
    assert "url.scheme" not in call_attributes(record(), doors)


@pytest.mark.parametrize(
    ("base_url", "host", "port"),
    [
        ("https://api.example/v1", "api.example", 443),
        ("http://h/v1/", "h", 80),
        ("http://[::1]:8/v1", "::1", 8),
    ],
)
def test_where_the_provider_is(base_url, host, port):
    """The address as it is set, with the port that it implies."""
    told = attempt_attributes(attempt(), 0, ProviderAttributes.of(base_url), record())

    assert (host, port) == (told["server.address"], told["server.port"])
    assert f"{base_url.rstrip('/')}/chat/completions" == told["url.full"]


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
def test_why_an_attempt_failed(failure, ended_s, reason, error):
    """One that was given up, or still runs, failed for the reason that its call ended."""
    told = attempt_attributes(attempt(failure=failure, ended_s=ended_s), 0, HERE, record(reason=reason))

    assert error == told.get("error.type")


def test_names_of_models_are_cut():
    """They are the caller's text."""
    long = attempt(model="m" * 5000)

    assert 256 == len(attempt_attributes(long, 0, HERE, record())["gen_ai.request.model"])
    assert 261 == len(attempt_name(long))


def test_no_tokens_are_told_that_the_provider_did_not_tell():
    """A guess is none of its figures."""
    told = attempt_attributes(attempt(), 0, HERE, record())

    assert [] == [name for name in told if name.startswith("gen_ai.usage")]
