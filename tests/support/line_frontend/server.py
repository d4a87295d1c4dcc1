"""Serves the protocol on a TCP port: each connection is one call."""

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter

from togetherchat_server.calls.sessions import Sessions

from .request import read_head, read_request
from .response import error_line, lines_of


class LineServer:
    """The listener of the protocol."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @contextlib.asynccontextmanager
    async def listening(self):
        """Serve on a free port, and yield it."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        head = read_head(await reader.readline())
        session = self._sessions.open(head.incoming)
        address = writer.get_extra_info("peername")[0]

        async def work() -> None:
            session.set_peer(address)
            session.admit()
            if session.peer_check_needed:
                await session.check_peer()
            request = read_request(await reader.readline())
            with _cancelled_by_disconnect(reader):
                async with session.deadline(head.seconds_left), session.stream(request) as batches:
                    async for events in batches:
                        for event in events:
                            session.sending(event)
                            writer.writelines(lines_of(event))
                        await writer.drain()

        try:
            error = await session.run(work)
            if error is not None:
                writer.write(error_line(error, session.call))
                await writer.drain()
        finally:
            writer.close()


@contextlib.contextmanager
def _cancelled_by_disconnect(reader: StreamReader):
    """Cancel the current task when the peer closes the connection."""
    task = asyncio.current_task()
    watch = asyncio.create_task(reader.read())
    watch.add_done_callback(lambda watch: watch.cancelled() or task.cancel())
    try:
        yield
    finally:
        watch.cancel()
