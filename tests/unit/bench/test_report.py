"""Targets, the report and the guard."""

import pytest
from bench import report
from bench.figures import FIGURES
from bench.guard import LIMITS, middle_ratio
from bench.report import TABLES
from bench.samples import Results, Sample
from bench.starts import scaling
from bench.targets import TARGETS, Target, Verdict, judged


def run(*values, failures=(), left_out=()):
    samples = [
        {
            "figure": figure,
            "contestant": name,
            "variant": variant,
            "round": turn,
            "values": {"cpu_us": cpu_us},
        }
        for figure, name, variant, turn, cpu_us in values
    ]
    return report.read(
        {
            "machine": {"CPU": "x", "cores": "2"},
            "seconds": 7,
            "left_out": list(left_out),
            "failures": list(failures),
            "samples": samples,
        }
    )


def target(**bounds):
    return Target(text="t", unit="x", measured=lambda results: None, **bounds)


@pytest.mark.parametrize(
    ("bounds", "measured", "holds"),
    [
        ({"most": 3.0}, 3.0, True),
        ({"most": 3.0}, 3.1, False),
        ({"least": 20.0}, 20.0, True),
        ({"least": 20.0}, 19.0, False),
        ({"most": 3.0}, None, None),
    ],
)
def test_a_target_holds_up_to_its_bound(bounds, measured, holds):
    """And what was not measured neither holds nor fails."""
    assert holds is Verdict(target=target(**bounds), measured=measured).holds


def test_every_target_has_one_bound():
    """Either the most or the least."""
    assert all((one.most is None) != (one.least is None) for one in TARGETS)


def test_without_a_measurement_nothing_is_judged():
    """No target reads a zero out of nothing."""
    assert [None] * len(TARGETS) == [verdict.measured for verdict in judged(Results([]))]


def test_a_target_is_read_from_the_figures_of_the_run():
    """Ours against bare, within the rounds."""
    results = run(("unary", "ours", "16", 0, 450.0), ("unary", "bare", "16", 0, 150.0)).results
    first = judged(results)[0]
    assert (3.0, True) == (first.measured, first.holds)


def test_added_first_tokens_are_compared_without_the_upstreams_own():
    """Three against two added milliseconds are one and a half times."""
    rows = {"ours": 3.5, "smg": 2.5, "direct": 0.5}
    results = Results(
        [
            Sample(figure="first token", contestant=name, variant="1", round=0, values={"p50_ms": value})
            for name, value in rows.items()
        ]
    )
    (verdict,) = [one for one in judged(results) if "before the first token" in one.target.text]
    assert 1.5 == verdict.measured


def test_workers_scale_by_what_their_calls_cost():
    """Two workers whose calls cost a quarter more do the work of 1.6."""
    assert 1.6 == scaling(100.0, 125.0, 2)


def test_every_variant_that_a_target_reads_is_measured():
    """A target whose load nobody runs would be "not measured" for ever."""
    measured = {(figure.name, variant) for figure in FIGURES for variant in figure.variants}
    read = {("unary", "16"), ("burst", "8"), ("trickle", "100"), ("trickle", "10"), ("added latency", "10")}
    read |= {("open streams", "10000"), ("first token", "1"), ("streams in flight", "1")}
    assert read | {("streams in flight", "1000")} <= measured


def test_every_figure_has_a_table():
    """What was measured is shown."""
    assert {figure.name for figure in FIGURES} <= {table.figure for table in TABLES}


def test_the_report_shows_medians_with_their_spread():
    """And marks what varied much."""
    text = report.markdown(
        run(
            ("unary", "ours", "16", 0, 400.0),
            ("unary", "ours", "16", 1, 500.0),
            ("unary", "ours", "16", 2, 450.0),
        )
    )
    assert "| togetherchat, gRPC | 16 | 450 (400-500) ~ |" in text


def test_the_report_says_who_failed_and_why():
    """Nobody is left out silently."""
    failure = {
        "figure": "burst",
        "contestant": "smg",
        "variant": "8",
        "round": "0",
        "reason": "3 calls failed",
    }
    text = report.markdown(run(failures=[failure, failure], left_out=["Portkey gateway: not installed"]))
    assert 1 == text.count("- SMG, burst 8: 3 calls failed")
    assert "- Portkey gateway: not installed" in text


def test_a_figure_that_was_not_asked_for_has_no_table():
    """A short run makes a short report."""
    assert "## Streams" not in report.markdown(run(("unary", "ours", "16", 0, 400.0)))


def test_the_guard_takes_the_middle_of_the_rounds():
    """One round in which a neighbour woke decides nothing."""
    rounds = [{"ours": 40.0, "bare": 10.0}, {"ours": 99.0, "bare": 10.0}, {"ours": 41.0, "bare": 10.0}]
    assert 4.1 == middle_ratio(rounds)


def test_the_guard_watches_the_three_paths():
    """Whole answers, bursts and trickles, at loads that the figures have."""
    known = {(figure.name, variant) for figure in FIGURES for variant in figure.variants}
    assert {"unary", "burst", "trickle"} == {limit.figure for limit in LIMITS}
    assert all((limit.figure, limit.variant) in known for limit in LIMITS)
