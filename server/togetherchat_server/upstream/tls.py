"""Which authorities are trusted for the provider and for the egress proxy.

Those in the file or folder of SSL_CERT_FILE or SSL_CERT_DIR, else certifi's; and beside them those of
`--upstream-ca-file`, which is reloaded when it is replaced.
"""

import ssl
from pathlib import Path

import httpx

from togetherchat_server.config import ProviderConfig
from togetherchat_server.config.reloading_file import ReloadingFile
from togetherchat_server.upstream import tls_sessions
from togetherchat_server.upstream.dialers import TlsContexts


def tls_contexts(config: ProviderConfig) -> TlsContexts:
    """Return the function that returns the context for a connection that opens now.

    Raises:
        OSError: the file of authorities cannot be read.
    """
    if config.ca_file is not None:
        return ReloadingFile(config.ca_file, _with_authorities).current
    through_tls = config.proxy is not None and config.proxy.scheme == "https"
    if config.base_url.startswith("https:") or through_tls:
        context = httpx.create_ssl_context()
    else:
        # No connection uses TLS, since redirects are not followed. Reading the authorities takes 20 ms.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = _prepared(context)
    return lambda: context


def _with_authorities(path: Path) -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    context.load_verify_locations(path)
    # From Python 3.13 on this is set. Many companies' authorities lack what it demands.
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    return _prepared(context)


def _prepared(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_alpn_protocols(["http/1.1"])
    tls_sessions.resume(context)
    return context
