"""Text that the command prints once the service accepts calls: addresses, and lines to try."""

from typing import TYPE_CHECKING

from togetherchat_server.config import Configuration, Settings

if TYPE_CHECKING:
    from togetherchat_server.runtime.app import BoundAddresses
    from togetherchat_server.supervisor.supervisor import FleetAddresses


def addresses_of(reached: "BoundAddresses | FleetAddresses", settings: Settings) -> list[str]:
    places = [f"gRPC on {reached.grpc}"]
    if reached.http:
        places.append(f"HTTP on {_scheme(settings)}://{reached.http}/v1")
    if reached.health:
        places.append(f"health on {reached.health}")
    if reached.admin:
        places.append(f"admin on http://{reached.admin}")
    return places


def banner(
    configuration: Configuration,
    places: list[str],
    *,
    version: str,
    upstream: str,
    try_on: "BoundAddresses | FleetAddresses",
) -> str:
    source = "answers from " if configuration.upstream else "simulated answers from "
    line = f"togetherchat {version} SERVING: " + ", ".join([*places, source + upstream])
    if configuration.settings.log_format == "json":
        return line
    settings = configuration.settings
    http_hint = _http_hint(try_on.http, settings) if try_on.http else ""
    console = f"\n  {_scheme(settings)}://{try_on.http}/ in a browser" if settings.console else ""
    return f"{line}\n{_hints(try_on.grpc, settings)}{http_hint}{console}"


def _hints(address: str, settings: Settings) -> str:
    """Lines to try, as they are."""
    message = '{"role": "ROLE_USER", "content": [{"text": "Hello!"}]}'
    ask = f'{{"model": "openai/gpt-oss-120b", "messages": [{message}]}}'
    grpcurl = "grpcurl" + _tls_flags(settings, "-", plaintext=" -plaintext")
    call = f"{grpcurl} -d '{ask}' {address} togetherchat.v1.ChatService"
    return (
        "Try:\n"
        f"  {grpcurl} {address} list\n"
        f"  {call}/Complete\n"
        f"  {call}/StreamComplete\n"
        f"  {grpcurl} -d '{{\"page_size\": 3}}' {address} togetherchat.v1.ChatService/ListModels"
    )


def _tls_flags(settings: Settings, dash: str, plaintext: str) -> str:
    """What grpcurl and curl want to know, with one dash or two before it."""
    if settings.tls_cert_file is None:
        return plaintext
    own = f" {dash}cert caller.pem {dash}key caller.key" if settings.tls_client_ca_file is not None else ""
    return f" {dash}cacert ca.pem{own}"


def _scheme(settings: Settings) -> str:
    return "http" if settings.tls_cert_file is None else "https"


def _http_hint(address: str, settings: Settings) -> str:
    curl = "curl" + _tls_flags(settings, "--", plaintext="")
    ask = '{"model": "openai/gpt-oss-120b", "messages": [{"role": "user", "content": "Hello!"}]}'
    url = f"{_scheme(settings)}://{address}/v1/chat/completions"
    return f"\n  {curl} {url} -H 'Content-Type: application/json' -d '{ask}'"
