"""One turn: what a batch of events does to the orders they speak of. Both hosts run this function.

A timer of an order fires before an event that came after it fell due, at its own time, however late the host
looks: so the outcome depends on the events and their arrival alone, not on batches or on polling.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import cast

import msgspec
from msgspec import Struct, field

from orderbell.core.decide import decide
from orderbell.core.events import (
    OWN_SOURCE,
    Answer,
    ChannelName,
    Event,
    Person,
    Reply,
    Settled,
    Status,
    TimerDue,
)  # fmt: skip
from orderbell.core.model import (
    DEAD,
    Amends,
    Case,
    CloseAnomaly,
    CloseCase,
    Compensate,
    Consent,
    Contact,
    Decision,
    EndpointState,
    Entry,
    History,
    Notice,
    OpenAnomaly,
    OpenCase,
    Order,
    Party,
    Reason,
    SendNotice,
    WithdrawNotice,
)  # fmt: skip
from orderbell.core.phones import read_phone
from orderbell.core.playbook import Playbook
from orderbell.core.replies import read_reply

Key = tuple[str, str]
KeyOf = Callable[[str], bytes]
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


class Move(Struct, frozen=True, gc=False):
    """That somebody of an order is another contact from now on, such as under a new number."""

    tenant: str
    order_no: str
    old: str
    new: str

    @property
    def keys(self) -> tuple[Key, Key]:
        """The keys of both contacts."""
        return (self.tenant, self.old), (self.tenant, self.new)

    def of(self, notice: Notice) -> Notice | None:
        """A notice that waits for the old contact, as it waits for the new one; None where it stays."""
        if notice.order_no != self.order_no or notice.withdraws or notice.tried:
            return None
        return msgspec.structs.replace(notice, contact=self.new)

    def heard(self, old: History, new: History) -> History:
        """What the new contact has heard, with what the old one was told of this order."""
        told = [one for one in old.told if one.order_no == self.order_no and one not in new.told]
        return History(tuple(sorted((*new.told, *told), key=lambda one: one.at)), new.reviewed_at)


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
    consents: list[Consent] = field(default_factory=list)
    amends: list[Amends] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
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


def contact_id(order_no: str, role: str, person: Person, key: bytes = b"", region: str = "CN") -> str:
    """The id of a person: the shop's own, else one derived from phone or mail, else one of this order and role.

    The same phone in two orders is the same person, however it is written; `region` is that of numbers without a
    country code. `key` (32 bytes) makes it a blind index.
    """
    if person.id:
        return person.id
    basis = (person.phone and "phone:" + read_phone(person.phone, region).number) or (
        person.email and "mail:" + person.email.casefold()
    )
    return hashlib.blake2b((basis or f"role:{order_no}:{role}").encode(), digest_size=10, key=key).hexdigest()


def no_key(_tenant: str) -> bytes:
    """The key of hosts that keep nothing."""
    return b""


def contact_keys(
    shelf_of: Mapping[str, Shelf], events: Iterable[Event], orders: Mapping[Key, Order], key_of: KeyOf = no_key
) -> set[Key]:
    """The contacts that a batch brings news of, for the host to load; `orders` are the known ones of the batch."""
    keys: set[Key] = set()
    named: dict[Key, str] = {}  # the playbook that the first event of a new order names
    for event in events:
        order = orders.get(event.order_key)
        playbook = order.playbook if order is not None else named.setdefault(event.order_key, event.playbook)
        if not event.people and event.type not in _PERSONAL:
            continue
        if event.people:
            region = _region(shelf_of[event.tenant].find(playbook))
            secret = key_of(event.tenant)
            names = (contact_id(event.order_no, role, p, secret, region) for role, p in event.people.items())
            keys.update((event.tenant, name) for name in names)
        if event.type == "message.settled":
            keys.add((event.tenant, cast("Settled", event.data).contact))
        elif order is not None:
            personal = event.type in _PERSONAL
            roles = event.people or {}
            keys.update((event.tenant, party.contact) for party in order.parties if personal or party.role in roles)
    return keys


_PERSONAL = frozenset({"reply.received", "message.settled"})


def _region(playbook: Playbook | None) -> str:
    return playbook.spec.region if playbook is not None else "CN"


def run_turn(
    shelf_of: Mapping[str, Shelf],
    events: Sequence[Event],
    orders: Mapping[Key, Order],
    contacts: Mapping[Key, Contact],
    due: Iterable[Key] = (),
    until: datetime | None = None,
    key_of: KeyOf = no_key,
) -> Turn:
    """Decide events in order, then fire what the orders in `due` have due by `until`.

    `orders` and `contacts` are those that exist of the events' orders and people; events are fresh (not seen before).
    `key_of` gives the tenant's key of blind indexes, from which the ids of people come.
    """
    turn = Turn()
    for event in events:
        _take(turn, shelf_of[event.tenant], event, orders, contacts, key_of)
    if until is not None:
        for key in due:
            order = turn.orders.get(key) or orders.get(key)
            if order is not None:
                _fire(turn, shelf_of[order.tenant], order, until)
    return turn


def _take(
    turn: Turn,
    shelf: Shelf,
    event: Event,
    orders: Mapping[Key, Order],
    contacts: Mapping[Key, Contact],
    key_of: KeyOf,
) -> None:
    key = event.order_key
    order = turn.orders.get(key) or orders.get(key)
    if order is not None:
        order = _fire(turn, shelf, order, event.received_at)
    playbook = shelf.find(order.playbook if order is not None else event.playbook)
    if event.type in _PERSONAL:
        _hear(turn, playbook, event, order, contacts)
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
    parties = _meet(turn, playbook, event, order, contacts, key_of)
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
        if isinstance(effect, (SendNotice, WithdrawNotice)):
            turn.notices.append(effect.notice)
        elif isinstance(effect, Compensate):
            turn.amends.append(effect.amends)
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


def _meet(
    turn: Turn,
    playbook: Playbook,
    event: Event,
    order: Order | None,
    contacts: Mapping[Key, Contact],
    key_of: KeyOf,
) -> tuple[Party, ...]:
    if not event.people:
        return order.parties if order is not None else ()
    known = {party.role: party for party in order.parties} if order is not None else {}
    region = playbook.spec.region
    for role, person in event.people.items():
        name = contact_id(event.order_no, role, person, key_of(event.tenant), region)
        before = None
        if role in known and not person.id:
            before = _known(turn, contacts, (event.tenant, known[role].contact))
            if not person.phone and (not person.email or (before is not None and before.phone)):
                name = known[role].contact  # news of somebody already known, such as a new locale or a mail address
        key = (event.tenant, name)
        old = _known(turn, contacts, key)
        base = old or _stranger(event.tenant, name, before)
        new = merge_contact(base, person, event.received_at, region)
        new = _with_consent(turn, new, person, event)
        if role == playbook.principal and role not in known:
            amount_fen = order.amount_fen if order is not None else getattr(event.data, "amount_fen", 0)
            new = _with_order(new, amount_fen, playbook)
        if new != old:
            _keep(turn, old, new)
        was = known.get(role)
        known[role] = Party(role, name, new.tier)
        if was is not None and was.contact not in {party.contact for party in known.values()}:
            turn.moves.append(Move(event.tenant, event.order_no, was.contact, name))
    return tuple(known.values())


def _with_consent(turn: Turn, contact: Contact, person: Person, event: Event) -> Contact:
    """What an event says of consent; older news than the last word of the person gives none (S0-30)."""
    given = person.marketing
    if given is None or contact.marketing == ("yes" if given else "no"):
        return contact
    if given and contact.marketing == "no" and event.type != "contact.changed":
        return contact  # what a shop has on file does not undo what the person said since
    if given and contact.marketing_at is not None and event.time <= contact.marketing_at:
        return contact
    turn.consents.append(Consent(*contact.key, "marketing", given, event.received_at, f"event {event.source}"))
    return agree(contact, given, event.received_at)


def agree(contact: Contact, given: bool, at: datetime) -> Contact:  # noqa: FBT001 - a field of the record
    """The contact after a consent to marketing, or an opt-out; whoever keeps it writes a `Consent` beside it."""
    return msgspec.structs.replace(contact, marketing="yes" if given else "no", marketing_at=at)


def _known(turn: Turn, contacts: Mapping[Key, Contact], key: Key) -> Contact | None:
    return turn.contacts.get(key) or contacts.get(key)


def _keep(turn: Turn, old: Contact | None, new: Contact) -> None:
    turn.contacts[new.key] = new
    if old is None:
        turn.new_contacts.add(new.key)


def _hear(
    turn: Turn, playbook: Playbook | None, event: Event, order: Order | None, contacts: Mapping[Key, Contact]
) -> None:
    """What a reply, or the fate of a message, says of the person it is about, whatever the order makes of it.

    An opt-out must not fail because the order's playbook is away.
    """
    if isinstance(event.data, Settled):
        contact = _known(turn, contacts, (event.tenant, event.data.contact))
        new = contact and _with_fate(contact, event.data)
    else:
        data = cast("Reply", event.data)
        role = data.sender or (playbook.principal if playbook is not None else "")
        names = [party.contact for party in (order.parties if order is not None else ()) if role in ("", party.role)]
        contact = _known(turn, contacts, (event.tenant, names[0])) if names else None
        new = contact and _with_reply(turn, contact, event, data)
    if contact is not None and new is not None and new != contact:
        _keep(turn, contact, new)


def _with_reply(turn: Turn, contact: Contact, event: Event, data: Reply) -> Contact:
    """Whoever answers can be reached; an opt-out holds from this moment on, and is kept as a record (S0-30)."""
    said = read_reply(data.text)
    new = msgspec.structs.replace(contact, states=contact.states | {"sms": "verified"})
    if said.kind in ("opt_out", "opt_in"):
        given = said.kind == "opt_in"
        record = Consent(*contact.key, "marketing", given, event.received_at, f"reply {event.id}", said.text)
        turn.consents.append(record)
        new = agree(new, given, event.received_at)
    return new


def _with_fate(contact: Contact, data: Settled) -> Contact:
    """An address that a provider will never take is not tried again, until another one is named."""
    stale = contact.checked_at is not None and data.told_at is not None and data.told_at < contact.checked_at
    state = _STATES.get(data.outcome)
    if state is None or stale or contact.states.get(data.channel) in DEAD:
        return contact
    return msgspec.structs.replace(contact, states=contact.states | {data.channel: state})


def _with_order(contact: Contact, amount_fen: int, playbook: Playbook) -> Contact:
    """One order more; the tier follows, where the shop has not set it (S0-20)."""
    new = msgspec.structs.replace(
        contact, order_count=contact.order_count + 1, spent_fen=contact.spent_fen + amount_fen
    )
    if new.tier_set or not playbook.tiers:
        return new
    tier = next((tier for tier, rule in playbook.tiers if rule.test(new)), "regular")
    return msgspec.structs.replace(new, tier=tier)


def _stranger(tenant: str, name: str, before: Contact | None) -> Contact:
    """A contact that is new; wishes follow a person to a new number, other addresses may be somebody else's.

    An opt-out follows as well; a consent was given for the old number.
    """
    if before is None:
        return Contact(tenant, name)
    changes: dict[str, object] = {} if before.marketing == "no" else {"marketing": "", "marketing_at": None}
    return msgspec.structs.replace(
        before, id=name, phone="", email="", app="", wechat="", states={}, checked_at=None, **changes
    )  # fmt: skip


_STATES: dict[str, EndpointState] = {"rejected_recipient": "blocked", "failed": "bounced"}
_CHANNELS: dict[str, ChannelName] = {"phone": "sms", "email": "email", "app": "push", "wechat": "wechat"}
_WISHES = ("locale", "timezone", "quiet", "frequency")


def merge_contact(contact: Contact, person: Person, at: datetime, region: str = "CN") -> Contact:
    """Lay what an event says of a person over what was known; what it does not say stays."""
    changes: dict[str, object] = {name: value for name in _WISHES if (value := getattr(person, name))}
    states = dict(contact.states)
    for name, channel in _CHANNELS.items():
        value = getattr(person, name)
        phone = read_phone(value, region) if value and name == "phone" else None
        address = phone.number if phone is not None else value
        if address and address != getattr(contact, name):
            changes |= {name: address, "checked_at": at}
            states.pop(channel, None)
            if phone is not None and phone.state in ("landline", "invalid"):
                states[channel] = phone.state
    if states != contact.states:
        changes["states"] = states
    if person.tier:
        changes |= {"tier": person.tier, "tier_set": True}
    if person.mute is not None:
        changes["mute"] = tuple(person.mute)
    return msgspec.structs.replace(contact, **changes) if changes else contact
