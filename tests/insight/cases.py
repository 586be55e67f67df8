"""Dossiers for the tests of explanations: real decisions and plans in memory, as the database would have kept them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from orderbell.core.events import ChannelName, Event, encode_json, parse_event, wire_of
from orderbell.core.model import Message
from orderbell.core.turn import Shelf
from orderbell.playbooks import shipped_shelf
from orderbell.store.dossier import Dossier, Posted, Settled, read_step
from orderbell.store.memory import MemoryHost

TENANT = "acme"
START = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)  # 10:00 in Shanghai, a Sunday
PHONE = "+8613800138000"
Moment = tuple[str, str, dict[str, Any]]


@lru_cache(maxsize=1)
def shelf() -> Shelf:
    """The shipped playbooks, read once."""
    return shipped_shelf()


def event(
    kind: str,
    at: datetime,
    data: Mapping[str, Any],
    playbook: str = "retail",
    *,
    no: str = "A1001",
    tenant: str = TENANT,
) -> Event:
    """An event as intake reads it."""
    wire = {"id": f"{kind}@{at}", "source": "shop", "type": kind, "subject": no, "time": at, "data": dict(data)}
    parsed = parse_event(encode_json(wire | {"playbook": playbook}), tenant, at)
    assert isinstance(parsed, Event), parsed
    return parsed


class Case:
    """An order that lives in memory; what is told of it becomes a dossier."""

    def __init__(
        self,
        playbook: str = "retail",
        *,
        start: datetime = START,
        without_receipts: frozenset[ChannelName] = frozenset(),
        channels: frozenset[ChannelName] = frozenset({"sms", "email", "push", "wechat", "inbox"}),
        **wishes: object,
    ) -> None:
        self.host = MemoryHost({TENANT: shelf()}, without_receipts=without_receipts, channels=channels)
        self.playbook, self.now, self.without_receipts = playbook, start, without_receipts
        self.settled: list[Settled] = []
        self.person: dict[str, object] = {"phone": PHONE, **wishes}
        role = "consignor" if playbook == "consignment" else "buyer"
        first = "item.received" if playbook == "consignment" else "order.placed"
        self.happens(first, people={role: self.person}, amount_fen=19900)

    def happens(self, kind: str, **data: object) -> "Case":
        """Something happens now."""
        answers = self.host.feed([event(kind, self.now, data, self.playbook)])
        assert answers[0].status == "accepted", answers
        return self

    def later(self, **span: float) -> "Case":
        """Time passes; what is told and settled meanwhile is noted with its moment."""
        until = self.now + timedelta(**span)
        while (at := self.host.next_due_at()) is not None and at <= until:
            known = len(self.host.fates)
            self.host.advance(at)
            new = self.host.fates[known:]
            self.settled += [Settled(fate.notice, fate.kind, fate.reason, at, fate.into) for fate in new]
        self.now = until
        return self

    def dossier(self) -> Dossier:
        """What the database would give."""
        host = self.host
        waiting = [n for notices in host.queue.values() for n in notices.values() if not n.withdraws]
        steps = [
            read_step(entry.at, entry.verdict, entry.stage, encode_json(wire_of(entry.event)), entry.decision)
            for entry in host.journal
        ]
        return Dossier(
            {order.no: order for order in host.orders.values()},
            {contact.id: contact for contact in host.contacts.values()}, tuple(steps), tuple(self.settled),
            tuple(waiting), tuple(self.posted(message) for message in host.messages), tuple(host.consents),
        )  # fmt: skip

    def posted(self, message: Message) -> Posted:
        """A message that arrived after three seconds, where its channel gives receipts."""
        at = message.told_at
        if message.channel == "inbox":
            return Posted(message, "delivered", 1, at, at)
        if message.channel in self.without_receipts:
            return Posted(message, "accepted", 1, at)
        return Posted(message, "delivered", 1, at, at + timedelta(seconds=3))


def changed(value: Any, **changes: object) -> Any:  # noqa: ANN401 - any struct
    """A struct with other values."""
    return msgspec.structs.replace(value, **changes)
