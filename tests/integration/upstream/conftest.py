"""What the tests of the transport share: a key, a way to open a transport, a certificate."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from support.certificates import OPENSSL, Certificate, make_certificate
from support.scripted_upstream import Script, ScriptedUpstream
from togetherchat_server.domain.secret import Secret
from togetherchat_server.upstream.client import UpstreamClient, UpstreamLimits

Between = tuple[ScriptedUpstream, UpstreamClient]
Serve = Callable[..., AbstractAsyncContextManager[Between]]


@pytest.fixture
def key() -> Secret:
    return Secret("key-of-a-test-0123456789")


@pytest.fixture
def serve() -> Serve:
    """Serve a script, and open a transport to it: `async with serve(script) as (upstream, transport)`.

    `base_url` leads the transport elsewhere.
    """

    @asynccontextmanager
    async def served(
        script: Script,
        *,
        limits: UpstreamLimits | None = None,
        trust: Certificate | None = None,
        base_url: str = "",
        **upstream_options: Any,
    ) -> AsyncIterator[Between]:
        async with ScriptedUpstream(script, **upstream_options) as upstream:
            transport = UpstreamClient.connect(
                base_url=base_url or upstream.base_url,
                limits=limits or UpstreamLimits(),
                user_agent="transport-tests/1",
                ca_file=str(trust.certificate_file) if trust else None,
            )
            try:
                yield upstream, transport
            finally:
                await transport.aclose()

    return served


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """For `localhost` and 127.0.0.1."""
    if OPENSSL is None:
        pytest.skip("needs the openssl command")
    return make_certificate(tmp_path_factory.mktemp("certificate"))
