"""TLS for the gRPC listener: the certificate of now for every handshake.

gRPC asks for it before each handshake, in a thread of its own: a slow disk holds up the
handshakes, not the calls. What it is given and cannot use it throws away, and goes on with
what it had (grpcio 1.72 and 1.85 alike). It speaks TLS 1.2 and 1.3, and h2 alone.
"""

import grpc

from togetherchat_server.config.tls import Certificates, TlsMaterial


def server_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Credentials that follow the files. Where authorities of callers are named, a caller needs a
    certificate of one of them, and none of its calls comes in without.
    """
    served = certificates.current()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        current = certificates.current()
        if current is served:
            return None
        served = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(served),
        renewed,  # pyright: ignore[reportArgumentType]  None is "no change", which the stubs forget
        require_client_authentication=certificates.requires_client_certificates,
    )


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.chain)], root_certificates=material.client_ca
    )
