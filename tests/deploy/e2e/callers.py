"""A load generator for a cluster: calls by gRPC and HTTP until standard input ends.

The first line of input is the plan, as JSON: gRPC targets by name, and a base URL for HTTP. Each further line
requests more calls on every path. When these have finished, the program prints the results so far, as JSON.
Needs an environment with this project's client.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict

import httpx
from load import MODEL, TIMEOUT_S, LoadResult, call_until, more_calls

HTTP_CALLERS = 4
REQUEST = {"model": MODEL, "messages": [{"role": "user", "content": "echo: yes"}], "max_tokens": 100}


async def _main() -> None:
    lines = await _standard_input()
    plan = json.loads(await lines.readline())
    results = {name: LoadResult() for name in (*plan["grpc"], *(["http"] if plan["http"] else []))}
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for name, target in plan["grpc"].items():
            group.create_task(call_until(stop, target, results[name]))
        for _ in range(HTTP_CALLERS if plan["http"] else 0):
            group.create_task(_http_calls_until(stop, plan["http"], results["http"]))
        while await lines.readline():
            async with asyncio.TaskGroup() as more:
                for result in results.values():
                    more.create_task(more_calls(result))
            _print_results(results)
        stop.set()
    _print_results(results)


async def _http_calls_until(stop: asyncio.Event, base_url: str, result: LoadResult) -> None:
    """One HTTP caller: a new connection for each call, and no retries."""
    async with httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0), timeout=None) as client:
        while not stop.is_set():
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    response = await client.post(f"{base_url}/v1/chat/completions", json=REQUEST)
                text = (
                    response.json()["choices"][0]["message"]["content"]
                    if response.is_success
                    else response.text
                )
                result.completed += result.check(text, "yes")
            except (httpx.HTTPError, TimeoutError) as exc:
                result.lost.append(f"{type(exc).__name__} {exc}")


def _print_results(results: Mapping[str, LoadResult]) -> None:
    sys.stdout.write(json.dumps({name: asdict(result) for name, result in results.items()}) + "\n")
    sys.stdout.flush()


async def _standard_input() -> asyncio.StreamReader:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    return lines


if __name__ == "__main__":
    asyncio.run(_main())
