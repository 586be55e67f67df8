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
from orderbell.errors import HistoryUnreadable
from orderbell.insight.backtest import run_backtest
from orderbell.insight.scenarios import Host, MemoryScenarioHost, Report, read_scenarios, run_scenario
from orderbell.insight.summary import Summary, Tally
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
            open_store(dsn, CONNECTIONS) as store,
            sandbox_process(settings) as url,
        ):
            await add_tenant(store.pool, tenant, shelf)
            run = Replay(store, shelf, url, tenant=tenant)
            summary = await run.run(history.events, tally, first_at=history.first_at, progress=show)
    return tenant, summary


async def simulate(files: Sequence[Path], shelf: Shelf) -> list[Report]:
    """Run scenario files in memory."""

    async def open_host(_start: datetime) -> Host:
        return MemoryScenarioHost(shelf)

    return [await run_scenario(scenario, shelf, open_host) for file in files for scenario in read_scenarios(file)]
