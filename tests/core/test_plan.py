"""The second stage: what goes out now, what waits, what another message says too, what nobody hears."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest

from orderbell.core.model import Notice, Reason
from orderbell.core.plan import compose
from tests.core.planning import BOOK, NIGHT, planned, sent, short
from tests.core.samples import NOON, WORDING, contact, notice, playbook


def test_notice_goes_out_when_due() -> None:
    """A due notice is sent on the first channel that reaches the person; one that is not due stays."""
    found = planned(notice("paid"), notice("shipped", wait_s=9, order_no="A2"))
    assert (short(found), sent(found)) == ([("paid", "sent", Reason.SENT)], [("paid", "sms")])
    message = found.messages[0]
    assert (message.to, message.lane, message.told_at) == ("+8613812341234", "service", NOON)


def test_channels_fall_back_and_add() -> None:
    """Without a phone the inbox takes it; `also` adds a channel, and never twice the same."""
    assert sent(planned(notice("paid"), who=contact(phone=""))) == [("paid", "inbox")]
    assert sent(planned(notice("paid"), channels=("inbox",))) == [("paid", "inbox")]
    assert sent(planned(notice("late"), who=contact(app="app:1"))) == [("late", "sms"), ("late", "push")]
    assert sent(planned(notice("late"), who=contact())) == [("late", "sms")]
    twice = playbook(notices={"late": {"channels": ["push"]}})
    assert sent(planned(notice("late"), who=contact(app="app:1"), book=twice)) == [("late", "push")]


def test_mandatory_notice_always_has_the_inbox() -> None:
    """What a person must hear falls to the inbox in the end; the rest is dropped where no channel is left."""
    assert sent(planned(notice("cancelled"), who=contact(phone=""))) == [("cancelled", "inbox")]
    nowhere = planned(notice("price"), who=contact(frequency="all"), channels=("sms",))
    assert short(nowhere) == [("price", "dropped", Reason.NO_ENDPOINT)]


def test_wishes_are_kept() -> None:
    """What is muted, too detailed or out of date is dropped; what is mandatory is not."""
    old = NOON - timedelta(seconds=1)
    assert short(planned(notice("shipped"), who=contact(mute=("may",)))) == [("shipped", "dropped", Reason.MUTED)]
    assert short(planned(notice("price"))) == [("price", "dropped", Reason.TOO_DETAILED)]
    assert short(planned(notice("shipped", valid_until=old))) == [("shipped", "dropped", Reason.OUT_OF_DATE)]
    assert sent(planned(notice("paid"), who=contact(mute=("must",)))) == [("paid", "sms")]


def test_mandatory_notice_when_late() -> None:
    """Mandatory news that grew old disturb nobody: they lie in the inbox, at night too."""
    old = notice("late", valid_until=NOON - timedelta(seconds=1))
    assert sent(planned(old, who=contact(app="a", quiet=NIGHT, timezone="UTC"))) == [("late", "inbox")]


def test_quiet_hours_hold_all_but_the_critical() -> None:
    """At night a notice is held until the morning, an urgent one is not."""
    found = planned(notice("paid"), notice("late"), who=contact(quiet=NIGHT, timezone="UTC"))
    assert sorted(short(found)) == [("late", "sent", Reason.SENT), ("paid", "held", Reason.QUIET_HOURS)]
    held = next(fate for fate in found.fates if fate.kind == "held")
    assert (held.until, held.notice.due_at, held.notice.held) == (NOON + timedelta(hours=8), held.until, "quiet_hours")


def test_later_news_covers_earlier() -> None:
    """A message that says it too takes a notice in, due or not, over several steps."""
    found = planned(notice("paid", wait_s=60), notice("shipped", 1, wait_s=60), notice("cancelled", 2), at_s=2)
    assert sent(found) == [("cancelled", "sms")]
    assert {fate.into for fate in found.fates if fate.kind == "merged"} == {found.messages[0].notices[0]}
    assert [kind for _, kind, _ in short(found)].count("merged") == 2


def test_notice_waits_for_the_one_that_covers_it() -> None:
    """A due notice waits for later news that go out in time, and goes by itself when they do not."""
    paid, shipped = notice("paid"), notice("shipped", 1, wait_s=60)
    waiting = planned(paid, shipped, at_s=1)
    assert [(fate.kind, fate.reason, fate.until) for fate in waiting.fates] == [
        ("held", Reason.COVERED, shipped.due_at)
    ]
    paid = waiting.fates[0].notice
    assert (paid.due_at, paid.held) == (shipped.due_at, "")
    assert sent(planned(paid, shipped, at_s=61)) == [("shipped", "sms")]
    muted = planned(paid, shipped, at_s=61, who=contact(mute=("may",)))
    assert sorted(short(muted)) == [("paid", "sent", Reason.SENT), ("shipped", "dropped", Reason.MUTED)]


def test_two_deadlines_that_tell_the_same_at_once() -> None:
    """Of late and very late only the graver is told; what an event tells again is told again."""
    late = msgspec.structs.replace(notice("late"), tone="sorry", cause="deadline passed", version=3)
    very = msgspec.structs.replace(notice("late", id=b"v" * 16), tone="amends", cause="deadline grave", version=2)
    assert sorted(short(planned(late, very))) == [("late", "merged", Reason.COVERED), ("late", "sent", Reason.SENT)]
    assert [message.notices for message in planned(late, very).messages] == [(very.id,)]
    told = [msgspec.structs.replace(one, cause="stock.short") for one in (late, very)]
    assert len(planned(*told).messages) == 2


def test_notice_when_what_covers_it_is_held() -> None:
    """At night both wait: nothing is merged into what may never go."""
    found = planned(notice("paid"), notice("shipped", 1), at_s=1, who=contact(quiet=NIGHT, timezone="UTC"))
    assert {kind for _, kind, _ in short(found)} == {"held"}


def test_notice_when_what_covers_it_reaches_nobody() -> None:
    """A cover that finds no channel says nothing, so the notice goes itself."""
    book = playbook(notices={"shipped": {"channels": ["wechat"]}})
    assert sent(planned(notice("paid"), notice("shipped", 1), at_s=1, book=book)) == [("paid", "sms")]


@pytest.mark.parametrize(
    "other",
    [
        notice("shipped", -1),
        notice("shipped", 1, order_no="A2"),
        notice("shipped", 1, wait_s=900),
        notice("late", 1),
    ],
)
def test_notice_when_nothing_covers_it(other: Notice) -> None:
    """Older news, another order's, news that come too late or that say something else cover nothing."""
    assert ("paid", "sms") in sent(planned(notice("paid"), other, at_s=2))


def test_urgent_notice_is_covered_by_urgent_ones_only() -> None:
    """News that may be held at night do not take in what may not."""
    assert ("late", "sms") in sent(planned(notice("late"), notice("cancelled", 1), at_s=1))


def test_circle_of_covers_ends() -> None:
    """A playbook that covers in a circle, which lint refuses, loses nothing and does not hang."""
    book = playbook(notices={"paid": {"covers": ["shipped"]}})
    found = planned(notice("paid"), notice("shipped"), book=book)
    assert sorted(kind for _, kind, _ in short(found)) == ["merged", "sent"]


def test_notice_when_its_playbook_or_topic_is_gone() -> None:
    """What nobody has words for any more is dropped and says so."""
    found = planned(notice("paid", playbook="gone"), notice("nonsense"))
    assert {(kind, reason) for _, kind, reason in short(found)} == {("dropped", Reason.NO_WORDING)}


def test_words_when_there_are_none() -> None:
    """A channel without words is passed over."""
    push_only = {"texts": {"price": {"sms": ..., "push": "Price of {order_no}"}}}
    book = playbook(push_only, notices={"price": {"channels": ["sms", "push"], "level": "calm"}})
    assert sent(planned(notice("price"), who=contact(app="a"), book=book)) == [("price", "push")]
    assert compose(book, notice("price"), contact(), "sms") is Reason.NO_WORDING


@pytest.mark.parametrize(
    ("locale", "found"), [("en", "en"), ("zh-CN", "zh-CN"), ("zh-TW", "zh-CN"), ("fr", "en"), ("", "en")]
)
def test_words_are_those_of_the_persons_language(locale: str, found: str) -> None:
    """The exact locale, else one of the same language, else the playbook's."""
    book = replace(
        BOOK,
        wording={"en": BOOK.wording["en"], "zh-CN": playbook({**WORDING, "signature": "【{brand}】"}).wording["en"]},
    )
    text = compose(book, notice("paid", values={"order_no": "A1"}), contact(locale=locale), "sms")
    assert not isinstance(text, Reason)
    assert text.text.startswith("【" if found == "zh-CN" else "[")


def test_plan_is_the_same_in_any_order() -> None:
    """The order in which notices come makes no difference."""
    three = [notice("paid"), notice("shipped", 1), notice("late", 1)]
    assert planned(*three, at_s=1) == planned(*reversed(three), at_s=1)
