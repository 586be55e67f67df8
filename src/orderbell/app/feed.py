"""The live feed of the demo: who was told what, where and why, what went wrong and what was put right.

What it shows as told, the provider has accepted: the feed listens at the channel, and looks up in the database what
the accepted attempts were. Times are those of the demo's own clock.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Self
from zoneinfo import ZoneInfo

from msgspec import Struct
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from orderbell.app.clock import Clock
from orderbell.channels.protocol import Answer, Channel, Outcome, Outgoing
from orderbell.core.model import Message, Notice
from orderbell.core.segments import measure
from orderbell.core.turn import Shelf
from orderbell.insight.summary import SMS_FEN, percentile
from orderbell.observe import mask
from orderbell.store.watching import Watch

ZONE = ZoneInfo("Asia/Shanghai")
LOOK_BACK_S = 10
"""An anomaly stands in the database that much later at most than the moment it is dated at, by the real clock."""

STATUS_EVERY_S = 5
"""Between two lines with the figures where no terminal shows them all the time."""

HOURS_SHOWN_MAX = 48
REFRESHES_PER_S = 4
COLOURS = {"red": "red", "yellow": "yellow", "green": "green"}


class Counters(Struct):
    """The figures of the demo as they stand."""

    event_count: int = 0
    refused_count: int = 0
    message_count: int = 0
    sms_part_count: int = 0
    lights: dict[str, int] = {}
    open_anomaly_count: int = 0
    open_case_count: int = 0

    @property
    def order_count(self) -> int:
        """How many orders there are."""
        return sum(self.lights.values())


class Outcomes(Struct, frozen=True):
    """What the demo came to in the end; `anomalies` are opened and closed by kind, `topics` messages by channel."""

    counters: Counters
    seconds: float
    passed: timedelta
    topics: dict[str, dict[str, int]]
    anomalies: dict[str, tuple[int, int]]
    handover_ms: list[float]


class Line(Struct, frozen=True):
    """A line of the feed: when, a mark, and the words; `quote` is what was said."""

    at: datetime
    mark: str
    colour: str
    words: str
    quote: str = ""


class WatchedChannel:
    """A channel that remembers which attempts the provider accepted, and when the answer was there."""

    def __init__(self, channel: Channel, now: Clock) -> None:
        self._channel, self._now = channel, now
        self._accepted: list[tuple[bytes, datetime]] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the channel has
        return getattr(self._channel, name)

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """See `Channel.send`."""
        answers = await self._channel.send(batch)
        at = self._now()
        self._accepted += [(answer.attempt_id, at) for answer in answers if answer.outcome is Outcome.ACCEPTED]
        return answers

    def take_accepted(self) -> list[tuple[bytes, datetime]]:
        """Hand over what was accepted since the last call."""
        accepted, self._accepted = self._accepted, []
        return accepted


@dataclass
class Feed:
    """Reads what is new; `speed` is how much faster the demo's clock runs than the real one."""

    watch: Watch
    shelf: Shelf
    watched: WatchedChannel
    now: Clock
    speed: float
    counters: Counters = field(default_factory=Counters)
    handover_ms: list[float] = field(default_factory=list)
    _seen: set[tuple[object, ...]] = field(default_factory=set)
    _looked_at: datetime | None = None

    async def read(self) -> list[Line]:
        """What happened since the last call, in the order of the demo's clock."""
        looked_at = self.now()
        since = (self._looked_at or looked_at) - timedelta(seconds=LOOK_BACK_S * self.speed)
        lines = [*await self._told(), *await self._anomalies(since), *await self._cases(since)]
        self._looked_at = looked_at
        self.counters.lights = await self.watch.lights()
        self.counters.open_anomaly_count, self.counters.open_case_count = await self.watch.open_counts()
        return sorted(lines, key=lambda line: line.at)

    async def outcomes(self, seconds: float, passed: timedelta) -> Outcomes:
        """Count up at the end."""
        topics, kinds = await self.watch.topics(), await self.watch.anomaly_kinds()
        return Outcomes(self.counters, seconds, passed, topics, kinds, self.handover_ms)

    async def _told(self) -> list[Line]:
        answered = dict(self.watched.take_accepted())
        if not answered:
            return []
        messages = await self.watch.messages(answered)
        notices = await self.watch.notices(messages.values())
        lines = []
        for attempt_id, message in messages.items():
            notice = notices.get(message.notices[0]) if message.notices else None
            self._count(message, notice, answered[attempt_id])
            lines.append(told_line(message, notice.role if notice is not None else ""))
        return lines

    def _count(self, message: Message, notice: Notice | None, answered_at: datetime) -> None:
        self.counters.message_count += 1
        if message.channel == "sms":
            self.counters.sms_part_count += measure(message.text).parts
        # A deadline is dated at the moment it fell due, and quiet hours move a notice: neither is the machine's time.
        if notice is not None and not notice.held and not notice.cause.startswith("deadline "):
            self.handover_ms.append(max(0.0, (answered_at - notice.due_at).total_seconds()) / self.speed * 1000)

    async def _anomalies(self, since: datetime) -> list[Line]:
        lines = []
        for order_no, name, opened_at, closed_at in await self.watch.anomalies(since):
            if self._is_new("anomaly", order_no, name, opened_at):
                rules = (playbook.anomalies.get(name) for playbook in self.shelf.playbooks.values())
                light = next((rule.light for rule in rules if rule is not None), "red")
                lines.append(Line(opened_at, "●", light, f"anomaly {order_no} {name}: opened, {light}"))
            if closed_at is not None and self._is_new("anomaly over", order_no, name, opened_at):
                lines.append(Line(closed_at, "✓", "green", f"anomaly {order_no} {name}: over"))
        return lines

    async def _cases(self, since: datetime) -> list[Line]:
        lines = []
        for order_no, anomaly, kind, owner, opened_at, closed_at in await self.watch.cases(since):
            what = "call back" if kind == "call_back" else "handle"
            if self._is_new("case", order_no, anomaly, kind, opened_at):
                lines.append(Line(opened_at, "▲", "magenta", f"case    {order_no} for {owner} to {what}: {anomaly}"))
            if closed_at is not None and self._is_new("case over", order_no, anomaly, kind, opened_at):
                lines.append(
                    Line(closed_at, "✓", "green", f"case    {order_no} for {owner} to {what}: {anomaly}, closed")
                )
        return lines

    def _is_new(self, *key: object) -> bool:
        if key in self._seen:
            return False
        self._seen.add(key)
        return True


def told_line(message: Message, role: str) -> Line:
    """What the feed says of a message: channel, who, order, why, and the words themselves."""
    why = message.topic if message.tone == "calm" else f"{message.topic} ({message.tone})"
    if message.cause:
        why += f" ← {message.cause}"
    words = f"{message.channel:<6} {role or 'somebody':<9} {_masked(message):<13} {message.order_no} {why}"
    return Line(message.told_at, "✉", "cyan", words, " ".join(message.text.split()))


def _masked(message: Message) -> str:
    if message.channel in {"sms", "email"}:
        return mask(message.to).removeprefix("+86")
    return f"{message.to[:3]}****{message.to[-2:]}"


class Screen:
    """Shows the feed: lines that scroll above a panel with the figures; plain lines where no terminal is."""

    def __init__(self, console: Console, title: str, places: Sequence[str], counters: Counters, now: Clock) -> None:
        self._console, self._title, self._places = console, title, places
        self._counters, self._now = counters, now
        self._status_at = 0.0
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, get_renderable=self._panel, refresh_per_second=REFRESHES_PER_S, transient=True
            )
            self._live.start()
        else:
            for line in (self._title, *self._places):
                self._plain(line)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, lines: Iterable[Line], elapsed_s: float) -> None:
        """Show new lines; `elapsed_s` since the beginning, by the real clock."""
        for line in lines:
            if self._live is not None:
                for text in shown(line, self._console.width):
                    self._console.print(text, no_wrap=True, overflow="ellipsis", crop=True)
            else:
                self._plain(plain(line))
        if self._live is None and elapsed_s - self._status_at >= STATUS_EVERY_S:
            self._status_at = elapsed_s
            self._plain(f"-- {moment(self._now(), long=True)}  {'  '.join(text.plain for text in self._figures())}")

    def say(self, line: str) -> None:
        """Show a line as it is, whole: links must not be cut."""
        self._plain(line)

    def _plain(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _panel(self) -> Panel:
        when = Text(moment(self._now(), long=True), style="bold")
        orders, rest = self._figures()
        places = [Text(place, no_wrap=True, overflow="ellipsis") for place in self._places]
        figures = Group(*places, Text.assemble(when, "  ", orders), rest)
        # The terminal writes ^C behind the last character; a panel that fills the line would be pushed up by it.
        return Panel(figures, title=self._title, title_align="left", width=self._console.width - 3)

    def _figures(self) -> tuple[Text, Text]:
        counters = self._counters
        orders = Text(
            f"{counters.order_count:,} orders  {counters.event_count:,} events  {counters.message_count:,} messages",
            no_wrap=True, overflow="ellipsis",
        )  # fmt: skip
        rest = Text(no_wrap=True, overflow="ellipsis")
        for name, colour in COLOURS.items():
            rest.append("●", colour).append(f" {name} {counters.lights.get(name, 0):,}  ")
        rest.append(f"open: {counters.open_anomaly_count:,} anomalies, {counters.open_case_count:,} cases")
        return orders, rest


def moment(at: datetime, *, long: bool = False) -> str:
    """A moment in the shop's zone: `Mon 14:05`, or with its date."""
    return f"{at.astimezone(ZONE):{'%a %Y-%m-%d %H:%M' if long else '%a %H:%M'}}"


def plain(line: Line) -> str:
    """A line of the feed without colours, whole."""
    return f"{moment(line.at)} {line.mark} {line.words}" + (f"  {line.quote}" if line.quote else "")


def shown(line: Line, width: int) -> list[Text]:
    """A line of the feed for a terminal of so many columns: the words below, or beside where there is room."""
    text = Text.assemble((moment(line.at), "dim"), " ", (line.mark, line.colour), " ", (line.words, line.colour))
    text.truncate(width, overflow="ellipsis")
    if not line.quote:
        return [text]
    indent = " " * 12
    quote = Text.assemble(indent, line.quote)
    quote.truncate(width, overflow="ellipsis")
    return [text, quote]


def show_outcomes(console: Console, outcomes: Outcomes) -> None:
    """The summary at the end."""
    counters = outcomes.counters
    hours = outcomes.passed.total_seconds() / 3600
    passed = f"{hours:.1f} hours" if hours < HOURS_SHOWN_MAX else f"{hours / 24:.1f} days"
    console.rule("Demo summary")

    def say(words: str) -> None:
        console.print(words, highlight=False)

    say(
        f"[bold]{counters.order_count:,}[/] orders, [bold]{counters.event_count:,}[/] events and"
        f" [bold]{counters.message_count:,}[/] messages in {outcomes.seconds:.0f} s, which were {passed} for the shop"
    )
    lights = "  ".join(f"[{colour}]●[/] {name} {counters.lights.get(name, 0):,}" for name, colour in COLOURS.items())
    say(f"Lights: {lights}")
    if outcomes.topics:
        console.print(_topics_table(outcomes.topics))
        if any("inbox" in counts for counts in outcomes.topics.values()):
            say("(inbox: kept for the order page, not sent, and not counted above)")
    if outcomes.anomalies:
        console.print(_anomalies_table(outcomes.anomalies))
    cost_yuan = counters.sms_part_count * SMS_FEN / 100
    say(f"{counters.sms_part_count:,} SMS parts at {SMS_FEN} fen: [bold]¥{cost_yuan:,.2f}[/]")
    if counters.refused_count:
        say(f"[red]{counters.refused_count:,} events were refused[/]")
    if outcomes.handover_ms:
        spans = outcomes.handover_ms
        say(
            f"From event received to provider's answer, the playbook's waits left out: median {median(spans):.0f} ms,"
            f" p99 {percentile(spans, 99):.0f} ms ({len(spans):,} messages)"
        )


def _topics_table(topics: dict[str, dict[str, int]]) -> Table:
    channels = sorted({channel for counts in topics.values() for channel in counts})
    table = Table("Topic", *channels, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for topic, counts in topics.items():
        table.add_row(topic, *(f"{counts[channel]:,}" if channel in counts else "" for channel in channels))
    return table


def _anomalies_table(anomalies: dict[str, tuple[int, int]]) -> Table:
    table = Table("Anomaly", "found", "over", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, (opened, closed) in anomalies.items():
        table.add_row(name, f"{opened:,}", f"{closed:,}")
    return table
