"""Contacts in the real database: found by blind index, changed under the lock of their queue, nothing lost."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest

from orderbell.core.events import ChannelName
from orderbell.core.model import Contact, Message, Notice, Try, encode_state
from orderbell.errors import DatabaseUnavailable
from orderbell.store.people import Part
from orderbell.store.postgres import Store
from orderbell.store.rows import contact_columns
from orderbell.store.statements import ADD_CONTACTS
from tests.database import VAULT
from tests.dispatch.rig import NOON, notice
from tests.town import PHONE, Town, people, running_town


async def put(store: Store, *contacts: Contact) -> None:
    """Add contacts as a turn would."""
    await store.pool.execute(ADD_CONTACTS, *contact_columns(contacts, NOON, VAULT))


async def queue(store: Store, *notices: Notice) -> None:
    """Put notices into the queue."""
    rows = [(n.tenant, n.contact, n.id, 1, n.due_at, encode_state(n)) for n in notices]
    await store.pool.copy_records_to_table("queue", records=rows)


async def message(store: Store, order_no: str, *, after_s: float, channel: ChannelName = "sms", status: str) -> bytes:
    """Write a message to Ann about an order, and the fate of its notice."""
    at = NOON + timedelta(seconds=after_s)
    name = f"{order_no}{after_s}".encode()
    body = Message(name, "acme", "ann", channel, "", "t", "c", "service", order_no, "x", "", (name,), at, at, at)
    await store.pool.execute(
        "INSERT INTO message (tenant, message_id, order_no, contact, topic, channel, lane, text, body, created_at,"
        " told_at, valid_until, status, attempt_no, attempt_id, provider, worker) VALUES"
        " ('acme', $1, $2, 'ann', 't', $3, 1, 'x', $4, $5, $5, $5, $6, 1, $1, 'p', 1)",
        name, order_no, channel, VAULT.seal("acme", name, encode_state(body)), at, status,
    )  # fmt: skip
    await store.pool.execute(
        "INSERT INTO notice VALUES ('acme', $1, $2, 'ann', 't', 'sent', 'sent', NULL, $3, $3, '')", name, order_no, at
    )
    return name


def muting(word: str) -> Callable[[Contact], Contact]:
    """A change that adds a word to what is muted."""
    return lambda contact: msgspec.structs.replace(contact, mute=(*contact.mute, word))


async def test_contact_is_found_without_the_database_knowing_it(store: Store) -> None:
    """Id and phone must find a person of this tenant only, and neither phone nor mail may be in the row."""
    async with running_town(store) as town:
        ann = Contact("acme", "ann", PHONE, "ann@example.com")
        await put(store, ann, Contact("other", "ann", PHONE), Contact("acme", "bob", "+8613900139000"))
        assert await town.people().find("ann") == ann
        assert await town.people().find("nobody") is None
        assert [await town.people().find(name) for name in ("a\0b", "\ud83d")] == [None, None]
        assert await town.people().find_by_phone(PHONE) == [ann]
        assert await town.people("nobody").find_by_phone(PHONE) == []
        line = await store.pool.fetchval("SELECT contact::text FROM contact WHERE (tenant, contact) = ('acme', 'ann')")
        assert all(clear not in line and clear.encode().hex() not in line for clear in ("3800138", "example"))


async def test_change_writes_body_index_and_consent_together(store: Store) -> None:
    """One change must show in the body, in the blind index and in the records, or nowhere at all."""
    async with running_town(store) as town:
        await put(store, Contact("acme", "ann", PHONE))
        replace = msgspec.structs.replace

        def fail(_contact: Contact) -> Contact:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await town.people().change("ann", fail, NOON, "test")
        new = await town.people().change(
            "ann", lambda old: replace(old, phone="+8613900139000", marketing="yes"), NOON, "test", "yes please"
        )
        assert new == await town.contact("ann")
        assert await town.people().find_by_phone(PHONE) == []
        assert await town.people().find_by_phone("+8613900139000") == [new]
        (record,) = await town.people().consents("ann", 9)
        assert (record.given, record.at, record.source, record.words) == (True, NOON, "test", "yes please")
        assert await town.people("other").change("ann", fail, NOON, "test") is None


async def test_change_that_changes_nothing_writes_nothing(store: Store) -> None:
    """What is already so must not be written, so a repeated request costs no row."""
    async with running_town(store) as town:
        await put(store, Contact("acme", "ann", PHONE))
        before = await store.pool.fetchval("SELECT xmin::text || body::text FROM contact")
        assert await town.people().change("ann", lambda old: old, NOON, "test") == await town.contact("ann")
        assert await store.pool.fetchval("SELECT xmin::text || body::text FROM contact") == before


async def test_concurrent_changes_lose_nothing(store: Store) -> None:
    """Twenty changes at once must all be there, one after the other."""
    async with running_town(store) as town:
        await put(store, Contact("acme", "ann", PHONE))
        words = [f"w{number}" for number in range(20)]
        await asyncio.gather(*(town.people().change("ann", muting(word), NOON, "test") for word in words))
        assert sorted((await town.contact("ann")).mute) == sorted(words)


async def test_change_waits_for_the_dispatcher(store: Store) -> None:
    """A change must wait for whoever plans for this person, and then leave what was heard as it is."""
    async with running_town(store) as town:
        await put(store, Contact("acme", "ann", PHONE))
        async with store.pool.acquire() as connection:
            async with connection.transaction():
                await connection.execute("SELECT FROM contact WHERE contact = 'ann' FOR NO KEY UPDATE")
                changing = asyncio.create_task(town.people().change("ann", muting("browse"), NOON, "test"))
                while not await store.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    assert not changing.done()
                await connection.execute("UPDATE contact SET history = 'heard' WHERE contact = 'ann'")
            changed = await changing
        assert changed is not None
        assert changed.mute == ("browse",)
        assert await store.pool.fetchval("SELECT history FROM contact") == b"heard"


async def test_changes_beside_a_dispatcher(store: Store) -> None:
    """While a dispatcher plans for a person, every change must be kept and every notice told exactly once."""
    async with running_town(store) as town:
        await town.tell("order.placed", people=people())
        words = [f"w{number}" for number in range(30)]

        async def change() -> None:
            for word in words:
                await town.people().change("ann", muting(word), NOON, "test")

        async def tell() -> None:
            for number in range(30):
                await town.tell("order.placed", f"B{number}", people=people())
                await town.tell("payment.failed", f"B{number}")
                await town.dispatcher.step()

        await asyncio.gather(change(), tell())
        while await town.dispatcher.step():
            pass
        ann = await town.contact("ann")
        assert (ann.mute, ann.order_count) == (tuple(words), 31)
        told = await store.pool.fetch("SELECT order_no, count(*) FROM notice GROUP BY 1")
        assert (len(told), {row["count"] for row in told}) == (30, {1})
        assert await store.pool.fetchval("SELECT history FROM contact") is not None


async def test_opt_out_is_kept_once_per_source(store: Store) -> None:
    """A reply that is delivered again must leave no second record; another one must, even if it says the same."""
    async with running_town(store) as town:
        await put(store, Contact("acme", "ann", PHONE, marketing="yes"))
        hear = town.people().hear
        assert await hear("ann", False, NOON, "reply r1", "TD")
        assert not await hear("ann", False, NOON, "reply r1", "TD")
        assert await hear("ann", False, NOON + timedelta(seconds=1), "reply r2", "TD")
        assert not await hear("nobody", False, NOON, "reply r1", "TD")
        assert (await town.contact("ann")).marketing == "no"
        assert [record.source for record in await town.people().consents("ann", 9)] == ["reply r2", "reply r1"]


async def test_new_hours_release_what_waits_for_the_old(store: Store) -> None:
    """What waits for the end of quiet hours must be planned at once when they change, and nothing else."""
    async with running_town(store) as town:
        await put(store, Contact("acme", "ann", PHONE, quiet="11:00-13:00"))
        one, other = notice("paid", 1, "A1", wait_s=3600), notice("paid", 1, "A2", wait_s=3600)
        held = [
            msgspec.structs.replace(one, contact="ann", held="quiet_hours"),
            msgspec.structs.replace(other, contact="ann", held="capped"),
        ]
        await queue(store, *held)
        await town.people().change("ann", muting("browse"), NOON, "test")
        due = "SELECT notice_id, due_at FROM queue ORDER BY due_at"
        assert {row["due_at"] for row in await store.pool.fetch(due)} == {NOON + timedelta(hours=1)}
        await town.people().change("ann", lambda old: msgspec.structs.replace(old, quiet=""), NOON, "test")
        rows = await store.pool.fetch(due)
        assert [(row["notice_id"], row["due_at"]) for row in rows] == [
            (held[0].id, NOON),
            (held[1].id, NOON + timedelta(hours=1)),
        ]


async def orders_of_ann(town: Town, *numbers: str) -> None:
    """Place orders of Ann, and take what they would tell out of the queue."""
    for number in numbers:
        await town.tell("order.placed", number, people=people())
    await town.store.pool.execute("DELETE FROM queue")


async def test_last_told_is_the_newest_sms(store: Store) -> None:
    """The order of the newest SMS that may have arrived counts; without any, that of the newest message."""
    async with running_town(store) as town:
        await orders_of_ann(town, "A1", "A2", "A3", "A4")
        assert await town.people().last_told(["ann"]) is None
        await message(store, "A1", after_s=1, channel="inbox", status="delivered")
        assert await town.people().last_told(["ann"]) == Part("A1", "ann", "buyer")
        await message(store, "A2", after_s=2, status="accepted")
        await message(store, "A3", after_s=3, status="rejected")
        await message(store, "A4", after_s=4, channel="push", status="delivered")
        assert await town.people().last_told(["bob", "ann"]) == Part("A2", "ann", "buyer")
        assert await town.people("other").last_told(["ann"]) is None
        assert await town.people().last_told([]) is None


async def test_last_told_sees_what_waits_for_its_receipt(store: Store) -> None:
    """A message that went out a moment ago must count, although its notice is still in the queue."""
    async with running_town(store) as town:
        await orders_of_ann(town, "A1", "A2")
        await message(store, "A1", after_s=1, status="accepted")
        name = await message(store, "A2", after_s=2, status="sending")
        await store.pool.execute("DELETE FROM notice WHERE order_no = 'A2'")
        waiting = msgspec.structs.replace(notice("paid", 1, "A2"), contact="ann", tried=(Try("sms", name, NOON),))
        never = msgspec.structs.replace(notice("paid", 1, "A9"), contact="ann")
        await queue(store, waiting, never)
        assert await town.people().last_told(["ann"]) == Part("A2", "ann", "buyer")


async def test_last_told_passes_over_orders_that_are_not_theirs_any_more(store: Store) -> None:
    """Somebody who was replaced in the newest order must be heard in the one before."""
    async with running_town(store) as town:
        await orders_of_ann(town, "A1", "A2")
        await message(store, "A1", after_s=1, status="accepted")
        await message(store, "A2", after_s=2, status="accepted")
        await town.tell("contact.changed", "A2", people={"buyer": {"id": "bob", "phone": "+8613900139000"}})
        assert await town.people().last_told(["ann"]) == Part("A1", "ann", "buyer")
        assert await town.people().part_in("A2", ["ann"]) is None
        assert await town.people().part_in("A\0", ["ann"]) is None


async def test_database_that_is_away(store: Store) -> None:
    """Every read and change must say that the database is away, and nothing else."""
    async with running_town(store) as town:
        people_here = town.people()
        await store.pool.close()
        for call in (
            people_here.find("ann"),
            people_here.find_by_phone(PHONE),
            people_here.change("ann", muting("browse"), NOON, "test"),
            people_here.hear("ann", False, NOON, "test", ""),
            people_here.consents("ann", 1),
            people_here.amends((0, 0), 1),
            people_here.last_told(["ann"]),
        ):
            with pytest.raises(DatabaseUnavailable):
                await call
