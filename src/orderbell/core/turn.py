"""One turn: what a batch of events does to the orders they speak of. Both hosts run this function.

A timer of an order fires before an event that came after it fell due, at its own time, however late the host
looks: so the outcome depends on the events and their arrival alone, not on batches or on polling.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct, field

from orderbell.core.decide import decide
from orderbell.core.events import OWN_SOURCE, Answer, Event, Person, Status, TimerDue
from orderbell.core.model import (
    Case,
    CloseAnomaly,
    CloseCase,
    Contact,
    Decision,
    Entry,
    Notice,
    OpenAnomaly,
    OpenCase,
    Order,
    Party,
    Reason,
    SendNotice,
)  # fmt: skip
from orderbell.core.playbook import Playbook

Key = tuple[str, str]
_NO_DECISION = b"[]"
_encode_decision = msgspec.json.Encoder().encode


class Shelf(Struct, frozen=True):
    """The playbooks of a tenant, by name, and which one an order follows that names none."""

    playbooks: dict[str, Playbook]
    default: str = "retail"

    def find(self, name: str) -> Playbook | None:
        """The playbook of that name; the default one for an empty name."""
        return self.playbooks.get(name or self.default)


class AnomalyLine(Struct, frozen=True, gc=False):
    """An anomaly that opened or closed, for the projection that people search."""

    tenant: str
    order_no: str
    name: str
    opened_at: datetime
    closed_at: datetime | None


class CaseLine(Struct, frozen=True, gc=False):
    """A case as it stands after the turn, for the projection that people work from."""

    tenant: str
    order_no: str
    case: Case
    closed_at: datetime | None


class Turn(Struct):
    """What a turn changed; hosts write it as it is.

    `created` holds the keys of `orders` (and of `contacts`) that did not exist before.
    """

    entries: list[Entry] = field(default_factory=list)
    orders: dict[Key, Order] = field(default_factory=dict)
    contacts: dict[Key, Contact] = field(default_factory=dict)
    created: set[Key] = field(default_factory=set)
    new_contacts: set[Key] = field(default_factory=set)
    notices: list[Notice] = field(default_factory=list)
    anomalies: dict[tuple[str, str, str, datetime], AnomalyLine] = field(default_factory=dict)
    cases: dict[tuple[str, bytes], CaseLine] = field(default_factory=dict)


def refuse_stray(shelf_of: Mapping[str, Shelf], event: Event) -> Answer | None:
    """The refusal of an event that names a tenant or a playbook that is not there; None for all others."""
    shelf = shelf_of.get(event.tenant)
    if shelf is None:
        detail = f"tenant: nobody here is called {event.tenant!r}"
        return Answer(event.id, Status.REFUSED, "unknown_tenant", "tenant", detail)
    if shelf.find(event.playbook) is None:
        detail = (
            f"playbook: there is no {event.playbook or shelf.default!r}; known: {', '.join(sorted(shelf.playbooks))}"
        )
        return Answer(event.id, Status.REFUSED, Reason.UNKNOWN_PLAYBOOK, "playbook", detail)
    return None


def contact_id(order_no: str, role: str, person: Person) -> str:
    """The id of a person: the shop's own, else one derived from phone or mail, else one of this order and role.

    The same phone in two orders is the same person.
    """
    if person.id:
        return person.id
    basis = (person.phone and "phone:" + "".join(c for c in person.phone if c.isdigit())) or (
        person.email and "mail:" + person.email.casefold()
    )
    return hashlib.blake2b((basis or f"role:{order_no}:{role}").encode(), digest_size=10).hexdigest()


def contact_keys(events: Iterable[Event], orders: Mapping[Key, Order]) -> set[Key]:
    """The contacts that a batch brings news of, for the host to load; `orders` are the known ones of the batch."""
    keys: set[Key] = set()
    for event in events:
        if not event.people:
            continue
        keys.update((event.tenant, contact_id(event.order_no, role, p)) for role, p in event.people.items())
        order = orders.get(event.order_key)
        if order is not None:
            keys.update((event.tenant, party.contact) for party in order.parties if party.role in event.people)
    return keys


def run_turn(
    shelf_of: Mapping[str, Shelf],
    events: Sequence[Event],
    orders: Mapping[Key, Order],
    contacts: Mapping[Key, Contact],
    due: Iterable[Key] = (),
    until: datetime | None = None,
) -> Turn:
    """Decide events in order, then fire what the orders in `due` have due by `until`.

    `orders` and `contacts` are those that exist of the events' orders and people; events are fresh (not seen before).
    """
    turn = Turn()
    for event in events:
        _take(turn, shelf_of[event.tenant], event, orders, contacts)
    if until is not None:
        for key in due:
            order = turn.orders.get(key) or orders.get(key)
            if order is not None:
                _fire(turn, shelf_of[order.tenant], order, until)
    return turn


def _take(turn: Turn, shelf: Shelf, event: Event, orders: Mapping[Key, Order], contacts: Mapping[Key, Contact]) -> None:
    key = event.order_key
    order = turn.orders.get(key) or orders.get(key)
    if order is not None:
        order = _fire(turn, shelf, order, event.received_at)
    playbook = shelf.find(order.playbook if order is not None else event.playbook)
    if playbook is None:
        stage, version = (order.stage, order.version) if order is not None else ("", 0)
        detail = f"there is no playbook {event.playbook or shelf.default!r}"
        turn.entries.append(
            Entry(event, event.received_at, version, stage, Reason.UNKNOWN_PLAYBOOK, _NO_DECISION, detail)
        )
        return
    now = event.received_at
    if order is not None and now < order.updated_at:
        now = order.updated_at  # the clocks of two machines may differ; an order's time never runs back
    parties = _meet(turn, event, order, contacts)
    if _step(turn, playbook, order, event, now, parties) is not None and order is None:
        turn.created.add(key)


def _fire(turn: Turn, shelf: Shelf, order: Order, until: datetime) -> Order:
    playbook = shelf.find(order.playbook)
    while playbook is not None and order.timers:
        due_at, name = min((due_at, name) for name, due_at in order.timers.items())
        if due_at > until:
            break
        due_at = max(due_at, order.updated_at)
        event = Event(
            order.tenant, OWN_SOURCE, f"{name}@{due_at.isoformat()}", "timer.due", order.no, due_at, due_at,
            TimerDue(name=name),
        )  # fmt: skip
        fired = _step(turn, playbook, order, event, due_at, ()) or order
        if fired.timers.get(name) == order.timers[name]:  # the decision failed: it would come again for ever
            fired = msgspec.structs.replace(fired, timers={n: at for n, at in fired.timers.items() if n != name})
            turn.orders[order.tenant, order.no] = fired
        order = fired
    return order


def _step(
    turn: Turn, playbook: Playbook, order: Order | None, event: Event, now: datetime, parties: tuple[Party, ...]
) -> Order | None:
    try:
        decision = decide(playbook, order, event, now, parties)
        effects = _encode_decision(decision.effects) if decision.effects else _NO_DECISION
    except Exception as problem:  # noqa: BLE001 - whatever a decision dies of, the event is kept and the batch goes on
        stage, version = (order.stage, order.version) if order is not None else ("", 0)
        detail = f"{type(problem).__name__}: {problem}"
        turn.entries.append(Entry(event, now, version, stage, Reason.UNDECIDABLE, _NO_DECISION, detail))
        return None
    new = decision.order
    turn.orders[new.tenant, new.no] = new
    turn.entries.append(Entry(event, now, new.version, new.stage, decision.verdict, effects))
    _project(turn, order, decision, now)
    return new


def _project(turn: Turn, old: Order | None, decision: Decision, now: datetime) -> None:
    new = decision.order
    before = {case.id: case for case in old.cases} if old is not None else {}
    for effect in decision.effects:
        if isinstance(effect, SendNotice):
            turn.notices.append(effect.notice)
        elif isinstance(effect, OpenAnomaly):
            turn.anomalies[new.tenant, new.no, effect.name, now] = AnomalyLine(
                new.tenant, new.no, effect.name, now, None
            )
        elif isinstance(effect, CloseAnomaly):
            was = old.anomaly(effect.name) if old is not None else None
            opened_at = was.opened_at if was is not None else now
            line = AnomalyLine(new.tenant, new.no, effect.name, opened_at, now)
            turn.anomalies[new.tenant, new.no, effect.name, opened_at] = line
        elif isinstance(effect, OpenCase):
            before[effect.case.id] = effect.case
            turn.cases[new.tenant, effect.case.id] = CaseLine(new.tenant, new.no, effect.case, None)
        elif isinstance(effect, CloseCase):
            done = msgspec.structs.replace(before[effect.id], state="resolved")
            turn.cases[new.tenant, effect.id] = CaseLine(new.tenant, new.no, done, now)
    for case in new.cases:
        if before[case.id] != case:
            turn.cases[new.tenant, case.id] = CaseLine(new.tenant, new.no, case, None)


def _meet(turn: Turn, event: Event, order: Order | None, contacts: Mapping[Key, Contact]) -> tuple[Party, ...]:
    if not event.people:
        return order.parties if order is not None else ()
    known = {party.role: party for party in order.parties} if order is not None else {}
    for role, person in event.people.items():
        name = contact_id(event.order_no, role, person)
        before = None
        if role in known and not person.id:
            key = (event.tenant, known[role].contact)
            before = turn.contacts.get(key) or contacts.get(key)
            if not person.phone and (not person.email or (before is not None and before.phone)):
                name = known[role].contact  # news of somebody already known, such as a new locale or a mail address
        key = (event.tenant, name)
        old = turn.contacts.get(key) or contacts.get(key)
        new = merge_contact(old or _stranger(event.tenant, name, before), person)
        if new != old:
            turn.contacts[key] = new
            if old is None:
                turn.new_contacts.add(key)
        known[role] = Party(role, name, new.tier)
    return tuple(known.values())


def _stranger(tenant: str, name: str, before: Contact | None) -> Contact:
    """A contact that is new; wishes follow a person to a new number, other addresses may be somebody else's."""
    if before is None:
        return Contact(tenant, name)
    return msgspec.structs.replace(before, id=name, phone="", email="", app="", wechat="")


def merge_contact(contact: Contact, person: Person) -> Contact:
    """Lay what an event says of a person over what was known; what it does not say stays."""
    changes: dict[str, object] = {
        name: value
        for name in ("phone", "email", "app", "wechat", "tier", "locale", "timezone", "quiet", "frequency")
        if (value := getattr(person, name))
    }
    if person.mute is not None:
        changes["mute"] = tuple(person.mute)
    return msgspec.structs.replace(contact, **changes) if changes else contact
