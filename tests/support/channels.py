"""Waits for changes of a gRPC channel's connection."""

import asyncio

from grpc import ChannelConnectivity, aio

REASONABLE_S = 60.0


async def goaway_received(channel: aio.Channel) -> None:
    """Wait until a connected channel has left its connection, as it does when the server's GOAWAY arrives.

    gRPC's core cancels a call that crosses the GOAWAY, or leaves it without a response until the server ends.
    """
    async with asyncio.timeout(REASONABLE_S):
        while (state := channel.get_state()) is ChannelConnectivity.READY:
            await channel.wait_for_state_change(state)
