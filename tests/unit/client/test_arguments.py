"""Tests of the arguments that the Python client rejects, by the list that all clients share."""

import base64
import contextlib

import pytest

from conformance import judge
from support.conformance import ARGUMENTS
from togetherchat_client import connect, connect_async, user
from togetherchat_client.channel import resolve_config
from togetherchat_client.requests import complete_request

CASES = judge.read_argument_cases(ARGUMENTS, "python")
CLIENT = {"client_timeout_s": "timeout_s"}
CALL = {"timeout_s", "request_id", "metadata", "metadata_bytes", "text_utf16"}


def number(value):
    return float(value) if value in ("NaN", "Infinity") else value


def check(arguments):
    """Resolve a client and a call with the arguments of a case. Nothing is opened."""
    of_client = {CLIENT.get(name, name): number(each) for name, each in arguments.items() if name not in CALL}
    config = resolve_config(of_client.pop("target", "localhost:1"), **of_client)
    pairs = [tuple(pair) for pair in arguments.get("metadata", ())]
    pairs += [(name, base64.b64decode(value)) for name, value in arguments.get("metadata_bytes", ())]
    config.call_arguments(
        "Complete",
        request_id=arguments.get("request_id", "r"),
        timeout_s=number(arguments.get("timeout_s")),
        metadata=pairs,
    )
    units = b"".join(unit.to_bytes(2, "little") for unit in arguments.get("text_utf16", ()))
    complete_request("m", units.decode("utf-16-le", errors="surrogatepass") or "Hi")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_argument_is_accepted_or_rejected_in_the_shared_words(case):
    """ValueError with exactly the message of the list, or no exception."""
    with contextlib.ExitStack() as stack:
        caught = stack.enter_context(pytest.raises(ValueError)) if case.expect["message"] else None  # noqa: PT011  the message is compared below
        check(case.actor_input["arguments"])
    assert str(case.expect["message"]) == (str(caught.value) if caught else "")


@pytest.mark.parametrize("open_client", [connect, connect_async])
def test_connect_rejects_a_url(open_client):
    """At once, and without an event loop."""
    with pytest.raises(ValueError, match="target: must not be a URL"):
        open_client("http://localhost:50051")


@pytest.mark.parametrize("target", ["vsock:2:1234", "xds:///chat", "custom:///a/b"])
def test_schemes_of_grpc_without_host_and_port_are_left_to_grpc(target):
    """Only gRPC knows their form."""
    assert target == resolve_config(target).target


def test_metadata_of_a_call_replaces_the_clients_own():
    """A server rejects a call with two keys."""
    config = resolve_config("localhost:1", key="tc_1")
    sent = config.call_arguments("Complete", request_id="r", metadata=[("Authorization", "Bearer tc_2")])
    assert (("x-request-id", "r"), ("authorization", "Bearer tc_2")) == sent["metadata"]


def test_half_a_character_in_a_builder_is_named():
    """`user` does not know the index of its message."""
    with pytest.raises(ValueError, match=r"^content\[1\]\.text: is not valid Unicode"):
        user("a", "\ud83d")


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"user": "\ud83d"}, "user"),
        ({"stop": ["a", "\ud83d"]}, r"stop\[1\]"),
        ({"fallback_models": ("\udc00",)}, r"fallback_models\[0\]"),
    ],
)
def test_half_a_character_in_a_field_is_named(fields, place):
    """protobuf's own exception has no name of a field."""
    with pytest.raises(ValueError, match=f"^{place}: is not valid Unicode"):
        complete_request("m", "Hi", **fields)
