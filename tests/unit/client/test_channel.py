"""Tests of the channel configuration."""

import json

import pytest

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import usage_service_pb2 as usage_service
from togetherchat_client import Tls
from togetherchat_client.channel import method_timeouts_s, resolve_config, service_config
from togetherchat_client.targets import is_local


def plan(target="localhost:50051", **arguments):
    return resolve_config(target, **arguments)


@pytest.mark.parametrize(
    "target",
    [
        "localhost:50051",
        "127.0.0.1:1",
        "127.8.8.8:1",
        "[::1]:1",
        "dns:///localhost:1",
        "ipv4:127.0.0.1:1,127.0.0.1:2",
        "ipv6:[::1]:1",
        "unix:/run/chat.sock",
    ],
)
def test_a_target_on_this_machine_uses_plaintext(target):
    """No authority issues certificates for loopback, and its traffic does not leave the machine."""
    assert is_local(target)
    assert plan(target).tls is None


@pytest.mark.parametrize(
    "target",
    [
        "chat.example.com:443",
        "localhost.example.com:1",
        "10.0.0.1:50051",
        "dns:///chat.example.com:443",
        "ipv4:127.0.0.1:1,10.0.0.1:1",
        "[2001:db8::1]:443",
        "xds:///chat",
    ],
)
def test_any_other_target_uses_tls(target):
    """By default a key is never sent over a network in plaintext."""
    assert Tls() == plan(target).tls


def test_an_explicit_tls_argument_overrides_the_default():
    """Plaintext inside a mesh and TLS on loopback are both possible."""
    own = Tls(server_name="chat")
    assert (None, Tls(), own) == (
        plan("chat:1", tls=False).tls,
        plan("localhost:1", tls=True).tls,
        plan("chat:1", tls=own).tls,
    )


@pytest.mark.parametrize("key", ["", "  ", "two words", "a\nb", "schlüssel", "a\x00b"])
def test_an_invalid_key_is_rejected_without_printing_it(key):
    """gRPC's own exception would contain the key."""
    with pytest.raises(ValueError, match=r"^key: must ") as caught:
        plan(key=key)
    assert not key.strip() or key not in str(caught.value)


def test_keys_are_not_in_the_repr():
    """A `repr` may end up in a log."""
    connection = plan(key="tc-secret", upstream_key="up-secret", tls=Tls(private_key=b"pem-secret"))
    assert "secret" not in repr(connection)


def test_channel_options_override_the_defaults():
    """Options of the caller replace those of the library, and others are added."""
    options = dict(plan(channel_options=[("grpc.keepalive_time_ms", 5), ("grpc.lb_x", 1)]).options)
    assert (5, 1) == (options["grpc.keepalive_time_ms"], options["grpc.lb_x"])


def test_the_timeouts_are_those_of_the_service_config():
    """The library reads the timeouts from the config instead of repeating them."""
    assert {
        "Complete": 600.0,
        "StreamComplete": 600.0,
        "ListModels": 30.0,
        "GetModel": 30.0,
        "QueryUsage": 30.0,
        "ListQuotas": 30.0,
        "ResetQuota": 30.0,
        "Check": 10.0,
    } == method_timeouts_s()


def timeout_of(config, timeout_s):
    return config.call_arguments("Complete", request_id="r", timeout_s=timeout_s)["timeout"]


def test_a_timeout_of_the_call_overrides_the_clients_and_the_configs():
    """Every call has a timeout: its own, else the client's, else the service config's."""
    assert (1.0, 2.0, 600.0) == (
        timeout_of(plan(timeout_s=2.0), 1.0),
        timeout_of(plan(timeout_s=2.0), None),
        timeout_of(plan(), None),
    )


def test_the_service_config_names_methods_of_the_contract():
    """gRPC silently ignores unknown method names."""
    chat_service = service.DESCRIPTOR.services_by_name["ChatService"]
    config = json.loads(service_config())
    names = {(name["service"], name["method"]) for entry in config["methodConfig"] for name in entry["name"]}
    services = (chat_service, usage_service.DESCRIPTOR.services_by_name["UsageService"])
    assert {(each.full_name, method.name) for each in services for method in each.methods} == names
    assert chat_service.full_name == config["healthCheckConfig"]["serviceName"]
