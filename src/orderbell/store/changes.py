"""Changes that webhooks tell of: rows written in the very transaction that makes the change.

A tenant without a webhook pays nothing: each process knows who listens (`Store.watched`), and writes no row where
nobody does. Nothing personal goes in: no name, no address, no text.

Changes of one order are written by transactions that hold the order's row one after another, and those of a message
by transactions that hold the message's, so their places are in the order in which things happened.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Struct

from orderbell.core.model import Order
from orderbell.core.turn import AnomalyLine, CaseLine, Key, Shelf, Turn
from orderbell.store.rows import light_of
from orderbell.store.statements import SEPARATOR

ChangeType: TypeAlias = Literal["order.changed", "message.changed", "case.opened", "case.closed"]
CHANGE_TYPES: Final[tuple[ChangeType, ...]] = get_args(ChangeType)

Watched: TypeAlias = Mapping[str, frozenset[str]]
"""The tenants that want to hear of a type of changes, by type; types that nobody wants are not there."""

TOLD_STATUSES: Final = ("accepted", "delivered", "failed", "rejected", "unknown")
"""What is told of messages; that one waits or is on its way is no news yet."""

DATA_BYTES_MAX: Final = 16_000
"""With what is put around it a body stays below the 20 kB that Standard Webhooks allows."""

_encode = msgspec.json.Encoder().encode

ADD_CHANGES = """
INSERT INTO change (tenant, change_id, type, subject, data, at)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
"""

# Of those attempts, the messages that this very transaction wrote. The same status of the same attempt has the same
# id: who has been told of it is not told again.
_NOTE = """
INSERT INTO change (tenant, change_id, type, subject, data, at)
SELECT m.tenant, substring(sha256(m.message_id || m.attempt_id || convert_to(m.status, 'UTF8')) FOR 16),
    'message.changed', CASE m.order_no WHEN '' THEN encode(m.message_id, 'hex') ELSE m.order_no END,
    jsonb_build_object('message_id', encode(m.message_id, 'hex'), 'order_no', m.order_no, 'topic', m.topic,
        'channel', m.channel, 'status', m.status)::text,
    coalesce(m.settled_at, m.sending_at, now())
FROM {} WHERE m.tenant = ANY ($1::text[]) AND m.status = ANY ($2::text[]) AND m.xmin = pg_current_xact_id()::xid
"""
NOTE_ATTEMPTS = _NOTE.format("unnest($3::bytea[]) AS k (attempt_id) JOIN message m USING (attempt_id)")
NOTE_MESSAGES = _NOTE.format(
    "unnest($3::text[], $4::bytea[]) AS k (tenant, message_id) JOIN message m USING (tenant, message_id)"
)
# After a restore alone: the one time that all messages are looked through.
NOTE_ALL_DOUBTED = _NOTE.format("message m") + " AND m.status = 'unknown' AND m.detail = 'restored'"

ChangeRow: TypeAlias = tuple[str, bytes, str, str, str, datetime]


class OrderData(Struct, frozen=True):
    """What is told of an order; `opened` and `closed` are anomalies since the last change, `anomalies` are open now.

    `phase` is that of its parcels. Whoever hears of a lower `version` than before has heard old news.
    """

    order_no: str
    version: int
    stage: str
    stage_at: datetime
    light: str
    payment: str
    phase: str
    promised_by: datetime | None
    anomalies: tuple[str, ...]
    opened: tuple[str, ...]
    closed: tuple[str, ...]
    updated_at: datetime


class CaseData(Struct, frozen=True):
    """What is told of a case."""

    case_id: str
    order_no: str
    anomaly: str
    kind: str
    owner: str
    state: str
    opened_at: datetime
    closed_at: datetime | None


def change_rows(
    watched: Watched, shelves: Mapping[str, Shelf], before: Mapping[Key, Order], turn: Turn
) -> list[ChangeRow]:
    """What a turn changed that somebody listens to; `before` are the orders as they were."""
    rows: list[ChangeRow] = []
    listeners = watched.get("order.changed", frozenset())
    lines: dict[Key, list[AnomalyLine]] = {}
    for anomaly in turn.anomalies.values():
        lines.setdefault((anomaly.tenant, anomaly.order_no), []).append(anomaly)
    for key, order in turn.orders.items():
        if key[0] in listeners:
            rows += _order_rows(shelves, before.get(key), order, lines.get(key, ()))
    for case in turn.cases.values():
        rows += _case_rows(watched, before.get((case.tenant, case.order_no)), case)
    return rows


def change_id(*parts: str | int) -> bytes:
    """Sixteen bytes that name a change, the same after a restore from a backup."""
    return hashlib.blake2b(SEPARATOR.join(map(str, parts)).encode(), digest_size=16).digest()


def data_text(data: Struct, least: Collection[str]) -> str:
    """The data as JSON; of data that are too large for a webhook only the fields in `least`."""
    encoded = _encode(data)
    if len(encoded) > DATA_BYTES_MAX:
        encoded = _encode({name: getattr(data, name) for name in least} | {"cut": True})
    return encoded.decode()


def _order_rows(
    shelves: Mapping[str, Shelf], old: Order | None, new: Order, lines: Iterable[AnomalyLine]
) -> Iterator[ChangeRow]:
    known = {(one.name, one.opened_at) for one in old.anomalies} if old is not None else set()
    opened = tuple(line.name for line in lines if (line.name, line.opened_at) not in known)
    closed = tuple(line.name for line in lines if line.closed_at is not None)
    if not opened and not closed and old is not None and _seen(shelves, old) == _seen(shelves, new):
        return
    data = OrderData(
        new.no, new.version, new.stage, new.stage_at, light_of(shelves, new), new.payment, new.phase, new.promised_by,
        tuple(one.name for one in new.anomalies), opened, closed, new.updated_at,
    )  # fmt: skip
    text = data_text(data, ("order_no", "version", "stage", "light", "payment", "updated_at"))
    name = change_id(new.tenant, "order.changed", new.no, new.version)
    yield new.tenant, name, "order.changed", new.no, text, new.updated_at


def _case_rows(watched: Watched, old: Order | None, line: CaseLine) -> Iterator[ChangeRow]:
    case, tenant = line.case, line.tenant
    known = old is not None and any(one.id == case.id for one in old.cases)
    happened: list[tuple[ChangeType, datetime]] = [] if known else [("case.opened", case.opened_at)]
    if line.closed_at is not None:
        happened.append(("case.closed", line.closed_at))
    for kind, at in happened:
        if tenant in watched.get(kind, frozenset()):
            data = CaseData(
                case.id.hex(), line.order_no, case.anomaly, case.kind, case.owner, case.state, case.opened_at,
                line.closed_at,
            )  # fmt: skip
            name = change_id(tenant, kind, case.id.hex(), at.isoformat())
            yield tenant, name, kind, line.order_no, data_text(data, ("case_id", "order_no", "state")), at


def _seen(shelves: Mapping[str, Shelf], order: Order) -> Sequence[object]:
    # What changes with every scan of a parcel (place, count of moves) would make a webhook of each.
    return order.stage, order.payment, order.phase, order.promised_by, light_of(shelves, order)
