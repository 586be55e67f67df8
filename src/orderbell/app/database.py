"""The database of an installation: the bundled one or the one that the settings name, migrated and ready."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from orderbell.app.secret import read_secret
from orderbell.errors import DatabaseUnavailable
from orderbell.settings import Settings
from orderbell.store import embedded
from orderbell.store.migrate import migrate
from orderbell.store.postgres import Store
from orderbell.store.vault import Vault
from orderbell.store.witness import check_secret

GUARD_S = 0.5
log = structlog.get_logger()


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
        guard = asyncio.create_task(_keep_running(server)) if server is not None else None
        try:
            yield dsn
        finally:
            if guard is not None:
                guard.cancel()
                await asyncio.wait([guard])
    finally:
        if server is not None:
            await asyncio.to_thread(server.close)


async def _keep_running(server: embedded.Server) -> None:
    # Whoever killed it did not mean to: every process of the installation looks, one of them starts it again.
    while True:
        await asyncio.sleep(GUARD_S)
        if not server.running():
            log.warning("the bundled PostgreSQL is gone and is started again")
            try:
                await asyncio.shield(asyncio.to_thread(server.ensure))
            except DatabaseUnavailable as problem:
                log.warning("the bundled PostgreSQL does not start", problem=str(problem))


@asynccontextmanager
async def open_store(dsn: str, settings: Settings, connections: int) -> AsyncIterator[Store]:
    """A store with the installation's secret, closed at the end; VaultSealed for a secret that is another one."""
    vault = Vault(await asyncio.to_thread(read_secret, settings))
    store = await Store.open(dsn, vault, connections=connections)
    try:
        await check_secret(store.pool, vault)
        yield store
    finally:
        await store.close()
