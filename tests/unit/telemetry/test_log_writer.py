import errno
import io
import logging
import threading
import time

from togetherchat_server.telemetry.log_writer import WRITE_CHARACTERS_MAX, LogEntry, LogWriter


def entry(message):
    return LogEntry(level=logging.INFO, message=message)


def line_of(entry):
    return entry.message


class Blocked(io.StringIO):
    """A stream whose writes block until the test releases them."""

    def __init__(self):
        super().__init__()
        self.writing = threading.Event()
        self.released = threading.Event()

    def write(self, text):
        self.writing.set()
        self.released.wait(10)
        return super().write(text)


class Broken(io.StringIO):
    """A stream whose reader has closed the pipe, for a while."""

    broken = True

    def write(self, text):
        if self.broken:
            raise BrokenPipeError
        return super().write(text)


def test_lines_are_written_in_order_and_closing_writes_the_rest():
    """Nothing that was queued before `close` is lost."""
    stream = io.StringIO()
    writer = LogWriter(stream, line_of)

    for number in range(100):
        writer.write(entry(f"{number}"))
    writer.close()

    assert [f"{number}" for number in range(100)] == stream.getvalue().splitlines()


def test_a_slow_reader_blocks_no_write():
    """The queue is bounded: lines that do not fit are dropped and counted."""
    stream = Blocked()
    writer = LogWriter(stream, line_of, lines_max=2)
    writer.write(entry("being written"))
    assert stream.writing.wait(10)

    for number in range(10):
        writer.write(entry(f"{number}"))

    assert 8 == writer.dropped
    stream.released.set()
    writer.close()
    assert ["being written", "0", "1"] == stream.getvalue().splitlines()


def test_closing_a_log_that_is_not_read_takes_a_bounded_time(monkeypatch):
    """Whether its queue is full or not."""
    monkeypatch.setattr("togetherchat_server.telemetry.log_writer.CLOSE_S", 0.05)
    for lines in (1, 5):
        stream = Blocked()
        writer = LogWriter(stream, line_of, lines_max=2)
        for _ in range(lines):
            writer.write(entry("line"))
        started_s = time.monotonic()
        writer.close()
        assert 2 > time.monotonic() - started_s
        stream.released.set()


def test_a_broken_stream_drops_lines_and_recovers():
    """The writing thread survives a broken pipe."""
    stream = Broken()
    writer = LogWriter(stream, line_of)
    writer.write(entry("lost"))
    while not writer.dropped:
        time.sleep(0.001)
    stream.broken = False
    writer.write(entry("kept"))
    writer.close()

    assert (1, "kept\n") == (writer.dropped, stream.getvalue())


def test_entries_are_formatted_by_the_thread_that_writes():
    """The event loop only queues them."""
    threads = set()

    def line_of(entry):
        threads.add(threading.current_thread().name)
        return entry.message

    stream = io.StringIO()
    writer = LogWriter(stream, line_of)
    writer.write(entry("hello"))
    writer.close()

    assert ({"log"}, "hello\n") == (threads, stream.getvalue())


class Recorded(io.RawIOBase):
    """A file that keeps each write, the first one blocked until the test releases it."""

    def __init__(self):
        self.writes = []
        self.writing = threading.Event()
        self.released = threading.Event()

    def writable(self):
        return True

    def write(self, data):
        self.writing.set()
        self.released.wait(10)
        self.writes.append(bytes(data))
        return len(data)


def test_each_write_has_whole_lines():
    """Processes that share a pipe would else write into the middle of each other's lines."""
    file = Recorded()
    writer = LogWriter(io.TextIOWrapper(io.BufferedWriter(file)), line_of)
    writer.write(entry("first"))
    assert file.writing.wait(10)
    for number in range(100):
        writer.write(entry(f"{number}" * 300))
    file.released.set()
    writer.close()

    assert 10 < len(file.writes) < 60
    assert all(write.endswith(b"\n") and len(write) <= WRITE_CHARACTERS_MAX for write in file.writes)
    assert 101 == b"".join(file.writes).count(b"\n")


class Full(Blocked):
    """A stream on a disk without space: what was written fails when it is flushed."""

    def flush(self):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_each_line_that_a_full_disk_loses_is_counted():
    """Also the long line that made the writer flush the one before it."""
    stream = Full()
    writer = LogWriter(stream, line_of)
    writer.write(entry("first"))
    assert stream.writing.wait(10)
    writer.write(entry("x" * WRITE_CHARACTERS_MAX))
    writer.write(entry("last"))
    stream.released.set()
    writer.close()

    assert 3 == writer.dropped
