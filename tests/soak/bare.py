"""What grpcio itself keeps of calls that are cut off: `python -m soak.bare --count 200000`.

A server of a few lines, which answers nothing and waits, under the same callers. What its memory
grows by is the allowance of `slopes.GRPC_LEAK_KIB`, measured instead of believed.
"""

import argparse
import asyncio
import sys
from typing import Final

import grpc
from grpc import aio

from soak.figures import of_process
from soak.load import Load
from soak.mix import GROUPS
from soak.slopes import WARM_UP_SHARE, fit
from togetherchat.v1 import chat_service_pb2 as service

EVERY_S: Final = 5.0
REST_S: Final = 1.0


class Waiting(grpc.GenericRpcHandler):
    """Begins a stream, leaves a single answer open."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        if handler_call_details.method.endswith("/Complete"):
            return grpc.unary_unary_rpc_method_handler(self._wait)
        return grpc.unary_stream_rpc_method_handler(self._begin)

    async def _wait(self, _request: bytes, _context: aio.ServicerContext) -> bytes:
        await asyncio.sleep(3600)
        raise AssertionError

    async def _begin(self, _request: bytes, context: aio.ServicerContext) -> None:
        for _ in range(2):
            await context.write(service.StreamCompleteResponse().SerializeToString())
        await asyncio.sleep(3600)


async def serve() -> None:
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Waiting(),))
    sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
    sys.stdout.flush()
    await server.start()
    await server.wait_for_termination()


async def measure(count: int, kinds: list[str]) -> None:
    bare = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "soak.bare", "--serve", stdout=asyncio.subprocess.PIPE
    )
    assert bare.stdout is not None
    port = int(await bare.stdout.readline())
    load = Load(f"127.0.0.1:{port}", kinds, callers=64, seed=1, most=count)
    calls, resident_kib = [], []
    while not load.done:
        load.resume()
        await asyncio.sleep(EVERY_S)
        await load.pause()
        await asyncio.sleep(REST_S)
        calls.append(load.calls)
        resident_kib.append(of_process(bare.pid)["rss_kib"])
        sys.stdout.write(f"{calls[-1]:>9,} calls {resident_kib[-1]:>9,} KiB\n")
        sys.stdout.flush()
    await load.close()
    bare.terminate()
    await bare.wait()
    kept = int(len(calls) * WARM_UP_SHARE)
    slope, _ = fit(calls[kept:], resident_kib[kept:])
    sys.stdout.write(f"grpcio {grpc.__version__}: {slope * 1024:.0f} bytes a call\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="soak.bare", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200_000, help="how many calls (default 200,000)")
    parser.add_argument("--only", action="append", choices=GROUPS["cancels"], help="this kind alone")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    asyncio.run(serve() if words.serve else measure(words.count, words.only or list(GROUPS["cancels"])))


if __name__ == "__main__":
    main()
