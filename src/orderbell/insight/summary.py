"""What a run over past orders came to: one set of figures for replays and backtests."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from statistics import median

from msgspec import Struct

from orderbell.core.decide import light
from orderbell.core.model import Message, Order
from orderbell.core.segments import measure
from orderbell.core.turn import Key, Shelf

SMS_FEN = 4.5  # a segment, domestic (S3-24: 3 to 6)
DELAY_TOPICS = frozenset(
    {"delay_likely", "parcel_late", "parcel_stalled", "parcel_lost", "stage_overdue", "order_cancelled"}
)
WARNING_TOPIC = "delay_likely"


class Lateness(Struct, frozen=True):
    """How late orders were told; days are spans between the message and the end of the promised day.

    `false_alarm_count`: orders that came in time although a delay was announced as likely.
    """

    late_count: int
    told_before_count: int
    told_after_count: int
    never_told_count: int
    lead_median_h: float
    told_after_median_h: float
    told_after_p99_h: float
    false_alarm_count: int


class Summary(Struct, frozen=True, omit_defaults=True):
    """The figures of a run; `wait_*_s` are spans from event (or deadline) to message, in the orders' own time."""

    order_count: int
    event_count: int
    step_count: int
    seconds: float
    events_per_s: float
    stages: dict[str, int]
    lights: dict[str, int]
    anomalies: dict[str, int]
    topics: dict[str, dict[str, int]]
    fates: dict[str, int]
    message_count: int
    sms_segment_count: int
    sms_cost_yuan: float
    wait_median_s: float
    wait_p99_s: float
    lateness: Lateness | None = None
    case_count: int = 0
    handover_median_ms: float | None = None
    handover_p99_ms: float | None = None
    messages_by_status: dict[str, int] | None = None


class Tally:
    """Counts while a run goes on, so that nothing has to be kept that is only counted."""

    def __init__(
        self, promises: Mapping[str, datetime], delivered: Mapping[str, datetime], late: Iterable[str]
    ) -> None:
        self.promises, self.delivered, self.late = promises, delivered, frozenset(late)
        self.topics: dict[str, Counter[str]] = {}
        self.waits_s: list[float] = []
        self.segment_count = 0
        self.first_told: dict[str, datetime] = {}
        self.warned: set[str] = set()
        self.fates: Counter[str] = Counter()

    def message(self, message: Message) -> None:
        """Count one message."""
        self.topics.setdefault(message.topic, Counter())[message.channel] += 1
        self.waits_s.append((message.told_at - message.created_at).total_seconds())
        if message.channel == "sms":
            self.segment_count += measure(message.text).parts
        if message.topic in DELAY_TOPICS:
            self.first_told.setdefault(message.order_no, message.told_at)
            if message.topic == WARNING_TOPIC:
                self.warned.add(message.order_no)

    def lateness(self) -> Lateness | None:
        """How the late orders fared; None where the history promises nothing."""
        if not self.promises:
            return None
        leads: list[float] = []
        delays: list[float] = []
        for order_no in self.late:
            told_at = self.first_told.get(order_no)
            if told_at is None:
                continue
            lead_h = (self.promises[order_no] - told_at).total_seconds() / 3600
            (leads if lead_h > 0 else delays).append(abs(lead_h))
        false = sum(1 for order_no in self.warned if order_no not in self.late and order_no in self.delivered)
        return Lateness(
            len(self.late), len(leads), len(delays), len(self.late) - len(leads) - len(delays),
            round(median(leads), 2) if leads else 0.0, round(median(delays), 2) if delays else 0.0,
            round(percentile(delays, 99), 2), false,
        )  # fmt: skip

    def summary(
        self, orders: Mapping[Key, Order], shelf: Shelf, *, event_count: int, step_count: int, seconds: float,
        anomalies: Mapping[str, int], case_count: int,
    ) -> Summary:  # fmt: skip
        """The figures at the end."""
        shown = Counter(light(shelf.playbooks[order.playbook], order) for order in orders.values())
        stages = Counter(order.stage for order in orders.values())
        return Summary(
            order_count=len(orders), event_count=event_count, step_count=step_count, seconds=round(seconds, 2),
            events_per_s=round(event_count / seconds, 1) if seconds else 0.0,
            stages=dict(stages.most_common()), lights=dict(shown.most_common()),
            anomalies=dict(sorted(anomalies.items())),
            topics={topic: dict(counts) for topic, counts in sorted(self.topics.items())}, fates=dict(self.fates),
            message_count=len(self.waits_s), sms_segment_count=self.segment_count,
            sms_cost_yuan=round(self.segment_count * SMS_FEN / 100, 2),
            wait_median_s=round(median(self.waits_s), 3) if self.waits_s else 0.0,
            wait_p99_s=round(percentile(self.waits_s, 99), 3), lateness=self.lateness(), case_count=case_count,
        )  # fmt: skip


def percentile(values: list[float], share: float) -> float:
    """The value that `share` percent of the values do not exceed (nearest rank); 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))]
