"""What waits in the queue must be planned by contact, once, in the order of its lanes."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec
import pytest

from orderbell.channels.sandbox import SandboxChannel
from orderbell.core.model import Contact, History, Notice, Outlook, Plan, derive_id
from orderbell.core.plan import plan
from orderbell.core.playbook import Playbook
from orderbell.dispatch import Dispatcher
from orderbell.store import departures as sql
from orderbell.store import statements
from orderbell.store.ledger import Claim
from tests.dispatch.rig import NOON, TENANT, House, Scripted, contact, notice
from tests.sandbox_server import RunningSandbox


async def test_step_hands_over_what_is_due(house: House) -> None:
    """A due notice must become a message with a provider's word, and leave the queue; then there is nothing to do."""
    channel = Scripted()
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid"), notice("shipped", wait_s=60))
    assert await dispatcher.step() == 1
    (row,) = await house.pool.fetch("SELECT * FROM message")
    assert (row["status"], row["provider"], row["provider_ref"]) == ("accepted", "scripted", "ref-1")
    assert (row["attempt_no"], row["due_at"], row["told_at"]) == (1, None, NOON)
    assert row["attempt_id"] == channel.got[0].attempt_id == derive_id(NOON, row["message_id"].hex(), 1)
    assert channel.got[0].text == "[Acme] Order A1 is paid."
    assert await house.fates() == {"paid": ("sent", "sent")}
    assert await dispatcher.step() == 0
    assert await dispatcher.next_due_at() == NOON + timedelta(seconds=60)
    assert await house.pool.fetchval("SELECT count(*) FROM flight") == 0


async def test_step_merges_what_is_not_due(house: House) -> None:
    """A notice that a due one covers must go with it, due or not."""
    channel = Scripted()
    await house.put(notice("moved", wait_s=100), notice("shipped", after_s=1))
    house.clock.turn(1)
    assert await house.dispatcher(channel).step() == 2
    assert len(channel.got) == 1
    assert await house.fates() == {"moved": ("merged", "covered"), "shipped": ("sent", "sent")}
    into = await house.pool.fetchval("SELECT into_id FROM notice WHERE topic = 'moved'")
    assert into == await house.pool.fetchval("SELECT notice_id FROM notice WHERE topic = 'shipped'")


async def test_step_holds_in_quiet_hours(house: House) -> None:
    """A notice that falls into quiet hours must wait in the queue until their end, and then be sent."""
    channel = Scripted()
    dispatcher = house.dispatcher(channel)
    await house.put(notice("shipped"), contacts=[contact(quiet="11:00-13:00")])
    assert await dispatcher.step() == 1
    assert await dispatcher.step() == 0
    assert (channel.got, await house.waiting(), await house.fates()) == ([], 1, {})
    assert await dispatcher.next_due_at() == NOON + timedelta(hours=1)
    house.clock.turn(3600)
    assert await dispatcher.step() == 1
    assert len(channel.got) == 1


async def test_step_without_endpoint(house: House) -> None:
    """A person without an address must find the message in the inbox, delivered, though no provider carried it."""
    channel = Scripted()
    await house.put(notice("paid"), contacts=[contact(phone="")])
    await house.dispatcher(channel).step()
    row = await house.pool.fetchrow("SELECT status, channel, provider, settled_at FROM message")
    assert channel.got == []
    assert row is not None
    assert tuple(row) == ("delivered", "inbox", "inbox", NOON)


async def test_step_with_missing_contact(house: House) -> None:
    """A notice for a contact that is not there must still reach the inbox."""
    dispatcher = house.dispatcher(Scripted())
    await house.put(notice("paid"), contacts=[])
    await dispatcher.step()
    await dispatcher.step()
    assert await house.statuses() == ["delivered"]


async def test_step_takes_urgent_lane_first(house: House) -> None:
    """Under a small batch the critical lane must go before older notices of others."""
    channel = Scripted()
    dispatcher = house.dispatcher(channel, batch=1)
    await house.put(notice("offer", 1), notice("shipped", 2, after_s=1), notice("paid", 3, after_s=2))
    house.clock.turn(5)
    for _ in range(3):
        assert await dispatcher.step() == 1
    assert [out.topic for out in channel.got] == ["paid", "shipped", "offer"]


async def test_step_leaves_locked_contact(house: House) -> None:
    """A contact that a turn holds must be left alone, and found at the next look."""
    channel = Scripted()
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid", 1), notice("paid", 2, "A2"))
    async with house.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM contact WHERE contact = 'c1' FOR UPDATE")
        assert await dispatcher.step() == 1
        assert await dispatcher.step() == 0
    assert await dispatcher.step() == 1
    assert [out.to for out in channel.got] == [contact(2).phone, contact(1).phone]


async def test_step_leaves_unknown_tenant(house: House) -> None:
    """Notices of a tenant whose playbooks are not here must wait for a dispatcher that has them."""
    await house.put(notice("paid"))
    house.shelves.clear()
    assert await house.dispatcher(Scripted()).step() == 0
    assert await house.waiting() == 1


async def test_step_with_failing_plan(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notice on which planning breaks must be put on record, and not stop the others."""

    def fail_at_shipped(
        playbooks: Mapping[str, Playbook],
        person: Contact,
        history: History,
        notices: Iterable[Notice],
        at: datetime,
        outlook: Outlook,
    ) -> Plan:
        known = list(notices)
        if any(one.topic == "shipped" for one in known):
            raise RuntimeError("boom")
        return plan(playbooks, person, history, known, at, outlook)

    monkeypatch.setattr("orderbell.dispatch.planning.plan", fail_at_shipped)
    await house.put(notice("paid"), notice("shipped"))
    assert await house.dispatcher(Scripted()).step() == 2
    assert await house.fates() == {"paid": ("sent", "sent"), "shipped": ("dropped", "undecidable")}


async def test_step_with_zero_character(house: House) -> None:
    """A character that the database cannot keep must not stop the batch."""
    channel = Scripted()
    await house.put(msgspec.structs.replace(notice("paid"), values={"order_no": "A\0B"}))
    assert await house.dispatcher(channel).step() == 1
    assert "\0" not in await house.pool.fetchval("SELECT text FROM message")


async def test_step_with_notice_planned_before(house: House) -> None:
    """A notice that comes into the queue again must not be told again, nor stop the others."""
    channel = Scripted()
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid"))
    await dispatcher.step()
    await house.put(notice("paid"), notice("shipped"))
    assert await dispatcher.step() == 1
    assert [out.topic for out in channel.got] == ["paid", "shipped"]
    assert await house.waiting() == 0


async def test_punctual_planning_of_late_look(house: House) -> None:
    """A replay that looks late must plan as if it had looked at every moment at which something fell due."""

    async def run(*looks_s: float) -> list[tuple[object, ...]]:
        channel = Scripted()
        await house.pool.execute("TRUNCATE queue, notice, message, contact")
        house.clock.at = NOON
        dispatcher = house.dispatcher(channel, plan_at=lambda due_at: due_at)
        await house.put(
            notice("moved"), notice("shipped", after_s=60), notice("moved", order_no="A2", after_s=30, wait_s=600),
            notice("shipped", order_no="A2", after_s=90), notice("offer", order_no="A3", after_s=7300),
            contacts=[contact(quiet="13:00-14:00")],
        )  # fmt: skip
        for first_s, next_s in pairwise((0, *looks_s)):
            house.clock.turn(next_s - first_s)
            while await dispatcher.step():
                pass
        rows = await house.pool.fetch(
            "SELECT m.message_id, m.told_at, m.text, n.fate, n.planned_at"
            " FROM notice n LEFT JOIN message m USING (order_no, topic) ORDER BY n.notice_id"
        )
        return [tuple(row) for row in rows]

    late = await run(10_000)
    assert late == await run(0, 30, 60, 90, 630, 7300, 10_000)
    assert late == await run(*range(0, 10_001, 500))
    assert [row[3] for row in late] == ["sent", "merged", "sent", "sent", "sent"]


async def test_two_dispatchers_hand_over_once(house: House, sandbox: RunningSandbox) -> None:
    """Two dispatchers at once on one queue must hand over every message, and each of them once."""
    people = [contact(number) for number in range(400)]
    await house.put(*(notice("paid", n % 400, f"A{n:04}") for n in range(2000)), contacts=people)
    channels = [SandboxChannel(sandbox.url, name="sandbox", batch_max=100) for _ in range(2)]
    dispatchers = [house.dispatcher(channel, batch=150) for channel in channels]
    handled = await asyncio.gather(*map(_drain, dispatchers))
    assert sum(handled) == 2000
    assert min(handled) > 0
    assert await house.statuses() == ["accepted"] * 2000
    texts = [entry.text for entry in sandbox.ledger()]
    assert sorted(texts) == [f"[Acme] Order A{n:04} is paid." for n in range(2000)]
    for channel in channels:
        await channel.close()


async def _drain(dispatcher: Dispatcher) -> int:
    handled = 0
    idle = 0
    while idle < 3:
        done = await dispatcher.step()
        handled += done
        idle = 0 if done else idle + 1
    return handled


async def test_claim_reads_no_more_than_its_batch(house: House) -> None:
    """The claim on a large queue must walk the index of due notices, and touch rows in proportion to its batch.

    So it must be with the worst of statistics, too.
    """
    await house.pool.execute(
        "INSERT INTO queue SELECT 'acme', 'c' || n % 20000, int8send(n), n % 3,"
        " $1::timestamptz + n * interval '1 ms', '' FROM generate_series(1, 100000) n",
        NOON,
    )
    await house.pool.execute("ANALYZE queue")
    async with house.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO contact SELECT 'acme', 'c' || n, '', $1::timestamptz FROM generate_series(0, 19999) n", NOON
        )
        await house.pool.execute("ANALYZE contact")  # in the middle of an import it sees full pages and not one row

    async def explain(statement: str, *arguments: object) -> tuple[str, int]:
        async with house.pool.acquire() as connection:
            await connection.execute(statements.BEGIN)
            rows = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) {statement}", *arguments)
            await connection.execute("ROLLBACK")
        text = "\n".join(row[0] for row in rows)
        read = sum(int(word.split("=")[1]) for word in rows[1][0].split() if word.startswith(("hit=", "read=")))
        return text, read

    for analyzed in (False, True):
        if analyzed:
            await house.pool.execute("ANALYZE")
        due_at = NOON + timedelta(days=1)
        shown, buffers = await explain(sql.CLAIM_CONTACTS, 0, due_at, 100, [TENANT])
        assert "queue_due" in shown
        assert "Sort" not in shown
        assert buffers < 100 * 12, shown
        shown, buffers = await explain(sql.CLAIM_CONTACTS, 0, NOON - timedelta(days=1), 100, [TENANT])
        assert buffers < 20, shown
    claim = Claim(NOON + timedelta(days=1), 10, ["nobody"], 1)
    assert (await house.ledger.plan_due(claim, lambda _: pytest.fail("nothing to plan"))).fates == []
