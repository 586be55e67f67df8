"""What a provider says of an address must reach the order and the person, once, and before it is settled."""

from collections.abc import AsyncIterator, Sequence

import pytest

from orderbell.channels.protocol import Answer, Fate, Found, Outcome, Outgoing, Receipt
from orderbell.core.events import Event, Settled, encode_json, parse_event
from orderbell.core.model import Contact, decode_contact
from orderbell.core.turn import Shelf
from orderbell.dispatch import Dispatcher, dispatcher
from orderbell.errors import DatabaseUnavailable
from orderbell.observe import FailpointReached, arm_failpoints
from orderbell.playbooks import shipped_shelf
from orderbell.store.ledger import Ledger
from orderbell.store.postgres import Store
from tests.database import VAULT
from tests.dispatch.rig import NOON, Clock, House, Scripted, contact, notice
from tests.shop import TENANT

SHELVES: dict[str, Shelf] = {TENANT: shipped_shelf()}
PEOPLE = {"buyer": {"phone": "+8613812341234"}}
REJECTED = Outcome.REJECTED_RECIPIENT


class Shop:
    """Orders on a database of their own, and the dispatchers that tell of them."""

    def __init__(self, store: Store) -> None:
        self.store, self.clock, self.ledger = store, Clock(), Ledger(store)
        self.reported: list[str] = []

    async def report(self, events: Sequence[Event]) -> None:
        """Take the dispatcher's events, as a worker does."""
        self.reported += [one.id for one in events]
        await self.store.turn(SHELVES, events)

    def dispatcher(self, channel: Scripted) -> Dispatcher:
        """A dispatcher that reports."""
        return Dispatcher(self.ledger, SHELVES, [channel], now=self.clock, report=self.report)

    async def happen(self, number: int, kind: str, **data: object) -> None:
        """Something happens, a second after what was before."""
        self.clock.turn(1)
        wire = {"id": f"e{number}", "source": "shop", "type": kind, "subject": "A1", "data": data}
        told = parse_event(encode_json(wire), TENANT, self.clock())
        assert isinstance(told, Event), told
        await self.store.turn(SHELVES, [told])

    async def people(self) -> list[Contact]:
        """The contacts."""
        rows = await self.store.pool.fetch("SELECT tenant, contact, body FROM contact")
        return [decode_contact(VAULT.open(tenant, name, body)) for tenant, name, body in rows]

    async def person(self) -> Contact:
        """The one contact."""
        (found,) = await self.people()
        return found

    async def rows(self, query: str) -> list[tuple[object, ...]]:
        """What a query finds."""
        return [tuple(row) for row in await self.store.pool.fetch(query)]


@pytest.fixture
async def shop(store: Store) -> AsyncIterator[Shop]:
    """A shop whose one order has been placed and could not be paid: that is urgent, and told by SMS."""
    opened = Shop(store)
    await opened.happen(1, "order.placed", people=PEOPLE)
    await opened.happen(2, "payment.failed")
    yield opened
    arm_failpoints("")


async def test_rejected_address_is_blocked_and_left_alone(shop: Shop) -> None:
    """One refusal of the address is an event of the order, blocks the phone, and opens what the staff sees."""
    channel = Scripted(REJECTED)
    worker = shop.dispatcher(channel)
    await worker.step()
    assert [out.to for out in channel.got] == ["+8613812341234"]
    assert shop.reported == [f"settled:{channel.got[0].attempt_id.hex()}:rejected_recipient"]
    assert await shop.rows("SELECT status FROM message") == [("rejected",)]
    lines = await shop.rows("SELECT event_id, verdict FROM journal WHERE type = 'message.settled'")
    assert lines == [(shop.reported[0], "applied")]
    assert (await shop.person()).states == {"sms": "blocked"}
    assert await shop.rows("SELECT name FROM anomaly WHERE closed_at IS NULL ORDER BY 1") == [
        ("contact_bad",), ("payment_failed",),
    ]  # fmt: skip
    await shop.happen(3, "payment.succeeded", amount_fen=100)
    await shop.happen(4, "order.cancelled", by="merchant")
    shop.clock.turn(600)
    while await worker.step():
        pass
    assert len(channel.got) == 1, "nothing more goes to that phone"
    assert ("order_cancelled", "inbox") in await shop.rows("SELECT topic, channel FROM message")


async def test_new_address_is_tried_again(shop: Shop) -> None:
    """Whoever names another phone is told there, and the old one's late refusal changes nothing."""
    channel = Scripted(REJECTED)
    worker = shop.dispatcher(channel)
    await worker.step()
    old = (await shop.person()).id
    await shop.happen(3, "contact.changed", people={"buyer": {"phone": "+8613899990000", "id": ""}})
    await shop.happen(4, "order.cancelled", by="merchant")
    shop.clock.turn(600)
    while await worker.step():
        pass
    assert {out.to for out in channel.got[1:]} == {"+8613899990000"}
    people = await shop.people()
    assert {person.phone: person.states for person in people} == {
        "+8613812341234": {"sms": "blocked"}, "+8613899990000": {},
    }  # fmt: skip
    assert len({old, *(person.id for person in people)}) == 2


async def test_refusal_is_reported_before_it_is_settled(shop: Shop) -> None:
    """Should the process die in between, the attempt is still in doubt: at the report its message is `sending`."""
    seen: list[object] = []

    async def look(events: Sequence[Event]) -> None:
        assert isinstance(events[0].data, Settled)
        seen.extend(row[0] for row in await shop.rows("SELECT status FROM message"))

    worker = Dispatcher(shop.ledger, SHELVES, [Scripted(REJECTED)], now=shop.clock, report=look)
    await worker.step()
    assert seen == ["sending"]


async def test_refusal_reported_twice_counts_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report whose settlement failed comes again: the order must hear it once."""
    monkeypatch.setattr(dispatcher, "SETTLE_PAUSE_S", 0)
    settle, failures = Ledger.settle, iter([DatabaseUnavailable("away"), None, None])

    async def failing(*arguments: object, named: bool) -> tuple[int, int]:
        if (problem := next(failures)) is not None:
            raise problem
        return await settle(*arguments, named=named)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "settle", failing)
    await shop.dispatcher(Scripted(REJECTED)).step()
    assert len(shop.reported) == 2
    assert len(set(shop.reported)) == 1
    assert await shop.rows("SELECT status FROM message") == [("rejected",)]
    assert await shop.rows("SELECT count(*) FROM journal WHERE type = 'message.settled'") == [(1,)]
    assert await shop.rows("SELECT count(*) FROM anomaly WHERE name = 'contact_bad'") == [(1,)]


async def test_report_waits_for_the_database(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database is away the answer is kept, and reported and settled when it is back."""
    monkeypatch.setattr(dispatcher, "SETTLE_PAUSE_S", 0)
    problems = iter([DatabaseUnavailable("away"), DatabaseUnavailable("away"), None])
    calls = 0

    async def report(events: Sequence[Event]) -> None:
        nonlocal calls
        calls += 1
        if (problem := next(problems)) is not None:
            raise problem
        await shop.store.turn(SHELVES, events)

    await Dispatcher(shop.ledger, SHELVES, [Scripted(REJECTED)], now=shop.clock, report=report).step()
    assert calls == 3
    assert await shop.rows("SELECT status FROM message") == [("rejected",)]
    assert (await shop.person()).states == {"sms": "blocked"}


async def test_failed_delivery_is_reported(shop: Shop) -> None:
    """A receipt that says no marks the address as bounced; read again, it changes nothing."""
    channel = Scripted()
    worker = shop.dispatcher(channel)
    await worker.step()
    channel.words = [Receipt(channel.got[0].attempt_id, "", False, "absent", shop.clock())]
    await worker.receipts()
    assert (await shop.person()).states == {"sms": "bounced"}
    await shop.store.pool.execute("UPDATE receipt_cursor SET cursor = ''")
    await worker.receipts()
    assert len(shop.reported) == 1
    assert await shop.rows("SELECT status FROM message") == [("failed",)]


async def test_failed_delivery_found_by_asking_is_reported(shop: Shop) -> None:
    """What a look-up says of a delivery is as true as a receipt."""
    channel = Scripted(Outcome.UNKNOWN)
    worker = shop.dispatcher(channel)
    await worker.step()
    channel.found = [Found(channel.got[0].attempt_id, Fate.FAILED)]
    shop.clock.turn(2)
    await worker.resolve()
    assert await shop.rows("SELECT status FROM message") == [("failed",)]
    assert (await shop.person()).states == {"sms": "bounced"}


async def test_words_that_quote_an_address_are_masked(shop: Shop) -> None:
    """Providers quote addresses in their words: these are kept for the staff without them."""
    worker = shop.dispatcher(Quoting())
    await worker.step()
    details = await shop.rows("SELECT detail FROM message UNION ALL SELECT detail FROM attempt")
    assert details
    assert not any(PEOPLE["buyer"]["phone"][3:] in str(row[0]) for row in details), details


class Quoting(Scripted):
    """A provider that repeats the address it refuses."""

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """Refuse everything."""
        self.got += batch
        return [Answer(out.attempt_id, REJECTED, detail=f"{out.to} is not a mobile number") for out in batch]


async def test_refusal_without_a_reporter(house: House) -> None:
    """A dispatcher that nobody listens to settles all the same; so does one whose other answers are good."""
    heard: list[Event] = []

    async def report(events: Sequence[Event]) -> None:
        heard.extend(events)

    channel = Mixed()
    await house.put(*(notice("paid", n, f"A{n}") for n in range(4)), contacts=map(contact, range(4)))
    await house.dispatcher(channel, report=report).step()
    assert await house.statuses() == ["rejected", "accepted", "rejected", "accepted"]
    assert [(one.order_no, one.received_at) for one in heard] == [("A0", NOON), ("A2", NOON)]
    await house.put(notice("paid", 9, "A9"))
    await house.dispatcher(Scripted(REJECTED)).step()
    assert (await house.statuses())[-1] == "rejected"


class Mixed(Scripted):
    """A provider that refuses the addresses of even orders."""

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """Answer each by its text."""
        answers = await super().send(batch)
        return [
            Answer(answer.attempt_id, REJECTED) if int(out.text.split()[2][1:]) % 2 == 0 else answer
            for out, answer in zip(self.got, answers, strict=True)
        ]


async def test_turn_of_a_report_is_one_transaction(shop: Shop) -> None:
    """Contact, anomaly and journal change together or not at all."""
    arm_failpoints("turn.before_commit=raise@1")
    worker = shop.dispatcher(Scripted(REJECTED))
    with pytest.raises(FailpointReached, match="before_commit"):
        await worker.step()
    assert await shop.rows("SELECT status FROM message") == [("sending",)]
    assert await shop.rows("SELECT count(*) FROM journal WHERE type = 'message.settled'") == [(0,)]
    assert (await shop.person()).states == {}
