"""How results look in a terminal: summaries, time lines, progress."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from orderbell.core.durations import format_duration
from orderbell.insight.comparison import Comparison, Example, Line
from orderbell.insight.page import signed
from orderbell.insight.page_words import FIGURES, name_of
from orderbell.insight.scenarios import Report
from orderbell.insight.summary import SMS_FEN, Lateness, Summary

LIGHTS = {"red": "red", "yellow": "yellow", "green": "green"}
OWN = {"event": "cyan", "message": "green"}


@contextmanager
def progress_bar(console: Console, what: str, total: int) -> Iterator[tuple[Progress, TaskID]]:
    """A progress bar on standard error for long work: how far, how long so far, how long still, and a word."""
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[word]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        yield bar, bar.add_task(what, total=total, word="")


def show_summary(console: Console, summary: Summary, *, title: str) -> None:
    """The figures of a replay or backtest, as tables."""
    console.rule(title)
    console.print(
        f"[bold]{summary.event_count:,}[/] events of [bold]{summary.order_count:,}[/] orders, {summary.step_count:,}"
        f" journal lines, in [bold]{summary.seconds:.1f} s[/]: [bold]{summary.events_per_s:,.0f} events/s[/]"
    )
    console.print(_pairs("Stage", "orders", summary.stages))
    lights = "  ".join(f"[{LIGHTS[name]}]●[/] {name} {count:,}" for name, count in summary.lights.items())
    console.print(f"Lights: {lights}")
    console.print(_pairs("Anomaly", "orders", summary.anomalies))
    console.print(_topics(summary))
    console.print(
        f"{summary.message_count:,} messages; {summary.sms_segment_count:,} SMS parts at {SMS_FEN} fen:"
        f" [bold]¥{summary.sms_cost_yuan:,.2f}[/]; {summary.case_count:,} cases for people"
    )
    console.print(
        f"From event to message, by the playbook (merge windows, receiving hours): median {summary.wait_median_s:g} s,"
        f" p99 {summary.wait_p99_s:g} s"
    )
    if summary.handover_p99_ms is not None:
        console.print(
            f"From event committed to provider's answer, by the machine at full load: median"
            f" {summary.handover_median_ms:g} ms, p99 {summary.handover_p99_ms:g} ms"
        )
    if summary.messages_by_status:
        words = ", ".join(f"{name} {count:,}" for name, count in sorted(summary.messages_by_status.items()))
        console.print(f"Messages by status: {words}")
    if summary.lateness is not None:
        show_lateness(console, summary.lateness)


def show_lateness(console: Console, lateness: Lateness) -> None:
    """How the late orders were told."""
    console.print(
        f"[bold]{lateness.late_count:,}[/] orders came after the promised day:"
        f" [bold]{lateness.told_before_count:,}[/] were told before it had passed (median {lateness.lead_median_h:g} h"
        f" ahead), {lateness.told_after_count:,} after it (median {lateness.told_after_median_h:g} h, p99"
        f" {lateness.told_after_p99_h:g} h), {lateness.never_told_count:,} never."
        f" {lateness.false_alarm_count:,} orders were warned of and came in time."
    )


def show_comparison(console: Console, comparison: Comparison) -> None:
    """What another playbook would change, from totals to single orders."""
    before, after = comparison.before.label, comparison.after.label
    console.rule(f"{before} → {after}: {comparison.order_count:,} orders, {comparison.event_count:,} events")
    if comparison.is_same:
        console.print("On these orders the two playbooks do exactly the same.")
    figures = [(FIGURES["en"][found.name][0], found.before, found.after) for found in comparison.figures]
    topics = [(found.topic, found.before, found.after) for found in comparison.topics]
    channels = [(found.name, found.before, found.after) for found in comparison.channels]
    for name, rows in (("Figure", figures), ("Topic", topics), ("Channel", channels)):
        console.print(_differences(name, (before, after), rows))
    moved = [found for found in comparison.topics if found.later_count or found.sooner_count]
    for found in moved:
        words = f"{found.later_count:,} orders later, {found.sooner_count:,} sooner, median"
        console.print(f"{found.topic}: {words} {signed(found.shift_median_h)} h", highlight=False)
    people = comparison.people
    console.print(
        f"[bold]{people.more_count:,}[/] people are interrupted more often, [bold]{people.fewer_count:,}[/] less often,"
        f" {people.same_count:,} as often."
    )
    bounds = [
        (
            f"{found.kind} {found.reason}"
            + (f" ({found.cap.name}: {found.cap.most} per {found.cap.per} in {found.cap.within})" if found.cap else ""),
            found.before, found.after,
        )
        for found in comparison.bounds
    ]  # fmt: skip
    if bounds:
        console.print(_differences("What would bind", (before, after), bounds))
    for example in comparison.examples:
        _show_example(console, example, (before, after))


def _differences(name: str, sides: tuple[str, str], rows: Iterable[tuple[str, float, float]]) -> Table:
    table = Table(name, *sides, "difference", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for label, before, after in rows:
        table.add_row(label, f"{before:,}", f"{after:,}", signed(after - before))
    return table


def _show_example(console: Console, example: Example, sides: tuple[str, str]) -> None:
    kind, count = name_of("en", f"kind.{example.kind}"), f"{example.like_count:,}"
    console.print(f"[bold]{kind}[/] ({count} like this): {escape(example.order_no)}", highlight=False)
    for side, lines in zip(sides, (example.before, example.after), strict=True):
        console.print(f"   [cyan]{escape(side)}[/]", highlight=False)
        for line in lines:
            console.print(f"   {_line(line)}", highlight=False, markup=False, soft_wrap=True)


def _line(line: Line) -> str:
    mark = "" if line.mark == "same" else f" ({name_of('en', f'mark.{line.mark}')})"
    return f"{line.at:%m-%d %H:%M}  {line.channel:<6} {line.topic}{mark}: {line.text}"


def show_report(console: Console, report: Report, *, timeline: bool) -> None:
    """A scenario: its time line, and what failed."""
    scenario = report.scenario
    mark = "[red]✗[/]" if report.failures else "[green]✓[/]"
    console.print(f"{mark} [bold]{scenario.id}[/] {scenario.says}", highlight=False, soft_wrap=True)
    if timeline:
        for at, kind, words in report.timeline:
            console.print(f"   {format_duration(at):>8}  [{OWN[kind]}]{kind:<8}[/]", end="")
            console.print(words, highlight=False, markup=False, soft_wrap=True)
    for failure in report.failures:
        console.print("   [red]failed[/] ", end="")
        console.print(failure, highlight=False, markup=False, soft_wrap=True)


def _pairs(name: str, unit: str, counts: Mapping[str, int]) -> Table:
    table = Table(name, unit, title_justify="left", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for key, count in counts.items():
        table.add_row(key, f"{count:,}")
    return table


def _topics(summary: Summary) -> Table:
    channels = sorted({channel for counts in summary.topics.values() for channel in counts})
    table = Table("Topic", *channels, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for topic, counts in summary.topics.items():
        table.add_row(topic, *(f"{counts[channel]:,}" if channel in counts else "" for channel in channels))
    return table
