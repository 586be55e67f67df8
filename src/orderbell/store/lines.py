"""What lists and searches are asked for, and the lines that they answer with. Ids of rows are 32 hexadecimal digits.

Addresses are masked in all of them; moments are aware UTC, money is in 1/100 yuan.
"""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from orderbell.core.events import ChannelName, Frequency, Tier
from orderbell.core.model import CaseKind, CaseState, Lane, Light, Order, Owner, Tone

MessageState = Literal["", "waiting", "sending", "accepted", "delivered", "failed", "rejected", "unknown"]
"""`waiting` are those that wait for a provider (`queued` in the ledger); empty means any."""


class OrderFilter(Struct, frozen=True):
    """Which orders are looked for; empty fields ask for nothing.

    `text` is an order number or how one begins, or at least the last four digits of a phone of somebody in the order.
    `anomaly` is the name of one that is open. `opened_from` is included, `opened_until` is not.
    """

    text: str = ""
    stage: str = ""
    light: Literal["", "red", "yellow", "green"] = ""
    anomaly: str = ""
    playbook: str = ""
    opened_from: datetime | None = None
    opened_until: datetime | None = None


class OrderLine(Struct, frozen=True):
    """An order of a list, as it stands. The parties in it are ids of contacts, without any address."""

    order: Order
    light: Light


class MessageFilter(Struct, frozen=True):
    """Which messages are looked for; empty fields ask for nothing.

    `created_from` (included) and `created_until` (not) speak of when the news arose, not of when it was sent.
    """

    state: MessageState = ""
    channel: str = ""
    topic: str = ""
    provider: str = ""
    order_no: str = ""
    contact: str = ""
    created_from: datetime | None = None
    created_until: datetime | None = None


class MessageLine(Struct, frozen=True, kw_only=True):
    """A message of a list, as the person saw it.

    `created_at` is when the news arose, `told_at` when the message was written, `sending_at` when it was last handed to
    a provider, `settled_at` when its status was last heard, `due_at` when it is tried again or asked about.
    """

    id: str
    order_no: str
    contact: str
    channel: ChannelName
    to: str
    topic: str
    category: str
    lane: Lane
    tone: Tone
    cause: str
    subject: str
    text: str
    status: str
    provider: str
    attempt_no: int
    detail: str
    created_at: datetime
    told_at: datetime
    valid_until: datetime
    sending_at: datetime | None = None
    settled_at: datetime | None = None
    due_at: datetime | None = None


class AttemptLine(Struct, frozen=True):
    """A try that ended without acceptance; a late word on it ends in `_late`."""

    id: str
    attempt_no: int
    provider: str
    outcome: str
    detail: str
    started_at: datetime | None
    ended_at: datetime


class MessageFull(Struct, frozen=True):
    """A message with the tries that failed, the notices that it says, and what providers call it."""

    line: MessageLine
    attempts: list[AttemptLine]
    notices: list[str]
    provider_ref: str
    marketing: bool


class NoticeFilter(Struct, frozen=True):
    """Which notices are looked for; empty fields ask for nothing.

    `fate` is sent, merged, dropped, done or `waiting`; the last are those that no decision was made on yet.
    """

    order_no: str = ""
    contact: str = ""
    topic: str = ""
    fate: Literal["", "waiting", "sent", "merged", "dropped", "done"] = ""


class NoticeLine(Struct, frozen=True, kw_only=True):
    """A notice: what somebody should be told, and what became of it.

    `into` is the notice that said it instead, or that took it back. Of one that waits, `planned_at` is None, `due_at`
    says until when, and `reason` why (empty before the first look at it).
    """

    id: str
    order_no: str
    contact: str
    role: str
    topic: str
    playbook: str
    fate: str
    reason: str
    tone: Tone
    cause: str
    into: str
    created_at: datetime
    due_at: datetime
    tell_by: datetime
    planned_at: datetime | None = None


class CaseFilter(Struct, frozen=True):
    """Which cases are looked for; empty fields ask for nothing, `unresolved` asks for open and acknowledged ones."""

    state: Literal["", "unresolved", "open", "acknowledged", "resolved"] = ""
    owner: str = ""
    kind: str = ""
    order_no: str = ""


class CaseLine(Struct, frozen=True):
    """Work for a person; `staff_told_at` is when a robot told colleagues, None where none has."""

    id: str
    order_no: str
    anomaly: str
    kind: CaseKind
    owner: Owner
    state: CaseState
    opened_at: datetime
    closed_at: datetime | None
    staff_told_at: datetime | None


class PersonLine(Struct, frozen=True):
    """A contact of a list; phone and mail address are masked, empty where there is none."""

    id: str
    phone: str
    email: str
    tier: Tier
    locale: str
    frequency: Frequency
    marketing: Literal["", "yes", "no"]
    order_count: int
    spent_fen: int
    updated_at: datetime
