import pytest

from togetherchat_server.domain.trace_context import CallTrace, SpanContext

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_a_callers_span_is_read_and_written():
    """What came is what goes on."""
    span = SpanContext.parse(GOOD, "a=1")

    assert (int(TRACE, 16), int(SPAN, 16), True, "a=1") == (
        span.trace_id,
        span.span_id,
        span.sampled,
        span.state,
    )
    assert GOOD == span.traceparent


@pytest.mark.parametrize(
    ("flags", "sampled", "kept"),
    [
        ("00", False, "00"),
        ("01", True, "01"),
        ("02", False, "02"),
        ("03", True, "03"),
        ("ff", True, "03"),
        ("fc", False, "00"),
    ],
)
def test_flags_that_nobody_has_defined_are_not_passed_on(flags, sampled, kept):
    """The specification asks for zeros there."""
    span = SpanContext.parse(GOOD[:-2] + flags, "")

    assert (sampled, kept) == (span.sampled, span.traceparent[-2:])


@pytest.mark.parametrize("header", [f"01{GOOD[2:]}", f"cc{GOOD[2:]}-what-will-be"])
def test_a_later_version_is_read_by_its_first_four_fields(header):
    """And goes on as the version that we know."""
    assert GOOD == SpanContext.parse(header, "").traceparent


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        GOOD.upper(),
        f"{GOOD}-more",
        f"{GOOD}\n",
        f" {GOOD}",
        f"{GOOD}, {GOOD}",
        f"ff{GOOD[2:]}",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"cc{GOOD[2:]}more",
        "\u0660\u0660" + GOOD[2:],
    ],
)
def test_what_is_no_traceparent(header):
    """As if there were none."""
    assert None is SpanContext.parse(header, "a=1")


@pytest.mark.parametrize(
    "state", ["a=1", "a=1,b=2", "a=1 , b=2", "a=1,,b=2", "t@v=x y z", ",".join(f"k{n}=v" for n in range(32))]
)
def test_a_good_tracestate_goes_on_as_it_came(state):
    """It belongs to others."""
    assert state == SpanContext.parse(GOOD, state).state


@pytest.mark.parametrize(
    "state",
    [
        "a",
        "A=1",
        "a=",
        "a=1\r\nx: y",
        "a=é",
        "a=1=2",
        "a=" + "x" * 511,
        ",".join(f"k{n}=v" for n in range(33)),
        "a=" + " " * 500,
    ],
)
def test_a_bad_tracestate_is_left_out(state):
    """The trace goes on without it."""
    span = SpanContext.parse(GOOD, state)

    assert (GOOD, "") == (span.traceparent, span.state)


def test_attempts_have_spans_of_their_own_in_the_calls_trace():
    """Under the call's flags and state."""
    ids = iter((11, 12))
    span = SpanContext(trace_id=7, span_id=8, flags=1, state="a=1")
    trace = CallTrace(span, parent=None, new_span_id=lambda: next(ids))

    first, second = (trace.attempt(http_method="POST", path="p", started_s=0.0) for _ in range(2))

    assert [first, second] == trace.attempts
    assert (
        SpanContext(trace_id=7, span_id=11, flags=1, state="a=1"),
        SpanContext(trace_id=7, span_id=12, flags=1, state="a=1"),
    ) == (first.span, second.span)
