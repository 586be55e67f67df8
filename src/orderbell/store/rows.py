"""What a turn changed, turned on its side: one list per column, as the array statements take it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct, field

from orderbell.core.decide import light
from orderbell.core.events import Event, encode_json, wire_of
from orderbell.core.model import LANES, Contact, Entry, Light, Notice, Order, encode_state
from orderbell.core.turn import AnomalyLine, CaseLine, Key, Shelf, Turn

Columns = list[list[object]]
_LANE_NUMBERS = {lane: number for number, lane in enumerate(LANES)}


class TimerRows(Struct):
    """What becomes of the timer rows of a turn: new times, and orders that wait for nothing more."""

    armed: dict[Key, datetime] = field(default_factory=dict)
    cleared: list[Key] = field(default_factory=list)


def columns(rows: Iterable[Sequence[object]], width: int) -> Columns:
    """Return the columns of rows; `width` empty ones when there is no row."""
    made = [list(column) for column in zip(*rows, strict=True)]
    return made or [[] for _ in range(width)]


def key_columns(events: Iterable[Event]) -> Columns:
    """Columns of `event_key`."""
    return columns(((e.tenant, e.source, e.id, e.body_hash, e.received_at) for e in events), 5)


def journal_columns(entries: Iterable[Entry]) -> Columns:
    """Columns of `journal`."""
    return columns((_journal_row(entry) for entry in entries), 12)


def _journal_row(entry: Entry) -> tuple[object, ...]:
    event = entry.event
    return (
        event.tenant, event.order_no, entry.version, entry.at, event.type, event.source, event.id, entry.verdict,
        entry.stage, encode_json(wire_of(event)), entry.decision, entry.detail,
    )  # fmt: skip


def new_order_columns(orders: Iterable[Order], shelves: Mapping[str, Shelf]) -> Columns:
    """Columns of `orders` for an INSERT."""
    rows = (
        (o.tenant, o.no, o.version, o.playbook, o.stage, _light_of(shelves, o), o.opened_at, o.updated_at, encode_state(o))
        for o in orders
    )  # fmt: skip
    return columns(rows, 9)


def changed_order_columns(orders: Iterable[Order], shelves: Mapping[str, Shelf]) -> Columns:
    """Columns of `orders` for an UPDATE; the playbook and the beginning of an order never change."""
    rows = (
        (o.tenant, o.no, o.version, o.stage, _light_of(shelves, o), o.updated_at, encode_state(o)) for o in orders
    )
    return columns(rows, 7)


def _light_of(shelves: Mapping[str, Shelf], order: Order) -> Light:
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
                rows.cleared.append(key)
            else:
                rows.armed[key] = due_at
    return rows


def queue_columns(notices: Iterable[Notice], shelves: Mapping[str, Shelf]) -> Columns:
    """Columns of `queue`."""
    rows = (
        (n.tenant, n.contact, n.id, _lane_number(shelves, n), n.due_at, encode_state(n)) for n in notices
    )
    return columns(rows, 6)


def _lane_number(shelves: Mapping[str, Shelf], notice: Notice) -> int:
    playbook = shelves[notice.tenant].find(notice.playbook)
    rule = playbook.notices.get(notice.topic) if playbook is not None else None
    return _LANE_NUMBERS[rule.lane if rule is not None else "service"]


def contact_columns(contacts: Iterable[Contact], updated_at: datetime) -> Columns:
    """Columns of `contact`."""
    return columns(((c.tenant, c.id, encode_state(c), updated_at) for c in contacts), 4)


def anomaly_columns(lines: Iterable[AnomalyLine]) -> Columns:
    """Columns of `anomaly`."""
    return columns(((a.tenant, a.order_no, a.name, a.opened_at, a.closed_at) for a in lines), 5)


def case_columns(lines: Iterable[CaseLine]) -> Columns:
    """Columns of `cases`."""
    rows = (
        (c.tenant, c.case.id, c.order_no, c.case.anomaly, c.case.kind, c.case.owner, c.case.state, c.case.opened_at, c.closed_at)
        for c in lines
    )  # fmt: skip
    return columns(rows, 9)
