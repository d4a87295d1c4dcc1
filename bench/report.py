"""Renders a run as Markdown: targets first, then every figure by contestant. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.contestants import BY_NAME
from bench.samples import NOISY_SPREAD, Results, Sample, Summary
from bench.targets import Verdict, judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One value of a figure, with its scale and digits."""

    title: str
    value: str
    digits: int = 0
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One figure, one row for each contestant and variant."""

    figure: str
    title: str
    variant: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The results of a run, read from JSON."""

    machine: Mapping[str, str]
    seconds: int
    left_out: Sequence[str]
    failures: Sequence[Mapping[str, str]]
    results: Results


CPU_CALL: Final = Column(title="CPU a call, us", value="cpu_us")
CPU_TOKEN: Final = Column(title="CPU a token, us", value="cpu_us", digits=1)
TABLES: Final = (
    Table(
        figure="unary",
        title="Unary calls",
        variant="in flight",
        columns=(
            CPU_CALL,
            Column(title="calls a second", value="per_s"),
            Column(title="p50, ms", value="p50_ms", digits=1),
            Column(title="p99, ms", value="p99_ms", digits=1),
            Column(title="resident, MiB", value="resident_mib"),
        ),
    ),
    Table(
        figure="burst",
        title="Streams of 400 tokens, available at once",
        variant="in flight",
        columns=(
            CPU_TOKEN,
            Column(title="tokens a second", value="per_s"),
            Column(title="bytes a token", value="bytes", digits=1),
        ),
    ),
    Table(
        figure="trickle",
        title="Streams of 400 tokens, 20 ms apart",
        variant="streams",
        columns=(
            CPU_TOKEN,
            Column(title="token delay p50, ms", value="token_p50_ms", digits=2),
            Column(title="p99, ms", value="token_p99_ms", digits=2),
            Column(title="first token p50, ms", value="first_token_p50_ms", digits=1),
            Column(title="stretch, %", value="stretch", digits=1, scale=100),
            Column(title="resident, MiB", value="resident_mib"),
        ),
    ),
    Table(
        figure="first token",
        title="The first token of a stream, one stream at a time",
        variant="streams",
        columns=(
            Column(title="p50, ms", value="p50_ms", digits=2),
            Column(title="p99, ms", value="p99_ms", digits=2),
        ),
    ),
    Table(
        figure="added latency",
        title="Latency added to a unary call, against the upstream alone at the same rate",
        variant="% of its capacity",
        columns=(
            Column(title="calls a second", value="rate"),
            Column(title="added p50, ms", value="p50_ms", digits=2),
            Column(title="added p99, ms", value="p99_ms", digits=2),
            Column(title="direct p50, ms", value="p50_direct_ms", digits=2),
            Column(title="direct p99, ms", value="p99_direct_ms", digits=2),
        ),
    ),
    Table(
        figure="streams in flight",
        title="Cost of a token against the number of streams, 400 tokens at once",
        variant="streams",
        columns=(CPU_TOKEN, Column(title="tokens a second", value="per_s")),
    ),
    Table(
        figure="open streams",
        title="Streams held open on one worker",
        variant="streams",
        columns=(
            Column(title="KiB a stream", value="kib_a_stream", digits=1),
            Column(title="resident, MiB", value="resident_mib"),
            Column(title="health p50, ms", value="health_p50_ms", digits=1),
            Column(title="health p99, ms", value="health_p99_ms", digits=1),
        ),
    ),
    Table(
        figure="workers",
        title="Workers, 64 unary calls in flight",
        variant="workers",
        columns=(
            CPU_CALL,
            Column(title="calls a second", value="per_s"),
            Column(title="CPU share of the busiest, %", value="busiest_share", scale=100),
        ),
    ),
    Table(
        figure="start",
        title="Time from the command to the first response",
        variant="",
        columns=(
            Column(title="s", value="seconds", digits=2),
            Column(title="resident, MiB", value="resident_mib"),
        ),
    ),
    Table(
        figure="import",
        title="Import of the client library",
        variant="",
        columns=(Column(title="s", value="seconds", digits=2),),
    ),
)
HOLDS: Final[Mapping[bool | None, str]] = {True: "holds", False: "**does not hold**", None: "not measured"}


def read(found: Mapping[str, Any]) -> Report:  # pyright: ignore[reportExplicitAny]  JSON of our own
    return Report(
        machine=found["machine"],
        seconds=found["seconds"],
        left_out=found["left_out"],
        failures=found["failures"],
        results=Results([Sample(**sample) for sample in found["samples"]]),
    )


def markdown(report: Report) -> str:
    parts = ["# Results", machine(report), "## Targets", targets(judged(report.results))]
    for table in TABLES:
        if report.results.variants(table.figure):
            parts += [f"## {table.title}", rows(table, report.results)]
    if remarks := left_out(report):
        parts += ["## Left out", remarks]
    return "\n\n".join(parts) + "\n"


def machine(report: Report) -> str:
    facts = ", ".join(f"{name} {text}" for name, text in report.machine.items())
    return (
        f"{facts}. The run took {report.seconds} s.\n"
        "Medians of the rounds, with the least and the most; `~` marks a spread of more than "
        f"{NOISY_SPREAD:.0%}. Compare within a run: figures of two machines, or of two runs, do not compare."
    )


def targets(verdicts: Sequence[Verdict]) -> str:
    lines = ["| target | bound | measured | |", "|---|---|---|---|"]
    for verdict in verdicts:
        target = verdict.target
        bound = f"<= {amount(target.most, target.unit)}" if target.most is not None else ""
        bound = bound or f">= {amount(target.least, target.unit)}"
        lines.append(
            f"| {target.text} | {bound} | {amount(verdict.measured, target.unit)} | {HOLDS[verdict.holds]} |"
        )
    return "\n".join(lines)


def amount(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value * 100:.1f}%" if unit == "%" else f"{value:.3g} {unit}"


def rows(table: Table, results: Results) -> str:
    titles = ["contestant", *([table.variant] if table.variant else [])]
    lines = [_row([*titles, *(column.title for column in table.columns)])]
    lines.append("|---" * (len(titles) + len(table.columns)) + "|")
    for variant in results.variants(table.figure):
        for name in results.contestants(table.figure):
            cells = [
                cell(results.summary(table.figure, name, variant, column.value), column)
                for column in table.columns
            ]
            if any(cells):
                lines.append(_row([label(name), *([variant] if table.variant else []), *cells]))
    return "\n".join(lines)


def cell(summary: Summary | None, column: Column) -> str:
    if summary is None:
        return ""
    median, least, most = (
        f"{value * column.scale:,.{column.digits}f}"
        for value in (summary.median, summary.least, summary.most)
    )
    if summary.count == 1:
        return median
    return f"{median} ({least}-{most}){' ~' if summary.spread > NOISY_SPREAD else ''}"


def left_out(report: Report) -> str:
    lines = [f"- {reason}" for reason in report.left_out]
    for failure in report.failures:
        where = " ".join(text for text in (failure["figure"], failure["variant"]) if text)
        lines.append(f"- {label(failure['contestant'])}, {where}: {failure['reason']}")
    return "\n".join(dict.fromkeys(lines))


def label(name: str) -> str:
    return BY_NAME[name].label if name in BY_NAME else name


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
