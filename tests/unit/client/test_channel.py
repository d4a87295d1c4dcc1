"""What a connection is decided to be."""

import json

import pytest

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client import Tls
from togetherchat_client.channel import is_local, method_timeouts_s, resolve_config, service_config


def plan(target="localhost:50051", **arguments):
    chosen = {
        "key": None,
        "upstream_key": None,
        "timeout_s": None,
        "tls": None,
        "retries": True,
        "channel_options": (),
    }
    return resolve_config(target, **{**chosen, **arguments})


@pytest.mark.parametrize(
    "target",
    [
        "localhost:50051",
        "localhost",
        "127.0.0.1:1",
        "127.8.8.8:1",
        "[::1]:1",
        "dns:///localhost:1",
        "ipv4:127.0.0.1:1,127.0.0.1:2",
        "ipv6:[::1]:1",
        "unix:/run/chat.sock",
    ],
)
def test_a_target_on_this_machine_is_plain_text(target):
    """No certificate can be had for it, and nobody can listen."""
    assert is_local(target)
    assert plan(target).tls is None


@pytest.mark.parametrize(
    "target",
    [
        "chat.example.com:443",
        "localhost.example.com:1",
        "10.0.0.1:50051",
        "dns:///chat.example.com",
        "ipv4:127.0.0.1:1,10.0.0.1:1",
        "[2001:db8::1]:443",
        "xds:///chat",
    ],
)
def test_any_other_target_is_tls(target):
    """A key does not cross a network in the clear because nobody thought of it."""
    assert Tls() == plan(target).tls


def test_what_is_said_about_tls_wins():
    """Inside a mesh plain text is right, and a test server may speak TLS on loopback."""
    own = Tls(server_name="chat")
    assert (None, Tls(), own) == (
        plan("chat:1", tls=False).tls,
        plan("localhost:1", tls=True).tls,
        plan("chat:1", tls=own).tls,
    )


@pytest.mark.parametrize("key", ["", "  ", "two words", "a\nb", "schlüssel", "a\x00b"])
def test_a_key_that_metadata_cannot_carry_is_refused_without_repeating_it(key):
    """gRPC would print it."""
    with pytest.raises(ValueError, match="character that metadata cannot carry") as caught:
        plan(key=key)
    assert not key.strip() or key not in str(caught.value)


def test_keys_are_not_in_the_repr():
    """Connections end up in logs."""
    connection = plan(key="tc-secret", upstream_key="up-secret", tls=Tls(private_key=b"pem-secret"))
    assert "secret" not in repr(connection)


def test_options_of_the_caller_win():
    """The library's are defaults."""
    options = dict(plan(channel_options=[("grpc.keepalive_time_ms", 5), ("grpc.lb_x", 1)]).options)
    assert (5, 1) == (options["grpc.keepalive_time_ms"], options["grpc.lb_x"])


def test_the_timeouts_are_those_of_the_service_config():
    """One place says them."""
    assert {
        "Complete": 600.0,
        "StreamComplete": 600.0,
        "ListModels": 30.0,
        "Check": 10.0,
    } == method_timeouts_s()


def test_a_deadline_is_the_calls_then_the_clients_then_the_configs():
    """The nearest word wins, and there is always one."""
    assert (1.0, 2.0, 600.0) == (
        plan(timeout_s=2.0).call_timeout_s("Complete", 1.0),
        plan(timeout_s=2.0).call_timeout_s("Complete", None),
        plan().call_timeout_s("Complete", None),
    )


def test_the_service_config_names_methods_of_the_contract():
    """gRPC would ignore a name that it does not know."""
    chat_service = service.DESCRIPTOR.services_by_name["ChatService"]
    config = json.loads(service_config())
    names = {(name["service"], name["method"]) for entry in config["methodConfig"] for name in entry["name"]}
    assert {(chat_service.full_name, method.name) for method in chat_service.methods} == names
    assert chat_service.full_name == config["healthCheckConfig"]["serviceName"]
