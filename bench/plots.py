"""Plots a run: `python bench/plots.py bench/out/results.json`, in the environment that has matplotlib.

Imports nothing of the benchmark, so that matplotlib and the measured programs never share an environment.
"""

import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

LABELS: Final = {
    "direct": "direct",
    "bare": "bare grpcio",
    "relay": "bare relay",
    "ours": "togetherchat",
    "ours-http": "togetherchat, HTTP",
    "ours-production": "togetherchat, keys and tenants",
    "go": "Go translator",
    "smg": "SMG",
    "portkey": "Portkey",
    "litellm": "LiteLLM",
}
OURS: Final = "#1f6f8b"
OTHERS: Final = {
    "bare": "#9aa5ab",
    "relay": "#6b7a82",
    "go": "#c9a227",
    "smg": "#b5651d",
    "portkey": "#7d5ba6",
    "litellm": "#b03a48",
}
FAINT: Final = "#c8d0d4"
STYLE: Final = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "font.size": 9.5,
    "svg.hashsalt": "bench",
    "figure.dpi": 120,
}

Samples = Sequence[Mapping[str, Any]]
Values = Mapping[str, list[float]]


def by_contestant(samples: Samples, figure: str, variant: str, value: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        if sample["figure"] == figure and sample["variant"] == variant and value in sample["values"]:
            found[sample["contestant"]].append(sample["values"][value])
    return dict(found)


def by_variant(samples: Samples, figure: str, value: str) -> dict[str, dict[float, float]]:
    """Return medians by contestant and load."""
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        if sample["figure"] == figure and value in sample["values"]:
            found[sample["contestant"]][float(sample["variant"])].append(sample["values"][value])
    return {
        name: {load: statistics.median(values) for load, values in sorted(loads.items())}
        for name, loads in found.items()
    }


def colour(name: str) -> str:
    return OURS if name.startswith("ours") else OTHERS.get(name, FAINT)


def bars(axes: Axes, values: Values, *, title: str, unit: str, log: bool = False) -> None:
    """Draw bars, smallest first, with whiskers from the smallest round to the largest."""
    names = sorted(values, key=lambda name: statistics.median(values[name]), reverse=True)
    medians = [statistics.median(values[name]) for name in names]
    below = [median - min(values[name]) for median, name in zip(medians, names, strict=True)]
    above = [max(values[name]) - median for median, name in zip(medians, names, strict=True)]
    axes.barh(
        [LABELS.get(name, name) for name in names],
        medians,
        xerr=[below, above],
        color=[colour(name) for name in names],
        error_kw={"ecolor": "#444", "elinewidth": 0.8, "capsize": 2},
    )
    for row, (median, whisker) in enumerate(zip(medians, above, strict=True)):
        axes.annotate(
            f"{median:,.3g}" if median < 1000 else f"{median:,.0f}",
            (median + whisker, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    if log:
        axes.set_xscale("log")
        axes.set_xlim(10 ** math.floor(math.log10(min(medians))), 2.5 * max(medians))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    else:
        axes.margins(x=0.18)
    axes.set_title(title)
    axes.set_xlabel(unit + (", logarithmic" if log else ""))


def lines(axes: Axes, series: Mapping[str, Mapping[float, float]], *, title: str, x: str, y: str) -> None:
    for name, points in series.items():
        axes.plot(
            list(points),
            list(points.values()),
            marker="o",
            markersize=4,
            linewidth=2.4 if name.startswith("ours") else 1.4,
            linestyle="--" if name == "ours-http" else "-",
            color=colour(name),
            label=LABELS.get(name, name),
        )
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, color="#eee")
    axes.legend(frameon=False)


def without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def cost(samples: Samples) -> plt.Figure:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13.5, 3.6), layout="constrained")
    bars(
        left,
        without(by_contestant(samples, "unary", "16", "cpu_us"), "direct"),
        title="CPU of a unary call",
        unit="microseconds",
        log=True,
    )
    bars(
        middle,
        without(by_contestant(samples, "burst", "8", "cpu_us"), "direct"),
        title="CPU of a token, all at once",
        unit="microseconds",
        log=True,
    )
    bars(
        right,
        without(by_contestant(samples, "trickle", "100", "cpu_us"), "direct"),
        title="CPU of a token, one by one",
        unit="microseconds",
        log=True,
    )
    return figure


def latency(samples: Samples) -> plt.Figure:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13.5, 3.6), layout="constrained")
    for axes, value, title in (
        (left, "p50_ms", "Added to a unary call, p50"),
        (middle, "p99_ms", "Added to a unary call, p99"),
    ):
        lines(
            axes,
            by_variant(samples, "added latency", value),
            title=title,
            x="load, % of its own capacity",
            y="ms over the upstream alone",
        )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    bars(
        right,
        by_contestant(samples, "first token", "1", "p50_ms"),
        title="First token, one stream at a time",
        unit="ms, p50",
        log=True,
    )
    return figure


def streams(samples: Samples) -> plt.Figure:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13.5, 3.6), layout="constrained")
    lines(
        left,
        by_variant(samples, "streams in flight", "cpu_us"),
        title="CPU of a token as streams grow",
        x="streams at once",
        y="microseconds",
    )
    lines(
        middle,
        by_variant(samples, "open streams", "kib_a_stream"),
        title="Memory of an open stream",
        x="streams open",
        y="KiB each",
    )
    lines(
        right,
        by_variant(samples, "open streams", "health_p99_ms"),
        title="Health while they are open, p99",
        x="streams open",
        y="ms",
    )
    for axes in (left, middle, right):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_ylim(bottom=0)
    return figure


def paced(samples: Samples) -> plt.Figure:
    figure, rows = plt.subplots(2, 3, figsize=(13.5, 7.2), layout="constrained")
    for row, name, arrivals in (
        (rows[0], "paced steady", "steady arrivals"),
        (rows[1], "paced burst", "opened at once"),
    ):
        for axes, value, title, unit in (
            (row[0], "first_token_p50_ms", "First token, p50", "ms"),
            (row[1], "stretch", "Stretch", "share of the scripted duration"),
            (row[2], "cpu_us", "CPU of a token", "microseconds"),
        ):
            series = without(by_variant(samples, name, value), "ours-production")
            lines(axes, series, title=f"{title}, {arrivals}", x="paced streams", y=unit)
            axes.set_yscale("symlog", linthresh=0.01) if value == "stretch" else axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_ylim(bottom=0 if value == "stretch" else None)
            axes.set_xticks(sorted({load for points in series.values() for load in points}))
            axes.get_legend().remove()
    drawn = {line.get_label(): line for axes in rows.flat for line in axes.get_lines()}
    figure.legend(drawn.values(), drawn.keys(), frameon=False, loc="outside lower center", ncols=len(drawn))
    return figure


PLOTS: Final[Mapping[str, tuple[tuple[str, ...], Callable[[Samples], plt.Figure]]]] = {
    "cost": (("unary", "burst", "trickle"), cost),
    "latency": (("added latency", "first token"), latency),
    "streams": (("streams in flight", "open streams"), streams),
    "paced": (("paced burst", "paced steady"), paced),
}
"""The plots, each with the figures that it needs."""


def main() -> None:
    results = Path(sys.argv[1])
    samples = json.loads(results.read_text())["samples"]
    measured = {sample["figure"] for sample in samples}
    with plt.rc_context(STYLE):
        for name, (needed, drawn) in PLOTS.items():
            if not measured.issuperset(needed):
                continue
            figure = drawn(samples)
            figure.savefig(results.with_name(f"{name}.svg"), metadata={"Date": None})
            figure.savefig(results.with_name(f"{name}.png"))
            plt.close(figure)


if __name__ == "__main__":
    main()
