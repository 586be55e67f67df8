"""Every answer of a provider must lead to its one consequence, and doubt must never lead to a blind resend."""

from datetime import timedelta

import pytest

from orderbell.channels.protocol import Fate, Found, Outcome, Receipt, Recovery
from orderbell.channels.sandbox import SandboxChannel
from orderbell.observe import counts
from orderbell.sandbox.faults import Faults
from orderbell.store.postgres import Store
from tests.database import VAULT
from tests.dispatch.rig import NOON, House, Scripted, notice
from tests.sandbox_server import RunningSandbox

PROMPT = 0.75
"""The least share of a back-off that the spread leaves."""


async def _attempts(house: House) -> list[tuple[int, str]]:
    rows = await house.pool.fetch("SELECT attempt_no, outcome FROM attempt ORDER BY attempt_no")
    return [(row["attempt_no"], row["outcome"]) for row in rows]


async def test_way_to_delivered(house: House, sandbox: RunningSandbox) -> None:
    """A message must be accepted by the answer and delivered by the receipt, whose cursor is kept with it."""
    channel = SandboxChannel(sandbox.url)
    dispatcher = house.dispatcher(channel)
    await house.put(*(notice("paid", n, f"A{n}") for n in range(20)))
    assert await dispatcher.step() == 20
    assert await house.statuses() == ["accepted"] * 20
    assert await dispatcher.receipts() == 20
    assert await dispatcher.receipts() == 0
    assert await house.statuses() == ["delivered"] * 20
    assert (
        await house.pool.fetchval("SELECT split_part(cursor, '@', 1) FROM receipt_cursor WHERE provider = 'sandbox'")
        == "20"
    )
    assert {row["provider_ref"] for row in await house.pool.fetch("SELECT provider_ref FROM message")} == {
        f"sb-{n}" for n in range(1, 21)
    }
    await channel.close()


async def test_usual_way_touches_no_index(rented: str) -> None:
    """Nearly all updates on the usual way of messages, sending to accepted to delivered, must stay in their page."""
    store = await Store.open(rented, VAULT, connections=1)
    house, channel = House(store), Scripted()
    await house.clear()
    before = await _updates(house)
    dispatcher = house.dispatcher(channel)
    await house.put(*(notice("paid", n, f"A{n}") for n in range(400)))
    await dispatcher.step()
    channel.words = [Receipt(out.attempt_id, "r", True, "", NOON) for out in channel.got]
    await dispatcher.receipts()
    assert await house.statuses() == ["delivered"] * 400
    after = await _updates(house)
    await store.close()
    assert after[0] - before[0] == 800
    assert after[1] - before[1] > 700


async def _updates(house: House) -> tuple[int, int]:
    """All updates of messages so far, and those that touched no index; the pool must have a single connection."""
    await house.pool.execute("SELECT pg_stat_force_next_flush()")
    row = await house.pool.fetchrow(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'message'"
    )
    assert row is not None
    return row[0], row[1]


@pytest.mark.parametrize(
    ("outcome", "first_s"),
    [
        (Outcome.RETRY_LATER, 5),
        (Outcome.NOT_SENT, 2),
        (Outcome.THROTTLED, 1),
        (Outcome.CHANNEL_DOWN, 30),
    ],
)
async def test_refusal_for_now(house: House, outcome: Outcome, first_s: float) -> None:
    """What surely was not taken must be tried again as a new attempt after a back-off that grows."""
    channel = Scripted(outcome, outcome)
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid"))
    for attempt_no in (1, 2):
        waited_s = 0.0
        while len(channel.got) < attempt_no:  # while the breaker is open, it waits on
            assert await dispatcher.step() == 1
            assert await house.statuses() == ["queued"]
            due_at = await dispatcher.next_due_at()
            assert due_at is not None
            assert await dispatcher.step() == 0
            waited_s = (due_at - house.clock()).total_seconds()
            house.clock.at = due_at
        assert first_s * attempt_no * PROMPT <= waited_s
        assert waited_s <= first_s * attempt_no
    while len(channel.got) < 3:
        assert await dispatcher.step() == 1
        house.clock.at = await dispatcher.next_due_at() or house.clock.at
    assert await house.statuses() == ["accepted"]
    assert await _attempts(house) == [(1, outcome), (2, outcome)]
    assert len({out.attempt_id for out in channel.got}) == 3


async def test_throttling_that_names_a_time(house: House) -> None:
    """A provider that says when to come back must not be asked before."""
    await house.put(notice("paid"))
    dispatcher = house.dispatcher(Scripted(Outcome.THROTTLED, retry_after_s=90))
    await dispatcher.step()
    assert await dispatcher.next_due_at() == NOON + timedelta(seconds=90)


async def test_refusal_until_out_of_date(house: House) -> None:
    """A message that would be out of date at its next try must fail, with that reason."""
    await house.put(notice("paid", valid_s=4))
    await house.dispatcher(Scripted(Outcome.CHANNEL_DOWN)).step()
    assert await house.statuses() == ["failed"]
    assert await house.pool.fetchval("SELECT detail FROM message") == "out_of_date: so"


async def test_queued_message_out_of_date(house: House) -> None:
    """A queued message that nobody wants to read any more must not be sent however late the look comes."""
    channel = Scripted(Outcome.NOT_SENT)
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid", valid_s=3600))
    await dispatcher.step()
    house.clock.turn(3601)
    assert await dispatcher.step() == 1
    assert (await house.statuses(), len(channel.got)) == (["failed"], 1)


@pytest.mark.parametrize("outcome", [Outcome.REJECTED_RECIPIENT, Outcome.REJECTED_CONTENT])
async def test_rejection(house: House, outcome: Outcome) -> None:
    """What a provider will never take must be rejected with its words, and not tried again."""
    dispatcher = house.dispatcher(Scripted(outcome))
    await house.put(notice("paid"))
    await dispatcher.step()
    assert await house.statuses() == ["rejected"]
    assert await house.pool.fetchval("SELECT detail FROM message") == f"{outcome}: so"
    assert await _attempts(house) == [(1, outcome)]
    assert await dispatcher.next_due_at() is None


@pytest.mark.parametrize("fault", ["timeout_after_accept", "cut_after_accept"])
async def test_lost_answer(house: House, sandbox: RunningSandbox, fault: str) -> None:
    """A message whose answer was lost must be asked about and found, and never be handed over twice."""
    channel = SandboxChannel(sandbox.url, connect_timeout_s=0.2, timeout_s=0.3)
    dispatcher = house.dispatcher(channel)
    await sandbox.set_faults(Faults(**{fault: 1, "receipt_delay_s": 3600}))  # type: ignore[arg-type]
    await house.put(*(notice("paid", n, f"A{n}") for n in range(5)))
    await dispatcher.step()
    assert await house.statuses() == ["unknown"] * 5
    assert await dispatcher.resolve() == 0
    assert await dispatcher.step() == 0
    house.clock.turn(channel.lookup_after_s)
    assert await dispatcher.resolve() == 5
    assert await house.statuses() == ["accepted"] * 5
    assert await dispatcher.step() == 0
    assert len(sandbox.ledger()) == 5
    await channel.close()


async def test_unknown_that_was_never_taken(house: House) -> None:
    """Not found, asked late enough, means not sent: the message goes out again as a new attempt."""
    channel = Scripted(Outcome.UNKNOWN)
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid"))
    await dispatcher.step()
    channel.found = [Found(channel.got[0].attempt_id, Fate.NOT_FOUND)]
    house.clock.turn(2)
    assert await dispatcher.resolve() == 1
    assert await dispatcher.step() == 1
    assert await house.statuses() == ["accepted"]
    assert await _attempts(house) == [(1, "not_sent")]
    assert channel.got[0].attempt_id != channel.got[1].attempt_id


async def test_unknown_that_was_never_taken_out_of_date(house: House) -> None:
    """Not found after the message has lost its worth must be its end."""
    channel = Scripted(Outcome.UNKNOWN)
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid", valid_s=60))
    await dispatcher.step()
    channel.found = [Found(channel.got[0].attempt_id, Fate.NOT_FOUND)]
    house.clock.turn(61)
    await dispatcher.resolve()
    assert await house.statuses() == ["failed"]


@pytest.mark.parametrize(("fate", "status"), [(Fate.DELIVERED, "delivered"), (Fate.FAILED, "failed")])
async def test_unknown_with_final_word(house: House, fate: Fate, status: str) -> None:
    """A look-up that brings the final word must be final."""
    channel = Scripted(Outcome.UNKNOWN)
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid"))
    await dispatcher.step()
    channel.found = [Found(channel.got[0].attempt_id, fate, "r")]
    house.clock.turn(2)
    await dispatcher.resolve()
    assert await house.statuses() == [status]


async def test_unknown_without_a_word(house: House) -> None:
    """While the provider says nothing clear it must be asked again, less and less often, and never be sent to again."""
    channel = Scripted(Outcome.UNKNOWN)
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid"))
    await dispatcher.step()
    asked = 0
    while (due_at := await house.pool.fetchval("SELECT due_at FROM message")) is not None:
        assert due_at > house.clock()
        house.clock.at = due_at
        asked += await dispatcher.resolve()
        assert await dispatcher.step() == 0
    assert 80 < asked < 130
    assert house.clock() - NOON > timedelta(days=4)
    assert await house.statuses() == ["unknown"]
    assert await house.pool.fetchval("SELECT detail FROM message") == "no_word"
    assert len(channel.got) == 1


async def test_unknown_at_provider_with_keys(house: House) -> None:
    """A provider that recognises attempts must get the same one again; only its clear word ends the doubt."""
    channel = Scripted(Outcome.UNKNOWN, Outcome.NOT_SENT, recovery=Recovery.KEY)
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid"))
    await dispatcher.step()
    for status in ("unknown", "accepted"):
        house.clock.turn(2)
        assert await dispatcher.resolve() == 1
        assert await house.statuses() == [status]
    assert len(channel.got) == 3
    assert len({out.attempt_id for out in channel.got}) == 1


async def test_unknown_at_provider_without_recovery(house: House) -> None:
    """Where nobody can be asked only a receipt ends the doubt, and nothing is sent again."""
    channel = Scripted(Outcome.UNKNOWN, recovery=Recovery.NONE)
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid"))
    await dispatcher.step()
    house.clock.turn(7200)
    assert (await dispatcher.resolve(), await dispatcher.step()) == (0, 0)
    assert await house.statuses() == ["unknown"]
    channel.words = [Receipt(channel.got[0].attempt_id, "r", True, "", house.clock())]
    assert await dispatcher.receipts() == 1
    assert await house.statuses() == ["delivered"]
    assert len(channel.got) == 1


async def test_receipts_are_monotone(house: House) -> None:
    """The first final word stays, repeated and foreign receipts change nothing, and the cursor moves on."""
    channel = Scripted()
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid"))
    await dispatcher.step()
    attempt_id = channel.got[0].attempt_id
    good = Receipt(attempt_id, "r", True, "", NOON)
    channel.words = [
        good,
        Receipt(attempt_id, "r", False, "late", NOON),
        Receipt(bytes(16), "x", True, "\0\ud800", NOON),
    ]
    assert await dispatcher.receipts() == 3
    assert await house.statuses() == ["delivered"]
    channel.words += [Receipt(attempt_id, "r", False, "late", NOON), good]
    assert await dispatcher.receipts() == 2
    assert await dispatcher.receipts() == 0
    assert await house.statuses() == ["delivered"]


async def test_receipts_have_one_reader(house: House) -> None:
    """While one dispatcher reads a provider's receipts another must not; it takes over when the lease is over."""
    channel = Scripted()
    first, second = house.dispatcher(channel), house.dispatcher(channel)
    await house.put(notice("paid"))
    await first.step()
    assert await first.receipts() == 0
    channel.words = [Receipt(channel.got[0].attempt_id, "r", False, "gone", NOON)]
    assert await second.receipts() == 0
    await house.end_leases()
    assert await second.receipts() == 1
    assert await house.statuses() == ["failed"]


async def test_receipt_for_attempt_given_up(house: House) -> None:
    """A delivery of an attempt that was replaced must be put on record with it, and counted."""
    channel = Scripted(Outcome.UNKNOWN)
    dispatcher = house.dispatcher(channel)
    await house.put(notice("paid"))
    await dispatcher.step()
    first = channel.got[0].attempt_id
    channel.found = [Found(first, Fate.NOT_FOUND)]
    house.clock.turn(2)
    await dispatcher.resolve()
    await dispatcher.step()
    channel.words = [Receipt(first, "r", True, "", NOON)]
    before = counts().get("dispatch.accepted_late", 0)
    await dispatcher.receipts()
    assert counts()["dispatch.accepted_late"] == before + 1
    assert await _attempts(house) == [(1, "delivered_late")]
    assert await house.statuses() == ["accepted"]
