import io
import threading
import time

from togetherchat_server.telemetry.log_writer import LogWriter


class Blocked(io.StringIO):
    """A stream whose reader sleeps until the test lets go."""

    def __init__(self):
        super().__init__()
        self.writing = threading.Event()
        self.go = threading.Event()

    def write(self, text):
        self.writing.set()
        self.go.wait(10)
        return super().write(text)


class Broken(io.StringIO):
    """A stream whose reader has gone, for a while."""

    broken = True

    def write(self, text):
        if self.broken:
            raise BrokenPipeError
        return super().write(text)


def test_lines_are_written_in_order_and_closing_writes_the_rest():
    """What was handed in before the end is in the stream after it."""
    stream = io.StringIO()
    writer = LogWriter(stream)

    for number in range(100):
        writer.write(f"{number}")
    writer.close()

    assert [f"{number}" for number in range(100)] == stream.getvalue().splitlines()


def test_a_reader_that_sleeps_makes_nobody_wait():
    """The queue is bounded: what does not fit is dropped and counted, and no write blocks."""
    stream = Blocked()
    writer = LogWriter(stream, lines_max=2)
    writer.write("being written")
    assert stream.writing.wait(10)

    for number in range(10):
        writer.write(f"{number}")

    assert 8 == writer.dropped
    stream.go.set()
    writer.close()
    assert ["being written", "0", "1"] == stream.getvalue().splitlines()


def test_closing_a_log_that_nobody_reads_ends(monkeypatch):
    """The end of the process waits a bounded time for the log, whether the queue is full or not."""
    monkeypatch.setattr("togetherchat_server.telemetry.log_writer.CLOSE_S", 0.05)
    for lines in (1, 5):
        stream = Blocked()
        writer = LogWriter(stream, lines_max=2)
        for _ in range(lines):
            writer.write("line")
        begun_s = time.monotonic()
        writer.close()
        assert 2 > time.monotonic() - begun_s
        stream.go.set()


def test_a_broken_stream_drops_lines_and_recovers():
    """A reader that has gone costs its lines, not the thread that writes them."""
    stream = Broken()
    writer = LogWriter(stream)
    writer.write("lost")
    while not writer.dropped:
        time.sleep(0.001)
    stream.broken = False
    writer.write("kept")
    writer.close()

    assert (1, "kept\n") == (writer.dropped, stream.getvalue())
