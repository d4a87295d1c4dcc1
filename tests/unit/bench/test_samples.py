"""Tests of medians, spreads and ratios."""

import pytest
from bench.samples import Results, Sample, percentile, summarise


def sample(contestant, turn, cpu_us, figure="unary", variant="16"):
    return Sample(
        figure=figure, contestant=contestant, variant=variant, round=turn, values={"cpu_us": cpu_us}
    )


def test_a_summary_has_the_median_and_the_extremes():
    """One disturbed round changes `most` but not the median."""
    summary = summarise([1.0, 2.0, 90.0])
    assert (2.0, 1.0, 90.0, 3) == (summary.median, summary.least, summary.most, summary.count)


def test_no_values_have_no_summary():
    """Without values the summary is None, not zero."""
    assert summarise([]) is None
    assert Results([]).median("unary", "ours", "16", "cpu_us") is None


def test_the_spread_is_a_share_of_the_median():
    """Values from 2 to 4 with median 3 have a spread of 2/3."""
    assert pytest.approx(2 / 3) == summarise([2.0, 3.0, 4.0]).spread


def test_a_ratio_is_computed_within_each_round():
    """A round that is ten times slower for both contestants does not change the ratio."""
    results = Results(
        [
            *(sample("ours", 0, 300.0), sample("bare", 0, 100.0)),
            *(sample("ours", 1, 3000.0), sample("bare", 1, 1000.0)),
            *(sample("ours", 2, 310.0), sample("bare", 2, 100.0)),
        ]
    )
    assert 3.0 == results.ratio("unary", "16", "cpu_us", of="ours", to="bare")


def test_a_ratio_needs_both_contestants_in_the_same_round():
    """Rounds that only one contestant finished do not count."""
    results = Results([sample("ours", 0, 300.0), sample("bare", 1, 100.0)])
    assert results.ratio("unary", "16", "cpu_us", of="ours", to="bare") is None


def test_values_of_different_loads_are_separate():
    """Medians are computed per load."""
    results = Results([sample("ours", 0, 1.0), sample("ours", 0, 5.0, variant="64")])
    assert (1.0, 5.0) == tuple(results.median("unary", "ours", load, "cpu_us") for load in ("16", "64"))
    assert ["16", "64"] == results.variants("unary")


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)])
def test_percentiles_of_a_hundred_values(share, expected):
    """The order of the values does not matter."""
    assert abs(expected - percentile([float(n) for n in range(100, 0, -1)], share)) <= 1
