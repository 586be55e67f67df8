"""Policy as data: the form of a playbook file, and the compiled playbook that `decide` and `plan` work with.

A file says in YAML what the ladder is, which event moves where, which silences matter, what is an anomaly, who
is told what, and in which words. `compile_playbook` turns the decoded tree into closures and look-up tables;
`lint.py` proves that it keeps its promises. Both report problems as `Problem`s: a path in the file, what is wrong,
and the remedy.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct

from orderbell.core.condition import Condition, ConditionInvalid, compile_condition, schema_of
from orderbell.core.durations import parse_duration
from orderbell.core.events import DATA_TYPES, Frequency
from orderbell.core.model import CaseKind, ChannelName, Lane, Light, Order, Owner, Tone
from orderbell.core.wording import VARIABLES, Wording, WordingProblem, WordingSpec, compile_wording

Many = str | tuple[str, ...]
Since = Literal["stage", "opened", "promise", "parcel", "until"]
NO_TIME = timedelta(0)


class StageSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rung of the ladder; `says` is the customer's sentence by locale, `end` a stage that leaves the ladder."""

    light: Light = "yellow"
    says: dict[str, str] = {}
    next_update: str = ""
    end: bool = False


class RuleSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an event does when its condition holds."""

    on: Many
    when: str = ""
    stage: str = ""
    tell: Many = ()
    mark: Many = ()
    unmark: Many = ()


class DeadlineSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Silence that matters: `after` an anchor, while in certain stages and while a condition holds."""

    after: str
    since: str = "stage"
    stages: Many = msgspec.field(default=(), name="in")
    when: str = ""
    tell: Many = ()
    open: Many = ()
    tone: Tone | None = None


class OpensSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An event that opens an anomaly."""

    on: Many
    when: str = ""


class AnomalySpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is wrong with an order: what opens and clears it, who owns it, what it tells whom."""

    owner: Owner
    light: Light = "red"
    opens: tuple[OpensSpec, ...] = ()
    clears: Many = ()
    clears_at: str = ""
    person: bool = True
    call_back: str = ""
    tell: Many = ()
    tone: Tone = "calm"


class NoticeSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A topic: who hears it, how soon, on which channels, and what it makes superfluous."""

    to: Many
    category: str
    lane: Lane = "service"
    channels: tuple[ChannelName, ...] = ("sms", "inbox")
    also: tuple[ChannelName, ...] = ()
    within: str = "5m"
    wait: str = "0s"
    valid_for: str = "24h"
    level: Frequency = "normal"
    covers: Many = ()


class CategorySpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A kind of message that a person can turn off, unless it is mandatory."""

    mandatory: bool = False
    marketing: bool = False


class PlaybookSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A playbook file, after what it extends has been laid under it."""

    name: str
    principal: str
    stages: dict[str, StageSpec]
    rules: tuple[RuleSpec, ...]
    notices: dict[str, NoticeSpec]
    categories: dict[str, CategorySpec]
    deadlines: dict[str, DeadlineSpec | None] = {}
    anomalies: dict[str, AnomalySpec | None] = {}
    timezone: str = "Asia/Shanghai"
    locale: str = "zh-CN"
    brand: dict[str, str] = msgspec.field(default_factory=lambda: {"zh-CN": "叮咚", "en": "OrderBell"})
    extends: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a playbook, where in its tree, and how to mend it."""

    path: tuple[str | int, ...]
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """A compiled rung; `rank` is its height, ends stand above all."""

    name: str
    rank: int
    light: Light
    end: bool
    next_update: timedelta
    says: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule of one event type."""

    when: Condition | None
    stage: str
    tell: tuple[str, ...]
    mark: tuple[str, ...]
    unmark: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deadline:
    """A compiled deadline; `anchor` finds the moment it counts from, None where there is none yet."""

    name: str
    after: timedelta
    anchor: Callable[[Order], datetime | None]
    stages: frozenset[str]
    when: Condition | None
    tell: tuple[str, ...]
    open: tuple[str, ...]
    tone: Tone | None
    is_warning: bool
    tells: bool


@dataclass(frozen=True, slots=True)
class AnomalyRule:
    """A compiled anomaly."""

    name: str
    owner: Owner
    light: Light
    clears_rank: int | None
    case_kind: CaseKind | None
    call_back: Condition | None
    tell: tuple[str, ...]
    tone: Tone


@dataclass(frozen=True, slots=True)
class NoticeRule:
    """A compiled topic; `variables` are those that any of its texts uses."""

    topic: str
    to: frozenset[str]
    category: str
    mandatory: bool
    marketing: bool
    lane: Lane
    channels: tuple[ChannelName, ...]
    also: tuple[ChannelName, ...]
    within: timedelta
    wait: timedelta
    valid_for: timedelta
    level: Frequency
    covers: frozenset[str]
    variables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Playbook:
    """A compiled playbook: immutable, named by its content (`version`)."""

    name: str
    version: str
    principal: str
    timezone: str
    locale: str
    stages: Mapping[str, Stage]
    rules: Mapping[str, tuple[Rule, ...]]
    opens: Mapping[str, tuple[tuple[AnomalyRule, Condition | None], ...]]
    clears: Mapping[str, frozenset[str]]
    anomalies: Mapping[str, AnomalyRule]
    deadlines: Mapping[str, Deadline]
    deadlines_at: Mapping[str, tuple[Deadline, ...]]
    notices: Mapping[str, NoticeRule]
    roles: frozenset[str]
    wording: Mapping[str, Wording]
    spec: PlaybookSpec

    @property
    def first_stage(self) -> Stage:
        """Where an order begins."""
        return next(iter(self.stages.values()))


def compile_playbook(spec: PlaybookSpec, wordings: Mapping[str, WordingSpec]) -> tuple[Playbook | None, list[Problem]]:
    """Compile a decoded playbook; where anything is wrong, None and every problem found."""
    return _Compiler(spec, wordings).run()


def content_version(spec: PlaybookSpec, wordings: Mapping[str, WordingSpec]) -> str:
    """Twelve hexadecimal digits that change whenever the playbook or its words do."""
    body = msgspec.json.encode([spec, dict(wordings)], order="deterministic")
    return hashlib.blake2b(body, digest_size=6).hexdigest()


def many(value: Many) -> tuple[str, ...]:
    """One name or several, as several."""
    return (value,) if isinstance(value, str) else value


class _Compiler:
    """Collects problems while it compiles, so that a person sees all of them at once."""

    def __init__(self, spec: PlaybookSpec, wordings: Mapping[str, WordingSpec]) -> None:
        self.spec, self.wordings = spec, wordings
        self.problems: list[Problem] = []
        self.anomaly_specs = {name: found for name, found in spec.anomalies.items() if found is not None}
        self.marks = {name: True for rule in spec.rules for name in many(rule.mark)}
        self.order_schema = schema_of(Order)

    def run(self) -> tuple[Playbook | None, list[Problem]]:
        """Compile all parts; the playbook is only built when none has a problem."""
        spec = self.spec
        stages = self.stages()
        wording = self.wording()
        notices = {topic: self.notice(topic, found, wording) for topic, found in spec.notices.items()}
        anomalies = {name: self.anomaly(name, found, stages) for name, found in self.anomaly_specs.items()}
        deadlines = {name: self.deadline(name, found) for name, found in spec.deadlines.items() if found is not None}
        rules = self.rules()
        opens = self.opens(anomalies)
        clears = self.clears()
        if self.problems:
            return None, self.problems
        playbook = Playbook(
            name=spec.name, version=content_version(spec, self.wordings), principal=spec.principal,
            timezone=spec.timezone, locale=spec.locale, stages=stages, rules=rules, opens=opens, clears=clears,
            anomalies=anomalies, deadlines=deadlines,
            deadlines_at={name: tuple(d for d in deadlines.values() if name in d.stages) for name in stages},
            notices=notices, roles=frozenset(role for rule in notices.values() for role in rule.to),
            wording=wording, spec=spec,
        )  # fmt: skip
        return playbook, []

    def problem(self, path: tuple[str | int, ...], message: str, remedy: str = "") -> None:
        self.problems.append(Problem(path, message, remedy))

    def duration(self, text: str, *path: str | int, signed: bool = False) -> timedelta:
        try:
            span = parse_duration(text)
        except ValueError as wrong:
            self.problem(path, str(wrong), "write a number and a unit: 30s, 5m, 2h, 3d, or several: 1d12h")
            return NO_TIME
        if span < NO_TIME and not signed:
            self.problem(path, f"{text!r} lies in the past", "only the `after` of a deadline may be negative")
        return span

    def condition(self, source: str, event_types: tuple[str, ...], *path: str | int) -> Condition | None:
        if not source:
            return None
        event_schema: dict[str, Any] = {}
        kinds = [DATA_TYPES[name] for name in event_types if name in DATA_TYPES]
        if kinds:
            schemas = [schema_of(kind) for kind in kinds]
            event_schema = {n: t for n, t in schemas[0].items() if all(other.get(n) == t for other in schemas)}
        try:
            return compile_condition(source, {"order": self.order_schema, "event": event_schema})
        except ConditionInvalid as wrong:
            self.problem(path, f"{wrong.message} (column {wrong.column})", wrong.remedy)
            return None

    def known(self, names: Many, allowed: Mapping[str, Any], what: str, *path: str | int) -> tuple[str, ...]:
        for name in many(names):
            if name not in allowed:
                self.problem(path, f"there is no {what} {name!r}", f"use one of: {', '.join(allowed)}")
        return many(names)

    def stages(self) -> dict[str, Stage]:
        made: dict[str, Stage] = {}
        ends = len(self.spec.stages)
        for rank, (name, found) in enumerate(self.spec.stages.items()):
            update = self.duration(found.next_update or "0s", "stages", name, "next_update")
            made[name] = Stage(name, ends if found.end else rank, found.light, found.end, update, found.says)
        if not made:
            self.problem(("stages",), "the ladder has no stage", "name at least one stage")
        return made

    def wording(self) -> dict[str, Wording]:
        made: dict[str, Wording] = {}
        for locale, spec in self.wordings.items():
            brand = self.spec.brand.get(locale, "")
            if not brand:
                self.problem(("brand",), f"no brand for the locale {locale}", f"add brand: {{{locale}: …}}")
            try:
                made[locale] = compile_wording(spec, brand, (self.spec.extends, self.spec.name))
            except WordingProblem as wrong:
                self.problem(("wording", locale, *wrong.path), wrong.message, wrong.remedy)
        if self.spec.locale not in self.wordings:
            self.problem(("locale",), f"no wording for the locale {self.spec.locale}", "add its wording file")
        return made

    def notice(self, topic: str, found: NoticeSpec, wording: Mapping[str, Wording]) -> NoticeRule:
        path = ("notices", topic)
        self.known(found.category, self.spec.categories, "category", *path, "category")
        self.known(found.covers, self.spec.notices, "notice", *path, "covers")
        category = self.spec.categories.get(found.category, CategorySpec())
        used = {name for words in wording.values() for name in words.variables(topic)}
        return NoticeRule(
            topic=topic, to=frozenset(many(found.to)), category=found.category, mandatory=category.mandatory,
            marketing=category.marketing, lane=found.lane, channels=found.channels, also=found.also,
            within=self.duration(found.within, *path, "within"), wait=self.duration(found.wait, *path, "wait"),
            valid_for=self.duration(found.valid_for, *path, "valid_for"), level=found.level,
            covers=frozenset(many(found.covers)), variables=tuple(sorted(used & VARIABLES.keys())),
        )  # fmt: skip

    def anomaly(self, name: str, found: AnomalySpec, stages: Mapping[str, Stage]) -> AnomalyRule:
        path = ("anomalies", name)
        if found.clears_at:
            self.known(found.clears_at, stages, "stage", *path, "clears_at")
        rank = stages[found.clears_at].rank if found.clears_at in stages else None
        return AnomalyRule(
            name, found.owner, found.light, rank, "handle" if found.person else None,
            self.condition(found.call_back, (), *path, "call_back"),
            self.known(found.tell, self.spec.notices, "notice", *path, "tell"), found.tone,
        )  # fmt: skip

    def deadline(self, name: str, found: DeadlineSpec) -> Deadline:
        path = ("deadlines", name)
        open_stages = {stage: s for stage, s in self.spec.stages.items() if not s.end and s.light != "green"}
        stages = self.known(found.stages, self.spec.stages, "stage", *path, "in") or tuple(open_stages)
        anchor = anchor_of(found.since)
        if anchor is None:
            remedy = f"use one of: {', '.join(get_args(Since))}, mark:NAME, anomaly:NAME"
            self.problem((*path, "since"), f"there is no moment {found.since!r}", remedy)
        kind, _, origin = found.since.partition(":")
        if kind == "anomaly":
            self.known(origin, self.anomaly_specs, "anomaly", *path, "since")
        elif kind == "mark":
            self.known(origin, self.marks, "mark", *path, "since")
        after = self.duration(found.after, *path, "after", signed=True)
        return Deadline(
            name, after, anchor or (lambda _order: None), frozenset(stages),
            self.condition(found.when, (), *path, "when"),
            self.known(found.tell, self.spec.notices, "notice", *path, "tell"),
            self.known(found.open, self.anomaly_specs, "anomaly", *path, "open"), found.tone, after < NO_TIME,
            bool(found.tell or any(self.anomaly_specs[a].tell for a in many(found.open) if a in self.anomaly_specs)),
        )  # fmt: skip

    def rules(self) -> dict[str, tuple[Rule, ...]]:
        made: dict[str, list[Rule]] = {}
        for index, found in enumerate(self.spec.rules):
            path = ("rules", index)
            types = self.known(found.on, DATA_TYPES, "event type", *path, "on")
            rule = Rule(
                self.condition(found.when, types, *path, "when"),
                (self.known(found.stage, self.spec.stages, "stage", *path, "stage")[0] if found.stage else ""),
                self.known(found.tell, self.spec.notices, "notice", *path, "tell"),
                many(found.mark), many(found.unmark),
            )  # fmt: skip
            for name in types:
                made.setdefault(name, []).append(rule)
        return {name: tuple(rules) for name, rules in made.items()}

    def opens(
        self, anomalies: Mapping[str, AnomalyRule]
    ) -> dict[str, tuple[tuple[AnomalyRule, Condition | None], ...]]:
        made: dict[str, list[tuple[AnomalyRule, Condition | None]]] = {}
        for name, found in self.anomaly_specs.items():
            for index, opening in enumerate(found.opens):
                path = ("anomalies", name, "opens", index)
                types = self.known(opening.on, DATA_TYPES, "event type", *path, "on")
                condition = self.condition(opening.when, types, *path, "when")
                for event_type in types:
                    made.setdefault(event_type, []).append((anomalies[name], condition))
        return {event_type: tuple(rules) for event_type, rules in made.items()}

    def clears(self) -> dict[str, frozenset[str]]:
        made: dict[str, set[str]] = {}
        for name, found in self.anomaly_specs.items():
            for event_type in self.known(found.clears, DATA_TYPES, "event type", "anomalies", name, "clears"):
                made.setdefault(event_type, set()).add(name)
        return {event_type: frozenset(names) for event_type, names in made.items()}


def anchor_of(since: str) -> Callable[[Order], datetime | None] | None:
    """The moment a deadline counts from, as a function of the order; None for a name that means nothing."""
    kind, _, name = since.partition(":")
    if kind == "mark" and name:
        return lambda order: order.marks.get(name)
    if kind == "anomaly" and name:
        return lambda order: found.opened_at if (found := order.anomaly(name)) else None
    return _ANCHORS.get(since)


def oldest_open_parcel(order: Order) -> datetime | None:
    """When the parcel that has been silent longest was last heard of; None where none is under way."""
    moments = [parcel.at for parcel in order.parcels if parcel.phase not in PARCEL_ENDS]
    return min(moments) if moments else None


PARCEL_ENDS = frozenset({"delivered", "returned", "cancelled"})
_ANCHORS: dict[str, Callable[[Order], datetime | None]] = {
    "stage": lambda order: order.stage_at,
    "opened": lambda order: order.opened_at,
    "promise": lambda order: order.promised_by,
    "until": lambda order: order.until,
    "parcel": oldest_open_parcel,
}
