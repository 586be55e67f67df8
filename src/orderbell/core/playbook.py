"""Policy as data: the form of a playbook file, and the compiled playbook that `decide` and `plan` work with.

A file says in YAML what the ladder is, which event moves where, which silences matter, what is an anomaly, who
is told what, and in which words. `compile_playbook` turns the decoded tree into closures and look-up tables;
`lint.py` proves that it keeps its promises. Both report problems as `Problem`s: a path in the file, what is wrong,
and the remedy.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct

from orderbell.core.condition import Condition, ConditionInvalid, compile_condition, schema_of
from orderbell.core.durations import parse_duration
from orderbell.core.events import DATA_TYPES, ChannelName, Frequency, Tier
from orderbell.core.model import CaseKind, Contact, Lane, Light, Order, Owner, Tone
from orderbell.core.wording import VARIABLES, Wording, WordingProblem, WordingSpec, compile_wording

Many = str | tuple[str, ...]
Since = Literal["stage", "opened", "promise", "parcel", "until"]
CapKey = Literal["person", "order", "topic"]
CapWay = Literal["inbox", "delay"]
TIERS: tuple[Tier, ...] = get_args(Tier)
NO_TIME = timedelta(0)


class StageSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rung of the ladder; `says` is the customer's sentence by locale, `end` a stage that leaves the ladder.

    An `optional` one is passed by some orders only: nobody is told that it comes before it does.
    """

    light: Light = "yellow"
    says: dict[str, str] = {}
    next_update: str = ""
    end: bool = False
    optional: bool = False


class RuleSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an event does when its condition holds, and one of the anomalies in `during` is open, where it names any.

    `answer` is told only to whoever sent a reply; `withdraw` takes back what waits to be told.
    """

    on: Many
    when: str = ""
    stage: str = ""
    tell: Many = ()
    mark: Many = ()
    unmark: Many = ()
    answer: Many = ()
    withdraw: Many = ()
    during: Many = ()


class DeadlineSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Silence that matters: `after` an anchor, in certain stages, while a condition holds.

    It does not count while one of the anomalies in `unless` is open.
    """

    after: str
    since: str = "stage"
    stages: Many = msgspec.field(default=(), name="in")
    when: str = ""
    tell: Many = ()
    open: Many = ()
    tone: Tone | None = None
    unless: Many = ()


class OpensSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An event that opens an anomaly."""

    on: Many
    when: str = ""


class AnomalySpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is wrong with an order: what opens and clears it, who owns it, what it tells whom.

    `says` is the customer's sentence by locale while it is open; without one that of the stage holds.
    """

    owner: Owner
    light: Light = "red"
    opens: tuple[OpensSpec, ...] = ()
    clears: str | tuple[str | OpensSpec, ...] = ()
    clears_at: str = ""
    person: bool = True
    call_back: str = ""
    tell: Many = ()
    tone: Tone = "calm"
    says: dict[str, str] = {}


class WaySpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is other for people of a tier (S0-20..22); what is not given stays."""

    channels: tuple[ChannelName, ...] | None = None
    also: tuple[ChannelName, ...] | None = None
    tone: Tone | None = None


class NoticeSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A topic: who hears it, how soon, on which channels, and what it makes superfluous.

    `channels` stand in the order of preference: the next is tried when no receipt came in time, unless `fallback` is
    off; `also` go out together with the first. Who never heard one of the topics in `after` is spared this one.
    """

    to: Many
    category: str
    lane: Lane = "service"
    channels: tuple[ChannelName, ...] = ("sms", "wechat", "push", "email", "inbox")
    also: tuple[ChannelName, ...] = ()
    within: str = "5m"
    wait: str = "0s"
    valid_for: str = "24h"
    level: Frequency = "normal"
    covers: Many = ()
    after: Many = ()
    fallback: bool = True
    tiers: dict[Tier, WaySpec] = {}


class AskSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A question that a reply can answer while a mark or an anomaly is there: the option that each answer means."""

    during: str = msgspec.field(name="while")
    stages: Many = msgspec.field(default=(), name="in")
    yes: str = ""
    no: str = ""
    choices: tuple[str, ...] = ()
    extend_days_max: int = 0


class CapSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The most tellings that disturb in a span: what goes beyond waits, or lies in the inbox (S1-28).

    Mandatory news are counted, but only held back where the cap says so.
    """

    most: int
    within: str
    per: CapKey = "person"
    lanes: Many = ()
    then: CapWay = "inbox"
    mandatory: bool = False


class MarketingSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """When marketing may go out, by the person's clock."""

    hours: str = "09:00-20:00"
    workdays_only: bool = False


class ReviewSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How often people are asked to look over their contact data, and by which topic (S0-2, S0-5)."""

    every: str
    tell: str


class AmendsSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the shop hands out when a message makes amends (S0-22, S2-19)."""

    kind: str = "coupon"
    value_fen: int = 0
    valid_for: str = "30d"


class CategorySpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A kind of message that a person can turn off, unless it is mandatory.

    `in_doubt`: what happens where nobody can find out whether a provider took a message: `wait` for a receipt, or
    `resend`, so that it may come twice.
    """

    mandatory: bool = False
    marketing: bool = False
    in_doubt: Literal["wait", "resend"] = "wait"


class PlaybookSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A playbook file, after what it extends has been laid under it.

    `sms_link` is where the short links of SMS begin, such as `s.example.com/l/`: an address that the carriers have on
    file and that leads to `/l/` of this installation. Without it no SMS has a link.
    """

    name: str
    principal: str
    stages: dict[str, StageSpec]
    rules: tuple[RuleSpec, ...]
    notices: dict[str, NoticeSpec]
    categories: dict[str, CategorySpec]
    deadlines: dict[str, DeadlineSpec | None] = {}
    anomalies: dict[str, AnomalySpec | None] = {}
    asks: dict[str, AskSpec | None] = {}
    caps: dict[str, CapSpec | None] = {}
    tiers: dict[Tier, str] = {}
    marketing: MarketingSpec = MarketingSpec()
    quiet: str = ""
    review: ReviewSpec | None = None
    amends: AmendsSpec = AmendsSpec()
    region: str = "CN"
    timezone: str = "Asia/Shanghai"
    locale: str = "zh-CN"
    brand: dict[str, str] = msgspec.field(default_factory=lambda: {"zh-CN": "叮咚", "en": "OrderBell"})
    sms_link: str = ""
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
    """A compiled rung; `rank` is its height, ends stand above all; some orders only pass an `optional` one."""

    name: str
    rank: int
    light: Light
    end: bool
    optional: bool
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
    answer: tuple[str, ...]
    withdraw: tuple[str, ...]
    during: frozenset[str]


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
    unless: frozenset[str]
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
    says: bool


@dataclass(frozen=True, slots=True)
class Way:
    """How a topic reaches people of one tier; `tone` is the least that they hear."""

    channels: tuple[ChannelName, ...]
    also: tuple[ChannelName, ...]
    tone: Tone | None


@dataclass(frozen=True, slots=True)
class Ask:
    """A compiled question; `anchor` tells since when it is open, None where it is not."""

    name: str
    anchor: Callable[[Order], datetime | None]
    stages: frozenset[str]
    yes: str
    no: str
    choices: tuple[str, ...]
    extend_days_max: int


@dataclass(frozen=True, slots=True)
class Cap:
    """A compiled cap; no lanes are all lanes."""

    name: str
    per: CapKey
    most: int
    within: timedelta
    lanes: frozenset[str]
    then: CapWay
    mandatory: bool = False


@dataclass(frozen=True, slots=True)
class Review:
    """How often contact data are looked over, and by which topic."""

    topic: str
    every: timedelta


@dataclass(frozen=True, slots=True)
class AmendsRule:
    """What amends are."""

    kind: str
    value_fen: int
    valid_for: timedelta


@dataclass(frozen=True, slots=True)
class NoticeRule:
    """A compiled topic; `variables` are those that any of its texts uses, `amends` whether some offer them."""

    topic: str
    to: frozenset[str]
    category: str
    mandatory: bool
    marketing: bool
    resend: bool
    lane: Lane
    channels: tuple[ChannelName, ...]
    also: tuple[ChannelName, ...]
    within: timedelta
    wait: timedelta
    valid_for: timedelta
    level: Frequency
    covers: frozenset[str]
    after: frozenset[str]
    fallback: bool
    ways: Mapping[Tier, Way]
    amends: bool
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
    clears: Mapping[str, tuple[tuple[str, Condition | None], ...]]
    anomalies: Mapping[str, AnomalyRule]
    deadlines: Mapping[str, Deadline]
    deadlines_at: Mapping[str, tuple[Deadline, ...]]
    notices: Mapping[str, NoticeRule]
    roles: frozenset[str]
    asks: tuple[Ask, ...]
    caps: tuple[Cap, ...]
    tiers: tuple[tuple[Tier, Condition], ...]
    review: Review | None
    amends: AmendsRule
    after: frozenset[str]
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


_NO_WAY = WaySpec()
_CONTACT = {name: declared for name, declared in schema_of(Contact).items() if name in ("order_count", "spent_fen")}
CHOICES_MAX = 3  # more is too much for an SMS, and for many people (S3-30)
HISTORY_KEPT = timedelta(days=14)
HISTORY_MAX = 200  # more tellings than that in `HISTORY_KEPT`, and all but the inbox stays silent
CAP_MOST = 100
LINK_BASE_MAX = 30  # of 70, and the code takes 20
_LINK_BASE = re.compile(
    rf"(?=.{{4,{LINK_BASE_MAX}}}\Z)(https?://)?([a-z0-9-]+\.)+[a-z]{{2,}}/([A-Za-z0-9_-]+/)*"
).fullmatch


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
        self.open_stages = tuple(name for name, s in spec.stages.items() if not s.end and s.light != "green")

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
        asks = tuple(self.ask(name, found) for name, found in spec.asks.items() if found is not None)
        caps = tuple(self.cap(name, found) for name, found in spec.caps.items() if found is not None)
        tiers = self.tiers()
        review, amends = self.review(), self.amends()
        if self.problems:
            return None, self.problems
        playbook = Playbook(
            name=spec.name, version=content_version(spec, self.wordings), principal=spec.principal,
            timezone=spec.timezone, locale=spec.locale, stages=stages, rules=rules, opens=opens, clears=clears,
            anomalies=anomalies, deadlines=deadlines,
            deadlines_at={name: tuple(d for d in deadlines.values() if name in d.stages) for name in stages},
            notices=notices, roles=frozenset(role for rule in notices.values() for role in rule.to),
            asks=asks, caps=caps, tiers=tiers, review=review, amends=amends,
            after=frozenset(topic for rule in notices.values() for topic in rule.after), wording=wording, spec=spec,
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
            made[name] = Stage(
                name, ends if found.end else rank, found.light, found.end, found.optional, update, found.says
            )
        if not made:
            self.problem(("stages",), "the ladder has no stage", "name at least one stage")
        return made

    def wording(self) -> dict[str, Wording]:
        made: dict[str, Wording] = {}
        if self.spec.sms_link and not _LINK_BASE(self.spec.sms_link):
            remedy = (
                f"write the domain that is filed and its path, at most {LINK_BASE_MAX} characters: s.example.com/l/"
            )
            self.problem(("sms_link",), f"{self.spec.sms_link!r} is no address to put a code behind", remedy)
        for locale, spec in self.wordings.items():
            brand = self.spec.brand.get(locale, "")
            if not brand:
                self.problem(("brand",), f"no brand for the locale {locale}", f"add brand: {{{locale}: …}}")
            try:
                lineage = (self.spec.extends, self.spec.name)
                made[locale] = compile_wording(spec, brand, lineage, self.states(locale), self.spec.sms_link)
            except WordingProblem as wrong:
                self.problem(("wording", locale, *wrong.path), wrong.message, wrong.remedy)
        if self.spec.locale not in self.wordings:
            self.problem(("locale",), f"no wording for the locale {self.spec.locale}", "add its wording file")
        return made

    def states(self, locale: str) -> dict[str, str]:
        """What a customer is told of the state of an order: stages by name, anomalies as `anomaly.NAME`."""
        said = {name: found.says.get(locale, "") for name, found in self.spec.stages.items()}
        said |= {f"anomaly.{name}": found.says.get(locale, "") for name, found in self.anomaly_specs.items()}
        return {name: words for name, words in said.items() if words}

    def notice(self, topic: str, found: NoticeSpec, wording: Mapping[str, Wording]) -> NoticeRule:
        path = ("notices", topic)
        self.known(found.category, self.spec.categories, "category", *path, "category")
        self.known(found.covers, self.spec.notices, "notice", *path, "covers")
        self.known(found.after, self.spec.notices, "notice", *path, "after")
        category = self.spec.categories.get(found.category, CategorySpec())
        ways = {}
        for tier in TIERS:
            own = found.tiers.get(tier, _NO_WAY)
            channels = found.channels if own.channels is None else own.channels
            ways[tier] = Way(channels, found.also if own.also is None else own.also, own.tone)
        used = {name for words in wording.values() for name in words.variables(topic)}
        return NoticeRule(
            topic=topic, to=frozenset(many(found.to)), category=found.category, mandatory=category.mandatory,
            marketing=category.marketing, resend=category.in_doubt == "resend", lane=found.lane,
            channels=found.channels, also=found.also,
            within=self.duration(found.within, *path, "within"), wait=self.duration(found.wait, *path, "wait"),
            valid_for=self.duration(found.valid_for, *path, "valid_for"), level=found.level,
            covers=frozenset(many(found.covers)), after=frozenset(many(found.after)), fallback=found.fallback,
            ways=MappingProxyType(ways), amends=any(words.has_tone(topic, "amends") for words in wording.values()),
            variables=tuple(sorted(used & VARIABLES.keys())),
        )  # fmt: skip

    def anomaly(self, name: str, found: AnomalySpec, stages: Mapping[str, Stage]) -> AnomalyRule:
        path = ("anomalies", name)
        if found.clears_at:
            self.known(found.clears_at, stages, "stage", *path, "clears_at")
        rank = stages[found.clears_at].rank if found.clears_at in stages else None
        return AnomalyRule(
            name, found.owner, found.light, rank, "handle" if found.person else None,
            self.condition(found.call_back, (), *path, "call_back"),
            self.known(found.tell, self.spec.notices, "notice", *path, "tell"), found.tone, bool(found.says),
        )  # fmt: skip

    def deadline(self, name: str, found: DeadlineSpec) -> Deadline:
        path = ("deadlines", name)
        stages = self.known(found.stages, self.spec.stages, "stage", *path, "in") or self.open_stages
        after = self.duration(found.after, *path, "after", signed=True)
        return Deadline(
            name, after, self.moment(found.since, *path, "since"), frozenset(stages),
            self.condition(found.when, (), *path, "when"),
            self.known(found.tell, self.spec.notices, "notice", *path, "tell"),
            self.known(found.open, self.anomaly_specs, "anomaly", *path, "open"), found.tone,
            frozenset(self.known(found.unless, self.anomaly_specs, "anomaly", *path, "unless")), after < NO_TIME,
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
                self.known(found.answer, self.spec.notices, "notice", *path, "answer"),
                self.known(found.withdraw, self.spec.notices, "notice", *path, "withdraw"),
                frozenset(self.known(found.during, self.anomaly_specs, "anomaly", *path, "during")),
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

    def clears(self) -> dict[str, tuple[tuple[str, Condition | None], ...]]:
        made: dict[str, list[tuple[str, Condition | None]]] = {}
        for name, found in self.anomaly_specs.items():
            for index, clearing in enumerate((found.clears,) if isinstance(found.clears, str) else found.clears):
                path = ("anomalies", name, "clears", index)
                on, when = (clearing, "") if isinstance(clearing, str) else (clearing.on, clearing.when)
                types = self.known(on, DATA_TYPES, "event type", *path)
                condition = self.condition(when, types, *path, "when")
                for event_type in types:
                    made.setdefault(event_type, []).append((name, condition))
        return {event_type: tuple(names) for event_type, names in made.items()}

    def moment(self, since: str, *path: str | int) -> Callable[[Order], datetime | None]:
        """The moment that `since` names; reports what it does not know."""
        anchor = anchor_of(since)
        if anchor is None:
            remedy = f"use one of: {', '.join(get_args(Since))}, mark:NAME, anomaly:NAME"
            self.problem(path, f"there is no moment {since!r}", remedy)
        kind, _, origin = since.partition(":")
        if kind == "anomaly":
            self.known(origin, self.anomaly_specs, "anomaly", *path)
        elif kind == "mark":
            self.known(origin, self.marks, "mark", *path)
        return anchor or (lambda _order: None)

    def ask(self, name: str, found: AskSpec) -> Ask:
        path = ("asks", name)
        if not (found.yes or found.no or found.choices or found.extend_days_max):
            self.problem(path, "no reply answers this question", "add yes, no, choices or extend_days_max")
        if len(found.choices) > CHOICES_MAX:
            self.problem((*path, "choices"), f"{len(found.choices)} choices", f"offer {CHOICES_MAX} at most (S3-30)")
        anchor = self.moment(found.during, *path, "while")
        if found.during in ("until", "promise"):  # a day to come is no moment at which a question was asked
            anchor = _since_opened(anchor)
        stages = self.known(found.stages, self.spec.stages, "stage", *path, "in") or self.open_stages
        return Ask(name, anchor, frozenset(stages), found.yes, found.no, found.choices, found.extend_days_max)

    def cap(self, name: str, found: CapSpec) -> Cap:
        path = ("caps", name)
        within = self.duration(found.within, *path, "within")
        if not 1 <= found.most <= CAP_MOST:
            self.problem((*path, "most"), f"{found.most} tellings cannot be counted", f"write 1 to {CAP_MOST}")
        if within > HISTORY_KEPT:
            self.problem((*path, "within"), "is longer than what is remembered", f"write {HISTORY_KEPT.days}d at most")
        lanes = self.known(found.lanes, dict.fromkeys(get_args(Lane)), "lane", *path, "lanes")
        return Cap(name, found.per, found.most, within, frozenset(lanes), found.then, found.mandatory)

    def tiers(self) -> tuple[tuple[Tier, Condition], ...]:
        made: list[tuple[Tier, Condition]] = []
        for tier, source in self.spec.tiers.items():
            try:
                made.append((tier, compile_condition(source, {"contact": _CONTACT})))
            except ConditionInvalid as wrong:
                self.problem(("tiers", tier), f"{wrong.message} (column {wrong.column})", wrong.remedy)
        return tuple(made)

    def review(self) -> Review | None:
        found = self.spec.review
        if found is None:
            return None
        self.known(found.tell, self.spec.notices, "notice", "review", "tell")
        return Review(found.tell, self.duration(found.every, "review", "every"))

    def amends(self) -> AmendsRule:
        found = self.spec.amends
        if found.value_fen < 0:
            self.problem(("amends", "value_fen"), "amends of less than nothing", "write fen, or 0 for no fixed value")
        return AmendsRule(found.kind, found.value_fen, self.duration(found.valid_for, "amends", "valid_for"))


def _since_opened(anchor: Callable[[Order], datetime | None]) -> Callable[[Order], datetime | None]:
    return lambda order: order.opened_at if anchor(order) is not None else None


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
