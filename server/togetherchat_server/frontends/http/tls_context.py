"""TLS of the HTTP listener: every handshake uses the current certificate."""

import ssl
from typing import Self, final

from togetherchat_server.config.tls import Certificates


@final
class CurrentContext(ssl.SSLContext):
    """Delegates each handshake to the current TLS context.

    asyncio calls `wrap_bio` of its context once for each connection.
    """

    def __new__(cls, certificates: Certificates) -> Self:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        context.certificates = certificates
        return context

    certificates: Certificates

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002  the signature of `SSLContext`
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        context = self.certificates.current().context
        return context.wrap_bio(incoming, outgoing, server_side, server_hostname, session)
