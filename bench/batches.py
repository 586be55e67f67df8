"""Sending through real protocols: to the simulators of Alibaba and Tencent in batches, settled by their receipts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from bench.dispatch import drained
from bench.processes import module
from bench.providers import approved, channels_to, dispatcher_to, hearing, templates_of
from bench.scratch import Scratch
from bench.seed import seeded
from bench.stream import TENANT, VAULT
from bench.table import Report, Sample, interleave, rate_row
from orderbell.app.clock import system_clock
from orderbell.core.model import Contact, Notice, derive_id, encode_state
from orderbell.dispatch.routes import Routes, Terms
from orderbell.playbooks import shipped_shelf
from orderbell.store.ledger import Ledger
from orderbell.store.postgres import Store

ORDERS = 20_000
AIM_PER_S = 4_000
MESSAGES = 20_000
TOPIC = "shipped"
ALIKE, MIXED = "one topic", "whole lives"
RUNS = {
    f"Alibaba, {ALIKE}": (ALIKE, (1.0, 0.0)),
    f"Alibaba and Tencent 9:1, {ALIKE}": (ALIKE, (9.0, 1.0)),
    f"Tencent, {ALIKE}": (ALIKE, (0.0, 1.0)),
    f"Alibaba, {MIXED}": (MIXED, (1.0, 0.0)),
}
"""What is sent, and the weights of both: a burst of one topic, as after the courier's round, and news of all kinds."""


async def measure(scratch: Scratch, template: str, weights: tuple[float, float]) -> Sample:
    """One run: from the first look at the queue to the last receipt; only SMS goes out."""
    shelf = shipped_shelf()
    codes, _, _ = approved(templates_of(shelf))
    async with scratch.store(template) as store:
        await store.pool.execute("UPDATE contact SET history = NULL")
        ledger = Ledger(store)
        placeholders = channels_to("http://127.0.0.1:9", "http://127.0.0.1:9")
        async with (
            hearing(ledger, placeholders) as site,
            module("bench.simulated", site, says="Providers at") as simulated,
        ):
            channels = channels_to(*simulated.word.split(","))
            used = [one for one, weight in zip(channels, weights, strict=True) if weight]
            terms = {one.name: Terms(weight) for one, weight in zip(channels, weights, strict=True) if weight}
            routes = Routes(used, system_clock(), terms)
            routes.set_templates(codes)
            dispatcher = dispatcher_to(ledger, {TENANT: shelf}, routes)
            try:
                return await drained(dispatcher, store, postgres=scratch.pid, providers=simulated.pid)
            finally:
                for channel in (*channels, *placeholders):
                    await channel.close()


@asynccontextmanager
async def burst(scratch: Scratch, count: int) -> AsyncIterator[str]:
    """Make a template in whose queue so many people wait for the same news of their orders."""
    name = await scratch.create()
    store = await Store.open(scratch.server.dsn_for(name), VAULT, connections=1)
    now = system_clock()
    rule = shipped_shelf().playbooks["retail"].notices[TOPIC]
    people: list[tuple[object, ...]] = []
    waiting: list[tuple[object, ...]] = []
    for number in range(count):
        contact = Contact(TENANT, f"c{number}", f"+86138{number:08}")
        values: dict[str, str | int] = {
            "order_no": f"A{number}",
            "carrier": "顺丰速运",
            "tracking_no": f"SF{number:010}",
        }
        notice = Notice(
            derive_id(now, number), TENANT, contact.id, f"A{number}", "buyer", "retail", TOPIC, now, now,
            now + rule.within, now + rule.valid_for, values=values,
        )  # fmt: skip
        people.append((TENANT, contact.id, VAULT.seal(TENANT, contact.id, encode_state(contact)), now))
        waiting.append((TENANT, contact.id, notice.id, 1, now, encode_state(notice)))
    await store.pool.copy_records_to_table(
        "contact", records=people, columns=["tenant", "contact", "body", "updated_at"]
    )
    await store.pool.copy_records_to_table("queue", records=waiting)
    await store.pool.execute("VACUUM ANALYZE")
    await store.close()
    try:
        yield name
    finally:
        await scratch.drop(name)


async def run(report: Report, rounds: int, scale: float, scratch: Scratch) -> None:
    """Add the rows of this bench."""
    async with (
        seeded(scratch, int(ORDERS * scale), queued=True) as (lives, _),
        burst(scratch, int(MESSAGES * scale)) as alike,
    ):
        runs = {
            name: partial(measure, scratch, alike if what == ALIKE else lives, weights)
            for name, (what, weights) in RUNS.items()
        }
        samples = await interleave(rounds, runs)
    for name, found in samples.items():
        note = f"{found[-1].count:,} messages, settled by receipts over HTTP"
        aim = AIM_PER_S if ALIKE in name and not name.startswith("Tencent") else None
        report.rows.append(rate_row("batches", f"messages by {name}", "/s", found, aim=aim, note=note))
