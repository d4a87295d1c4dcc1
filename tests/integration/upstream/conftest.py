"""Fixtures of the upstream client's tests: a key, a client against a script, a certificate."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from support.certificates import OPENSSL, Certificate, make_certificate
from support.scripted_upstream import Script, ScriptedUpstream
from togetherchat_server.config import ProviderConfig
from togetherchat_server.domain.secret import Secret
from togetherchat_server.upstream.client import UpstreamClient, UpstreamLimits

Pair = tuple[ScriptedUpstream, UpstreamClient]
Serve = Callable[..., AbstractAsyncContextManager[Pair]]


@pytest.fixture
def key() -> Secret:
    return Secret("key-of-a-test-0123456789")


@pytest.fixture
def serve() -> Serve:
    """Serve a script, and open a client to it: `async with serve(script) as (upstream, client)`.

    `base_url` directs the client elsewhere.
    """

    @asynccontextmanager
    async def served(
        script: Script,
        *,
        limits: UpstreamLimits | None = None,
        trust: Certificate | None = None,
        base_url: str = "",
        **upstream_options: Any,
    ) -> AsyncIterator[Pair]:
        async with ScriptedUpstream(script, **upstream_options) as upstream:
            with pytest.MonkeyPatch.context() as patch:
                if trust is not None:
                    patch.setenv("SSL_CERT_FILE", str(trust.certificate_file))
                client = UpstreamClient.connect(
                    ProviderConfig(base_url=base_url or upstream.base_url, key=None),
                    limits=limits or UpstreamLimits(),
                    user_agent="upstream-tests/1",
                )
            try:
                yield upstream, client
            finally:
                await client.aclose()

    return served


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for `localhost` and 127.0.0.1."""
    if OPENSSL is None:
        pytest.skip("needs the openssl command")
    return make_certificate(tmp_path_factory.mktemp("certificate"))
