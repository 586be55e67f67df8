"""Backtests, replays and scenarios for the command line: reads, runs, shows progress."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from orderbell.app.database import open_database, open_store
from orderbell.app.replay import Progress, Replay
from orderbell.app.sandboxed import sandbox_process
from orderbell.app.terminal import progress_bar
from orderbell.core.turn import Shelf
from orderbell.errors import HistoryUnreadable, PlaybookInvalid
from orderbell.insight.backtest import run_backtest
from orderbell.insight.comparison import Comparison, compare
from orderbell.insight.page import language_of, render_page
from orderbell.insight.recording import Contender
from orderbell.insight.scenarios import Host, MemoryScenarioHost, Report, Scenario, read_scenarios, run_scenario
from orderbell.insight.summary import Summary, Tally
from orderbell.playbooks import SHIPPED_NAMES, load_playbook, shipped_shelf
from orderbell.settings import Settings
from orderbell.sources.olist import History, read_olist
from orderbell.store.tenants import add_tenant

READERS = {"olist": read_olist}
CONNECTIONS = 12


def read_history(folder: Path, limit: int | None, tenant: str, kind: str = "olist") -> History:
    """Read a folder of past orders; HistoryUnreadable says what is missing."""
    if kind not in READERS:
        raise HistoryUnreadable(f"there is no reader for {kind!r}; known: {', '.join(READERS)}")
    return READERS[kind](folder, tenant=tenant, limit=limit)


def backtest(folder: Path, shelf: Shelf, limit: int | None, console: Console) -> Summary:
    """Run past orders through the pure core, in memory."""
    history = read_history(folder, limit, "backtest")
    tally = Tally(history.promises, history.delivered, history.late)
    with progress_bar(console, "Deciding", history.event_count) as (bar, task):
        summary, _ = run_backtest(
            history.events, shelf, tally, tenant="backtest", progress=lambda count: bar.advance(task, count)
        )  # fmt: skip
    return summary


def contenders(playbook: Path | None, against: str) -> tuple[Contender, Contender]:
    """Both sides of a comparison: `against` (a shipped name, or a file), and the file of the newer one.

    Without a file the shipped retail playbook is the newer one. What followed the older playbook, or the one that it
    extends, follows the newer: whatever it is called. PlaybookInvalid where either is not there or faulty.
    """
    shelf = shipped_shelf()
    old = shelf.playbooks.get(against)
    if old is None:
        if not Path(against).is_file():
            known = ", ".join(SHIPPED_NAMES)
            raise PlaybookInvalid(f"there is no playbook {against!r} to compare with; name a file, or one of: {known}")
        old = load_playbook(Path(against))
    new = load_playbook(playbook) if playbook is not None else shelf.playbooks[shelf.default]
    names = {old.name, new.name} | ({old.spec.extends} & set(SHIPPED_NAMES))
    sides = (Shelf(shelf.playbooks | dict.fromkeys(names, book), book.name) for book in (old, new))
    before, after = sides
    return Contender(Path(against).stem, before), Contender(playbook.stem if playbook else new.name, after)


def compare_backtests(
    folder: Path, before: Contender, after: Contender, limit: int | None, console: Console
) -> Comparison:
    """Run past orders under two playbooks, in memory, one after the other."""
    history = read_history(folder, limit, "backtest")
    with progress_bar(console, "Comparing", 2 * history.event_count) as (bar, task):

        def advance(count: int) -> None:
            bar.advance(task, count)
            side = before if bar.tasks[0].completed < history.event_count else after
            bar.update(task, word=side.label)

        return compare(history, before, after, tenant="backtest", progress=advance)


def write_page(path: Path, comparison: Comparison, language: str = "") -> None:
    """Write a comparison as one HTML page; without a language in that of the newer playbook."""
    text = render_page(comparison, language_of(language or comparison.locale))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as wrong:
        raise HistoryUnreadable(
            f"{path}: the page cannot be written: {wrong.strerror}; name a file elsewhere"
        ) from None


async def replay(
    kind: str, folder: Path, shelf: Shelf, *, limit: int | None, settings: Settings, console: Console
) -> tuple[str, Summary]:
    """Run past orders through PostgreSQL and the sandbox, under a tenant of their own; its name and the figures."""
    tenant = f"{kind}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    history = await asyncio.to_thread(read_history, folder, limit, tenant, kind)
    tally = Tally(history.promises, history.delivered, history.late)
    with progress_bar(console, "Replaying", history.event_count) as (bar, task):

        def show(progress: Progress) -> None:
            word = f"{progress.at:%Y-%m-%d}, {progress.message_count:,} messages handed over"
            bar.update(task, completed=progress.event_count, word=word)

        async with (
            open_database(settings) as dsn,
            open_store(dsn, settings, CONNECTIONS) as store,
            sandbox_process(settings) as url,
        ):
            await add_tenant(store.pool, tenant, shelf)
            run = Replay(store, shelf, url, tenant=tenant)
            summary = await run.run(history.events, tally, first_at=history.first_at, progress=show)
    return tenant, summary


async def simulate(files: Sequence[Path], shelf: Shelf) -> list[Report]:
    """Run scenario files in memory."""

    async def open_host(scenario: Scenario, _start: datetime) -> Host:
        return MemoryScenarioHost(shelf, scenario)

    return [await run_scenario(scenario, shelf, open_host) for file in files for scenario in read_scenarios(file)]
