"""What all processes share about a provider: one token for all, fetched once, and grants that are never overdrawn."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from orderbell.errors import OrderBellError, VaultSealed
from orderbell.store.postgres import Store
from orderbell.store.sharing import SharedByAll
from orderbell.store.vault import Vault
from tests.database import VAULT
from tests.dispatch.rig import Clock


@dataclass(frozen=True)
class Token:
    """A token as channels make it."""

    value: str
    good_until: datetime


class Desk:
    """Where tokens are fetched: counts, and may be kept waiting or fail."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.fetched, self.failures = clock, 0, list[Exception]()
        self.open, self.asked = asyncio.Event(), asyncio.Event()
        self.open.set()

    async def fetch(self) -> Token:
        """Give the next token, good for an hour."""
        self.asked.set()
        await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.fetched += 1
        return Token(f"token-{self.fetched}", self.clock() + timedelta(hours=1))


@dataclass
class Two:
    """Two processes on one database."""

    left: SharedByAll
    right: SharedByAll
    store: Store
    clock: Clock
    desk: Desk

    def third(self, provider: str = "wx") -> SharedByAll:
        """Another process, or another provider."""
        return SharedByAll(self.store, provider, self.clock)


@pytest.fixture
async def two(database: str) -> AsyncIterator[Two]:
    """Two stores, as two processes have them."""
    clock = Clock()
    stores = [await Store.open(database, VAULT) for _ in range(2)]
    left, right = (SharedByAll(store, "wx", clock) for store in stores)
    yield Two(left, right, stores[0], clock, Desk(clock))
    for store in stores:
        await store.close()


async def test_token_is_fetched_once(two: Two) -> None:
    """However many tasks of however many processes ask, one of them must fetch and all must get the same."""
    given = await asyncio.gather(*(who.token(two.desk.fetch) for who in (two.left, two.right) * 20))
    assert set(given) == {"token-1"}
    assert two.desk.fetched == 1
    assert await two.third().token(two.desk.fetch) == "token-1"


async def test_token_that_is_over(two: Two) -> None:
    """A token whose time is over must be fetched again, by one."""
    await two.left.token(two.desk.fetch)
    two.clock.turn(3600)
    given = await asyncio.gather(*(who.token(two.desk.fetch) for who in (two.left, two.right) * 5))
    assert set(given) == {"token-2"}
    assert two.desk.fetched == 2


async def test_stale_token_is_renewed_once(two: Two) -> None:
    """When the provider refuses the token everywhere at once, one process must renew it and all must get the new one."""
    for who in (two.left, two.right):
        await who.token(two.desk.fetch)
    given = await asyncio.gather(*(who.token(two.desk.fetch, "token-1") for who in (two.left, two.right) * 10))
    assert set(given) == {"token-2"}
    assert two.desk.fetched == 2


async def test_stale_token_of_long_ago(two: Two) -> None:
    """Who comes late with an old token must get the one that is good now, without another fetch."""
    await two.left.token(two.desk.fetch)
    await two.right.token(two.desk.fetch)
    assert await two.right.token(two.desk.fetch, "token-1") == "token-2"
    assert await two.left.token(two.desk.fetch, "token-1") == "token-2"
    assert two.desk.fetched == 2


async def locks(two: Two, condition: str = "true") -> int:
    """How many locks are held or waited for."""
    return int(
        await two.store.pool.fetchval(f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND {condition}")
    )


async def until_one_waits(two: Two) -> None:
    """Look until a process waits for the lock of another one."""
    async with asyncio.timeout(10):
        while True:
            if await locks(two, "NOT granted"):
                return


async def test_token_is_taken_from_whoever_waited_before(two: Two) -> None:
    """A task that waited for another one of its own process must not ask the database again."""
    two.desk.open.clear()
    tasks = [asyncio.create_task(two.left.token(two.desk.fetch)) for _ in range(3)]
    await two.desk.asked.wait()
    two.desk.open.set()
    assert {await task for task in tasks} == {"token-1"}
    assert await two.left.token(two.desk.fetch) == "token-1"
    assert two.desk.fetched == 1


async def test_others_wait_for_the_one_that_fetches(two: Two) -> None:
    """While one process fetches, another one must wait and then have the same token."""
    two.desk.open.clear()
    first = asyncio.create_task(two.left.token(two.desk.fetch))
    await two.desk.asked.wait()
    second = asyncio.create_task(two.right.token(two.desk.fetch))
    await until_one_waits(two)
    assert not second.done()
    two.desk.open.set()
    assert {await first, await second} == {"token-1"}
    assert two.desk.fetched == 1


async def test_fetch_that_fails(two: Two) -> None:
    """A provider that is away must be heard of by who asked, and must keep nobody locked out."""
    two.desk.failures.append(OrderBellError("away"))
    with pytest.raises(OrderBellError, match="away"):
        await two.left.token(two.desk.fetch)
    assert await locks(two) == 0
    assert await two.right.token(two.desk.fetch) == "token-1"
    assert await two.left.token(two.desk.fetch) == "token-1"


async def test_fetch_that_fails_leaves_the_old_token(two: Two) -> None:
    """A renewal that fails must not lose the token that others still use."""
    await two.left.token(two.desk.fetch)
    two.desk.failures.append(OrderBellError("away"))
    with pytest.raises(OrderBellError):
        await two.left.token(two.desk.fetch, "token-1")
    assert await two.right.token(two.desk.fetch) == "token-1"


async def test_fetch_that_is_cancelled(two: Two) -> None:
    """A request that is given up while it fetches must let the next one fetch."""
    two.desk.open.clear()
    task = asyncio.create_task(two.left.token(two.desk.fetch))
    await two.desk.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await locks(two) == 0
    two.desk.open.set()
    assert await two.right.token(two.desk.fetch) == "token-1"


async def test_waiting_that_is_cancelled(two: Two) -> None:
    """Who is given up while it waits for another process must not hold the lock afterwards."""
    two.desk.open.clear()
    first = asyncio.create_task(two.left.token(two.desk.fetch))
    await two.desk.asked.wait()
    second = asyncio.create_task(two.right.token(two.desk.fetch))
    await until_one_waits(two)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    two.desk.open.set()
    assert await first == "token-1"
    assert await locks(two) == 0


async def test_token_is_sealed(two: Two) -> None:
    """The table must not show the token, and with another secret nobody must be able to read it."""
    await two.left.token(two.desk.fetch)
    line = await two.store.pool.fetchval("SELECT token::text FROM token")
    assert "token-1" not in line
    assert b"token-1".hex() not in line
    foreign = Store(two.store.dsn, two.store.pool, Vault(bytes(32)))
    with pytest.raises(VaultSealed):
        await SharedByAll(foreign, "wx", two.clock).token(two.desk.fetch)


async def test_providers_have_tokens_of_their_own(two: Two) -> None:
    """A token must be that of its provider alone, and must not open under the name of another."""
    assert await two.left.token(two.desk.fetch) == "token-1"
    assert await two.third("other").token(two.desk.fetch) == "token-2"
    await two.store.pool.execute("UPDATE token SET value = (SELECT value FROM token WHERE provider = 'wx')")
    with pytest.raises(VaultSealed):
        await two.third("other").token(two.desk.fetch)


async def test_grants_add_up(two: Two) -> None:
    """Grants must add up by address and scope over all processes, and each be spent once."""
    await two.left.grant("ann", "t1")
    await two.right.grant("ann", "t1", 2)
    assert [await two.left.spend("ann", "t1") for _ in range(4)] == [True, True, True, False]
    assert not await two.right.spend("ann", "t2")
    assert not await two.right.spend("bob", "t1")


async def test_grants_taken_back(two: Two) -> None:
    """A count of 0 must take back all that somebody allowed, of that scope only."""
    for scope in ("t1", "t2"):
        await two.left.grant("ann", scope, 5)
    await two.right.grant("ann", "t1", 0)
    assert not await two.left.spend("ann", "t1")
    assert await two.left.spend("ann", "t2")
    await two.right.grant("ann", "t9", 0)


async def test_grants_are_never_overdrawn(two: Two) -> None:
    """Under many at once exactly as many must be spent as were granted, and no count may fall below zero."""
    await two.left.grant("ann", "t1", 5)
    work = [who.spend("ann", "t1") for who in (two.left, two.right) * 15]
    gifts = [who.grant("ann", "t1") for who in (two.left, two.right) * 5]
    done = await asyncio.gather(*work, *gifts)
    while await two.left.spend("ann", "t1"):
        done.append(True)
    assert sum(one is True for one in done) == 15
    await two.left.grant("ann", "t1", -3)
    assert await two.store.pool.fetchval("SELECT min(count) FROM allowance") == 0


async def test_negative_grant_of_somebody_new(two: Two) -> None:
    """Even a first grant that is negative must not leave a count below zero."""
    await two.left.grant("ann", "t1", -3)
    assert await two.store.pool.fetchval("SELECT min(count) FROM allowance") == 0


async def test_addresses_are_not_in_the_table(two: Two) -> None:
    """Who allowed something must not be readable from the table; two providers must not share a name for him."""
    await two.left.grant("openid-of-ann", "t1")
    await two.third("other").grant("openid-of-ann", "t1")
    rows = await two.store.pool.fetch("SELECT address_key, allowance::text AS line FROM allowance")
    assert not any("openid" in row["line"] or b"openid".hex() in row["line"] for row in rows)
    assert len({row["address_key"] for row in rows}) == 2
