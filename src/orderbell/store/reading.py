"""Reads for people and reports: always of one tenant, never in the way of a turn."""

from collections.abc import AsyncIterator

import asyncpg

from orderbell.core.model import Message, Order, decode_message, decode_order
from orderbell.store.postgres import Store

_CHUNK = 5000


class Reader:
    """What stands in the database of one tenant."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._pool, self._vault, self._tenant = store.pool, store.vault, tenant

    async def orders(self) -> AsyncIterator[Order]:
        """Every order, by number."""
        async for row in self._rows("SELECT state FROM orders WHERE tenant = $1 ORDER BY order_no"):
            yield decode_order(row[0])

    async def messages(self) -> AsyncIterator[Message]:
        """Every message, in the order in which they were told."""
        query = "SELECT message_id, body FROM message WHERE tenant = $1 ORDER BY told_at, message_id"
        async for name, body in self._rows(query):
            yield decode_message(self._vault.open(self._tenant, name, body))

    async def order(self, order_no: str) -> Order | None:
        """One order."""
        query = "SELECT state FROM orders WHERE tenant = $1 AND order_no = $2"
        state = await self._pool.fetchval(query, self._tenant, order_no)
        return decode_order(state) if state is not None else None

    async def anomaly_counts(self) -> dict[str, int]:
        """How many anomalies of each kind there have been."""
        return await self._counts("SELECT name, count(*) FROM anomaly WHERE tenant = $1 GROUP BY 1")

    async def message_statuses(self) -> dict[str, int]:
        """How many messages stand at each status."""
        return await self._counts("SELECT status, count(*) FROM message WHERE tenant = $1 GROUP BY 1")

    async def fate_counts(self) -> dict[str, int]:
        """What became of the notices: `fate:reason` and how many."""
        return await self._counts("SELECT fate || ':' || reason, count(*) FROM notice WHERE tenant = $1 GROUP BY 1")

    async def case_count(self) -> int:
        """How many cases there have been."""
        count: int = await self._pool.fetchval("SELECT count(*) FROM cases WHERE tenant = $1", self._tenant)
        return count

    async def step_count(self) -> int:
        """How many lines the journal has."""
        count: int = await self._pool.fetchval("SELECT count(*) FROM journal WHERE tenant = $1", self._tenant)
        return count

    async def _counts(self, query: str) -> dict[str, int]:
        return {row[0]: row[1] for row in await self._pool.fetch(query, self._tenant)}

    async def _rows(self, query: str) -> AsyncIterator[asyncpg.Record]:
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            async for row in connection.cursor(query, self._tenant, prefetch=_CHUNK):
                yield row
