"""Small pasts for comparisons: a few orders of the small playbook, and contenders with changes to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orderbell.core.events import Event
from orderbell.core.turn import Shelf
from orderbell.insight.comparison import Comparison, compare
from orderbell.insight.recording import Contender
from tests.core import samples

ANN = {"buyer": {"id": "ann", "phone": "+8613812341234", "tier": "vip"}}
BOB = {"buyer": {"id": "bob", "phone": "+8613812341235"}}


@dataclass
class Past:
    """Past orders as a comparison reads them."""

    events: Sequence[Event]
    promises: Mapping[str, datetime] = field(default_factory=dict)
    delivered: Mapping[str, datetime] = field(default_factory=dict)
    late: frozenset[str] = frozenset()

    @property
    def order_count(self) -> int:
        """How many orders there are."""
        return len({event.order_no for event in self.events})

    @property
    def event_count(self) -> int:
        """How many events there are."""
        return len(self.events)


def past(*events: Event) -> Past:
    """Events by time."""
    return Past(sorted(events, key=lambda event: event.received_at))


def paid(no: str, people: Mapping[str, Any], title: str = "") -> list[Event]:
    """An order placed at noon and paid a minute later; its buyer hears of it at two minutes past."""
    return [
        samples.event("order.placed", 0, no=no, name=f"{no}:placed", people=people, title=title, amount_fen=19900),
        samples.event("payment.succeeded", 60, no=no, name=f"{no}:paid", amount_fen=19900),
    ]


def shipped(no: str, at_s: float = 3600) -> Event:
    """The order is handed over; its buyer hears of it a minute later."""
    return samples.event("parcel.shipped", at_s, no=no, name=f"{no}:shipped")


def three_orders() -> Past:
    """Ann orders twice and one of it is shipped: three messages; Bob orders once: one."""
    return past(*paid("A1", ANN, "Scarf"), *paid("A2", ANN), *paid("B1", BOB), shipped("A1"))


def side(label: str = "old", wording: Mapping[str, Any] | None = None, **changes: object) -> Contender:
    """The small playbook with changes, as one side."""
    return Contender(label, Shelf({"small": samples.playbook(wording, **changes)}, "small"))


def compared(history: Past, wording: Mapping[str, Any] | None = None, **changes: object) -> Comparison:
    """The small playbook against itself with changes."""
    return compare(history, side(), side("new", wording, **changes), tenant="acme")


CAP = {"few": {"per": "person", "most": 1, "within": "1d", "mandatory": True}}
