"""What a turn changed, turned on its side: one column per argument, as the statements take it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import cast

from msgspec import Struct, field

from orderbell.core.decide import light
from orderbell.core.events import Event, encode_json, wire_of
from orderbell.core.model import LANES, Amends, Consent, Contact, Entry, Light, Notice, Order, encode_state
from orderbell.core.turn import AnomalyLine, CaseLine, Key, Shelf, Turn
from orderbell.store.statements import SEPARATOR
from orderbell.store.vault import Vault

Arguments = list[object]
Columns = list[list[object]]
JOURNAL = (
    "tenant", "order_no", "version", "at", "type", "source", "event_id", "verdict", "stage", "event", "decision",
    "detail",
)  # fmt: skip
"""Columns of the journal in the order of `journal_row`."""

TAIL_LENGTH = 4
"""The last digits of a phone by which people are looked up."""

_LANE_NUMBERS = {lane: number for number, lane in enumerate(LANES)}


class TimerRows(Struct):
    """What becomes of the timer rows of a turn: new times, and orders that wait for nothing more."""

    armed: dict[Key, datetime] = field(default_factory=dict)
    cleared: set[Key] = field(default_factory=set)


def packed(texts: Sequence[str]) -> str:
    """Pack texts into one, for the statements that take them so.

    Raises:
        ValueError: A text holds the separator, or a lone text is empty, which could not be told from none.
    """
    made = SEPARATOR.join(texts)
    if made.count(SEPARATOR) != max(len(texts) - 1, 0) or (texts and not made):
        raise ValueError("a name that the database keeps is empty or holds control characters")
    return made


def columns(rows: Iterable[Sequence[object]], width: int) -> Columns:
    """Turn rows on their side for statements that take arrays; `width` empty columns when there is no row."""
    made = [list(column) for column in zip(*rows, strict=True)]
    return made or [[] for _ in range(width)]


def arguments(rows: Iterable[Sequence[object]], kinds: str) -> Arguments:
    """Turn rows on their side; `kinds` has a letter per column: `t` a text, to be packed, `a` anything else."""
    turned = list(zip(*rows, strict=True)) or [()] * len(kinds)
    return [
        packed(cast("Sequence[str]", column)) if kind == "t" else column
        for kind, column in zip(kinds, turned, strict=True)
    ]


def event_keys(events: Iterable[Event]) -> Arguments:
    """Columns of `event_key`."""
    return arguments([(e.tenant, e.source, e.id, e.body_hash, e.received_at) for e in events], "tttaa")


def keys(wanted: Iterable[Key]) -> Arguments:
    """Tenants and names of orders or contacts."""
    return arguments(wanted, "tt")


def journal_row(entry: Entry) -> tuple[object, ...]:
    """Return a line of `journal`."""
    event = entry.event
    return (
        event.tenant, event.order_no, entry.version, entry.at, event.type, event.source, event.id, entry.verdict,
        entry.stage, encode_json(wire_of(event)), entry.decision, _storable(entry.detail),
    )  # fmt: skip


def _storable(text: str) -> str:
    # The words of an exception may be anything; PostgreSQL's texts hold no NUL and no half of a character.
    return text if text.isprintable() else text.encode(errors="replace").decode().replace("\0", "\ufffd")


def new_orders(orders: Iterable[Order], shelves: Mapping[str, Shelf]) -> Arguments:
    """Columns of `orders` for an INSERT."""
    rows = [
        (
            o.tenant, o.no, o.version, o.playbook, o.stage, light_of(shelves, o), o.opened_at, o.updated_at,
            encode_state(o),
        )
        for o in orders
    ]  # fmt: skip
    return arguments(rows, "ttatttaaa")


def changed_orders(orders: Iterable[Order], shelves: Mapping[str, Shelf]) -> Arguments:
    """Columns of `orders` for an UPDATE; the playbook and the beginning of an order never change."""
    rows = [(o.tenant, o.no, o.version, o.stage, light_of(shelves, o), o.updated_at, encode_state(o)) for o in orders]
    return arguments(rows, "ttattaa")


def light_of(shelves: Mapping[str, Shelf], order: Order) -> Light:
    """The light of an order by the playbook that it follows."""
    playbook = shelves[order.tenant].find(order.playbook)
    # An order whose rung or playbook was taken away needs somebody to look at it, and must not stop its batch.
    return "red" if playbook is None or order.stage not in playbook.stages else light(playbook, order)


def timer_rows(before: Mapping[Key, Order], turn: Turn) -> TimerRows:
    """Compare the first deadline of each order before and after the turn: most turns of an order leave it alone."""
    rows = TimerRows()
    for key, order in turn.orders.items():
        old = before.get(key)
        due_at = order.next_due_at
        if due_at != (old.next_due_at if old is not None else None):
            if due_at is None:
                rows.cleared.add(key)
            else:
                rows.armed[key] = due_at
    return rows


def parties(before: Mapping[Key, Order], turn: Turn) -> Arguments:
    """Columns of `party`: who has a part in an order since this turn. Most turns bring nobody new."""
    rows = []
    for key, order in turn.orders.items():
        old = before.get(key)
        if old is None or (order.parties is not old.parties and order.parties != old.parties):
            known = {party.contact for party in old.parties} if old is not None else set()
            names = dict.fromkeys(party.contact for party in order.parties)
            rows += [(order.tenant, name, order.no) for name in names if name not in known]
    return arguments(rows, "ttt")


def armed_timers(timers: TimerRows) -> Arguments:
    """Columns of `timer`."""
    return arguments([(*key, due_at) for key, due_at in timers.armed.items()], "tta")


def queue(notices: Iterable[Notice], shelves: Mapping[str, Shelf]) -> Arguments:
    """Columns of `queue`."""
    rows = [(n.tenant, n.contact, n.id, _lane_number(shelves, n), n.due_at, encode_state(n)) for n in notices]
    return arguments(rows, "ttaaaa")


def _lane_number(shelves: Mapping[str, Shelf], notice: Notice) -> int:
    playbook = shelves[notice.tenant].find(notice.playbook)
    rule = playbook.notices.get(notice.topic) if playbook is not None else None
    return _LANE_NUMBERS[rule.lane if rule is not None else "service"]


def contact_columns(people: Iterable[Contact], updated_at: datetime, vault: Vault) -> Arguments:
    """Columns of `contact`: the person sealed, and the blind indexes of the phone, its last digits, and the mail."""
    rows = [
        (
            c.tenant, c.id, vault.seal(c.tenant, c.id, encode_state(c)),
            *finders(vault.index_key(c.tenant), c), updated_at,
        )
        for c in people
    ]  # fmt: skip
    return arguments(rows, "ttaaaaa")


def finders(key: bytes, contact: Contact) -> tuple[bytes | None, bytes, bytes | None]:
    """The blind indexes by which a person is found: phone, last digits of the phone (empty: none), mail address."""
    phone, mail = contact.phone, contact.email
    return (
        phone_key(key, phone) if phone else None,
        tail_key(key, phone) if len(phone) >= TAIL_LENGTH else b"",
        mail_key(key, mail) if mail else None,
    )


def phone_key(key: bytes, phone: str) -> bytes:
    """The blind index of a phone in E.164."""
    return hashlib.blake2b(phone.encode(), digest_size=16, key=key, person=b"phone").digest()


def tail_key(key: bytes, digits: str) -> bytes:
    """The blind index of the last `TAIL_LENGTH` digits of a phone, or of some that stand at its end."""
    tail = digits[-TAIL_LENGTH:].encode()
    return hashlib.blake2b(tail, digest_size=8, key=key, person=b"phone tail").digest()


def mail_key(key: bytes, address: str) -> bytes:
    """The blind index of a mail address, however its letters are written."""
    return hashlib.blake2b(address.casefold().encode(), digest_size=16, key=key, person=b"mail").digest()


def consents(records: Iterable[Consent]) -> Arguments:
    """Columns of `consent`; the words are the person's, so they travel as they are."""
    rows = [(c.tenant, c.contact, c.scope, c.given, c.at, c.source, _storable(c.words)) for c in records]
    return arguments(rows, "tttaaaa")


def amends(promised: Iterable[Amends]) -> Arguments:
    """Columns of `amends`."""
    rows = [
        (a.tenant, a.id, a.order_no, a.contact, a.kind, a.value_fen, a.topic, a.promised_at, a.valid_until)
        for a in promised
    ]
    return arguments(rows, "tatttataa")


def anomalies(lines: Iterable[AnomalyLine]) -> Arguments:
    """Columns of `anomaly`."""
    return arguments([(a.tenant, a.order_no, a.name, a.opened_at, a.closed_at) for a in lines], "tttaa")


def cases(lines: Iterable[CaseLine]) -> Arguments:
    """Columns of `cases`."""
    rows = [
        (
            line.tenant, line.case.id, line.order_no, line.case.anomaly, line.case.kind, line.case.owner,
            line.case.state, line.case.opened_at, line.closed_at,
        )
        for line in lines
    ]  # fmt: skip
    return arguments(rows, "tatttttaa")
