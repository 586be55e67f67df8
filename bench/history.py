"""Past orders: the backtest in memory on one core, and the replay through PostgreSQL and the sandbox."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.scratch import Scratch
from bench.stream import SECRET
from bench.table import Report, Row, Sample, interleave, rate_row

BACKTEST_AIM_S = 60
QUICK_ORDERS = 2_000


async def run(report: Report, rounds: int, scale: float, scratch: Scratch, folder: Path) -> None:
    """Add the rows of this bench; whole runs take a minute each, so there are three at most."""
    if not (folder / "orders.parquet").exists():
        report.skipped["history"] = f"there are no Olist orders in {folder.name}/; name their folder with --history"
        return
    limit = [] if scale == 1 else ["--limit", str(QUICK_ORDERS)]

    async def backtest() -> Sample:
        return await _measure(["backtest", "--history", str(folder), *limit], {})

    async def replay() -> Sample:
        async with scratch.database() as dsn:
            return await _measure(
                ["replay", "olist", str(folder), *limit],
                {"ORDERBELL_DATABASE_URL": dsn, "ORDERBELL_SECRET_KEY": SECRET.hex()},
            )

    samples = await interleave(min(rounds, 3), {"backtest": backtest, "replay": replay})
    tested, replayed = samples["backtest"], samples["replay"]
    orders = f"{tested[-1].figures['orders']:,.0f} orders, {tested[-1].count:,} events"
    report.rows += [
        Row(
            bench="history", what="backtest of the Olist orders, reading them included", unit="s",
            values=[s.seconds for s in tested], aim=BACKTEST_AIM_S if not limit else None, at_most=True, note=orders,
        ),
        rate_row("history", "replay through PostgreSQL and the sandbox, events", "/s", replayed, note=orders),
        Row(
            bench="history", what="event committed to provider's answer in the replay, p99", unit="ms",
            values=[s.figures["handover_p99_ms"] for s in replayed], at_most=True,
        ),
    ]  # fmt: skip


async def _measure(arguments: list[str], variables: Mapping[str, str]) -> Sample:
    """Run a command with --json; a backtest is timed from outside, a replay as it times itself."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORDERBELL_")}
    began = perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orderbell", *arguments, "--json", stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL, env=environment | dict(variables),
    )  # fmt: skip
    printed, _ = await process.communicate()
    seconds = perf_counter() - began
    assert process.returncode == 0, f"orderbell {' '.join(arguments)} failed"
    summary: dict[str, Any] = json.loads(printed)
    figures = {"orders": float(summary["order_count"]), "handover_p99_ms": float(summary.get("handover_p99_ms") or 0)}
    return Sample(summary["event_count"], summary["seconds"] if variables else seconds, {}, figures)
