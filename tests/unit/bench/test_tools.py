"""Tests of parsing h2load, ghz, vegeta and bench/go/streams, and of rejecting invalid runs."""

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
    return saturation.ClosedLoopResult(**values | changes)


def test_h2load_output_is_parsed():
    """The result has successful and failed calls, seconds, bytes of data, and latencies of successful calls."""
    read = saturation.parsed(PRINTED, ["1\t200\t1500", "2\t503\t9", "3\t200\t2500"])
    assert (299, 1, 1.5, 363600) == (read.calls, read.failed, read.seconds, read.data_bytes)
    assert (1.5, 2.5) == read.latencies_ms


def test_h2load_durations_in_milliseconds_are_parsed():
    """h2load prints the duration of a short run in milliseconds."""
    assert 0.25 == saturation.parsed(PRINTED.replace("1.50s", "250.00ms"), []).seconds


def test_unknown_h2load_output_raises():
    """A changed output format of h2load is an error."""
    with pytest.raises(StageError):
        saturation.parsed("done.", [])


def test_a_complete_run_is_valid():
    """All calls succeeded, their responses are long enough, and all reached the upstream."""
    assert saturation.invalid_reason(closed(), text_bytes=900, reached_upstream=100) is None


@pytest.mark.parametrize(
    ("run", "reached", "reason"),
    [
        (closed(calls=0), 0, "no call succeeded"),
        (closed(failed=1), 100, "1 calls failed"),
        (closed(data_bytes=0), 100, "too short"),
        (closed(), 50, "50 reached the upstream"),
    ],
    ids=["none", "failed", "rejected with 200", "not from the upstream"],
)
def test_a_run_that_did_not_do_the_work_is_invalid(run, reached, reason):
    """Each way to be fast without doing the work has its own reason."""
    assert reason in saturation.invalid_reason(run, text_bytes=900, reached_upstream=reached)


def test_a_contestant_without_upstream_is_still_checked():
    """Without an upstream the length of the responses is still checked."""
    assert saturation.invalid_reason(closed(), text_bytes=900, reached_upstream=None) is None
    assert saturation.invalid_reason(closed(data_bytes=10), text_bytes=900, reached_upstream=None)


@pytest.mark.parametrize(
    ("in_flight", "expected"), [(1, (1, 1)), (8, (8, 1)), (16, (8, 2)), (100, (8, 12)), (1000, (10, 100))]
)
def test_calls_are_spread_over_few_connections(in_flight, expected):
    """No connection has more streams than servers allow by default."""
    assert expected == saturation.spread_over(in_flight)


def test_ghz_output_is_parsed():
    """Nanoseconds become milliseconds; a status other than OK is a failure."""
    printed = {
        "count": 10,
        "statusCodeDistribution": {"OK": 9, "Unavailable": 1},
        "latencyDistribution": [{"percentage": 50, "latency": 1_500_000}, {"percentage": 99, "latency": 4e6}],
    }
    assert rates.SteadyRateResult(calls=10, failed=1, p50_ms=1.5, p99_ms=4.0) == rates.of_ghz(
        json.dumps(printed)
    )


def test_vegeta_output_is_parsed():
    """Nanoseconds become milliseconds; a status other than 200 is a failure."""
    printed = {
        "requests": 10,
        "status_codes": {"200": 8, "0": 2},
        "latencies": {"50th": 2_000_000, "99th": 3_000_000},
    }
    assert rates.SteadyRateResult(calls=10, failed=2, p50_ms=2.0, p99_ms=3.0) == rates.of_vegeta(
        json.dumps(printed)
    )


def streams(**changes):
    times = {"count": 1, "p50": 1.0, "p99": 2.0, "max": 3.0}
    printed = {"streams": 2, "failed": 0, "failures": {}, "tokens": 800, "all_tokens": 800}
    printed |= {"health_failed": 0, "cpu_s": 0.5}
    printed |= dict.fromkeys(("first_token_ms", "duration_ms", "token_ms", "health_ms"), times)
    return openstreams.parsed(json.dumps(printed | changes))


def test_streams_with_every_token_are_valid():
    """A run without failures and missing tokens is valid."""
    assert openstreams.invalid_reason(streams(), tokens=800) is None
    assert 2.0 == streams().token.p99


def test_a_missing_token_makes_the_run_invalid():
    """A gateway that drops tokens must not count as fast."""
    assert "799 of 800 tokens arrived" == openstreams.invalid_reason(streams(tokens=799), tokens=800)


def test_a_failed_stream_makes_the_run_invalid():
    """The reason contains that of the stream."""
    reason = openstreams.invalid_reason(streams(failed=1, failures={"503": 1}), tokens=800)
    assert "1 of 2 streams failed: 1 x 503" == reason


def test_empty_output_of_the_streams_raises():
    """A crash of the load program is an error."""
    with pytest.raises(StageError):
        openstreams.parsed("")


def test_both_formats_carry_the_same_request():
    """JSON and protobuf have the same model, texts and max_tokens."""
    body = json.loads(payloads.body(payloads.UNARY, stream=False))
    message = payloads.message(payloads.UNARY)
    texts = [part.text for each in message.messages for part in each.content]
    assert (body["model"], body["max_tokens"]) == (message.model, message.max_tokens)
    assert [each["content"] for each in body["messages"]] == texts


def test_a_frame_is_a_message_with_a_length_prefix():
    """The prefix has one byte for the compression flag and four for the length."""
    frame = payloads.frame(payloads.BURST)
    assert (0, len(frame) - 5) == (frame[0], int.from_bytes(frame[1:5], "big"))
    assert payloads.message(payloads.BURST) == chat_service_pb2.CompleteRequest.FromString(frame[5:])
