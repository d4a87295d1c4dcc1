"""Snapshot as Prometheus's own parsers read them."""

import asyncio

import pytest

from support.scraping import OPENMETRICS, Scraped
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.exposition import LINES_AT_ONCE, exposition
from togetherchat_server.telemetry.metrics.store import MetricStore
from togetherchat_server.telemetry.metrics.wire import Snapshot

BOTH = pytest.mark.parametrize("accept", ["", OPENMETRICS], ids=["text", "openmetrics"])


async def shown(figures, accept=""):
    content_type, body = await exposition(figures, accept)
    return Scraped(content_type=content_type, text=body.decode())


def tally_of(*counts):
    tally = MetricStore()
    for key, number in counts:
        tally.count(key, number)
    return tally


@BOTH
async def test_counters_gauges_and_histograms_are_read_back(accept):
    """Values and labels arrive, a histogram cumulative, the cost in dollars."""
    tally = tally_of(((names.COST, "blue", "some/model"), 2_500_000_000))
    for seconds in (0.002, 0.004, 9.0):
        tally.observe((names.LAG,), seconds)
    page = await shown(Snapshot(tally=tally, gauges={(names.IN_FLIGHT,): 3}), accept)

    buckets = page.samples("togetherchat_event_loop_lag_seconds_bucket")
    assert {("some/model", "blue"): 2.5} == page.samples(names.COST)
    assert {(): 3} == page.samples(names.IN_FLIGHT)
    assert [0, 1, 2, 3] == [buckets[bound,] for bound in ("0.001", "0.0025", "0.005", "+Inf")]
    assert 3 == page.value("togetherchat_event_loop_lag_seconds_count")
    assert 9.006 == page.value("togetherchat_event_loop_lag_seconds_sum")


@BOTH
async def test_a_label_may_hold_anything(accept):
    """What would end a line or a label is escaped; a model's name is a catalogue's text."""
    odd = 'a"b\\c\nd'
    page = await shown(Snapshot(tally=tally_of(((names.TENANT_CALLS, "none", odd, "OK"), 1))), accept)

    assert {("OK", odd, "none"): 1} == page.samples(names.TENANT_CALLS)


@BOTH
async def test_a_family_that_is_written_in_pieces_is_one(accept):
    """Its head stands once, its series all follow."""
    many = LINES_AT_ONCE * 3 + 1
    tally = tally_of(*(((names.TENANT_CALLS, "none", f"model-{number}", "OK"), 1) for number in range(many)))
    page = await shown(Snapshot(tally=tally), accept)

    assert many == len(page.samples(names.TENANT_CALLS))
    assert 1 == page.text.count("# TYPE togetherchat_tenant_calls")


async def test_the_loop_turns_while_much_is_written():
    """A call that is served meanwhile waits for a hundred lines, not for all of them."""
    many = LINES_AT_ONCE * 20
    tally = tally_of(*(((names.TENANT_CALLS, "none", f"model-{number}", "OK"), 1) for number in range(many)))
    writing = asyncio.create_task(shown(Snapshot(tally=tally)))
    turns = 0
    while not writing.done():
        await asyncio.sleep(0)
        turns += 1

    assert turns >= 20


async def test_calls_that_end_meanwhile_do_not_disturb():
    """What is counted while a page is written is on the next one."""
    tally = tally_of(*(((names.TENANT_CALLS, "none", f"model-{number}", "OK"), 1) for number in range(1000)))
    writing = asyncio.create_task(shown(Snapshot(tally=tally)))
    number = 0
    while not writing.done():
        await asyncio.sleep(0)
        tally.count((names.TENANT_CALLS, "none", f"later-{number}", "OK"))
        number += 1

    assert number > 0
    assert 1000 == len((await writing).samples(names.TENANT_CALLS))


async def test_what_has_no_labels_begins_at_nought():
    """A rate needs a value before the first event."""
    page = await shown(Snapshot(tally=MetricStore()))

    assert {(): 0} == page.samples(names.ESTIMATED)
    assert {(): 0} == page.samples("togetherchat_call_queue_wait_seconds_count")


async def test_the_format_is_the_one_that_is_asked_for():
    """Prometheus asks for OpenMetrics by name; everything else gets the text format."""
    for accept, kind in (
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.3",
            "application/openmetrics-text; version=1.0.0",
        ),
    ):
        page = await shown(Snapshot(tally=MetricStore()), accept)
        assert page.content_type.startswith(kind)
        assert page.content_type.startswith("application") == page.text.endswith("# EOF\n")
