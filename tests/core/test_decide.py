"""The first stage: stages, anomalies, deadlines, notices and the work of the staff, one event at a time."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from orderbell.core.decide import SETTLE, decide, light
from orderbell.core.events import Event, TimerDue
from orderbell.core.model import (
    Anomaly,
    Case,
    ClearTimer,
    Decision,
    OpenCase,
    Order,
    Party,
    Reason,
    SendNotice,
    SetTimer,
)
from orderbell.core.playbook import Playbook
from tests.core.samples import BUYER, NOON, after, event, names, order, playbook

BOOK = playbook()
HOUR = 3600
DAY = 24 * HOUR
VIP = (Party("buyer", "ann", "vip"),)


def due(book: Playbook, before: Order, name: str, at_s: float) -> Decision:
    """What a timer that falls due does."""
    at = NOON + timedelta(seconds=at_s)
    return decide(book, before, Event("acme", "orderbell", name, "timer.due", "A1", at, at, TimerDue(name=name)), at)


def told(decision: Decision) -> list[tuple[str, str, str]]:
    """Who is told what, in which tone."""
    notices = [effect.notice for effect in decision.effects if isinstance(effect, SendNotice)]
    return [(one.contact, one.topic, one.tone) for one in notices]


def open_now(decision: Decision) -> list[str]:
    """The anomalies that are open after a decision."""
    return [anomaly.name for anomaly in decision.order.anomalies]


def test_order_begins_with_its_first_event() -> None:
    """The first event makes the order, at the foot of the ladder, with its people and its first timer."""
    decision = after(BOOK, event("order.placed", amount_fen=500), parties=VIP)
    made = decision.order
    assert (made.version, made.stage, made.amount_fen, made.parties, made.tier) == (1, "placed", 500, VIP, "vip")
    assert made.timers == {"unpaid": NOON + timedelta(minutes=30)}
    assert decision.effects == (SetTimer("unpaid", NOON + timedelta(minutes=30), Reason.DEADLINE_SET),)
    assert light(BOOK, made) == "yellow"


def test_order_begins_with_a_late_scan() -> None:
    """An order that is first heard of by its delivery stands at delivered, and nobody is told of the way there."""
    decision = after(BOOK, event("parcel.scanned", late_s=9 * DAY, phase="delivered", tracking_no="T1"))
    assert (decision.order.stage, decision.order.timers, told(decision)) == ("delivered", {}, [])


def test_stage_climbs_and_tells() -> None:
    """A stage that is reached is told; the timer of the one before it goes."""
    decision = after(BOOK, event("order.placed"), event("payment.succeeded", 10))
    assert names(decision.effects) == ["SendNotice paid", "ClearTimer unpaid"]
    assert decision.effects[1] == ClearTimer("unpaid", Reason.DEADLINE_MET)
    assert decision.order.stage_at == NOON + timedelta(seconds=10)


def test_stage_never_goes_back() -> None:
    """News of a stage that was passed already is kept and not told."""
    decision = after(BOOK, event("parcel.shipped"), event("payment.succeeded", 10))
    assert (decision.order.stage, decision.order.payment, told(decision)) == ("shipped", "paid", [])
    ended = after(BOOK, event("order.cancelled"), event("parcel.shipped", 10))
    assert ended.order.stage == "cancelled"


def test_event_when_nothing_follows() -> None:
    """An event that changes nothing is still one version."""
    decision = after(BOOK, event("order.placed"), event("link.clicked", 5))
    assert (decision.verdict, decision.order.version, decision.effects) == (Reason.NOTHING_TO_DO, 2, ())


def test_event_when_stale() -> None:
    """Older news than what is known changes no fact; its people still count."""
    parties = (Party("buyer", "bob"),)
    paid = after(BOOK, event("payment.succeeded"))
    late = event("payment.failed", 60, late_s=120, reason="x")
    decision = decide(BOOK, paid.order, late, late.received_at, parties)
    assert (decision.verdict, decision.order.payment, decision.order.parties) == (Reason.STALE, "paid", parties)


def test_marks_are_set_and_taken_away() -> None:
    """A mark is the moment of its event, and a deadline may count from it."""
    marked = after(BOOK, event("payment.succeeded"), event("item.price_proposed", 60, price_fen=5))
    book = playbook(deadlines={"price_due": {"in": ["placed", "paid"]}})
    marked = after(book, event("payment.succeeded"), event("item.price_proposed", 60, price_fen=5))
    assert marked.order.marks == {"price_open": NOON + timedelta(seconds=60)}
    assert marked.order.timers["price_due"] == NOON + timedelta(seconds=60 + DAY)
    after_it = after(book, event("item.price_changed", 70, price_fen=6), begin=marked.order)
    assert (after_it.order.marks, "price_due" in after_it.order.timers) == ({}, False)


def test_people_are_told_by_role() -> None:
    """The principal's news go to extra recipients too, never to the other principal, and once to each person."""
    parties = (Party("buyer", "ann"), Party("consignor", "con"), Party("family", "eve"), Party("giver", "ann"))
    assert told(after(BOOK, event("parcel.shipped"), parties=parties)) == [
        ("ann", "shipped", "calm"),
        ("eve", "shipped", "calm"),
    ]
    only_giver = playbook(notices={"shipped": {"to": "giver"}})
    assert told(after(only_giver, event("parcel.shipped"), parties=parties)) == [("ann", "shipped", "calm")]


def test_notice_carries_its_times_and_values() -> None:
    """A notice says when it may go, must go and is out of date, and what its words need."""
    decision = after(BOOK, event("payment.succeeded", 10, amount_fen=5))
    notice = next(effect.notice for effect in decision.effects if isinstance(effect, SendNotice))
    at = NOON + timedelta(seconds=10)
    assert (notice.created_at, notice.due_at, notice.tell_by) == (
        at,
        at + timedelta(minutes=1),
        at + timedelta(minutes=5),
    )
    assert notice.valid_until == at + timedelta(hours=6)
    assert notice.values["order_no"] == "A1"
    assert notice.cause == "payment.succeeded"


def test_deadline_passes() -> None:
    """Silence opens what the playbook says, once, and the timer is gone because it fired."""
    placed = after(BOOK, event("order.placed")).order
    decision = due(BOOK, placed, "unpaid", 1800)
    assert names(decision.effects) == ["OpenAnomaly overdue", "SendNotice late", "ClearTimer unpaid"]
    assert decision.effects[-1] == ClearTimer("unpaid", Reason.DEADLINE_PASSED)
    assert decision.order.fired == {"unpaid": NOON}
    assert light(BOOK, decision.order) == "yellow"
    assert due(BOOK, decision.order, "unpaid", 1801).verdict is Reason.TIMER_GONE


@pytest.mark.parametrize(("name", "at_s"), [("unpaid", 1799), ("nonsense", 1800), ("passed", 1800)])
def test_timer_when_gone(name: str, at_s: float) -> None:
    """A timer that is early, unknown or not armed does nothing."""
    decision = due(BOOK, after(BOOK, event("order.placed")).order, name, at_s)
    assert (decision.verdict, open_now(decision)) == (Reason.TIMER_GONE, [])


def test_timer_when_the_playbook_changed() -> None:
    """A timer of an older playbook fires by the newer one: not before its time, and not without an anchor."""
    placed = after(BOOK, event("order.placed")).order
    later = due(playbook(deadlines={"unpaid": {"after": "1h"}}), placed, "unpaid", 1800)
    assert later.verdict is Reason.TIMER_GONE
    assert later.effects == (SetTimer("unpaid", NOON + timedelta(hours=1), Reason.DEADLINE_MOVED),)
    unanchored = due(playbook(deadlines={"unpaid": {"since": "promise"}}), placed, "unpaid", 1800)
    assert (unanchored.verdict, unanchored.order.fired, unanchored.order.timers) == (Reason.TIMER_GONE, {}, {})


def promised(at_s: float, by_s: float) -> Event:
    """A promise that is made `at_s` for `by_s` seconds after noon."""
    return event("parcel.promised", at_s, by=(NOON + timedelta(seconds=by_s)).isoformat())


def test_promise_moves_its_deadlines() -> None:
    """A later promise moves the warning and the judgement, and ends a lateness that was open."""
    paid = after(BOOK, event("payment.succeeded"), promised(1, 10 * HOUR))
    assert paid.order.timers == {"near": NOON + timedelta(hours=9), "passed": NOON + timedelta(hours=10)}
    warned = due(BOOK, paid.order, "near", 9 * HOUR)
    late = due(BOOK, warned.order, "passed", 10 * HOUR)
    assert (told(late), light(BOOK, late.order)) == ([("ann", "late", "sorry")], "red")
    moved = after(BOOK, promised(11 * HOUR, 20 * HOUR), begin=late.order)
    assert names(moved.effects)[:2] == ["CloseAnomaly lateness", "CloseCase "]
    assert moved.order.timers == {"near": NOON + timedelta(hours=19), "passed": NOON + timedelta(hours=20)}
    again = due(BOOK, moved.order, "passed", 20 * HOUR)
    assert open_now(again) == ["lateness"]


def test_promise_when_moved_before_it_passes() -> None:
    """A timer that moves says so."""
    decision = after(BOOK, event("payment.succeeded"), promised(1, 10 * HOUR), promised(2, 12 * HOUR))
    assert {effect.reason for effect in decision.effects if isinstance(effect, SetTimer)} == {Reason.DEADLINE_MOVED}


def test_warning_when_its_time_is_past() -> None:
    """Of what is near already nobody is warned any more."""
    decision = after(BOOK, event("payment.succeeded"), promised(1, 600))
    assert list(decision.order.timers) == ["passed"]
    assert "near" in decision.order.fired


def test_deadline_when_overdue_from_the_start() -> None:
    """A deadline whose anchor is told late waits a moment for what else the sender has to say, and not for ever."""
    first = after(BOOK, event("payment.succeeded"), promised(100, 50))
    assert first.order.timers["passed"] == NOON + timedelta(seconds=100) + SETTLE
    second = after(BOOK, event("link.clicked", 130), begin=first.order)
    assert second.order.timers == first.order.timers
    corrected = after(BOOK, promised(130, DAY), begin=first.order)
    assert corrected.order.timers["passed"] == NOON + timedelta(days=1)
    assert open_now(due(BOOK, second.order, "passed", 160)) == ["lateness"]


def test_two_timers_at_one_instant() -> None:
    """Timers of one instant fire one after the other, each once."""
    book = playbook(deadlines={"twin": {"in": "placed", "after": "30m", "open": "grave"}})
    placed = after(book, event("order.placed")).order
    one = due(book, placed, "twin", 1800)
    assert one.order.timers == {"unpaid": NOON + timedelta(minutes=30)}
    both = due(book, one.order, "unpaid", 1800)
    assert open_now(both) == ["grave", "overdue"]


def test_anomaly_opens_with_case_and_call_back() -> None:
    """What is wrong gets its case; a person who matters is called as well."""
    decision = after(BOOK, event("stock.short"), parties=VIP)
    cases = [effect.case for effect in decision.effects if isinstance(effect, OpenCase)]
    assert [(case.kind, case.owner) for case in cases] == [("handle", "warehouse"), ("call_back", "service")]
    assert decision.order.cases == tuple(cases)
    assert light(BOOK, decision.order) == "red"
    again = after(BOOK, event("stock.short", 5, name="again"), begin=decision.order, parties=VIP)
    assert (again.effects, again.verdict) == ((), Reason.NOTHING_TO_DO)


def test_anomaly_clears_by_event() -> None:
    """The event that puts it right closes the anomaly and its cases; it may open again."""
    events = [event("order.placed"), event("stock.short", 1), event("stock.restored", 2)]
    cleared = after(BOOK, *events)
    assert names(cleared.effects)[:2] == ["CloseAnomaly short", "CloseCase "]
    assert (cleared.order.cases, cleared.order.anomalies) == ((), ())
    assert open_now(after(BOOK, event("stock.short", 3), begin=cleared.order)) == ["short"]


def test_anomaly_when_progress_is_past_it() -> None:
    """Progress closes an anomaly, and what progress has left behind does not open any more."""
    shipped = after(BOOK, event("stock.short"), event("parcel.shipped", 5))
    assert ("CloseAnomaly short" in names(shipped.effects), open_now(shipped)) == (True, [])
    late = after(BOOK, event("stock.short", 9, name="late"), begin=shipped.order)
    assert (late.effects, late.order.anomalies) == ((), ())


def test_anomaly_of_a_deadline_when_an_event_confirms_it() -> None:
    """What silence suggested and an event then says outright does not end because the silence ended."""
    overdue = due(BOOK, after(BOOK, event("order.placed")).order, "unpaid", 1800)
    expired = after(BOOK, event("payment.expired", 1900), begin=overdue.order)
    assert expired.order.anomaly("overdue") == Anomaly("overdue", NOON + timedelta(minutes=30), "payment.expired", None)
    assert expired.effects == ()
    assert open_now(after(BOOK, event("payment.succeeded", 2000), begin=expired.order)) == []


def test_anomaly_of_a_deadline_when_what_it_waited_for_came() -> None:
    """An anomaly that a deadline opened is over when the deadline has nothing left to wait for."""
    overdue = due(BOOK, after(BOOK, event("order.placed")).order, "unpaid", 1800)
    failed = after(BOOK, event("payment.failed", 1900, reason="x"), begin=overdue.order)
    assert open_now(failed) == []


def test_anomaly_when_the_one_it_counts_from_ends() -> None:
    """What a deadline opened because of another anomaly ends in the same decision as that one."""
    short = after(BOOK, event("stock.short"))
    grave = due(BOOK, short.order, "short_long", 2 * HOUR)
    assert open_now(grave) == ["short", "grave"]
    assert open_now(after(BOOK, event("stock.restored", 3 * HOUR), begin=grave.order)) == []


def test_anomaly_when_the_playbook_forgot_it() -> None:
    """An anomaly or deadline that the playbook no longer knows stays red until a person closes it."""
    lost = order(anomalies=(Anomaly("lost", NOON, "gone"), Anomaly("grave", NOON, "gone", NOON)))
    decision = after(BOOK, event("link.clicked", 5), begin=lost)
    assert (open_now(decision), light(BOOK, decision.order)) == (["lost"], "red")
    resolved = after(BOOK, event("case.resolved", 6, case="lost"), begin=decision.order)
    assert open_now(resolved) == []


def staffed(kind: str, **data: Any) -> tuple[Order, Decision]:  # noqa: ANN401 - fields of any event
    """What the staff does about a short stock of a valued person."""
    before = after(BOOK, event("stock.short"), parties=VIP).order
    return before, after(BOOK, event(kind, 60, **data), begin=before, parties=VIP)


@pytest.mark.parametrize("case", ["", "short"])
def test_case_when_acknowledged(case: str) -> None:
    """A case that somebody took on says so; the anomaly stays open."""
    _, decision = staffed("case.acknowledged", case=case)
    assert {one.state for one in decision.order.cases} == {"acknowledged"}
    assert open_now(decision) == ["short"]


def test_case_when_acknowledged_by_its_id() -> None:
    """An id means one case."""
    before = after(BOOK, event("stock.short"), parties=VIP).order
    decision = after(BOOK, event("case.acknowledged", 9, case=before.cases[1].id.hex()), begin=before, parties=VIP)
    assert [one.state for one in decision.order.cases] == ["open", "acknowledged"]


@pytest.mark.parametrize("case", ["", "short"])
def test_case_when_resolved(case: str) -> None:
    """A case that is resolved ends its anomaly and all its cases."""
    before, decision = staffed("case.resolved", case=case)
    assert names(decision.effects)[:3] == ["CloseAnomaly short", "CloseCase ", "CloseCase "]
    assert (decision.order.anomalies, decision.order.cases, len(before.cases)) == ((), (), 2)


def test_case_when_the_call_back_was_made() -> None:
    """Calling a person mends nothing: only that case ends."""
    before = after(BOOK, event("stock.short"), parties=VIP).order
    decision = after(BOOK, event("case.resolved", 9, case=before.cases[1].id.hex()), begin=before, parties=VIP)
    assert (decision.order.cases, open_now(decision)) == (before.cases[:1], ["short"])
    rest = after(BOOK, event("case.resolved", 10, case=before.cases[0].id.hex()), begin=decision.order, parties=VIP)
    assert (rest.order.cases, open_now(rest)) == ((), [])


def test_case_when_there_is_none() -> None:
    """Work on a case that does not exist changes nothing."""
    for kind in ("case.acknowledged", "case.resolved", "case.reopened", "case.noted", "case.assigned"):
        assert staffed(kind, case="nonsense")[1].verdict is Reason.NOTHING_TO_DO


def test_case_when_reopened() -> None:
    """The staff may open an anomaly again, and then only they or an event end it."""
    _, resolved = staffed("case.resolved")
    decision = after(BOOK, event("case.reopened", 90, case="short"), begin=resolved.order)
    assert [(one.name, one.cause) for one in decision.order.anomalies] == [("short", "case.reopened")]
    assert decision.order.cases[0].id != after(BOOK, event("stock.short")).order.cases[0].id


def test_light_is_green_only_when_nothing_is_wrong() -> None:
    """A finished order with something yellow is yellow, with something red is red."""
    done = order("delivered")
    assert light(BOOK, done) == "green"
    assert light(BOOK, msgspec.structs.replace(done, anomalies=(Anomaly("price", NOON, "x"),))) == "yellow"
    assert light(BOOK, msgspec.structs.replace(done, anomalies=(Anomaly("lateness", NOON, "x"),))) == "red"


def test_decision_is_the_same_each_time() -> None:
    """The same inputs give the same decision, ids included."""
    one, two = (after(BOOK, event("stock.short"), parties=VIP) for _ in range(2))
    assert msgspec.msgpack.encode(one) == msgspec.msgpack.encode(two)
    assert isinstance(one.order.cases[0], Case)
    assert one.order.parties != BUYER


def test_rule_with_a_mark_and_a_stage() -> None:
    """A rule may mark and climb at once."""
    rule = replace(BOOK.rules["parcel.shipped"][0], mark=("left",))
    book = replace(BOOK, rules={**BOOK.rules, "parcel.shipped": (rule,)})
    decision = after(book, event("parcel.shipped", 3))
    assert (decision.order.stage, decision.order.marks) == ("shipped", {"left": NOON + timedelta(seconds=3)})
