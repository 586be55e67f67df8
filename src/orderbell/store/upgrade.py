"""The upgrade itself, by Alembic over SQLAlchemy: imported only when there is one to do, as both are slow to load."""

from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from orderbell.store.partitions import SHAPE_LOCK

# Whoever comes second waits for the first one's whole upgrade.
TURN_TIMEOUT_S = 600


async def upgrade(dsn: str, revision: str, *, steps: Path, connect_timeout_s: float) -> None:
    """Bring the tables to a revision in one transaction, one process at a time; raises what the driver raises.

    `steps` is the folder with the numbered steps.
    """
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(dsn, timeout=connect_timeout_s),
        poolclass=NullPool,
    )
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SET LOCAL lock_timeout = '{TURN_TIMEOUT_S}s'"))
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({SHAPE_LOCK})"))
            await connection.run_sync(_upgrade, revision, steps)
    except DBAPIError as problem:
        # SQLAlchemy wraps what the driver says, which is its last cause.
        cause = problem.orig.__cause__ if problem.orig is not None else None
        if isinstance(cause, Exception):
            raise cause from problem
        raise
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, revision: str, steps: Path) -> None:
    config = Config()
    # Alembic reads the value with %-interpolation.
    config.set_main_option("script_location", str(steps).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
