"""The targets: a table of bounds, each with the figures that it is computed from. Pure.

A target is a ratio of medians within one run, or a time that any machine can meet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.samples import Results
from bench.starts import scaling

Reading = Callable[[Results], float | None]
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


def added_first_token_to_smg(results: Results) -> float | None:
    ours, smg, direct = (
        results.median("first token", name, "1", "p50_ms") for name in ("ours", "smg", "direct")
    )
    if ours is None or smg is None or direct is None or smg <= direct:
        return None
    return (ours - direct) / (smg - direct)


def two_workers(results: Results) -> float | None:
    one, two = (results.median("workers", "ours", count, "cpu_us") for count in ("1", "2"))
    return scaling(one, two, 2) if one and two else None


def thousand_to_one(results: Results) -> float | None:
    one, thousand = (
        results.median("streams in flight", "ours", streams, "cpu_us") for streams in ("1", "1000")
    )
    return thousand / one if one and thousand else None


def against(peer: str, name: str, figure: str, variant: str) -> Reading:
    """Read the ratio of a peer's CPU to ours."""
    return ratio(figure, variant, "cpu_us", of=peer, to=name)


TARGETS: Final = (
    Target(
        text="CPU of a unary call / bare grpcio handler",
        unit="x",
        measured=ratio("unary", "16", "cpu_us", of="ours", to="bare"),
        most=3.0,
    ),
    Target(
        text="the same, the next step",
        unit="x",
        measured=ratio("unary", "16", "cpu_us", of="ours", to="bare"),
        most=2.0,
    ),
    Target(
        text="CPU of a streamed token at saturation / bare grpcio message",
        unit="x",
        measured=ratio("burst", "8", "cpu_us", of="ours", to="bare"),
        most=0.6,
    ),
    Target(
        text="CPU of a trickling token / bare grpcio message that trickles",
        unit="x",
        measured=ratio("trickle", "100", "cpu_us", of="ours", to="bare"),
        most=2.0,
    ),
    Target(
        text="added to a trickling token, p99, 10 streams",
        unit="ms",
        measured=beyond_direct("trickle", "10", "token_p99_ms"),
        most=2.0,
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
        text="LiteLLM / ours, CPU of a unary call",
        unit="x",
        measured=against("litellm", "ours", "unary", "16"),
        least=20.0,
    ),
    Target(
        text="LiteLLM / ours, CPU of a token, burst",
        unit="x",
        measured=against("litellm", "ours", "burst", "8"),
        least=40.0,
    ),
    Target(
        text="Portkey / ours, CPU of a unary call",
        unit="x",
        measured=against("portkey", "ours", "unary", "16"),
        least=5.0,
    ),
    Target(
        text="LiteLLM / ours over HTTP, CPU of a unary call",
        unit="x",
        measured=against("litellm", "ours-http", "unary", "16"),
        least=15.0,
    ),
    Target(
        text="Portkey / ours over HTTP, CPU of a unary call",
        unit="x",
        measured=against("portkey", "ours-http", "unary", "16"),
        least=3.0,
    ),
    Target(
        text="ours / SMG, CPU of a token, burst",
        unit="x",
        measured=against("ours", "smg", "burst", "8"),
        most=1.5,
    ),
    Target(
        text="ours / SMG, CPU of a unary call",
        unit="x",
        measured=against("ours", "smg", "unary", "16"),
        most=4.0,
    ),
    Target(
        text="ours / SMG, added before the first token, p50",
        unit="x",
        measured=added_first_token_to_smg,
        most=2.0,
    ),
    Target(
        text="stretch of 100 paced streams",
        unit="%",
        measured=median("trickle", "ours", "100", "stretch"),
        most=0.02,
    ),
    Target(
        text="first token of 100 paced streams, p50",
        unit="ms",
        measured=median("trickle", "ours", "100", "first_token_p50_ms"),
        most=60.0,
    ),
    Target(
        text="memory of each of 10,000 open streams",
        unit="KiB",
        measured=median("open streams", "ours", "10000", "kib_a_stream"),
        most=80.0,
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
        most=1.0,
    ),
    Target(
        text="import of the client library",
        unit="s",
        measured=median("import", "ours", "", "seconds"),
        most=0.3,
    ),
)
