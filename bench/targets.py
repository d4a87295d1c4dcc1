"""The targets: a table of bounds, each with the figures that it is computed from. Pure.

A target is a ratio of medians within one run, or a time that any machine can meet.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from bench.samples import NOISY_SPREAD, Results
from bench.starts import scaling

Reading = Callable[[Results], float | None]
NEGLIGIBLE: Final = 0.05
"""A change by less than this share of the bound is not a regression: 0.1 ms is not twice 0.05 ms."""
FLAT: Final = 1.1
"""A cost that grows by less than a tenth counts as flat: it is within the noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A bound: `measured` must be at most `most`, or at least `least`. None means not measured."""

    text: str
    unit: str
    measured: Reading
    most: float | None = None
    least: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A target with its measured value."""

    target: Target
    measured: float | None

    @property
    def holds(self) -> bool | None:
        if self.measured is None:
            return None
        above = self.target.least is None or self.measured >= self.target.least
        return above and (self.target.most is None or self.measured <= self.target.most)

    def is_worse_than(self, earlier: float | None) -> bool:
        """Return whether the value is worse than an earlier one by more than noise."""
        if earlier is None or self.measured is None:
            return False
        if self.target.most is not None:
            return self.measured > earlier * (1 + NOISY_SPREAD) + self.target.most * NEGLIGIBLE
        return self.measured < earlier * (1 - NOISY_SPREAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The measured targets of one run, with its commit and machine."""

    commit: str
    date: str
    machine: str
    targets: Mapping[str, float]


def judged(results: Results) -> list[Verdict]:
    return [Verdict(target=target, measured=target.measured(results)) for target in TARGETS]


# Readings: values computed from a run ---------------------------------------------------


def ratio(figure: str, variant: str, value: str, *, of: str, to: str) -> Reading:
    return lambda results: results.ratio(figure, variant, value, of=of, to=to)


def median(figure: str, contestant: str, variant: str, value: str) -> Reading:
    return lambda results: results.median(figure, contestant, variant, value)


def beyond_direct(figure: str, variant: str, value: str) -> Reading:
    """Read the difference between our value and that of the upstream alone."""

    def measured(results: Results) -> float | None:
        ours, direct = (results.median(figure, name, variant, value) for name in ("ours", "direct"))
        return None if ours is None or direct is None else ours - direct

    return measured


def two_workers(results: Results) -> float | None:
    one, two = (results.median("workers", "ours", count, "cpu_us") for count in ("1", "2"))
    return scaling(one, two, 2) if one and two else None


def thousand_to_one(results: Results) -> float | None:
    one, thousand = (
        results.median("streams in flight", "ours", streams, "cpu_us") for streams in ("1", "1000")
    )
    return thousand / one if one and thousand else None


PACED_BOUNDS: Final[Mapping[tuple[str, str], tuple[float, float, float | None, float | None]]] = {
    ("paced steady", "300"): (50.0, 250.0, 100.0, 0.02),
    ("paced steady", "1000"): (150.0, 750.0, 400.0, 0.04),
    ("paced burst", "300"): (400.0, 1000.0, None, None),
    ("paced burst", "1000"): (1200.0, 3000.0, None, None),
}
"""First token p50 and p99, token delay p99 (all in ms) and stretch, by figure and number of streams."""
PACED_TEXT: Final = {"paced steady": "open", "paced burst": "opened at once"}


HARNESS_STRETCH_MAX: Final = 0.02
HARNESS_TOKEN_MS_MAX: Final = 40.0
"""Above these, load and upstream or another program of the machine limit the figures of 1,000 streams."""


def paced() -> Iterator[Target]:
    """Yield the targets of paced streams over gRPC, and of twice as many with two workers."""
    for (figure, streams), bounds in PACED_BOUNDS.items():
        text = f"{int(streams):,} paced streams {PACED_TEXT[figure]}"
        yield from _of_paced(text, figure, streams, bounds)
    for variant, figure in (("steady", "paced steady"), ("burst", "paced burst")):
        bounds = PACED_BOUNDS[figure, "1000"]
        yield from _of_paced(f"2,000 {PACED_TEXT[figure]}, 2 workers", "paced workers", variant, bounds)


def _of_paced(
    text: str, figure: str, variant: str, bounds: tuple[float, float, float | None, float | None]
) -> Iterator[Target]:
    rows = (
        ("first token, p50", "first_token_p50_ms", "ms", bounds[0]),
        ("first token, p99", "first_token_p99_ms", "ms", bounds[1]),
        ("token delay, p99", "token_p99_ms", "ms", bounds[2]),
        ("stretch", "stretch", "%", bounds[3]),
        ("failed streams", "failed", "", 0.0),
    )
    for name, value, unit, most in rows:
        if most is not None:
            measured = median(figure, "ours", variant, value)
            yield Target(text=f"{text}: {name}", unit=unit, measured=measured, most=most)


TARGETS: Final = (
    Target(
        text="load and upstream alone, 1,000 paced streams opened at once: stretch",
        unit="%",
        measured=median("paced burst", "direct", "1000", "stretch"),
        most=HARNESS_STRETCH_MAX,
    ),
    Target(
        text="load and upstream alone, 1,000 paced streams open: stretch",
        unit="%",
        measured=median("paced steady", "direct", "1000", "stretch"),
        most=HARNESS_STRETCH_MAX,
    ),
    Target(
        text="load and upstream alone, 1,000 paced streams open: token delay, p99",
        unit="ms",
        measured=median("paced steady", "direct", "1000", "token_p99_ms"),
        most=HARNESS_TOKEN_MS_MAX,
    ),
    *paced(),
    Target(
        text="CPU of a token, 1,000 paced streams opened at once",
        unit="us",
        measured=median("paced burst", "ours", "1000", "cpu_us"),
        most=17.0,
    ),
    Target(
        text="10 paced streams open: token delay beyond that of load and upstream, p99",
        unit="ms",
        measured=beyond_direct("paced steady", "10", "token_p99_ms"),
        most=1.0,
    ),
    Target(
        text="CPU of a unary call / least grpcio relay",
        unit="x",
        measured=ratio("unary", "16", "cpu_us", of="ours", to="relay"),
        most=1.4,
    ),
    Target(
        text="CPU of a trickling token / least grpcio relay, 100 streams",
        unit="x",
        measured=ratio("trickle", "100", "cpu_us", of="ours", to="relay"),
        most=1.1,
    ),
    Target(
        text="CPU of a unary call, keys, tenants, traces, JSON log and scrapes / without them",
        unit="x",
        measured=ratio("unary", "16", "cpu_us", of="ours-production", to="ours"),
        most=1.25,
    ),
    Target(
        text="CPU of a streamed token at saturation / bare grpcio message",
        unit="x",
        measured=ratio("burst", "8", "cpu_us", of="ours", to="bare"),
        most=0.6,
    ),
    Target(
        text="added to a unary call at a tenth of capacity, p50",
        unit="ms",
        measured=median("added latency", "ours", "10", "p50_ms"),
        most=1.0,
    ),
    Target(
        text="added to a unary call at a tenth of capacity, p99",
        unit="ms",
        measured=median("added latency", "ours", "10", "p99_ms"),
        most=3.0,
    ),
    Target(
        text="LiteLLM / ours over HTTP, CPU of a unary call",
        unit="x",
        measured=ratio("unary", "16", "cpu_us", of="litellm", to="ours-http"),
        least=20.0,
    ),
    Target(
        text="Portkey / ours over HTTP, CPU of a unary call",
        unit="x",
        measured=ratio("unary", "16", "cpu_us", of="portkey", to="ours-http"),
        least=5.0,
    ),
    Target(
        text="LiteLLM / ours, CPU of a token, burst",
        unit="x",
        measured=ratio("burst", "8", "cpu_us", of="litellm", to="ours"),
        least=40.0,
    ),
    Target(
        text="ours / SMG, CPU of a token, burst",
        unit="x",
        measured=ratio("burst", "8", "cpu_us", of="ours", to="smg"),
        most=1.5,
    ),
    Target(
        text="memory of each of 10,000 open streams",
        unit="KiB",
        measured=median("open streams", "ours", "10000", "kib_a_stream"),
        most=45.0,
    ),
    Target(
        text="health while 10,000 streams are open, p99",
        unit="ms",
        measured=median("open streams", "ours", "10000", "health_p99_ms"),
        most=50.0,
    ),
    Target(
        text="2 workers / 1 worker, by the CPU of a call",
        unit="x",
        measured=two_workers,
        least=1.8,
    ),
    Target(
        text="CPU of a token, 1,000 streams / 1 stream",
        unit="x",
        measured=thousand_to_one,
        most=FLAT,
    ),
    Target(
        text="start until SERVING",
        unit="s",
        measured=median("start", "ours", "", "seconds"),
        most=0.6,
    ),
    Target(
        text="import of the client library",
        unit="s",
        measured=median("import", "ours", "", "seconds"),
        most=0.3,
    ),
)
