"""The pure core on one processor: decisions on events and on the deadlines between them, and plans with their words."""

import gc
from datetime import UTC, datetime
from time import perf_counter, process_time

from bench.stream import BEFORE, TENANT, batches, whole_lives
from bench.table import Report, Row, Sample, interleave, rate_row
from orderbell.core.events import Event
from orderbell.core.model import Contact, History, Notice, Order, Outlook
from orderbell.core.plan import PATIENCE, plan
from orderbell.core.turn import Key, Shelf, contact_keys, run_turn
from orderbell.insight.backtest import AFTERMATH
from orderbell.playbooks import shipped_shelf
from orderbell.store.memory import ALL_CHANNELS

AIM_PER_S = 25_000
BATCH = 500
OUTLOOK = Outlook(dict.fromkeys(sorted(ALL_CHANNELS), PATIENCE))


class _Shop:
    """Orders and contacts in dictionaries, nothing else."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelves = {TENANT: shelf}
        self.orders: dict[Key, Order] = {}
        self.contacts: dict[Key, Contact] = {}
        self.notices: list[Notice] = []
        self.decision_count = 0

    def take(self, batch: list[Event]) -> None:
        orders = {key: self.orders[key] for event in batch if (key := event.order_key) in self.orders}
        keys = contact_keys(self.shelves, batch, orders)
        people = {key: self.contacts[key] for key in keys if key in self.contacts}
        turn = run_turn(self.shelves, batch, orders, people)
        self.orders.update(turn.orders)
        self.contacts.update(turn.contacts)
        self.notices += turn.notices
        self.decision_count += len(turn.entries)

    def finish(self, last: Event) -> None:
        """Let all deadlines fire that are left a month later."""
        turn = run_turn(self.shelves, (), self.orders, {}, list(self.orders), last.received_at + AFTERMATH)
        self.notices += turn.notices
        self.decision_count += len(turn.entries)


async def run(report: Report, rounds: int, scale: float) -> None:
    """Add the rows of this bench."""
    shelf = shipped_shelf()
    events = [happening.event() for happening in whole_lives(int(6_000 * scale), datetime.now(UTC) - BEFORE)]
    shop = _Shop(shelf)

    async def decide() -> Sample:
        nonlocal shop
        gc.collect()
        shop = _Shop(shelf)
        cpu, began = process_time(), perf_counter()
        for batch in batches(events, BATCH):
            shop.take(batch)
        shop.finish(events[-1])
        return Sample(shop.decision_count, perf_counter() - began, {"core": process_time() - cpu})

    async def tell() -> Sample:
        if not shop.notices:
            await decide()
        gc.collect()
        told = 0
        cpu, began = process_time(), perf_counter()
        for notice in shop.notices:
            contact = shop.contacts[notice.tenant, notice.contact]
            told += len(plan(shelf.playbooks, contact, History(), (notice,), notice.due_at, OUTLOOK).messages)
        assert told
        return Sample(len(shop.notices), perf_counter() - began, {"core": process_time() - cpu})

    samples = await interleave(rounds, {"decide": decide, "tell": tell})
    report.rows += _rows(samples, len(events), shop)


def _rows(samples: dict[str, list[Sample]], event_count: int, shop: _Shop) -> list[Row]:
    timers = shop.decision_count - event_count
    return [
        rate_row(
            "core", "decisions", "/s", samples["decide"], aim=AIM_PER_S,
            note=f"{event_count:,} events of {len(shop.orders):,} orders, {timers:,} deadlines, one core",
        ),
        rate_row("core", "notices planned and worded", "/s", samples["tell"], note=f"{len(shop.notices):,} notices"),
    ]  # fmt: skip
