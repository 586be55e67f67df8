"""The contacts of one tenant, read and changed one at a time, with what they agreed to and what they were promised.

A contact's row is also the lock of its queue: while a change holds it no dispatcher plans for that person, and
whoever waits sees what was written. A change is one short transaction over one row, so it never waits in a circle.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TypeAlias

import asyncpg
import msgspec
from msgspec import Struct

from orderbell.core.model import (
    Amends,
    Consent,
    Contact,
    Order,
    Reason,
    decode_contact,
    decode_notice,
    decode_order,
    encode_state,
)  # fmt: skip
from orderbell.core.turn import agree
from orderbell.store import rows
from orderbell.store.postgres import Connection, Store
from orderbell.store.statements import ADD_CONSENTS, CHANGE_CONTACTS, STANDSTILL_S_MAX

HEARD_MAX = 50
"""How many of a person's newest notices are looked at for the order that they answer."""

ASKED_MAX = 10
"""How many of a person's newest orders are looked through for one that waits for an answer."""

Place: TypeAlias = tuple[int, int]
"""A transaction, and a row's place among all."""

_NO_STANDSTILL = f"SET LOCAL idle_in_transaction_session_timeout = '{STANDSTILL_S_MAX}s'"
_FIND = "SELECT contact, body FROM contact WHERE tenant = $1 AND contact = $2"
_LOCK = _FIND + " FOR UPDATE"
_BY_PHONE = "SELECT contact, body FROM contact WHERE tenant = $1 AND phone_key = $2 ORDER BY updated_at DESC, contact"
_CONSENTS = """
SELECT tenant, contact, scope, given, at, source, words FROM consent
WHERE tenant = $1 AND contact = $2 ORDER BY at DESC, source LIMIT $3
"""
_HEARD_BEFORE = "SELECT EXISTS (SELECT FROM consent WHERE tenant = $1 AND contact = $2 AND source = $3)"
# A cursor of a transaction that is yet to come is of the life before a restore (`departures.NOTICE_RESTORE`).
_AMENDS = """
SELECT amends_id, tenant, order_no, contact, kind, value_fen, topic, promised_at, valid_until, xact::text::bigint, place
FROM amends
WHERE tenant = $1 AND xact < pg_snapshot_xmin(pg_current_snapshot()) AND (xact, place) > (
    CASE WHEN $2::text::xid8 < pg_snapshot_xmax(pg_current_snapshot()) THEN $2::text::xid8 ELSE '0' END, $3)
ORDER BY xact, place LIMIT $4
"""
_NOTICES = """
SELECT order_no FROM notice
WHERE tenant = $1 AND contact = ANY ($2::text[]) AND fate IN ('sent', 'merged') AND order_no <> ''
ORDER BY planned_at DESC LIMIT $3
"""
_WAITING = "SELECT notice_id, body FROM queue WHERE tenant = $1 AND contact = ANY ($2::text[])"
# An answer by SMS is one to an SMS, if there was any; what a provider did not take was heard by nobody.
_MESSAGES = """
SELECT m.order_no FROM unnest($3::text[]) AS k (order_no) JOIN message m ON m.tenant = $1 AND m.order_no = k.order_no
WHERE m.contact = ANY ($2::text[]) AND m.status NOT IN ('queued', 'rejected', 'failed')
ORDER BY m.channel <> 'sms', m.told_at DESC
"""
_ORDER = "SELECT state FROM orders WHERE tenant = $1 AND order_no = $2"
_RELEASE = """
UPDATE queue q SET due_at = $3, body = n.body FROM unnest($4::bytea[], $5::bytea[]) AS n (notice_id, body)
WHERE q.tenant = $1 AND q.contact = $2 AND q.notice_id = n.notice_id
"""


class Part(Struct, frozen=True):
    """That a contact has a role in an order."""

    order_no: str
    contact: str
    role: str


class People:
    """The contacts of one tenant.

    Every method raises DatabaseUnavailable when PostgreSQL does not answer, and VaultSealed for a contact that was
    sealed with another secret.
    """

    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._vault, self._tenant = store, store.vault, tenant

    @property
    def index_key(self) -> bytes:
        """The tenant's key of blind indexes."""
        return self._vault.index_key(self._tenant)

    def phone_key(self, number: str) -> bytes:
        """The blind index of a phone in E.164."""
        return rows.phone_key(self.index_key, number)

    async def find(self, name: str) -> Contact | None:
        """The contact of that id."""
        if not _is_storable(name):
            return None
        async with self._store.connection() as connection:
            row = await connection.fetchrow(_FIND, self._tenant, name)
        return self._open(row) if row is not None else None

    async def find_by_phone(self, number: str) -> list[Contact]:
        """Everybody with this phone in E.164, who was heard of last first: the shop may know one person by two ids."""
        async with self._store.connection() as connection:
            found = await connection.fetch(_BY_PHONE, self._tenant, self.phone_key(number))
        return [self._open(row) for row in found]

    async def change(
        self, name: str, change: Callable[[Contact], Contact], at: datetime, source: str, words: str = ""
    ) -> Contact | None:
        """Change a contact; None when there is none of that id.

        `change` sees the contact as it stands, with nobody else at it. When it changes the consent to marketing, a
        record is written beside it with the time, `source` and `words`. When it moves the hours in which the person
        may be reached, what waits for the end of the old ones is planned anew.
        """
        if not _is_storable(name):
            return None
        async with self._transaction() as connection:
            row = await connection.fetchrow(_LOCK, self._tenant, name)
            if row is None:
                return None
            old = self._open(row)
            new = change(old)
            if new != old:
                await self._write(connection, new, at)
            if new.marketing != old.marketing:
                record = Consent(*new.key, "marketing", new.marketing == "yes", at, source, words)
                await connection.execute(ADD_CONSENTS, *rows.consents([record]))
            if (new.quiet, new.timezone) != (old.quiet, old.timezone):
                await self._release(connection, name, at)
            return new

    async def hear(self, name: str, given: bool, at: datetime, source: str, words: str) -> bool:  # noqa: FBT001 - a field of the record
        """Keep a consent or an opt-out that came by SMS, once per `source`; False when it was kept before.

        The record is written even when it says what is known already: it proves when that was said.
        """
        async with self._transaction() as connection:
            row = await connection.fetchrow(_LOCK, self._tenant, name)
            if row is None or await connection.fetchval(_HEARD_BEFORE, self._tenant, name, source):
                return False
            old = self._open(row)
            new = msgspec.structs.replace(agree(old, given, at), states=old.states | {"sms": "verified"})
            if new != old:
                await self._write(connection, new, at)
            await connection.execute(
                ADD_CONSENTS, *rows.consents([Consent(*old.key, "marketing", given, at, source, words)])
            )
            return True

    async def consents(self, name: str, limit: int) -> list[Consent]:
        """What somebody agreed to and opted out of, the newest first."""
        async with self._store.connection() as connection:
            return [Consent(*row) for row in await connection.fetch(_CONSENTS, self._tenant, name, limit)]

    async def amends(self, after: Place, limit: int) -> tuple[list[Amends], Place]:
        """What messages promised, in the order in which it was written, and where to go on reading.

        What is being written at this moment comes next time; nothing is passed over.
        """
        async with self._store.connection() as connection:
            found = await connection.fetch(_AMENDS, self._tenant, str(after[0]), after[1], limit)
        last = found[-1] if found else None
        return [Amends(*row[:9]) for row in found], (last[9], last[10]) if last is not None else after

    async def part_in(self, order_no: str, names: Iterable[str]) -> Part | None:
        """The role that one of these contacts has in an order; None when there is no such order or role."""
        order = await self._order(order_no)
        return _part_of(order, names) if order is not None else None

    async def last_told(self, names: Sequence[str], takes: Callable[[Order], bool] = lambda _: True) -> Part | None:
        """The order that one of these contacts was last told about, by SMS if any was, and their role in it.

        One that `takes` what they said, because it waits for such an answer, comes before newer ones that do not.
        """
        async with self._store.connection() as connection:
            waiting = await connection.fetch(_WAITING, self._tenant, names)
            notices = [notice for notice in (decode_notice(row["body"]) for row in waiting) if notice.tried]
            notices.sort(key=lambda notice: notice.tried[-1].at, reverse=True)
            heard = [row["order_no"] for row in await connection.fetch(_NOTICES, self._tenant, names, HEARD_MAX)]
            orders = list(dict.fromkeys([*(notice.order_no for notice in notices), *heard]))
            told = [row["order_no"] for row in await connection.fetch(_MESSAGES, self._tenant, names, orders)]
        newest: Part | None = None
        for order_no in list(dict.fromkeys([*told, *orders]))[:ASKED_MAX]:
            order = await self._order(order_no)
            part = _part_of(order, names) if order is not None else None
            if order is not None and part is not None and takes(order):
                return part
            newest = newest or part
        return newest

    async def _order(self, order_no: str) -> Order | None:
        if not _is_storable(order_no):
            return None
        async with self._store.connection() as connection:
            state = await connection.fetchval(_ORDER, self._tenant, order_no)
        return decode_order(state) if state is not None else None

    def _open(self, row: asyncpg.Record) -> Contact:
        return decode_contact(self._vault.open(self._tenant, row["contact"], row["body"]))

    async def _write(self, connection: Connection, contact: Contact, at: datetime) -> None:
        await connection.execute(CHANGE_CONTACTS, *rows.contact_columns([contact], at, self._vault))

    async def _release(self, connection: Connection, name: str, at: datetime) -> None:
        """Let what waits for the end of quiet hours be planned at once; the plan finds out if it must wait on."""
        found = await connection.fetch(_WAITING, self._tenant, [name])
        held = [n for n in (decode_notice(row["body"]) for row in found) if n.held == Reason.QUIET_HOURS]
        moved = [(n.id, encode_state(msgspec.structs.replace(n, due_at=at))) for n in held if n.due_at > at]
        if moved:
            await connection.execute(_RELEASE, self._tenant, name, at, *rows.columns(moved, 2))

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with self._store.connection() as connection, connection.transaction():
            await connection.execute(_NO_STANDSTILL)
            yield connection


def _is_storable(text: str) -> bool:
    # PostgreSQL has no U+0000 in its texts, nor half of a character.
    return "\0" not in text and text.encode(errors="replace").decode() == text


def _part_of(order: Order, names: Iterable[str]) -> Part | None:
    wanted = frozenset(names)
    return next((Part(order.no, p.contact, p.role) for p in order.parties if p.contact in wanted), None)
