"""Sending alone: notices that wait in the queue are planned, sent to the sandbox over HTTP and settled by receipts."""

import asyncio
import gc
import os
from time import perf_counter

from bench.machine import Meter
from bench.processes import orderbell
from bench.scratch import Scratch
from bench.seed import seeded, until_settled
from bench.stream import TENANT
from bench.table import Report, Sample, interleave, rate_row
from orderbell.app.clock import system_clock
from orderbell.channels.sandbox import SandboxChannel
from orderbell.core.turn import Shelf
from orderbell.dispatch import Dispatcher
from orderbell.playbooks import shipped_shelf
from orderbell.store.ledger import Ledger
from orderbell.store.postgres import Store

ORDERS = 20_000
AIM_PER_S = 5_000


async def measure(scratch: Scratch, template: str, shelf: Shelf | None = None) -> Sample:
    """One run: from the first look at the queue to the last receipt."""
    ledger = scratch.folder / f"ledger-{perf_counter():.6f}.jsonl"
    async with (
        scratch.store(template) as store,
        orderbell("sandbox", "--port", "0", "--ledger", str(ledger), says="The sandbox listens") as sandbox,
    ):
        channel = SandboxChannel(sandbox.word)
        dispatcher = Dispatcher(Ledger(store), {TENANT: shelf or shipped_shelf()}, [channel], now=system_clock)
        try:
            return await drained(dispatcher, store, postgres=scratch.pid, sandbox=sandbox.pid)
        finally:
            await channel.close()


async def drained(dispatcher: Dispatcher, store: Store, **pids: int) -> Sample:
    """Let a dispatcher run until the queue is empty and the last receipt is there; `pids` are of who works besides."""
    gc.collect()
    meter = Meter({"worker": os.getpid(), **pids})
    began = perf_counter()
    running = asyncio.create_task(dispatcher.run())
    try:
        await until_settled(store.pool.fetchval)
        seconds = perf_counter() - began
        spent = meter.read()
        count: int = await store.pool.fetchval("SELECT count(*) FROM message WHERE provider <> 'inbox'")
    finally:
        await dispatcher.close()
        await running
    return Sample(count, seconds, spent)


async def run(report: Report, rounds: int, scale: float, scratch: Scratch) -> None:
    """Add the rows of this bench."""
    async with seeded(scratch, int(ORDERS * scale), queued=True) as (template, _):
        samples = await interleave(rounds, {"dispatch": lambda: measure(scratch, template)})
    sent = samples["dispatch"]
    note = f"{sent[-1].count:,} messages of as many people"
    report.rows.append(rate_row("dispatch", "messages planned, sent and settled", "/s", sent, aim=AIM_PER_S, note=note))
