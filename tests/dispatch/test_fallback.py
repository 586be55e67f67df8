"""What nobody confirmed is told on the next channel, while there is a reason; caps hold whoever plans."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest

from orderbell.channels.protocol import Outcome, Receipt
from orderbell.core.model import History, Message, Notice, Told, decode_history, derive_id
from orderbell.core.plan import PATIENCE
from orderbell.dispatch import Dispatcher, dispatcher
from orderbell.dispatch.patience import CEILING, FACTOR, FLOOR, RECEIPTS_MIN, patience_of
from orderbell.store.ledger import Word
from tests.database import VAULT
from tests.dispatch.rig import NOON, OFFERS_MAX, TENANT, House, Scripted, contact, notice

PATIENCE_S = PATIENCE.total_seconds()
TWO_WAYS = frozenset({"push", "sms"})
REACHABLE = contact(app="app:1")
_decode_message = msgspec.msgpack.Decoder(Message).decode


def withdrawal(*topics: str, version: int = 1) -> Notice:
    """Takes back what waits of these topics, made an hour after noon."""
    at = NOON + timedelta(minutes=1)
    return msgspec.structs.replace(
        notice(after_s=60), id=derive_id(at, *topics), topic="", withdraws=topics, version=version, due_at=at
    )


def receipt(channel: Scripted, place: int = -1, *, delivered: bool = True, after_s: float = 30) -> Receipt:
    """A provider's word on one of the messages that it got."""
    return Receipt(channel.got[place].attempt_id, "", delivered, "", NOON + timedelta(seconds=after_s))


async def history_of(house: House, name: str = "c1") -> History:
    """What a contact has heard."""
    body = await house.pool.fetchval("SELECT history FROM contact WHERE contact = $1", name)
    return decode_history(body)


async def waiting_notice(house: House) -> Notice:
    """The one notice that waits."""
    body = await house.pool.fetchval("SELECT body FROM queue")
    return msgspec.msgpack.decode(body, type=Notice)


async def test_notice_without_receipt_goes_to_the_next_channel(house: House) -> None:
    """When the patience of the first channel is over and no receipt came, the next one must tell it, once."""
    channel = Scripted(carries=TWO_WAYS)
    worker = house.dispatcher(channel)
    await house.put(notice("arrived"), contacts=[REACHABLE])
    assert await worker.step() == 1
    assert [out.channel for out in channel.got] == ["push"]
    assert (await house.waiting(), await house.fates()) == (1, {})
    assert await worker.next_due_at() == NOON + PATIENCE
    waits = await waiting_notice(house)
    message_id = await house.pool.fetchval("SELECT message_id FROM message")
    assert [(one.channel, one.message_id, one.at) for one in waits.tried] == [("push", message_id, NOON)]
    assert await worker.step() == 0
    house.clock.turn(PATIENCE_S)
    assert await worker.step() == 1
    assert [out.channel for out in channel.got] == ["push", "sms"]
    assert (await house.waiting(), await house.fates()) == (0, {"arrived": ("sent", "fell_back")})
    assert len((await history_of(house)).told) == 1, "the same news is one telling, on however many channels"
    house.clock.turn(PATIENCE_S)
    assert (await worker.step(), len(channel.got)) == (0, 2)


async def test_notice_with_receipt_stays_where_it_is(house: House) -> None:
    """A receipt in time must spare the next channel: the status is read from the ledger at the moment of planning."""
    channel = Scripted(carries=TWO_WAYS)
    worker = house.dispatcher(channel)
    await house.put(notice("arrived"), contacts=[REACHABLE])
    await worker.step()
    channel.words = [receipt(channel)]
    assert await worker.receipts() == 1
    house.clock.turn(PATIENCE_S)
    assert await worker.step() == 1
    assert [out.channel for out in channel.got] == ["push"]
    assert (await house.waiting(), await house.fates()) == (0, {"arrived": ("sent", "receipt_came")})


@pytest.mark.parametrize("status", ["failed", "rejected", "unknown", "queued"])
async def test_notice_that_did_not_arrive_falls_back(house: House, status: str) -> None:
    """Whatever became of the first message but a delivery, the next channel must tell it."""
    first = {"rejected": Outcome.REJECTED_CONTENT, "unknown": Outcome.UNKNOWN, "queued": Outcome.RETRY_LATER}
    channel = Scripted(*([first[status]] if status in first else []), carries=TWO_WAYS, retry_after_s=86_000)
    worker = house.dispatcher(channel)
    await house.put(notice("arrived"), contacts=[REACHABLE])
    await worker.step()
    if status == "failed":
        channel.words = [receipt(channel, delivered=False)]
        await worker.receipts()
    assert await house.statuses() == [status]
    house.clock.turn(PATIENCE_S)
    assert await worker.step() == 1
    assert [out.channel for out in channel.got] == ["push", "sms"]
    assert await house.fates() == {"arrived": ("sent", "fell_back")}


async def test_fallback_is_spared_when_its_reason_has_gone(house: House) -> None:
    """A withdrawal that comes while a receipt is awaited must stop the next channel; the notice counts as told."""
    channel = Scripted(carries=TWO_WAYS)
    worker = house.dispatcher(channel)
    await house.put(notice("arrived"), contacts=[REACHABLE])
    await worker.step()
    house.clock.turn(60)
    await house.put(withdrawal("arrived"))
    assert await worker.step() == 2
    assert await house.fates() == {"arrived": ("sent", "fallback_stopped"), "": ("done", "withdrawal")}
    house.clock.turn(PATIENCE_S)
    assert await worker.step() == 0
    assert (len(channel.got), await house.waiting()) == (1, 0)


async def test_withdrawal_leaves_what_came_after_it(house: House) -> None:
    """What was decided at a later version of the order is news again."""
    channel = Scripted(carries=TWO_WAYS)
    await house.put(msgspec.structs.replace(notice("arrived"), version=2), withdrawal("arrived"), contacts=[REACHABLE])
    house.clock.turn(60)
    await house.dispatcher(channel).step()
    assert len(channel.got) == 1


async def test_notice_that_waits_is_taken_back_in_silence(house: House) -> None:
    """Who heard nothing of it yet never does: the notice is dropped, and nothing stays in the queue."""
    channel = Scripted(carries=TWO_WAYS)
    await house.put(notice("arrived", wait_s=600), withdrawal("arrived"), contacts=[REACHABLE])
    house.clock.turn(60)
    assert await house.dispatcher(channel).step() == 2
    assert await house.fates() == {"arrived": ("dropped", "withdrawn"), "": ("done", "withdrawal")}
    assert (channel.got, await house.waiting()) == ([], 0)


async def test_history_grows_over_steps(house: House) -> None:
    """What was told stands with the contact, the newest last, and messages are sealed."""
    channel = Scripted()
    worker = house.dispatcher(channel)
    await house.put(notice("paid"), notice("shipped", order_no="A2", wait_s=60))
    await worker.step()
    assert await history_of(house) == History((Told(NOON, "A1", "paid", "critical", "sms"),))
    house.clock.turn(60)
    await worker.step()
    at = NOON + timedelta(seconds=60)
    told = (Told(NOON, "A1", "paid", "critical", "sms"), Told(at, "A2", "shipped", "service", "sms"))
    assert await history_of(house) == History(told)
    for name, body in await house.pool.fetch("SELECT message_id, body FROM message"):
        assert contact().phone.encode() not in body
        assert _decode_message(VAULT.open(TENANT, name, body)).to == contact().phone


async def test_cap_holds_over_steps_and_dispatchers(house: House) -> None:
    """However many steps and dispatchers: the third offer of a day lies in the inbox, and says why."""
    channel = Scripted()
    workers = [house.dispatcher(channel), house.dispatcher(channel)]
    for number in range(5):
        await house.put(notice("offer", order_no=f"A{number}", after_s=number * 600))
        assert await workers[number % 2].step() == 1
        house.clock.turn(600)
    assert len(channel.got) == OFFERS_MAX
    rows = await house.pool.fetch("SELECT m.channel, n.reason FROM notice n JOIN message m USING (tenant, order_no)")
    assert Counter(map(tuple, rows)) == {("sms", "sent"): OFFERS_MAX, ("inbox", "capped"): 5 - OFFERS_MAX}
    assert len((await history_of(house)).told) == OFFERS_MAX
    house.clock.turn(86_400)
    await house.put(notice("offer", order_no="A9", after_s=86_400 + 3000))
    await workers[0].step()
    assert len(channel.got) == OFFERS_MAX + 1, "a day later there is room again"


async def test_cap_holds_when_dispatchers_race(house: House) -> None:
    """Dispatchers that claim the same contacts at the same time must never exceed a cap, and must lose nothing."""
    people = [contact(number) for number in range(30)]
    channels = [Scripted() for _ in range(3)]
    waves = [[notice("offer", n, f"A{wave}-{n}") for n in range(30)] for wave in range(6)]

    async def fill() -> None:
        for wave in waves:
            await house.put(*wave, contacts=people)

    await asyncio.gather(fill(), *(_drain(house, house.dispatcher(channel, batch=7)) for channel in channels))
    disturbed = Counter(out.to for channel in channels for out in channel.got)
    assert disturbed == {person.phone: OFFERS_MAX for person in people}
    rows = await house.pool.fetch("SELECT contact, count(*) FROM message GROUP BY 1")
    assert {row[1] for row in rows} == {len(waves)}
    assert len(rows) == len(people)


async def _drain(house: House, worker: Dispatcher) -> None:
    while await house.pool.fetchval("SELECT count(*) FROM notice") < 180:
        await worker.step()


async def _send_and_confirm(
    house: House, worker: Dispatcher, channel: Scripted, delays_s: Sequence[float], *, delivered: bool = True
) -> None:
    """Let one message a delay go out, and its receipt come so much later."""
    first = len(channel.got)
    await house.put(*(notice("paid", first + n, f"P{first + n}") for n in range(len(delays_s))))
    await worker.step()
    channel.words += [
        receipt(channel, first + n, delivered=delivered, after_s=delay_s) for n, delay_s in enumerate(delays_s)
    ]
    assert await worker.receipts() == len(delays_s)


async def test_patience_is_learned_from_receipts(house: House) -> None:
    """How long receipts take must be kept by channel, and decide how long the next one is waited for."""
    channel = Scripted(carries=TWO_WAYS)
    worker = house.dispatcher(channel)
    await _send_and_confirm(house, worker, channel, [20.0] * 57 + [500.0] * 3)
    assert await house.ledger.paces() == {"sms": (20.0, 60)}, "the slowest 5 % do not count"
    assert await worker.learn() == 0
    assert worker._patience == {"push": PATIENCE, "sms": FLOOR, "inbox": PATIENCE}
    await house.pool.execute("INSERT INTO pace VALUES ('push', 250, 1000)")
    await worker.learn()
    await house.put(notice("arrived", 99), contacts=[contact(99, app="app:99")])
    await worker.step()
    assert (await waiting_notice(house)).due_at == NOON + timedelta(seconds=250 * FACTOR)


async def test_patience_follows_what_is_new(house: House) -> None:
    """What is known weighs more than what is new, by the number of receipts; a failed message teaches as well."""
    channel = Scripted()
    worker = house.dispatcher(channel)
    await _send_and_confirm(house, worker, channel, [60.0] * 60)
    await _send_and_confirm(house, worker, channel, [240.0] * 30, delivered=False)
    assert await house.ledger.paces() == {"sms": (120.0, 90)}
    await worker.learn()
    assert worker._patience["sms"] == timedelta(seconds=240)


async def test_pace_is_not_learned_on_request(house: House) -> None:
    """A replay, whose clock is not that of its provider, must neither teach nor learn."""
    channel = Scripted()
    worker = house.dispatcher(channel)
    await house.put(notice("paid"))
    await worker.step()
    words = [Word(channel.got[0].attempt_id, True, "", "", NOON + timedelta(seconds=9))]
    number = await house.ledger.take_lease("test", timedelta(minutes=1))
    assert await house.ledger.receipt_cursor("scripted", number) == ""
    assert await house.ledger.receive("scripted", words, "1", "", learn=False) == (1, 0)
    assert await house.ledger.paces() == {}
    await house.pool.execute("INSERT INTO pace VALUES ('sms', 500, 1000)")
    replay = house.dispatcher(channel, plan_at=lambda due_at: due_at)
    assert await replay.learn() == 0
    assert replay._patience["sms"] == PATIENCE


async def test_late_word_teaches_nothing(house: House) -> None:
    """A receipt that changes no message, because it came before, must not count twice."""
    channel = Scripted()
    await _send_and_confirm(house, house.dispatcher(channel), channel, [60.0])
    await house.end_leases()
    number = await house.ledger.take_lease("test", timedelta(minutes=1))
    assert await house.ledger.receipt_cursor("scripted", number) == "1"
    words = [Word(channel.got[0].attempt_id, True, "", "", NOON + timedelta(seconds=500))]
    assert await house.ledger.receive("scripted", words, "2", "1") == (0, 0)
    assert await house.ledger.paces() == {"sms": (60.0, 1)}


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        (None, PATIENCE),
        ((2.0, RECEIPTS_MIN - 1), PATIENCE),
        ((2.0, RECEIPTS_MIN), FLOOR),
        ((-5.0, RECEIPTS_MIN), FLOOR),
        ((100.0, RECEIPTS_MIN), timedelta(seconds=100 * FACTOR)),
        ((1e9, RECEIPTS_MIN), CEILING),
    ],
)
def test_patience_has_a_floor_and_a_ceiling(pace: tuple[float, int] | None, expected: timedelta) -> None:
    """Too few receipts prove nothing; however quick or slow a channel is, the wait stays within reason."""
    assert patience_of(["sms"], {} if pace is None else {"sms": pace, "fax": (1.0, 10**6)}) == {"sms": expected}


def test_learning_is_part_of_the_work() -> None:
    """A dispatcher that runs looks at the pace now and then, more often than a patience lasts."""
    assert timedelta(seconds=dispatcher.LEARN_EVERY_S) < FLOOR
