"""What is read from h2load, ghz, vegeta and our own streams, and which runs are refused."""

import json

import pytest
from bench import openstreams, payloads, rates, saturation
from bench.stage import StageError

from togetherchat.v1 import chat_service_pb2

PRINTED = """
finished in 1.50s, 200.00 req/s, 251.00KB/s
requests: 300 total, 300 started, 300 done, 299 succeeded, 1 failed, 0 errored, 0 timeout
status codes: 299 2xx, 0 3xx, 1 4xx, 0 5xx
traffic: 376.46KB (385500) total, 13.48KB (13800) headers (space savings 0.00%), 355.08KB (363600) data
"""


def closed(**changes):
    values = {"calls": 100, "failed": 0, "seconds": 1.0, "data_bytes": 90_000, "latencies_ms": ()}
    return saturation.Closed(**values | changes)


def test_h2load_is_read():
    """Succeeded calls, failed ones, seconds, bytes of data, and times of what was answered."""
    read = saturation.parsed(PRINTED, ["1\t200\t1500", "2\t503\t9", "3\t200\t2500"])
    assert (299, 1, 1.5, 363600) == (read.calls, read.failed, read.seconds, read.data_bytes)
    assert (1.5, 2.5) == read.latencies_ms


def test_milliseconds_of_h2load_are_no_seconds():
    """A short run is printed in another unit."""
    assert 0.25 == saturation.parsed(PRINTED.replace("1.50s", "250.00ms"), []).seconds


def test_other_output_is_no_result():
    """A tool that changed its words is noticed."""
    with pytest.raises(StageError):
        saturation.parsed("done.", [])


def test_a_whole_run_is_taken():
    """All answered, long enough, and all at the upstream."""
    assert saturation.refusal(closed(), text_bytes=900, reached_upstream=100) is None


@pytest.mark.parametrize(
    ("run", "reached", "said"),
    [
        (closed(calls=0), 0, "no call was answered"),
        (closed(failed=1), 100, "1 calls failed"),
        (closed(data_bytes=0), 100, "too short"),
        (closed(), 50, "50 reached the upstream"),
    ],
    ids=["none", "failed", "refused with 200", "made up"],
)
def test_a_server_that_refuses_everything_does_not_win(run, reached, said):
    """Each way of being fast without doing the work is told."""
    assert said in saturation.refusal(run, text_bytes=900, reached_upstream=reached)


def test_the_bare_handler_asks_no_upstream():
    """What it answers is still checked."""
    assert saturation.refusal(closed(), text_bytes=900, reached_upstream=None) is None
    assert saturation.refusal(closed(data_bytes=10), text_bytes=900, reached_upstream=None)


@pytest.mark.parametrize(
    ("in_flight", "expected"), [(1, (1, 1)), (8, (8, 1)), (16, (8, 2)), (100, (8, 12)), (1000, (10, 100))]
)
def test_calls_are_spread_over_few_connections(in_flight, expected):
    """And no connection has more than a server allows by default."""
    assert expected == saturation.spread_over(in_flight)


def test_ghz_is_read():
    """Nanoseconds become milliseconds; a status that is not OK is a failure."""
    printed = {
        "count": 10,
        "statusCodeDistribution": {"OK": 9, "Unavailable": 1},
        "latencyDistribution": [{"percentage": 50, "latency": 1_500_000}, {"percentage": 99, "latency": 4e6}],
    }
    assert rates.Steady(calls=10, failed=1, p50_ms=1.5, p99_ms=4.0) == rates.of_ghz(json.dumps(printed))


def test_vegeta_is_read():
    """The same of the other tool."""
    printed = {
        "requests": 10,
        "status_codes": {"200": 8, "0": 2},
        "latencies": {"50th": 2_000_000, "99th": 3_000_000},
    }
    assert rates.Steady(calls=10, failed=2, p50_ms=2.0, p99_ms=3.0) == rates.of_vegeta(json.dumps(printed))


def streams(**changes):
    times = {"count": 1, "p50": 1.0, "p99": 2.0, "max": 3.0}
    said = {"streams": 2, "failed": 0, "failures": None, "tokens": 800, "health_failed": 0}
    said |= dict.fromkeys(("first_token_ms", "duration_ms", "token_ms", "health_ms"), times)
    return openstreams.parsed(json.dumps(said | changes))


def test_streams_that_brought_every_token_are_taken():
    """Nothing failed, nothing is missing."""
    assert openstreams.refusal(streams(), tokens=800) is None
    assert 2.0 == streams().token.p99


def test_a_lost_token_is_told():
    """A gateway that drops tokens is not a fast one."""
    assert "799 of 800 tokens arrived" == openstreams.refusal(streams(tokens=799), tokens=800)


def test_a_failed_stream_is_told():
    """With its reason."""
    refused = openstreams.refusal(streams(failed=1, failures=["503"]), tokens=800)
    assert "1 of 2 streams failed: 503" == refused


def test_no_output_of_the_streams_is_no_result():
    """Such as after a crash."""
    with pytest.raises(StageError):
        openstreams.parsed("")


def test_both_formats_ask_the_same():
    """The same model, the same words, the same bound."""
    asked = json.loads(payloads.body(payloads.UNARY, stream=False))
    message = payloads.message(payloads.UNARY)
    texts = [part.text for turn in message.messages for part in turn.content]
    assert (asked["model"], asked["max_tokens"]) == (message.model, message.max_tokens)
    assert [turn["content"] for turn in asked["messages"]] == texts


def test_a_frame_is_a_message_with_its_length():
    """One byte for no compression, four for the length."""
    frame = payloads.frame(payloads.BURST)
    assert (0, len(frame) - 5) == (frame[0], int.from_bytes(frame[1:5], "big"))
    assert payloads.message(payloads.BURST) == chat_service_pb2.CompleteRequest.FromString(frame[5:])
