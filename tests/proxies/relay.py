"""Clients with another address of the loopback."""

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import httpx
from grpc import aio

from togetherchat.v1 import chat_service_pb2_grpc as service_grpc


@asynccontextmanager
async def client_at(host, front):
    """Yield clients of a proxy whose connections come from `host`.

    gRPC's core cannot choose the address, so a relay passes the bytes on.
    """
    to_host, _, to_port = front.address.rpartition(":")
    tasks = set()

    async def accepted(reader, writer):
        tasks.add(asyncio.current_task())
        there_reader, there_writer = await asyncio.open_connection(
            to_host, int(to_port), local_addr=(host, 0)
        )
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(reader, there_writer))
                pumps.create_task(_pump(there_reader, writer))
        finally:
            there_writer.transport.abort()
            writer.transport.abort()
            tasks.discard(asyncio.current_task())

    async with await asyncio.start_server(accepted, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with (
            aio.secure_channel(f"127.0.0.1:{port}", front.credentials) as channel,
            httpx.AsyncClient(
                base_url=f"https://127.0.0.1:{port}", verify=front.tls, trust_env=False, timeout=30
            ) as http,
        ):
            yield replace(front, channel=channel, chat=service_grpc.ChatServiceStub(channel), http=http)
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader, writer):
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
