"""The witness: a database knows its own secret, and only that."""

import asyncio

import asyncpg
import pytest

from orderbell.errors import DatabaseUnavailable, VaultSealed
from orderbell.store.postgres import Store
from orderbell.store.vault import Vault
from orderbell.store.witness import check_secret, knows_secret

SECRET = bytes(range(32))
VAULT = Vault(SECRET)


@pytest.fixture
async def pool(store: Store) -> "asyncpg.Pool[asyncpg.Record]":
    """The connections to a database that nobody has started with."""
    return store.pool


async def test_first_start_leaves_a_witness(pool: "asyncpg.Pool[asyncpg.Record]", database: str) -> None:
    """The first secret becomes that of the database; it is known again, and another one is refused."""
    assert await knows_secret(database, VAULT) is None
    await check_secret(pool, VAULT)
    await check_secret(pool, Vault(SECRET))
    stranger = Vault(bytes(32))
    assert [await knows_secret(database, vault) for vault in (VAULT, stranger)] == [True, False]
    with pytest.raises(VaultSealed, match=r"another secret.*ORDERBELL_SECRET_KEY"):
        await check_secret(pool, stranger)
    await check_secret(pool, VAULT)


async def test_of_two_secrets_at_once_one_stays(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """Of processes that start at once with different secrets those with one of them go on, the others do not."""
    vaults = [Vault(bytes([number % 3]) * 32) for number in range(6)]
    outcomes = await asyncio.gather(*(check_secret(pool, vault) for vault in vaults), return_exceptions=True)
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert all(isinstance(outcome, VaultSealed) for outcome in refused), refused
    assert len(refused) == 4


async def test_witness_in_the_clear_is_no_witness(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """Whoever can write the table cannot make every secret look right."""
    await pool.execute("INSERT INTO vault (witness) VALUES ($1)", b"orderbell")
    with pytest.raises(VaultSealed):
        await check_secret(pool, VAULT)


async def test_database_without_tables_cannot_tell(blank_database: str) -> None:
    """Before the first start there is nothing to ask."""
    assert await knows_secret(blank_database, VAULT) is None


async def test_database_out_of_reach_is_said(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """Where PostgreSQL does not answer, nothing is said about the secret."""
    await pool.close()
    with pytest.raises(DatabaseUnavailable):
        await check_secret(pool, VAULT)
