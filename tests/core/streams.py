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

from orderbell.core.events import DATA_TYPES, INSIDE_TYPES, ChannelName, Event, Phase, parse_event
from orderbell.core.model import encode_state
from orderbell.core.turn import Shelf
from orderbell.playbooks import shipped_shelf
from orderbell.store.memory import MemoryHost
from tests.core.samples import playbook

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
        "item.offer", "item.sold", "payout.sent", "withdrawal.succeeded",
    ),
    "small": (
        "order.placed", "item.viewed", "payment.failed", "stock.short", "reply.received", "payment.succeeded",
        "stock.restored", "item.price_proposed", "reply.received", "parcel.promised", "item.viewed", "payment.expired",
        "parcel.shipped", "order.cancelled",
    ),
}  # fmt: skip
REPLIES = (
    "你好【假】", "TD", "回复T", "START", "Y", "N", "1", "2", "延期3天", "退款", "查询", "好的", "我要投诉", "{order_no}\u202e😀",
)  # fmt: skip
ODD_WORDS = (
    "{order_no}${sum}{{x}}",
    "{order.__class__}%s",
    "\u202e【银行】",
    "😀" * 40,
    "字" * 9 + "👨\u200d👩\u200d👧" * 9,
)
ZONES = ("", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Mars/Olympus")
MUTES: tuple[list[str], ...] = (
    [],
    ["progress"],
    ["may"],
    ["transaction:sms"],
    ["must:push", "may:sms"],
    ["progress:push", "marketing:sms"],
)
QUIETS = ("", "22:00-08:00", "00:00-09:30", "12:00-12:30", "01:30-03:30", "08:00-07:00")


@lru_cache(maxsize=1)
def shelf() -> Shelf:
    """The shipped playbooks, read once, and the small one, whose caps are tight."""
    shipped = shipped_shelf()
    return Shelf({**shipped.playbooks, "small": playbook()}, shipped.default)


def stream(seed: int, count: int, name: str, *, with_people: bool = True) -> list[Event]:
    """So many events about a few orders, in the order in which they are heard."""
    dice = random.Random(seed)
    now = START
    events: list[Event] = []
    for index in range(count):
        now += timedelta(seconds=dice.choice(GAPS_S))
        story = STORIES[name]
        kind = story[index % 15 % len(story)] if dice.random() < 0.7 else dice.choice(TYPES)
        late = timedelta(seconds=dice.choice((0, 0, 0, 60, 7200, 9 * 86400)))
        data = _data(dice, kind, now)
        order_no = f"A{max(0, index // 15 - dice.choice((0, 0, 1)))}"
        if with_people or not any(event.order_no == order_no for event in events):
            people = _people(dice, name, varied=with_people)
            if people:
                data["people"] = people
        wire = {
            "specversion": "1.0", "id": str(index), "source": "shop", "type": kind, "subject": order_no,
            "time": now - late, "data": data, "playbook": name,
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
        "title": dice.choice(("", "龙井茶", "A very long name of an article, " * 3, *ODD_WORDS)),
        "category": "tea",
        "by": dice.choice(("merchant", "buyer")) if kind == "order.cancelled" else moment.isoformat(),
        "until": dice.choice((moment.isoformat(), moment.date().isoformat())),
        "phase": dice.choice(get_args(Phase)),
        "tracking_no": dice.choice(("", "T1", "T2")),
        "carrier": dice.choice(("", "SF")),
        "place": dice.choice(("", "上海转运中心", *ODD_WORDS)),
        "text": dice.choice(REPLIES),
        "from": dice.choice(("", "", "family", "nobody")),
        "case": dice.choice(("", "stock_short", "parcel_late", "nonsense")),
        "option": dice.choice(("confirm_price", "refund")),
        "score": 3,
    }  # fmt: skip
    wanted = {field.encode_name for field in msgspec.structs.fields(DATA_TYPES[kind])}
    if kind in ("case.acknowledged", "case.resolved", "case.reopened", "case.noted", "case.assigned"):
        wanted.discard("by")
    return {name: value for name, value in values.items() if name in wanted}


def _people(dice: random.Random, name: str, *, varied: bool) -> dict[str, Any]:
    principal = "consignor" if name == "consignment" else "buyer"
    if varied and dice.random() < 0.7:
        return {}
    phone = dice.choice(("+8613800000001", "138 0000 0002", "010-62345678", "")) if varied else "+8613800000001"
    person: dict[str, Any] = {
        "phone": phone,
        "tier": dice.choice(("new", "vip")),
        "locale": dice.choice(("zh-CN", "en")),
    }
    person |= {"frequency": dice.choice(("calm", "normal", "all")), "quiet": "22:00-08:00"}
    if varied:
        person |= {
            "quiet": dice.choice(QUIETS),
            "timezone": dice.choice(ZONES),
            "mute": dice.choice(MUTES),
            "marketing": dice.choice((True, True, False)),
        }
        endpoints = {"app": "app:1", "email": "a@example.com", "wechat": "wx:1"}
        person |= {channel: address for channel, address in endpoints.items() if dice.random() < 0.5}
    else:
        person |= {"mute": dice.choice(([], ["progress"])), "app": "app:1"}
    people = {principal: person}
    if dice.random() < 0.3:
        people["family"] = {"phone": dice.choice(("+8613800000001", "+8613800000003"))}
    return people


def chunks(events: Sequence[Event], size: int) -> Iterator[list[Event]]:
    """The events in batches."""
    rest = iter(events)
    while batch := list(islice(rest, size)):
        yield batch


def hosted(
    events: Sequence[Event], size: int = 500, *, polled: bool = False, silent: frozenset[ChannelName] = frozenset()
) -> MemoryHost:
    """A host that took the events in batches of a size, let time pass in between or not, and then half a year.

    No receipts come from the `silent` channels.
    """
    host = MemoryHost({TENANT: shelf()}, without_receipts=silent)
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
