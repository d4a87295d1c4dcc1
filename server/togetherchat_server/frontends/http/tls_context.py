"""TLS for the HTTP door: the certificate of now for every handshake."""

import ssl
from typing import Self, final

from togetherchat_server.config.tls import Certificates


@final
class CurrentContext(ssl.SSLContext):
    """A context that stands for the one of now. asyncio asks its context once for each connection,
    by `wrap_bio`, and that question is handed on.
    """

    def __new__(cls, certificates: Certificates) -> Self:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made.certificates = certificates
        return made

    certificates: Certificates

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002  the shape of what it stands for
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        context = self.certificates.current().context
        return context.wrap_bio(incoming, outgoing, server_side, server_hostname, session)
