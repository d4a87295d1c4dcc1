"""Tests of the targets, the report and the guard."""

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
    """A value equal to the bound holds; a target that was not measured has no verdict."""
    assert holds is Verdict(target=target(**bounds), measured=measured).holds


def test_every_target_has_exactly_one_bound():
    """A target has either `most` or `least`."""
    assert all((one.most is None) != (one.least is None) for one in TARGETS)


def test_targets_without_samples_are_not_measured():
    """Every target returns None for an empty run."""
    assert [None] * len(TARGETS) == [verdict.measured for verdict in judged(Results([]))]


def test_a_target_is_computed_from_the_samples_of_the_run():
    """The first target is the ratio of ours to bare within one round."""
    results = run(("unary", "ours", "16", 0, 450.0), ("unary", "bare", "16", 0, 150.0)).results
    first = judged(results)[0]
    assert (3.0, True) == (first.measured, first.holds)


def test_added_first_token_times_exclude_the_upstream():
    """3 ms added compared with 2 ms added is a ratio of 1.5."""
    rows = {"ours": 3.5, "smg": 2.5, "direct": 0.5}
    results = Results(
        [
            Sample(figure="first token", contestant=name, variant="1", round=0, values={"p50_ms": value})
            for name, value in rows.items()
        ]
    )
    (verdict,) = [one for one in judged(results) if "before the first token" in one.target.text]
    assert 1.5 == verdict.measured


def test_scaling_is_computed_from_the_cpu_of_a_call():
    """Two workers whose calls cost 25% more do the work of 1.6 workers."""
    assert 1.6 == scaling(100.0, 125.0, 2)


def test_every_variant_that_a_target_reads_is_measured():
    """A target whose load is not run would always be "not measured"."""
    measured = {(figure.name, variant) for figure in FIGURES for variant in figure.variants}
    read = {("unary", "16"), ("burst", "8"), ("trickle", "100"), ("trickle", "10"), ("added latency", "10")}
    read |= {("open streams", "10000"), ("first token", "1"), ("streams in flight", "1")}
    assert read | {("streams in flight", "1000")} <= measured


def test_every_figure_has_a_table():
    """The report shows every figure."""
    assert {figure.name for figure in FIGURES} <= {table.figure for table in TABLES}


def test_the_report_shows_medians_with_their_spread():
    """A cell has the median, the least and the most; `~` marks a spread above 20%."""
    text = report.markdown(
        run(
            ("unary", "ours", "16", 0, 400.0),
            ("unary", "ours", "16", 1, 500.0),
            ("unary", "ours", "16", 2, 450.0),
        )
    )
    assert "| togetherchat, gRPC | 16 | 450 (400-500) ~ |" in text


def test_the_report_lists_failures_with_their_reason():
    """Every failed or missing contestant is listed once with its reason."""
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


def test_a_figure_without_samples_has_no_table():
    """The report omits figures that were not measured."""
    assert "## Streams" not in report.markdown(run(("unary", "ours", "16", 0, 400.0)))


def test_the_guard_uses_the_median_of_the_rounds():
    """One disturbed round does not change the result."""
    rounds = [{"ours": 40.0, "bare": 10.0}, {"ours": 99.0, "bare": 10.0}, {"ours": 41.0, "bare": 10.0}]
    assert 4.1 == middle_ratio(rounds)


def test_the_guard_limits_unary_burst_and_trickle():
    """The guard has a limit for each of the three paths, at a load that the figures have."""
    variants = {(figure.name, variant) for figure in FIGURES for variant in figure.variants}
    assert {"unary", "burst", "trickle"} == {limit.figure for limit in LIMITS}
    assert all((limit.figure, limit.variant) in variants for limit in LIMITS)
