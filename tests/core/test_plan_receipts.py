"""What has gone out waits for its receipt: told again on the next channel, or not, and why."""

from datetime import timedelta

import msgspec
import pytest

from orderbell.core.model import Contact, Fate, Notice, Plan, Reason
from orderbell.core.plan import PATIENCE
from tests.core.planning import EVERYWHERE, NIGHT, planned, sent, short
from tests.core.samples import NOON, contact, notice, playbook

WAIT_S = PATIENCE.total_seconds()
REACHABLE = contact(**EVERYWHERE)


def first_try(one: Notice | None = None, who: Contact = REACHABLE) -> Notice:
    """A notice that has gone out by SMS and waits for its receipt."""
    [fate] = planned(one or notice("paid"), who=who).fates
    assert (fate.kind, fate.reason) == ("held", Reason.WAITING_FOR_RECEIPT)
    return fate.notice


def only(found: Plan) -> Fate:
    """The only fate of a plan."""
    [fate] = found.fates
    return fate


def test_notice_waits_for_its_receipt_where_a_channel_is_left() -> None:
    """What went out stays until its channel's patience is over, with what was tried."""
    found = planned(notice("paid"), who=REACHABLE)
    fate, [message] = only(found), found.messages
    assert (fate.until, fate.notice.due_at, fate.reason) == (NOON + PATIENCE, fate.until, Reason.WAITING_FOR_RECEIPT)
    assert [(one.channel, one.message_id, one.at) for one in fate.notice.tried] == [("sms", message.id, NOON)]
    assert short(planned(fate.notice, who=REACHABLE, at_s=WAIT_S - 1)) == []


def test_notice_does_not_wait_where_nothing_is_left() -> None:
    """Without another channel, with fallback switched off or in the inbox there is nothing to wait for."""
    assert short(planned(notice("paid"))) == [("paid", "sent", Reason.SENT)]
    once = playbook(notices={"paid": {"fallback": False}})
    assert short(planned(notice("paid"), who=REACHABLE, book=once)) == [("paid", "sent", Reason.SENT)]
    inbox = playbook(notices={"paid": {"channels": ["inbox", "sms"]}})
    assert short(planned(notice("paid"), who=REACHABLE, book=inbox)) == [("paid", "sent", Reason.SENT)]
    soon = notice("paid", valid_until=NOON + PATIENCE - timedelta(seconds=1))
    assert short(planned(soon, who=REACHABLE)) == [("paid", "sent", Reason.SENT)]
    assert short(planned(notice("paid"), who=REACHABLE, channels=("sms",))) == [("paid", "sent", Reason.SENT)]


def test_fallback_goes_over_every_channel_once() -> None:
    """Without a receipt the next channel tells it, until none is left; every message is of the one notice."""
    waiting = first_try()
    second = planned(waiting, who=REACHABLE, at_s=WAIT_S)
    assert (sent(second), only(second).reason) == ([("paid", "wechat")], Reason.WAITING_FOR_RECEIPT)
    third = planned(only(second).notice, who=REACHABLE, at_s=2 * WAIT_S)
    assert sent(third) == [("paid", "push")]
    fourth = planned(only(third).notice, who=REACHABLE, at_s=3 * WAIT_S)
    assert (sent(fourth), short(fourth)) == ([("paid", "email")], [("paid", "sent", Reason.FELL_BACK)])
    assert [one.channel for one in only(fourth).notice.tried] == ["sms", "wechat", "push", "email"]
    assert {message.notices for message in (*second.messages, *third.messages)} == {(waiting.id,)}


@pytest.mark.parametrize("status", ["accepted", "failed", "sending"])
def test_fallback_needs_a_receipt_to_stop(status: str) -> None:
    """Only a delivery is a receipt: what was accepted or failed is told again."""
    waiting = first_try()
    found = planned(waiting, who=REACHABLE, at_s=WAIT_S, statuses={waiting.tried[0].message_id: status})
    assert sent(found) == [("paid", "wechat")]


def test_fallback_when_the_receipt_came() -> None:
    """A receipt of any of the tries is enough."""
    waiting = first_try()
    twice = only(planned(waiting, who=REACHABLE, at_s=WAIT_S)).notice
    found = planned(twice, who=REACHABLE, at_s=2 * WAIT_S, statuses={waiting.tried[0].message_id: "delivered"})
    assert (sent(found), short(found)) == ([], [("paid", "sent", Reason.RECEIPT_CAME)])


def test_fallback_counts_what_went_out_beside_the_first() -> None:
    """A channel that was used beside the first is not used again, and its receipt counts as well."""
    found = planned(notice("late"), who=REACHABLE)
    assert sent(found) == [("late", "sms"), ("late", "push")]
    waiting = only(found).notice
    assert sent(planned(waiting, who=REACHABLE, at_s=WAIT_S)) == [("late", "wechat")]
    came = {waiting.tried[1].message_id: "delivered"}
    assert short(planned(waiting, who=REACHABLE, at_s=WAIT_S, statuses=came)) == [("late", "sent", Reason.RECEIPT_CAME)]


def test_fallback_in_quiet_hours_waits_for_the_morning() -> None:
    """The first try was by day, the next would be at night: it is held, with what was tried."""
    asleep = msgspec.structs.replace(REACHABLE, quiet="12:02-20:00")
    waiting = first_try(who=asleep)
    fate = only(planned(waiting, who=asleep, at_s=WAIT_S))
    assert (fate.kind, fate.reason, fate.until) == ("held", Reason.QUIET_HOURS, NOON + timedelta(hours=8))
    assert sent(planned(fate.notice, who=asleep, at_s=8 * 3600)) == [("paid", "wechat")]


def test_fallback_of_the_urgent_knows_no_night() -> None:
    """Critical news go on to the next channel at any hour."""
    asleep = contact(quiet=NIGHT, timezone="UTC", **EVERYWHERE)
    waiting = only(planned(notice("late"), who=asleep)).notice
    assert sent(planned(waiting, who=asleep, at_s=WAIT_S)) == [("late", "wechat")]


def test_fallback_when_out_of_date() -> None:
    """Old news are not told again; the first telling stands."""
    waiting = first_try(notice("shipped"))
    found = planned(waiting, who=REACHABLE, at_s=86_401)
    assert (sent(found), short(found)) == ([], [("shipped", "sent", Reason.SENT)])


def test_fallback_when_no_channel_is_open_any_more() -> None:
    """Where the other channels closed meanwhile, the first telling stands."""
    found = planned(first_try(), who=REACHABLE, at_s=WAIT_S, channels=("sms", "inbox"))
    assert (sent(found), short(found)) == ([], [("paid", "sent", Reason.SENT)])


def test_fallback_stops_when_covering_news_go_out() -> None:
    """Later news that say it too spare the next channel, even before the receipt was due."""
    waiting = first_try()
    found = planned(waiting, notice("shipped", 30), who=REACHABLE, at_s=30)
    assert sent(found) == [("shipped", "sms")]
    assert ("paid", "sent", Reason.FALLBACK_STOPPED) in short(found)
    stopped = next(fate for fate in found.fates if fate.notice.topic == "paid")
    assert stopped.into == found.messages[0].notices[0]


def test_fallback_stops_when_covering_news_wait_for_their_receipt() -> None:
    """News that were told once already cover as well, and count on for those that come behind."""
    waiting, later = first_try(), first_try(notice("shipped", 0))
    found = planned(waiting, later, who=REACHABLE, at_s=WAIT_S)
    assert ("paid", "sent", Reason.FALLBACK_STOPPED) in short(found)
    assert sent(found) == [("shipped", "wechat")]
    fresh = planned(notice("paid"), later, who=REACHABLE, at_s=10)
    assert [(fate.kind, fate.into) for fate in fresh.fates] == [("merged", later.id)]


def test_fallback_stops_when_covering_news_are_unwanted() -> None:
    """What happened since makes the old news pointless, also where the person turned the newer ones off."""
    muted = msgspec.structs.replace(REACHABLE, mute=("may",))
    found = planned(first_try(), notice("shipped", 30), who=muted, at_s=WAIT_S)
    assert sent(found) == []
    assert sorted(short(found)) == [
        ("paid", "sent", Reason.FALLBACK_STOPPED), ("shipped", "dropped", Reason.MUTED),
    ]  # fmt: skip


def test_fallback_stops_when_its_reason_has_gone() -> None:
    """A withdrawal spares the next channel of what was told once."""
    waiting = first_try(notice("late", version=1))
    back = notice("", 60, withdraws=("late",), version=2)
    found = planned(waiting, back, who=REACHABLE, at_s=60)
    assert sorted(short(found)) == [("", "done", Reason.WITHDRAWAL), ("late", "sent", Reason.FALLBACK_STOPPED)]
    assert next(fate for fate in found.fates if fate.kind == "sent").into == back.id


def test_fallback_stops_when_the_person_opts_out() -> None:
    """An opt-out between two tries ends the second one: no advertising after it."""
    agreed = contact(app="app:1", marketing="yes")
    waiting = only(planned(notice("offer"), who=agreed)).notice
    refused = msgspec.structs.replace(agreed, marketing="no")
    assert sent(planned(waiting, who=refused, at_s=WAIT_S)) == []


def test_fallback_stops_when_the_category_is_turned_off() -> None:
    """A category that a person turns off between two tries is off."""
    waiting = first_try(notice("shipped"))
    muted = msgspec.structs.replace(REACHABLE, mute=("may",))
    assert sent(planned(waiting, who=muted, at_s=WAIT_S)) == []


def test_channel_that_bounced_comes_later() -> None:
    """What did not arrive last time is tried after the others; what never will is not tried at all."""
    bounced = msgspec.structs.replace(REACHABLE, states={"sms": "bounced"})
    assert sent(planned(notice("paid"), who=bounced)) == [("paid", "wechat")]
    blocked = contact(app="app:1", states={"sms": "blocked"})
    assert sent(planned(notice("paid"), who=blocked)) == [("paid", "push")]
    assert short(planned(notice("paid"), who=blocked)) == [("paid", "sent", Reason.SENT)]


def test_channel_that_bounced_still_comes_before_the_inbox() -> None:
    """One bounce must not turn a phone off for good: the inbox, which disturbs nobody, is the last."""
    assert sent(planned(notice("late"), who=contact(states={"sms": "bounced"}))) == [("late", "sms")]


def test_follow_up_that_comes_too_late() -> None:
    """Once nobody wants to read it any more, what has gone out was all there is to tell."""
    late = msgspec.structs.replace(first_try(), valid_until=NOON + PATIENCE - timedelta(seconds=1))
    found = planned(late, who=REACHABLE, at_s=WAIT_S)
    assert (short(found), found.messages) == ([("paid", "sent", Reason.SENT)], ())
