"""Databases in the middle of their lives: orders that have a history, and news about each of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from bench.scratch import Scratch
from bench.stream import TENANT, VAULT, Cut, Happening, batches, middle_of_lives
from orderbell.core.events import Event
from orderbell.playbooks import shipped_shelf
from orderbell.store.postgres import Store

BATCH = 500
LANES = 2

POLL_S = 0.05
SETTLED_WITHIN_S = 120

_UNSETTLED = """
SELECT EXISTS (SELECT FROM queue WHERE due_at <= now())
    OR EXISTS (SELECT FROM message WHERE status NOT IN ('delivered', 'failed', 'rejected'))
"""


@asynccontextmanager
async def seeded(scratch: Scratch, order_count: int, *, queued: bool) -> AsyncIterator[tuple[str, Cut]]:
    """Make a template with so many orders; gives its name and the stream that it is made from.

    With `queued` the news are decided as well, and what they tell waits in the queue; without, nothing waits.
    """
    shelf = shipped_shelf()
    at = datetime.now(UTC)
    cut = middle_of_lives(order_count, at, shelf)
    name = await scratch.create()
    store = await Store.open(scratch.server.dsn_for(name), VAULT, connections=LANES)
    shelves = {TENANT: shelf}
    await _take(store, cut.history)
    now = datetime.now(UTC)
    while await store.fire_due(shelves, now):
        pass
    await store.pool.execute("TRUNCATE queue")
    if queued:
        await _take(store, cut.news, received_at=now)
    await store.pool.execute("VACUUM ANALYZE")
    await store.close()
    try:
        yield name, cut
    finally:
        await scratch.drop(name)


async def _take(store: Store, happenings: Iterable[Happening], received_at: datetime | None = None) -> None:
    shelves = {TENANT: shipped_shelf()}
    events = (happening.event(received_at) for happening in happenings)
    for group in batches(events, BATCH * LANES):
        parts: list[list[Event]] = [[] for _ in range(LANES)]
        for event in group:
            parts[hash(event.order_no) % LANES].append(event)
        await asyncio.gather(*(store.turn(shelves, part) for part in parts if part))


async def until_settled(fetchval: Callable[[str], Awaitable[object]]) -> None:
    """Wait until nothing is due or under way any more."""
    async with asyncio.timeout(SETTLED_WITHIN_S):
        while await fetchval(_UNSETTLED):  # noqa: ASYNC110 - the others are processes of their own
            await asyncio.sleep(POLL_S)
