"""The witness: a sealed word in the database that tells whether a secret is the one its data were written with."""

from typing import TypeAlias

import asyncpg

from orderbell.errors import DatabaseUnavailable, VaultSealed
from orderbell.store.postgres import BREAKS, CONNECT_TIMEOUT_S
from orderbell.store.vault import REMEDY, Vault

# No tenant has an empty name.
_WITNESS = ("", "witness", b"orderbell")
_LEAVE = "INSERT INTO vault (witness) VALUES ($1) ON CONFLICT DO NOTHING"
_READ = "SELECT witness FROM vault"

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


async def check_secret(pool: Pool, vault: Vault) -> None:
    """Make sure that this is the secret of the database; the first to ask leaves a witness of its own there.

    Raises:
        VaultSealed: The database was written with another one; the message says what to do.
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    tenant, name, body = _WITNESS
    try:
        await pool.execute(_LEAVE, vault.seal(tenant, name, body))
        witness: bytes = await pool.fetchval(_READ)
    except BREAKS as problem:
        raise DatabaseUnavailable(f"PostgreSQL does not answer: {problem}") from problem
    if not _opens(vault, witness):
        raise VaultSealed(f"the database was written with another secret than the one found here: {REMEDY}")


async def knows_secret(dsn: str, vault: Vault) -> bool | None:
    """Say whether this is the secret of a database that answers; None where it cannot tell. Changes nothing."""
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
    try:
        witness: bytes | None = await connection.fetchval(_READ)
    except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError):
        return None
    finally:
        await connection.close()
    return None if witness is None else _opens(vault, witness)


def _opens(vault: Vault, witness: bytes) -> bool:
    tenant, name, body = _WITNESS
    try:
        # One in the clear would open with every secret.
        return witness != body and vault.open(tenant, name, witness) == body
    except VaultSealed:
        return False
