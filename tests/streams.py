"""Random streams of valid events: every type, late ones, duplicates, altered ones, shared people; by seed."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from orderbell.core.events import DATA_TYPES, INSIDE_TYPES, Event, encode_json, parse_event

START = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
PHASES = ("picked_up", "in_transit", "out_for_delivery", "attempt_failed", "exception", "delivered", "returned")
REASONS = ("", "余额不足", "carrier.lost", "carrier.damaged", "recipient.refused", "recipient.bad_address")
TYPES = sorted(DATA_TYPES.keys() - INSIDE_TYPES)
REPLIES = (
    "TD", "退订", "订阅", "Y", "1", "2", "3", "延期3天", "查询", "到哪了？", "好的谢谢", "我要投诉", "回Ｔ", "啊啊啊 asdf", "🤔",
    "1 2", "不同意",
)  # fmt: skip
OPTIONS = ("confirm_price", "decline_price", "wait", "exchange", "refund", "resend", "extend")
FAMILIES = 3
"""The people of a family have orders of that family alone, so that two engines never decide about one person at once:
who is first would decide whether they have agreed to advertising, or who is a good customer by then."""

FIRST = {"retail": "order.placed", "digital": "order.placed", "consignment": "item.received"}
Moment = tuple[datetime, list[Event]]


def random_stream(seed: int, tenant: str, *, order_count: int = 24, moment_count: int = 30) -> list[Moment]:
    """Moments in order, each with the events that arrive at it; `tenant` is whose they are."""
    return _Stream(random.Random(seed), tenant, order_count).moments(moment_count)


def cut(events: Sequence[Event], size: int) -> list[list[Event]]:
    """The events in lists of at most `size`."""
    return [list(events[start : start + size]) for start in range(0, len(events), size)]


FREQUENT = ["reply.received"] * 4 + [
    "choice.made",
    "stock.short",
    "stock.restored",
    "payment.succeeded",
    "key.failed",
] * 2
CHANGES: tuple[dict[str, Any], ...] = (
    {"locale": "en"}, {"mute": ["progress:sms"]}, {"mute": []}, {"marketing": False}, {"marketing": True},
    {"quiet": "13:00-15:00"}, {"timezone": "Europe/Berlin"}, {"frequency": "all"}, {"tier": "vip"},
)  # fmt: skip


class _Stream:
    def __init__(self, dice: random.Random, tenant: str, order_count: int) -> None:
        self.dice, self.tenant = dice, tenant
        self.playbooks = {f"N{number}": dice.choice(sorted(FIRST)) for number in range(order_count)}
        self.begun: set[str] = set()
        self.count = 0
        self.past: list[dict[str, Any]] = []

    def moments(self, count: int) -> list[Moment]:
        at = START
        moments: list[Moment] = []
        for _ in range(count):
            at += timedelta(seconds=self.dice.choice((1, 20, 300, 3600, 40_000, 200_000)) * self.dice.random())
            at = at.replace(microsecond=at.microsecond // 1000 * 1000)
            moments.append((at, [self.event(at) for _ in range(self.dice.choice((1, 2, 9, 40)))]))
        return moments

    def event(self, at: datetime) -> Event:
        if self.past and self.dice.random() < 0.15:
            wire = dict(self.dice.choice(self.past))
            if self.dice.random() < 0.2:
                wire["type"] = "order.confirmed"  # another body under the same id
                wire["data"] = {}
        else:
            wire = self.wire(at)
            self.past.append(wire)
        event = parse_event(encode_json(wire), self.tenant, at)
        assert isinstance(event, Event), event
        return event

    def wire(self, at: datetime) -> dict[str, Any]:
        order_no = self.dice.choice(sorted(self.playbooks))
        playbook = self.playbooks[order_no]
        begins = order_no not in self.begun and self.dice.random() < 0.9
        kind = FIRST[playbook] if begins else self.dice.choice(TYPES + FREQUENT)
        data = self.data(kind)
        if begins:
            self.begun.add(order_no)
            data["people"] = self.people(playbook, family_of(order_no))
        elif kind == "contact.changed" and self.dice.random() < 0.8:
            principal = "consignor" if playbook == "consignment" else "buyer"
            data["people"] = {principal: self.dice.choice(CHANGES)}
        self.count += 1
        late = timedelta(seconds=self.dice.choice((0, 0, 0, 30, 90_000)))
        return {
            "id": f"e{self.count}", "source": "stream", "type": kind, "subject": order_no, "time": at - late,
            "data": data, "playbook": playbook,
        }  # fmt: skip

    def people(self, playbook: str, family: int) -> dict[str, Any]:
        principal = "consignor" if playbook == "consignment" else "buyer"
        extra = {"assistant": {"email": "a@example.com"}} if self.dice.random() < 0.2 else {}
        return {principal: _person(self.dice.randrange(6) * FAMILIES + family), **extra}

    def data(self, kind: str) -> dict[str, Any]:  # noqa: C901 - a list of the types, one line each
        dice = self.dice
        name = kind.partition(".")[2]
        fields: dict[str, Any] = {}
        if kind in {"order.placed", "item.received"}:
            fields = {"amount_fen": dice.randrange(1, 900_000), "title": "羊毛围巾", "category": "腕表"}
        elif kind == "order.cancelled":
            fields = {"by": dice.choice(("merchant", "buyer")), "reason": "缺货"}
        elif kind.startswith(("payment.", "refund.", "payout.", "withdrawal.")):
            fields = {"reason": dice.choice(REASONS)} if name == "failed" else {"amount_fen": dice.randrange(1, 99_000)}
        elif kind == "parcel.scanned":
            fields = {
                "phase": dice.choice(PHASES), "reason": dice.choice(REASONS), "place": "杭州",
                "tracking_no": dice.choice(("", "T1", "T2")),
            }  # fmt: skip
        elif kind == "parcel.shipped":
            fields = {"carrier": "SF", "tracking_no": dice.choice(("T1", "T2"))}
        elif kind == "parcel.promised":
            fields = {"by": f"2026-03-{dice.randrange(2, 20):02d}"}
        elif kind == "item.expiring":
            fields = {"until": "2026-03-09"}
        elif kind in {"item.price_proposed", "item.price_changed", "item.offer", "item.sold"}:
            fields = {"price_fen": dice.randrange(1, 9_000_000)}
        elif kind == "choice.made":
            fields = {"option": dice.choice(OPTIONS)}
        elif kind == "reply.received":
            fields = {"text": dice.choice(REPLIES), "from": dice.choice(("", "", "buyer", "consignor", "nobody"))}
        elif kind.startswith("case."):
            fields = {"case": dice.choice(("", "stock_short", "complaint"))}
        elif kind.startswith("stock."):
            fields = {"sku": "A1", "title": "羊毛围巾"}
        return fields


def family_of(order_no: str) -> int:
    """Which of the `FAMILIES` an order belongs to."""
    return sum(order_no.encode()) % FAMILIES


def _person(number: int) -> dict[str, Any]:
    # The same person has the same wishes in every order. A third of them get their tier from the playbook.
    dice = random.Random(number)
    person: dict[str, Any] = {
        "phone": f"+861380000{number:04d}",
        "locale": dice.choice(("zh-CN", "en")),
        "quiet": dice.choice(("", "", "22:00-08:00")),
        "frequency": dice.choice(("calm", "normal", "all")),
        "mute": dice.choice(([], [], ["progress"], ["progress:push"], ["transaction:sms", "browse"])),
    }
    for name, values in (
        ("email", ("", "", f"m{number}@example.com")), ("app", ("", f"app-device-{number:04d}")),
        ("wechat", ("", f"openid-wechat-{number:04d}")), ("tier", ("new", "regular", "vip", "", "", "new")),
        ("marketing", ("", True, True, False)),
    ):  # fmt: skip
        value = dice.choice(values)
        if value != "":
            person[name] = value
    return person
