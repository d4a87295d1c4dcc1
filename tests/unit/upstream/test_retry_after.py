"""The delay that response headers ask for."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from togetherchat_server.upstream.retry_after import retry_after_s

NOW_S = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT
NOW = "Wed, 21 Oct 2015 07:28:00 GMT"
LATER = "Wed, 21 Oct 2015 07:28:30 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({"retry-after": "7"}, 7.0, id="seconds"),
        pytest.param({"retry-after": " 7 "}, 7.0, id="white space"),
        pytest.param({"retry-after": "0.25"}, 0.25, id="fraction"),
        pytest.param({"retry-after": "0"}, 0.0, id="at once"),
        pytest.param({"retry-after": "99999999"}, 99_999_999.0, id="no cap here"),
        pytest.param({"retry-after": "1" + "0" * 10}, 1e10, id="the longest delay"),
        pytest.param({"retry-after": "1" + "0" * 10 + ".1"}, None, id="longer than that"),
        pytest.param({"retry-after": "9" * 30, "x-ratelimit-reset": "9"}, 9.0, id="noise before a delay"),
        pytest.param({"retry-after-ms": "9" * 30, "retry-after": "7"}, 7.0, id="noise in milliseconds"),
        pytest.param({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, None, id="noise as a date"),
        pytest.param({"retry-after-ms": "1500"}, 1.5, id="milliseconds"),
        pytest.param(
            {"retry-after-ms": "1500", "retry-after": "7", "x-ratelimit-reset": "9"}, 1.5, id="first wins"
        ),
        pytest.param({"retry-after": "7", "x-ratelimit-reset": "9"}, 7.0, id="second before third"),
        pytest.param({"x-ratelimit-reset": "9"}, 9.0, id="reset"),
        pytest.param(
            {"retry-after-ms": "-1", "retry-after": "soon", "x-ratelimit-reset": "9"}, 9.0, id="next source"
        ),
        pytest.param({"retry-after": LATER}, 30.0, id="date against the clock"),
        pytest.param({"retry-after": NOW, "x-ratelimit-reset": "9"}, 0.0, id="date of now"),
        pytest.param(
            {"retry-after": LATER, "date": "Wed, 21 Oct 2015 07:28:20 GMT"}, 10.0, id="date against date"
        ),
        pytest.param({"retry-after": LATER, "date": "garbage"}, 30.0, id="date against garbage"),
        pytest.param({"retry-after": "Wednesday, 21-Oct-15 07:28:30 GMT"}, 30.0, id="old form of date"),
        pytest.param({"retry-after": "Wed Oct 21 07:28:30 2015"}, 30.0, id="oldest form of date, no zone"),
        pytest.param({"retry-after": NOW, "date": LATER}, None, id="past date"),
    ],
)
def test_delay(headers: dict[str, str], expected: float | None):
    """The delay of each header, and the order of several."""
    assert expected == retry_after_s(headers, now_wall_s=NOW_S)


GARBAGE = [
    "",
    " ",
    "-1",
    "+1",
    "nan",
    "inf",
    "Infinity",
    "1e3",
    "1_000",
    "0x10",
    "\u0663",
    "1s",
    "9" * 400,
    "Wed, 99 Foo",
]


@pytest.mark.parametrize("name", ["retry-after-ms", "retry-after", "x-ratelimit-reset"])
def test_garbage_is_ignored(name: str):
    """A value that is not a plain number is ignored, even if Python would parse it."""
    assert [] == [text for text in GARBAGE if retry_after_s({name: text}, now_wall_s=NOW_S) is not None]


# Parts of dates and of near-dates: the parser rejects free text at the first character.
DATES = st.sampled_from(
    ["Wed,", "21", "31 Feb", "Oct", "2015", "0000", "99999", "07:28:00", "24:61:61", "GMT"]
)
OTHERS = st.sampled_from(["-9999", "+0000", "-0000", "EST", "\x00", "(", "1", ".", "-", "\u0663", "nan", ""])
HEADER = st.lists(DATES | OTHERS, max_size=7).map(" ".join)


@given(
    st.dictionaries(st.sampled_from(["retry-after-ms", "retry-after", "x-ratelimit-reset", "date"]), HEADER)
)
@example({"retry-after": "Fri, 31 Dec 9999 23:59:59 -9999"})
@example({"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359"})
def test_any_text_is_accepted(headers: dict[str, str]):
    """Any text gives a finite delay or None."""
    delay_s = retry_after_s(headers, now_wall_s=NOW_S)

    assert delay_s is None or (math.isfinite(delay_s) and delay_s >= 0)
