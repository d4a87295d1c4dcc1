"""Draws the dashboard's panels without Grafana, from the data of a Prometheus server.

    python deploy/grafana/picture.py http://127.0.0.1:9090 docs/observability.png --minutes 6

Needs matplotlib, which the environment of `bench/requirements/plots.txt` has. The queries are
those of the dashboard's own table, so the picture shows the same data as Grafana.
"""

import argparse
import io
import json
import math
import re
import time
import urllib.parse
import urllib.request

import matplotlib as mpl

mpl.use("Agg")
from dashboard import ROWS, Panel
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from PIL import Image

STEP_S = 5
UNITS = {
    "reqps": "calls/s",
    "s": "s",
    "percentunit": "share",
    "currencyUSD": "US$",
    "bytes": "MB",
    "d": "days",
    "short": "",
}
SERIES_MAX = 8


def query_range(source: str, expression: str, minutes: float) -> list[dict]:
    """Return the series of a query over the last minutes."""
    end = time.time()
    query = re.sub(r"\$\w+", ".*", expression.replace("$__rate_interval", "30s"))
    parameters = urllib.parse.urlencode(
        {"query": query, "start": end - 60 * minutes, "end": end, "step": STEP_S}
    )
    with urllib.request.urlopen(f"{source}/api/v1/query_range?{parameters}", timeout=30) as response:
        return json.load(response)["data"]["result"]


def legend(template: str, labels: dict) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), template)


def draw(axes: Axes, source: str, panel: Panel, minutes: float) -> None:
    scale = 1e-6 if panel.unit == "bytes" else 1
    for expression, template in panel.queries:
        for series in query_range(source, expression, minutes)[:SERIES_MAX]:
            points = [(when - time.time(), float(value) * scale) for when, value in series["values"]]
            if all(math.isnan(value) for _, value in points):
                continue
            since = [ago_s / 60 for ago_s, _ in points]
            axes.plot(
                since, [value for _, value in points], linewidth=1.2, label=legend(template, series["metric"])
            )
    axes.set_title(panel.title, fontsize=9, loc="left")
    axes.set_ylabel(UNITS[panel.unit], fontsize=7)
    axes.margins(y=0.2)
    axes.set_ylim(bottom=0)
    axes.set_xlim(-minutes, 0)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=6, loc="best", framealpha=0.6)
    else:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color="grey", fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("file")
    parser.add_argument("--minutes", type=float, default=6)
    arguments = parser.parse_args()
    panels = [panel for _, row in ROWS for panel in row if panel.kind == "timeseries"]
    columns = 4
    rows = -(-len(panels) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(17, 2.6 * rows), dpi=70, layout="constrained")
    for axes, panel in zip(grid.flat, panels, strict=False):
        draw(axes, arguments.source, panel, arguments.minutes)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    figure.supxlabel("minutes", fontsize=8)
    drawing = io.BytesIO()
    figure.savefig(drawing)
    # 64 colours are enough for lines, and a quarter of the bytes.
    Image.open(drawing).convert("RGB").quantize(64).save(arguments.file, optimize=True)


if __name__ == "__main__":
    main()
