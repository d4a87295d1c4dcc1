"""Fetches a JWKS document over HTTPS: one small request, bounded in time and size."""

import asyncio
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import httpx

from togetherchat_server.config.proxy import Proxy
from togetherchat_server.domain.reasons import sanitise
from togetherchat_server.tenants.jwt.key_set import DOCUMENT_BYTES_MAX

TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JwksRequest:
    """The URL of an issuer's JWKS, and what a private one needs.

    The files are read for each request: Kubernetes replaces both while a pod runs.
    """

    url: str
    ca_file: Path | None = None
    """Authorities of the URL's certificate; None: those of the system."""
    token_file: Path | None = None
    """Bearer token for the URL."""
    proxy: Proxy | None = None
    """The egress proxy to the URL, which is not a SOCKS proxy."""

    async def fetch(self) -> bytes:
        """Return the document.

        Raises:
            OSError: it cannot be fetched.
            ValueError: the response is not a document of acceptable size.
        """
        headers = {"accept": "application/jwk-set+json, application/json"}
        if self.token_file is not None:
            headers["authorization"] = f"Bearer {self.token_file.read_text(encoding='ascii').strip()}"
        try:
            async with asyncio.timeout(TIMEOUT_S):
                # Reading the authorities of the system takes some 20 ms.
                context = await asyncio.to_thread(self._tls_context)
                async with (
                    # The variables of proxies are read by `config.proxy`: httpx ignores CIDR in NO_PROXY.
                    httpx.AsyncClient(
                        verify=context, timeout=TIMEOUT_S, trust_env=False, proxy=self._httpx_proxy(context)
                    ) as client,
                    client.stream("GET", self.url, headers=headers) as response,
                ):
                    return await _body(response)
        except httpx.HTTPError as exc:
            raise OSError(sanitise(f"{type(exc).__name__}: {exc}")) from None
        except TimeoutError:
            raise OSError(f"no response within {TIMEOUT_S:.0f} s") from None

    def _httpx_proxy(self, context: ssl.SSLContext) -> httpx.Proxy | None:
        proxy = self.proxy
        if proxy is None:
            return None
        return httpx.Proxy(
            str(proxy),
            auth=(proxy.user, proxy.password) if proxy.has_credentials else None,
            ssl_context=context if proxy.scheme == "https" else None,
        )

    def _tls_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.ca_file is not None:
            # From Python 3.13 on this is set. Many clusters' authorities lack what it demands.
            context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
        return context


async def _body(response: httpx.Response) -> bytes:
    if response.status_code != HTTPStatus.OK:
        raise OSError(f"the response has status {response.status_code}")
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > DOCUMENT_BYTES_MAX:
            raise ValueError(f"the document is larger than {DOCUMENT_BYTES_MAX} bytes")
    return bytes(body)
