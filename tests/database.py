"""A PostgreSQL for tests: one server a session, one migrated template, and a copy of it for each test.

The server is the bundled one without flushing to disk, or the one that ORDERBELL_TEST_DATABASE_URL names (its
user must be allowed to create databases).
"""

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from orderbell.store import embedded
from orderbell.store.migrate import migrate
from orderbell.store.postgres import Store
from orderbell.store.vault import Vault

SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "128MB",
}
MEMORY = "/dev/shm"  # noqa: S108 - a folder of its own is made in it
ROOM_MIN = 4 * 1024**3
"""A few databases and their logs take some hundred megabytes in each process."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class DatabaseServer:
    """Where the databases of the session live."""

    url: str
    template: str
    bundled: embedded.Server | None
    folder: tempfile.TemporaryDirectory[str] | None

    def dsn_for(self, database: str) -> str:
        """Return the address of a database of this server."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def run(self, *commands: str) -> None:
        """Run commands that cannot be part of a transaction."""
        asyncio.run(self._run(commands))

    async def _run(self, commands: tuple[str, ...]) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            for command in commands:
                await connection.execute(command)
        finally:
            await connection.close()

    def create(self, template: str = "template0") -> str:
        """Create a database and return its name."""
        name = f"orderbell_test_{os.getpid()}_{next(_numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8' STRATEGY file_copy")
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever still uses it."""
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def close(self) -> None:
        """End what was started; a second call does nothing."""
        if self.bundled is not None:
            self.bundled.close()
        else:
            self.drop(self.template)
        if self.folder is not None:
            with suppress(OSError):
                self.folder.cleanup()


@cache
def _start() -> DatabaseServer:
    url = os.environ.get("ORDERBELL_TEST_DATABASE_URL")
    bundled = folder = None
    if not url:
        # A short path that any user may enter: the server does not run as root.
        folder = tempfile.TemporaryDirectory(prefix="ob-", dir=_place(), ignore_cleanup_errors=True)
        Path(folder.name).chmod(0o755)
        bundled = embedded.start(Path(folder.name) / "pg", settings=SETTINGS)
        url = bundled.dsn
    blank = DatabaseServer(url, "", bundled, folder)
    server = DatabaseServer(url, blank.create(), bundled, folder)
    asyncio.run(migrate(server.dsn_for(server.template)))
    return server


def _place() -> str:
    """Memory where there is plenty of it: a copy of the template takes a twentieth of the time there."""
    try:
        room = shutil.disk_usage(MEMORY).free
    except OSError:
        room = 0
    return MEMORY if room >= ROOM_MIN and os.access(MEMORY, os.W_OK) else "/tmp"  # noqa: S108 - the same


VAULT = Vault(bytes(range(32)))
"""Of the tests' own; nothing here is worth hiding."""


@pytest.fixture(scope="session")
def database_server() -> Iterator[DatabaseServer]:
    """The server of this session, with its migrated template."""
    server = _start()
    yield server
    server.close()


@pytest.fixture
def blank_database(database_server: DatabaseServer) -> Iterator[str]:
    """The address of a database without any table."""
    name = database_server.create()
    yield database_server.dsn_for(name)
    database_server.drop(name)


@pytest.fixture
def database(database_server: DatabaseServer) -> Iterator[str]:
    """The address of a migrated database that nobody else uses."""
    name = database_server.create(database_server.template)
    yield database_server.dsn_for(name)
    database_server.drop(name)


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A store on a database of its own."""
    opened = await Store.open(database, VAULT)
    yield opened
    await opened.close()
