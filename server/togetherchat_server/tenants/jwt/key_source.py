"""Where an issuer's keys come from: a file, or a URL whose document is cached.

A token that names an unknown key makes the source look again, because an issuer may have a new one. Anybody
can send such tokens, so a URL is requested once in `REFRESH_GAP_S` at most, by one request at a time. A
bounded number of calls wait for that.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol, final

from togetherchat_server.config.reloading_file import ReloadingFile
from togetherchat_server.domain.audit import AuditEvent, emit
from togetherchat_server.tenants.jwt.key_set import KeySet, read_key_set

FRESH_S: Final = 300.0
"""After this time the keys are requested again, in the background of a call."""
REFRESH_GAP_S: Final = 2.0
RETRY_GAP_S: Final = 10.0
WAITING_MAX: Final = 256
SETTING: Final = "--jwt-jwks-url"

_log = logging.getLogger(__name__)


class KeysUnavailableError(Exception):
    """The issuer's keys cannot be fetched now."""


class KeySource(Protocol):
    """The keys of one issuer."""

    def current(self) -> KeySet | None:
        """Return the last good keys; None if there never were any."""
        ...

    async def refresh(self) -> None:
        """Look for new keys. Raises KeysUnavailableError."""
        ...

    async def aclose(self) -> None: ...


@final
class KeyFile:
    """The keys in a file that the operator replaces. The first read raises OSError or ValueError."""

    def __init__(self, path: Path, *, clock: Callable[[], float]) -> None:
        self._file = ReloadingFile(
            path,
            lambda path: read_key_set(path.read_bytes()),
            clock=clock,
            reloaded=AuditEvent.JWKS_REFRESHED,
            unreadable=AuditEvent.JWKS_UNAVAILABLE,
        )

    def stale(self) -> bool:
        """Return whether the file is missing or invalid, so that earlier keys are in use."""
        return self._file.stale()

    def current(self) -> KeySet:
        return self._file.current()

    async def refresh(self) -> None:
        self._file.check()

    async def aclose(self) -> None:
        """Nothing is open."""


@final
class KeyUrl:
    """The keys at a URL. `fetch` returns the document, or raises OSError or ValueError."""

    def __init__(self, fetch: Callable[[], Awaitable[bytes]], *, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: KeySet | None = None
        self._failed = False
        self._started_s = float("-inf")
        self._finished: tuple[float, bool] = (float("-inf"), False)
        """When the last request that is done was started, and whether it brought keys."""
        self._task: asyncio.Task[None] | None = None
        self._waiting = 0

    @property
    def available(self) -> bool:
        """Whether the last request brought keys. True before the first: it is made for the first token."""
        return not self._failed

    def current(self) -> KeySet | None:
        gap_s = RETRY_GAP_S if self._failed else FRESH_S
        if self._task is None and self._clock() - self._started_s >= gap_s:
            self._start(delay_s=0.0)
        return self._keys

    async def refresh(self) -> None:
        asked_s = self._clock()
        if self._waiting >= WAITING_MAX:
            raise KeysUnavailableError
        self._waiting += 1
        try:
            # A request that was under way may have been answered before the issuer had its new key.
            while self._finished[0] < asked_s:
                task = self._task or self._start(delay_s=self._started_s + REFRESH_GAP_S - self._clock())
                await asyncio.wait({task})
        finally:
            self._waiting -= 1
        if not self._finished[1]:
            raise KeysUnavailableError

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _start(self, *, delay_s: float) -> "asyncio.Task[None]":
        self._task = asyncio.create_task(self._load(delay_s))
        return self._task

    async def _load(self, delay_s: float) -> None:
        try:
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            self._started_s = self._clock()
            problem = await self._load_keys()
            if problem and not self._failed:
                _log.warning("%s: %s; the last good keys stay in use", SETTING, problem)
                emit(AuditEvent.JWKS_UNAVAILABLE, source=SETTING, problem=problem)
            elif self._failed and not problem:
                _log.info("%s: the keys are available again", SETTING)
            self._failed = bool(problem)
            self._finished = (self._started_s, not problem)
        finally:
            self._task = None

    def _replace(self, keys: KeySet) -> None:
        """Use other keys. Equal ones stay, so that checked tokens stay checked."""
        if self._keys is None or keys.fingerprint != self._keys.fingerprint:
            self._keys = keys
            emit(AuditEvent.JWKS_REFRESHED, source=SETTING, keys=len(keys))

    async def _load_keys(self) -> str:
        """Fetch the keys. Return what failed; empty if nothing did."""
        try:
            self._replace(read_key_set(await self._fetch()))
        except (OSError, ValueError) as exc:
            return f"{type(exc).__name__}: {exc}"
        except Exception:  # noqa: BLE001  a defect must not leave calls waiting
            _log.exception("%s: fetching the keys failed unexpectedly", SETTING)
            return "unexpected failure"
        return ""
