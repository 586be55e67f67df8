"""Why each notice met its fate, in words: from the facts on record to a line that anybody can read.

What is not on record is worked out from the playbook and the person's wishes as they are now, and only where the
times agree with it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import groupby

from msgspec import Struct

from orderbell.core.calendar import zone_of
from orderbell.core.model import Contact, Notice, Reason
from orderbell.core.phones import mask_email, mask_phone
from orderbell.core.playbook import Cap, NoticeRule, Playbook
from orderbell.core.story import Line, Sending
from orderbell.core.turn import Shelf
from orderbell.insight.words import Words, capital, fill
from orderbell.observe import mask
from orderbell.store.dossier import Dossier, Posted, Settled, Step

LATE = timedelta(minutes=1)
"""A notice that went out later than this was held back; less is the time that the machine takes."""

# Right behind a Chinese character too, which logs need not expect.
_PHONE = re.compile(r"(?<![0-9A-Za-z])(1[3-9][0-9])[0-9]{4}([0-9]{4})(?![0-9A-Za-z])")
_GONE_WRONG = frozenset({"failed", "rejected"})


def shown(text: str) -> str:
    """A text from outside as it may be shown: numbers and addresses masked, nothing that moves a terminal."""
    masked = _PHONE.sub(r"\1****\2", mask(text))
    return "".join(sign if sign.isprintable() else " " for sign in masked)


class Part(Struct, frozen=True):
    """A sentence of a line, about what happened or why."""

    text: str
    is_why: bool = True


class Teller:
    """Tells the notices of a dossier; all of its texts are of one locale."""

    def __init__(self, dossier: Dossier, shelf: Shelf, words: Words, timezone: str) -> None:
        self.dossier, self.shelf, self.words, self.zone = dossier, shelf, words, zone_of(timezone)
        self.posted: dict[bytes, list[Posted]] = {}
        for one in dossier.posted:
            for name in one.message.notices:
                self.posted.setdefault(name, []).append(one)
        self.settled = {one.notice.id: one for one in (*dossier.referred, *dossier.settled)}
        self.notices = {one.id: one for one in dossier.waiting} | {n: s.notice for n, s in self.settled.items()}
        self.steps: dict[tuple[datetime, str], Step] = {(step.at, step.type): step for step in dossier.steps}

    def lines(self, *, with_order: bool = False) -> Iterator[Line]:
        """A line for every notice, whatever became of it."""
        for one in self.dossier.settled:
            if one.fate != "done":
                yield self.line(one.notice, one, with_order=with_order)
        for notice in self.dossier.waiting:
            yield self.line(notice, None, with_order=with_order)

    def line(self, notice: Notice, settled: Settled | None, *, with_order: bool = False) -> Line:
        """What became of one notice, and why."""
        story = _Story(self, notice, settled)
        parts = list(story.parts())
        who, topic, fate = self.who(notice), self.topic(notice.topic), settled.fate if settled else "held"
        order, cause = self.words.say("of_order", order_no=notice.order_no) if with_order else "", self.cause(notice)
        lead = self.words.say("notice", at=self.time(notice.created_at), order=order, who=who, topic=topic, cause=cause)
        return Line(
            notice.created_at, "notice", notice.topic, topic, self.words.joined(lead, *(part.text for part in parts)),
            self.words.joined(*(part.text for part in parts if not part.is_why)) or capital(self.words.fates[fate]),
            self.words.joined(*(part.text for part in parts if part.is_why)),
            notice.order_no, shown(notice.role), shown(notice.contact), who, fate,
            settled.reason if settled else notice.held, None if settled else notice.due_at,
            tuple(_sending(one) for one in story.posted), cause,
        )  # fmt: skip

    def time(self, at: datetime, beside: datetime | None = None, *, exact: bool = False) -> str:
        """A moment by the clock that all times of the story go by."""
        return self.words.time(at, self.zone, beside, exact=exact)

    def topic(self, topic: str) -> str:
        """What a topic is called."""
        return self.words.topics.get(topic, topic)

    def who(self, notice: Notice) -> str:
        """The person of a notice: role and masked address."""
        return self.person(notice.role, self.dossier.contacts.get(notice.contact))

    def person(self, role: str, contact: Contact | None) -> str:
        """A person: what they are in the order, and how they are reached, masked."""
        words = self.words
        if contact is None:
            address = ""
        elif contact.phone or contact.email:
            address = mask_phone(contact.phone) if contact.phone else mask_email(contact.email)
        else:
            address = words.addresses["wechat" if contact.wechat else "push"] if contact.wechat or contact.app else ""
        return words.say("who", role=words.role(shown(role)), address=address or words.nobody_reachable)

    def cause(self, notice: Notice) -> str:
        """What brought a notice about."""
        kind, _, name = notice.cause.partition(" ")
        if kind == "deadline":
            return self.deadline(name)
        if kind == "review":
            return self.words.review
        return self.event(kind, self.steps.get((notice.created_at, kind)))

    def deadline(self, name: str) -> str:
        """What a deadline that passed is called."""
        return self.words.deadlines.get(name) or fill(self.words.other_deadline, {"name": name})

    def event(self, kind: str, step: Step | None = None) -> str:
        """What an event is called, with the phase of a parcel."""
        what = self.words.events.get(kind, kind)
        detail = self.words.phases.get(step.data.phase) if step is not None else None
        return self.words.say("with_detail", what=what, detail=detail) if detail else what


class _Story:
    """The sentences about one notice."""

    def __init__(self, teller: Teller, notice: Notice, settled: Settled | None) -> None:
        self.teller, self.notice, self.settled, self.words = teller, notice, settled, teller.words
        self.posted = teller.posted.get(notice.id, [])
        self.contact = teller.dossier.contacts.get(notice.contact) or Contact(notice.tenant, notice.contact)
        self.playbook: Playbook | None = teller.shelf.find(notice.playbook)
        self.rule: NoticeRule | None = self.playbook.notices.get(notice.topic) if self.playbook is not None else None

    def parts(self) -> Iterator[Part]:
        """All sentences after the lead."""
        if self.settled is None:
            yield from self.waiting()
            return
        reason = self.settled.reason
        if reason == Reason.REVIEW_DUE:
            yield Part(self.reason(reason))
        elif reason != Reason.COVERED:
            yield from self.delay()
        yield from self.messages()
        if reason not in _SAID_BY_MESSAGES:
            yield Part(self.reason(reason))
        remedy = self.words.remedies.get(reason, "")
        if remedy:
            yield Part(fill(remedy, _Values(self)))
        elif self.is_late():
            yield Part(self.words.say("late_inbox"))

    def reason(self, reason: str) -> str:
        """The sentence of a reason; one that is not known here goes by its code."""
        template = self.words.reasons.get(reason)
        return fill(template, _Values(self)) if template is not None else f"{reason}."

    def waiting(self) -> Iterator[Part]:
        """What is to come."""
        held = self.notice.held
        if self.notice.tried:
            yield from self.delay()
            yield from self.messages()
        if self.notice.tried and any(one.status == "delivered" for one in self.posted):
            return  # it arrived: the next channel will be spared
        name = "waits_next" if self.notice.tried else _WAITS.get(held, "waits")
        yield Part(fill(self.words.sentences[name], _Values(self)), is_why=False)

    def delay(self) -> Iterator[Part]:
        """Why it had to wait before anything went out."""
        held = self.held()
        if held == Reason.CAPPED:
            yield Part(fill(self.words.sentences["limited"], _Values(self)))
        elif held:
            yield Part(self.reason(held))
        elif self.rule is not None and self.rule.wait and self.has_gathered(self.rule.wait):
            yield Part(self.words.say("gathered", span=self.words.span(self.rule.wait)))

    def has_gathered(self, wait: timedelta) -> bool:
        if self.posted:
            return wait <= self.posted[0].message.told_at - self.notice.created_at < wait + LATE
        return self.settled is not None and self.settled.reason == Reason.WITHDRAWN

    def held(self) -> str:
        """The wish or rule that held it."""
        return self.notice.held if self.notice.held in _HOLDS else ""

    def hours(self) -> tuple[str, str]:
        """The hours that held it, and the zone that they are meant in."""
        playbook, contact = self.playbook, self.contact
        zone = zone_of(contact.timezone, playbook.timezone if playbook is not None else self.teller.zone.key)
        if playbook is not None and self.notice.held == Reason.MARKETING_HOURS:
            return playbook.spec.marketing.hours, zone.key
        return contact.quiet or f"…-{self.notice.due_at.astimezone(zone):%H:%M}", zone.key

    def into(self) -> Notice | None:
        """The notice that said it, or took it back."""
        return self.teller.notices.get(self.settled.into) if self.settled is not None else None

    def settled_at(self) -> datetime:
        """When its fate was decided; of one that waits, when it will be looked at again."""
        return self.settled.at if self.settled is not None else self.notice.due_at

    def is_late(self) -> bool:
        """Whether it was worth nothing any more but could not be left out."""
        first = self.posted[0].message if self.posted else None
        return first is not None and first.channel == "inbox" and first.told_at > self.notice.valid_until

    def messages(self) -> Iterator[Part]:
        """What went out, try by try, and why there was another one."""
        before: Posted | None = None
        for told_at, group in groupby(self.posted, key=lambda one: one.message.told_at):
            together = list(group)
            if before is not None:
                yield Part(self.next_channel(before, together[0], told_at))
            elif len(together) > 1:
                yield Part(self.words.say("beside"))
            for one in together:
                yield Part(self.status(one, last=told_at == self.posted[-1].message.told_at), is_why=False)
            before = together[0]

    def next_channel(self, before: Posted, after: Posted, told_at: datetime) -> str:
        values = {
            "channel": self.words.channels[before.message.channel],
            "next_channel": self.words.channels[after.message.channel],
            "waited": self.words.span(told_at - before.message.told_at),
        }
        if before.status in _GONE_WRONG:
            return fill(self.words.sentences["went_on"], values)
        return fill(self.words.reasons[Reason.FELL_BACK], values)

    def status(self, one: Posted, *, last: bool) -> str:
        """What came of a message; one after which another was tried says no more than needed."""
        words, sent_at = self.words, one.sending_at or one.message.told_at
        settled_at = one.settled_at or sent_at
        status = "superseded" if one.status == "accepted" and not last else one.status
        template = words.in_the_inbox if one.message.channel == "inbox" else words.statuses[status]
        outcome = words.outcomes.get(one.outcome, "")
        said = fill(template, {
            "channel": words.channels[one.message.channel],
            "sent_at": self.teller.time(sent_at, self.notice.created_at),
            "settled_at": self.teller.time(settled_at, sent_at, exact=True),
            "outcome": fill(words.outcome_note, {"outcome": outcome}) if outcome else "",
        })  # fmt: skip
        # Where nothing came of a message that waits, its number only keeps places free: no try was made.
        waits = one.status == "queued"
        if one.attempt_no <= 1 or (waits and not one.outcome):
            return said
        return words.joined(said, fill(words.attempts_so_far if waits else words.attempts, {"count": one.attempt_no}))

    def cap(self) -> Cap | None:
        """The cap that was full; one that the playbook no longer has goes for all."""
        caps = self.playbook.caps if self.playbook is not None else ()
        return next((cap for cap in caps if cap.name == self.notice.cap), None)


class _Values(Mapping[str, str]):
    """What the sentences about a notice may name; each is looked up when a sentence wants it."""

    def __init__(self, story: _Story) -> None:
        self.story, self.words = story, story.words

    def __getitem__(self, name: str) -> str:
        """The value of that name."""
        found = getattr(self, f"its_{name}")()
        assert isinstance(found, str)  # noqa: S101 - every method below returns one
        return found

    def __iter__(self) -> Iterator[str]:
        """All names."""
        return iter(VALUES)

    def __len__(self) -> int:
        """How many there are."""
        return len(VALUES)

    def its_hours(self) -> str:
        story = self.story
        hours, zone = story.hours()
        return hours if zone == story.teller.zone.key else self.words.say("another_zone", hours=hours, zone=zone)

    def its_until(self) -> str:
        story = self.story
        gone = story.settled is not None and story.settled.reason == Reason.OUT_OF_DATE
        until = story.notice.valid_until if gone else story.notice.due_at
        return story.teller.time(until, story.notice.created_at)

    def its_waited(self) -> str:
        since = self.story.contact.checked_at or self.story.notice.created_at
        return self.words.span(self.story.settled_at() - since)

    def its_channel(self) -> str:
        return self.words.listed(self.words.channels[one.message.channel] for one in self.story.posted[:-1])

    def its_next_channel(self) -> str:
        return self.words.listed(self.words.channels[one.message.channel] for one in self.story.posted[-1:])

    def its_into(self) -> str:
        into = self.story.into()
        if into is None:
            return self.words.say("into_unknown")
        return fill(self.words.quote, {"text": self.story.teller.topic(into.topic)})

    def its_into_at(self) -> str:
        into, teller = self.story.into(), self.story.teller
        posted = teller.posted.get(into.id) if into is not None else None
        told_at = posted[0].message.told_at if posted else self.story.settled_at()
        return teller.time(told_at, self.story.notice.created_at, exact=True)

    def its_by(self) -> str:
        into, teller = self.story.into(), self.story.teller
        if into is None:
            return self.words.say("by_unknown")
        if into.withdraws:
            return self.words.say("by_event", cause=teller.cause(into))
        return self.words.say("by_notice", topic=teller.topic(into.topic))

    def its_by_at(self) -> str:
        into, story = self.story.into(), self.story
        return story.teller.time(into.created_at if into else story.settled_at(), story.notice.created_at)

    def its_after(self) -> str:
        rule, quote = self.story.rule, self.words.quote
        topics = sorted(rule.after) if rule is not None else []
        return self.words.listed(fill(quote, {"text": self.story.teller.topic(topic)}) for topic in topics)

    def its_consent(self) -> str:
        story, words = self.story, self.words
        at, records = story.settled_at(), story.teller.dossier.consents
        known = [record for record in records if record.contact == story.contact.id and record.at <= at]
        last = known[-1] if known else None
        if last is None or last.given:
            return words.consents["none"]
        form = words.consents["replied" if last.source.startswith("reply") and last.words else "declined"]
        return fill(form, {"at": story.teller.time(last.at), "words": shown(last.words)})

    def its_category(self) -> str:
        return self.words.categories.get(self.its_category_code(), self.its_category_code())

    def its_category_code(self) -> str:
        return self.story.rule.category if self.story.rule is not None else ""

    def its_frequency(self) -> str:
        return self.words.frequencies[self.story.contact.frequency]

    def its_level(self) -> str:
        return self.words.frequencies[self.its_level_code()]

    def its_level_code(self) -> str:
        return self.story.rule.level if self.story.rule is not None else "normal"

    def its_missing(self) -> str:
        """Why each channel of the notice did not reach the person."""
        story, words, contact = self.story, self.words, self.story.contact
        channels = story.rule.ways[contact.tier].channels if story.rule is not None else ()
        found = []
        for channel in channels:
            if f"{self.its_category_code()}:{channel}" in contact.mute:
                found.append(fill(words.muted_channel, {"channel": words.channels[channel]}))
            elif not contact.endpoint(channel):
                state = words.endpoint_states[contact.states.get(channel, "")]
                found.append(fill(state, {"address": words.addresses[channel]}))
        return words.listed(found or (words.channels[channel] for channel in channels))

    def its_skipped(self) -> str:
        """The channels at which the person has an address and that were not used all the same."""
        story, words, contact = self.story, self.words, self.story.contact
        wanted = story.rule.ways[contact.tier].channels if story.rule is not None else ()
        used = {one.message.channel for one in story.posted}
        skipped = [name for name in wanted if name != "inbox" and name not in used and contact.endpoint(name)]
        return words.listed(words.channels[channel] for channel in skipped or wanted)

    def its_cap(self) -> str:
        cap = self.story.cap()
        if cap is None:
            return self.words.caps["all"]
        return fill(self.words.caps[cap.per], {"span": self.words.span(cap.within), "count": cap.most})

    def its_cap_name(self) -> str:
        cap = self.story.cap()
        return cap.name if cap is not None else "person"

    def its_playbook(self) -> str:
        return self.story.notice.playbook

    def its_topic_code(self) -> str:
        return self.story.notice.topic


def values_of(teller: Teller, notice: Notice, settled: Settled | None) -> Mapping[str, str]:
    """All that sentences may say of a notice, by name."""
    return _Values(_Story(teller, notice, settled))


VALUES = tuple(name[4:] for name in vars(_Values) if name.startswith("its_"))
"""The names that sentences about a notice may use."""

_HOLDS = frozenset({Reason.QUIET_HOURS, Reason.MARKETING_HOURS, Reason.CAPPED})
_WAITS = {
    Reason.QUIET_HOURS.value: "waits_quiet", Reason.MARKETING_HOURS.value: "waits_marketing",
    Reason.CAPPED.value: "waits_capped",
}  # fmt: skip
# What their messages say already.
_SAID_BY_MESSAGES = frozenset({Reason.SENT, Reason.FELL_BACK, Reason.REVIEW_DUE})


def _sending(one: Posted) -> Sending:
    message = one.message
    text = "\n".join(map(shown, message.text.split("\n")))
    return Sending(
        message.channel, one.status, message.told_at, text, shown(message.subject), one.settled_at,
        message.id.hex(),
    )  # fmt: skip


def by_time(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Lines in the order in which things happened; what an event brought about comes after it."""
    ranks = {"event": 0, "consent": 1, "anomaly": 2, "case": 3, "amends": 4, "notice": 5}
    return tuple(sorted(lines, key=lambda line: (line.at, ranks[line.kind])))
