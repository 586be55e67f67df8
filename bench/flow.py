"""All the way: events posted to `orderbell web`, decided, told by `orderbell worker`, settled by receipts.

Each order stands in the middle of its life and gets one piece of news. Four processes share the machine: web, worker,
PostgreSQL, and the sandbox that plays the provider.
"""

import gc
import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import asyncpg

from bench.client import drive, pace, request_bytes
from bench.machine import Meter
from bench.processes import Started, orderbell
from bench.scratch import Scratch
from bench.seed import seeded, until_settled
from bench.stream import Cut, Happening, batches_of
from bench.table import Report, Row, Sample, figure_row, interleave, percentile, rate_row

ORDERS = 20_000
BATCH = 100
LINES = 16
MESSAGES_AIM_PER_S = 5_000
HAND_OVER_AIM_P99_MS = 250
HALF_LOAD_S = 15
SMALL_BATCH = 10


class _House:
    """The processes of a run, and a connection to look at the database."""

    def __init__(
        self,
        web: Started,
        worker: Started,
        sandbox: Started,
        ledger: Path,
        database: "asyncpg.Connection[asyncpg.Record]",
    ) -> None:
        self.web, self.worker, self.sandbox, self.ledger, self.database = web, worker, sandbox, ledger, database

    def meter(self, scratch: Scratch) -> Meter:
        """Begin to count processor time."""
        return Meter(
            {
                "client": os.getpid(), "web": self.web.pid, "worker": self.worker.pid, "postgres": scratch.pid,
                "sandbox": self.sandbox.pid,
            }
        )  # fmt: skip

    async def settled(self) -> int:
        """Wait until nothing is due or under way any more; how many messages there are."""
        await until_settled(self.database.fetchval)
        count: int = await self.database.fetchval("SELECT count(*) FROM message WHERE provider <> 'inbox'")
        return count


@asynccontextmanager
async def _house(scratch: Scratch, template: str) -> AsyncIterator[_House]:
    ledger = scratch.folder / f"ledger-{perf_counter():.6f}.jsonl"
    async with (
        scratch.database(template) as dsn,
        orderbell("sandbox", "--port", "0", "--ledger", str(ledger), says="The sandbox listens") as sandbox,
        orderbell("web", says="OrderBell listens", settings={"database_url": dsn, "port": "0"}) as web,
        orderbell(
            "worker", says="OrderBell works", settings={"database_url": dsn, "sandbox_url": sandbox.word}
        ) as worker,
    ):
        database = await asyncpg.connect(dsn)
        try:
            yield _House(web, worker, sandbox, ledger, database)
        finally:
            await database.close()


async def at_full_load(scratch: Scratch, template: str, news: Sequence[Happening]) -> Sample:
    """One run with everything at once; what counts is messages."""
    queues: list[list[bytes]] = [[] for _ in range(LINES)]
    for number, happening in enumerate(news):
        queues[number % LINES].append(happening.body)
    async with _house(scratch, template) as house:
        requests = [
            [request_bytes(house.web.word, scratch.key, body) for body in batches_of(queue, BATCH)]
            for queue in queues
            if queue
        ]
        gc.collect()
        meter = house.meter(scratch)
        began = perf_counter()
        outcome = await drive(house.web.word, requests)
        fed_s = perf_counter() - began
        count = await house.settled()
        seconds = perf_counter() - began
        spent = meter.read()
    assert outcome.accepted == len(news), f"{outcome.accepted} of {len(news)} accepted"
    return Sample(count, seconds, spent, {"events_per_s": len(news) / fed_s, "seconds": seconds})


async def at_half_load(scratch: Scratch, template: str, news: Sequence[Happening], per_s: float) -> Sample:
    """One run at an even pace of so many events a second, ten a request.

    Waits are from when an event was due to be posted to the moment at which the sandbox took the message.
    """
    news = news[: int(per_s * HALF_LOAD_S)]
    async with _house(scratch, template) as house:
        requests = [
            request_bytes(house.web.word, scratch.key, body)
            for body in batches_of((happening.body for happening in news), SMALL_BATCH)
        ]
        gc.collect()
        meter = house.meter(scratch)
        wall_s, began = time.time() - perf_counter(), perf_counter()
        moments = await pace(house.web.word, requests, per_s / SMALL_BATCH, LINES)
        seconds = perf_counter() - began
        count = await house.settled()
        spent = meter.read()
        posted_s = {
            happening.wire["subject"]: moments[number // SMALL_BATCH] + wall_s for number, happening in enumerate(news)
        }
        waits_ms = _waits_ms(posted_s, {row[0]: row[1] for row in await house.database.fetch(_ATTEMPTS)}, house.ledger)
    figures = {"p50": percentile(waits_ms, 50), "p99": percentile(waits_ms, 99), "events_per_s": len(news) / seconds}
    return Sample(count, seconds, spent, figures)


_ATTEMPTS = "SELECT encode(attempt_id, 'hex'), order_no FROM message WHERE provider <> 'inbox'"


def _waits_ms(posted_s: dict[str, float], order_of: dict[str, str], ledger: Path) -> list[float]:
    waits = []
    for line in ledger.read_text().splitlines():
        entry = json.loads(line)
        order_no = order_of.get(entry["attempt_id"], "")
        if order_no in posted_s:
            taken_s = datetime.fromisoformat(entry["at"]).astimezone(UTC).timestamp()
            waits.append((taken_s - posted_s[order_no]) * 1000)
    return waits


async def run(report: Report, rounds: int, scale: float, scratch: Scratch) -> None:
    """Add the rows of this bench."""
    async with seeded(scratch, int(ORDERS * scale), queued=False) as (template, cut):
        samples = await interleave(rounds, {"full": lambda: at_full_load(scratch, template, cut.news)})
        full = samples["full"]
        share = sum(s.count for s in full) / len(full) / len(cut.news)
        half_per_s = sorted(s.rate for s in full)[len(full) // 2] / share / 2
        halves = [await at_half_load(scratch, template, cut.news, half_per_s) for _ in range(max(1, rounds // 2))]
    report.rows += _rows(full, halves, cut, half_per_s)


def _rows(full: list[Sample], halves: list[Sample], cut: Cut, half_per_s: float) -> list[Row]:
    note = f"{len(cut.news):,} events, {BATCH} a request; {full[-1].count:,} messages; first post to last receipt"
    events = [Sample(len(cut.news), s.figures["seconds"]) for s in full]
    half = f"{half_per_s:,.0f} events a second in requests of {SMALL_BATCH}, for {HALF_LOAD_S} s at most"
    return [
        rate_row("flow", "events in, decided, told and settled", "/s", events),
        rate_row(
            "flow", "messages planned, sent and settled on the way", "/s", full, aim=MESSAGES_AIM_PER_S, note=note
        ),
        figure_row("flow", "event to provider at half load, p50", "ms", halves, "p50", note=half),
        figure_row("flow", "event to provider at half load, p99", "ms", halves, "p99", aim=HAND_OVER_AIM_P99_MS),
    ]
