"""One order as it stands, with its people, and the lines of its journal in pages: what happened, and what was decided.

Of an event nothing personal is read (`orderbell.store.dossier`).
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import asyncpg
import msgspec
from msgspec import Struct

from orderbell.core.model import Contact, Effect, Order, decode_contact, decode_order
from orderbell.store.dossier import Detail
from orderbell.store.pages import Page, cursor_of, is_storable, moment, read_cursor, within
from orderbell.store.postgres import Connection, Store

_FIND: Final = "SELECT state FROM orders WHERE tenant = $1 AND order_no = $2"
_CONTACTS: Final = "SELECT contact, body FROM contact WHERE tenant = $1 AND contact = ANY ($2::text[])"
_EXISTS: Final = "SELECT EXISTS (SELECT FROM orders WHERE tenant = $1 AND order_no = $2)"
# the first condition is what the index knows
_LINES: Final = """
SELECT at, version, type, source, event_id, verdict, stage, event, decision FROM journal
WHERE tenant = $1 AND order_no = $2 AND version >= $3 AND (version, at, source, event_id) > ($3, $4, $5, $6)
ORDER BY version, at, source, event_id LIMIT $7
"""
_FIRST: Final = (-1, 0, "", "")


class _Said(Struct, frozen=True):
    data: Detail = Detail()


_decode_effects = msgspec.json.Decoder(tuple[Effect, ...]).decode
_decode_said = msgspec.json.Decoder(_Said).decode


class JournalLine(Struct, frozen=True):
    """An event of an order, and what was decided on it; `version` and `stage` are the order's afterwards."""

    at: datetime
    version: int
    type: str
    source: str
    event_id: str
    verdict: str
    stage: str
    data: Detail
    effects: tuple[Effect, ...]


_VERSION_MAX = 2**31 - 1  # what the column takes


class Timeline:
    """The orders of one tenant, one at a time. Every method raises DatabaseUnavailable as all reads do."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._vault, self._tenant = store, store.vault, tenant

    async def order(self, order_no: str) -> tuple[Order, dict[str, Contact]] | None:
        """An order and the contacts in it, by id; None where the tenant has none of this number."""
        if not is_storable(order_no):
            return None
        async with self._store.connection() as connection:
            state = await connection.fetchval(_FIND, self._tenant, order_no)
            if state is None:
                return None
            order = decode_order(state)
            return order, await self._contacts(connection, {party.contact for party in order.parties})

    async def lines(self, order_no: str, after: str = "", limit: int = 50) -> Page[JournalLine] | None:
        """What happened to an order, the oldest first; None where the tenant has none of this number.

        Raises:
            ValueError: Nobody here has made this cursor.
        """
        key = read_cursor(after, tuple[int, int, str, str]) or _FIRST
        limit = within(limit)
        if abs(key[0]) > _VERSION_MAX:
            raise ValueError("cursor")
        if not is_storable(order_no):
            return None
        values = (key[0], moment(key[1]), key[2], key[3], limit + 1)
        async with self._store.connection() as connection:
            found = await connection.fetch(_LINES, self._tenant, order_no, *values)
            if not found and not await connection.fetchval(_EXISTS, self._tenant, order_no):
                return None
        lines = [_line(row) for row in found[:limit]]
        if len(found) <= limit:
            return Page(lines)
        last = lines[-1]
        return Page(lines, cursor_of(last.version, last.at, last.source, last.event_id))

    async def _contacts(self, connection: Connection, names: Iterable[str]) -> dict[str, Contact]:
        rows = await connection.fetch(_CONTACTS, self._tenant, list(names))
        return {row[0]: decode_contact(self._vault.open(self._tenant, row[0], row[1])) for row in rows}


def _line(row: asyncpg.Record) -> JournalLine:
    return JournalLine(
        row["at"], row["version"], row["type"], row["source"], row["event_id"], row["verdict"], row["stage"],
        _decode_said(row["event"]).data, _decode_effects(row["decision"]),
    )  # fmt: skip
