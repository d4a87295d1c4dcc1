"""Opens a client as the command line and the environment configure it."""

from collections.abc import Mapping
from pathlib import Path

from togetherchat_client import Client, Tls, connect
from togetherchat_client.cli.arguments import Arguments, UsageError


def open_client(arguments: Arguments, environ: Mapping[str, str]) -> Client:
    """Open a client.

    Raises:
        UsageError: a file cannot be read, a key cannot be sent, or TLS options contradict each other.
    """
    try:
        return connect(
            arguments.target,
            key=_key(arguments.key_file, environ.get("TOGETHERCHAT_KEY")),
            upstream_key=_key(arguments.upstream_key_file, environ.get("TOGETHERCHAT_UPSTREAM_KEY")),
            timeout_s=arguments.timeout,
            tls=_tls(arguments),
            retries=arguments.retries,
        )
    except ValueError as exc:
        raise UsageError(str(exc)) from exc


def _key(path: Path | None, from_environment: str | None) -> str | None:
    if path is None:
        return from_environment or None
    return _read(path).decode("ascii", errors="replace")


def _tls(arguments: Arguments) -> bool | Tls | None:
    files = {
        "--ca-file": arguments.ca_file,
        "--cert-file": arguments.cert_file,
        "--cert-key-file": arguments.cert_key_file,
    }
    given = [option for option, path in files.items() if path is not None]
    if not given:
        return arguments.tls
    if arguments.tls is False:
        raise UsageError(f"{given[0]} and --no-tls contradict each other")
    if (arguments.cert_file is None) != (arguments.cert_key_file is None):
        raise UsageError("--cert-file and --cert-key-file must be given together")
    contents = {option: _read(path) for option, path in files.items() if path is not None}
    return Tls(
        root_certificates=contents.get("--ca-file"),
        certificate_chain=contents.get("--cert-file"),
        private_key=contents.get("--cert-key-file"),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror}") from exc
