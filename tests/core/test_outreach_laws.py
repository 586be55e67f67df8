"""What holds for every line of events, whoever hears of them: laws of the second stage, and of its words."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, time
from itertools import combinations
from typing import Any, NamedTuple
from unittest.mock import patch
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orderbell.core.calendar import is_workday, zone_of
from orderbell.core.decide import decide
from orderbell.core.events import ChannelName, Event, Tier
from orderbell.core.model import (
    DISTURBING,
    Amends,
    Compensate,
    Consent,
    Contact,
    Decision,
    Effect,
    Fate,
    History,
    Message,
    Notice,
    Order,
    Outlook,
    Party,
    Plan,
    Reason,
    SendNotice,
    Tone,
    WithdrawNotice,
)
from orderbell.core.plan import compose, plan
from orderbell.core.playbook import TIERS, Cap, Playbook
from orderbell.core.segments import measure
from orderbell.core.wording import TONES, Text
from orderbell.store.memory import MemoryHost
from tests.core.samples import contact, notice
from tests.core.streams import hosted, shelf, stream
from tests.core.values import ANY_VALUES

NAMES = ("retail", "digital", "consignment", "small")
RECEIPTED: tuple[ChannelName, ...] = ("sms", "email", "push", "wechat")
SILENCES = [frozenset(some) for count in range(5) for some in combinations(RECEIPTED, count)]
law = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Look(NamedTuple):
    """One look at a contact: who they were then, what was pending, and what came of it."""

    contact: Contact
    pending: tuple[Notice, ...]
    now: datetime
    planned: Plan


class Run(NamedTuple):
    """A host after a line of events, with all that was decided and planned on the way."""

    book: Playbook
    host: MemoryHost
    effects: list[Effect]
    looks: list[Look]
    asked: str

    def __repr__(self) -> str:
        """What replays it."""
        return self.asked


@contextmanager
def watched(effects: list[Effect], looks: list[Look]) -> Iterator[None]:
    """Keep every effect and every plan."""

    def deciding(
        book: Playbook, order: Order | None, one: Event, now: datetime, parties: tuple[Party, ...] = ()
    ) -> Decision:
        decision = decide(book, order, one, now, parties)
        effects.extend(decision.effects)
        return decision

    def planning(
        books: Mapping[str, Playbook], contact: Contact, history: History, notices: Sequence[Notice], now: datetime,
        outlook: Outlook,
    ) -> Plan:  # fmt: skip
        planned = plan(books, contact, history, notices, now, outlook)
        looks.append(Look(contact, tuple(notices), now, planned))
        return planned

    with patch("orderbell.core.turn.decide", deciding), patch("orderbell.store.memory.plan", planning):
        yield


def run(seed: int, count: int, name: str, silent: frozenset[ChannelName] = frozenset(), size: int = 1) -> Run:
    """What becomes of a random line of events."""
    effects: list[Effect] = []
    looks: list[Look] = []
    with watched(effects, looks):
        host = hosted(stream(seed, count, name), size, polled=True, silent=silent)
    asked = f"run({seed}, {count}, {name!r}, {silent!r}, {size})"
    return Run(shelf().playbooks[name], host, effects, looks, asked)


runs = st.builds(
    run, st.integers(0, 2**32), st.integers(1, 120), st.sampled_from(NAMES), st.sampled_from(SILENCES),
    st.sampled_from((1, 7)),
)  # fmt: skip
single = st.builds(run, st.integers(0, 2**32), st.integers(1, 120), st.sampled_from(NAMES), st.sampled_from(SILENCES))


def promised(found: Run) -> dict[bytes, Notice]:
    """Everything that was to be told or taken back."""
    return {one.notice.id: one.notice for one in found.effects if isinstance(one, SendNotice | WithdrawNotice)}


def reviews(found: Run) -> list[Notice]:
    """What was asked without an event: to look over contact data."""
    return [fate.notice for fate in found.host.fates if fate.reason is Reason.REVIEW_DUE]


@law
@given(runs)
def test_every_notice_has_one_fate(found: Run) -> None:
    """What was decided ends in exactly one way or is still waiting, and nothing else ever ends."""
    ended = [fate.notice.id for fate in found.host.fates if fate.reason is not Reason.REVIEW_DUE]
    waiting = [one for pending in found.host.queue.values() for one in pending]
    assert sorted(ended + waiting) == sorted(promised(found))
    told = {one for message in found.host.messages for one in message.notices}
    for fate in found.host.fates:
        assert (fate.kind == "sent") == (fate.notice.id in told)
        assert (fate.kind == "done") == bool(fate.notice.withdraws)


@law
@given(runs)
def test_every_message_belongs_to_a_notice(found: Run) -> None:
    """Each message says one notice of its person, its order and its topic, once on each channel."""
    notices = promised(found) | {one.id: one for one in reviews(found)}
    notices |= {fate.notice.id: fate.notice for fate in found.host.fates}  # somebody may have another number by now
    seen: set[tuple[bytes, ChannelName]] = set()
    for message in found.host.messages:
        [name] = message.notices
        notice = notices[name]
        assert (message.contact, message.order_no, message.topic) == (notice.contact, notice.order_no, notice.topic)
        assert message.to
        assert (name, message.channel) not in seen
        seen.add((name, message.channel))


@law
@given(runs)
def test_mandatory_notice_is_never_dropped(found: Run) -> None:
    """What must be heard is told, merged, or taken back by later news of the same order; nothing else."""
    notices = promised(found)
    for fate in found.host.fates:
        if fate.kind != "dropped" or not found.book.notices[fate.notice.topic].mandatory:
            continue
        assert fate.reason is Reason.WITHDRAWN
        by = notices[fate.into]
        assert (fate.notice.topic in by.withdraws, by.order_no) == (True, fate.notice.order_no)
        assert fate.notice.version < by.version
        assert fate.notice.created_at <= by.created_at


@law
@given(runs)
def test_held_notice_waits_for_a_reason_and_an_end(found: Run) -> None:
    """What is held has a later moment and a reason, so that no plan goes in a circle."""
    for look in found.looks:
        for fate in look.planned.fates:
            if fate.kind == "held":
                assert fate.until is not None
                assert (fate.until > look.now, fate.notice.due_at) == (True, fate.until)


@law
@given(runs)
def test_merging_loses_nothing(found: Run) -> None:
    """A merged notice points to one that was told, of the same person and order, that covers it, perhaps over others."""
    notices = promised(found)
    ended = {fate.notice.id: fate.notice for fate in found.host.fates}
    told = {one for message in found.host.messages for one in message.notices}
    for fate in found.host.fates:
        if fate.kind != "merged":
            continue
        into = ended.get(fate.into, notices[fate.into])  # somebody may have another number by now
        assert into.id in told
        assert (into.contact, into.order_no) == (fate.notice.contact, fate.notice.order_no)
        assert fate.notice.topic in covered_by(found.book, into.topic) | {into.topic}
        assert into.created_at >= fate.notice.created_at


def covered_by(book: Playbook, topic: str) -> set[str]:
    """The topics that one covers, directly or over others."""
    found: set[str] = set()
    todo = [topic]
    while todo:
        for one in book.notices[todo.pop()].covers - found:
            found.add(one)
            todo.append(one)
    return found


class Telling(NamedTuple):
    """That a person was disturbed by news: fallbacks of the same notice are the same telling."""

    at: datetime
    contact: str
    order_no: str
    topic: str
    lane: str


def tellings(messages: Sequence[Message]) -> list[Telling]:
    """The tellings that disturb, in their order."""
    first: dict[bytes, Telling] = {}
    for one in messages:
        if one.channel in DISTURBING:
            first.setdefault(one.notices[0], Telling(one.told_at, one.contact, one.order_no, one.topic, one.lane))
    return list(first.values())


def counted(cap: Cap, telling: Telling) -> tuple[str, ...]:
    """What a cap counts together."""
    parts = {"person": 1, "order": 2, "topic": 3}[cap.per]
    return (telling.contact, telling.order_no, telling.topic)[:parts]


@law
@given(runs)
def test_cap_is_never_exceeded(found: Run) -> None:
    """In no span of its length more is told than a cap allows, whatever window one lays over the time."""
    for cap in found.book.caps:
        groups: dict[tuple[str, ...], list[Telling]] = defaultdict(list)
        for one in tellings(found.host.messages):
            if not cap.lanes or one.lane in cap.lanes:
                groups[counted(cap, one)].append(one)
        for told in groups.values():
            for first, beyond in zip(told, told[cap.most :], strict=False):
                spared = found.book.notices[beyond.topic].mandatory and not cap.mandatory
                assert spared or beyond.at - first.at >= cap.within, cap.name


def is_asleep(contact: Contact, book: Playbook, at: datetime) -> bool:
    """Whether the clock on the person's wall shows a quiet hour."""
    if not contact.quiet:
        return False
    try:
        zone = ZoneInfo(contact.timezone or book.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        zone = ZoneInfo(book.timezone)
    first, last = map(time.fromisoformat, contact.quiet.split("-"))
    clock = at.astimezone(zone).time()
    return first <= clock < last if first <= last else clock >= first or clock < last


@law
@given(runs)
def test_quiet_hours_are_broken_by_the_critical_only(found: Run) -> None:
    """While a person sleeps nothing goes out but what is critical, and what is too old to disturb anybody."""
    for look in found.looks:
        if not is_asleep(look.contact, found.book, look.now):
            continue
        for message in look.planned.messages:
            too_old = message.channel == "inbox" and message.valid_until < look.now
            assert message.lane == "critical" or too_old or is_review(found, message)


def told_before(said: list[Consent], message: Message) -> bool:
    """Whether a message of the instant of an opt-out may have been told before it."""
    before = [one.given for one in said if one.at < message.told_at]
    return before[-1:] == [True]


def is_review(found: Run, message: Message) -> bool:
    """Whether a message asks for a review of contact data, which has a test of its own."""
    return found.book.review is not None and message.topic == found.book.review.topic


@law
@given(runs)
def test_advertising_keeps_its_hours(found: Run) -> None:
    """Advertising goes out on workdays, by day, on the clock of whoever reads it."""
    for look in found.looks:
        for message in look.planned.messages:
            if found.book.notices[message.topic].marketing and message.channel in DISTURBING:
                local = look.now.astimezone(zone_of(look.contact.timezone, found.book.timezone))
                assert time(9) <= local.time() < time(20)
                assert is_workday(local.date(), found.book.spec.region)


@law
@given(single)
def test_opt_out_wins_at_once(found: Run) -> None:
    """From an opt-out on, until an opt-in, no advertising begins; without consent there never is any."""
    words = sorted(found.host.consents, key=lambda one: one.at)
    first: dict[bytes, Message] = {}
    for message in found.host.messages:
        if found.book.notices[message.topic].marketing:
            first.setdefault(message.notices[0], message)
    for message in first.values():
        said = [one for one in words if one.contact == message.contact and one.at <= message.told_at]
        at_once = {one.given for one in said if one.at == message.told_at}
        assert said
        assert said[-1].given or at_once == {True, False} or (at_once == {False} and told_before(said, message))


@law
@given(runs)
def test_nobody_hears_the_end_of_what_they_never_heard(found: Run) -> None:
    """News that come after others are told to those who were told those, of the same order, not later."""
    heard: set[tuple[str, str]] = set()  # by order: a person may get another number on the way
    for message in found.host.messages:
        after = found.book.notices[message.topic].after
        assert not after or any((message.order_no, topic) in heard for topic in after)
        heard.add((message.order_no, message.topic))


@law
@given(runs)
def test_amends_in_words_are_amends_in_deed(found: Run) -> None:
    """What words promise is recorded, once for an order and a person, and nothing else is."""
    owed = [one.amends for one in found.effects if isinstance(one, Compensate)]
    assert found.host.amends == owed
    assert len({(one.order_no, one.contact) for one in owed}) == len(owed)
    offered = [
        (one.notice.contact, one.notice.order_no, one.notice.topic)
        for one in found.effects
        if isinstance(one, SendNotice) and one.notice.tone == "amends" and found.book.notices[one.notice.topic].amends
    ]
    assert sorted(offered) == sorted(map(to_whom, owed))
    said = {(one.order_no, one.topic) for one in found.host.messages if one.tone == "amends"}
    assert said <= {(order_no, topic) for _, order_no, topic in offered}, "by order: somebody may have a new number"


def to_whom(amends: Amends) -> tuple[str, str, str]:
    """Whom amends are for, and why."""
    return (amends.contact, amends.order_no, amends.topic)


@law
@given(runs)
def test_sms_has_one_part(found: Run) -> None:
    """No SMS that ever goes out takes two parts, by our count and by another's."""
    smsutil: Any = pytest.importorskip("smsutil")
    for message in found.host.messages:
        if message.channel == "sms":
            assert (measure(message.text).parts, len(smsutil.split(message.text).parts)) == (1, 1)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(NAMES), st.data(), st.sampled_from(("zh-CN", "en")), st.sampled_from(TONES), st.sampled_from(TIERS),
    ANY_VALUES,
)  # fmt: skip
def test_sms_of_any_values_has_one_part(
    name: str, data: st.DataObject, locale: str, tone: Tone, tier: Tier, values: dict[str, str | int]
) -> None:
    """For every topic, locale, tone and tier, whatever the values: one part, by our count and by another's."""
    smsutil: Any = pytest.importorskip("smsutil")
    book = shelf().playbooks[name]
    topic = data.draw(st.sampled_from(sorted(book.notices)))
    found = compose(book, notice(topic, tone=tone, values=values), contact(locale=locale, tier=tier), "sms")
    if not isinstance(found, Text):
        assert (found, "sms" in channels_of(book, topic)) == (Reason.NO_WORDING, False)
        return
    assert (measure(found.text).parts, len(smsutil.split(found.text).parts)) == (1, 1)
    if book.notices[topic].marketing:
        assert found.text.endswith(book.wording.get(locale, book.wording["en"])._shared.spec.opt_out)


def channels_of(book: Playbook, topic: str) -> set[ChannelName]:
    """Every channel that a topic may go out on, for people of any tier."""
    ways = book.notices[topic].ways.values()
    return {channel for way in ways for channel in (*way.channels, *way.also)}


@law
@given(runs)
def test_values_of_events_never_turn_into_texts(found: Run) -> None:
    """What shops, carriers and people write stands in a message as they wrote it, or cut; it never signs or turns it."""
    for message in found.host.messages:
        assert "\u202e" not in message.text
        assert message.text.count("【") == message.text.startswith("【叮咚】")
        assert message.order_no + "${sum}" not in message.text
        assert message.text.encode("utf-8")


def fates(found: Run) -> Iterator[Fate]:
    """Every fate, also of what was only held."""
    return (fate for look in found.looks for fate in look.planned.fates)


def test_streams_reach_what_the_laws_speak_of() -> None:
    """The random lines are worth something: every reason for which something is told, held or dropped comes up."""
    found = [run(seed, 400, name, frozenset({"sms", "push"}), 7) for name in NAMES for seed in (1, 2)]
    seen = {fate.reason for one in found for fate in fates(one)}
    assert seen >= {
        Reason.SENT, Reason.QUIET_HOURS, Reason.MARKETING_HOURS, Reason.CAPPED, Reason.WAITING_FOR_RECEIPT,
        Reason.RECEIPT_CAME, Reason.FELL_BACK, Reason.FALLBACK_STOPPED, Reason.WITHDRAWN, Reason.WITHDRAWAL,
        Reason.NEVER_HEARD, Reason.NO_CONSENT, Reason.MUTED, Reason.TOO_DETAILED, Reason.OUT_OF_DATE, Reason.COVERED,
    }  # fmt: skip
    assert {message.lane for one in found for message in one.host.messages} == {"critical", "service", "marketing"}
    assert {message.channel for one in found for message in one.host.messages} == {*RECEIPTED, "inbox"}
    assert any(one.given for run_ in found for one in run_.host.consents)
    assert any(one.source.startswith("reply") and not one.given for run_ in found for one in run_.host.consents)
    assert any(one.host.amends for one in found)
