"""Callers of a cluster, as a program: they call by gRPC and HTTP until standard input ends.

The plan is the first line, as JSON: targets of gRPC by a name, and an address for HTTP. Each line
after it asks for more calls of every kind, and is answered when they were made, by what was seen
so far. Runs where the client of this project is installed.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict

import httpx
from load import MODEL, PATIENCE_S, Seen, call_until, more_calls

HTTP_CALLERS = 4


async def _main() -> None:
    lines = await _standard_input()
    plan = json.loads(await lines.readline())
    seen = {name: Seen() for name in (*plan["grpc"], *(["http"] if plan["http"] else []))}
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for name, target in plan["grpc"].items():
            group.create_task(call_until(enough, target, seen[name]))
        for _ in range(HTTP_CALLERS if plan["http"] else 0):
            group.create_task(_ask_until(enough, plan["http"], seen["http"]))
        while await lines.readline():
            async with asyncio.TaskGroup() as more:
                for it in seen.values():
                    more.create_task(more_calls(it))
            _tell(seen)
        enough.set()
    _tell(seen)


async def _ask_until(enough: asyncio.Event, address: str, seen: Seen) -> None:
    """One caller by HTTP, with a connection for each call and no second try."""
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "echo: yes"}], "max_tokens": 100}
    async with httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0), timeout=None) as client:
        while not enough.is_set():
            try:
                async with asyncio.timeout(PATIENCE_S):
                    answer = await client.post(f"{address}/v1/chat/completions", json=asked)
                got = answer.json()["choices"][0]["message"]["content"] if answer.is_success else answer.text
                seen.answered += seen.note(got, "yes")
            except (httpx.HTTPError, TimeoutError) as exc:
                seen.lost.append(f"{type(exc).__name__} {exc}")


def _tell(seen: Mapping[str, Seen]) -> None:
    sys.stdout.write(json.dumps({name: asdict(it) for name, it in seen.items()}) + "\n")
    sys.stdout.flush()


async def _standard_input() -> asyncio.StreamReader:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    return lines


if __name__ == "__main__":
    asyncio.run(_main())
