"""The second stage: of all that one person should be told, what goes out now, where, and in which words?

`plan` looks at the pending notices of one contact together, so that neighbouring news of an order becomes one
message (S0-33, S1-16). A notice that is not due yet stays as it is, unless a message that goes out says it too.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import msgspec

from orderbell.core.calendar import quiet_until, zone_of
from orderbell.core.model import (
    FREQUENCY_RANK,
    ChannelName,
    Contact,
    Fate,
    Message,
    Notice,
    Plan,
    Reason,
    derive_id,
)  # fmt: skip
from orderbell.core.playbook import NoticeRule, Playbook
from orderbell.core.wording import Text, Wording

INBOX: tuple[ChannelName, ...] = ("inbox",)


def plan(
    playbooks: Mapping[str, Playbook],
    contact: Contact,
    notices: Iterable[Notice],
    now: datetime,
    channels: frozenset[ChannelName],
) -> Plan:
    """Plan the pending notices of one contact; `channels` are those that have a provider now."""
    draft = _Draft(contact, now, channels)
    for notice in sorted(notices, key=lambda pending: (pending.due_at, pending.id)):
        playbook = playbooks.get(notice.playbook)
        rule = playbook.notices.get(notice.topic) if playbook is not None else None
        if playbook is None or rule is None:
            draft.fates[notice.id] = Fate(notice, "dropped", Reason.NO_WORDING)
            continue
        unwanted = _unwanted(rule, contact, notice, now)
        if unwanted is None:
            draft.live.append((notice, rule, playbook))
        else:
            draft.fates[notice.id] = Fate(notice, "dropped", unwanted)
    for line in draft.live:
        draft.settle(line)
    return Plan(tuple(draft.messages), tuple(fate for fate in draft.fates.values() if fate is not None))


_Line = tuple[Notice, NoticeRule, Playbook]


class _Draft:
    """A plan in the making: what is wanted at all, and the fates so far, None for what waits for its time."""

    __slots__ = ("channels", "contact", "fates", "live", "messages", "now")

    def __init__(self, contact: Contact, now: datetime, channels: frozenset[ChannelName]) -> None:
        self.contact, self.now, self.channels = contact, now, channels
        self.live: list[_Line] = []
        self.fates: dict[bytes, Fate | None] = {}
        self.messages: list[Message] = []

    def settle(self, line: _Line) -> Fate | None:
        """Decide one notice, after those that say it too: it is merged only into one that goes out."""
        notice, rule, playbook = line
        if notice.id in self.fates:
            return self.fates[notice.id]
        self.fates[notice.id] = None  # no playbook that passed its lint covers in a circle; another must not hang
        wait: datetime | None = None
        for wider in _covers(notice, rule, self.live, self.now):
            fate = self.settle(wider)
            if fate is not None and fate.kind in ("sent", "merged"):
                into = fate.into if fate.kind == "merged" else wider[0].id
                self.fates[notice.id] = fate = Fate(notice, "merged", Reason.COVERED, None, into)
                return fate
            if fate is None and wider[0].due_at > self.now:
                wait = min(wait or wider[0].due_at, wider[0].due_at)
        if notice.due_at > self.now:
            return None
        if wait is not None:
            fate = Fate(msgspec.structs.replace(notice, due_at=wait), "held", Reason.COVERED, wait)
        else:
            fate, texts = _place(self, playbook, rule, notice)
            self.messages.extend(texts)
        self.fates[notice.id] = fate
        return fate


def compose(playbook: Playbook, notice: Notice, contact: Contact, channel: ChannelName) -> Text | Reason:
    """The words of a notice for a person on a channel, or why there are none."""
    rule = playbook.notices[notice.topic]
    words = _wording(playbook, contact.locale)
    timezone = zone_of(contact.timezone, playbook.timezone).key
    text = words.compose(notice.topic, channel, notice.tone, notice.values, timezone=timezone, marketing=rule.marketing)
    if text is None:
        return Reason.NO_WORDING
    return Reason.TOO_LONG if text.segments > 1 else text


def _wording(playbook: Playbook, locale: str) -> Wording:
    exact = playbook.wording.get(locale)
    if exact is not None:
        return exact
    language = locale.partition("-")[0].lower()
    near = (words for name, words in playbook.wording.items() if language and name.lower().startswith(language))
    return next(near, playbook.wording[playbook.locale])


def _unwanted(rule: NoticeRule, contact: Contact, notice: Notice, now: datetime) -> Reason | None:
    if rule.mandatory:
        return None
    if rule.category in contact.mute:
        return Reason.MUTED
    if FREQUENCY_RANK[rule.level] > FREQUENCY_RANK[contact.frequency]:
        return Reason.TOO_DETAILED
    return Reason.OUT_OF_DATE if notice.valid_until < now else None


def _covers(notice: Notice, rule: NoticeRule, live: list[_Line], now: datetime) -> Iterator[_Line]:
    """The later notices of the same order that say it too, and soon enough; what may wait covers nothing urgent."""
    for line in live:
        other, wider, _ = line
        if (
            notice.topic in wider.covers
            and (rule.lane != "critical" or wider.lane == "critical")
            and other.order_no == notice.order_no
            and other.created_at >= notice.created_at
            and other.due_at <= max(notice.tell_by, now)
        ):
            yield line


def _place(draft: _Draft, playbook: Playbook, rule: NoticeRule, notice: Notice) -> tuple[Fate, list[Message]]:
    contact, now = draft.contact, draft.now
    late = notice.valid_until < now  # only mandatory ones come this far: they are kept where they disturb nobody
    if rule.lane != "critical" and not late:
        until = quiet_until(now, contact.quiet, zone_of(contact.timezone, playbook.timezone))
        if until is not None:
            held = msgspec.structs.replace(notice, due_at=until, held="quiet_hours")
            return Fate(held, "held", Reason.QUIET_HOURS, until), []
    wanted = INBOX if late else (*rule.channels, *INBOX) if rule.mandatory else rule.channels
    messages: list[Message] = []
    for channel in wanted:
        if channel in draft.channels and contact.endpoint(channel):
            messages = _write(draft, playbook, rule, notice, channel)
            if messages:
                break
    for channel in () if late else rule.also:
        if channel in draft.channels and contact.endpoint(channel) and all(m.channel != channel for m in messages):
            messages += _write(draft, playbook, rule, notice, channel)
    if messages:
        return Fate(notice, "sent", Reason.SENT), messages
    return Fate(notice, "dropped", Reason.NO_ENDPOINT), []


def _write(draft: _Draft, playbook: Playbook, rule: NoticeRule, notice: Notice, channel: ChannelName) -> list[Message]:
    contact, now = draft.contact, draft.now
    text = compose(playbook, notice, contact, channel)
    if isinstance(text, Reason):
        return []
    message = Message(
        derive_id(now, notice.id.hex(), channel), notice.tenant, contact.id, channel, contact.endpoint(channel),
        notice.topic, rule.category, rule.lane, notice.order_no, text.text, text.subject, (notice.id,),
        notice.created_at, now, notice.valid_until, text.tone, notice.cause,
    )  # fmt: skip
    return [message]
