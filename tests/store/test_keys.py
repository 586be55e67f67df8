"""API keys in the real database: made once, stored as hashes, dead soon after they are revoked."""

import asyncpg
import pytest

from orderbell.errors import DatabaseUnavailable
from orderbell.store.keys import (
    KEY_LENGTH,
    REMEMBERED_MAX,
    REMEMBERED_S,
    ApiCaller,
    KeyRing,
    create_key,
    fingerprint_of,
    list_keys,
    revoke_key,
)
from orderbell.store.postgres import Store


async def test_key_is_made_and_found(store: Store) -> None:
    """A key must open its tenant at once, and only its hash may be in the database."""
    ring = KeyRing(store.pool)
    key = await create_key(store, "acme", "the shop")
    other = await create_key(store, "other")
    assert len(key) == KEY_LENGTH
    assert key.startswith("ob_")
    assert [await ring.tenant_of(each) for each in (key, other, key)] == ["acme", "other", "acme"]
    rows = await store.pool.fetch("SELECT * FROM api_key")
    assert key not in str(rows)
    assert key[3:] not in str(rows)
    assert await store.pool.fetchval("SELECT count(*) FROM tenant") == 2


@pytest.mark.parametrize("key", ["", "ob_", "ob_short", "x" * KEY_LENGTH, "ob_" + "é" * 43, "ob_" + "a" * 1_000_000])
async def test_what_is_no_key(store: Store, key: str) -> None:
    """What cannot be a key must be nobody's, without asking the database."""
    await store.pool.close()
    assert await KeyRing(store.pool).tenant_of(key) is None


async def test_keys_are_listed_and_revoked(store: Store) -> None:
    """Keys must be named by fingerprint, and only the tenant's own can be revoked, once."""
    keys = [await create_key(store, "acme", label) for label in ("a", "b")]
    listed = await list_keys(store, "acme")
    assert [(key.label, key.fingerprint, key.revoked_at) for key in listed] == [
        ("a", fingerprint_of(keys[0]), None),
        ("b", fingerprint_of(keys[1]), None),
    ]
    assert not await revoke_key(store, "other", fingerprint_of(keys[0]))
    assert await revoke_key(store, "acme", fingerprint_of(keys[0]))
    assert not await revoke_key(store, "acme", fingerprint_of(keys[0]))
    assert [key.revoked_at is None for key in await list_keys(store, "acme")] == [False, True]
    assert [await KeyRing(store.pool).tenant_of(key) for key in keys] == [None, "acme"]


async def test_revoked_key_dies_within_ten_seconds(store: Store) -> None:
    """A key that is remembered must be looked up again in less than ten seconds."""
    now = 100.0
    ring = KeyRing(store.pool, lambda: now)
    key = await create_key(store, "acme")
    assert await ring.tenant_of(key) == "acme"
    await revoke_key(store, "acme", fingerprint_of(key))
    now += REMEMBERED_S - 0.1
    assert await ring.tenant_of(key) == "acme"
    now += 0.1
    assert now < 110
    assert await ring.tenant_of(key) is None
    assert await ring.tenant_of(key) is None


async def test_memory_of_keys_is_bounded(store: Store) -> None:
    """However many keys come by, the memory must stay small."""
    ring = KeyRing(store.pool)
    ring._known = {
        number.to_bytes(32, "big"): (ApiCaller("acme", frozenset(), ""), 0.0) for number in range(REMEMBERED_MAX)
    }
    await ring.tenant_of(await create_key(store, "acme"))
    assert len(ring._known) == 1


async def test_database_that_is_away(store: Store) -> None:
    """A key that is remembered must do without the database, any other must be told that it is away."""
    now = 100.0
    ring = KeyRing(store.pool, lambda: now)
    key = await create_key(store, "acme")
    assert await ring.tenant_of(key) == "acme"
    await store.pool.close()
    assert await ring.tenant_of(key) == "acme"
    now += REMEMBERED_S
    with pytest.raises(DatabaseUnavailable):
        await ring.tenant_of(key)
    assert isinstance(store.pool, asyncpg.Pool)
