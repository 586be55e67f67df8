"""The floor under the engine: the statements of its turns, recorded with their arrays, sent again without any logic."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, cast

import asyncpg

from orderbell.store.postgres import Store

Call = tuple[str, tuple[Any, ...], dict[str, Any]]


class Tape:
    """A pool that writes down what was committed through it, by the lane (the task) that sent it."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool
        self.lanes: dict[object, list[list[Call]]] = {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the pool has
        return getattr(self._pool, name)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        """Lend a connection that is listened to."""
        async with self._pool.acquire() as connection:
            yield _Tapped(connection, self.lanes.setdefault(asyncio.current_task(), []))

    @property
    def transactions(self) -> list[list[list[Call]]]:
        """The transactions of each lane, in their order."""
        return [lane for lane in self.lanes.values() if lane]


class _Tapped:
    def __init__(self, connection: Any, lane: list[list[Call]]) -> None:  # noqa: ANN401 - asyncpg's proxy
        self._connection, self._lane = connection, lane
        self._calls: list[Call] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the connection has
        return getattr(self._connection, name)

    async def execute(self, statement: str, *arguments: object) -> str:
        """Write down and do."""
        self._calls.append(("execute", (statement, *arguments), {}))
        status: str = await self._connection.execute(statement, *arguments)
        if statement == "COMMIT":
            self._lane.append(self._calls)
        return status

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Write down and do."""
        self._calls.append(("fetch", (statement, *arguments), {}))
        return cast("list[asyncpg.Record]", await self._connection.fetch(statement, *arguments))

    async def copy_records_to_table(
        self, table: str, *, records: Iterable[Sequence[object]], columns: Sequence[str]
    ) -> str:
        """Write down and do."""
        lines = list(records)
        self._calls.append(("copy_records_to_table", (table,), {"records": lines, "columns": columns}))
        return cast("str", await self._connection.copy_records_to_table(table, records=lines, columns=columns))


def tapped(store: Store) -> tuple[Store, Tape]:
    """A store whose transactions are written down."""
    tape = Tape(store.pool)
    return Store(store.dsn, cast("asyncpg.Pool[asyncpg.Record]", tape), store.vault), tape


async def play(store: Store, lanes: list[list[list[Call]]], first_at: datetime, last_at: datetime) -> None:
    """Send recorded transactions again, each lane over a connection of its own."""
    await store.ensure_partitions(first_at, last_at)

    async def one(lane: list[list[Call]]) -> None:
        async with store.pool.acquire() as connection:
            for transaction in lane:
                for method, arguments, named in transaction:
                    await getattr(connection, method)(*arguments, **named)

    await asyncio.gather(*map(one, lanes))
