"""The database of an installation: the bundled one or the one that the settings name, migrated and ready."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from orderbell.settings import Settings
from orderbell.store import embedded
from orderbell.store.migrate import migrate
from orderbell.store.postgres import Store


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[str]:
    """Start the bundled PostgreSQL if no other is set, bring its tables up to date, and hand out its address.

    DatabaseUnavailable says what to do where that fails.
    """
    server: embedded.Server | None = None
    if not settings.database_url:
        folder = Path(settings.data_dir) / "postgres" if settings.data_dir else None
        server = await asyncio.to_thread(embedded.start, folder)
    dsn = server.dsn if server is not None else settings.database_url
    try:
        await migrate(dsn)
        yield dsn
    finally:
        if server is not None:
            await asyncio.to_thread(server.close)


@asynccontextmanager
async def open_store(dsn: str, connections: int) -> AsyncIterator[Store]:
    """A store that is closed at the end."""
    store = await Store.open(dsn, connections=connections)
    try:
        yield store
    finally:
        await store.close()
