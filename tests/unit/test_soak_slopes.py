"""Which measured values the soak takes for growth, and which for noise."""

import random

import pytest

from soak.sample import METRICS, Sample, metrics_of
from soak.slopes import SAMPLES_MIN, TOLERANCES, fit, slopes
from togetherchat_server.telemetry.metrics import definitions as names


def run(name: str, *values: float, calls_between: int = 10_000) -> list[Sample]:
    """Samples of a run in which all other values are constant."""
    constant = dict.fromkeys(TOLERANCES, 1000)
    return [
        Sample(
            time_s=number * 5.0,
            calls=number * calls_between,
            idle_after_s=0.0,
            values={**constant, name: int(value)},
        )
        for number, value in enumerate(values)
    ]


def growing(samples: list[Sample]) -> list[str]:
    return [slope.value for slope in slopes(samples) if slope.leaks]


def test_the_least_squares_line():
    """Slope and intercept, for points on a line and beside one."""
    assert (2.0, 1.0) == fit([0, 1, 2], [1, 3, 5])
    assert (0.5, 1.5) == fit([0, 1, 2, 3], [1, 3, 2, 3])
    assert (0.0, 4.0) == fit([7, 7], [3, 5])


def test_constant_values_do_not_grow():
    """A run in which nothing changes has no leak."""
    assert [] == growing(run(names.ASYNCIO_TASKS, *[4] * 20))


@pytest.mark.parametrize(
    ("name", "per_call"),
    [
        ("rss_kib", 0.1),
        (names.PYTHON_ALLOCATED_BLOCKS, 0.1),
        (names.ASYNCIO_TASKS, 0.001),
        ("sockets", 0.001),
    ],
)
def test_a_leak_is_found(name: str, per_call: float):
    """A hundred bytes or a tenth of a block per call, a task or socket per thousand calls."""
    samples = run(name, *(1000 + per_call * number * 10_000 for number in range(40)))

    assert [name] == growing(samples)


@pytest.mark.parametrize(
    ("name", "width"), [("rss_kib", 8000), (names.PYTHON_ALLOCATED_BLOCKS, 8000), ("sockets", 10)]
)
def test_noise_is_not_a_leak(name: str, width: int):
    """Values that vary without a trend, as widely as real runs do."""
    rng = random.Random(5)

    assert [] == growing(run(name, *(1000 + rng.randrange(width) for _ in range(120))))


def test_a_small_step_is_not_a_leak():
    """The allocator takes 4 MiB more in the middle of a short run."""
    assert [] == growing(run("rss_kib", *[80_000] * 20, *[84_096] * 20))


def test_the_warm_up_is_ignored():
    """A value that grows only in the first quarter is a cache that fills."""
    assert [] == growing(run("rss_kib", *range(0, 1_000_000, 100_000), *[1_000_000] * 30))


def test_a_call_left_in_flight_is_an_error():
    """Counts of what is in flight have no tolerance."""
    assert [names.CALLS_IN_FLIGHT] == growing(run(names.CALLS_IN_FLIGHT, *[0] * 20, *[1] * 20))


def test_a_decreasing_value_is_not_a_leak():
    """Only growth is."""
    assert [] == growing(run("rss_kib", *range(1_000_000, 0, -25_000)))


def test_slopes_by_time_and_by_calls():
    """A hundred calls and one KiB every five seconds."""
    (slope,) = (
        slope for slope in slopes(run("rss_kib", *range(20), calls_between=100)) if slope.value == "rss_kib"
    )

    assert (720, 10_000) == (round(slope.per_hour), round(slope.per_million))


def test_too_few_samples_are_an_error():
    """A short run has no verdict."""
    with pytest.raises(ValueError, match="samples after the warm-up are too few"):
        slopes(run(names.ASYNCIO_TASKS, *[4] * SAMPLES_MIN))


def test_the_known_leak_of_grpcio_is_allowed():
    """With cancels only, 150 bytes per call are grpcio's and 250 are not; without cancels neither is."""

    def run_of(per_call: float) -> list[Sample]:
        return run("rss_kib", *(per_call / 1024 * number * 10_000 for number in range(40)))

    for per_call, cut_off_fraction, expected in (
        (150, 1.0, []),
        (250, 1.0, ["rss_kib"]),
        (150, 0.0, ["rss_kib"]),
    ):
        found = slopes(run_of(per_call), cut_off_fraction=cut_off_fraction)
        assert expected == [slope.value for slope in found if slope.leaks]


def test_metrics_are_read_by_name_and_label():
    """Series that the soak does not watch are ignored."""
    lines = [
        *(f"{name} 0" for name in METRICS if " " not in name),
        f'{names.UPSTREAM_CONNECTIONS}{{state="active"}} 2',
        f'{names.UPSTREAM_CONNECTIONS}{{state="idle"}} 3.0',
        f'{names.CALLS}{{code="OK"}} 7',
    ]
    values = metrics_of("\n".join(lines) + "\n")

    assert METRICS == set(values)
    assert (2, 3) == tuple(values[f"{names.UPSTREAM_CONNECTIONS} {state}"] for state in ("active", "idle"))
