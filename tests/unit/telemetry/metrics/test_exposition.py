"""Metrics as Prometheus's own parsers read them."""

import asyncio

import pytest

from support.scraping import OPENMETRICS, Scraped
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.telemetry.metrics.exposition import LINES_PER_CHUNK, exposition
from togetherchat_server.telemetry.metrics.store import MetricStore
from togetherchat_server.telemetry.metrics.wire import Snapshot

BOTH = pytest.mark.parametrize("accept", ["", OPENMETRICS], ids=["text", "openmetrics"])


async def exported(snapshot, accept=""):
    content_type, body = await exposition(snapshot, accept)
    return Scraped(content_type=content_type, text=body.decode())


def store_of(*counts):
    store = MetricStore()
    for key, number in counts:
        store.count(key, number)
    return store


@BOTH
async def test_counters_gauges_and_histograms_are_read_back(accept):
    """Buckets are cumulative, the cost is in dollars."""
    store = store_of(((names.COST_USD, "blue", "some/model"), 2_500_000_000))
    for seconds in (0.002, 0.004, 9.0):
        store.observe((names.EVENT_LOOP_LAG,), seconds)
    page = await exported(Snapshot(store=store, gauges={(names.CALLS_IN_FLIGHT,): 3}), accept)

    buckets = page.samples("togetherchat_event_loop_lag_seconds_bucket")
    assert {("some/model", "blue"): 2.5} == page.samples(names.COST_USD)
    assert {(): 3} == page.samples(names.CALLS_IN_FLIGHT)
    assert [0, 1, 2, 3] == [buckets[bound,] for bound in ("0.001", "0.0025", "0.005", "+Inf")]
    assert 3 == page.value("togetherchat_event_loop_lag_seconds_count")
    assert 9.006 == page.value("togetherchat_event_loop_lag_seconds_sum")


@BOTH
async def test_labels_are_escaped(accept):
    """A quote, a backslash and a line break in a model's name do not end the label."""
    odd = 'a"b\\c\nd'
    page = await exported(Snapshot(store=store_of(((names.TENANT_CALLS, "none", odd, "OK"), 1))), accept)

    assert {("OK", odd, "none"): 1} == page.samples(names.TENANT_CALLS)


@BOTH
async def test_a_metric_written_in_chunks_has_one_head(accept):
    """Its TYPE line comes once, followed by all series."""
    many = LINES_PER_CHUNK * 3 + 1
    store = store_of(*(((names.TENANT_CALLS, "none", f"model-{number}", "OK"), 1) for number in range(many)))
    page = await exported(Snapshot(store=store), accept)

    assert many == len(page.samples(names.TENANT_CALLS))
    assert 1 == page.text.count("# TYPE togetherchat_tenant_calls")


async def test_the_loop_runs_while_a_large_page_is_written():
    """A call that is served meanwhile waits for a hundred lines, not for all of them."""
    many = LINES_PER_CHUNK * 20
    store = store_of(*(((names.TENANT_CALLS, "none", f"model-{number}", "OK"), 1) for number in range(many)))
    writing = asyncio.create_task(exported(Snapshot(store=store)))
    iterations = 0
    while not writing.done():
        await asyncio.sleep(0)
        iterations += 1

    assert iterations >= 20


async def test_calls_may_end_while_a_page_is_written():
    """New series appear on the next page."""
    store = store_of(*(((names.TENANT_CALLS, "none", f"model-{number}", "OK"), 1) for number in range(1000)))
    writing = asyncio.create_task(exported(Snapshot(store=store)))
    number = 0
    while not writing.done():
        await asyncio.sleep(0)
        store.count((names.TENANT_CALLS, "none", f"later-{number}", "OK"))
        number += 1

    assert number > 0
    assert 1000 == len((await writing).samples(names.TENANT_CALLS))


async def test_metrics_without_labels_start_at_zero():
    """A rate needs a value before the first event."""
    page = await exported(Snapshot(store=MetricStore()))

    assert {(): 0} == page.samples(names.USAGE_ESTIMATED_CALLS)
    assert {(): 0} == page.samples("togetherchat_call_queue_wait_seconds_count")


async def test_the_accept_header_selects_the_format():
    """Prometheus asks for OpenMetrics by name; every other client gets the text format."""
    for accept, kind in (
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.3",
            "application/openmetrics-text; version=1.0.0",
        ),
    ):
        page = await exported(Snapshot(store=MetricStore()), accept)
        assert page.content_type.startswith(kind)
        assert page.content_type.startswith("application") == page.text.endswith("# EOF\n")
