"""A playbook in a few lines that uses every kind of clause, and builders of orders and events."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from orderbell.core.decide import decide
from orderbell.core.events import Event, parse_event
from orderbell.core.lint import lint_playbook
from orderbell.core.model import Contact, Decision, Effect, Notice, Order, Party, WithdrawNotice, derive_id
from orderbell.core.playbook import Playbook, PlaybookSpec, Problem, compile_playbook
from orderbell.core.wording import WordingSpec

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
BUYER = (Party("buyer", "ann"),)

SPEC: dict[str, Any] = {
    "name": "small",
    "principal": "buyer",
    "timezone": "UTC",
    "locale": "en",
    "stages": {
        "placed": {"next_update": "1h", "says": {"en": "Waiting for payment"}},
        "paid": {},
        "shipped": {},
        "delivered": {"light": "green"},
        "cancelled": {"light": "green", "end": True},
    },
    "rules": [
        {"on": "payment.succeeded", "stage": "paid", "tell": "paid"},
        {"on": "parcel.shipped", "stage": "shipped", "tell": "shipped"},
        {"on": "parcel.scanned", "when": 'order.phase == "delivered"', "stage": "delivered"},
        {"on": "item.price_proposed", "mark": "price_open", "tell": "price"},
        {"on": "item.price_changed", "unmark": "price_open"},
        {"on": "choice.made", "when": 'event.option in ("agree", "decline")', "unmark": "price_open"},
        {"on": "choice.made", "when": 'event.option in ("agree", "decline", "wait", "refund", "extend")', "tell": "noted"},
        {"on": "reply.received", "when": 'event.meaning == "status"', "answer": "status"},
        {"on": "stock.restored", "tell": "restored"},
        {"on": "item.viewed", "tell": "offer"},
        {"on": "order.cancelled", "stage": "cancelled", "tell": "cancelled"},
    ],
    "deadlines": {
        "unpaid": {"in": "placed", "after": "30m", "when": 'order.payment == "none"', "open": "overdue"},
        "near": {"since": "promise", "after": "-1h", "tell": "late"},
        "passed": {"since": "promise", "after": "0s", "open": "lateness", "tone": "sorry"},
        "price_due": {"since": "mark:price_open", "after": "1d", "open": "price"},
        "short_long": {"since": "anomaly:short", "after": "2h", "open": "grave"},
    },
    "anomalies": {
        "overdue": {"owner": "finance", "light": "yellow", "person": False, "opens": [{"on": "payment.expired"}],
                    "clears": "payment.succeeded", "tell": "late"},
        "lateness": {"owner": "logistics", "clears_at": "delivered", "tell": "late"},
        "price": {"owner": "service", "light": "yellow", "clears": "item.price_changed"},
        "short": {"owner": "warehouse", "opens": [{"on": "stock.short"}], "clears_at": "shipped",
                  "clears": ["stock.restored", {"on": "choice.made", "when": 'event.option == "refund"'}],
                  "call_back": 'order.tier == "vip"', "tell": "late", "says": {"en": "Out of stock"}},
        "grave": {"owner": "service"},
    },
    "asks": {
        "price": {"while": "mark:price_open", "yes": "agree", "no": "decline"},
        "stock": {"while": "anomaly:short", "choices": ["wait", "refund"]},
        "expiry": {"while": "until", "in": ["placed", "paid"], "extend_days_max": 30},
    },
    "caps": {
        "storm": {"per": "topic", "most": 2, "within": "1h", "mandatory": True},
        "urgent": {"per": "person", "most": 5, "within": "1h", "lanes": "critical", "mandatory": True},
        "order": {"per": "order", "most": 4, "within": "1d", "lanes": ["service", "marketing"], "mandatory": True},
        "ads": {"per": "person", "most": 1, "within": "7d", "lanes": "marketing", "then": "delay"},
    },
    "tiers": {"vip": "contact.order_count >= 3 or contact.spent_fen >= 100000"},
    "marketing": {"hours": "09:00-20:00", "workdays_only": True},
    "review": {"every": "180d", "tell": "review"},
    "amends": {"kind": "coupon", "value_fen": 1000, "valid_for": "30d"},
    "categories": {"must": {"mandatory": True}, "may": {}, "ads": {"marketing": True}},
    "notices": {
        "paid": {"to": "buyer", "category": "must", "wait": "1m", "valid_for": "6h"},
        "shipped": {"to": ["buyer", "giver"], "category": "may", "wait": "1m", "covers": "paid"},
        "late": {"to": "buyer", "category": "must", "lane": "critical", "also": ["push"],
                 "tiers": {"vip": {"channels": ["wechat", "sms"], "also": ["email"]}, "new": {"tone": "amends"}}},
        "price": {"to": "buyer", "category": "may", "channels": ["push", "inbox"], "level": "all"},
        "cancelled": {"to": "buyer", "category": "must", "covers": ["shipped", "late"], "channels": ["sms"]},
        "restored": {"to": "buyer", "category": "may", "after": "late"},
        "status": {"to": "buyer", "category": "must"},
        "noted": {"to": "buyer", "category": "must"},
        "offer": {"to": "buyer", "category": "ads", "lane": "marketing", "channels": ["push", "sms"], "within": "3d",
                  "valid_for": "7d"},
        "review": {"to": "buyer", "category": "may", "channels": ["push", "email"], "within": "1h", "valid_for": "7d",
                   "fallback": False},
    },
}  # fmt: skip
_TOPICS = ("shipped", "price", "cancelled", "restored", "offer", "review")
WORDING: dict[str, Any] = {
    "locale": "en",
    "signature": "[{brand}] ",
    "subject": "Order {order_no}",
    "date": "{month}/{day}",
    "spans": {"minutes": "{count} min", "hours": "{count} h", "days": "{count} d"},
    "opt_out": " Reply R to stop.",
    "defaults": {"state": "in progress"},
    "lengths": {"state": 24},
    "phrases": {"until_next": " More within {next}.", "chosen": " Your choice: {choice}."},
    "choices": {"refund": "refund", "wait": "wait"},
    "texts": {
        **{topic: {"sms": [f"Order {{order_no}}: {topic}.{{until_next}}"]} for topic in _TOPICS},
        "paid": {"sms": ["Order {order_no}: paid.{until_next}"], "explain": " We pack it next."},
        "late": {
            "sms": {"calm": ["Order {order_no}: late.{until_next}"], "amends": ["Sorry for {order_no}, a coupon."]}
        },
        "status": {"sms": ["Order {order_no}: {state}."]},
        "noted": {"sms": ["Order {order_no}: noted.{chosen}"]},
    },
}


def laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with changes laid over it key by key; `...` takes a key away."""
    made = dict(under)
    for name, value in over.items():
        if value is ...:
            del made[name]
        elif isinstance(value, Mapping) and isinstance(made.get(name), Mapping):
            made[name] = laid_over(made[name], value)
        else:
            made[name] = value
    return made


def compiled(wording: Mapping[str, Any] | None = None, **changes: object) -> tuple[Playbook | None, list[Problem]]:
    """The small playbook with changes, and what the compiler says of it."""
    spec = msgspec.convert(laid_over(SPEC, changes), PlaybookSpec)
    return compile_playbook(spec, {"en": msgspec.convert(laid_over(WORDING, wording or {}), WordingSpec)})


def playbook(wording: Mapping[str, Any] | None = None, **changes: object) -> Playbook:
    """The small playbook with changes."""
    made, problems = compiled(wording, **changes)
    assert made is not None, problems
    return made


def problems(wording: Mapping[str, Any] | None = None, **changes: object) -> list[tuple[str, str, str]]:
    """Path, message and remedy of what compiler or lint say of the small playbook with changes."""
    made, found = compiled(wording, **changes)
    found = found if made is None else lint_playbook(made)
    return [(".".join(map(str, problem.path)), problem.message, problem.remedy) for problem in found]


def event(
    kind: str, at_s: float = 0, *, no: str = "A1", name: str = "", late_s: float = 0, sender: str = "", **data: object
) -> Event:
    """An event as intake reads it, heard `at_s` seconds after noon, `late_s` seconds after it happened.

    `sender` is the role that sent a reply, `from` on the wire.
    """
    at = NOON + timedelta(seconds=at_s)
    data |= {"from": sender} if sender else {}
    wire = {
        "specversion": "1.0", "id": name or f"{kind}@{at_s}", "source": "shop", "type": kind, "subject": no,
        "time": at - timedelta(seconds=late_s), "data": data, "playbook": "small",
    }  # fmt: skip
    parsed = parse_event(msgspec.json.encode(wire), "acme", at)
    assert isinstance(parsed, Event), parsed
    return parsed


def order(stage: str = "placed", **changes: object) -> Order:
    """An order that was opened at noon."""
    values: dict[str, Any] = {"version": 1, "stage_at": NOON, "opened_at": NOON, "updated_at": NOON, "parties": BUYER}
    values.update(changes)
    return Order("acme", "A1", "small", stage=stage, **values)


def after(book: Playbook, *events: Event, parties: tuple[Party, ...] = BUYER, begin: Order | None = None) -> Decision:
    """The last decision of a line of events, without timers in between."""
    decision: Decision | None = None
    for one in events:
        decision = decide(book, decision.order if decision else begin, one, one.received_at, parties)
    assert decision is not None
    return decision


def names(effects: tuple[Effect, ...]) -> list[str]:
    """Effects in a few letters: the kind, and what it is about."""
    return [f"{type(effect).__name__} {_subject(effect)}" for effect in effects]


def _subject(effect: Effect) -> str:
    if isinstance(effect, WithdrawNotice):
        return " ".join(effect.notice.withdraws)
    for field in ("notice", "amends", "case", "name", "id"):
        value = getattr(effect, field, None)
        if value is not None:
            found = getattr(value, "topic", None) or getattr(value, "anomaly", None) or value
            return "" if isinstance(found, bytes) else str(found)
    raise AssertionError(effect)


def notice(topic: str, created_s: float = 0, *, wait_s: float = 0, within_s: float = 300, **changes: object) -> Notice:
    """A notice for Ann about order A1."""
    at = NOON + timedelta(seconds=created_s)
    values: dict[str, Any] = {
        "id": derive_id(at, topic, str(created_s), str(changes)), "tenant": "acme", "contact": "ann", "order_no": "A1",
        "role": "buyer", "playbook": "small", "topic": topic, "created_at": at, "due_at": at + timedelta(seconds=wait_s),
        "tell_by": at + timedelta(seconds=within_s), "valid_until": at + timedelta(days=1),
    }  # fmt: skip
    values.update(changes)
    return Notice(**values)


def contact(**changes: object) -> Contact:
    """Ann, who has a phone."""
    values: dict[str, Any] = {"tenant": "acme", "id": "ann", "phone": "+8613812341234", **changes}
    return Contact(**values)
