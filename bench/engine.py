"""The engine on PostgreSQL, fed in the process, against the floor: its own statements without any logic."""

import asyncio
import gc
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from time import perf_counter

from bench import floor
from bench.machine import Meter
from bench.scratch import Scratch
from bench.stream import BEFORE, TENANT, batches, whole_lives
from bench.table import Report, Sample, interleave, rate_row, ratio_row
from orderbell.core.events import Event
from orderbell.engine import Intake
from orderbell.playbooks import shipped_shelf
from orderbell.store.postgres import Store

LANES = 2
FEEDERS = 20
PORTION = 100
AIM_OF_FLOOR = 0.5


SHELVES = {TENANT: shipped_shelf()}


async def take_in(store: Store, events: Sequence[Event]) -> None:
    """Have events decided as many callers with a hundred each would; each order is one caller's."""
    intake = Intake(store, SHELVES, lanes=LANES)
    shares: list[list[Event]] = [[] for _ in range(FEEDERS)]
    for event in events:
        shares[hash(event.order_no) % FEEDERS].append(event)

    async def feed(share: list[Event]) -> None:
        for portion in batches(share, PORTION):
            for answer in await intake.submit(portion):
                assert answer.status == "accepted", answer

    running = asyncio.create_task(intake.run())
    await asyncio.gather(*map(feed, shares))
    await intake.close()
    await running


async def measure(scratch: Scratch, store: Store, events: Sequence[Event]) -> Sample:
    """One run of the engine."""
    gc.collect()
    meter = Meter({"engine": os.getpid(), "postgres": scratch.pid})
    began = perf_counter()
    await take_in(store, events)
    return Sample(len(events), perf_counter() - began, meter.read())


async def run(report: Report, rounds: int, scale: float, scratch: Scratch) -> None:
    """Add the rows of this bench."""
    events = [happening.event() for happening in whole_lives(int(6_000 * scale), datetime.now(UTC) - BEFORE)]
    async with scratch.store() as store:
        recording, tape = floor.tapped(store)
        await take_in(recording, events)
    lanes = tape.transactions
    count = sum(map(len, lanes))

    async def engine() -> Sample:
        async with scratch.store() as store:
            return await measure(scratch, store, events)

    async def bare() -> Sample:
        async with scratch.store() as store:
            gc.collect()
            meter = Meter({"engine": os.getpid(), "postgres": scratch.pid})
            began = perf_counter()
            await floor.play(store, lanes, events[0].received_at, events[-1].received_at)
            return Sample(len(events), perf_counter() - began, meter.read())

    samples = await interleave(rounds, {"engine": engine, "floor": bare})
    size = f"{len(events):,} events in {count} transactions, {LANES} connections"
    report.rows += [
        rate_row("engine", "events decided and durable", "/s", samples["engine"], note=size),
        rate_row("engine", "the same statements, no logic (floor)", "/s", samples["floor"]),
        ratio_row("engine", "engine against floor", samples["engine"], samples["floor"], aim=AIM_OF_FLOOR),
    ]
