"""Finds the tenant of a client certificate, by its SPIFFE id or its subject.

The listener has checked the certificate before. Imported on use: cryptography is an optional dependency.
"""

from typing import Final, final

from cryptography import x509

from togetherchat_server.domain.bounded import remember
from togetherchat_server.domain.identity import SUBJECT_SCOPES, Identity
from togetherchat_server.domain.reasons import Reason, ServiceError, sanitise
from togetherchat_server.tenants.authentication import Authentication
from togetherchat_server.tenants.identity_map import AmbiguousIdentityError
from togetherchat_server.tenants.tenants_file import TenantsFile

REMEMBERED_MAX: Final = 4096
PEM: Final = b"-----BEGIN"
SPIFFE: Final = "spiffe://"
SUBJECT_CHARACTERS_MAX: Final = 256
AMBIGUOUS: Final = "several tenants of this service list the client certificate"


@final
class ClientCertificates:
    """Authenticates the holders of client certificates by the lists of the tenants file."""

    def __init__(self, tenants: TenantsFile) -> None:
        self._tenants = tenants
        self._names: dict[bytes, tuple[str, ...]] = {}

    def authenticate(self, certificate: bytes) -> Authentication | None:
        """Return who holds a certificate, in PEM or DER; None if no tenant lists it."""
        names = self._names_of(certificate)
        if not names:
            return None
        subject = sanitise(names[0], characters_max=SUBJECT_CHARACTERS_MAX)
        try:
            tenant = self._tenants.current().certificates.tenant_of(names)
        except AmbiguousIdentityError:
            rejection = ServiceError(Reason.INVALID_CREDENTIALS, AMBIGUOUS)
            return Authentication(identity=Identity(tenant="", subject=subject), rejection=rejection)
        if tenant is None:
            return None
        return Authentication(identity=Identity(tenant=tenant, subject=subject, scopes=SUBJECT_SCOPES))

    def _names_of(self, certificate: bytes) -> tuple[str, ...]:
        names = self._names.get(certificate)
        if names is None:
            names = names_of(certificate)
            remember(self._names, certificate, names, at_most=REMEMBERED_MAX)
        return names


def names_of(certificate: bytes) -> tuple[str, ...]:
    """Return the names of a certificate: its SPIFFE ids, then its subject as RFC 4514 writes it."""
    load = x509.load_pem_x509_certificate if certificate.startswith(PEM) else x509.load_der_x509_certificate
    try:
        parsed = load(certificate)
        subject, extensions = parsed.subject.rfc4514_string(), parsed.extensions
    except ValueError:
        return ()
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    return (*(uri for uri in uris if uri.startswith(SPIFFE)), *((subject,) if subject else ()))
