"""Two playbooks on the same past orders: who would be told more or less, when, where, and at what cost.

Each side is run by itself and written down (`recording.py`); what differs is worked out here, from totals down to
single orders. All times of day and dates are those of the person's clock; differences are after minus before.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from statistics import median
from typing import Literal

from msgspec import Struct

from orderbell.core.calendar import zone_of
from orderbell.core.events import ChannelName
from orderbell.core.model import Tone
from orderbell.insight.recording import CapRule, Contender, PastOrders, Recording, Telling, record
from orderbell.insight.summary import SMS_FEN, Lateness

EXAMPLES_MAX = 12
LINES_MAX = 24  # of one order and side; more is no example but a flood
HEARD_MOST = 10  # the last bar of the distribution: so many messages or more
COST_POINTS_MAX = 100

Number = int | float
Kind = Literal["silenced", "started", "fewer", "more", "other", "channel", "later", "sooner", "words"]
Mark = Literal["same", "gone", "new", "rerouted", "moved", "reworded"]
KINDS: tuple[Kind, ...] = (
    "silenced", "started", "fewer", "more", "other", "channel", "later", "sooner", "words",
)  # fmt: skip


class Change(Struct, frozen=True):
    """A figure on both sides."""

    name: str
    before: Number
    after: Number
    difference: Number


class TopicChange(Struct, frozen=True):
    """A topic on both sides.

    `more_count` and `fewer_count` are orders that hear it more or less often; of those that hear it on both sides,
    `later_count` and `sooner_count` hear it first at another time, by `shift_median_h` hours (later: positive).
    """

    topic: str
    before: int
    after: int
    difference: int
    only: Literal["", "before", "after"]
    more_count: int
    fewer_count: int
    later_count: int
    sooner_count: int
    shift_median_h: float


class BoundChange(Struct, frozen=True):
    """Notices that were not simply sent, for one reason, by topic; `orders` are a few of them."""

    kind: str
    reason: str
    cap: CapRule | None
    before: int
    after: int
    difference: int
    topics: tuple[Change, ...]
    orders: tuple[str, ...]


class PeopleChange(Struct, frozen=True):
    """How many people are disturbed more or less often; `started` and `silenced` are those told on one side only.

    `heard` is how many people get no message, one, two, … and `HEARD_MOST` or more.
    """

    more_count: int
    fewer_count: int
    same_count: int
    started_count: int
    silenced_count: int
    heard_before: tuple[int, ...]
    heard_after: tuple[int, ...]


class CostPoint(Struct, frozen=True):
    """What SMS had cost up to and including a day."""

    on: date
    before_yuan: float
    after_yuan: float


class Line(Struct, frozen=True):
    """A message of an example; `shift_h` is how much later it comes than on the side before."""

    at: datetime
    role: str
    topic: str
    channel: ChannelName
    tone: Tone
    text: str
    cause: str
    mark: Mark
    shift_h: float = 0.0


class Example(Struct, frozen=True):
    """An order whose messages change, for `like_count` orders that change in the same way (itself included)."""

    order_no: str
    kind: Kind
    like_count: int
    title: str
    amount_fen: int
    opened_at: datetime
    promised_by: datetime | None
    delivered_at: datetime | None
    before: tuple[Line, ...]
    after: tuple[Line, ...]


class SideNote(Struct, frozen=True):
    """Which playbook a side ran, and how long it took."""

    label: str
    name: str
    version: str
    seconds: float
    lateness: Lateness | None


class Comparison(Struct, frozen=True):
    """What would change; `orders` counts the orders by kind of change, `same` among them."""

    order_count: int
    event_count: int
    locale: str
    before: SideNote
    after: SideNote
    figures: tuple[Change, ...]
    topics: tuple[TopicChange, ...]
    channels: tuple[Change, ...]
    tiers: tuple[Change, ...]
    hours: tuple[Change, ...]
    weekdays: tuple[Change, ...]
    people: PeopleChange
    bounds: tuple[BoundChange, ...]
    costs: tuple[CostPoint, ...]
    orders: dict[str, int]
    examples: tuple[Example, ...]

    @property
    def is_same(self) -> bool:
        """Whether nobody would notice."""
        return set(self.orders) <= {"same"}


def compare(
    history: PastOrders,
    before: Contender,
    after: Contender,
    *,
    tenant: str,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Run past orders under both playbooks, one after the other, and say what differs.

    `progress` hears how many more events were taken, of twice those of the history.
    """
    old = record(before, history, tenant=tenant, progress=progress)
    old.orders, old.contacts = {}, {}  # those of one side are enough, and take the most room
    new = record(after, history, tenant=tenant, progress=progress)
    changes = _Changes(old, new, history.order_count)
    return Comparison(
        order_count=history.order_count, event_count=history.event_count, locale=after.playbook.locale,
        before=_note(old), after=_note(new), figures=_figures(old, new, history.order_count), topics=changes.topics(),
        channels=_changes(old.channels, new.channels), tiers=_changes(old.tiers, new.tiers),
        hours=_table(old.hours, new.hours, 24), weekdays=_table(old.weekdays, new.weekdays, 7),
        people=_people(old.people, new.people), bounds=_bounds(old, new), costs=_costs(old, new),
        orders=changes.by_kind(), examples=changes.examples(history),
    )  # fmt: skip


def _note(side: Recording) -> SideNote:
    playbook = side.contender.playbook
    return SideNote(side.contender.label, playbook.name, playbook.version, side.seconds, side.lateness)


def _change(name: str, before: Number, after: Number) -> Change:
    return Change(name, before, after, round(after - before, 2))


def _figures(old: Recording, new: Recording, order_count: int) -> tuple[Change, ...]:
    sides = [_totals(side, order_count) for side in (old, new)]
    return tuple(_change(name, value, sides[1][name]) for name, value in sides[0].items())


def _totals(side: Recording, order_count: int) -> dict[str, Number]:
    reached = sum(1 for count in side.people.values() if count)
    totals: dict[str, Number] = {
        "messages": side.message_count,
        "disturbing": side.disturbing_count,
        "sms_segments": side.tally.segment_count,
        "sms_yuan": _yuan(side.tally.segment_count),
        "people_reached": reached,
        "orders_told": len(side.tellings),
        "messages_per_order": round(side.message_count / order_count, 2) if order_count else 0.0,
        "disturbing_per_person": round(side.disturbing_count / reached, 2) if reached else 0.0,
        "night": side.night_count,
        "amends": side.amends_count,
        "amends_yuan": round(side.amends_fen / 100, 2),
        "cases": side.case_count,
    }
    lateness = side.lateness
    if lateness is not None:
        totals |= {
            "late_told_before": lateness.told_before_count,
            "late_told_after": lateness.told_after_count,
            "late_never_told": lateness.never_told_count,
            "lead_median_h": lateness.lead_median_h,
            "false_alarms": lateness.false_alarm_count,
        }
    return totals


def _yuan(segments: int) -> float:
    return round(segments * SMS_FEN / 100, 2)


def _changes(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[Change, ...]:
    """Every name of either side, the most frequent first."""
    names = sorted(before.keys() | after.keys(), key=lambda name: (-max(before.get(name, 0), after.get(name, 0)), name))
    return tuple(_change(name, before.get(name, 0), after.get(name, 0)) for name in names)


def _table(before: Mapping[int, int], after: Mapping[int, int], size: int) -> tuple[Change, ...]:
    return tuple(_change(str(index), before.get(index, 0), after.get(index, 0)) for index in range(size))


def _people(before: Mapping[str, int], after: Mapping[str, int]) -> PeopleChange:
    pairs = [(before.get(name, 0), after.get(name, 0)) for name in before.keys() | after.keys()]
    heard: list[list[int]] = [[0] * (HEARD_MOST + 1), [0] * (HEARD_MOST + 1)]
    for pair in pairs:
        for side, count in zip(heard, pair, strict=True):
            side[min(count, HEARD_MOST)] += 1
    return PeopleChange(
        more_count=sum(1 for old, new in pairs if new > old), fewer_count=sum(1 for old, new in pairs if new < old),
        same_count=sum(1 for old, new in pairs if new == old),
        started_count=sum(1 for old, new in pairs if old < 1 <= new),
        silenced_count=sum(1 for old, new in pairs if new < 1 <= old),
        heard_before=tuple(heard[0]), heard_after=tuple(heard[1]),
    )  # fmt: skip


def _bounds(old: Recording, new: Recording) -> tuple[BoundChange, ...]:
    made: list[BoundChange] = []
    for bound in {bound for side in (old, new) for bound, _ in side.bounds}:
        by_topic = [
            {topic: count for (found, topic), count in side.bounds.items() if found == bound} for side in (old, new)
        ]
        before, after = (sum(counts.values()) for counts in by_topic)
        orders = new.samples.get(bound) or old.samples.get(bound, [])
        made.append(
            BoundChange(
                bound.kind, bound.reason, bound.cap, before, after, after - before,
                _changes(by_topic[0], by_topic[1]), tuple(orders),
            )
        )  # fmt: skip
    return tuple(sorted(made, key=_rank))


def _rank(bound: BoundChange) -> tuple[int, int, str]:
    return (-abs(bound.difference), -max(bound.before, bound.after), f"{bound.kind}{bound.reason}{bound.cap}")


def _costs(old: Recording, new: Recording) -> tuple[CostPoint, ...]:
    """The cost so far, at evenly spaced days; the last is the last day on which either side paid."""
    days = sorted(old.segments_on.keys() | new.segments_on.keys())
    if not days:
        return ()
    step = -(-((days[-1] - days[0]).days + 1) // COST_POINTS_MAX)
    points: list[CostPoint] = []
    sums = [0, 0]
    on = days[0]
    while on <= days[-1]:
        until = min(on + timedelta(days=step - 1), days[-1])
        for index, side in enumerate((old, new)):
            sums[index] += sum(side.segments_on[on + timedelta(days=day)] for day in range((until - on).days + 1))
        points.append(CostPoint(until, _yuan(sums[0]), _yuan(sums[1])))
        on += timedelta(days=step)
    return tuple(points)


_Signature = tuple[Kind, tuple[tuple[str, int], ...]]


class _Changes:
    """What changed order by order; orders that change alike are one group."""

    def __init__(self, old: Recording, new: Recording, order_count: int) -> None:
        self.old, self.new = old, new
        told = sorted(old.tellings.keys() | new.tellings.keys())
        self.same_count = order_count - len(told)  # those of whom nobody hears anything
        self.groups: dict[_Signature, tuple[int, float, str]] = {}  # how many, and the one that changes most
        self.topic_more: Counter[str] = Counter()
        self.topic_fewer: Counter[str] = Counter()
        self.shifts_h: dict[str, list[float]] = {}
        for order_no in told:
            self.add(order_no, old.tellings.get(order_no, []), new.tellings.get(order_no, []))

    def add(self, order_no: str, before: list[Telling], after: list[Telling]) -> None:
        """Put an order into its group."""
        if before == after:
            self.same_count += 1
            return
        self.count_topics(before, after)
        signature, weight = _signature(before, after)
        count, most, chosen = self.groups.get(signature, (0, -1.0, ""))
        self.groups[signature] = (count + 1, max(weight, most), order_no if weight > most else chosen)

    def count_topics(self, before: list[Telling], after: list[Telling]) -> None:
        """Which topics this order hears more often, less often, or at another time."""
        counts = Counter(one.topic for one in after)
        counts.subtract(Counter(one.topic for one in before))
        self.topic_more.update(topic for topic, count in counts.items() if count > 0)
        self.topic_fewer.update(topic for topic, count in counts.items() if count < 0)
        firsts = _firsts(before)
        for topic, told_at in _firsts(after).items():
            if topic in firsts and told_at != firsts[topic]:
                self.shifts_h.setdefault(topic, []).append(_hours(told_at - firsts[topic]))

    def topics(self) -> tuple[TopicChange, ...]:
        """Every topic of either side, the most frequent first."""
        made: list[TopicChange] = []
        for change in _changes(self.old.topics, self.new.topics):
            topic, shifts = change.name, self.shifts_h.get(change.name, [])
            before, after = self.old.topics[topic], self.new.topics[topic]
            made.append(
                TopicChange(
                    topic, before, after, after - before, "after" if not before else "" if after else "before",
                    self.topic_more[topic], self.topic_fewer[topic], sum(1 for shift in shifts if shift > 0),
                    sum(1 for shift in shifts if shift < 0), round(median(shifts), 2) if shifts else 0.0,
                )
            )  # fmt: skip
        return tuple(made)

    def by_kind(self) -> dict[str, int]:
        """How many orders change in which way."""
        counts = {kind: sum(found[0] for (of, _), found in self.groups.items() if of == kind) for kind in KINDS}
        found = {kind: count for kind, count in counts.items() if count}
        return found | ({"same": self.same_count} if self.same_count else {})

    def examples(self, history: PastOrders) -> tuple[Example, ...]:
        """One order for each of the most frequent changes, kind by kind in turn."""
        queues: dict[str, list[tuple[int, str]]] = {kind: [] for kind in KINDS}
        for (kind, _), (count, _, order_no) in self.groups.items():
            queues[kind].append((count, order_no))
        for queue in queues.values():
            queue.sort(key=lambda found: (-found[0], found[1]))
        chosen: list[Example] = []
        for rank in range(EXAMPLES_MAX):
            for kind in KINDS:
                if rank < len(queues[kind]) and len(chosen) < EXAMPLES_MAX:
                    chosen.append(self.example(kind, *queues[kind][rank], history.delivered))
        return tuple(sorted(chosen, key=lambda example: KINDS.index(example.kind)))

    def example(self, kind: Kind, like_count: int, order_no: str, delivered: Mapping[str, datetime]) -> Example:
        """An order as people look at it."""
        order = next(order for (_, no), order in self.new.orders.items() if no == order_no)
        before, after = _lines(self.old.tellings.get(order_no, []), self.new.tellings.get(order_no, []))
        roles = {party.contact: party.role for party in order.parties}
        people = [self.new.contacts[order.tenant, name] for name in roles if (order.tenant, name) in self.new.contacts]
        zone = zone_of(people[0].timezone if people else "", self.new.contender.playbook.timezone)

        def local(at: datetime | None) -> datetime | None:
            return at.astimezone(zone) if at is not None else None

        def line(told: Telling, mark: Mark, shift_h: float) -> Line:
            return Line(
                told.told_at.astimezone(zone), roles.get(told.contact, ""), told.topic, told.channel, told.tone,
                told.text, told.cause, mark, shift_h,
            )  # fmt: skip

        return Example(
            order_no, kind, like_count, order.title, order.amount_fen, order.opened_at.astimezone(zone),
            local(order.promised_by), local(delivered.get(order_no)),
            tuple(line(*one) for one in before[:LINES_MAX]), tuple(line(*one) for one in after[:LINES_MAX]),
        )  # fmt: skip


def _hours(span: timedelta) -> float:
    return round(span.total_seconds() / 3600, 2)


def _firsts(tellings: Iterable[Telling]) -> dict[str, datetime]:
    firsts: dict[str, datetime] = {}
    for one in tellings:
        firsts.setdefault(one.topic, one.told_at)
    return firsts


def _signature(before: Sequence[Telling], after: Sequence[Telling]) -> tuple[_Signature, float]:
    """In which way an order changes, the same for all that change alike; and how much."""
    counts = Counter((one.contact, one.topic, one.channel) for one in after)
    counts.subtract(Counter((one.contact, one.topic, one.channel) for one in before))
    by_way: Counter[str] = Counter()
    by_topic: Counter[tuple[str, str]] = Counter()
    for (contact, topic, channel), count in counts.items():
        by_way[f"{topic} {channel}"] += count
        by_topic[contact, topic] += count
    changed = tuple(sorted((way, count) for way, count in by_way.items() if count))
    if any(counts.values()):
        weight = float(sum(map(abs, counts.values())))
        return (_kind_of(before, after, is_moved=not any(by_topic.values())), changed), weight
    shifts: Counter[str] = Counter()
    for old, new in zip(_ordered(before), _ordered(after), strict=True):
        shifts[new.topic] += round((new.told_at - old.told_at).total_seconds())
    moved = tuple((topic, 0) for topic in sorted(shifts) if shifts[topic])
    total = sum(shifts.values())
    if moved:
        return ("later" if total > 0 else "sooner", moved), float(sum(map(abs, shifts.values())))
    reworded = {new.topic for old, new in zip(_ordered(before), _ordered(after), strict=True) if new != old}
    return ("words", tuple((topic, 0) for topic in sorted(reworded))), float(len(reworded))


def _kind_of(before: Sequence[Telling], after: Sequence[Telling], *, is_moved: bool) -> Kind:
    if not before:
        return "started"
    if not after:
        return "silenced"
    if is_moved:
        return "channel"
    if len(before) == len(after):
        return "other"
    return "more" if len(after) > len(before) else "fewer"


def _ordered(tellings: Sequence[Telling]) -> list[Telling]:
    return sorted(tellings, key=lambda one: (one.contact, one.topic, one.channel, one.told_at))


_Marked = tuple[Telling, Mark, float]


def _lines(before: Sequence[Telling], after: Sequence[Telling]) -> tuple[list[_Marked], list[_Marked]]:
    """Both time lines, each message with what became of it.

    Messages match by person, topic and channel, in the order of time; what is left over by person and topic.
    """
    pairs = _matched(before, after, lambda one: (one.contact, one.topic, one.channel), {})
    pairs = _matched(before, after, lambda one: (one.contact, one.topic), pairs)
    old: list[_Marked] = [(one, "gone", 0.0) for one in before]
    new: list[_Marked] = [(one, "new", 0.0) for one in after]
    for index, found in pairs.items():
        mark = _mark(before[found], after[index])
        old[found] = (before[found], mark, 0.0)
        new[index] = (after[index], mark, _hours(after[index].told_at - before[found].told_at))
    return old, new


def _matched(
    before: Sequence[Telling],
    after: Sequence[Telling],
    key: Callable[[Telling], tuple[str, ...]],
    known: dict[int, int],
) -> dict[int, int]:
    """The pairs known so far and those of equal keys among the rest: from the index after to the index before."""
    taken = set(known.values())
    waiting: dict[tuple[str, ...], list[int]] = {}
    for index, one in enumerate(before):
        if index not in taken:
            waiting.setdefault(key(one), []).append(index)
    pairs = dict(known)
    for index, one in enumerate(after):
        if index not in known and waiting.get(key(one)):
            pairs[index] = waiting[key(one)].pop(0)
    return pairs


def _mark(old: Telling, new: Telling) -> Mark:
    if new.channel != old.channel:
        return "rerouted"
    if new.told_at != old.told_at:
        return "moved"
    return "same" if (new.text, new.tone) == (old.text, old.tone) else "reworded"
