"""The TLS files of the listeners: the server certificate, its key, and the authorities of client
certificates. They are reloaded when they are replaced.

Each handshake takes the `current` material, which checks the files with three `stat`s. Paths are
followed, because a mounted Kubernetes Secret is replaced by changing a symbolic link. Knows no listener.

- Two files cannot be replaced in one step. Between the two steps the key does not match the
  certificate; in the middle of a write a file is not valid PEM. Such files are never used: the
  previous material stays in use until the files are valid again.
- Every set of files gets a new TLS context; an old context is never changed. Authorities can be added
  to a context but not removed, and the old one would accept the session tickets of clients whose
  authority is no longer trusted.
- `ssl` reveals a certificate's expiry only to the peer. So each set of files is tested in a handshake
  in memory, with a client that trusts this certificate only. That needs no library that parses
  certificates, and finds a certificate that clients cannot use.
"""

import hashlib
import logging
import re
import ssl
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast, final

from togetherchat_server.config.settings import Settings, SettingsError
from togetherchat_server.domain.audit import AuditEvent, emit
from togetherchat_server.domain.reasons import sanitise

FILE_BYTES_MAX: Final = 2**20
TLS_1_2_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""With forward secrecy and authenticated encryption only, as TLS 1.3 has (RFC 9325 4.2)."""
READ_ATTEMPTS_MAX: Final = 3
NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which `ssl` does not name. An expired certificate is read too."""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_MISMATCHES: Final = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})

_log = logging.getLogger(__name__)

FileStates = tuple[tuple[int, int, int], ...]


@final
class CertificateError(Exception):
    """The TLS files cannot be used. The message is one line and contains nothing of a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """The paths of the certificate chain, its key, and the authorities of client certificates.

    With `client_ca`, every client needs a certificate of one of these authorities.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateInfo:
    """What a client can read from the certificate. Times are seconds since 1970."""

    names: tuple[str, ...]
    sha256: str
    not_before_s: float
    not_after_s: float

    def __str__(self) -> str:
        expiry = datetime.fromtimestamp(self.not_after_s, UTC).isoformat(timespec="seconds")
        return sanitise(f"expires {expiry}, sha256 {self.sha256}, for {', '.join(self.names)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMaterial:
    """One set of TLS files: the bytes for gRPC, and a context for HTTP."""

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    context: ssl.SSLContext
    info: CertificateInfo


@final
class Certificates:
    """Holds the current TLS material. Called from the event loop and from gRPC's threads."""

    def __init__(self, files: CertificateFiles) -> None:
        """Read the files.

        Raises:
            CertificateError: a file cannot be read or used.
        """
        self._files = files
        self._lock = threading.Lock()
        self._last_error = ""
        self._states, self._material = _read(files)

    @property
    def requires_client_certificates(self) -> bool:
        """Whether clients need a certificate of their own."""
        return self._files.client_ca is not None

    def current(self) -> TlsMaterial:
        """Return the material for a handshake, and reload it if the files have changed.

        If the new files cannot be used, the previous material stays in use.
        """
        with self._lock:
            try:
                if _states(self._files) != self._states:
                    before = self._states
                    self._states, self._material = _read(self._files)
                    _log.info("TLS certificate replaced: %s", self._material.info)
                    self._report_replaced(before)
                self._last_error = ""
            except CertificateError as exc:
                if str(exc) != self._last_error:
                    self._last_error = str(exc)
                    _log.warning("TLS files cannot be used, the previous ones stay in use: %s", exc)
                    emit(
                        AuditEvent.FILE_UNREADABLE,
                        file=str(self._files.certificate),
                        problem=self._last_error,
                    )
            return self._material

    def stale(self) -> bool:
        """Return whether the files cannot be used, so that earlier ones are in effect."""
        self.current()
        return bool(self._last_error)

    def _report_replaced(self, before: FileStates) -> None:
        """Report each file of the set that is another one than before."""
        for path, old, new in zip(_paths(self._files), before, self._states, strict=True):
            if old != new:
                emit(AuditEvent.FILE_RELOADED, file=str(path))


def load_certificates(settings: Settings) -> Certificates | None:
    """Read and test the TLS files. Return None if none are set: plaintext.

    Raises:
        SettingsError: a file is missing, cannot be read or used, or does not match the others.
    """
    if settings.tls_cert_file is None:
        for flag, path in (
            ("--tls-key-file", settings.tls_key_file),
            ("--tls-client-ca-file", settings.tls_client_ca_file),
        ):
            if path is not None:
                raise SettingsError(f"{flag} needs a certificate: set --tls-cert-file FILE")
        return None
    if settings.tls_key_file is None:
        raise SettingsError("--tls-cert-file needs its private key: set --tls-key-file FILE")
    files = CertificateFiles(
        certificate=Path(settings.tls_cert_file),
        key=Path(settings.tls_key_file),
        client_ca=None if settings.tls_client_ca_file is None else Path(settings.tls_client_ca_file),
    )
    try:
        return Certificates(files)
    except CertificateError as exc:
        raise SettingsError(f"TLS: {exc}") from None


def _read(files: CertificateFiles) -> tuple[FileStates, TlsMaterial]:
    """Read one consistent set of files, with their states at that time."""
    problem = CertificateError(f"{files.certificate} is being written; try again")
    for _ in range(READ_ATTEMPTS_MAX):
        before = _states(files)
        try:
            material = _load(files)
        except CertificateError as exc:
            problem = exc
        else:
            if _states(files) == before:
                return before, material
    raise problem


def _states(files: CertificateFiles) -> FileStates:
    return tuple(_state(path) for path in _paths(files))


def _state(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as exc:
        raise CertificateError(f"cannot read {path}: {exc.strerror}") from None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _paths(files: CertificateFiles) -> Iterable[Path]:
    return filter(None, (files.certificate, files.key, files.client_ca))


def _load(files: CertificateFiles) -> TlsMaterial:
    chain, key = _bytes(files.certificate), _bytes(files.key)
    leaf = _CERTIFICATE.search(chain)
    if leaf is None:
        raise CertificateError(f"{files.certificate} does not contain a certificate in PEM format")
    if b"PRIVATE KEY-----" not in key:
        raise CertificateError(f"{files.key} does not contain a private key in PEM format")
    if b"ENCRYPTED" in key:
        raise CertificateError(f"{files.key} is encrypted; decrypt it, the service cannot enter a password")
    context = _context(files)
    return TlsMaterial(
        chain=chain,
        key=key,
        client_ca=None if files.client_ca is None else _bytes(files.client_ca),
        context=context,
        info=_test(context, leaf[0].decode("ascii", errors="replace"), files.certificate),
    )


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise CertificateError(f"cannot read {path}: {exc.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise CertificateError(f"{path} is larger than {FILE_BYTES_MAX} bytes")
    return content


def _context(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(TLS_1_2_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password OpenSSL would prompt for one on the terminal.
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except ssl.SSLError as exc:
        if exc.reason in _MISMATCHES:
            raise CertificateError(f"{files.key} is not the key of {files.certificate}") from None
        raise CertificateError(f"{files.certificate} with {files.key}: {_openssl_reason(exc)}") from None
    except OSError as exc:
        raise CertificateError(f"cannot read {files.certificate} or {files.key}: {exc.strerror}") from None
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(cafile=files.client_ca)
        except ssl.SSLError as exc:
            raise CertificateError(
                f"{files.client_ca} does not contain a certificate in PEM format: {_openssl_reason(exc)}"
            ) from None
        except OSError as exc:
            raise CertificateError(f"cannot read {files.client_ca}: {exc.strerror}") from None
    return context


def _test(context: ssl.SSLContext, leaf: str, path: Path) -> CertificateInfo:
    """Perform a handshake in memory with a client that trusts `leaf` only. Return what it received."""
    try:
        der = ssl.PEM_cert_to_DER_cert(leaf)
        client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client_context.check_hostname = False
        client_context.minimum_version = ssl.TLSVersion.TLSv1_3
        client_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME
        client_context.load_verify_locations(cadata=der)
        received = _handshake(client_context, context)
    except (ssl.SSLError, ValueError) as exc:
        raise CertificateError(
            f"{path} is not a certificate that clients can use: {_openssl_reason(exc)}"
        ) from None
    names = cast("tuple[tuple[str, str], ...]", received.get("subjectAltName", ()))
    return CertificateInfo(
        names=tuple(name for _, name in names),
        sha256=hashlib.sha256(der).hexdigest(),
        not_before_s=ssl.cert_time_to_seconds(str(received["notBefore"])),
        not_after_s=ssl.cert_time_to_seconds(str(received["notAfter"])),
    )


def _handshake(client_context: ssl.SSLContext, context: ssl.SSLContext) -> dict[str, object]:
    """Return the certificate as the client receives it.

    In TLS 1.3 the client's handshake is complete after the server's first messages.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    client.do_handshake()
    return cast("dict[str, object]", client.getpeercert() or {})


def _openssl_reason(exc: Exception) -> str:
    """Return OpenSSL's reason, without the position in its source."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return sanitise(exc.verify_message)
    if isinstance(exc, ssl.SSLError) and exc.reason:
        return exc.reason.lower().replace("_", " ")
    return "cannot be parsed"
