"""What the tests of security count in place of the clock on the wall: statements of the database, and ranks.

A machine that is busy with something else makes a span longer, but neither a statement more nor one rank higher.
"""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from asyncpg.connection import LoggedQuery

from orderbell.store.postgres import Store

_OF_THE_DRIVER = ("typeinfo_tree", "'jit'")  # which learns of a type when a connection first meets it


@asynccontextmanager
async def statements(store: Store) -> AsyncIterator[list[str]]:
    """Every statement that the store runs meanwhile, in order, on whatever connection of its pool."""
    noted: list[str] = []

    def note(query: LoggedQuery) -> None:
        if not any(sign in query.query for sign in _OF_THE_DRIVER):
            noted.append(query.query)

    async with AsyncExitStack() as held:
        count = store.pool.get_max_size()
        all_of_them = [await held.enter_async_context(store.pool.acquire()) for _ in range(count)]
        for connection in all_of_them:
            connection.add_query_logger(note)
    try:
        yield noted
    finally:
        async with AsyncExitStack() as held:
            for _ in range(count):
                (await held.enter_async_context(store.pool.acquire())).remove_query_logger(note)


def rank_distance(one: Sequence[float], other: Sequence[float]) -> float:
    """How far two samples differ by their ranks, in standard deviations (Mann and Whitney, 1947).

    Of samples that are alike, one in 20 pairs is beyond 2, one in a billion beyond 6.
    """
    values = sorted((*one, *other))
    first: dict[float, int] = {}
    last: dict[float, int] = {}
    for rank, value in enumerate(values, 1):
        first.setdefault(value, rank)
        last[value] = rank
    ranks = sum((first[value] + last[value]) / 2 for value in one)
    expected = len(one) * (len(values) + 1) / 2
    return (ranks - expected) / math.sqrt(len(one) * len(other) * (len(values) + 1) / 12)
