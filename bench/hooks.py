"""What webhooks cost the engine: where nobody listens, where another tenant does, where its own does; and sending."""

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter

from bench import engine
from bench.machine import Meter
from bench.scratch import Scratch
from bench.stream import BEFORE, TENANT, whole_lives
from bench.table import Report, Sample, interleave, rate_row, ratio_row
from orderbell.channels.guarded import GuardedClient
from orderbell.core.events import Event
from orderbell.dispatch.hooks import CHANGES_MAX, Webhooks
from orderbell.sandbox.simulator import Answered, Asked, Simulator
from orderbell.serving import serving
from orderbell.store.changes import CHANGE_TYPES
from orderbell.store.hooks import Hooks, Outbox
from orderbell.store.postgres import Store

AIM_OF_NONE = 0.95
"""A test proves that not one statement more runs; time can only be compared so well."""


class _Receiver(Simulator):
    """Takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    async def answer(self, asked: Asked) -> Answered:
        self.count += 1
        return Answered(body=b"")


async def run(report: Report, rounds: int, scale: float, scratch: Scratch) -> None:
    """Add the rows of this bench."""
    events = [happening.event() for happening in whole_lives(int(4_000 * scale), datetime.now(UTC) - BEFORE)]

    async def decided(tenant: str) -> Sample:
        async with scratch.store() as store:
            if tenant:
                await Hooks(store, tenant).add("https://shop.example/", CHANGE_TYPES, "", datetime.now(UTC))
            return await engine.measure(scratch, store, events)

    async def nobody() -> Sample:
        return await decided("")

    async def others() -> Sample:
        return await decided("other")

    async def mine() -> Sample:
        return await decided(TENANT)

    async def sent() -> Sample:
        async with scratch.store() as store:
            return await _send(scratch, store, events[: int(10_000 * scale)])

    samples = await interleave(rounds, {"nobody": nobody, "others": others, "mine": mine, "sent": sent})
    size = f"{len(events):,} events"
    report.rows += [
        rate_row("hooks", "events decided, nobody has a webhook", "/s", samples["nobody"], note=size),
        rate_row("hooks", "another tenant has one", "/s", samples["others"]),
        rate_row("hooks", "this tenant has one for everything", "/s", samples["mine"]),
        ratio_row("hooks", "another tenant's against nobody's", samples["others"], samples["nobody"], aim=AIM_OF_NONE),
        ratio_row("hooks", "one's own against nobody's", samples["mine"], samples["nobody"]),
        rate_row("hooks", "changes fanned out and delivered", "/s", samples["sent"], note="one receiver, in here"),
    ]


async def _send(scratch: Scratch, store: Store, events: Sequence[Event]) -> Sample:
    receiver = _Receiver()
    async with serving(receiver, stopping=receiver.end_waiting) as url:
        client = GuardedClient(allow_hosts=["127.0.0.1"], ports=range(65536), timeout_s=15)
        await Hooks(store, TENANT).add(url, CHANGE_TYPES, "", datetime.now(UTC) - timedelta(days=1))
        await engine.take_in(store, events)
        meter, began = Meter({"webhooks": os.getpid(), "postgres": scratch.pid}), perf_counter()
        loop = Webhooks(Outbox(store), client, now=lambda: datetime.now(UTC), poll_ms=20)
        total = await store.pool.fetchval("SELECT count(*) FROM change")
        running = asyncio.create_task(loop.run())
        while receiver.count < total or await store.pool.fetchval(_LEFT):  # noqa: ASYNC110 - what is awaited is a row
            await asyncio.sleep(0.05)
        sample = Sample(total, perf_counter() - began, meter.read())
        await loop.close()
        await running
        await client.close()
    assert total > CHANGES_MAX
    return sample


_LEFT = "SELECT EXISTS (SELECT FROM change) OR EXISTS (SELECT FROM hook_delivery WHERE state = 'waiting')"
