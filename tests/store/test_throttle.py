"""The throttle lets through what it may, in any window and over all processes, and tells nobody what it counted."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orderbell.store.postgres import Store
from orderbell.store.throttle import SWEEP_EVERY, Throttle
from orderbell.store.vault import Vault
from tests.dispatch.rig import Clock

WINDOW = timedelta(minutes=15)


async def test_take_up_to_the_limit(store: Store) -> None:
    """The limit must be let through, the next told when to come again, and let through then."""
    clock = Clock()
    throttle = Throttle(store, clock)
    for _ in range(5):
        assert await throttle.take("name", "ann", 5, WINDOW) == 0
        clock.turn(60)
    wait_s = await throttle.take("name", "ann", 5, WINDOW)
    assert wait_s == 600  # the first of the five counts for ten more minutes
    clock.turn(wait_s - 1)
    assert await throttle.take("name", "ann", 5, WINDOW) == 1
    clock.turn(1)
    assert await throttle.take("name", "ann", 5, WINDOW) == 0
    assert await throttle.take("name", "ann", 5, WINDOW) == 60


async def test_keys_and_scopes_are_apart(store: Store) -> None:
    """One name's tries must not count for another, nor for the same name elsewhere."""
    throttle = Throttle(store, Clock())
    assert await throttle.take("name", "ann", 1, WINDOW) == 0
    assert await throttle.take("name", "bob", 1, WINDOW) == 0
    assert await throttle.take("address", "ann", 1, WINDOW) == 0
    assert await throttle.take("name", "ann", 1, WINDOW) > 0
    await throttle.forget("name", "ann")
    assert await throttle.take("name", "ann", 1, WINDOW) == 0


async def test_take_by_many_at_once(store: Store) -> None:
    """Of many tries at the same time, over several processes, no more than the limit may pass."""
    throttles = [Throttle(store, Clock()) for _ in range(3)]
    waits = await asyncio.gather(*(throttles[n % 3].take("name", "ann", 5, WINDOW) for n in range(60)))
    assert sum(wait == 0 for wait in waits) == 5


async def test_refused_tries_do_not_prolong_the_wait(store: Store) -> None:
    """Whoever keeps trying must wait no longer than who does not."""
    clock = Clock()
    throttle = Throttle(store, clock)
    assert await throttle.take("name", "ann", 1, WINDOW) == 0
    for _ in range(9):
        clock.turn(60)
        assert await throttle.take("name", "ann", 1, WINDOW) > 0
    clock.turn(360)
    assert await throttle.take("name", "ann", 1, WINDOW) == 0


async def test_nothing_readable_is_stored(store: Store) -> None:
    """What is counted must not stand in the database, not even as a plain hash, and goes away when it counts no more."""
    clock = Clock()
    throttle = Throttle(store, clock)
    for number in range(SWEEP_EVERY - 1):
        await throttle.take("address", f"192.0.2.{number}", 5, WINDOW)
    rows = await store.pool.fetch("SELECT scope, key_hash FROM throttle")
    assert len(rows) == SWEEP_EVERY - 1
    assert not any(b"192.0.2" in row["key_hash"] for row in rows)
    clock.turn(16 * 60)
    await throttle.take("address", "198.51.100.1", 5, WINDOW)
    assert await store.pool.fetchval("SELECT count(*) FROM throttle") == 1


async def test_limit_that_makes_no_sense(store: Store) -> None:
    """A limit of nothing, or of more than can be remembered, is a mistake of the caller."""
    for limit in (0, 1001):
        with pytest.raises(ValueError, match="a limit is"):
            await Throttle(store, Clock()).take("name", "ann", limit, WINDOW)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(min_value=0, max_value=400), min_size=1, max_size=40), st.integers(1, 4))
def test_no_window_holds_more_than_the_limit(database: str, pauses_s: list[int], limit: int) -> None:
    """However tries are spread, no 15 minutes may see more than the limit pass, and no try that fits is refused."""
    asyncio.run(_check_law(database, pauses_s, limit))


async def _check_law(database: str, pauses_s: list[int], limit: int) -> None:
    store = await Store.open(database, Vault(bytes(32)))
    try:
        clock, passed = Clock(), list[datetime]()
        throttle, key = Throttle(store, clock), str(datetime.now(UTC).timestamp())
        for pause_s in pauses_s:
            clock.turn(pause_s)
            now = clock()
            free = sum(at > now - WINDOW for at in passed) < limit
            wait_s = await throttle.take("law", key, limit, WINDOW)
            assert (wait_s == 0) == free
            if free:
                passed.append(now)
            else:
                assert sorted(passed)[-limit] + WINDOW <= now + timedelta(seconds=wait_s)
    finally:
        await store.close()
