"""Rows of a benchmark: samples of interleaved runs, their median, and what was aimed at."""

from collections.abc import Awaitable, Callable, Mapping
from statistics import median

from msgspec import Struct, field
from rich.console import Console
from rich.table import Table


class Sample(Struct):
    """One run: how much was done in how long, CPU seconds by process, and further figures by name."""

    count: int
    seconds: float
    cpu_s: dict[str, float] = {}
    figures: dict[str, float] = {}

    @property
    def rate(self) -> float:
        """How much was done in a second."""
        return self.count / self.seconds if self.seconds else 0.0


class Row(Struct, kw_only=True):
    """A line of the table: the value of every run in `unit`, and the aim, which `at_most` turns round.

    `cpu_ms` are milliseconds of processor time by process for a thousand things done, the median of the runs.
    """

    bench: str
    what: str
    unit: str
    values: list[float]
    aim: float | None = None
    at_most: bool = False
    cpu_ms: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def median(self) -> float:
        """The middle one of the values."""
        return median(self.values) if self.values else 0.0

    @property
    def verdict(self) -> str:
        """Whether the aim was reached, or by how much it was missed."""
        if self.aim is None or not self.values:
            return ""
        if not self.aim:  # none at all is wanted
            return "reached" if self.median <= 0 else "missed"
        missing = self.median / self.aim - 1 if self.at_most else 1 - self.median / self.aim
        return "reached" if missing <= 0 else f"missed by {missing:.0%}"


class Report(Struct):
    """Everything that a run of the benchmarks prints."""

    machine: dict[str, str]
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    failed: dict[str, str] = {}


Run = Callable[[], Awaitable[Sample]]


async def interleave(rounds: int, runs: Mapping[str, Run]) -> dict[str, list[Sample]]:
    """Run everything once a round, every other round backwards, so that a machine that changes treats all alike."""
    samples: dict[str, list[Sample]] = {name: [] for name in runs}
    for number in range(rounds):
        names = list(runs)[:: -1 if number % 2 else 1]
        for name in names:
            samples[name].append(await runs[name]())
    return samples


def rate_row(
    bench: str, what: str, unit: str, samples: list[Sample], *, aim: float | None = None, note: str = ""
) -> Row:
    """How much was done in a second."""
    return Row(
        bench=bench, what=what, unit=unit, values=[s.rate for s in samples], aim=aim, note=note, cpu_ms=cpu_ms(samples)
    )


def figure_row(
    bench: str, what: str, unit: str, samples: list[Sample], name: str, *, aim: float | None = None, note: str = ""
) -> Row:
    """A further figure of the runs, for which less is better."""
    values = [s.figures[name] for s in samples]
    return Row(bench=bench, what=what, unit=unit, values=values, aim=aim, at_most=True, note=note)


def ratio_row(
    bench: str, what: str, over: list[Sample], under: list[Sample], *, aim: float | None = None, note: str = ""
) -> Row:
    """The rate of each run against that of its neighbour in the same round."""
    values = [first.rate / second.rate for first, second in zip(over, under, strict=True)]
    return Row(bench=bench, what=what, unit="ratio", values=values, aim=aim, note=note)


def cpu_ms(samples: list[Sample]) -> dict[str, float]:
    """Milliseconds of processor time by process for a thousand things done."""
    names = dict.fromkeys(name for sample in samples for name in sample.cpu_s)
    spent = {name: [s.cpu_s[name] / s.count * 1e6 for s in samples if s.count and name in s.cpu_s] for name in names}
    return {name: round(median(values), 1) for name, values in spent.items() if values}


def percentile(values: list[float], share: float) -> float:
    """The value that `share` percent of the values do not exceed (nearest rank); 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))] if ordered else 0.0


def show(console: Console, report: Report) -> None:
    """Print the report as tables."""
    for name, value in report.machine.items():
        console.print(f"[bold]{name}[/]  {value}", highlight=False)
    table = Table(title="Medians of interleaved runs", show_lines=False)
    for heading in ("bench", "what", "median", "lowest … highest", "aim", ""):
        table.add_column(heading, justify="right" if heading in ("median", "aim") else "left", overflow="fold")
    for row in report.rows:
        aim = "" if row.aim is None else f"{'≤' if row.at_most else '≥'} {_figure(row.aim, row.unit)}"
        spread = f"{_figure(min(row.values), '')} … {_figure(max(row.values), '')}" if len(row.values) > 1 else ""
        colour = "green" if row.verdict == "reached" else "red"
        verdict = f"[{colour}]{row.verdict}[/]" if row.verdict else ""
        table.add_row(row.bench, row.what, _figure(row.median, row.unit), spread, aim, verdict)
    console.print(table)
    _show_cpu(console, report)
    for row in report.rows:
        if row.note:
            console.print(f"[dim]{row.bench}: {row.what}: {row.note}[/]", highlight=False)
    for name, why in report.skipped.items():
        console.print(f"[yellow]{name} was left out: {why}[/]", highlight=False)
    for name, why in report.failed.items():
        console.print(f"[red]{name} failed: {why}[/]", highlight=False)


def _show_cpu(console: Console, report: Report) -> None:
    rows = [row for row in report.rows if row.cpu_ms]
    names = list(dict.fromkeys(name for row in rows for name in row.cpu_ms))
    if not rows:
        return
    table = Table(title="Processor time, ms for 1,000")
    for heading in ("bench", "what", *names, "all"):
        table.add_column(heading, justify="left" if heading in ("bench", "what") else "right")
    for row in rows:
        cells = [f"{row.cpu_ms[name]:.0f}" if name in row.cpu_ms else "" for name in names]
        table.add_row(row.bench, row.what, *cells, f"{sum(row.cpu_ms.values()):.0f}")
    console.print(table)


def _figure(value: float, unit: str) -> str:
    words = f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"
    return f"{words} {unit}".strip() if unit != "ratio" else words
