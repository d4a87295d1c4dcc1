"""Load for rollout tests: callers with this project's client and its service config, until they are stopped.

Owns the calls and decides which of them are complete. Knows nothing about pods.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from support.waiting import eventually
from togetherchat_client import TogetherChatError, connect_async, text_of

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
UNARY, STREAMING = 6, 6
# At the simulator's rate longer than the drain delay: streams in flight at the signal need the drain.
LONG = " ".join(str(number) for number in range(500))
CALLS_BETWEEN = 40
TIMEOUT_S = 120.0


@dataclass(slots=True)
class LoadResult:
    """Counts of complete calls, errors of the others, and the exit statuses of the pods."""

    completed: int = 0
    streamed: int = 0
    lost: list[str] = field(default_factory=list)
    exit_statuses: list[int] = field(default_factory=list)

    @property
    def calls(self) -> int:
        return self.completed + self.streamed + len(self.lost)

    def check(self, text: str, expected: str) -> bool:
        """Return whether the text is complete; record an incomplete one as lost."""
        if text != expected:
            self.lost.append(f"incomplete text: {text[:80]!r}")
        return text == expected


async def call_until(
    stop: asyncio.Event,
    target: str,
    result: LoadResult,
    *,
    channel_options: Sequence[tuple[str, str | int]] = (),
) -> None:
    """Run twelve callers over one channel, half of them with streams, until `stop` is set."""
    async with (
        connect_async(target, tls=False, timeout_s=TIMEOUT_S, channel_options=channel_options) as client,
        asyncio.TaskGroup() as group,
    ):
        for number in range(UNARY + STREAMING):
            group.create_task(_call(stop, client, result, streaming=number < STREAMING))


async def more_calls(result: LoadResult) -> None:
    """Wait until `CALLS_BETWEEN` more calls have ended."""
    wanted = result.calls + CALLS_BETWEEN
    await eventually(lambda: result.calls >= wanted, within_s=TIMEOUT_S)


async def _call(stop: asyncio.Event, client, result: LoadResult, *, streaming: bool) -> None:
    while not stop.is_set():
        try:
            if streaming:
                async with client.stream(MODEL, f"echo: {LONG}", max_tokens=4000) as stream:
                    text = "".join([part async for part in stream.text()])
                result.streamed += result.check(text, LONG)
            else:
                text = text_of(await client.complete(MODEL, "echo: yes", max_tokens=100))
                result.completed += result.check(text, "yes")
        except TogetherChatError as exc:
            result.lost.append(f"{exc.code} {exc.reason} {exc}")
