"""A small shop for tests: a playbook of four rungs, and its events."""

from datetime import UTC, datetime, timedelta

import msgspec

from orderbell.core.events import Event, parse_event
from orderbell.core.playbook import Playbook, PlaybookSpec, compile_playbook
from orderbell.core.turn import Shelf
from orderbell.core.wording import WordingSpec

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TENANT = "acme"

_PLAYBOOK = {
    "name": "tiny",
    "principal": "buyer",
    "locale": "en",
    "brand": {"en": "Acme"},
    "stages": {
        "placed": {"says": {"en": "Placed"}, "next_update": "1h"},
        "paid": {"says": {"en": "Paid"}, "next_update": "1h"},
        "shipped": {"says": {"en": "Shipped"}, "next_update": "1h"},
        "completed": {"says": {"en": "Completed"}, "light": "green"},
    },
    "rules": [
        {"on": "payment.succeeded", "stage": "paid", "tell": "payment_received"},
        {"on": "parcel.shipped", "stage": "shipped"},
        {"on": "order.completed", "stage": "completed"},
    ],
    "deadlines": {
        "payment_due": {"in": "placed", "after": "30m", "open": "payment_overdue"},
        "progress_due": {"in": "paid", "after": "2h", "tell": "progress"},
    },
    "anomalies": {
        "payment_overdue": {"owner": "finance", "clears": ["payment.succeeded"], "clears_at": "paid"},
        "stock_short": {"owner": "warehouse", "opens": [{"on": "stock.short"}], "clears": ["stock.restored"]},
    },
    "categories": {"transaction": {"mandatory": True}},
    "notices": {
        "payment_received": {"to": "buyer", "category": "transaction", "lane": "critical"},
        "progress": {"to": "buyer", "category": "transaction"},
    },
}
_WORDING = {
    "locale": "en",
    "signature": "[{brand}] ",
    "subject": "Order {order_no}",
    "date": "{month} {day}",
    "months": ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    "spans": {"minutes": "{count} min", "hours": "{count} h", "days": "{count} d"},
    "texts": {
        "payment_received": {"sms": ["Order {order_no} is paid."]},
        "progress": {"sms": ["Order {order_no} is on its way."]},
    },
}


def tiny_playbook() -> Playbook:
    """Placed, paid, shipped, completed; payment within half an hour, word after two."""
    playbook, problems = compile_playbook(
        msgspec.convert(_PLAYBOOK, PlaybookSpec), {"en": msgspec.convert(_WORDING, WordingSpec)}
    )
    assert playbook is not None, problems
    return playbook


def shelves(*tenants: str) -> dict[str, Shelf]:
    """The tiny playbook for each of these tenants, `acme` if none is named."""
    return dict.fromkeys(tenants or (TENANT,), Shelf({"tiny": tiny_playbook()}, "tiny"))


def event(
    name: str,
    order_no: str = "A1",
    kind: str = "order.placed",
    *,
    tenant: str = TENANT,
    after_s: float = 0,
    **data: object,
) -> Event:
    """An event as intake reads it, `after_s` seconds after noon."""
    at = NOON + timedelta(seconds=after_s)
    wire = {"id": name, "source": "shop", "type": kind, "subject": order_no, "time": at, "data": data}
    parsed = parse_event(msgspec.json.encode(wire), tenant, at)
    assert isinstance(parsed, Event), parsed
    return parsed


BUYER = {"buyer": {"phone": "+8613812341234"}}
