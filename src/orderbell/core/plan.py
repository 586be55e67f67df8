"""The second stage: of all that one person should be told, what goes out now, where, and in which words?

`plan` looks at the pending notices of one contact together, so that neighbouring news of an order becomes one
message (S0-33, S1-16), news whose reason has gone is taken back, and nobody hears more than they asked for or can
bear. A notice that is not due yet stays as it is, unless a message that goes out says it too.

What has gone out on one channel while another is left waits for its receipt: it stays among the pending notices as
`tried`, and is told on the next channel when the channel's patience is over and no receipt came (S0-32).
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

import msgspec

from orderbell.core.calendar import marketing_until, quiet_until, zone_of
from orderbell.core.events import ChannelName
from orderbell.core.model import (
    BY_DEADLINE,
    DISTURBING,
    FREQUENCY_RANK,
    Contact,
    Fate,
    History,
    Message,
    Notice,
    Outlook,
    Plan,
    Reason,
    Told,
    Try,
    derive_id,
)  # fmt: skip
from orderbell.core.playbook import HISTORY_KEPT, HISTORY_MAX, Cap, NoticeRule, Playbook
from orderbell.core.wording import TONES, Text, Wording

INBOX: tuple[ChannelName, ...] = ("inbox",)
STORM = Cap("everything", "person", HISTORY_MAX, HISTORY_KEPT, frozenset(), "inbox", mandatory=True)
REFERRED_KEPT = timedelta(days=120)  # an order takes as long until the last word on it
PATIENCE = timedelta(minutes=3)  # how long a receipt is waited for where nothing is known of a channel yet
_replace = msgspec.structs.replace


def plan(
    playbooks: Mapping[str, Playbook],
    contact: Contact,
    history: History,
    notices: Iterable[Notice],
    now: datetime,
    outlook: Outlook,
) -> Plan:
    """Plan the pending notices of one contact; `history` is what they heard lately, `outlook` what is open."""
    draft = _Draft(contact, history, now, outlook)
    pending = list(notices)
    if len(pending) > 1:
        pending.sort(key=lambda notice: (notice.due_at, notice.id))
    if any([notice.withdraws for notice in pending]):  # noqa: C419 - a list is quicker than a generator
        pending = _withdraw(draft, pending)
    lines: list[_Line] = []
    for notice in pending:
        playbook = playbooks.get(notice.playbook)
        rule = playbook.notices.get(notice.topic) if playbook is not None else None
        if playbook is None or rule is None:
            draft.fates[notice.id] = Fate(notice, "dropped", Reason.NO_WORDING)
            continue
        unwanted = _unwanted(rule, contact, notice, now)
        if unwanted is not None and notice.tried:  # told once, and then they had enough of it
            reason = Reason.SENT if unwanted is Reason.OUT_OF_DATE else Reason.FALLBACK_STOPPED
            draft.fates[notice.id] = Fate(notice, "sent", reason)
        elif unwanted is None:
            lines.append((notice, rule, playbook))
            draft.live.setdefault(notice.order_no, []).append(lines[-1])
        else:
            draft.fates[notice.id] = Fate(notice, "dropped", unwanted)
            draft.unheard.append((notice, rule, playbook))
    for line in lines:
        draft.settle(line)
    if draft.last is not None:
        _ask_for_review(draft, draft.last)
    fates = [fate for fate in draft.fates.values() if fate is not None]
    return Plan(tuple(draft.messages), tuple(fates), draft.history)


_Line = tuple[Notice, NoticeRule, Playbook]


class _Draft:
    """A plan in the making: what is wanted at all, and the fates so far, None for what waits for its time."""

    __slots__ = (
        "before",
        "contact",
        "fates",
        "last",
        "live",
        "messages",
        "now",
        "outlook",
        "reach",
        "reviewed_at",
        "told",
        "unheard",
        "wordless",
    )

    def __init__(self, contact: Contact, history: History, now: datetime, outlook: Outlook) -> None:
        self.contact, self.before, self.now, self.outlook = contact, history, now, outlook
        self.told, self.reviewed_at = history.told, history.reviewed_at
        if self.told and self.told[0].at <= now - HISTORY_KEPT:
            kept, long_kept = now - HISTORY_KEPT, now - REFERRED_KEPT
            self.told = tuple(one for one in self.told if one.at > (long_kept if one.referred else kept))
        # the addresses at which they can be reached now, by channel
        self.reach = {c: address for c, address in contact.addresses().items() if c in outlook.patience}
        if outlook.reaches is not None:
            self.reach = {c: address for c, address in self.reach.items() if outlook.reaches(c, address)}
        self.live: dict[str, list[_Line]] = {}
        self.fates: dict[bytes, Fate | None] = {}
        self.unheard: list[_Line] = []  # the person does not want to hear it, yet it has happened
        self.messages: list[Message] = []
        self.last: _Line | None = None  # that disturbed
        self.wordless: Reason | None = None  # why the last text that was looked for is not there

    @property
    def history(self) -> History:
        """What the person has heard, this plan included."""
        if self.told is self.before.told and self.reviewed_at == self.before.reviewed_at:
            return self.before
        return History(self.told[-HISTORY_MAX:], self.reviewed_at)

    def settle(self, line: _Line) -> Fate | None:
        """Decide one notice, after those that say it too: it is merged only into one that goes out."""
        notice, rule, playbook = line
        if notice.id in self.fates:
            return self.fates[notice.id]
        self.fates[notice.id] = None  # no playbook that passed its lint covers in a circle; another must not hang
        wait: datetime | None = None
        live = self.live[notice.order_no]
        for wider in _covers(notice, rule, live, self.now) if len(live) > 1 else ():
            fate = self.settle(wider)
            if wider[0].tried or (fate is not None and _is_told(fate)):
                into = fate.into if fate is not None and fate.kind == "merged" else wider[0].id
                self.fates[notice.id] = fate = _merged(notice, into)
                if notice.topic in playbook.after and not notice.tried:  # heard, in other words
                    self.told = (
                        *self.told,
                        Told(self.now, notice.order_no, notice.topic, rule.lane, INBOX[0], referred=True),
                    )
                return fate
            if fate is None and wider[0].due_at > self.now:
                wait = min(wait or wider[0].due_at, wider[0].due_at)
        if notice.tried:
            by = next(_covers(notice, rule, self.unheard, self.now), None)
            if by is not None:
                self.fates[notice.id] = fate = _merged(notice, by[0].id)
                return fate
        if notice.due_at > self.now:
            return None
        if notice.tried:
            fate = _follow_up(self, line)
        elif wait is not None:
            fate = Fate(_replace(notice, due_at=wait), "held", Reason.COVERED, wait)
        else:
            self.wordless = None
            fate = _first_time(self, line)
        self.fates[notice.id] = fate
        return fate

    def heard(self, order_no: str, topics: frozenset[str]) -> bool:
        """Whether the person has been told one of these topics of an order."""
        return any(one.order_no == order_no and one.topic in topics for one in self.told)

    def note(self, line: _Line, messages: list[Message]) -> None:
        """Remember a telling; what only lies in the inbox counts for no cap, but may be referred to."""
        notice, rule, playbook = line
        channel = next((m.channel for m in messages if m.channel in DISTURBING), INBOX[0])
        if channel in DISTURBING:
            self.last = line
        referred = notice.topic in playbook.after
        if referred or (playbook.caps and channel in DISTURBING):
            self.told = (*self.told, Told(self.now, notice.order_no, notice.topic, rule.lane, channel, referred))


def compose(
    playbook: Playbook,
    notice: Notice,
    contact: Contact,
    channel: ChannelName,
    approved: Container[str] | None = None,
    *,
    templated: bool = False,
) -> Text | Reason:
    """The words of a notice for a person on a channel, or why there are none.

    `approved` and `templated` are those of `Wording.compose`.
    """
    rule = playbook.notices[notice.topic]
    words = _wording(playbook, contact.locale)
    text = words.compose(
        notice.topic, channel, notice.tone, notice.values, timezone=zone_of(contact.timezone, playbook.timezone).key,
        marketing=rule.marketing, newcomer=contact.tier == "new", approved=approved, templated=templated,
    )  # fmt: skip
    if text is None:
        return Reason.NO_WORDING if approved is None or not words.has(notice.topic, channel) else Reason.NO_TEMPLATE
    return Reason.TOO_LONG if text.segments > 1 else text


def _wording(playbook: Playbook, locale: str) -> Wording:
    exact = playbook.wording.get(locale)
    if exact is not None:
        return exact
    language = locale.partition("-")[0].lower()
    near = (words for name, words in playbook.wording.items() if language and name.lower().startswith(language))
    return next(near, playbook.wording[playbook.locale])


def _is_told(fate: Fate) -> bool:
    return fate.kind in ("sent", "merged") or bool(fate.kind == "held" and fate.notice.tried)


def _merged(notice: Notice, into: bytes) -> Fate:
    if notice.tried:  # it has been told once: only its next channel is spared
        return Fate(notice, "sent", Reason.FALLBACK_STOPPED, None, into)
    return Fate(notice, "merged", Reason.COVERED, None, into)


def _withdraw(draft: _Draft, pending: list[Notice]) -> list[Notice]:
    """Take back what waits and has lost its reason; what is left."""
    kept: list[Notice] = []
    withdrawals = [notice for notice in pending if notice.withdraws]
    for notice in withdrawals:
        draft.fates[notice.id] = Fate(notice, "done", Reason.WITHDRAWAL)
    for notice in (notice for notice in pending if not notice.withdraws):
        by = next((one for one in withdrawals if _takes_back(one, notice)), None)
        if by is None:
            kept.append(notice)
        elif notice.tried:
            draft.fates[notice.id] = Fate(notice, "sent", Reason.FALLBACK_STOPPED, None, by.id)
        else:
            draft.fates[notice.id] = Fate(notice, "dropped", Reason.WITHDRAWN, None, by.id)
    return kept


def _takes_back(withdrawal: Notice, notice: Notice) -> bool:
    return (
        notice.topic in withdrawal.withdraws
        and notice.order_no == withdrawal.order_no
        and notice.version < withdrawal.version
    )


def _unwanted(rule: NoticeRule, contact: Contact, notice: Notice, now: datetime) -> Reason | None:
    if rule.mandatory:
        return None
    if rule.marketing and contact.marketing != "yes":
        return Reason.NO_CONSENT
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
            (notice.topic in wider.covers or _is_graver(other, notice))
            and (rule.lane != "critical" or wider.lane == "critical" or notice.tried)
            and other.created_at >= notice.created_at
            and (other.tried or other.due_at <= max(notice.tell_by, now))
        ):
            yield line


def _is_graver(other: Notice, notice: Notice) -> bool:
    """Whether two deadlines tell the same at once, such as late and very late, and this is the one to tell."""
    return (
        other.topic == notice.topic
        and other.cause.startswith(BY_DEADLINE)
        and notice.cause.startswith(BY_DEADLINE)
        and (TONES.index(other.tone), other.version) > (TONES.index(notice.tone), notice.version)
    )


def _first_time(draft: _Draft, line: _Line) -> Fate:
    notice, rule, _ = line
    now = draft.now
    if rule.after and not draft.heard(notice.order_no, rule.after):
        return Fate(notice, "dropped", Reason.NEVER_HEARD)
    late = notice.valid_until < now  # only mandatory ones come this far: they are kept where they disturb nobody
    if late:
        return _deliver(draft, line, INBOX, ())
    held = _held(draft, line)
    if held is not None:
        return held
    contact = draft.contact
    way = rule.ways[contact.tier]
    wanted, also = _open_to(draft, rule, way.channels), way.also
    if contact.mute:
        also = tuple(channel for channel in also if not _is_muted(contact, rule, channel))
    full = _capped(draft, line)
    if full is not None and any(c in DISTURBING and c in draft.reach for c in (*wanted, *also)):
        cap, free_at = full
        notice = _replace(notice, cap=cap.name)
        if cap.then == "delay" and free_at <= notice.valid_until:
            return _hold(notice, free_at, Reason.CAPPED)
        return _deliver(draft, (notice, rule, line[2]), INBOX, (), Reason.CAPPED)
    return _deliver(draft, line, (*wanted, *INBOX) if rule.mandatory else wanted, also)


def _held(draft: _Draft, line: _Line) -> Fate | None:
    """Why the notice must wait for a better hour; critical ones never do."""
    notice, rule, playbook = line
    contact, now = draft.contact, draft.now
    if rule.lane == "critical":
        return None
    zone = zone_of(contact.timezone, playbook.timezone)
    # What nobody's deed but a deadline brings keeps the night for those, too, who never named their hours.
    quiet = contact.quiet or (playbook.spec.quiet if notice.cause.startswith(BY_DEADLINE) else "")
    until = quiet_until(now, quiet, zone)
    if until is not None:
        return _hold(notice, until, Reason.QUIET_HOURS)
    if rule.marketing:
        hours = playbook.spec.marketing
        until = marketing_until(now, hours.hours, hours.workdays_only, playbook.spec.region, zone)
        if until is not None:
            return _hold(notice, until, Reason.MARKETING_HOURS)
    return None


def _hold(notice: Notice, until: datetime, reason: Reason) -> Fate:
    return Fate(_replace(notice, due_at=until, held=reason.value), "held", reason, until)


def _open_to(draft: _Draft, rule: NoticeRule, channels: tuple[ChannelName, ...]) -> tuple[ChannelName, ...]:
    """The channels that the person left on for the category; what is mandatory keeps at least one that reaches them."""
    contact = draft.contact
    if contact.states:
        channels = _bounced_later(contact, channels)
    if not contact.mute:
        return channels
    left = tuple(channel for channel in channels if not _is_muted(contact, rule, channel))
    if rule.mandatory and not any(channel in DISTURBING and channel in draft.reach for channel in left):
        return channels
    return left


def _is_muted(contact: Contact, rule: NoticeRule, channel: ChannelName) -> bool:
    return bool(contact.mute) and f"{rule.category}:{channel}" in contact.mute


def _bounced_later(contact: Contact, channels: tuple[ChannelName, ...]) -> tuple[ChannelName, ...]:
    """Where the last message did not arrive, the next one goes later; the inbox keeps its place."""
    disturbing = [channel for channel in channels if channel in DISTURBING]
    later = iter(sorted(disturbing, key=lambda channel: contact.states.get(channel) == "bounced"))
    return tuple(next(later) if channel in DISTURBING else channel for channel in channels)


def _capped(draft: _Draft, line: _Line) -> tuple[Cap, datetime] | None:
    """The full cap that is the last to free a place, and when it does; None when none is full."""
    notice, rule, playbook = line
    full: tuple[Cap, datetime] | None = None
    heard = len(draft.told)
    if heard >= HISTORY_MAX:  # more than can be counted: the last guard against a storm
        return STORM, draft.told[0].at + HISTORY_KEPT
    for cap in playbook.caps:
        if rule.mandatory and not cap.mandatory:
            continue
        if heard >= cap.most and (not cap.lanes or rule.lane in cap.lanes):
            counted = _counted(cap, draft.told, notice, draft.now)
            if len(counted) >= cap.most:
                frees_at = counted[-cap.most] + cap.within
                if full is None or frees_at > full[1]:
                    full = cap, frees_at
    return full


def _counted(cap: Cap, told: tuple[Told, ...], notice: Notice, now: datetime) -> list[datetime]:
    """When the person was told what a cap counts, the newest last."""
    oldest = now - cap.within
    return [
        one.at
        for one in told
        if one.at > oldest
        and one.channel in DISTURBING
        and (not cap.lanes or one.lane in cap.lanes)
        and (cap.per == "person" or one.order_no == notice.order_no)
        and (cap.per != "topic" or one.topic == notice.topic)
    ]


def _deliver(
    draft: _Draft,
    line: _Line,
    wanted: tuple[ChannelName, ...],
    also: tuple[ChannelName, ...],
    reason: Reason = Reason.SENT,
) -> Fate:
    """Write the message for the first channel that reaches the person, and those beside it."""
    notice = line[0]
    messages = _first_of(draft, line, wanted)
    for channel in also:
        if channel in draft.reach and all(message.channel != channel for message in messages):
            messages += _write(draft, line, channel)
    if not messages:
        return Fate(notice, "dropped", _passed_over(draft, wanted) or draft.wordless or Reason.NO_ENDPOINT)
    if reason is Reason.SENT and all(message.channel == "inbox" for message in messages):
        reason = _passed_over(draft, wanted) or reason
    draft.messages += messages
    draft.note(line, messages)
    return _await_receipt(draft, line, messages, wanted) or Fate(notice, "sent", reason)


def _passed_over(draft: _Draft, wanted: tuple[ChannelName, ...]) -> Reason | None:
    """Why nobody could be disturbed although the person has an address for it."""
    if draft.wordless is Reason.NO_TEMPLATE:
        return draft.wordless
    addresses = draft.contact.addresses()
    away = any(channel in addresses and channel not in draft.reach for channel in wanted if channel in DISTURBING)
    return Reason.NO_PROVIDER if away else None


def _first_of(draft: _Draft, line: _Line, wanted: Iterable[ChannelName]) -> list[Message]:
    for channel in wanted:
        if channel in draft.reach:
            messages = _write(draft, line, channel)
            if messages:
                return messages
    return []


def _await_receipt(draft: _Draft, line: _Line, messages: list[Message], wanted: tuple[ChannelName, ...]) -> Fate | None:
    """Keep the notice until the receipt is due, where another channel could tell it then."""
    notice, rule, _ = line
    first = messages[0].channel
    if not rule.fallback or first == "inbox" or len(draft.reach) <= 2:  # noqa: PLR2004 - the inbox, and the one that was used
        return None
    used = {first, *(message.channel for message in messages), *(one.channel for one in notice.tried)}
    if not any(channel not in used and channel != "inbox" and channel in draft.reach for channel in wanted):
        return None
    until = draft.now + draft.outlook.patience[first]
    if until > notice.valid_until:
        return None
    tries = (*notice.tried, *(Try(message.channel, message.id, draft.now) for message in messages))
    waiting = _replace(notice, due_at=until, tried=tries)
    return Fate(waiting, "held", Reason.WAITING_FOR_RECEIPT, until)


def _follow_up(draft: _Draft, line: _Line) -> Fate:
    """A receipt was due: content with it, or on to the next channel; the same person is told the same thing."""
    notice, rule, _ = line
    main = rule.ways[draft.contact.tier].channels
    if any(_has_arrived(one, draft.outlook) for one in notice.tried if one.channel in main):
        return Fate(notice, "sent", Reason.RECEIPT_CAME)  # a receipt of what went out beside it proves little
    if notice.valid_until < draft.now:
        return Fate(notice, "sent", Reason.SENT)
    held = _held(draft, line)
    if held is not None:
        return held
    used = {one.channel for one in notice.tried}
    wanted = _open_to(draft, rule, rule.ways[draft.contact.tier].channels)
    rest = tuple(channel for channel in wanted if channel in DISTURBING and channel not in used)
    messages = _first_of(draft, line, rest)
    if not messages:
        return Fate(notice, "sent", Reason.SENT)
    draft.messages += messages
    return _await_receipt(draft, line, messages, wanted) or Fate(
        _replace(notice, tried=(*notice.tried, *(Try(m.channel, m.id, draft.now) for m in messages))),
        "sent",
        Reason.FELL_BACK,
    )


def _has_arrived(one: Try, outlook: Outlook) -> bool:
    """Whether a message reached its person as far as that can be known: where nobody confirms, acceptance must do."""
    status = outlook.statuses.get(one.message_id)
    return status == "delivered" or (status == "accepted" and one.channel in outlook.silent)


def _write(draft: _Draft, line: _Line, channel: ChannelName) -> list[Message]:
    notice, rule, playbook = line
    contact, now = draft.contact, draft.now
    outlook = draft.outlook
    templated = channel in outlook.templated
    text = compose(playbook, notice, contact, channel, outlook.approved.get(channel), templated=templated)
    if isinstance(text, Reason):
        draft.wordless = text
        return []
    message = Message(
        derive_id(notice.created_at, notice.id.hex(), channel), notice.tenant, contact.id, channel,
        draft.reach[channel], notice.topic, rule.category, rule.lane, notice.order_no, text.text, text.subject,
        (notice.id,), notice.created_at, now, notice.valid_until, text.tone, notice.cause, text.template, text.slots,
        rule.marketing, rule.resend,
    )  # fmt: skip
    return [message]


def _ask_for_review(draft: _Draft, line: _Line) -> None:
    """Ask people now and then to look over their contact data, when they hear from us anyway (S0-2, S0-5)."""
    said, _, playbook = line
    review = playbook.review
    if review is None:
        return
    now = draft.now
    last = draft.contact.checked_at or now
    if now - last < review.every or (draft.reviewed_at is not None and now - draft.reviewed_at < review.every):
        return
    rule = playbook.notices[review.topic]
    notice = Notice(
        derive_id(now, said.id.hex(), review.topic), said.tenant, said.contact, said.order_no, said.role,
        said.playbook, review.topic, now, now, now + rule.within, now + rule.valid_for,
        values={"order_no": said.order_no}, cause="review", version=said.version,
    )  # fmt: skip
    line = (notice, rule, playbook)
    if _unwanted(rule, draft.contact, notice, now) is not None or _held(draft, line) is not None:
        return
    if _capped(draft, line) is not None:
        return
    messages = _first_of(draft, line, _open_to(draft, rule, rule.channels))
    if messages:
        draft.messages += messages
        draft.note(line, messages)
        draft.reviewed_at = now
        draft.fates[notice.id] = Fate(notice, "sent", Reason.REVIEW_DUE)
