"""Random lines of events for the shipped playbooks: valid data, odd times, several orders and people.

Run as a program it prints one digest of what such a line comes to, for comparison between processes.
"""

import hashlib
import random
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, get_args

import msgspec

from orderbell.core.events import DATA_TYPES, INSIDE_TYPES, Event, Phase, parse_event
from orderbell.core.model import encode_state
from orderbell.core.turn import Shelf
from orderbell.playbooks import shipped_shelf
from orderbell.store.memory import MemoryHost

TENANT = "acme"
START = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
REASONS = (
    "",
    "insufficient_funds",
    "carrier.lost",
    "carrier.damaged",
    "recipient.refused",
    "recipient.bad_address",
    "随便什么",
)
GAPS_S = (0, 0, 1, 20, 40, 90, 600, 3600, 6 * 3600, 30 * 3600, 4 * 86400)
TYPES = tuple(sorted(DATA_TYPES.keys() - INSIDE_TYPES))
STORIES = {
    "retail": (
        "order.placed", "payment.failed", "payment.succeeded", "parcel.promised", "stock.short", "parcel.shipped",
        "parcel.scanned", "parcel.scanned", "parcel.scanned", "case.resolved",
    ),
    "digital": ("order.placed", "payment.succeeded", "stock.short", "key.failed", "key.issued", "order.cancelled"),
    "consignment": (
        "item.received", "item.approved", "item.listed", "item.price_proposed", "item.price_changed", "item.expiring",
        "item.offer", "item.sold", "payout.sent",
    ),
}  # fmt: skip


@lru_cache(maxsize=1)
def shelf() -> Shelf:
    """The shipped playbooks, read once."""
    return shipped_shelf()


def stream(seed: int, count: int, playbook: str, *, with_people: bool = True) -> list[Event]:
    """So many events about a few orders, in the order in which they are heard."""
    dice = random.Random(seed)
    now = START
    events: list[Event] = []
    for index in range(count):
        now += timedelta(seconds=dice.choice(GAPS_S))
        story = STORIES[playbook]
        kind = story[index % 15 % len(story)] if dice.random() < 0.7 else dice.choice(TYPES)
        late = timedelta(seconds=dice.choice((0, 0, 0, 60, 7200, 9 * 86400)))
        data = _data(dice, kind, now)
        order_no = f"A{max(0, index // 15 - dice.choice((0, 0, 1)))}"
        if with_people or not any(event.order_no == order_no for event in events):
            people = _people(dice, playbook, varied=with_people)
            if people:
                data["people"] = people
        wire = {
            "specversion": "1.0", "id": str(index), "source": "shop", "type": kind, "subject": order_no,
            "time": now - late, "data": data, "playbook": playbook,
        }  # fmt: skip
        event = parse_event(msgspec.json.encode(wire), TENANT, now)
        assert isinstance(event, Event), event
        events.append(event)
    return events


def _data(dice: random.Random, kind: str, now: datetime) -> dict[str, Any]:
    moment = now + timedelta(hours=dice.choice((-30, -1, 1, 20, 30, 200)))
    values: dict[str, Any] = {
        "amount_fen": dice.choice((0, 100, 19900, 600000)),
        "price_fen": dice.choice((0, 100, 10**12)),
        "reason": dice.choice(REASONS),
        "title": dice.choice(("", "龙井茶", "A very long name of an article, " * 3)),
        "category": "tea",
        "by": dice.choice(("merchant", "buyer")) if kind == "order.cancelled" else moment.isoformat(),
        "until": dice.choice((moment.isoformat(), moment.date().isoformat())),
        "phase": dice.choice(get_args(Phase)),
        "tracking_no": dice.choice(("", "T1", "T2")),
        "carrier": dice.choice(("", "SF")),
        "place": dice.choice(("", "上海转运中心")),
        "text": "你好【假】",
        "case": dice.choice(("", "stock_short", "parcel_late", "nonsense")),
        "option": dice.choice(("confirm_price", "refund")),
        "score": 3,
    }  # fmt: skip
    wanted = {field.name for field in msgspec.structs.fields(DATA_TYPES[kind])}
    if kind in ("case.acknowledged", "case.resolved", "case.reopened", "case.noted", "case.assigned"):
        wanted.discard("by")
    return {name: value for name, value in values.items() if name in wanted}


def _people(dice: random.Random, playbook: str, *, varied: bool) -> dict[str, Any]:
    principal = "consignor" if playbook == "consignment" else "buyer"
    if varied and dice.random() < 0.8:
        return {}
    phone = dice.choice(("+8613800000001", "+8613800000002", "")) if varied else "+8613800000001"
    person: dict[str, Any] = {
        "phone": phone,
        "tier": dice.choice(("new", "vip")),
        "locale": dice.choice(("zh-CN", "en")),
    }
    person |= {
        "frequency": dice.choice(("calm", "normal", "all")),
        "quiet": "22:00-08:00",
        "mute": dice.choice(([], ["progress"])),
    }
    person |= dice.choice(({}, {"app": "app:1"}, {"email": "a@example.com"})) if varied else {"app": "app:1"}
    people = {principal: person}
    if dice.random() < 0.3:
        people["family"] = {"phone": dice.choice(("+8613800000001", "+8613800000003"))}
    return people


def chunks(events: Sequence[Event], size: int) -> Iterator[list[Event]]:
    """The events in batches."""
    rest = iter(events)
    while batch := list(islice(rest, size)):
        yield batch


def hosted(events: Sequence[Event], size: int = 500, *, polled: bool = False) -> MemoryHost:
    """A host that took the events in batches of a size, let time pass in between or not, and then half a year."""
    host = MemoryHost({TENANT: shelf()})
    for batch in chunks(events, size):
        if polled:
            host.advance(batch[0].received_at)
        host.feed(batch)
    host.advance(events[-1].received_at + timedelta(days=180))
    return host


def trace(host: MemoryHost) -> bytes:
    """Journal and orders as bytes, order by order."""
    entries = sorted(host.journal, key=lambda entry: (entry.event.order_no, entry.version))
    return msgspec.json.encode(entries) + b"".join(encode_state(order) for _, order in sorted(host.orders.items()))


if __name__ == "__main__":
    digest = hashlib.blake2b()
    for name in shelf().playbooks:
        host = hosted(stream(7, 200, name), 7, polled=True)
        digest.update(
            trace(host) + b"".join(map(encode_state, host.messages)) + b"".join(map(encode_state, host.fates))
        )
    sys.stdout.write(digest.hexdigest())
