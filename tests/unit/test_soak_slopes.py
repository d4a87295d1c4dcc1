"""What the soak takes for growth, and what for noise."""

import random

import pytest

from soak.figures import Sample
from soak.slopes import SAMPLES_MIN, TOLERANCES, fit, slopes


def run(figure: str, *values: float, calls_between: int = 10_000) -> list[Sample]:
    """A run in which all other figures are level."""
    level = dict.fromkeys(TOLERANCES, 1000)
    return [
        Sample(
            time_s=number * 5.0,
            calls=number * calls_between,
            rest_s=0.0,
            figures={**level, figure: int(value)},
        )
        for number, value in enumerate(values)
    ]


def growing(samples: list[Sample]) -> list[str]:
    return [slope.figure for slope in slopes(samples) if slope.leaks]


def test_the_line_of_least_squares():
    """Slope and height at 0, for points on a line and beside one."""
    assert (2.0, 1.0) == fit([0, 1, 2], [1, 3, 5])
    assert (0.5, 1.5) == fit([0, 1, 2, 3], [1, 3, 2, 3])
    assert (0.0, 4.0) == fit([7, 7], [3, 5])


def test_level_figures_do_not_grow():
    """A run in which nothing changes is well."""
    assert [] == growing(run("tasks", *[4] * 20))


@pytest.mark.parametrize(
    ("figure", "a_call"), [("rss_kib", 0.1), ("memory_blocks", 0.1), ("tasks", 0.001), ("sockets", 0.001)]
)
def test_a_leak_is_found(figure: str, a_call: float):
    """A hundred bytes or a tenth of a block a call, a task or socket in a thousand calls."""
    samples = run(figure, *(1000 + a_call * number * 10_000 for number in range(40)))

    assert [figure] == growing(samples)


@pytest.mark.parametrize(("figure", "width"), [("rss_kib", 8000), ("memory_blocks", 8000), ("sockets", 10)])
def test_noise_is_no_leak(figure: str, width: int):
    """What goes up and down without a direction, as widely as it was seen to."""
    dice = random.Random(5)

    assert [] == growing(run(figure, *(1000 + dice.randrange(width) for _ in range(120))))


def test_one_step_is_no_leak_where_it_is_small():
    """An allocator that takes 4 MiB more in the middle of a short run."""
    assert [] == growing(run("rss_kib", *[80_000] * 20, *[84_096] * 20))


def test_the_warm_up_does_not_count():
    """What grows in the first quarter and not after it is a cache that was filled."""
    assert [] == growing(run("rss_kib", *range(0, 1_000_000, 100_000), *[1_000_000] * 30))


def test_one_call_left_in_flight_is_too_many():
    """Counts of what is in flight have no tolerance."""
    assert ["calls_in_flight"] == growing(run("calls_in_flight", *[0] * 20, *[1] * 20))


def test_a_figure_that_falls_is_well():
    """Growth alone is a leak."""
    assert [] == growing(run("rss_kib", *range(1_000_000, 0, -25_000)))


def test_slopes_by_time_and_by_calls():
    """A hundred calls and one KiB every five seconds."""
    (slope,) = (
        slope for slope in slopes(run("rss_kib", *range(20), calls_between=100)) if slope.figure == "rss_kib"
    )

    assert (720, 10_000) == (round(slope.per_hour), round(slope.per_million))


def test_too_few_samples_say_nothing():
    """A verdict needs a run."""
    with pytest.raises(ValueError, match="samples after the warm-up"):
        slopes(run("tasks", *[4] * SAMPLES_MIN))


def test_what_grpc_leaks_is_allowed_for():
    """With cancels alone, 150 bytes a call are grpcio's and 250 are not; without any, both are ours."""

    def run_of(a_call: float) -> list[Sample]:
        return run("rss_kib", *(a_call / 1024 * number * 10_000 for number in range(40)))

    for a_call, cut_off_share, expected in ((150, 1.0, []), (250, 1.0, ["rss_kib"]), (150, 0.0, ["rss_kib"])):
        found = slopes(run_of(a_call), cut_off_share=cut_off_share)
        assert expected == [slope.figure for slope in found if slope.leaks]
