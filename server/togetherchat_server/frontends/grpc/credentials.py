"""TLS credentials of the gRPC listener: every handshake uses the current certificate.

gRPC calls the fetcher before each handshake, in a thread of its own: a slow disk delays handshakes,
not calls. gRPC ignores a certificate that it cannot use and keeps the previous one (grpcio 1.72 and
1.85). It supports TLS 1.2 and 1.3, and only h2.
"""

import grpc

from togetherchat_server.config.tls import Certificates, TlsMaterial


def server_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Return credentials that follow the files.

    If client authorities are configured, every client must present a certificate of one of them.
    """
    in_use = certificates.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal in_use
        current = certificates.current()
        if current is in_use:
            return None
        in_use = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(in_use),
        fetch,  # pyright: ignore[reportArgumentType]  None means "no change"; the stubs omit it
        require_client_authentication=certificates.requires_client_certificates,
    )


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.chain)], root_certificates=material.client_ca
    )
