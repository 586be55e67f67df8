"""How results look in a terminal: summaries, time lines, progress."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
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
