"""A PostgreSQL of the benchmarks' own, with everything on that keeps data safe, and databases to use up."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg

from bench.stream import TENANT, VAULT
from orderbell.playbooks import shipped_shelf
from orderbell.store import embedded
from orderbell.store.keys import create_key
from orderbell.store.migrate import migrate
from orderbell.store.postgres import Store
from orderbell.store.tenants import add_tenant

CONNECTIONS = 4


class Scratch:
    """The server; `key` is an API key that is good in every database made from the template."""

    def __init__(self, folder: Path, server: embedded.Server) -> None:
        self.folder, self.server = folder, server
        self.key = ""
        self._count = 0

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        pid = self.server.pid
        assert pid is not None
        return pid

    async def prepare(self) -> None:
        """Make the template: the tables, a tenant that follows the shipped playbooks, its key."""
        await self.run("CREATE DATABASE template_bench")
        dsn = self.server.dsn_for("template_bench")
        await migrate(dsn)
        store = await Store.open(dsn, VAULT, connections=1)
        await add_tenant(store.pool, TENANT, shipped_shelf())
        self.key = await create_key(store, TENANT)
        await store.close()

    async def run(self, *commands: str) -> None:
        """Run commands that cannot be part of a transaction."""
        connection = await asyncpg.connect(self.server.dsn)
        try:
            for command in commands:
                await connection.execute(command)
        finally:
            await connection.close()

    async def create(self, template: str = "template_bench") -> str:
        """Make a database and return its name."""
        self._count += 1
        name = f"bench_{self._count}"
        await self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    async def drop(self, name: str) -> None:
        """Drop a database, whoever still uses it."""
        await self.run(f"DROP DATABASE {name} WITH (FORCE)")

    @asynccontextmanager
    async def database(self, template: str = "template_bench") -> AsyncIterator[str]:
        """Lend a database made from a template, with a checkpoint behind it; gives its address."""
        name = await self.create(template)
        try:
            await self.run("CHECKPOINT")
            yield self.server.dsn_for(name)
        finally:
            await self.drop(name)

    @asynccontextmanager
    async def store(self, template: str = "template_bench", connections: int = CONNECTIONS) -> AsyncIterator[Store]:
        """Lend a store on a database of its own."""
        async with self.database(template) as dsn:
            store = await Store.open(dsn, VAULT, connections=connections)
            try:
                yield store
            finally:
                await store.close()


@asynccontextmanager
async def scratch_server() -> AsyncIterator[Scratch]:
    """Run the server in a temporary folder (TMPDIR says where) until the block ends, and remove it."""
    folder = Path(tempfile.mkdtemp(prefix="orderbell-bench-"))
    await asyncio.to_thread(folder.chmod, 0o755)  # as root the server is another user, who must be able to enter
    server: embedded.Server | None = None
    try:
        server = await asyncio.to_thread(embedded.start, folder / "postgres")
        scratch = Scratch(folder, server)
        await scratch.prepare()
        yield scratch
    finally:
        if server is not None:
            await asyncio.to_thread(server.stop, "immediate")
            await asyncio.to_thread(server.close)
        with suppress(OSError):
            shutil.rmtree(folder)
