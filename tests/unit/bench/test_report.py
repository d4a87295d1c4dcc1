"""Tests of the targets, the report and the guard."""

import pytest
from bench import report
from bench.__main__ import STARTED
from bench.figures import FIGURES
from bench.guard import LIMITS, Bound, Limit, middle_ratio, verdict
from bench.report import TABLES
from bench.samples import Results, Summary
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
            "commit": "c",
            "date": "2026-01-01",
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
    """The unary target is the ratio of ours to the relay within one round."""
    results = run(("unary", "ours", "16", 0, 450.0), ("unary", "relay", "16", 0, 300.0)).results
    (found,) = [one for one in judged(results) if one.target.text.startswith("CPU of a unary call / least")]
    assert (1.5, False) == (found.measured, found.holds)


def test_two_workers_have_the_bounds_of_one():
    """Twice the streams on two workers have the same targets as 1,000 on one."""
    bounds = {one.text: one.most for one in TARGETS}
    assert bounds["1,000 paced streams open: stretch"] == bounds["2,000 open, 2 workers: stretch"]


def test_scaling_is_computed_from_the_cpu_of_a_call():
    """Two workers whose calls cost 25% more do the work of 1.6 workers."""
    assert 1.6 == scaling(100.0, 125.0, 2)


class RecordingResults(Results):
    """Records which figures and variants are read; every value is 1."""

    def __init__(self):
        super().__init__([])
        self.read = set()

    def summary(self, figure, contestant, variant, value):
        self.read.add((figure, variant))
        return Summary(median=1.0, least=1.0, most=1.0, count=1)

    def ratio(self, figure, variant, value, *, of, to):
        self.read.add((figure, variant))
        return 1.0


def test_every_variant_that_a_target_reads_is_measured():
    """A target whose load is not run would always be "not measured"."""
    results = RecordingResults()
    judged(results)
    measured = {(figure.name, variant) for figure in FIGURES for variant in figure.variants}
    assert {key for key in results.read if key[0] not in STARTED} <= measured
    assert len(results.read) > len(FIGURES)


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


def test_a_load_that_was_not_measured_has_a_row_with_the_reason():
    """A contestant that failed with 300 streams is shown with 600, too."""
    failure = {
        "figure": "paced burst",
        "contestant": "litellm",
        "variant": "600",
        "round": "0",
        "reason": "not measured: failed at 300",
    }
    text = report.markdown(
        run(
            ("paced burst", "litellm", "300", 0, 400.0),
            ("paced burst", "ours", "600", 0, 9.0),
            failures=[failure],
        )
    )
    assert "| LiteLLM proxy | 600 |  |  |  |  |  |  |  | not measured: failed at 300 |" in text
    assert "## Left out" not in text


def test_causes_of_failed_streams_are_added_over_the_rounds():
    """The most frequent cause is first."""
    samples = [
        {
            "figure": "paced burst",
            "contestant": "ours",
            "variant": "1000",
            "round": turn,
            "values": {"failed": 3.0, "failed: EOF": 1.0, "failed: Canceled: CANCELLED": 2.0},
        }
        for turn in range(2)
    ]
    found = report.read(
        {"commit": "c", "date": "d", "machine": {}, "seconds": 1, "left_out": [], "failures": []}
        | {"samples": samples}
    )
    assert "4 x Canceled: CANCELLED; 2 x EOF" == report.causes("paced burst", "ours", "1000", found)


def rounds(to, *pairs):
    return [{"ours": {"cpu_us": ours}, to: {"cpu_us": other}} for ours, other in pairs]


def test_the_guard_uses_the_median_of_the_rounds():
    """One disturbed round does not change the result."""
    assert 4.1 == middle_ratio(rounds("bare", (40.0, 10.0), (99.0, 10.0), (41.0, 10.0)), "bare", "cpu_us")


def test_the_guard_holds_up_to_its_bound():
    """A ratio above the bound is reported with the reason for the bound."""
    bound = Bound(value="cpu_us", most=2.0, reason="measured 1.5")
    limit = Limit(figure=FIGURES[0], variant="16", to="bare", rounds=1, bounds=(bound,))
    assert verdict(limit, rounds("bare", (20.0, 10.0)))[0]
    holds, lines = verdict(limit, rounds("bare", (21.0, 10.0)))
    assert not holds
    assert "unary, cpu_us: 2.10 x bare, at most 2: EXCEEDED; measured 1.5\n" == lines


def test_the_guard_limits_unary_burst_trickle_and_paced_streams():
    """The guard has a limit for each of the paths, at a load that the figures have."""
    assert ["unary", "burst", "trickle", "paced"] == [limit.figure.name for limit in LIMITS]
    assert all(limit.variant in limit.figure.variants for limit in LIMITS)


def test_the_guard_compares_paced_streams_with_our_http_frontend():
    """The bare handler starves as our gRPC frontend does."""
    assert "ours-http" == LIMITS[-1].to
    assert {"first_token_p50_ms", "duration"} == {bound.value for bound in LIMITS[-1].bounds}
