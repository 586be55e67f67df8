"""The in-memory host and PostgreSQL give the same journals, orders, notices, messages and people, byte for byte."""

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
from orderbell.core.events import Answer, ChannelName, Event, encode_json, wire_of
from orderbell.core.model import Entry, Message, Reason, decode_contact, decode_history, encode_state
from orderbell.core.turn import Shelf
from orderbell.playbooks import shipped_shelf
from orderbell.sandbox.faults import Faults
from orderbell.store.memory import MemoryHost
from orderbell.store.postgres import Store
from orderbell.store.tenants import add_tenant
from tests.database import VAULT
from tests.sandbox_server import RunningSandbox
from tests.streams import START, Moment, cut, family_of, random_stream

TENANT = "twins"
SEEDS = [int(seed) for seed in os.environ.get("ORDERBELL_SEEDS", "1 2 3").split()]
AFTERMATH = timedelta(days=12)
CUTS = [(1, 1), (7, 3), (500, 1), (500, 3)]  # events per batch, engines side by side
SILENT: ChannelName = "push"
"""The channel whose receipts never come, so that other channels must tell."""

Line = tuple[Any, ...]
Dump = dict[str, list[Any]]


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    """The playbooks that ship."""
    return shipped_shelf()


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("seed", SEEDS)
async def test_hosts_agree_however_the_stream_is_cut(
    seed: int, cuts: tuple[int, int], shelf: Shelf, database: str, channel: Channel, sandbox: RunningSandbox
) -> None:
    """Batch sizes, several engines, duplicates and late events change nothing: both hosts end in the same bytes."""
    size, engine_count = cuts
    await sandbox.set_faults(Faults(lose_receipts=1, only_channel=SILENT))
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


def test_streams_make_enough_happen(shelf: Shelf) -> None:
    """What the streams compare is worth comparing: fallbacks, withdrawals, opt-outs, amends, caps, silence."""
    dumps = [_in_memory(random_stream(seed, TENANT), shelf, 500)[0] for seed in range(1, 9)]
    reasons = {Reason(fate[2]) for dump in dumps for fate in dump["fates"]}
    assert reasons >= {
        Reason.SENT, Reason.RECEIPT_CAME, Reason.FELL_BACK, Reason.FALLBACK_STOPPED, Reason.WITHDRAWN, Reason.COVERED,
        Reason.NEVER_HEARD, Reason.MUTED, Reason.NO_CONSENT, Reason.TOO_DETAILED, Reason.CAPPED,
    }  # fmt: skip
    assert all(sum(len(dump[what]) for dump in dumps) > len(dumps) for what in ("amends", "consents", "histories"))
    assert not [line for dump in dumps for line in dump["journal"] if line[5] == Reason.UNDECIDABLE]


def _in_memory(moments: list[Moment], shelf: Shelf, size: int) -> tuple[Dump, list[Answer]]:
    host = MemoryHost({TENANT: shelf}, key_of=VAULT.index_key, without_receipts=frozenset({SILENT}))
    answers: list[Answer] = []
    for at, events in moments:
        host.advance(at)
        for batch in cut(events, size):
            answers += host.feed(batch)
    host.advance(moments[-1][0] + AFTERMATH)
    return _dump(host), answers


def _dump(host: MemoryHost) -> Dump:
    waiting = [notice for notices in host.queue.values() for notice in notices.values()]
    return {
        "orders": sorted(map(encode_state, host.orders.values())),
        "journal": _in_order(map(_journal_line, host.journal)),
        "fates": sorted((f.notice.id, f.kind, f.reason.value, f.into, encode_state(f.notice)) for f in host.fates),
        "waiting": sorted(map(encode_state, waiting)),
        "messages": sorted(map(encode_state, host.messages)),
        "contacts": [host.contacts[key] for key in sorted(host.contacts)],
        "histories": [(name, host.histories[tenant, name]) for tenant, name in sorted(host.histories)],
        "consents": sorted(map(msgspec.structs.astuple, host.consents)),
        "amends": sorted(map(msgspec.structs.astuple, host.amends)),
    }


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
    stores = [await Store.open(dsn, VAULT, connections=3) for _ in range(count)]
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()


async def _feed(stores: Sequence[Store], shelves: dict[str, Shelf], events: Sequence[Event], size: int) -> list[Answer]:
    # The events of one order go to one engine, as the intake sees to; the engines run side by side.
    places: list[list[int]] = [[] for _ in stores]
    for place, event in enumerate(events):
        places[family_of(event.order_no) % len(stores)].append(place)
    answers: dict[int, Answer] = {}

    async def drive(store: Store, mine: list[int]) -> None:
        for start in range(0, len(mine), size):
            part = mine[start : start + size]
            got = await store.turn(shelves, [events[place] for place in part])
            answers.update(zip(part, got, strict=True))

    await asyncio.gather(*(drive(store, mine) for store, mine in zip(stores, places, strict=True)))
    return [answers[place] for place in range(len(events))]


async def _read(store: Store, messages: list[Message]) -> Dump:
    fetch, vault = store.pool.fetch, store.vault
    journal = [
        (
            row["order_no"], row["version"], row["at"], row["type"], row["event_id"], row["verdict"], row["stage"],
            row["event"], row["decision"], row["detail"],
        )
        for row in await fetch("SELECT * FROM journal")
    ]  # fmt: skip
    fates = [
        (row["notice_id"], row["fate"], row["reason"], row["into_id"] or b"", row["body"])
        for row in await fetch("SELECT * FROM notice")
    ]
    people = await fetch('SELECT tenant, contact, body, history FROM contact ORDER BY contact COLLATE "C"')
    consents = await fetch("SELECT tenant, contact, scope, given, at, source, words FROM consent")
    amends = await fetch(
        "SELECT amends_id, tenant, order_no, contact, kind, value_fen, topic, promised_at, valid_until FROM amends"
    )
    return {
        "orders": sorted(row[0] for row in await fetch("SELECT state FROM orders")),
        "journal": _in_order(journal),
        "fates": sorted(fates),
        "waiting": sorted(row[0] for row in await fetch("SELECT body FROM queue")),
        "messages": sorted(map(encode_state, messages)),
        "contacts": [decode_contact(vault.open(row[0], row[1], row[2])) for row in people],
        "histories": [(row[1], decode_history(row[3])) for row in people if row[3] is not None],
        "consents": sorted(map(tuple, consents)),
        "amends": sorted(map(tuple, amends)),
    }


def _journal_line(entry: Entry) -> Line:
    event = entry.event
    return (
        event.order_no, entry.version, entry.at, event.type, event.id, entry.verdict.value, entry.stage,
        encode_json(wire_of(event)), entry.decision, entry.detail,
    )  # fmt: skip


def _in_order(journal: Iterable[Line]) -> list[Line]:
    return sorted(journal, key=lambda line: (line[0], line[1], line[2], line[4]))
