"""Measures what grpcio itself leaks per cancelled call: `python -m soak.bare --count 200000`.

The same callers run against a server of a few lines that never completes a call. The growth of its
memory justifies the allowance `slopes.GRPC_LEAK_KIB`.
"""

import argparse
import asyncio
import sys
from typing import Final

import grpc
from grpc import aio

from soak.load import Load
from soak.sample import process_values
from soak.scenarios import GROUPS
from soak.slopes import WARM_UP_FRACTION, fit
from togetherchat.v1 import chat_service_pb2 as service

LOAD_S: Final = 5.0
PAUSE_S: Final = 1.0


class NeverEnding(grpc.GenericRpcHandler):
    """Starts streams and unary calls, and completes none."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        if handler_call_details.method.endswith("/Complete"):
            return grpc.unary_unary_rpc_method_handler(self._complete)
        return grpc.unary_stream_rpc_method_handler(self._stream)

    async def _complete(self, _request: bytes, _context: aio.ServicerContext) -> bytes:
        await asyncio.sleep(3600)
        raise AssertionError

    async def _stream(self, _request: bytes, context: aio.ServicerContext) -> None:
        for _ in range(2):
            await context.write(service.StreamCompleteResponse().SerializeToString())
        await asyncio.sleep(3600)


async def serve() -> None:
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((NeverEnding(),))
    sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
    sys.stdout.flush()
    await server.start()
    await server.wait_for_termination()


async def measure(count: int, scenarios: list[str]) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "soak.bare", "--serve", stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    port = int(await server.stdout.readline())
    load = Load(f"127.0.0.1:{port}", scenarios, callers=64, seed=1, max_calls=count)
    calls, resident_kib = [], []
    while not load.done:
        load.resume()
        await asyncio.sleep(LOAD_S)
        await load.pause()
        await asyncio.sleep(PAUSE_S)
        calls.append(load.calls)
        resident_kib.append(process_values(server.pid)["rss_kib"])
        sys.stdout.write(f"{calls[-1]:>9,} calls {resident_kib[-1]:>9,} KiB\n")
        sys.stdout.flush()
    await load.close()
    server.terminate()
    await server.wait()
    kept = int(len(calls) * WARM_UP_FRACTION)
    slope, _ = fit(calls[kept:], resident_kib[kept:])
    sys.stdout.write(f"grpcio {grpc.__version__}: {slope * 1024:.0f} bytes per call\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="soak.bare", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200_000, help="number of calls (default 200,000)")
    parser.add_argument("--only", action="append", choices=GROUPS["cancels"], help="only this scenario")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    asyncio.run(serve() if flags.serve else measure(flags.count, flags.only or list(GROUPS["cancels"])))


if __name__ == "__main__":
    main()
