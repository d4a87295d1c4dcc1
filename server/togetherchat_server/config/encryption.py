"""TLS as it is set: which files, or none."""

from pathlib import Path
from typing import Final

from togetherchat_server.certificates import CertificateError, CertificateFiles, Certificates
from togetherchat_server.config.settings import Settings, SettingsError

OFF: Final = "off"


def certificates_of(settings: Settings) -> Certificates | None:
    """The certificate to serve with, read and tried; None: plain text.

    Raises:
        SettingsError: a file is missing, cannot be read or used, or does not belong to another.
    """
    if settings.tls_cert == OFF:
        for flag, path in (("--tls-key", settings.tls_key), ("--tls-client-ca", settings.tls_client_ca)):
            if path != OFF:
                raise SettingsError(f"{flag} says nothing without --tls-cert")
        return None
    if settings.tls_key == OFF:
        raise SettingsError("--tls-cert needs its private key: --tls-key FILE")
    files = CertificateFiles(
        certificate=Path(settings.tls_cert),
        key=Path(settings.tls_key),
        client_ca=None if settings.tls_client_ca == OFF else Path(settings.tls_client_ca),
    )
    try:
        return Certificates(files)
    except CertificateError as exc:
        raise SettingsError(f"TLS: {exc}") from None
