"""Tests of paced streams: schedules, values, failures, and giving up."""

import json

import pytest
from bench import openstreams, paced, payloads
from bench.contestants import BY_NAME
from bench.figures import FIGURES, Figure
from bench.history import FOLDER


def result(**changes):
    times = {"count": 300, "p50": 1.0, "p99": 2.0, "max": 3.0}
    printed = {
        "streams": 300,
        "failed": 0,
        "failures": {},
        "tokens": 120_000,
        "all_tokens": 120_000,
        "health_failed": 0,
        "cpu_s": 1.5,
    }
    printed |= dict.fromkeys(("first_token_ms", "duration_ms", "token_ms", "health_ms"), times)
    return openstreams.parsed(json.dumps(printed | changes))


def values(found, **changes):
    given = {"tokens": 400, "cpu_s": 12.0, "harness_share": 0.5, "resident_mib": 80.0}
    return paced.values(found, **(given | changes))


def option(load, name):
    flags = load.flags()
    return flags[flags.index(f"--{name}") + 1]


@pytest.mark.parametrize(("streams", "per_s"), [(300, 37.5), (1000, 125.0)])
def test_arrivals_keep_the_number_of_open_streams(streams, per_s):
    """Streams of eight seconds that arrive 37.5 times a second are 300 at any time."""
    schedule = paced.arriving(streams).schedule
    assert per_s == schedule.per_s
    assert streams == schedule.per_s * paced.SCRIPTED_S


def test_measured_streams_arrive_and_end_while_all_are_open():
    """Arrivals begin one stream earlier, and go on until the last measured stream ends as scripted."""
    schedule = paced.arriving(300).schedule
    assert schedule.fill_s >= paced.SCRIPTED_S
    assert schedule.drain_s >= paced.SCRIPTED_S


def test_a_schedule_has_an_interval_in_microseconds():
    """The load program knows no rates: 1,000 open streams are an arrival every 8 ms."""
    assert "8000.0us" == option(paced.arriving(1000), "every")
    assert "8.0s" == option(paced.arriving(1000), "fill")


def test_streams_opened_at_once_have_no_schedule():
    """A burst has a number of streams, ten connections, and the tokens that each must deliver."""
    load = paced.at_once(300)
    assert "--every" not in load.flags()
    assert ["300", "10", "400"] == [option(load, name) for name in ("streams", "connections", "tokens")]


def test_shorter_streams_have_a_shorter_limit():
    """The limit is a time after the scripted end."""
    assert 4.0 == paced.at_once(1).limit_s - paced.at_once(1, tokens=200).limit_s
    assert "bench-200x20" == paced.at_once(1, tokens=200).script


def test_cpu_is_divided_by_all_tokens():
    """Streams that are not measured cost CPU, too."""
    assert 50.0 == values(result(all_tokens=240_000))["cpu_us"]


def test_stretch_compares_the_median_with_the_script():
    """A stream of 400 tokens is scripted to take eight seconds."""
    ten_s = {"count": 300, "p50": 10_000.0, "p99": 1.0, "max": 1.0}
    assert 0.25 == values(result(duration_ms=ten_s))["stretch"]
    assert 1.5 == values(result(duration_ms=ten_s), tokens=200)["stretch"]


def test_latencies_that_nothing_measured_are_absent():
    """A contestant that fails must not have a first token after 0 ms."""
    none = {"count": 0, "p50": 0.0, "p99": 0.0, "max": 0.0}
    found = values(result(first_token_ms=none, duration_ms=none))
    assert {"first_token_p50_ms", "first_token_p99_ms", "stretch"}.isdisjoint(found)


def test_failures_are_counted_by_cause():
    """Each cause is a value of its own, so that it is kept with the results."""
    found = values(result(failed=3, failures={"Canceled: CANCELLED": 2, "EOF": 1}))
    assert (3.0, 2.0, 1.0) == (found["failed"], found["failed: Canceled: CANCELLED"], found["failed: EOF"])


@pytest.mark.parametrize(("failed", "gave_up"), [(0, False), (30, False), (31, True), (300, True)])
def test_a_contestant_gives_up_when_a_tenth_fails(failed, gave_up):
    """A few failures do not end the series; more than a tenth do."""
    assert gave_up is paced.gave_up(values(result(failed=failed)))


def test_every_contestant_can_serve_the_paced_scripts():
    """LiteLLM serves only the models in its configuration."""
    text = (FOLDER / "litellm.yaml").read_text("utf-8")
    assert all(f"model_name: {script}," in text for script in (payloads.PACED, paced.WARM_UP.script))


def test_the_production_profile_takes_part_in_few_figures():
    """A contestant with a list of figures is left out of the others."""
    paced_burst, burst = (
        next(figure for figure in FIGURES if figure.name == name) for name in ("paced burst", "burst")
    )
    assert paced_burst.is_for(BY_NAME["ours-production"])
    assert not burst.is_for(BY_NAME["ours-production"])
    assert burst.is_for(BY_NAME["ours"])


def test_only_held_streams_are_limited_by_contestant():
    """LiteLLM holds at most 100 streams open, but is tried with 300 paced ones until it fails."""
    held, other = (
        Figure(name="f", measure=paced.burst, variants={}, holds_streams=held) for held in (True, False)
    )
    assert held.most_for(BY_NAME["litellm"]) == 100
    assert other.most_for(BY_NAME["litellm"]) > 1000
