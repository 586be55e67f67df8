"""One run over past orders, written down compactly: who was told what, when, where, and what was held back and why."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from time import perf_counter
from typing import Protocol

from msgspec import Struct

from orderbell.core.calendar import zone_of
from orderbell.core.durations import format_duration
from orderbell.core.events import ChannelName, Event
from orderbell.core.model import DISTURBING, Contact, Fate, Message, Notice, Order, Plan, Reason, Tone
from orderbell.core.plan import STORM
from orderbell.core.playbook import Playbook
from orderbell.core.turn import Key, Shelf
from orderbell.insight.backtest import AFTERMATH, BATCH, batches
from orderbell.insight.summary import Lateness, Tally
from orderbell.store.memory import MemoryHost

NIGHT = frozenset({22, 23, 0, 1, 2, 3, 4, 5, 6, 7})  # hours of the person's clock in which most people sleep or wake
SAMPLE_MAX = 3
_HOLDS = {Reason.QUIET_HOURS, Reason.MARKETING_HOURS, Reason.CAPPED}
_SILENT_ENDS = {Reason.SENT, Reason.RECEIPT_CAME, Reason.REVIEW_DUE}


class PastOrders(Protocol):
    """Past orders as a comparison wants them; `events` begins anew at each call. All times are aware UTC."""

    @property
    def order_count(self) -> int:
        """How many orders there are."""
        ...

    @property
    def event_count(self) -> int:
        """How many events there are."""
        ...

    @property
    def events(self) -> Iterable[Event]:
        """Everything that happened, in the order in which it was heard."""
        ...

    @property
    def promises(self) -> Mapping[str, datetime]:
        """The end of the promised day, by order number."""
        ...

    @property
    def delivered(self) -> Mapping[str, datetime]:
        """The time of delivery, by order number."""
        ...

    @property
    def late(self) -> Iterable[str]:
        """The orders that came after the promised day."""
        ...


class Contender(Struct, frozen=True):
    """One side of a comparison: a label for people, and the playbooks; the default one is what is compared."""

    label: str
    shelf: Shelf

    @property
    def playbook(self) -> Playbook:
        """The playbook that is compared."""
        return self.shelf.playbooks[self.shelf.default]


class Telling(Struct, frozen=True, array_like=True, gc=False):
    """What is kept of a message."""

    contact: str
    topic: str
    channel: ChannelName
    told_at: datetime
    tone: Tone
    text: str
    cause: str


class CapRule(Struct, frozen=True, gc=False):
    """A cap as people read it: at most so many, per person, order or topic, in a span such as `1d`."""

    name: str
    most: int
    per: str
    within: str


class Bound(Struct, frozen=True, gc=False):
    """Why a notice was not simply sent: what became of it, the reason, and the cap, where one was full."""

    kind: str
    reason: str
    cap: CapRule | None = None


@dataclass
class Recording:
    """What a run came to; times of day are those of the person's clock."""

    contender: Contender
    tally: Tally
    tellings: dict[str, list[Telling]] = field(default_factory=dict)
    people: dict[str, int] = field(default_factory=dict)
    topics: Counter[str] = field(default_factory=Counter)
    channels: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    hours: Counter[int] = field(default_factory=Counter)
    weekdays: Counter[int] = field(default_factory=Counter)
    segments_on: Counter[date] = field(default_factory=Counter)
    bounds: Counter[tuple[Bound, str]] = field(default_factory=Counter)
    samples: dict[Bound, list[str]] = field(default_factory=dict)
    orders: Mapping[Key, Order] = field(default_factory=dict)
    contacts: Mapping[Key, Contact] = field(default_factory=dict)
    case_count: int = 0
    amends_count: int = 0
    amends_fen: int = 0
    seconds: float = 0.0

    @property
    def message_count(self) -> int:
        """Every message, those in the inbox included."""
        return self.channels.total()

    @property
    def disturbing_count(self) -> int:
        """The messages that ring: all but those in the inbox."""
        return sum(count for channel, count in self.channels.items() if channel in DISTURBING)

    @property
    def night_count(self) -> int:
        """The messages that rang at night."""
        return sum(count for hour, count in self.hours.items() if hour in NIGHT)

    @property
    def lateness(self) -> Lateness | None:
        """How late orders were told."""
        return self.tally.lateness()

    def bind(self, bound: Bound, notice: Notice) -> None:
        """Count a notice that was not simply sent, and keep the first orders as samples."""
        self.bounds[bound, notice.topic] += 1
        sample = self.samples.setdefault(bound, [])
        if len(sample) < SAMPLE_MAX and notice.order_no not in sample:
            sample.append(notice.order_no)

    def tell(self, message: Message, contact: Contact) -> None:
        """Count a message; only what rings counts by person and by time of day."""
        before = self.tally.segment_count
        self.tally.message(message)
        self.tally.waits_s.clear()  # a list of all waits would be the longest thing here
        telling = Telling(
            message.contact, message.topic, message.channel, message.told_at, message.tone, message.text, message.cause
        )
        self.tellings.setdefault(message.order_no, []).append(telling)
        self.topics[message.topic] += 1
        self.channels[message.channel] += 1
        self.tiers[contact.tier] += 1
        local = message.told_at.astimezone(zone_of(contact.timezone, self.contender.playbook.timezone))
        if segments := self.tally.segment_count - before:
            self.segments_on[local.date()] += segments
        if message.channel in DISTURBING:
            self.people[message.contact] = self.people.get(message.contact, 0) + 1
            self.hours[local.hour] += 1
            self.weekdays[local.weekday()] += 1


def record(
    contender: Contender, history: PastOrders, *, tenant: str, progress: Callable[[int], None] | None = None
) -> Recording:
    """Run past orders under one playbook, and let `AFTERMATH` pass after the last event.

    `progress` hears how many more events were taken. Orders and contacts stay in the recording; whoever does not need
    them drops them.
    """
    recording = Recording(contender, Tally(history.promises, history.delivered, history.late))
    host = _Watch(tenant, recording).host
    began = perf_counter()
    last: datetime | None = None
    for batch in batches(history.events, BATCH):
        host.feed(batch)
        last = batch[-1].received_at
        host.advance(last)
        if progress is not None:
            progress(len(batch))
    if last is not None:
        host.advance(last + AFTERMATH)
    recording.seconds = round(perf_counter() - began, 2)
    recording.orders, recording.contacts, recording.case_count = host.orders, host.contacts, len(host.cases)
    recording.amends_count = len(host.amends)
    recording.amends_fen = sum(amends.value_fen for amends in host.amends)
    for _, name in host.contacts:
        recording.people.setdefault(name, 0)
    return recording


class _Watch:
    """Writes plans down as they are made."""

    def __init__(self, tenant: str, recording: Recording) -> None:
        self.recording = recording
        self.shelf = recording.contender.shelf
        self.host = MemoryHost({tenant: self.shelf}, keep_journal=False, watch=self.see)
        self.held: set[tuple[bytes, str]] = set()

    def see(self, plan: Plan, _now: datetime) -> None:
        """Take in what was planned for one person."""
        for message in plan.messages:
            key = (message.tenant, message.contact)
            self.recording.tell(message, self.host.contacts.get(key) or Contact(*key))
        for fate in plan.fates:
            self.settle(fate)

    def settle(self, fate: Fate) -> None:
        """Count how a notice ended, unless it was simply sent, or only took others back."""
        kind: str = fate.kind
        reason, notice = fate.reason.value, fate.notice
        if kind == "done" or (kind == "sent" and fate.reason in _SILENT_ENDS):
            return
        if kind == "held":
            if fate.reason not in _HOLDS or (notice.id, reason) in self.held:
                return  # held again and again for one reason is held once
            self.held.add((notice.id, reason))
        elif fate.reason is Reason.CAPPED:
            kind = "inbox"
        self.recording.bind(Bound(kind, reason, self.cap(notice) if fate.reason is Reason.CAPPED else None), notice)

    def cap(self, notice: Notice) -> CapRule | None:
        """The cap that was full."""
        playbook = self.shelf.find(notice.playbook)
        caps = (*playbook.caps, STORM) if playbook is not None else ()
        found = next((cap for cap in caps if cap.name == notice.cap), None)
        return CapRule(found.name, found.most, found.per, format_duration(found.within)) if found is not None else None
