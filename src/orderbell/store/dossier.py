"""All that is on record about one order or one person, read for somebody who asks why.

One snapshot for all tables: a notice on its way from the queue to its fate is seen once, in one place. Every read is
of one tenant and goes by an index; what a person was told is opened here, their addresses come with the contact.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime

import msgspec
from msgspec import Struct

from orderbell.core.model import (
    Consent,
    Contact,
    Effect,
    Message,
    Notice,
    Order,
    decode_contact,
    decode_message,
    decode_notice,
    decode_order,
)  # fmt: skip
from orderbell.store.pages import is_storable
from orderbell.store.postgres import Connection, Store

STEPS_MAX = 2000
"""The most lines of the journal that are read of one order: its newest."""

_ORDER = "SELECT state FROM orders WHERE tenant = $1 AND order_no = $2"
_ORDERS = "SELECT state FROM orders WHERE tenant = $1 AND order_no = ANY ($2::text[])"
_STEPS = """
SELECT at, verdict, stage, event, decision FROM journal WHERE tenant = $1 AND order_no = $2
ORDER BY version DESC, at DESC LIMIT $3
"""
_SETTLED = "SELECT notice_id, fate, reason, into_id, planned_at, body FROM notice WHERE tenant = $1"
_SETTLED_OF_ORDER = f"{_SETTLED} AND order_no = $2"
_SETTLED_BY_ID = f"{_SETTLED} AND notice_id = ANY ($2::bytea[])"
_SETTLED_OF_CONTACT = f"""
{_SETTLED} AND contact = $2 AND fate <> 'done' AND ($3 = '' OR topic = $3) ORDER BY planned_at DESC LIMIT $4
"""
_WAITING = "SELECT body FROM queue WHERE tenant = $1 AND contact = ANY ($2::text[])"
# The attempt is the live one: what came of it stands in its own row where it ended without acceptance.
_POSTED = """
SELECT m.message_id, m.body, m.status, m.attempt_no, m.sending_at, m.settled_at, m.due_at, t.outcome, m.provider
FROM message m LEFT JOIN attempt t ON t.tenant = m.tenant AND t.attempt_id = m.attempt_id
WHERE m.tenant = $1 AND m.order_no = ANY ($2::text[])
"""
_CONTACTS = "SELECT contact, body FROM contact WHERE tenant = $1 AND contact = ANY ($2::text[])"
_CONSENTS = "SELECT * FROM consent WHERE tenant = $1 AND contact = ANY ($2::text[]) ORDER BY at"

_decode_effects = msgspec.json.Decoder(tuple[Effect, ...]).decode


class Detail(Struct, frozen=True):
    """The part of an event's data that explains something; nothing of it is personal."""

    reason: str = ""
    phase: str = ""
    option: str = ""
    name: str = ""
    outcome: str = ""


class _Said(Struct, frozen=True):
    type: str
    data: Detail = Detail()


_decode_said = msgspec.json.Decoder(_Said).decode


class Step(Struct, frozen=True):
    """A line of the journal: what happened to the order, and what was decided on it."""

    at: datetime
    type: str
    data: Detail
    verdict: str
    stage: str
    effects: tuple[Effect, ...]


class Settled(Struct, frozen=True):
    """A notice and its last fate; `into` is the id of the notice that said it, or that took it back."""

    notice: Notice
    fate: str
    reason: str
    at: datetime
    into: bytes = b""


class Posted(Struct, frozen=True):
    """A message and what came of it; `outcome` is the provider's last word where it was not taken."""

    message: Message
    status: str
    attempt_no: int = 1
    sending_at: datetime | None = None
    settled_at: datetime | None = None
    due_at: datetime | None = None
    outcome: str = ""
    provider: str = ""


class Dossier(Struct, frozen=True):
    """The facts about one order, or about one person; `settled` holds besides what its notices refer to."""

    orders: dict[str, Order]
    contacts: dict[str, Contact]
    steps: tuple[Step, ...] = ()
    settled: tuple[Settled, ...] = ()
    waiting: tuple[Notice, ...] = ()
    posted: tuple[Posted, ...] = ()
    consents: tuple[Consent, ...] = ()
    referred: tuple[Settled, ...] = ()


class Archive:
    """What is on record of one tenant. Every read raises DatabaseUnavailable where PostgreSQL does not answer."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._vault, self._tenant = store, store.vault, tenant

    async def of_order(self, order_no: str) -> Dossier | None:
        """All about an order; None where the tenant has none of this number."""
        if not is_storable(order_no):
            return None
        async with self._snapshot() as connection:
            state = await connection.fetchval(_ORDER, self._tenant, order_no)
            if state is None:
                return None
            order = decode_order(state)
            rows = await connection.fetch(_STEPS, self._tenant, order_no, STEPS_MAX)
            steps = tuple(read_step(*row) for row in reversed(rows))
            settled = [_settled(*row) for row in await connection.fetch(_SETTLED_OF_ORDER, self._tenant, order_no)]
            names = {party.contact for party in order.parties} | {one.notice.contact for one in settled}
            waiting = [n for n in await self._waiting(connection, names) if n.order_no == order_no]
            return Dossier(
                {order_no: order}, await self._contacts(connection, names), steps, tuple(settled), tuple(waiting),
                await self._posted(connection, [order_no]), await self._consents(connection, names),
                await self._referred(connection, settled),
            )  # fmt: skip

    async def of_contact(self, contact: str, topic: str = "", limit: int = 50) -> Dossier | None:
        """What a person was told of late, or not, the last `limit` notices; None where the tenant knows nobody so."""
        if not is_storable(contact):
            return None
        topic = topic.replace("\0", "\ufffd")  # which no topic holds either
        async with self._snapshot() as connection:
            people = await self._contacts(connection, [contact])
            if not people:
                return None
            rows = await connection.fetch(_SETTLED_OF_CONTACT, self._tenant, contact, topic, limit)
            settled = [_settled(*row) for row in reversed(rows)]
            waiting = [n for n in await self._waiting(connection, [contact]) if not topic or n.topic == topic]
            numbers = sorted({one.notice.order_no for one in settled} | {notice.order_no for notice in waiting})
            states = await connection.fetch(_ORDERS, self._tenant, numbers)
            orders = {order.no: order for order in (decode_order(row[0]) for row in states)}
            return Dossier(
                orders, people, (), tuple(settled), tuple(waiting), await self._posted(connection, numbers),
                await self._consents(connection, [contact]), await self._referred(connection, settled),
            )  # fmt: skip

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Connection]:
        async with (
            self._store.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    async def _referred(self, connection: Connection, settled: Iterable[Settled]) -> tuple[Settled, ...]:
        """What the notices refer to."""
        known = list(settled)
        ids = {one.into for one in known if one.into} - {one.notice.id for one in known}
        rows = await connection.fetch(_SETTLED_BY_ID, self._tenant, list(ids)) if ids else []
        return tuple(_settled(*row) for row in rows)

    async def _waiting(self, connection: Connection, contacts: Iterable[str]) -> list[Notice]:
        rows = await connection.fetch(_WAITING, self._tenant, list(contacts))
        return [notice for notice in (decode_notice(row[0]) for row in rows) if not notice.withdraws]

    async def _posted(self, connection: Connection, order_nos: list[str]) -> tuple[Posted, ...]:
        made = []
        for name, body, status, attempt_no, sending_at, settled_at, due_at, outcome, provider in await connection.fetch(
            _POSTED, self._tenant, order_nos
        ):
            message = decode_message(self._vault.open(self._tenant, name, body))
            made.append(Posted(message, status, attempt_no, sending_at, settled_at, due_at, outcome or "", provider))
        return tuple(sorted(made, key=lambda one: (one.message.told_at, one.message.id)))

    async def _contacts(self, connection: Connection, names: Iterable[str]) -> dict[str, Contact]:
        rows = await connection.fetch(_CONTACTS, self._tenant, list(names))
        return {row[0]: decode_contact(self._vault.open(self._tenant, row[0], row[1])) for row in rows}

    async def _consents(self, connection: Connection, names: Iterable[str]) -> tuple[Consent, ...]:
        rows = await connection.fetch(_CONSENTS, self._tenant, list(names))
        return tuple(Consent(**dict(row)) for row in rows)


def _settled(_name: bytes, fate: str, reason: str, into: bytes | None, at: datetime, body: bytes) -> Settled:
    return Settled(decode_notice(body), fate, reason, at, into or b"")


def read_step(at: datetime, verdict: str, stage: str, event: bytes, decision: bytes) -> Step:
    """A line of the journal as it stands there; of the event nothing personal is read."""
    said = _decode_said(event)
    return Step(at, said.type, said.data, verdict, stage, _decode_effects(decision))
