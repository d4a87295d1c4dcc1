"""Renders a run as Markdown: targets first, then every figure by contestant. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.contestants import BY_NAME
from bench.paced import FAILED
from bench.samples import NOISY_SPREAD, Results, Sample, Summary
from bench.targets import Entry, Verdict, judged


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
    causes: bool = False
    """Whether the last column has the causes of failed streams, or why a load was not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The results of a run, read from JSON."""

    commit: str
    date: str
    machine: Mapping[str, str]
    seconds: int
    left_out: Sequence[str]
    failures: Sequence[Mapping[str, str]]
    results: Results


CPU_CALL: Final = Column(title="CPU a call, us", value="cpu_us")
CPU_TOKEN: Final = Column(title="CPU a token, us", value="cpu_us", digits=1)
PACED_COLUMNS: Final = (
    Column(title="first token p50, ms", value="first_token_p50_ms"),
    Column(title="p99, ms", value="first_token_p99_ms"),
    Column(title="stretch, %", value="stretch", digits=1, scale=100),
    Column(title="token delay p99, ms", value="token_p99_ms", digits=1),
    CPU_TOKEN,
    Column(title="load and upstream, % of their cores", value="harness_share", scale=100),
    Column(title="failed", value="failed"),
)
TABLES: Final = (
    Table(
        figure="paced steady",
        title="Paced streams in steady state: 50 tokens a second each, arrivals evenly spread",
        variant="open",
        columns=PACED_COLUMNS,
        causes=True,
    ),
    Table(
        figure="paced burst",
        title="Paced streams in a burst: 50 tokens a second each, all opened in the same instant",
        variant="streams",
        columns=PACED_COLUMNS,
        causes=True,
    ),
    Table(
        figure="paced workers",
        title="2,000 paced streams on two workers",
        variant="arrivals",
        columns=PACED_COLUMNS,
        causes=True,
    ),
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
THOUSAND: Final = 1000
HOLDS: Final[Mapping[bool | None, str]] = {True: "holds", False: "**does not hold**", None: "not measured"}


def read(found: Mapping[str, Any]) -> Report:  # pyright: ignore[reportExplicitAny]  JSON of our own
    return Report(
        commit=found["commit"],
        date=found["date"],
        machine=found["machine"],
        seconds=found["seconds"],
        left_out=found["left_out"],
        failures=found["failures"],
        results=Results([Sample(**sample) for sample in found["samples"]]),
    )


def markdown(report: Report, earlier: Entry | None = None) -> str:
    parts = ["# Results", machine(report), "## Targets", targets(judged(report.results), earlier)]
    for table in TABLES:
        if report.results.variants(table.figure):
            parts += [f"## {table.title}", rows(table, report)]
    if remarks := left_out(report):
        parts += ["## Left out", remarks]
    return "\n\n".join(parts) + "\n"


def kind(machine: Mapping[str, str]) -> str:
    """Return what must be equal for two runs to be compared."""
    return ", ".join(f"{name} {machine[name]}" for name in ("CPU", "cores", "Python") if name in machine)


def machine(report: Report) -> str:
    facts = ", ".join(f"{name} {text}" for name, text in report.machine.items())
    return (
        f"Commit {report.commit}, {report.date}. {facts}. The run took {report.seconds} s.\n"
        "Medians of the rounds, with the least and the most; `~` marks a spread of more than "
        f"{NOISY_SPREAD:.0%}. Compare within a run: figures of two machines, or of two runs, do not compare."
    )


def targets(verdicts: Sequence[Verdict], earlier: Entry | None = None) -> str:
    """Render the targets, with the values of an earlier run if there is one."""
    titles = ["target", "bound", "measured", "", *([f"before ({earlier.commit})"] if earlier else [])]
    lines = [_row(titles), "|---" * len(titles) + "|"]
    for verdict in verdicts:
        target = verdict.target
        bound = f"<= {amount(target.most, target.unit)}" if target.most is not None else ""
        bound = bound or f">= {amount(target.least, target.unit)}"
        cells = [target.text, bound, amount(verdict.measured, target.unit), HOLDS[verdict.holds]]
        if earlier:
            then = earlier.targets.get(target.text)
            worse = ", **worse now**" if verdict.is_worse_than(then) else ""
            cells.append(f"{amount(then, target.unit)}{worse}")
        lines.append(_row(cells))
    return "\n".join(lines)


def amount(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == "%":
        return f"{value * 100:.1f}%"
    number = f"{value:,.0f}" if value >= THOUSAND else f"{value:.3g}"
    return f"{number} {unit}".strip()


def rows(table: Table, report: Report) -> str:
    titles = ["contestant", *([table.variant] if table.variant else [])]
    titles += [*(column.title for column in table.columns), *(["causes"] if table.causes else [])]
    lines = [_row(titles), "|---" * len(titles) + "|"]
    results = report.results
    for variant in results.variants(table.figure):
        for name in results.contestants(table.figure):
            cells = [
                cell(results.summary(table.figure, name, variant, column.value), column)
                for column in table.columns
            ]
            if table.causes:
                cells.append(causes(table.figure, name, variant, report))
            if any(cells):
                lines.append(_row([label(name), *([variant] if table.variant else []), *cells]))
    return "\n".join(lines)


def causes(figure: str, contestant: str, variant: str, report: Report) -> str:
    """Return why streams failed, or why the load was not measured."""
    counted = Counter[str]()
    for sample in report.results.samples:
        if (sample.figure, sample.contestant, sample.variant) == (figure, contestant, variant):
            for name, count in sample.values.items():
                if name.startswith(FAILED):
                    counted[name.removeprefix(FAILED)] += round(count)
    texts = [f"{count:,} x {cause}" for cause, count in counted.most_common()]
    place = (figure, contestant, variant)
    texts += [
        failure["reason"]
        for failure in report.failures
        if place == (failure["figure"], failure["contestant"], failure["variant"])
    ]
    return "; ".join(dict.fromkeys(texts)).replace("|", "/")


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
    in_tables = {table.figure for table in TABLES if table.causes and report.results.variants(table.figure)}
    for failure in report.failures:
        if failure["figure"] in in_tables:
            continue
        where = " ".join(text for text in (failure["figure"], failure["variant"]) if text)
        lines.append(f"- {label(failure['contestant'])}, {where}: {failure['reason']}")
    return "\n".join(dict.fromkeys(lines))


def label(name: str) -> str:
    return BY_NAME[name].label if name in BY_NAME else name


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
