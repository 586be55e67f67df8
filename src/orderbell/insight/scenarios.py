"""Scenarios: a time line of events, and what must and must not have happened. They run on any host.

The form of the files is told in `docs/scenarios.md`. A scenario is fed event by event on a virtual clock; every
expectation that does not hold becomes a line for people.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import yaml

from orderbell.core.decide import light
from orderbell.core.durations import format_duration, parse_duration
from orderbell.core.events import Answer, ChannelName, Event, encode_json, parse_event, read_moment
from orderbell.core.model import Message, Order
from orderbell.core.turn import Key, Shelf, contact_id
from orderbell.errors import ScenarioInvalid
from orderbell.store.memory import MemoryHost

Behaviour = Literal["delivered", "no_receipt"]
TENANT = "scenario"
START = "2026-03-02T10:00+08:00"  # a Monday morning
_AMOUNT_TYPES = ("order.placed", "item.received")
_LAST_LOOK = timedelta(days=1)


class Expectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of `expect`: a message line (`within`), or a state line (`at`)."""

    within: tuple[str, str] | None = None
    at: str = ""
    to: str = ""
    channel: str = ""
    topic: str = ""
    category: str = ""
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    chars_max: int | None = None
    count: int | None = None
    none: bool = False
    light: str = ""
    stage: str = ""
    anomaly: str = ""
    no_anomaly: str = ""
    case: dict[str, str] | None = None


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One scenario as it stands in its file."""

    id: str
    says: str
    playbook: str
    events: tuple[list[Any], ...]
    expect: tuple[Expectation, ...]
    start: str = START
    order: str = "1001"
    amount_fen: int = 19900
    people: dict[str, dict[str, Any] | None] | None = None
    channels: dict[ChannelName, Behaviour] = {}

    @property
    def without_receipts(self) -> frozenset[ChannelName]:
        """The channels that give no receipts."""
        return frozenset(channel for channel, behaviour in self.channels.items() if behaviour == "no_receipt")


class Host(Protocol):
    """Where a scenario can run: the in-memory host, or PostgreSQL on a virtual clock."""

    async def feed(self, events: Sequence[Event]) -> list[Answer]:
        """Take a batch in."""
        ...

    async def advance(self, until: datetime) -> None:
        """Let time pass up to and including `until`."""
        ...

    async def order(self, key: Key) -> Order | None:
        """The order as it stands."""
        ...

    async def messages(self) -> list[Message]:
        """Every message so far, in the order in which they were told."""
        ...

    def key_of(self, tenant: str) -> bytes:
        """The key of the tenant's blind indexes."""
        ...


OpenHost = Callable[["Scenario", datetime], Awaitable[Host]]


class MemoryScenarioHost:
    """The in-memory host as scenarios want it."""

    def __init__(self, shelf: Shelf, scenario: Scenario) -> None:
        self.memory = MemoryHost({TENANT: shelf}, without_receipts=scenario.without_receipts)

    async def feed(self, events: Sequence[Event]) -> list[Answer]:
        """Take a batch in."""
        return self.memory.feed(events)

    async def advance(self, until: datetime) -> None:
        """Let time pass."""
        self.memory.advance(until)

    async def order(self, key: Key) -> Order | None:
        """The order as it stands."""
        return self.memory.orders.get(key)

    async def messages(self) -> list[Message]:
        """Every message so far."""
        return self.memory.messages

    def key_of(self, tenant: str) -> bytes:
        """The key of the tenant's blind indexes."""
        return self.memory.key_of(tenant)


@dataclass
class Report:
    """What a scenario came to: its time line, and what failed (nothing: it holds)."""

    scenario: Scenario
    timeline: list[tuple[timedelta, str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def read_scenarios(path: Path) -> list[Scenario]:
    """Read a scenario file; ScenarioInvalid says what is wrong with it."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        return msgspec.convert(tree, list[Scenario])
    except OSError as wrong:
        raise ScenarioInvalid(f"{path}: the file cannot be read: {wrong.strerror}; check its name") from None
    except (yaml.YAMLError, UnicodeDecodeError) as wrong:
        raise ScenarioInvalid(f"{path}: this is not YAML: {wrong}") from None
    except msgspec.ValidationError as wrong:
        raise ScenarioInvalid(f"{path}: {wrong}; see docs/scenarios.md") from None


async def run_scenario(scenario: Scenario, shelf: Shelf, open_host: OpenHost) -> Report:
    """Run one scenario on a fresh host that begins at the scenario's start."""
    return await _Run(scenario, shelf).play(open_host)


class _Run:
    """One scenario under way."""

    def __init__(self, scenario: Scenario, shelf: Shelf) -> None:
        playbook = shelf.find(scenario.playbook)
        if playbook is None:
            raise ScenarioInvalid(f"{scenario.id}: there is no playbook {scenario.playbook!r}")
        self.scenario, self.playbook, self.shelf = scenario, playbook, shelf
        self.start = self.moment(scenario.start)
        self.people = scenario.people or {playbook.principal: {}}
        self.report = Report(scenario)
        self.roles: dict[str, str] = {}
        self.times: dict[str, datetime] = {}

    async def play(self, open_host: OpenHost) -> Report:
        """Feed the events, look at the states on the way, and judge the messages at the end."""
        events = self.events()
        looks = [(self.span(line.at), line) for line in self.scenario.expect if line.at]
        steps: list[tuple[timedelta, int, Event | Expectation]] = [(at, 0, event) for at, event in events]
        steps += [(at, 1, line) for at, line in looks]
        first = self.start + min((at for at, _, _ in steps), default=timedelta(0))
        host = await open_host(self.scenario, first)
        for _, event in events:
            for role, person in (event.people or {}).items():
                secret, region = host.key_of(TENANT), self.playbook.spec.region
                self.roles[role] = contact_id(event.order_no, role, person, secret, region)
        for at, _, step in sorted(steps, key=lambda step: step[:2]):
            await host.advance(self.start + at)
            if isinstance(step, Event):
                self.report.timeline.append((at, "event", f"{step.type} {_brief(step)}"))
                answer = (await host.feed([step]))[0]
                if answer.status == "refused":
                    self.fail(at, f"the event {step.type} was refused: {answer.detail}")
            else:
                self.look(at, step, await host.order((TENANT, self.scenario.order)))
        ends = [self.span(line.within[1]) for line in self.scenario.expect if line.within]
        last = max([at for at, _, _ in steps] + ends, default=timedelta(0)) + _LAST_LOOK
        await host.advance(self.start + last)
        self.judge(await host.messages())
        self.report.timeline.sort(key=lambda line: line[0])
        return self.report

    def moment(self, text: str) -> datetime:
        try:
            return read_moment(text, UTC)
        except ValueError as wrong:
            raise ScenarioInvalid(f"{self.scenario.id}: start: {wrong}; write such as {START}") from None

    def span(self, text: str) -> timedelta:
        try:
            return parse_duration(text)
        except ValueError as wrong:
            raise ScenarioInvalid(f"{self.scenario.id}: {wrong}; write 30s, 5m, 2h, 3d or 1h5m") from None

    def events(self) -> list[tuple[timedelta, Event]]:
        """The events with their offsets, in the order in which they arrive."""
        made: list[tuple[timedelta, Event]] = []
        for index, line in enumerate(self.scenario.events):
            if len(line) < 2 or not all(isinstance(word, str) for word in line[:2]):  # noqa: PLR2004 - offset and type
                raise ScenarioInvalid(f"{self.scenario.id}: event {index + 1}: write [offset, type, data]")
            offset, kind, *rest = line
            data, extra = (rest[place] if place < len(rest) else None for place in (0, 1))
            at = self.span(offset)
            made.append((at, self.event(index, at, kind, dict(data or {}), dict(extra or {}))))
        return sorted(made, key=lambda pair: pair[0])

    def event(self, index: int, at: timedelta, kind: str, data: dict[str, Any], extra: dict[str, Any]) -> Event:
        if index == 0:
            data["people"] = {role: self.person(role, wishes or {}) for role, wishes in self.people.items()}
        if kind in _AMOUNT_TYPES:
            data.setdefault("amount_fen", self.scenario.amount_fen)
        name = extra.get("id", f"{self.scenario.id}/{index}")
        happened = self.start + (self.span(extra["time"]) if "time" in extra else at)
        happened = self.times.setdefault(name, happened)  # an event that is sent again says the same
        wire = {
            "specversion": "1.0", "id": name, "source": "scenario",
            "type": kind, "subject": extra.get("order", self.scenario.order), "time": happened,
            "data": data, "playbook": self.scenario.playbook,
        }  # fmt: skip
        event = parse_event(encode_json(wire), TENANT, self.start + at)
        if isinstance(event, Answer):
            raise ScenarioInvalid(f"{self.scenario.id}: event {index + 1} ({kind}): {event.detail}")
        return event

    def person(self, role: str, wishes: dict[str, Any]) -> dict[str, Any]:
        number = int.from_bytes(role.encode()[-3:], "big") % 10**8
        person = {"phone": f"+86138{number:08d}", **wishes}
        for flag in ("app", "wechat"):
            if isinstance(person.get(flag), bool):
                person[flag] = f"{flag}:{role}" if person[flag] else ""
        return person

    def look(self, at: timedelta, line: Expectation, order: Order | None) -> None:
        """A state line: light, stage, anomalies and cases at a moment."""
        if order is None:
            self.fail(at, "there is no such order yet")
            return
        shown = light(self.playbook, order)
        anomalies = {anomaly.name for anomaly in order.anomalies}
        if line.light and shown != line.light:
            self.fail(at, f"the light is {shown}, not {line.light}")
        if line.stage and order.stage != line.stage:
            self.fail(at, f"the stage is {order.stage}, not {line.stage}")
        if line.anomaly and line.anomaly not in anomalies:
            self.fail(at, f"the anomaly {line.anomaly} is not open (open: {', '.join(sorted(anomalies)) or 'none'})")
        if line.no_anomaly in anomalies:
            self.fail(at, f"the anomaly {line.no_anomaly} is open")
        if line.case is not None:
            cases = [{"owner": case.owner, "kind": case.kind} for case in order.cases]
            if not any(line.case.items() <= case.items() for case in cases):
                self.fail(at, f"no open case {line.case} (open: {cases or 'none'})")

    def judge(self, messages: list[Message]) -> None:
        """The message lines."""
        roles = {contact: role for role, contact in self.roles.items()}
        for message in messages:
            who = roles.get(message.contact, message.contact)
            words = f"{message.channel} to {who}, {message.topic}: {message.text}"
            self.report.timeline.append((message.told_at - self.start, "message", words))
        for line in self.scenario.expect:
            if line.within:
                self.judge_line(line, messages)

    def judge_line(self, line: Expectation, messages: list[Message]) -> None:
        assert line.within is not None  # noqa: S101 - the caller chose the lines that have it
        first, last = (self.start + self.span(offset) for offset in line.within)
        found = [m for m in messages if first <= m.told_at <= last and self.meant(line, m)]
        told = "; ".join(f"{m.channel} {m.topic} {m.text!r}" for m in found)
        where = (
            f"within {line.within[0]}..{line.within[1]} to {line.to or 'anybody'} {line.channel} {line.topic}".rstrip()
        )
        at = last - self.start
        if line.none:
            if found:
                self.fail(at, f"nothing should have been told {where}, but was: {told}")
            return
        good = [message for message in found if not _faults(line, message)]
        wrong = [fault for message in found for fault in _faults(line, message)]
        if line.count is not None and len(found) != line.count:
            self.fail(at, f"{len(found)} messages instead of {line.count} {where}: {told or 'none'}")
        elif not good:
            self.fail(at, f"no message {where}" + (f": {'; '.join(wrong)}" if wrong else ""))

    def meant(self, line: Expectation, message: Message) -> bool:
        return (
            (not line.to or message.contact == self.roles.get(line.to))
            and (not line.channel or message.channel == line.channel)
            and (not line.topic or message.topic == line.topic)
            and (not line.category or message.category == line.category)
        )

    def fail(self, at: timedelta, words: str) -> None:
        self.report.failures.append(f"{format_duration(at)}: {words}")


def _faults(line: Expectation, message: Message) -> list[str]:
    whole = f"{message.subject}\n{message.text}"
    faults = [f"{message.text!r} lacks {word!r}" for word in line.has if word not in whole]
    faults += [f"{message.text!r} has {word!r}" for word in line.lacks if word in whole]
    if line.chars_max is not None and len(message.text) > line.chars_max:
        faults.append(f"{message.text!r} has {len(message.text)} characters")
    return faults


def _brief(event: Event) -> str:
    data = msgspec.to_builtins(event.data)
    data.pop("people", None)
    return " ".join(f"{name}={value}" for name, value in data.items() if not isinstance(value, list | dict))
