"""Migrations run in process, on start; several processes may start together.

Alembic does the work through SQLAlchemy, but the connection is asyncpg's own, so every address that the
store takes is taken here too. All steps of an upgrade are one transaction: a database is never left half-way.
"""

import asyncio
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from orderbell.errors import DatabaseUnavailable
from orderbell.store.partitions import SHAPE_LOCK

MIGRATIONS = Path(__file__).parent / "migrations"
CONNECT_TIMEOUT_S = 10
# Whoever comes second waits for the first one's whole upgrade.
TURN_TIMEOUT_S = 600

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


async def migrate(dsn: str, revision: str = "head") -> None:
    """Bring the tables of a database to `revision`; does nothing when they are there already.

    Raises:
        DatabaseUnavailable: Nobody answers there, or refuses us.
    """
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S),
        poolclass=NullPool,
    )
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SET LOCAL lock_timeout = '{TURN_TIMEOUT_S}s'"))
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({SHAPE_LOCK})"))
            await connection.run_sync(_upgrade, revision)
    except AWAY as problem:
        raise DatabaseUnavailable(f"PostgreSQL does not let us in: {problem}") from problem
    except DBAPIError as problem:
        # SQLAlchemy wraps what the driver says, and leaves the driver's own words as the last cause.
        cause = problem.orig.__cause__ if problem.orig is not None else None
        if problem.connection_invalidated or isinstance(cause, AWAY):
            raise DatabaseUnavailable(f"PostgreSQL does not let us in: {cause or problem.orig}") from problem
        raise
    finally:
        await engine.dispose()


def migrate_now(dsn: str) -> None:
    """Do the same where no event loop runs."""
    asyncio.run(migrate(dsn))


def _upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    # Alembic reads the value with %-interpolation.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
