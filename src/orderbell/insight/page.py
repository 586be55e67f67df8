"""A comparison as one self-contained HTML page: no network, no script, light and dark, on screens and on paper."""

import re
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from orderbell.insight import charts
from orderbell.insight.charts import Pair
from orderbell.insight.comparison import (
    HEARD_MOST,
    KINDS,
    BoundChange,
    Change,
    Comparison,
    Example,
    Line,
    Number,
    TopicChange,
)
from orderbell.insight.page_words import FIGURES, WORDS, Language, name_of
from orderbell.insight.recording import NIGHT, CapRule
from orderbell.insight.summary import SMS_FEN

CARDS = (
    "disturbing", "sms_yuan", "people_reached", "night", "late_told_before", "lead_median_h", "false_alarms",
    "amends_yuan",
)  # fmt: skip
TOPICS_NAMED = 3
MINUS = "−"


class Card(NamedTuple):
    """A figure on the page: both values, and the difference with its sign and in words."""

    title: str
    before: str
    after: str
    difference: str
    meaning: str
    way: str


class Table(NamedTuple):
    """The figures of a chart, for whoever reads rather than looks: heads, and rows of cells."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Chart(NamedTuple):
    """A chart with its words and its table."""

    title: str
    lead: str
    drawing: Markup
    table: Table
    channels: tuple[tuple[str, str], ...] = ()


class Told(NamedTuple):
    """A message of an example: when by the person's clock, about what, where, its words, and what became of it."""

    at: str
    topic: str
    channel: str
    text: str
    mark: str


class Shown(NamedTuple):
    """An example: the order, how it changes, for how many it stands, and its messages on both sides."""

    order_no: str
    kind: str
    like_count: int
    before: list[Told]
    after: list[Told]


class Digest(NamedTuple):
    """A comparison in words, for pages that draw it themselves; series are names with both values."""

    summary: str
    cards: list[Card]
    kinds: list[tuple[str, str, str]]
    topics: list[tuple[str, int, int]]
    channels: list[tuple[str, int, int]]
    hours: list[tuple[str, int, int]]
    examples: list[Shown]


def digest(comparison: Comparison, language: Language) -> Digest:
    """What a comparison says, in a language."""
    view = _View(comparison, language)

    def told(lines: Iterable[Line]) -> list[Told]:
        return [
            Told(view.moment(one.at), view.name(one.topic), view.name(one.channel), one.text, view.mark(one))
            for one in lines
        ]

    return Digest(
        view.summary(), view.cards(change.name for change in comparison.figures), view.kinds(),
        [(view.name(one.topic), one.before, one.after) for one in comparison.topics],
        [(view.name(one.name), int(one.before), int(one.after)) for one in comparison.channels],
        [(one.name, int(one.before), int(one.after)) for one in comparison.hours],
        [
            Shown(one.order_no, view.name(f"kind.{one.kind}"), one.like_count, told(one.before), told(one.after))
            for one in comparison.examples
        ],
    )  # fmt: skip


def language_of(locale: str) -> Language:
    """The language of the page for a playbook's locale."""
    return "zh" if locale.lower().startswith("zh") else "en"


def render_page(comparison: Comparison, language: Language | None = None) -> str:
    """The page; without a language that of the newer playbook."""
    view = _View(comparison, language or language_of(comparison.locale))
    return _template().render(
        w=view.words, c=comparison, view=view, cards=view.cards(CARDS),
        others=view.cards(tuple(change.name for change in comparison.figures if change.name not in CARDS)),
        charts=[chart for chart in view.charts() if chart.table.rows],
    )  # fmt: skip


@lru_cache(maxsize=1)
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html")


class _View:
    """A comparison in the words of a language; what the template calls."""

    def __init__(self, comparison: Comparison, language: Language) -> None:
        self.comparison, self.language, self.words = comparison, language, WORDS[language]
        self.old, self.new = comparison.before.label, comparison.after.label
        if self.old == self.new:
            self.old, self.new = f"{self.old} {self.words['before']}", f"{self.new} {self.words['after']}"

    def name(self, name: str) -> str:
        return name_of(self.language, name)

    def say(self, key: str, **values: str) -> str:
        return self.words[key].format(**values)

    def summary(self) -> str:
        c, people = self.comparison, self.comparison.people
        if c.is_same:
            return self.words["same_all"]
        changed = sum(count for kind, count in c.orders.items() if kind != "same")
        share = f"{1000 * changed // c.order_count / 10:g} %"  # rounded down: 100 % are all
        return self.say(
            "summary", orders=f"{c.order_count:,}", changed=f"{changed:,}", share=share, more=f"{people.more_count:,}",
            fewer=f"{people.fewer_count:,}", same=f"{people.same_count:,}",
        )  # fmt: skip

    def cards(self, names: Iterable[str]) -> list[Card]:
        found = {change.name: change for change in self.comparison.figures}
        return [self.card(found[name]) for name in names if name in found]

    def card(self, change: Change) -> Card:
        title, more, less = FIGURES[self.language][change.name]
        form = _money if change.name.endswith("_yuan") else _count
        if not change.difference:
            return Card(title, form(change.before), form(change.after), "±0", self.words["no_change"], "")
        meaning = (more if change.difference > 0 else less).format(n=form(abs(change.difference)))
        share = (
            f"{signed(100 * change.difference / change.before, 1)} %" if change.before else signed(change.difference)
        )
        way = "up" if change.difference > 0 else "down"
        return Card(title, form(change.before), form(change.after), share, meaning, way)

    def charts(self) -> list[Chart]:
        return [
            self.topics(),
            self.channels(),
            self.tiers(),
            self.hours(),
            self.weekdays(),
            self.costs(),
            self.people(),
        ]

    def topics(self) -> Chart:
        w = self.words
        pairs = [Pair(self.name(c.topic), c.before, c.after, _hint(c.before, c.after)) for c in self.comparison.topics]
        heads = (w["topic"], self.old, self.new, w["difference"], w["orders_more"], w["orders_fewer"], w["shift"])
        rows = tuple(self.topic_row(change) for change in self.comparison.topics)
        return Chart(w["topics"], w["topics_lead"], charts.bars(pairs, w["topics"]), Table(heads, rows))

    def topic_row(self, change: TopicChange) -> tuple[str, ...]:
        w = self.words
        only = f"（{w['only_' + change.only]}）" if change.only and self.language == "zh" else ""
        only = only or (f" ({w['only_' + change.only]})" if change.only else "")
        moved = [
            self.say(key, count=f"{count:,}")
            for key, count in (("shift_later", change.later_count), ("shift_sooner", change.sooner_count))
            if count
        ]
        shift = f"{signed(change.shift_median_h)} h · {', '.join(moved)}" if moved else ""
        return (
            self.name(change.topic) + only, f"{change.before:,}", f"{change.after:,}", signed(change.difference),
            f"{change.more_count:,}", f"{change.fewer_count:,}", shift,
        )  # fmt: skip

    def channels(self) -> Chart:
        w, changes = self.words, self.comparison.channels
        rows = [
            (label, [self.part(change.name, getattr(change, side)) for change in changes])
            for side, label in (("before", self.old), ("after", self.new))
        ]
        keys = tuple((c.name, f"{self.name(c.name)} {_hint(c.before, c.after)}") for c in changes)
        drawing = charts.shares(rows, w["channels"])
        return Chart(w["channels"], w["channels_lead"], drawing, self.table(w["channel"], changes), keys)

    def part(self, channel: str, count: Number) -> Pair:
        return Pair(channel, count, 0, f"{self.name(channel)} {count:,}")

    def hours(self) -> Chart:
        w = self.words
        ticks = [str(hour) if hour % 6 == 0 or hour == 23 else "" for hour in range(24)]  # noqa: PLR2004 - the last
        return self.strip("hours", self.comparison.hours, [f"{hour}:00" for hour in range(24)], ticks, NIGHT, w["hour"])

    def weekdays(self) -> Chart:
        names = [self.name(f"day.{day}") for day in range(7)]
        return self.strip("weekdays", self.comparison.weekdays, names, names, (), self.words["weekday"])

    def strip(
        self,
        key: str,
        changes: tuple[Change, ...],
        names: list[str],
        ticks: list[str],
        shaded: Iterable[int],
        head: str,
    ) -> Chart:
        rows = [
            (
                label,
                [
                    Pair(name, getattr(change, side), 0, f"{name} · {getattr(change, side):,}")
                    for name, change in zip(names, changes, strict=True)
                ],
            )
            for side, label in (("before", self.old), ("after", self.new))
        ]
        named = tuple(
            Change(name, change.before, change.after, change.difference)
            for name, change in zip(names, changes, strict=True)
        )
        any_rang = any(change.before or change.after for change in changes)
        table = self.table(head, named if any_rang else ())
        drawing = charts.strips(rows, ticks, sorted(shaded), self.words[key])
        return Chart(self.words[key], self.words[f"{key}_lead"], drawing, table)

    def costs(self) -> Chart:
        w, points = self.words, self.comparison.costs
        pairs = [Pair(f"{point.on:%Y-%m-%d}", point.before_yuan, point.after_yuan) for point in points]
        most = max((max(pair.before, pair.after) for pair in pairs), default=0)
        drawing = charts.lines(pairs, w["costs"], "¥{:,.0f}" if most >= 8 else "¥{:,.2f}")  # noqa: PLR2004 - ticks of two
        rows = tuple(
            (pair.label, _money(pair.before), _money(pair.after), signed(pair.after - pair.before)) for pair in pairs
        )
        lead = self.say("costs_lead", fen=f"{SMS_FEN:g}")
        return Chart(w["costs"], lead, drawing, Table((w["day"], self.old, self.new, w["difference"]), rows))

    def people(self) -> Chart:
        w, people = self.words, self.comparison.people
        names = [str(count) for count in range(HEARD_MOST)] + [self.say("or_more", count=str(HEARD_MOST))]
        sides = zip(names, people.heard_before, people.heard_after, strict=True)
        changes = tuple(Change(name, before, after, after - before) for name, before, after in sides)
        pairs = [Pair(c.name, c.before, c.after, f"{c.name}: {_hint(c.before, c.after)}") for c in changes]
        return Chart(w["people"], w["people_lead"], charts.columns(pairs, w["people"]), self.table(w["times"], changes))

    def tiers(self) -> Chart:
        w, changes = self.words, self.comparison.tiers
        named = [Pair(self.name(c.name), c.before, c.after, _hint(c.before, c.after)) for c in changes]
        return Chart(w["tiers"], w["tiers_lead"], charts.bars(named, w["tiers"]), self.table(w["tier"], changes))

    def table(self, head: str, changes: Iterable[Change]) -> Table:
        rows = tuple((self.name(c.name), f"{c.before:,}", f"{c.after:,}", signed(c.difference)) for c in changes)
        return Table((head, self.old, self.new, self.words["difference"]), rows)

    def bound(self, bound: BoundChange) -> dict[str, Any]:
        named = [change for change in bound.topics if change.before or change.after][:TOPICS_NAMED]
        return {
            "what": self.name(f"fate.{bound.kind}"),
            "why": self.cap(bound.cap) if bound.cap else self.name(bound.reason),
            "before": f"{bound.before:,}", "after": f"{bound.after:,}", "difference": signed(bound.difference),
            "topics": [(self.name(change.name), _hint(change.before, change.after)) for change in named],
            "orders": bound.orders,
        }  # fmt: skip

    def cap(self, cap: CapRule) -> str:
        def span(found: re.Match[str]) -> str:
            return found[1] + self.name(f"unit.{found[2]}")

        within = re.sub(r"(\d+)([dhms])", span, cap.within)
        return self.say("cap", per=self.name(f"per.{cap.per}"), within=within, most=str(cap.most), name=cap.name)

    def kinds(self) -> list[tuple[str, str, str]]:
        total = self.comparison.order_count or 1
        counts = self.comparison.orders
        return [
            (self.name(f"kind.{kind}"), f"{counts[kind]:,}", f"{100 * counts[kind] / total:.1f}")
            for kind in (*KINDS, "same")
            if kind in counts
        ]

    def facts(self, example: Example) -> list[tuple[str, str]]:
        found = (("opened", example.opened_at), ("promised", example.promised_by), ("delivered", example.delivered_at))
        return [(self.words[key], f"{at:%Y-%m-%d %H:%M}") for key, at in found if at is not None]

    def mark(self, line: Line) -> str:
        if line.mark == "same":
            return ""
        if not line.shift_h:
            return self.name(f"mark.{line.mark}")
        key = "shift_line_later" if line.shift_h > 0 else "shift_line_sooner"
        moved = self.say(key, hours=f"{abs(line.shift_h):,g}")
        return moved if line.mark == "moved" else f"{self.name(f'mark.{line.mark}')} · {moved}"

    @staticmethod
    def moment(at: datetime) -> str:
        return f"{at:%m-%d %H:%M}"


def signed(value: Number, digits: int = 2) -> str:
    """A difference with its sign and thousands separators."""
    rounded = round(value, digits)
    if not rounded:
        return "±0"
    size = f"{abs(rounded):,}" if isinstance(rounded, int) else f"{abs(rounded):,.{digits}f}".rstrip("0").rstrip(".")
    return ("+" if rounded > 0 else MINUS) + size


def _count(value: Number) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}".rstrip("0").rstrip(".")


def _money(value: Number) -> str:
    return f"¥{value:,.2f}"


def _hint(before: Number, after: Number) -> str:
    return f"{_count(before)} → {_count(after)}"
