"""The in-memory host and PostgreSQL give the same journals, orders, notices and messages, byte for byte."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from orderbell.app.virtual import VirtualHost
from orderbell.channels.protocol import Channel
from orderbell.core.events import Answer, Event, encode_json, wire_of
from orderbell.core.model import Entry, Fate, Message, Notice, Order, encode_state
from orderbell.core.turn import Shelf
from orderbell.playbooks import shipped_shelf
from orderbell.store.memory import MemoryHost
from orderbell.store.postgres import Store
from orderbell.store.tenants import add_tenant
from tests.streams import START, Moment, cut, random_stream

TENANT = "twins"
SEEDS = [int(seed) for seed in os.environ.get("ORDERBELL_SEEDS", "1 2 3").split()]
AFTERMATH = timedelta(days=12)
CUTS = [(1, 1), (7, 3), (500, 1), (500, 3)]  # events per batch, engines side by side
Dump = dict[str, list[Any]]


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    """The playbooks that ship."""
    return shipped_shelf()


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("seed", SEEDS)
async def test_hosts_agree_however_the_stream_is_cut(
    seed: int, cuts: tuple[int, int], shelf: Shelf, database: str, channel: Channel
) -> None:
    """Batch sizes, several engines, duplicates and late events change nothing: both hosts end in the same bytes."""
    size, engine_count = cuts
    moments = random_stream(seed, TENANT)
    expected, answers = _in_memory(moments, shelf, 500)
    assert len(expected["journal"]) > 100
    assert len(expected["messages"]) > 20
    dump, got = await _on_postgres(moments, shelf, database, channel, size=size, engine_count=engine_count)
    assert got == answers
    for what, lines in expected.items():
        assert dump[what] == lines, f"ORDERBELL_SEEDS={seed}, batches of {size}, {engine_count} engines: {what}"


@pytest.mark.parametrize("seed", SEEDS)
def test_memory_agrees_with_itself_however_the_stream_is_cut(seed: int, shelf: Shelf) -> None:
    """Batches of 1, 7 and 500 end in the same bytes."""
    moments = random_stream(seed, TENANT)
    assert _in_memory(moments, shelf, 1) == _in_memory(moments, shelf, 7) == _in_memory(moments, shelf, 500)


def _in_memory(moments: list[Moment], shelf: Shelf, size: int) -> tuple[Dump, list[Answer]]:
    host = MemoryHost({TENANT: shelf})
    answers: list[Answer] = []
    for at, events in moments:
        host.advance(at)
        for batch in cut(events, size):
            answers += host.feed(batch)
    host.advance(moments[-1][0] + AFTERMATH)
    waiting = [notice for notices in host.queue.values() for notice in notices.values()]
    dump = _dump(
        [_journal_line(entry) for entry in host.journal], host.orders.values(), host.fates, waiting, host.messages
    )
    return dump, answers


async def _on_postgres(
    moments: list[Moment], shelf: Shelf, dsn: str, channel: Channel, *, size: int, engine_count: int
) -> tuple[Dump, list[Answer]]:
    async with _stores(dsn, engine_count) as stores:
        host = VirtualHost(stores[0], {TENANT: shelf}, [channel], start=START)
        await add_tenant(stores[0].pool, TENANT, shelf)
        answers: list[Answer] = []
        for at, events in moments:
            await host.advance(at)
            answers += await _feed(stores, {TENANT: shelf}, events, size)
        await host.advance(moments[-1][0] + AFTERMATH)
        await host.close()
        return await _read(stores[0], await host.messages()), answers


@asynccontextmanager
async def _stores(dsn: str, count: int) -> AsyncIterator[list[Store]]:
    stores = [await Store.open(dsn, connections=3) for _ in range(count)]
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()


async def _feed(stores: Sequence[Store], shelves: dict[str, Shelf], events: Sequence[Event], size: int) -> list[Answer]:
    # The events of one order go to one engine, as the intake sees to; the engines run side by side.
    places: list[list[int]] = [[] for _ in stores]
    for place, event in enumerate(events):
        places[sum(event.order_no.encode()) % len(stores)].append(place)
    answers: dict[int, Answer] = {}

    async def drive(store: Store, mine: list[int]) -> None:
        for start in range(0, len(mine), size):
            part = mine[start : start + size]
            got = await store.turn(shelves, [events[place] for place in part])
            answers.update(zip(part, got, strict=True))

    await asyncio.gather(*(drive(store, mine) for store, mine in zip(stores, places, strict=True)))
    return [answers[place] for place in range(len(events))]


async def _read(store: Store, messages: list[Message]) -> Dump:
    rows = await store.pool.fetch("SELECT * FROM journal")
    journal = [
        (
            row["order_no"], row["version"], row["at"], row["type"], row["event_id"], row["verdict"], row["stage"],
            _bytes(row["event"]), _bytes(row["decision"]), row["detail"],
        )
        for row in rows
    ]  # fmt: skip
    orders = [msgspec.msgpack.decode(row[0], type=Order) for row in await store.pool.fetch("SELECT state FROM orders")]
    fates = [
        (row["notice_id"], row["fate"], row["reason"], row["into_id"] or b"", bytes(row["body"]))
        for row in await store.pool.fetch("SELECT * FROM notice")
    ]
    waiting = [bytes(row[0]) for row in await store.pool.fetch("SELECT body FROM queue")]
    return _sorted(journal, orders, fates, waiting, messages)


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _journal_line(entry: Entry) -> tuple[Any, ...]:
    event = entry.event
    return (
        event.order_no, entry.version, entry.at, event.type, event.id, entry.verdict.value, entry.stage,
        encode_json(wire_of(event)), entry.decision, entry.detail,
    )  # fmt: skip


def _dump(
    journal: list[tuple[Any, ...]],
    orders: Iterable[Order],
    fates: list[Fate],
    waiting: list[Notice],
    messages: list[Message],
) -> Dump:
    lines = [(f.notice.id, f.kind, f.reason.value, f.into, encode_state(f.notice)) for f in fates]
    return _sorted(journal, list(orders), lines, [encode_state(notice) for notice in waiting], messages)


def _sorted(
    journal: list[tuple[Any, ...]], orders: list[Order], fates: list[Any], waiting: list[bytes], messages: list[Message]
) -> Dump:
    return {
        "orders": sorted(encode_state(order) for order in orders),
        "journal": sorted(journal, key=lambda line: (line[0], line[1], line[2], line[4])),
        "fates": sorted(fates),
        "waiting": sorted(waiting),
        "messages": sorted(encode_state(message) for message in messages),
    }
