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
    Compensate,
    Decision,
    Notice,
    OpenCase,
    Order,
    Party,
    Reason,
    SendNotice,
    SetTimer,
    WithdrawNotice,
)
from orderbell.core.playbook import Playbook
from tests.core.samples import BUYER, NOON, SPEC, after, event, names, order, playbook

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
    assert names(moved.effects)[:3] == ["WithdrawNotice late", "CloseAnomaly lateness", "CloseCase "]
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
    assert names(cleared.effects)[:3] == ["WithdrawNotice late", "CloseAnomaly short", "CloseCase "]
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
    assert names(decision.effects)[:4] == ["WithdrawNotice late", "CloseAnomaly short", "CloseCase ", "CloseCase "]
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


def withdrawn(decision: Decision) -> list[Notice]:
    """What a decision takes back."""
    return [effect.notice for effect in decision.effects if isinstance(effect, WithdrawNotice)]


def test_news_whose_reason_has_gone_are_taken_back() -> None:
    """An anomaly that ends takes back what it told, from everybody it told, for the version it ends with."""
    parties = (*BUYER, Party("family", "eve"), Party("giver", "ann"), Party("consignor", "con"))
    cleared = after(BOOK, event("stock.short"), event("stock.restored", 60), parties=parties)
    found = withdrawn(cleared)
    assert [(one.contact, one.withdraws, one.version) for one in found] == [
        ("ann", ("late",), 2),
        ("eve", ("late",), 2),
    ]
    assert {one.id for one in found}.isdisjoint(
        effect.notice.id for effect in cleared.effects if isinstance(effect, SendNotice)
    )
    only_giver = playbook(notices={"late": {"to": "giver"}})
    assert [
        one.contact
        for one in withdrawn(after(only_giver, event("stock.short"), event("stock.restored", 60), parties=parties))
    ] == ["ann"]


def test_anomaly_that_told_nothing_takes_nothing_back() -> None:
    """Where nothing was told, nothing can be waiting."""
    silent = playbook(anomalies={"short": {"tell": []}})
    assert withdrawn(after(silent, event("stock.short"), event("stock.restored", 60))) == []


def test_anomaly_clears_only_where_the_condition_holds() -> None:
    """An event with a condition clears what it speaks of, and nothing else."""
    short = [event("payment.succeeded"), event("stock.short", 1)]
    assert open_now(after(BOOK, *short, event("choice.made", 2, option="wait"))) == ["short"]
    refund = after(BOOK, *short, event("choice.made", 2, option="refund"))
    assert (open_now(refund), told(refund)) == ([], [("ann", "noted", "calm")])


def amended(decision: Decision) -> list[tuple[str, str, int]]:
    """The amends that a decision hands out."""
    found = [effect.amends for effect in decision.effects if isinstance(effect, Compensate)]
    return [(one.contact, one.topic, one.value_fen) for one in found]


GIVER = (Party("buyer", "ann", "new"), Party("giver", "gil", "new"))


def test_amends_are_made_once_and_only_to_the_principal() -> None:
    """Whom the order is about is offered amends once; later, and beside them, people hear an apology."""
    book = playbook(notices={"late": {"to": ["buyer", "giver"]}})
    first = after(book, event("stock.short"), parties=GIVER)
    assert told(first) == [("ann", "late", "amends"), ("gil", "late", "sorry")]
    assert amended(first) == [("ann", "late", 1000)]
    [effect] = [effect for effect in first.effects if isinstance(effect, Compensate)]
    assert (effect.reason, effect.amends.kind) == (Reason.AMENDS_PROMISED, "coupon")
    assert (effect.amends.promised_at, effect.amends.valid_until) == (NOON, NOON + timedelta(days=30))
    again = after(book, event("payment.expired", 60), begin=first.order, parties=GIVER)
    assert (told(again), amended(again)) == ([("ann", "late", "sorry"), ("gil", "late", "sorry")], [])
    assert first.order.amends == again.order.amends == ("ann",)


def test_amends_without_words_are_not_handed_out() -> None:
    """Where no text offers amends nothing is owed, and a later one may still offer them."""
    book = playbook({"texts": {"late": {"sms": ["Order {order_no} is late."]}}})
    decision = after(book, event("stock.short"), parties=GIVER)
    assert told(decision)[0] == ("ann", "late", "amends")
    assert (amended(decision), decision.order.amends) == ([], ())


def test_tone_of_a_tier_is_the_least() -> None:
    """A tier hears at least its tone; a graver moment is not made lighter."""
    book = playbook(notices={"late": {"tiers": {"vip": {"tone": "sorry"}}}})
    assert told(after(book, event("stock.short"), parties=VIP)) == [("ann", "late", "sorry")]
    assert told(after(book, event("stock.short"))) == [("ann", "late", "calm")]
    grave = playbook(anomalies={"short": {"tone": "amends"}}, notices={"late": {"tiers": {"vip": {"tone": "sorry"}}}})
    assert told(after(grave, event("stock.short"), parties=VIP)) == [("ann", "late", "amends")]


def values(decision: Decision) -> dict[str, str | int]:
    """The values of the first notice."""
    return next(effect.notice.values for effect in decision.effects if isinstance(effect, SendNotice))


def replied(text: str, at_s: float = 60, **data: Any) -> Event:  # noqa: ANN401 - fields of any event
    """A reply of Ann."""
    return event("reply.received", at_s, text=text, **data)


def test_state_is_that_of_the_worst_words() -> None:
    """A question how things stand is answered by the anomaly that has words for it, else by the stage."""
    well = after(BOOK, event("order.placed"), replied("查询"))
    assert values(well) == {"order_no": "A1", "state": "placed"}
    wrong = after(BOOK, event("order.placed"), event("stock.short", 1), replied("status"))
    assert values(wrong)["state"] == "anomaly.short"
    assert (
        values(after(BOOK, event("payment.succeeded"), event("risk.flagged", 1), replied("status")))["state"] == "paid"
    )


def test_answer_goes_only_to_who_asked() -> None:
    """Whoever asks is answered, the others are spared; without a sender the principal asked; a stranger hears nothing."""
    parties = (*BUYER, Party("family", "eve"))
    asked = [event("order.placed"), replied("查询", sender="family")]
    assert told(after(BOOK, *asked, parties=parties)) == [("eve", "status", "calm")]
    assert told(after(BOOK, event("order.placed"), replied("查询"), parties=parties)) == [("ann", "status", "calm")]
    assert told(after(BOOK, event("order.placed"), replied("查询", sender="x"), parties=parties)) == []


def test_choice_is_named_in_the_answer() -> None:
    """What was chosen stands in the words; a reply that became a choice is decided as one."""
    decision = after(BOOK, event("payment.succeeded"), event("stock.short", 1), replied("2"))
    assert (values(decision), open_now(decision)) == ({"choice": "refund", "order_no": "A1"}, [])
    [notice] = [effect.notice for effect in decision.effects if isinstance(effect, SendNotice)]
    assert notice.cause == "choice.made"


def test_notice_carries_the_version_of_its_order() -> None:
    """What is told later of an order has a higher version, which tells old news from new at one instant."""
    first = after(BOOK, event("stock.short"))
    second = after(BOOK, event("stock.restored", 0), begin=first.order)
    versions = [effect.notice.version for found in (first, second) for effect in found.effects
                if isinstance(effect, SendNotice | WithdrawNotice)]  # fmt: skip
    assert versions == [1, 2, 2]


def test_news_are_not_taken_back_while_another_anomaly_tells_them() -> None:
    """What two anomalies tell is only out of date when both are over."""
    both = after(BOOK, event("order.placed"), event("payment.expired", 1), event("stock.short", 2))
    assert open_now(both) == ["overdue", "short"]
    cleared = after(BOOK, event("stock.restored", 3), begin=both.order)
    assert (open_now(cleared), withdrawn(cleared)) == (["overdue"], [])


def test_anomaly_opens_only_where_the_condition_holds() -> None:
    """An event with a condition opens what it speaks of, and says its own reason."""
    book = playbook(
        {"phrases": {"why": " ({reason})"}, "texts": {"late": {"sms": ["Order {order_no}{why}."]}}},
        anomalies={"short": {"opens": [{"on": "risk.flagged", "when": 'event.reason == "odd"'}]}},
    )
    odd = after(book, event("risk.flagged", reason="odd"))
    assert (open_now(odd), values(odd)) == (["short"], {"order_no": "A1", "reason": "odd"})
    assert open_now(after(book, event("risk.flagged", reason="even"))) == []


def test_timer_of_a_stage_that_has_passed() -> None:
    """A timer that is left from an earlier stage does nothing."""
    left = order("paid", timers={"unpaid": NOON})
    decision = due(BOOK, left, "unpaid", 1800)
    assert (decision.verdict, open_now(decision), decision.order.timers) == (Reason.TIMER_GONE, [], {})


def test_rule_that_counts_only_during_an_anomaly() -> None:
    """A rule with `during` is passed over while none of its anomalies is open."""
    rule = {"on": "item.viewed", "during": "short", "tell": "restored"}
    book = playbook(rules=[*SPEC["rules"], rule])
    plain = told(after(book, event("item.viewed", 9), begin=order()))
    assert ("ann", "restored", "calm") not in plain
    suffering = order(anomalies=(Anomaly("short", NOON, "stock.short"),))
    assert ("ann", "restored", "calm") in told(after(book, event("item.viewed", 9), begin=suffering))


def test_rule_takes_back_what_it_makes_untrue() -> None:
    """A rule with `withdraw` takes back what may still wait of these topics, once for each person concerned."""
    book = playbook(rules=[*SPEC["rules"], {"on": "item.viewed", "withdraw": "shipped"}])
    parties = (*BUYER, Party("giver", "bob"), Party("giver", "ann"))
    decision = after(book, event("item.viewed", 9), begin=order(parties=parties), parties=parties)
    taken = [effect.notice for effect in decision.effects if isinstance(effect, WithdrawNotice)]
    assert [(one.contact, one.withdraws) for one in taken] == [("ann", ("shipped",)), ("bob", ("shipped",))]


def test_deadline_does_not_wait_beside_an_anomaly() -> None:
    """A deadline with `unless` is not armed while one of these anomalies is open."""
    book = playbook(deadlines={"unpaid": {"unless": "short"}})
    armed = after(book, event("order.placed")).order.timers
    spared = after(book, event("order.placed"), event("stock.short", 1)).order.timers
    assert ("unpaid" in armed, "unpaid" in spared) == (True, False)
