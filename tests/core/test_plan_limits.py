"""What people are spared: what is over, what they never heard the beginning of, what is too much, what they forbade."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from orderbell.core.model import Contact, History, Notice, Plan, Reason, Told
from orderbell.core.playbook import HISTORY_KEPT, HISTORY_MAX
from tests.core.planning import EVERYWHERE, NIGHT, planned, sent, short, told
from tests.core.samples import NOON, WORDING, contact, notice, playbook

HOUR = 3600
DAY = 24 * HOUR
AGREED = contact(marketing="yes")


def takes_back(*topics: str, at_s: float = 0, version: int = 2, book: str = "small") -> Notice:
    """A withdrawal of topics of order A1."""
    return notice("", at_s, withdraws=topics, version=version, playbook=book)


def test_news_whose_reason_has_gone_are_not_told() -> None:
    """What waits is taken back, and the withdrawal itself tells nothing."""
    back = takes_back("late", "paid", at_s=30)
    found = planned(notice("late", version=1), notice("paid", wait_s=60, version=1), back, at_s=30)
    assert (sent(found), sorted(short(found))) == ([], [
        ("", "done", Reason.WITHDRAWAL), ("late", "dropped", Reason.WITHDRAWN), ("paid", "dropped", Reason.WITHDRAWN),
    ])  # fmt: skip
    assert {fate.into for fate in found.fates if fate.kind == "dropped"} == {back.id}


def test_withdrawal_takes_back_what_was_told_before_it_only() -> None:
    """Within one batch all have one time: the order's version tells which came first."""
    before, after = notice("late", version=1), notice("late", 0, version=3, cause="again")
    found = planned(before, takes_back("late", version=2), after)
    assert sent(found) == [("late", "sms")]
    assert [fate.notice.version for fate in found.fates if fate.kind == "sent"] == [3]
    same = planned(notice("late", version=2), takes_back("late", version=2))
    assert sent(same) == [("late", "sms")]


def test_withdrawal_leaves_other_orders_and_topics() -> None:
    """Only these topics of this order are taken back."""
    other = notice("late", order_no="A2", version=1)
    found = planned(other, notice("paid", version=1), takes_back("late"))
    assert sorted(sent(found)) == [("late", "sms"), ("paid", "sms")]


def test_withdrawal_of_a_playbook_that_is_gone_is_done() -> None:
    """A withdrawal needs no words."""
    assert short(planned(takes_back("late", book="gone"))) == [("", "done", Reason.WITHDRAWAL)]


def test_nobody_hears_solved_who_never_heard_broken() -> None:
    """News that come after others are told to those who heard those, of the same order, in the inbox too."""
    assert short(planned(notice("restored"))) == [("restored", "dropped", Reason.NEVER_HEARD)]
    assert sent(planned(notice("restored"), heard=told(-60, topic="late"))) == [("restored", "sms")]
    assert sent(planned(notice("restored"), heard=told(-60, topic="late", channel="inbox"))) == [("restored", "sms")]
    for other in (told(-60, topic="paid"), told(-60, topic="late", no="A2")):
        assert short(planned(notice("restored"), heard=other)) == [("restored", "dropped", Reason.NEVER_HEARD)]


def test_what_later_news_refer_to_is_remembered() -> None:
    """What lies in the inbox is remembered where later news refer to it, and only there."""
    nowhere = contact(phone="")
    late = planned(notice("late"), who=nowhere)
    assert late.history == History((Told(NOON, "A1", "late", "critical", "inbox", referred=True),))
    assert planned(notice("paid"), who=nowhere).history == History()
    assert sent(planned(notice("restored", 60), heard=late.history, at_s=60)) == [("restored", "sms")]


def test_history_keeps_what_disturbed() -> None:
    """A telling is remembered once, on the channel that disturbs; what is too old or too much is forgotten."""
    found = planned(notice("late"), who=contact(app="app:1"), heard=told(-HISTORY_KEPT.total_seconds(), -5))
    assert found.history.told == (*told(-5), Told(NOON, "A1", "late", "critical", "sms", referred=True))
    quiet = History(told(-5))
    assert planned(notice("paid", wait_s=60), heard=quiet).history is quiet
    many = told(*range(-HISTORY_MAX, -1), topic="x", no="A9")
    assert len(planned(notice("paid"), heard=many).history.told) == HISTORY_MAX
    assert planned(notice("paid"), heard=many).history.told[0] == many[0]


@pytest.mark.parametrize(
    ("topic", "heard", "capped"),
    [
        ("paid", told(-20, -10), True),
        ("paid", told(-20), False),
        ("paid", told(-HOUR, -10), False),
        ("paid", told(-HOUR + 1, -10), True),
        ("paid", told(-20, -10, channel="inbox"), False),
        ("paid", told(-20, -10, no="A2"), False),
        ("paid", told(-20, -10, topic="shipped"), False),
        ("paid", told(-9 * HOUR, -8 * HOUR, -7 * HOUR, -6 * HOUR, topic="shipped"), True),
        ("paid", told(-9 * HOUR, -8 * HOUR, -7 * HOUR, -6 * HOUR, topic="x", lane="critical"), False),
        ("paid", told(-9 * HOUR, -8 * HOUR, -7 * HOUR, -6 * HOUR, no="A2"), False),
        ("late", told(-9 * HOUR, -8 * HOUR, -7 * HOUR, -6 * HOUR), False),
        ("late", told(-50, -40, -30, -20, -10, no="A2", topic="x", lane="critical"), True),
        ("late", told(-50, -40, -30, -20, -10, no="A2", topic="x"), False),
    ],
)
def test_cap_sends_to_the_inbox_what_is_too_much(topic: str, heard: tuple[Told, ...], capped: bool) -> None:
    """A cap counts what disturbed: of its lanes, in its span, of its person, order or topic; over it the inbox is left."""
    found = planned(notice(topic), heard=heard, who=contact(app="app:1"))
    if capped:
        assert (sent(found), short(found)) == ([(topic, "inbox")], [(topic, "sent", Reason.CAPPED)])
    else:
        assert sent(found)[0] == (topic, "sms")


def test_cap_that_spares_what_is_mandatory() -> None:
    """What the transaction needs goes out over a cap that does not say otherwise; it counts all the same."""
    book = playbook(caps={"storm": {"mandatory": False}, "order": None})
    assert sent(planned(notice("paid"), book=book, heard=told(-20, -10))) == [("paid", "sms")]
    assert sent(planned(notice("shipped"), book=book, heard=told(-20, -10, topic="shipped"))) == [("shipped", "inbox")]


def test_what_later_news_refer_to_is_kept_for_longer() -> None:
    """Of what is older than caps can count, only what later news may refer to is kept."""
    old = [msgspec.structs.replace(one, referred=one.topic == "late")
           for topic in ("paid", "late") for one in told(-30 * DAY, topic=topic)]  # fmt: skip
    found = planned(notice("restored"), heard=tuple(old))
    assert sent(found) == [("restored", "sms")]
    assert [one.topic for one in found.history.told] == ["late", "restored"]


def test_cap_counts_what_the_same_plan_tells() -> None:
    """Of many notices that fall due at once no more than the cap go out; none is lost."""
    found = planned(*(notice("noted", at) for at in range(5)), at_s=9)
    assert [channel for _, channel in sent(found)] == ["sms", "sms", "inbox", "inbox", "inbox"]
    assert len(found.history.told) == 2


def offers(*at_s: float, who: Contact = AGREED, span: str = "7d") -> Plan:
    """An offer to somebody who has had offers."""
    book = playbook(caps={"ads": {"within": span}})
    return planned(notice("offer", valid_until=NOON + timedelta(days=5)), who=who, book=book,
                   heard=told(*at_s, topic="offer", no="A2", lane="marketing"))  # fmt: skip


def test_cap_that_delays_waits_for_a_free_place() -> None:
    """A cap may hold until a place is free; where that is too late, the inbox is left."""
    found = offers(-2 * HOUR, span="1d")
    [fate] = found.fates
    assert (fate.kind, fate.reason, fate.until) == ("held", Reason.CAPPED, NOON + timedelta(hours=22))
    assert (fate.notice.due_at, fate.notice.held) == (fate.until, "capped")
    assert short(offers(-DAY)) == [("offer", "sent", Reason.CAPPED)]
    assert sent(offers(-DAY)) == [("offer", "inbox")]


def test_cap_that_is_free_last_decides() -> None:
    """Of two full caps the one that frees its place later says what becomes of the notice."""
    ads = {"most": 1, "within": "1d", "lanes": "marketing", "then": "delay"}
    book = playbook(caps={"storm": {"most": 1, "within": "2d"}, "ads": ads})
    late = notice("offer", valid_until=NOON + timedelta(days=5))
    found = planned(late, who=AGREED, book=book, heard=told(-60, topic="offer", lane="marketing"))
    assert short(found) == [("offer", "sent", Reason.CAPPED)]
    book = playbook(caps={"storm": {"most": 1, "within": "1h"}, "ads": ads})
    found = planned(late, who=AGREED, book=book, heard=told(-60, topic="offer", lane="marketing"))
    assert short(found) == [("offer", "held", Reason.CAPPED)]


def test_cap_leaves_alone_what_disturbs_nobody() -> None:
    """What is only for the inbox is not capped."""
    book = playbook(notices={"paid": {"channels": ["inbox"]}})
    assert short(planned(notice("paid"), book=book, heard=told(-20, -10))) == [("paid", "sent", Reason.SENT)]


def test_cap_counts_what_goes_out_beside_the_inbox() -> None:
    """What is for the inbox and a channel beside it disturbs as well."""
    book = playbook(notices={"paid": {"channels": ["inbox"], "also": ["push"]}})
    found = planned(notice("paid"), book=book, heard=told(-20, -10), who=contact(app="app:1"))
    assert sent(found) == [("paid", "inbox")]


def test_guard_against_a_storm() -> None:
    """Who heard more than can be remembered hears no more, not even what is urgent, but in the inbox."""
    many = told(*range(-HISTORY_MAX, 0), topic="x", no="A9")
    assert sent(planned(notice("late"), heard=many)) == [("late", "inbox")]
    assert sent(planned(notice("late"), heard=many[1:])) == [("late", "sms")]


def test_guard_against_a_storm_is_over_after_two_weeks() -> None:
    """What was told longer ago than is remembered counts no more: nobody is silenced for good."""
    old = -HISTORY_KEPT.total_seconds() - HISTORY_MAX
    many = told(*(old + one for one in range(HISTORY_MAX)), topic="x", no="A9")
    assert sent(planned(notice("late"), heard=many)) == [("late", "sms")]


@pytest.mark.parametrize(
    ("topic", "mute", "found"),
    [
        ("shipped", ("may:sms",), ["wechat"]),
        ("shipped", ("may:sms", "may:wechat", "may:push"), ["email"]),
        ("shipped", ("may:sms", "may:wechat", "may:push", "may:email"), ["inbox"]),
        ("shipped", ("must:sms",), ["sms"]),
        ("shipped", ("may:sms", "may:wechat", "may:push", "may:email", "may:inbox"), []),
        ("paid", ("must:sms",), ["wechat"]),
        ("paid", ("must:sms", "must:wechat", "must:push", "must:email"), ["sms"]),
        ("paid", ("must:inbox",), ["sms"]),
        ("offer", ("ads:push",), ["sms"]),
    ],
)
def test_channel_that_is_off_for_a_category(topic: str, mute: tuple[str, ...], found: list[str]) -> None:
    """A channel is off for one category; what is mandatory keeps one that reaches the person."""
    who = contact(mute=mute, marketing="yes", **EVERYWHERE)
    assert [channel for _, channel in sent(planned(notice(topic), who=who))] == found


def test_mandatory_news_keep_the_only_phone() -> None:
    """Whoever has but a phone, and turned SMS off, still hears what must be heard."""
    assert sent(planned(notice("paid"), who=contact(mute=("must:sms",)))) == [("paid", "sms")]


def test_channel_beside_the_first_that_is_off() -> None:
    """A channel that is off is not used beside the one that reaches the person."""
    who = contact(app="app:1", mute=("must:push",))
    assert sent(planned(notice("late"), who=who)) == [("late", "sms")]


@pytest.mark.parametrize("consent", ["", "no"])
def test_marketing_needs_consent(consent: Any) -> None:  # noqa: ANN401 - one of three words
    """Without a word, or after an opt-out, nobody is advertised to."""
    assert short(planned(notice("offer"), who=contact(marketing=consent))) == [("offer", "dropped", Reason.NO_CONSENT)]
    assert sent(planned(notice("offer"), who=AGREED)) == [("offer", "sms")]


def test_marketing_carries_the_way_out() -> None:
    """The opt-out line stands behind advertising, and nowhere else."""
    assert planned(notice("offer"), who=AGREED).messages[0].text.endswith(" Reply R to stop.")
    assert "Reply R" not in planned(notice("paid"), who=AGREED).messages[0].text


@pytest.mark.parametrize(
    ("at", "until"),
    [
        (datetime(2026, 3, 2, 8, 59, tzinfo=UTC), datetime(2026, 3, 2, 9, tzinfo=UTC)),
        (datetime(2026, 3, 2, 20, 0, tzinfo=UTC), datetime(2026, 3, 3, 9, tzinfo=UTC)),
        (datetime(2026, 3, 6, 20, 0, tzinfo=UTC), datetime(2026, 3, 9, 9, tzinfo=UTC)),
        (datetime(2026, 3, 7, 12, 0, tzinfo=UTC), datetime(2026, 3, 9, 9, tzinfo=UTC)),
    ],
)
def test_marketing_waits_for_its_hours_and_workdays(at: datetime, until: datetime) -> None:
    """Advertising goes out by day and on workdays; till then it is held."""
    at_s = (at - NOON).total_seconds()
    [fate] = planned(notice("offer", at_s, valid_until=until), who=AGREED, at_s=at_s).fates
    assert (fate.kind, fate.reason, fate.until) == ("held", Reason.MARKETING_HOURS, until)
    assert sent(planned(fate.notice, who=AGREED, at_s=(until - NOON).total_seconds())) == [("offer", "sms")]


def test_marketing_waits_by_the_persons_clock() -> None:
    """Noon in London is evening in Shanghai."""
    there = contact(marketing="yes", timezone="Asia/Shanghai")
    [fate] = planned(notice("offer"), who=there).fates
    assert (fate.reason, fate.until) == (Reason.MARKETING_HOURS, datetime(2026, 3, 3, 1, tzinfo=UTC))
    asleep = contact(marketing="yes", timezone="UTC", quiet=NIGHT)
    assert short(planned(notice("offer"), who=asleep)) == [("offer", "held", Reason.QUIET_HOURS)]


OLD = NOON - timedelta(days=180)
KNOWN = contact(app="app:1", email="a@example.com", checked_at=OLD)
REVIEW = ("review", "push")


def test_review_is_asked_for_when_people_hear_from_us_anyway() -> None:
    """Whose data nobody looked over for long is asked beside other news, and then not again for as long."""
    found = planned(notice("price"), who=msgspec.structs.replace(KNOWN, frequency="all"))
    assert sent(found) == [("price", "push"), REVIEW]
    assert short(found)[-1] == ("review", "sent", Reason.REVIEW_DUE)
    assert found.history.reviewed_at == NOON
    assert found.messages[1].text.startswith("Order A1: review.")
    later = History((), NOON)
    assert REVIEW not in sent(planned(notice("price", 179 * DAY), who=KNOWN, at_s=179 * DAY, heard=later))
    assert REVIEW in sent(planned(notice("paid", 180 * DAY), who=KNOWN, at_s=180 * DAY, heard=later))


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({}, True),
        ({"checked_at": OLD + timedelta(seconds=1)}, False),
        ({"checked_at": None}, False),
        ({"mute": ("may",)}, False),
        ({"mute": ("may:push", "may:email")}, False),
        ({"frequency": "calm"}, False),
        ({"app": "", "email": ""}, False),
        ({"app": ""}, True),
    ],
)
def test_review_is_for_those_who_can_use_it(changes: dict[str, object], asked: bool) -> None:
    """Fresh data, an unknown age, a category that is off or no channel for it: nobody is asked."""
    found = planned(notice("paid"), who=msgspec.structs.replace(KNOWN, **changes))
    assert ("review" in [topic for topic, _ in sent(found)]) is asked


def test_review_is_never_too_much() -> None:
    """A question that would be over a cap is not asked, nor where no one is disturbed, nor where there is no review."""
    busy = told(-9 * HOUR, -8 * HOUR, -7 * HOUR, topic="x")
    assert sent(planned(notice("paid"), who=KNOWN, heard=busy)) == [("paid", "sms")]
    assert sent(planned(notice("paid"), who=KNOWN, heard=told(-20, -10))) == [("paid", "inbox")]
    assert sent(planned(notice("paid"), who=KNOWN, book=playbook(review=None))) == [("paid", "sms")]


def test_review_lets_people_sleep() -> None:
    """Urgent news at night are no reason to ask about addresses."""
    asleep = msgspec.structs.replace(KNOWN, quiet=NIGHT, timezone="UTC")
    assert REVIEW not in sent(planned(notice("late"), who=asleep))


def test_newcomers_are_told_what_a_step_means() -> None:
    """Whoever is new reads a sentence more, the others do not."""
    text = planned(notice("paid", values={"order_no": "A1"}), who=contact(tier="new")).messages[0].text
    assert text == "[OrderBell] Order A1: paid. We pack it next."
    assert planned(notice("paid", values={"order_no": "A1"})).messages[0].text == "[OrderBell] Order A1: paid."


def test_newcomers_are_told_less_where_there_is_no_room() -> None:
    """An explanation that does not fit into the SMS is left out, and stands in full elsewhere."""
    more = " x" * 70
    book = playbook({"texts": {"paid": {"explain": more}}})
    said = notice("paid", values={"order_no": "M" * 36})
    who = contact(tier="new")
    assert planned(said, who=who, book=book).messages[0].text == f"[OrderBell] Order {'M' * 36}: paid."
    assert planned(said, who=contact(phone="", tier="new"), book=book).messages[0].text.endswith(more)


def test_tier_has_its_own_way() -> None:
    """Valued people are told on the channels of their tier, and beside it on others."""
    who = contact(tier="vip", **EVERYWHERE)
    assert sent(planned(notice("late"), who=who)) == [("late", "wechat"), ("late", "email")]
    assert sent(planned(notice("late"), who=contact(**EVERYWHERE))) == [("late", "sms"), ("late", "push")]


def test_tone_is_that_of_the_notice() -> None:
    """The words have the tone that was decided; what has none of that tone is the nearest calmer."""
    amends = planned(notice("late", tone="amends", values={"order_no": "A1"})).messages[0]
    assert (amends.text, amends.tone) == ("[OrderBell] Sorry for A1, a coupon.", "amends")
    assert planned(notice("late", tone="sorry")).messages[0].tone == "calm"


def test_text_that_would_be_too_long_is_not_sent() -> None:
    """Where a playbook slipped past its lint, the SMS that would take two parts is passed over."""
    book = playbook({**WORDING, "texts": {"paid": {"sms": ["x" * 200], "push": "Paid"}}})
    assert sent(planned(notice("paid"), book=book, who=contact(app="app:1"))) == [("paid", "push")]
