"""Callers with the client of this project and its service config, who call until they are told to stop.

Owns who calls and what counts as answered. Knows nothing of pods.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from support.waiting import eventually
from togetherchat_client import TogetherChatError, connect_async, text_of

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
ASKING, STREAMING = 6, 6
# At the simulator's pace longer than the propagation: streams that run at the signal need the drain.
LONG = " ".join(str(number) for number in range(500))
CALLS_BETWEEN = 40
PATIENCE_S = 120.0


@dataclass(slots=True)
class Seen:
    """What callers saw, and how the pods ended."""

    answered: int = 0
    streamed: int = 0
    lost: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    @property
    def calls(self) -> int:
        return self.answered + self.streamed + len(self.lost)

    def note(self, got: str, wanted: str) -> bool:
        """Whether an answer came in full; one that did not is lost."""
        if got != wanted:
            self.lost.append(f"came as {got[:80]!r}")
        return got == wanted


async def call_until(
    enough: asyncio.Event, target: str, seen: Seen, *, channel_options: Sequence[tuple[str, str | int]] = ()
) -> None:
    """Twelve callers over one channel, half of them with streams."""
    async with (
        connect_async(target, tls=False, timeout_s=PATIENCE_S, channel_options=channel_options) as client,
        asyncio.TaskGroup() as group,
    ):
        for number in range(ASKING + STREAMING):
            group.create_task(_call(enough, client, seen, streaming=number < STREAMING))


async def more_calls(seen: Seen) -> None:
    """Until so many more were made."""
    wanted = seen.calls + CALLS_BETWEEN
    await eventually(lambda: seen.calls >= wanted, within_s=PATIENCE_S)


async def _call(enough: asyncio.Event, client, seen: Seen, *, streaming: bool) -> None:
    while not enough.is_set():
        try:
            if streaming:
                async with client.stream(MODEL, f"echo: {LONG}", max_tokens=4000) as stream:
                    got = "".join([text async for text in stream.text()])
                seen.streamed += seen.note(got, LONG)
            else:
                got = text_of(await client.complete(MODEL, "echo: yes", max_tokens=100))
                seen.answered += seen.note(got, "yes")
        except TogetherChatError as exc:
            seen.lost.append(f"{exc.code} {exc.reason} {exc}")
