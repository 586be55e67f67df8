"""Dispatch under adversity: floods, clocks that are set back, lost leases, providers that vanish or misbehave."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from orderbell.channels.protocol import (
    Answer,
    Fate,
    Found,
    Limits,
    Outcome,
    Outgoing,
    Receipt,
    ReceiptsBy,
    Recovery,
    Unsure,
)
from orderbell.core.events import Event
from orderbell.core.model import Contact
from orderbell.dispatch import Dispatcher
from orderbell.dispatch.outcomes import clean
from orderbell.dispatch.receiving import Receiver
from orderbell.dispatch.routes import Routes, Terms
from orderbell.errors import DatabaseUnavailable
from orderbell.observe import counts
from orderbell.store.ledger import Word
from tests.dispatch.rig import NOON, House, Scripted, contact, notice

HOUR_S, DAY_S = 3600, 86400
SOON_S = 5
BRITISH = "+447911123456"
PAID = "Order {order_no} is paid."
Hand = Callable[[Sequence[Outgoing]], Awaitable[list[Answer]]]


class Handed(Scripted):
    """A scripted provider with a name and a pace; what stands in `hand` answers instead of the script."""

    hand: Hand | None = None

    def __init__(
        self,
        name: str,
        *outcomes: Outcome,
        recovery: Recovery = Recovery.LOOKUP,
        retry_after_s: float = 0,
        carries: frozenset[str] = frozenset({"sms"}),
        limits: Limits | None = None,
    ) -> None:
        super().__init__(*outcomes, recovery=recovery, retry_after_s=retry_after_s, carries=carries)
        self.name = name
        if limits is not None:
            self.limits = limits

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """Answer by hand where there is one, and by the script otherwise."""
        return await (self.hand or super().send)(batch)


class Broken(Handed):
    """A provider whose lookup has a bug."""

    async def lookup(self, attempts: Sequence[Unsure]) -> list[Found]:
        """Raise what nobody expects."""
        raise RuntimeError("a bug of ours")


async def keep_on(dispatcher: Dispatcher, house: House, times: int, seconds: float, *, resolve: bool = False) -> None:
    """Turn the clock on and let the dispatcher work, again and again."""
    for _ in range(times):
        house.clock.turn(seconds)
        if resolve:
            await dispatcher.resolve()
        await dispatcher.step()


async def status_of(house: House, order_no: str) -> str:
    """The status of the one message about an order."""
    return str(await house.pool.fetchval("SELECT status FROM message WHERE order_no = $1", order_no))


# Pace


async def test_critical_message_behind_a_flood(house: House) -> None:
    """A provider's pace must not make what is critical wait for the thousand others that came first."""
    dispatcher = house.dispatcher(Routes([Handed("slow", limits=Limits(per_second=10))], NOON))
    await house.put(*(notice("shipped", number, f"A{number}") for number in range(1000)))
    for _ in range(3):
        await dispatcher.step()
    await house.put(notice("paid", 5000, "B1"))
    await dispatcher.step()
    rows = await house.pool.fetch("SELECT due_at FROM message WHERE order_no = 'B1'")
    assert len(rows) == 1
    assert rows[0]["due_at"] is None or rows[0]["due_at"] <= NOON + timedelta(seconds=2)


async def test_pace_after_a_standstill(house: House) -> None:
    """What fell due while nothing was sent must leave at the provider's pace, not all at once."""
    channel = Handed("slow", limits=Limits(per_second=10))
    dispatcher = house.dispatcher(Routes([channel], NOON))
    await house.put(*(notice("shipped", number, f"A{number}") for number in range(400)))
    await dispatcher.step()
    before = len(channel.got)
    house.clock.turn(600)
    await dispatcher.step()
    assert 0 < len(channel.got) - before <= 20


async def test_pace_when_the_clock_is_set_back(house: House) -> None:
    """Places reserved at a provider must keep nobody waiting for an hour that the clock shows once more."""
    channel = Handed("slow", limits=Limits(per_second=10))
    dispatcher = house.dispatcher(Routes([channel], NOON))
    house.clock.turn(HOUR_S)
    await house.put(notice("paid", 1, "A1"))
    await dispatcher.step()
    house.clock.turn(-HOUR_S)
    await house.put(notice("paid", 2, "A2"))
    await dispatcher.step()
    await keep_on(dispatcher, house, 60, 1)
    assert [out.order_no for out in channel.got] == ["A1", "A2"]


async def test_breaker_when_the_clock_is_set_back(house: House) -> None:
    """A provider that was given a rest must be tried again soon, although the clock was set back meanwhile."""
    dispatcher = house.dispatcher(Routes([Handed("one", *[Outcome.NOT_SENT] * 3)], NOON))
    house.clock.turn(HOUR_S)
    await house.put(*(notice("paid", number, f"A{number}") for number in range(3)))
    await dispatcher.step()
    house.clock.turn(-HOUR_S)
    await house.put(notice("paid", 9, "A9"))
    await keep_on(dispatcher, house, 90, 1)
    assert await status_of(house, "A9") == "accepted"


async def test_backlog_when_the_provider_is_back(house: House) -> None:
    """What waited for a provider must be gone within seconds of its recovery, though nothing new comes in."""
    channel = Handed("one", *[Outcome.NOT_SENT] * 3)
    channel.batch_max = 100
    dispatcher = house.dispatcher(Routes([channel], NOON))
    await house.put(*(notice("paid", number, f"A{number}") for number in range(600)))
    for _ in range(20):
        while await dispatcher.step():
            pass
        house.clock.turn(1)
    assert set(await house.statuses()) == {"accepted"}


async def test_recipient_limit_within_one_plan(house: House) -> None:
    """A limit for one address must count the messages that are sent in the same step."""
    channel = Handed("sms", limits=Limits(per_recipient=((1, 60.0),)))
    dispatcher = house.dispatcher(Routes([channel], NOON))
    await house.put(*(notice("paid", 1, f"A{number}") for number in range(5)))
    await dispatcher.step()
    assert len(channel.got) == 1


async def test_last_tenant_beside_large_ones(house: House) -> None:
    """Each tenant with something due must get its share, also the last one of the alphabet."""
    tenants = [f"t{number}" for number in range(8)]
    house.serve(*tenants)
    dispatcher = house.dispatcher(Routes([Handed("one")], NOON), batch=4)
    for tenant in tenants:
        many = 40 if tenant != "t7" else 1
        await house.put(
            *(msgspec.structs.replace(notice("paid", n, f"{tenant}-{n}"), tenant=tenant) for n in range(many)),
            contacts=[Contact(tenant, f"c{n}", f"+86138{n:08}") for n in range(many)],
        )
    for _ in range(24):  # the others alone need 70
        await dispatcher.step()
    assert await house.pool.fetchval("SELECT count(*) FROM message WHERE tenant = 't7'") == 1


# Providers that are gone, refuse, or serve somebody else


async def test_message_whose_channel_has_no_provider_any_more(house: House) -> None:
    """A message that nobody can carry any more must end when it is out of date."""
    await house.put(notice("paid", 1, "A1", valid_s=600))
    await house.dispatcher(Routes([Handed("one", *[Outcome.NOT_SENT] * 3)], NOON)).step()
    other = house.dispatcher(Routes([Handed("mail", carries=frozenset({"email"}))], NOON))
    await keep_on(other, house, 5, DAY_S)
    assert await house.statuses() == ["failed"]


async def test_doubt_about_a_provider_that_is_gone(house: House) -> None:
    """What a provider was given before it was renamed must not stay in doubt for ever."""
    house.set_doubt("resend")
    await house.put(notice("paid", 1, "A1"))
    await house.dispatcher(Routes([Handed("old", Outcome.UNKNOWN)], NOON)).step()
    assert await house.statuses() == ["unknown"]
    await keep_on(house.dispatcher(Routes([Handed("new")], NOON)), house, 20, 60, resolve=True)
    assert await house.statuses() == ["accepted"]


async def test_text_that_one_provider_refuses(house: House) -> None:
    """A text that one refuses must wait for the other one, which is only away for a moment."""
    left, right = Handed("left", *[Outcome.REJECTED_CONTENT] * 9), Handed("right", Outcome.RETRY_LATER)
    dispatcher = house.dispatcher(Routes([left, right], NOON, {"left": Terms(weight=1e9)}))
    await house.put(notice("paid", 1, "A1"))
    await keep_on(dispatcher, house, 30, 2)
    assert await house.statuses() == ["accepted"]
    assert len(left.got) == 1


async def test_long_wait_of_one_provider(house: House) -> None:
    """That one provider wants an hour's rest must not keep a message from another that is well in ten seconds."""
    left, right = Handed("left", Outcome.THROTTLED, retry_after_s=HOUR_S), Handed("right")
    ways = Routes([left, right], NOON, {"right": Terms(weight=1e9)})
    ways.saw("right", [Answer(b"", Outcome.NOT_SENT)] * 3, NOON)
    dispatcher = house.dispatcher(ways)
    await house.put(notice("paid", 1, "A1", valid_s=HOUR_S / 2))
    await dispatcher.step()
    await keep_on(dispatcher, house, 120, 1)
    assert await house.statuses() == ["accepted"]
    assert (len(left.got), len(right.got)) == (1, 1)


async def test_phone_that_no_provider_serves(house: House) -> None:
    """Whom no SMS provider serves must be told on the next channel, here the inbox."""
    sms = Handed("sms")
    dispatcher = house.dispatcher(Routes([sms], NOON, {"sms": Terms(prefixes=("+86",))}))
    await house.put(notice("paid", 1, "A1", valid_s=HOUR_S), contacts=[contact(1, phone=BRITISH)])
    await dispatcher.step()
    await keep_on(dispatcher, house, 10, 60)
    rows = await house.pool.fetch("SELECT channel, status FROM message WHERE status <> 'failed'")
    assert [tuple(row) for row in rows] == [("inbox", "delivered")]
    assert sms.got == []


async def test_first_channel_comes_back_after_the_next_one_told(house: House) -> None:
    """What was told by SMS because push was away must not be pushed as well when push is back."""
    push, sms = Handed("push", *[Outcome.NOT_SENT] * 40, carries=frozenset({"push"})), Handed("sms")
    dispatcher = house.dispatcher(Routes([push, sms], NOON))
    await house.put(notice("arrived", 1, "A1"), contacts=[contact(1, app="jpush:x")])
    await keep_on(dispatcher, house, 30, 10)
    assert len(sms.got) == 1
    push.outcomes, push.got = [], []
    await keep_on(dispatcher, house, 60, 60)
    assert (len(sms.got), push.got) == (1, [])


async def test_advertising_that_waited_into_the_night(house: House) -> None:
    """Advertising whose provider was away must not be sent at an hour at which none may be."""
    sms = Handed("sms", *[Outcome.NOT_SENT] * 3)
    dispatcher = house.dispatcher(Routes([sms], NOON))
    await house.put(*(notice("offer", number, f"A{number}") for number in range(3)))
    await dispatcher.step()
    tried = len(sms.got)
    assert tried
    house.clock.turn(11 * HOUR_S)
    await keep_on(dispatcher, house, 5, 16)
    assert len(sms.got) == tried


async def test_template_taken_back_while_in_doubt(house: House) -> None:
    """An attempt in doubt must be repeated when its template is approved again, and not be lost meanwhile."""
    house.set_doubt("resend")
    one = Handed("one", Outcome.UNKNOWN, recovery=Recovery.KEY)
    one.needs_template = True
    ways = Routes([one], NOON)
    ways.set_templates({"one": {PAID: "T1"}})
    dispatcher = house.dispatcher(ways)
    await house.put(notice("paid", 1, "A1"))
    await dispatcher.step()
    assert await house.statuses() == ["unknown"]
    ways.set_templates({"one": {}})
    house.clock.turn(30)
    await dispatcher.resolve()
    ways.set_templates({"one": {PAID: "T1"}})
    await keep_on(dispatcher, house, 5, 60, resolve=True)
    assert await house.statuses() == ["accepted"]


# Doubts


@pytest.mark.parametrize("recovery", [Recovery.NONE, Recovery.KEY])
async def test_doubt_when_the_database_goes_away(
    house: House, recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A doubt that could not be ended because the database was away must be ended later."""
    house.set_doubt("resend")
    channel = Handed("one", Outcome.UNKNOWN, recovery=recovery)
    channel.key_window_s = 60
    dispatcher = house.dispatcher(Routes([channel], NOON))
    await house.put(notice("paid", 1, "A1"))
    await dispatcher.step()
    house.clock.turn(180)

    async def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(house.ledger, "settle", away)
        with pytest.raises(DatabaseUnavailable):
            await dispatcher.resolve()
    await keep_on(house.dispatcher(Routes([channel], NOON)), house, 5, 60, resolve=True)
    assert await house.statuses() == ["accepted"]


async def test_answer_of_a_worker_that_was_thought_lost(house: House) -> None:
    """A late answer must not hide the repeat that a successor has under way, should that one die too."""
    channel = Handed("one", recovery=Recovery.KEY)
    first, second, third = (house.dispatcher(Routes([channel], NOON)) for _ in range(3))
    sent, go, repeated = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def pause(batch: Sequence[Outgoing]) -> list[Answer]:
        sent.set()
        await go.wait()
        return [Answer(out.attempt_id, Outcome.UNKNOWN) for out in batch]

    async def hang(batch: Sequence[Outgoing]) -> list[Answer]:
        repeated.set()
        await asyncio.Event().wait()
        return []

    await house.put(notice("paid", 1, "A1"))
    channel.hand = pause
    lost = asyncio.create_task(first.step())
    await asyncio.wait_for(sent.wait(), SOON_S)
    await house.end_leases()
    house.clock.turn(30)
    channel.hand = hang
    assert await second.resolve() == 1
    house.clock.turn(30)
    repeat = asyncio.create_task(second.resolve())
    await asyncio.wait_for(repeated.wait(), SOON_S)
    go.set()
    await lost
    dying: list[asyncio.Task[Any]] = [repeat, *second._flying]
    for task in dying:
        task.cancel()
    await asyncio.gather(*dying, return_exceptions=True)
    await house.end_leases()
    channel.hand = None
    await keep_on(third, house, 5, 60, resolve=True)
    assert await house.statuses() == ["accepted"]


async def test_repeats_of_an_attempt_that_stays_in_doubt(house: House) -> None:
    """Repeats must come at growing intervals, also at a provider that may be asked again at once."""
    channel = Handed("hook", *[Outcome.UNKNOWN] * 1000, recovery=Recovery.KEY)
    channel.lookup_after_s = 0.0
    dispatcher = house.dispatcher(Routes([channel], NOON))
    await house.put(notice("paid", 1, "A1"))
    await dispatcher.step()
    for _ in range(50):
        house.clock.turn(0.1)
        await dispatcher.resolve()
    assert 1 < len(channel.got) <= 6


async def test_repeats_while_halted(house: House) -> None:
    """A halt must halt the repeats of attempts in doubt as well."""
    channel = Handed("hook", Outcome.UNKNOWN, recovery=Recovery.KEY)
    dispatcher = house.dispatcher(Routes([channel], NOON))
    await house.put(notice("paid", 1, "A1"))
    await dispatcher.step()
    await house.ledger.halt("wrong text", house.clock())
    house.clock.turn(60)
    await dispatcher.resolve()
    assert len(channel.got) == 1


async def test_lookup_that_raises(house: House) -> None:
    """A bug in one provider's lookup must not keep another provider from being asked."""
    bad, good = Broken("bad", Outcome.UNKNOWN), Handed("good", Outcome.UNKNOWN)
    ways = Routes([bad, good], NOON, {"bad": Terms(prefixes=("+86",)), "good": Terms(prefixes=("+44",))})
    dispatcher = house.dispatcher(ways)
    people = [contact(1), contact(2, phone=BRITISH)]
    await house.put(notice("paid", 1, "A1"), notice("paid", 2, "A2"), contacts=people)
    await dispatcher.step()
    good.found = [Found(good.got[0].attempt_id, Fate.DELIVERED)]
    for _ in range(3):
        house.clock.turn(60)
        await dispatcher.resolve()
    assert await house.statuses() == ["unknown", "delivered"]


# Leases, restores and halts


async def test_lost_lease_is_no_failure_of_the_provider(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What did not leave because our lease was over must not be held against the provider."""
    channel = Handed("sms")
    ways = Routes([channel], NOON)
    dispatcher = house.dispatcher(ways)
    monkeypatch.setattr(dispatcher._lease, "holds", lambda _worker: False)
    for number in range(4):
        await house.put(notice("paid", number, f"A{number}"))
        await dispatcher.step()
    assert channel.got == []
    assert ways.health["sms"].state == "closed"


async def test_restore_under_a_running_dispatcher(house: House) -> None:
    """A dispatcher whose database is restored behind its back must halt before it sends anything more."""
    channel = Handed("one")
    dispatcher = house.dispatcher(Routes([channel], NOON))
    await house.put(notice("paid", 1, "A1"))
    await dispatcher.step()
    # What a restore looks like: another time line, and the leases of the past are over.
    await house.pool.execute("UPDATE halt SET cluster = 'before/1'")
    await house.end_leases()
    dispatcher._lease._renew_at_s = 0.0  # it is time to renew
    await house.put(notice("paid", 2, "A2"))
    assert await dispatcher.step() == 0
    assert [out.order_no for out in channel.got] == ["A1"]
    assert (await house.ledger.halted())[1] == "restored"


async def test_halt_by_hand_after_a_restore(house: House) -> None:
    """Who halts a restored database by hand must not make it forget that it was restored."""
    await house.ledger.notice_restore(NOON)
    await house.pool.execute("UPDATE halt SET cluster = 'before/1'")
    assert await house.ledger.notice_restore(NOON)
    await house.ledger.halt("we restored it, wait", NOON)
    assert (await house.ledger.halted())[1] == "restored"


# Receipts


async def test_failure_that_is_known_before_the_answer(house: House) -> None:
    """A receipt of a failure that comes before the answer must be reported like any other."""
    events: list[Event] = []

    async def report(some: list[Event]) -> None:
        events.extend(some)

    channel = Handed("one")
    channel.receipts_by = ReceiptsBy.CALLBACK
    dispatcher = house.dispatcher(Routes([channel], NOON), report=report)
    await house.put(notice("paid", 1, "A1"))
    receiver = Receiver(house.ledger, house.clock, report)
    await receiver.take("one", [Receipt(b"", "ref-1", delivered=False, detail="UNDELIV", at=house.clock())])
    await dispatcher.step()
    await dispatcher.match()
    assert await house.statuses() == ["failed"]
    assert len(events) == 1


async def test_reference_that_a_provider_uses_again(house: House) -> None:
    """A receipt must be that of the newer attempt where a provider gives the same reference twice."""
    channel = Handed("one")
    channel.receipts_by = ReceiptsBy.CALLBACK

    async def repeat(batch: Sequence[Outgoing]) -> list[Answer]:
        return [Answer(out.attempt_id, Outcome.ACCEPTED, "00000001") for out in batch]

    channel.hand = repeat
    dispatcher = house.dispatcher(Routes([channel], NOON))
    await house.put(notice("paid", 1, "A1"))
    await dispatcher.step()
    house.clock.turn(7 * DAY_S)
    await house.put(notice("paid", 2, "A2", after_s=7 * DAY_S))
    await dispatcher.step()
    word = Receipt(b"", "00000001", delivered=True, detail="", at=house.clock())
    await Receiver(house.ledger, house.clock).take("one", [word])
    assert await house.statuses() == ["accepted", "delivered"]


async def test_early_and_late_receipts_at_once(house: House) -> None:
    """Matching early receipts of two providers must not race with the receipts that one of them brings just now."""

    async def name_each(batch: Sequence[Outgoing]) -> list[Answer]:
        return [Answer(out.attempt_id, Outcome.ACCEPTED, f"ref-{out.order_no}") for out in batch]

    channels = [Handed(name) for name in ("left", "right")]
    for channel in channels:
        channel.receipts_by, channel.hand = ReceiptsBy.CALLBACK, name_each
    dispatcher = house.dispatcher(Routes(channels, NOON))
    await house.put(*(notice("paid", number, f"A{number}") for number in range(800)))
    while await dispatcher.step():
        pass
    rows = await house.pool.fetch("SELECT provider, provider_ref FROM message ORDER BY message_id")
    refs = {one.name: [row[1] for row in rows if row[0] == one.name] for one in channels}
    late = refs["right"][::2]
    early = [("left", ref) for ref in refs["left"]] + [("right", ref) for ref in refs["right"][1::2]]
    races = counts().get("ledger.races", 0)

    async def match() -> None:
        for start in range(8):
            await house.pool.executemany(
                "INSERT INTO receipt (provider, ref, delivered, detail, at) VALUES ($1, $2, true, '', $3)",
                [(provider, ref, NOON) for provider, ref in early[start::8]],
            )
            for provider, words in (await house.ledger.early_words()).items():
                await house.ledger.match_words(provider, words)

    async def take() -> None:
        for start in range(0, len(late), 20):
            some = [Word(b"", delivered=True, provider_ref=ref, detail="", at=NOON) for ref in late[start : start + 20]]
            await house.ledger.take_words("right", some)

    await asyncio.gather(match(), take())
    assert min(map(len, refs.values())) > 100
    assert set(await house.statuses()) == {"delivered"}
    assert counts().get("ledger.races", 0) == races


@pytest.mark.parametrize("words", ["to=447911123456 refused", "008613812345678", "tel13812345678", "phone_13812345678"])
def test_phones_in_the_words_of_a_provider(words: str) -> None:
    """However a provider writes a phone into its words, it must not be kept in clear."""
    cleaned = clean(words)
    assert "12345" not in cleaned
    assert "11123" not in cleaned
