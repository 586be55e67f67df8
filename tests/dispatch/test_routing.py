"""Several providers for one message: who carries it, what happens when one fails, and that nothing is told twice."""

import itertools
from datetime import datetime, timedelta

import msgspec
import pytest

from orderbell.channels.protocol import Answer, Fate, Found, Limits, Outcome, Receipt, ReceiptsBy, Recovery, Scope
from orderbell.core.model import Message
from orderbell.core.routing import FAILURES_MIN
from orderbell.dispatch.outcomes import DOUBT_ENDS_AFTER
from orderbell.dispatch.receiving import SWEEP_EVERY, Receiver
from orderbell.dispatch.routes import PLACES, SLOW, Change, Choice, Routes, Terms
from orderbell.observe import counts
from tests.dispatch.rig import NOON, TENANT, House, Scripted, contact, notice

HALF = {"right": Terms(weight=1), "left": Terms(weight=1)}


def pair(*failures: Outcome, **options: object) -> tuple[Scripted, Scripted]:
    """Two providers of SMS: the left one fails as told and is preferred by far, the right one is well."""
    left, right = Scripted(*failures, **options), Scripted()  # type: ignore[arg-type]
    left.name, right.name = "left", "right"
    return left, right


def routes(*channels: Scripted, **terms: Terms) -> Routes:
    """The ways to them; the left one is always drawn while it may be."""
    return Routes(channels, NOON, {"left": Terms(weight=1e9), **terms})


async def drained(house: House, *channels: Scripted, ways: Routes | None = None, steps: int = 5) -> list[str]:
    """Let a dispatcher work until nothing is left to do, and give the statuses."""
    dispatcher = house.dispatcher(ways or routes(*channels))
    for _ in range(steps):
        await dispatcher.step()
    return await house.statuses()


async def test_both_share_the_traffic(house: House) -> None:
    """Providers of the same weight must each carry about half of the messages."""
    left, right = pair()
    await house.put(*(notice("paid", n, f"A{n}") for n in range(400)))
    assert set(await drained(house, ways=Routes([left, right], NOON))) == {"accepted"}
    assert len(left.got) + len(right.got) == 400
    assert 140 < len(left.got) < 260


@pytest.mark.parametrize(
    "outcome",
    [Outcome.RETRY_LATER, Outcome.NOT_SENT, Outcome.CHANNEL_DOWN, Outcome.THROTTLED, Outcome.REJECTED_CONTENT],
)
async def test_failed_message_goes_to_the_other_at_once(house: House, outcome: Outcome) -> None:
    """What one provider surely did not take must leave by the other one in the same moment, without a back-off."""
    left, right = pair(outcome)
    await house.put(notice("paid"))
    assert await drained(house, left, right) == ["accepted"]
    assert (len(left.got), len(right.got)) == (1, 1)
    rows = await house.pool.fetch("SELECT provider, outcome FROM attempt")
    assert [tuple(row) for row in rows] == [("left", outcome)]
    never_again = "!" if outcome is Outcome.REJECTED_CONTENT else ""
    assert await house.pool.fetchval("SELECT tried FROM message") == f"left{never_again}"


async def test_unknown_message_is_not_given_to_the_other(house: House) -> None:
    """What the first provider may have taken must not be sent by the second before anybody knows better."""
    left, right = pair(Outcome.UNKNOWN)
    await house.put(notice("paid"))
    assert await drained(house, left, right) == ["unknown"]
    assert right.got == []


async def test_message_that_was_not_found_goes_to_the_other(house: House) -> None:
    """Once the first provider says that it never had it, the second must send it."""
    left, right = pair(Outcome.UNKNOWN)
    dispatcher = house.dispatcher(routes(left, right))
    await house.put(notice("paid"))
    await dispatcher.step()
    left.found = [Found(left.got[0].attempt_id, Fate.NOT_FOUND)]
    house.clock.turn(left.lookup_after_s)
    assert await dispatcher.resolve() == 1
    await dispatcher.step()
    assert (await house.statuses(), len(left.got), len(right.got)) == (["accepted"], 1, 1)


async def test_number_that_is_refused_is_refused_for_good(house: House) -> None:
    """A wrong number must not be tried with every provider."""
    left, right = pair(Outcome.REJECTED_RECIPIENT)
    await house.put(notice("paid"))
    assert await drained(house, left, right) == ["rejected"]
    assert right.got == []


async def test_content_that_everybody_refuses(house: House) -> None:
    """A text that no provider takes must end as rejected."""
    left, right = pair(Outcome.REJECTED_CONTENT)
    right.outcomes = [Outcome.REJECTED_CONTENT]
    await house.put(notice("paid"))
    assert await drained(house, left, right) == ["rejected"]
    assert (len(left.got), len(right.got)) == (1, 1)


async def test_breaker_opens_and_traffic_moves(house: House) -> None:
    """After a few failures nothing more may go to a provider that fails; all of it must still be told at once."""
    failing = int(FAILURES_MIN) + 1
    left, right = pair(*[Outcome.RETRY_LATER] * 50)
    ways = routes(left, right)
    for n in range(20):
        await house.put(notice("paid", n, f"A{n}"))
        await drained(house, ways=ways, steps=2)
    assert await house.statuses() == ["accepted"] * 20
    assert len(left.got) <= failing
    assert ways.health["left"].state == "open"


async def test_provider_comes_back(house: House) -> None:
    """One that is well again must be tried with single messages, and then have its traffic back."""
    left, right = pair(*[Outcome.RETRY_LATER] * 4)
    changes: list[tuple[str, str]] = []
    ways = Routes([left, right], NOON, {"left": Terms(weight=1e9)}, lambda c: changes.append((c.provider, c.state)))
    number = 0
    while len(left.got) < 4 + 3:
        number += 1
        assert number < 100, "never tried again"
        await house.put(notice("paid", number, f"A{number}", after_s=number))
        dispatcher = house.dispatcher(ways)
        await dispatcher.step()
        await dispatcher.step()
        house.clock.turn(1)
    assert changes == [("left", "open"), ("left", "closed")]
    assert set(await house.statuses()) == {"accepted"}


async def test_everybody_is_away(house: House) -> None:
    """While no provider is well nothing may be lost, and afterwards all of it must go out once."""
    left, right = pair(*[Outcome.NOT_SENT] * 30)
    right.outcomes = [Outcome.NOT_SENT] * 30
    ways = routes(left, right)
    await house.put(*(notice("paid", n, f"A{n}") for n in range(10)))
    assert set(await drained(house, ways=ways, steps=8)) == {"queued"}
    tries = len(left.got) + len(right.got)
    assert tries <= 10 * 3
    left.outcomes, right.outcomes = [], []
    for _ in range(60):
        house.clock.turn(30)
        await drained(house, ways=ways, steps=2)
    assert await house.statuses() == ["accepted"] * 10
    assert len(left.got) + len(right.got) == tries + 10


async def test_account_that_is_refused_shuts_the_provider(house: House) -> None:
    """Arrears and wrong keys concern all messages: the breaker must open at the first."""
    left, right = pair(Outcome.CHANNEL_DOWN)
    changes: list[Change] = []
    ways = Routes([left, right], NOON, {"left": Terms(weight=1e9)}, changes.append)
    await house.put(notice("paid"))
    assert await drained(house, ways=ways) == ["accepted"]
    assert [(one.provider, one.state, one.reason) for one in changes] == [("left", "open", "account")]


async def test_number_that_is_throttled_alone(house: House) -> None:
    """A limit on one number must delay that message and leave the provider open to all others."""
    left, right = pair()
    ways = routes(left, right)

    async def throttled(batch: object) -> list[Answer]:
        return [
            Answer(one.attempt_id, Outcome.THROTTLED, retry_after_s=50, scope=Scope.RECIPIENT)
            for one in batch  # type: ignore[attr-defined]
        ]

    left.send = throttled  # type: ignore[method-assign]
    await house.put(notice("paid"))
    assert await drained(house, ways=ways) == ["queued"]
    assert ways.health["left"].state == "closed"
    assert (await house.pool.fetchval("SELECT due_at FROM message")) >= NOON + timedelta(seconds=50)


async def test_terms_say_who_may_be_carried(house: House) -> None:
    """A provider for other tenants, or other countries, must never be drawn."""
    left, right = pair()
    await house.put(notice("paid"))
    ways = Routes([left, right], NOON, {"left": Terms(1e9, prefixes=("+1",)), "right": Terms()})
    assert await drained(house, ways=ways) == ["accepted"]
    assert left.got == []
    await house.clear()
    await house.put(notice("paid", order_no="A2"))
    ways = Routes([left, right], NOON, {"left": Terms(1e9, frozenset({"other"}))})
    assert await drained(house, ways=ways) == ["accepted"]
    assert left.got == []


async def test_limit_of_a_number_is_kept_beforehand(house: House) -> None:
    """Where every provider has had its share of messages for a number, the next one must wait instead of failing."""
    left, _ = pair()
    left.limits = Limits(per_recipient=((2, 3600),))
    ways = routes(left)
    dispatcher = house.dispatcher(ways)
    for n in range(3):
        await house.put(notice("paid", 1, f"A{n}", after_s=n), contacts=[contact()])
        house.clock.turn(1)
        await dispatcher.step()
    assert sorted(await house.statuses()) == ["accepted", "accepted", "queued"]
    assert await house.pool.fetchval("SELECT detail FROM message WHERE status = 'queued'") == "recipient_limit"
    due_at = await dispatcher.next_due_at()
    assert due_at is not None
    assert NOON + timedelta(seconds=3600) <= due_at <= NOON + timedelta(seconds=3603)
    house.clock.at = due_at
    await dispatcher.step()
    assert await house.statuses() == ["accepted"] * 3


async def test_messages_leave_at_the_pace_of_the_provider(house: House) -> None:
    """What a second does not allow must wait for its place, and leave in it without asking again."""
    left, _ = pair()
    left.limits = Limits(per_second=20)
    ways = routes(left)
    dispatcher = house.dispatcher(ways)
    await house.put(*(notice("paid", n, f"A{n}") for n in range(30)))
    await dispatcher.step()
    assert len(left.got) <= 4
    taken = [len(left.got)]
    for _ in range(8):
        house.clock.turn(0.25)
        await dispatcher.step()
        taken.append(len(left.got))
    assert taken[-1] == 30
    assert max(after - before for before, after in itertools.pairwise(taken)) <= 6


def test_slow_provider_keeps_its_own_messages_only() -> None:
    """While as many requests as it has places take long, the others must carry what comes; then its turn comes again."""
    left, right = pair()
    ways = routes(left, right)
    message = Message(
        b"m" * 16, TENANT, "ann", "sms", "+8613800138000", "paid", "must", "service", "A1", "paid", "", (), NOON, NOON,
        NOON + timedelta(hours=1),
    )  # fmt: skip
    for number in range(PLACES):
        ways.left("left", bytes([number]), NOON)
    later = NOON + SLOW
    assert ways.choose(message, b"k" * 16, later) == Choice("left"), "none of them takes long yet"
    later += timedelta(milliseconds=1)
    assert ways.choose(message, b"k" * 16, later) == Choice("right")
    assert Routes([left], NOON).choose(message, b"k" * 16, later) == Choice("left"), "there is nobody else"
    ways.landed("left", bytes(1))
    assert ways.choose(message, b"k" * 16, later) == Choice("left")


async def test_requests_that_landed_are_forgotten(house: House) -> None:
    """Whatever comes of a request, it must not count as under way for ever."""
    left, right = pair(Outcome.RETRY_LATER, Outcome.ACCEPTED)
    ways = routes(left, right)
    await house.put(notice("paid"))
    await drained(house, ways=ways)
    assert ways._flying == {"left": {}, "right": {}}


async def test_standing_of_providers_is_written_down(house: House) -> None:
    """Who looks from outside must see the breaker of each provider and its last trouble, without anybody's phone."""
    left, right = pair(*[Outcome.RETRY_LATER] * 9)
    left.detail = "no way to +8613800138000 today"
    ways = routes(left, right)
    dispatcher = house.dispatcher(ways)
    for number in range(3):
        await house.put(notice("paid", number, f"A{number}"))
        await dispatcher.step()
    await dispatcher.learn()
    worse, well = await house.ledger.standings()
    assert (worse.provider, worse.state, worse.reason) == ("left", "open", "failing")
    assert worse.retry_at is not None
    assert worse.detail.startswith("no way to ")
    assert "13800138000" not in worse.detail
    assert (well.provider, well.state, well.detail) == ("right", "closed", "")


async def test_template_must_be_approved(house: House) -> None:
    """A provider of templates must only be drawn for texts that it has approved, with its code for them."""
    left, right = pair()
    left.needs_template = True
    await house.put(notice("paid"))
    assert await drained(house, left, right) == ["accepted"]
    assert (left.got, len(right.got)) == ([], 1)
    await house.put(notice("paid", order_no="A2", after_s=1))
    house.clock.turn(2)
    ways = routes(left, right)
    ways.set_templates({"left": {"Order {order_no} is paid.": "SMS_1"}})
    await drained(house, ways=ways)
    assert [(out.template_code, out.slots) for out in left.got] == [("SMS_1", (("order_no", "A2"),))]


async def test_template_that_nobody_approved(house: House) -> None:
    """Without an approved template there is no SMS: the notice must go to the next channel, here the inbox."""
    left, _ = pair()
    left.needs_template = True
    await house.put(notice("shipped"))
    assert await drained(house, left) == ["delivered"]
    assert await house.pool.fetchval("SELECT provider FROM message") == "inbox"
    assert left.got == []


class Named(Scripted):
    """A provider that speaks of messages by names of its own, and calls us with receipts."""

    receipts_by = ReceiptsBy.CALLBACK


def word(ref: str, *, delivered: bool = True, at: datetime = NOON) -> Receipt:
    """What such a provider says."""
    return Receipt(b"", ref, delivered, "so", at)


async def test_receipt_by_the_providers_name(house: House) -> None:
    """A receipt must find its message by the name in the answer, however often it comes; delivered is final."""
    channel = Named()
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid"))
    await dispatcher.step()
    receiver = Receiver(house.ledger, house.clock)
    await receiver.take("scripted", [word("ref-1"), word("ref-1", delivered=False)])
    await receiver.take("scripted", [word("ref-1", delivered=False)])
    assert await house.statuses() == ["delivered"]


async def test_receipt_that_comes_before_the_answer(house: House) -> None:
    """An early receipt must be kept, and be given to its message once the answer says whose it is."""
    channel = Named()
    dispatcher = house.dispatcher(channel)
    receiver = Receiver(house.ledger, house.clock)
    before = counts().get("dispatch.receipts_early", 0)
    await receiver.take("scripted", [word("ref-1"), word("ref-1")])
    assert counts()["dispatch.receipts_early"] == before + 1
    await house.put(notice("paid"))
    await dispatcher.step()
    assert await house.statuses() == ["accepted"]
    assert await dispatcher.match() == 1
    assert await house.statuses() == ["delivered"]
    assert await dispatcher.match() == 0


async def test_receipt_that_was_hours_ahead(house: House) -> None:
    """A receipt whose message became known much later must be found as well, by the sweep of now and then."""
    dispatcher = house.dispatcher(Named())
    assert await dispatcher.match() == 0
    await Receiver(house.ledger, house.clock).take("scripted", [word("ref-1")])
    await house.pool.execute("UPDATE receipt SET heard_at = heard_at - interval '3 hours'")
    await house.put(notice("paid"))
    await dispatcher.step()
    assert await dispatcher.match() == 0
    house.clock.turn(SWEEP_EVERY.total_seconds())
    assert await dispatcher.match() == 1
    assert await house.statuses() == ["delivered"]


async def test_receipt_of_another_provider_is_nobodys(house: House) -> None:
    """The same name in another provider's mouth must change nothing."""
    dispatcher = house.dispatcher(Named())
    await house.put(notice("paid"))
    await dispatcher.step()
    await Receiver(house.ledger, house.clock).take("other", [word("ref-1")])
    assert await house.statuses() == ["accepted"]
    assert await dispatcher.match() == 0


async def test_receipt_settles_a_doubt(house: House) -> None:
    """Where the answer was lost and the provider knows the message by a name of ours, its receipt ends the doubt."""

    class Foretold(Named):
        def ref_of(self, first: bytes, outgoing: object) -> str:
            return f"{first.hex()}/x"

    channel = Foretold(Outcome.UNKNOWN, recovery=Recovery.NONE)
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid"))
    await dispatcher.step()
    assert await house.statuses() == ["unknown"]
    name = channel.got[0].ref
    assert name == f"{channel.got[0].attempt_id.hex()}/x"
    assert await house.pool.fetchval("SELECT provider_ref FROM message") in {name, "ref-1"}
    ref = await house.pool.fetchval("SELECT ref FROM handle")
    await Receiver(house.ledger, house.clock).take("scripted", [word(ref)])
    assert await house.statuses() == ["delivered"]


async def test_doubt_that_nobody_ends(house: House) -> None:
    """Where nobody can be asked, only a class that says so is sent again, once its time is over."""
    for resend, status in ((False, "unknown"), (True, "accepted")):
        await house.clear()
        channel = Scripted(Outcome.UNKNOWN, recovery=Recovery.NONE)
        house.set_doubt("resend" if resend else "wait")
        dispatcher = house.dispatcher(channel)
        await house.put(notice("paid"))
        await dispatcher.step()
        for seconds in (1, DOUBT_ENDS_AFTER.total_seconds()):
            assert (await house.statuses(), len(channel.got)) == (["unknown"], 1)
            house.clock.turn(seconds)
            await dispatcher.resolve()
            await dispatcher.step()
        assert (await house.statuses(), len(channel.got)) == ([status], 1 + resend)
        house.clock.at = NOON


async def test_halt_stops_everything(house: House) -> None:
    """While sending is halted nothing may leave; afterwards all of it must."""
    channel = Scripted()
    dispatcher = house.dispatcher(channel)
    await house.ledger.halt("by hand", NOON)
    assert await house.ledger.halted() == (True, "by hand", NOON)
    await house.put(notice("paid"))
    assert await dispatcher.step() == 0
    assert channel.got == []
    await house.ledger.resume()
    assert await drained(house, ways=Routes([channel], NOON)) == ["accepted"]


async def test_restored_database_is_noticed(house: House) -> None:
    """A database that goes on in another life than it had must halt sending by itself."""
    assert not await house.ledger.notice_restore(NOON)
    assert not await house.ledger.notice_restore(NOON)
    await house.pool.execute("UPDATE halt SET cluster = '1/1'")
    assert await house.ledger.notice_restore(NOON)
    assert await house.ledger.halted() == (True, "restored", NOON)
    assert not await house.ledger.notice_restore(NOON)
    assert (await house.ledger.halted())[0]


async def test_tenants_share_a_claim(house: House) -> None:
    """A tenant's flood must not keep the others waiting: each claim must hold something of everybody."""
    house.serve("acme", "tiny")
    flood = [notice("paid", n, f"A{n}") for n in range(100)]
    other = msgspec.structs.replace(notice("paid", 500, "B1", after_s=1), tenant="tiny")
    people = [contact(n) for n in range(100)]
    await house.put(*flood, contacts=people)
    await house.put(other, contacts=[msgspec.structs.replace(contact(500), tenant="tiny")])
    house.clock.turn(2)
    channel = Scripted()
    dispatcher = house.dispatcher(channel, batch=10)
    await dispatcher.step()
    assert "Order B1 is paid." in {out.text.partition("] ")[2] for out in channel.got}
    assert len(channel.got) <= 10
    assert TENANT == "acme"
