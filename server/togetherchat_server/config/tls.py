"""The certificate that this service shows to its callers, and the authority of theirs: PEM files
that may be replaced while it runs.

Owns their reading, their checks, and when they are read again: whoever opens a handshake asks
for what is `current`, and the files are looked at then (three `stat`s, by path: a mounted
secret is replaced by turning a symbolic link). Knows no listener and no setting.

- Two files cannot be replaced in one step. What is read between the two is a pair that does
  not match; what is read in the middle of a write is none. Such a pair is never used: the one
  before stays in force until the files are good again.
- A TLS context is made anew for each set of files, and nothing is changed in an old one:
  authorities can be added to a context, not taken away, and an old one would go on to accept
  the tickets that it gave to callers whose authority is trusted no more.
- `ssl` tells the end of a certificate's time to its peer alone. So each set of files is tried
  in a handshake in memory, with a caller who trusts nothing but it: no library is needed to
  read the certificate, and one that callers cannot take is noticed here.

MERGED: TLS as it is set: which files, or none.
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
from togetherchat_server.domain.reasons import sanitise

FILE_BYTES_MAX: Final = 2**20
READS_MAX: Final = 3
NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which `ssl` has no name for: an expired certificate is to be
read, too.
"""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_MISMATCHES: Final = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})

_log = logging.getLogger(__name__)

State = tuple[tuple[int, int, int], ...]


@final
class CertificateError(Exception):
    """The files cannot be used. The message is one line, and holds nothing of a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """Where the certificate (with those between it and its authority) and its key are, and the
    authorities of callers, who then need a certificate of one of them.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateInfo:
    """What a caller can read from a certificate. Times are seconds since 1970."""

    names: tuple[str, ...]
    sha256: str
    not_before_s: float
    not_after_s: float

    def __str__(self) -> str:
        until = datetime.fromtimestamp(self.not_after_s, UTC).isoformat(timespec="seconds")
        return sanitise(f"until {until} sha256 {self.sha256} for {', '.join(self.names)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMaterial:
    """One set of files, as it was read: for gRPC its bytes, for HTTP a context that is made of it."""

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    context: ssl.SSLContext
    facts: CertificateInfo


@final
class Certificates:
    """What is in the files, now. Called from the event loop and from gRPC's own threads."""

    def __init__(self, files: CertificateFiles) -> None:
        """Read the files.

        Raises:
            CertificateError: they cannot be read or used.
        """
        self._files = files
        self._lock = threading.Lock()
        self._complaint = ""
        self._seen, self._material = _read(files)

    @property
    def names_clients(self) -> bool:
        """Whether callers need a certificate of their own."""
        return self._files.client_ca is not None

    def current(self) -> TlsMaterial:
        """What to shake hands with. Files that cannot be used leave those before them in force."""
        with self._lock:
            try:
                if _state(self._files) != self._seen:
                    self._seen, self._material = _read(self._files)
                    _log.info("TLS certificate replaced: %s", self._material.facts)
                self._complaint = ""
            except CertificateError as exc:
                if str(exc) != self._complaint:
                    self._complaint = str(exc)
                    _log.warning("the TLS files before stay in force: %s", exc)
            return self._material


def _read(files: CertificateFiles) -> tuple[State, TlsMaterial]:
    """One set of files that belong together, and how they looked then."""
    problem = CertificateError(f"{files.certificate} is being written")
    for _ in range(READS_MAX):
        before = _state(files)
        try:
            material = _load(files)
        except CertificateError as exc:
            problem = exc
        else:
            if _state(files) == before:
                return before, material
    raise problem


def _state(files: CertificateFiles) -> State:
    return tuple(_state_of(path) for path in _paths(files))


def _state_of(path: Path) -> tuple[int, int, int]:
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
        raise CertificateError(f"{files.certificate} holds no certificate in PEM")
    if b"PRIVATE KEY-----" not in key:
        raise CertificateError(f"{files.key} holds no private key in PEM")
    if b"ENCRYPTED" in key:
        raise CertificateError(f"{files.key} is encrypted: nobody is there to type its password")
    context = _context(files)
    return TlsMaterial(
        chain=chain,
        key=key,
        client_ca=None if files.client_ca is None else _bytes(files.client_ca),
        context=context,
        facts=_tried(context, leaf[0].decode("ascii", errors="replace"), files.certificate),
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
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password at hand OpenSSL would ask the terminal for one.
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except ssl.SSLError as exc:
        if exc.reason in _MISMATCHES:
            raise CertificateError(f"{files.key} is not the key of {files.certificate}") from None
        raise CertificateError(f"{files.certificate} with {files.key}: {_reason(exc)}") from None
    except OSError as exc:
        raise CertificateError(f"cannot read {files.certificate} or {files.key}: {exc.strerror}") from None
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(cafile=files.client_ca)
        except ssl.SSLError as exc:
            raise CertificateError(f"{files.client_ca} holds no authority in PEM: {_reason(exc)}") from None
        except OSError as exc:
            raise CertificateError(f"cannot read {files.client_ca}: {exc.strerror}") from None
    return context


def _tried(context: ssl.SSLContext, leaf: str, path: Path) -> CertificateInfo:
    """Shake hands in memory with a caller who trusts `leaf` alone, and say what it has seen."""
    try:
        der = ssl.PEM_cert_to_DER_cert(leaf)
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.minimum_version = ssl.TLSVersion.TLSv1_3
        trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME
        trusting.load_verify_locations(cadata=der)
        seen = _handshake(trusting, context)
    except (ssl.SSLError, ValueError) as exc:
        raise CertificateError(f"{path} is no certificate that callers can take: {_reason(exc)}") from None
    named = cast("tuple[tuple[str, str], ...]", seen.get("subjectAltName", ()))
    return CertificateInfo(
        names=tuple(name for _, name in named),
        sha256=hashlib.sha256(der).hexdigest(),
        not_before_s=ssl.cert_time_to_seconds(str(seen["notBefore"])),
        not_after_s=ssl.cert_time_to_seconds(str(seen["notAfter"])),
    )


def _handshake(trusting: ssl.SSLContext, context: ssl.SSLContext) -> dict[str, object]:
    """What the caller reads of the certificate. In TLS 1.3 it is through after the server's first words."""
    to_server, to_caller = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = trusting.wrap_bio(to_caller, to_server)
    server = context.wrap_bio(to_server, to_caller, server_side=True)
    for side in (caller, server):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    caller.do_handshake()
    return cast("dict[str, object]", caller.getpeercert() or {})


def _reason(exc: Exception) -> str:
    """OpenSSL's word for it, without the place in its source."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return sanitise(exc.verify_message)
    if isinstance(exc, ssl.SSLError) and exc.reason:
        return exc.reason.lower().replace("_", " ")
    return "it cannot be parsed"


def load_certificates(settings: Settings) -> Certificates | None:
    """The certificate to serve with, read and tried; None: plain text.

    Raises:
        SettingsError: a file is missing, cannot be read or used, or does not belong to another.
    """
    if settings.tls_cert_file is None:
        for flag, path in (
            ("--tls-key-file", settings.tls_key_file),
            ("--tls-client-ca-file", settings.tls_client_ca_file),
        ):
            if path is not None:
                raise SettingsError(f"{flag} says nothing without --tls-cert-file")
        return None
    if settings.tls_key_file is None:
        raise SettingsError("--tls-cert-file needs its private key: --tls-key-file FILE")
    files = CertificateFiles(
        certificate=Path(settings.tls_cert_file),
        key=Path(settings.tls_key_file),
        client_ca=None if settings.tls_client_ca_file is None else Path(settings.tls_client_ca_file),
    )
    try:
        return Certificates(files)
    except CertificateError as exc:
        raise SettingsError(f"TLS: {exc}") from None
