"""The in-memory host: duplicates, time that passes, timers, the queue, and what a batch may not see."""

from datetime import timedelta

import msgspec

from orderbell.core.events import Status
from orderbell.core.model import Reason
from orderbell.core.turn import Shelf
from orderbell.store.memory import MemoryHost
from tests.core.samples import NOON, event, playbook

ANN = {"buyer": {"id": "ann", "phone": "+8613812341234"}}
A1 = ("acme", "A1")


def host(*, keep_journal: bool = True) -> MemoryHost:
    """A host with the small playbook."""
    return MemoryHost({"acme": Shelf({"small": playbook()}, "small")}, keep_journal=keep_journal)


def test_host_takes_events_in() -> None:
    """Each event has its answer, in order; the journal holds one line for each that was fresh."""
    memory = host()
    first, second = event("order.placed", people=ANN), event("payment.succeeded", 1)
    answers = memory.feed([first, second, first])
    assert [answer.status for answer in answers] == [Status.ACCEPTED, Status.ACCEPTED, Status.DUPLICATE]
    assert [entry.event.id for entry in memory.journal] == [first.id, second.id]
    assert (memory.orders[A1].version, memory.step_count) == (2, 2)
    assert memory.contacts["acme", "ann"].phone == "+8613812341234"


def test_host_refuses_an_altered_duplicate() -> None:
    """The same id with another body is refused, journalled, and changes nothing."""
    memory = host()
    memory.feed([event("order.placed", name="e1")])
    [answer] = memory.feed([event("order.cancelled", name="e1")])
    assert (answer.status, answer.reason, answer.field) == (Status.REFUSED, Reason.ALTERED_DUPLICATE, "id")
    assert memory.journal[-1].verdict is Reason.ALTERED_DUPLICATE
    assert memory.orders[A1].stage == "placed"


def test_host_lets_time_pass() -> None:
    """Timers and notices come at their own moments, up to and including the one that is asked for."""
    memory = host()
    memory.feed([event("order.placed", people=ANN)])
    assert memory.next_due_at() == NOON + timedelta(minutes=30)
    memory.advance(NOON + timedelta(minutes=29))
    assert memory.messages == []
    memory.advance(NOON + timedelta(minutes=30))
    assert [(message.topic, message.told_at) for message in memory.messages] == [("late", NOON + timedelta(minutes=30))]
    assert (memory.next_due_at(), memory.queue) == (None, {})


def test_host_forgets_timers_that_moved() -> None:
    """A timer that was cleared or set again fires at its new moment alone."""
    memory = host()
    memory.feed([event("payment.succeeded", people=ANN), event("parcel.promised", 1, by="2026-03-03T12:00:00Z")])
    memory.feed(
        [event("parcel.promised", 2, by="2026-03-04T12:00:00Z"), event("parcel.promised", 3, by="2026-03-03T12:00:00Z")]
    )
    memory.feed([event("parcel.promised", 4, by="2026-03-04T12:00:00Z")])
    memory.advance(NOON + timedelta(days=1, hours=12))
    assert [entry.event.type for entry in memory.journal].count("timer.due") == 0
    memory.advance(NOON + timedelta(days=9))
    fired = [entry.at - NOON for entry in memory.journal if entry.event.type == "timer.due"]
    assert fired == [timedelta(days=1, hours=23), timedelta(days=2)]


def test_host_holds_and_merges() -> None:
    """A notice that waits for a later one is sent with it; every fate but waiting is kept."""
    memory = host()
    memory.feed([event("payment.succeeded", people=ANN)])
    memory.feed([event("parcel.shipped", 30)])
    memory.advance(NOON + timedelta(seconds=60))
    assert (memory.messages, len(memory.queue["acme", "ann"])) == ([], 2)
    memory.advance(NOON + timedelta(hours=1))
    assert [message.topic for message in memory.messages] == ["shipped"]
    assert sorted(fate.kind for fate in memory.fates) == ["merged", "sent"]


def test_host_plans_with_what_was_known_then() -> None:
    """A batch that runs ahead of the clock tells nobody early, and merges nothing into what is still to come."""
    memory = host()
    memory.feed([event("payment.succeeded", people=ANN), event("order.cancelled", 7200)])
    memory.advance(NOON + timedelta(days=1))
    told = [(message.topic, message.told_at - NOON) for message in memory.messages]
    assert told == [("paid", timedelta(minutes=1)), ("cancelled", timedelta(hours=2))]


def test_host_without_a_journal() -> None:
    """A backtest keeps no journal, and counts its steps."""
    memory = host(keep_journal=False)
    memory.feed([event("order.placed")])
    memory.feed([event("order.cancelled", name="order.placed@0")])
    assert (memory.journal, memory.step_count) == ([], 1)


def test_host_when_a_person_or_a_playbook_is_unknown() -> None:
    """A notice for a contact that is not stored goes to the inbox; timers of a lost playbook do not hang the clock."""
    memory = host()
    memory.feed([event("payment.succeeded", people=ANN)])
    memory.contacts.clear()
    memory.advance(NOON + timedelta(hours=1))
    assert [message.channel for message in memory.messages] == ["inbox"]
    memory.feed([event("order.placed", no="A2")])
    memory.orders["acme", "A2"] = msgspec.structs.replace(memory.orders["acme", "A2"], playbook="gone")
    memory.advance(NOON + timedelta(days=1))
    assert memory.orders["acme", "A2"].version == 1
