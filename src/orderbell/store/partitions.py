"""The journal's partitions: one per month of UTC, named `journal_yYYYYmMM`, so that old months go by a quick drop."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TypeAlias

import asyncpg
import asyncpg.pool

from orderbell.store.statements import JOURNAL_PARTITIONS

# Any two processes that change the database's shape use the same number. Spells "bell".
SHAPE_LOCK = 0x62656C6C

Month = tuple[int, int]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


def month_of(at: datetime) -> Month:
    """Return the month of an instant as (year, month) of UTC."""
    at = at.astimezone(UTC)
    return at.year, at.month


def months_between(first: datetime, last: datetime) -> Iterator[Month]:
    """Yield every month from the first instant's to the last one's, both included."""
    year, month = month_of(first)
    end = month_of(last)
    while (year, month) <= end:
        yield year, month
        year, month = _next(year, month)


def partition_name(month: Month) -> str:
    """Return the name of a month's partition."""
    return f"journal_y{month[0]:04}m{month[1]:02}"


async def create_partitions(connection: Connection, months: list[Month]) -> None:
    """Create the months that are not there, in a transaction of their own.

    A new table is attached, not created as a partition: attaching leaves the writers of the journal alone.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", SHAPE_LOCK)
        there = {row["relname"] for row in await connection.fetch(JOURNAL_PARTITIONS)}
        for month in months:
            name = partition_name(month)
            if name not in there:
                first, after = _first_day(*month), _first_day(*_next(*month))
                await connection.execute(
                    f"CREATE TABLE {name} (LIKE journal INCLUDING DEFAULTS INCLUDING STORAGE);"
                    f"ALTER TABLE journal ATTACH PARTITION {name} FOR VALUES FROM ('{first}') TO ('{after}')"
                )


def _next(year: int, month: int) -> Month:
    return (year + month // 12, month % 12 + 1)


def _first_day(year: int, month: int) -> str:
    return f"{year:04}-{month:02}-01 00:00:00+00"
