"""How an event changes the facts of an order: money, parcels, keys, items. Policy is not here, it is in the playbook.

Each function returns the changed fields, or None where the event is older news than what is known (S1-31).
"""

from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any, cast

import msgspec

from orderbell.core.calendar import zone_of
from orderbell.core.events import (
    Amount,
    Because,
    Cancelled,
    Choice,
    Event,
    OrderPlaced,
    Price,
    Promised,
    Received,
    Scanned,
    Shipped,
    Stock,
    Until,
    read_moment,
)  # fmt: skip
from orderbell.core.model import Order, Parcel
from orderbell.core.playbook import PARCEL_ENDS

Changes = dict[str, Any]

# how far along a parcel is; the order as a whole is as far as its least advanced parcel
_ADVANCE = {
    "": 0, "pending": 0, "info_received": 1, "picked_up": 2, "in_transit": 3, "customs": 3, "exception": 3,
    "expired": 3, "attempt_failed": 4, "out_for_delivery": 5, "available_for_pickup": 6, "returning": 6,
    "cancelled": 7, "returned": 8, "delivered": 9,
}  # fmt: skip
_NOT_YET_MOVING = frozenset({"pending", "info_received", "picked_up"})
_TEXT_KEPT = 200


def fold(order: Order, event: Event, timezone: str) -> Changes | None:
    """The facts that an event changes; empty for events that change none, None for stale ones."""
    handler = _FOLDS.get(event.type)
    return handler(order, event, timezone) if handler is not None else {}


def _placed(order: Order, event: Event, _timezone: str) -> Changes:
    data = cast("OrderPlaced | Received", event.data)
    items = getattr(data, "items", ())
    title = data.title or (items[0].title if items else "")
    known = {"amount_fen": data.amount_fen, "title": title, "category": data.category}
    return {name: value for name, value in known.items() if value and not getattr(order, name)}


def _paid(order: Order, event: Event, _timezone: str) -> Changes | None:
    if order.payment in ("refunding", "refunded") and order.payment_at and event.time < order.payment_at:
        return None
    data = cast("Amount", event.data)
    changes: Changes = {"payment": "paid", "payment_at": event.time}
    if data.amount_fen:
        changes["sum_fen"] = data.amount_fen
        if not order.amount_fen:
            changes["amount_fen"] = data.amount_fen
    return changes


def _not_paid(order: Order, event: Event, _timezone: str) -> Changes | None:
    settled = order.payment in ("paid", "refunding", "refunded")
    if settled or (order.payment_at is not None and event.time < order.payment_at):
        return None  # money that came counts more than a failure told late
    if event.type == "payment.expired":
        return {"payment": "expired", "payment_at": event.time}
    return {"payment": "failed", "payment_at": event.time, "reason": cast("Because", event.data).reason}


def _refund(order: Order, event: Event, _timezone: str) -> Changes | None:
    late = order.payment_at is not None and event.time < order.payment_at
    if event.type == "refund.started" and order.payment == "refunded" and late:
        return None
    data = cast("Amount", event.data)
    if 0 < data.amount_fen < order.amount_fen:  # of a part: the rest is still owed, in goods
        return {"sum_fen": data.amount_fen}
    payment = "refunding" if event.type == "refund.started" else "refunded"
    changes: Changes = {"payment": payment, "payment_at": event.time}
    return changes | {"sum_fen": data.amount_fen} if data.amount_fen else changes


def _reason(_order: Order, event: Event, _timezone: str) -> Changes:
    return {"reason": cast("Because | Cancelled", event.data).reason}


def _stock(_order: Order, event: Event, _timezone: str) -> Changes:
    title = cast("Stock", event.data).title
    return {"title": title} if title else {}


def _shipped(order: Order, event: Event, _timezone: str) -> Changes:
    data = cast("Shipped", event.data)
    old = _parcel(order, data.tracking_no)
    if old is None:
        new = Parcel(data.tracking_no, data.carrier, "", event.time)
    else:
        new = msgspec.structs.replace(
            old, carrier=data.carrier or old.carrier, tracking_no=data.tracking_no or old.tracking_no
        )
    return _with_parcel(order, old, new)


def _scanned(order: Order, event: Event, _timezone: str) -> Changes | None:
    data = cast("Scanned", event.data)
    old = _parcel(order, data.tracking_no)
    if old is not None:
        over = old.phase in PARCEL_ENDS and data.phase not in PARCEL_ENDS and data.phase != "returning"
        if over or event.time < old.at:
            return None
    moves = (old.moves if old else 0) + (data.phase not in _NOT_YET_MOVING)
    number = data.tracking_no or (old.tracking_no if old else "")
    carrier = data.carrier or (old.carrier if old else "")
    new = Parcel(number, carrier, data.phase, event.time, moves)
    return _with_parcel(order, old, new) | {"reason": data.reason, "place": data.place}


def _parcel(order: Order, tracking_no: str) -> Parcel | None:
    if not tracking_no:
        return order.parcels[0] if len(order.parcels) == 1 else None
    named = next((parcel for parcel in order.parcels if parcel.tracking_no == tracking_no), None)
    return named or next((parcel for parcel in order.parcels if not parcel.tracking_no), None)


def _with_parcel(order: Order, old: Parcel | None, new: Parcel) -> Changes:
    parcels = (*(parcel for parcel in order.parcels if parcel is not old), new)
    return {
        "parcels": parcels,
        "phase": min((parcel.phase for parcel in parcels), key=_ADVANCE.__getitem__),
        "moves": sum(parcel.moves for parcel in parcels),
        "tracking_no": new.tracking_no,
        "carrier": new.carrier,
    }


def _promised(_order: Order, event: Event, timezone: str) -> Changes:
    return {"promised_by": read_moment(cast("Promised", event.data).by, zone_of(timezone))}


def _until(_order: Order, event: Event, timezone: str) -> Changes:
    return {"until": read_moment(cast("Until", event.data).until, zone_of(timezone))}


def _choice(order: Order, event: Event, timezone: str) -> Changes:
    data = cast("Choice", event.data)
    if data.option != "extend" or not data.days or order.until is None:
        return {}
    local = order.until.astimezone(zone_of(timezone))
    try:
        return {"until": (local + timedelta(days=data.days)).astimezone(UTC)}  # by the calendar, whatever the clocks do
    except OverflowError:
        return {}


def _expired(_order: Order, _event: Event, _timezone: str) -> Changes:
    return {"until": None}


def _key(_order: Order, event: Event, _timezone: str) -> Changes:
    changes: Changes = {"key": event.type.removeprefix("key.")}
    return changes | {"reason": cast("Because", event.data).reason} if event.type == "key.failed" else changes


def _price(_order: Order, event: Event, _timezone: str) -> Changes:
    return {"price_fen": cast("Price", event.data).price_fen}


def _sum(_order: Order, event: Event, _timezone: str) -> Changes:
    return {"sum_fen": cast("Amount", event.data).amount_fen}


def _text(_order: Order, event: Event, _timezone: str) -> Changes:
    return {"text": getattr(event.data, "text", "")[:_TEXT_KEPT]}


_FOLDS: dict[str, Callable[[Order, Event, str], Changes | None]] = {
    "order.placed": _placed,
    "item.received": _placed,
    "payment.succeeded": _paid,
    "payment.failed": _not_paid,
    "payment.expired": _not_paid,
    "refund.started": _refund,
    "refund.succeeded": _refund,
    "order.cancelled": _reason,
    "risk.flagged": _reason,
    "address.undeliverable": _reason,
    "contact.invalid": _reason,
    "item.rejected": _reason,
    "payout.failed": _reason,
    "stock.short": _stock,
    "parcel.shipped": _shipped,
    "parcel.scanned": _scanned,
    "parcel.promised": _promised,
    "choice.made": _choice,
    "key.issued": _key,
    "key.failed": _key,
    "key.revealed": _key,
    "key.redeemed": _key,
    "item.price_proposed": _price,
    "item.price_changed": _price,
    "item.offer": _price,
    "item.sold": _price,
    "item.expiring": _until,
    "item.expired": _expired,
    "payout.sent": _sum,
    "withdrawal.succeeded": _sum,
    "complaint.opened": _text,
    "complaint.answered": _text,
}
