"""The banner that the command prints when the service accepts calls: addresses, and example commands."""

from typing import TYPE_CHECKING, Final

from togetherchat_server.config import Configuration, Settings
from togetherchat_server.config.listen_address import ListenAddress

if TYPE_CHECKING:
    from togetherchat_server.runtime.app import BoundAddresses
    from togetherchat_server.supervisor.supervisor import FleetAddresses

NUL: Final = "\0"
MODEL: Final = "openai/gpt-oss-120b"


def describe_listeners(addresses: "BoundAddresses | FleetAddresses", settings: Settings) -> list[str]:
    """Return one text for each listener."""
    listeners = [f"gRPC on {addresses.grpc}"]
    if addresses.http:
        http = ListenAddress.parse(addresses.http)
        listeners.append(f"HTTP on {http if http.path else f'{_scheme(settings)}://{http}/v1'}")
    if addresses.health:
        listeners.append(f"health on {addresses.health}")
    if addresses.admin:
        admin = ListenAddress.parse(addresses.admin)
        listeners.append(f"admin on {admin if admin.path else f'http://{admin}'}")
    return listeners


def banner(
    configuration: Configuration,
    listeners: list[str],
    *,
    version: str,
    provider_url: str,
    addresses: "BoundAddresses | FleetAddresses",
    terminal: bool,
) -> str:
    """Return the SERVING line and, on a `terminal` without a JSON log, commands to try."""
    settings = configuration.settings
    source = ("completions from " if configuration.provider else "simulated completions from ") + provider_url
    if configuration.provider and configuration.provider.proxy:
        source += f" through the egress proxy {configuration.provider.proxy}"
    line = f"togetherchat {version} SERVING: " + ", ".join([*listeners, source])
    if settings.log_format_on(terminal=terminal) == "json":
        return line
    curl = _curl_example(addresses.http, settings) if addresses.http else ""
    console = _console_example(addresses.http, settings) if settings.console and addresses.http else ""
    return f"{line}\n{_grpcurl_examples(addresses.grpc, settings)}{curl}{console}"


def _grpcurl_examples(address: str, settings: Settings) -> str:
    message = '{"role": "ROLE_USER", "content": [{"text": "Hello!"}]}'
    request = f'{{"model": "{MODEL}", "messages": [{message}]}}'
    grpcurl = "grpcurl" + _tls_flags(settings, "-", plaintext=" -plaintext")
    where = ListenAddress.parse(address)
    if where.path:
        # Go writes the zero byte of an abstract socket as @.
        grpcurl, address = f"{grpcurl} -unix", where.path.replace("\0", "@")
    call = f"{grpcurl} -d '{request}' {address} togetherchat.v1.ChatService"
    return (
        "Try:\n"
        f"  {grpcurl} {address} list\n"
        f"  {call}/Complete\n"
        f"  {call}/StreamComplete\n"
        f"  {grpcurl} -d '{{\"page_size\": 3}}' {address} togetherchat.v1.ChatService/ListModels"
    )


def _curl_example(address: str, settings: Settings) -> str:
    curl = "curl" + _tls_flags(settings, "--", plaintext="")
    request = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    where = ListenAddress.parse(address)
    if where.path:
        flag = "--abstract-unix-socket" if where.is_abstract else "--unix-socket"
        curl, address = f"{curl} {flag} {where.path.lstrip(NUL)}", "localhost"
    url = f"{_scheme(settings)}://{address}/v1/chat/completions"
    return f"\n  {curl} {url} -H 'Content-Type: application/json' -d '{request}'"


def _console_example(address: str, settings: Settings) -> str:
    return "" if ListenAddress.parse(address).path else f"\n  {_scheme(settings)}://{address}/ in a browser"


def _tls_flags(settings: Settings, dash: str, plaintext: str) -> str:
    """Return the TLS flags of grpcurl (one dash) or curl (two)."""
    if settings.tls_cert_file is None:
        return plaintext
    own = f" {dash}cert caller.pem {dash}key caller.key" if settings.tls_client_ca_file is not None else ""
    return f" {dash}cacert ca.pem{own}"


def _scheme(settings: Settings) -> str:
    return "http" if settings.tls_cert_file is None else "https"
