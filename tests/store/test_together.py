"""What is done together must count together, and nothing else with it."""

import asyncio
from datetime import UTC, datetime

import pytest

from orderbell.store.brand import Brand, Brands
from orderbell.store.keys import create_key, list_keys
from orderbell.store.postgres import Store
from orderbell.store.trail import SYSTEM, Trail

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class Stop(Exception):
    """What goes wrong after the changes."""


async def test_all_of_it_counts(store: Store) -> None:
    """Calls of several stores, transactions of their own among them, must be one, and be seen by one another."""
    trail = Trail(store)
    async with trail.together():
        key = await create_key(store, "acme", "till")
        assert [one.label for one in await list_keys(store, "acme")] == ["till"]
        await trail.write("acme", SYSTEM, "key.make", key[:4])
        assert await store.pool.fetchval("SELECT count(*) FROM api_key") == 0, "another connection sees nothing yet"
    assert [one.action for one in await trail.read("acme")] == ["key.make"]
    assert len(await list_keys(store, "acme")) == 1


async def test_nothing_of_it_counts(store: Store) -> None:
    """When something goes wrong nothing may be left, and the store must go on."""
    trail = Trail(store)

    async def change() -> None:
        async with trail.together():
            await create_key(store, "acme")
            await trail.write("acme", SYSTEM, "key.make")
            raise Stop

    with pytest.raises(Stop):
        await change()
    assert await list_keys(store, "acme") == []
    assert await trail.read("acme") == []
    await create_key(store, "acme")
    assert len(await list_keys(store, "acme")) == 1


async def test_others_have_no_part_in_it(store: Store) -> None:
    """What another task does meanwhile must count by itself, even one that was begun within."""
    brands = Brands(store)

    async def change() -> None:
        async with store.together():
            await create_key(store, "acme")
            await asyncio.create_task(brands.set("other", Brand("Other"), NOW))
            raise Stop

    with pytest.raises(Stop):
        await change()
    assert await list_keys(store, "acme") == []
    assert (await brands.brand_of("other")).name == "Other"
