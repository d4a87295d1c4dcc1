"""Opens the client that the command line and the environment describe."""

from collections.abc import Mapping
from pathlib import Path

from togetherchat_client import Client, Tls, connect
from togetherchat_client.command.arguments import Arguments, UsageError


def open_client(arguments: Arguments, environ: Mapping[str, str]) -> Client:
    """Raises `UsageError` for a file that cannot be read or a key that cannot be sent."""
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
    if arguments.ca_file is None:
        return arguments.tls
    if arguments.tls is False:
        raise UsageError("--ca-file and --no-tls contradict each other")
    return Tls(root_certificates=_read(arguments.ca_file))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror}") from exc
