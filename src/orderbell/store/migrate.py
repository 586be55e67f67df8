"""Migrations run in process, on start; several processes may start together.

Alembic does the work through SQLAlchemy, but the connection is asyncpg's own, so every address that the
store takes is taken here too. All steps of an upgrade are one transaction: a database is never left half-way.
Where the tables are up to date already, as at nearly every start, one look says so.
"""

from pathlib import Path

import asyncpg

from orderbell.errors import DatabaseUnavailable

MIGRATIONS = Path(__file__).parent / "migrations"
CONNECT_TIMEOUT_S = 10

AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""What says that nobody answers, or that we are refused."""


async def migrate(dsn: str, revision: str = "head") -> None:
    """Bring the tables of a database to `revision`; does nothing when they are there already.

    Raises:
        DatabaseUnavailable: Nobody answers there, or refuses us.
    """
    try:
        if revision == "head" and await _revision_of(dsn) == _newest():
            return
        from orderbell.store.upgrade import upgrade  # noqa: PLC0415 - loads Alembic and SQLAlchemy

        await upgrade(dsn, revision, steps=MIGRATIONS, connect_timeout_s=CONNECT_TIMEOUT_S)
    except AWAY as problem:
        raise DatabaseUnavailable(f"PostgreSQL does not let us in: {problem}") from problem


async def _revision_of(dsn: str) -> str | None:
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
    try:
        found: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    finally:
        await connection.close()
    return found


def _newest() -> str:
    """The number of the last step; their files are named by it."""
    return max(step.name.partition("_")[0] for step in (MIGRATIONS / "versions").glob("[0-9]*.py"))
