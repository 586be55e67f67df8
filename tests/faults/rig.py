"""The rig of the fault test: PostgreSQL, a sandbox provider, and web and worker processes that come back when killed.

Everything is real: the bundled PostgreSQL flushes to disk, every part is a process of its own, and the sandbox, which
is never killed, keeps the ledger of what was handed over.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import asyncpg
import msgspec

from orderbell.app.database import open_store
from orderbell.channels.http import HttpClient, NoReply, Reply
from orderbell.core.turn import Shelf
from orderbell.playbooks import load_shelf
from orderbell.sandbox.faults import Faults
from orderbell.settings import PREFIX, Settings
from orderbell.store import embedded
from orderbell.store.keys import create_key
from orderbell.store.migrate import migrate
from orderbell.store.tenants import add_tenant

PLAYBOOKS = Path(__file__).parent / "playbooks"
SECRET = bytes(range(32))
"""Of the tests' own: every process of the rig has it."""
TENANT = "acme"
START_S = 60
STOP_S = 30
BRING_UP_PAUSE_S = 0.2
"""Before the next start of a process that ended by itself, as every supervisor has it."""

SENDERS = "SELECT DISTINCT w.name FROM flight f JOIN worker w USING (worker)"
LOOK_EVERY_S = 0.01
LEFT_BEHIND = b"messages of a lost worker are in doubt"

Role = Literal["web", "worker", "sandbox"]


@dataclass
class Process:
    """A command of OrderBell that is started again whenever it ends, until `stop`."""

    role: Role
    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    log: Path
    starts: int = 0
    exits: Counter[int] = field(default_factory=Counter)
    paused: bool = False
    _running: asyncio.subprocess.Process | None = None
    _stopping: bool = False
    _watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run it from now on."""
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while not self._stopping:
            with self.log.open("ab") as log:
                self._running = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "orderbell", self.role, *self.arguments,
                    env=self.environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
            self.starts += 1
            code = await self._running.wait()
            self.exits[code] += 1
            if code != -signal.SIGKILL and not self._stopping:
                await asyncio.sleep(BRING_UP_PAUSE_S)

    @property
    def pid(self) -> int | None:
        """The id of the present process."""
        return self._running.pid if self._running is not None else None

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if there is anybody to hear it."""
        if self._running is not None and self._running.returncode is None:
            with suppress(ProcessLookupError):
                self._running.send_signal(number)
                self.paused = number is signal.SIGSTOP

    async def stop(self) -> int:
        """End it by SIGTERM and return its exit code; who does not go within half a minute is killed."""
        self._stopping = True
        if self._watching is None:
            return 0
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        _, waiting = await asyncio.wait([self._watching], timeout=STOP_S)
        if waiting:
            self.send(signal.SIGKILL)
            await asyncio.wait([self._watching])
        return self._running.returncode if self._running is not None and self._running.returncode is not None else 0


@dataclass
class Rig:
    """What runs; `urls` are those of the web processes, `key` is the API key of the tenant."""

    server: embedded.Server
    shelf: Shelf
    sandbox: Process
    sandbox_url: str
    ledger: Path
    webs: list[Process]
    workers: list[Process]
    urls: list[str]
    key: str

    async def set_faults(self, faults: Faults) -> None:
        """Make the sandbox misbehave from now on."""
        http = HttpClient(self.sandbox_url)
        answered = await http.request("PUT", "/v1/faults", msgspec.json.encode(faults))
        await http.close()
        assert isinstance(answered, Reply), answered
        assert answered.status == 200, answered.body

    async def wait_until_ready(self) -> None:
        """Wait until every web process says that it can take requests."""
        for url in self.urls:
            http = HttpClient(url)
            async with asyncio.timeout(START_S):
                answered = await http.request("GET", "/readyz")
                while isinstance(answered, NoReply) or answered.status != 200:
                    await asyncio.sleep(BRING_UP_PAUSE_S)
                    answered = await http.request("GET", "/readyz")
            await http.close()

    async def sender(self, within_s: float) -> Process | None:
        """A worker that has a request to the sandbox under way, None if there is none for so long."""
        ends_at_s = time.monotonic() + within_s
        connection = await asyncpg.connect(self.server.dsn)
        try:
            while time.monotonic() < ends_at_s:
                names = {row[0].rpartition(":")[2] for row in await connection.fetch(SENDERS)}
                for worker in self.workers:
                    if str(worker.pid) in names and not worker.paused:
                        return worker
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await connection.close()
        return None

    def doubts_left_behind(self) -> int:
        """How many messages of dead workers the living ones had to ask about, by their logs."""
        lines = (line for worker in self.workers for line in worker.log.read_bytes().splitlines())
        return sum(msgspec.json.decode(line)["messages"] for line in lines if LEFT_BEHIND in line)

    def last_words(self) -> str:
        """The end of every process' log, for a failed test."""
        parts = [self.sandbox, *self.webs, *self.workers]
        return "\n".join(f"--- {part.name}\n{part.log.read_text(errors='replace')[-2000:]}" for part in parts)


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@asynccontextmanager
async def running_rig(folder: Path) -> AsyncIterator[Rig]:
    """Start everything and end it; `folder` must be reachable by any user, with a short path."""
    async with AsyncExitStack() as stack:
        server = await asyncio.to_thread(embedded.start, folder / "pg")
        stack.push_async_callback(asyncio.to_thread, server.close)
        shelf = load_shelf(str(PLAYBOOKS))
        key = await _furnish(server.dsn, shelf)
        ledger = folder / "ledger.jsonl"
        sandbox_port = free_port()
        sandbox = _process(folder, "sandbox", "sandbox", ("--port", str(sandbox_port), "--ledger", str(ledger)), {})
        sandbox_url = f"http://127.0.0.1:{sandbox_port}"
        common = {
            "DATABASE_URL": server.dsn, "SANDBOX_URL": sandbox_url, "DATA_DIR": str(folder),
            "PLAYBOOKS_DIR": str(PLAYBOOKS), "LOG_FORMAT": "json", "SECRET_KEY": SECRET.hex(),
        }  # fmt: skip
        ports = [free_port(), free_port()]
        webs = [
            _process(folder, "web", f"web{number}", (), {**common, "PORT": str(port)})
            for number, port in enumerate(ports)
        ]
        workers = [_process(folder, "worker", f"worker{number}", (), common) for number in range(2)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        rig = Rig(server, shelf, sandbox, sandbox_url, ledger, webs, workers, urls, key)
        for process in (sandbox, *webs, *workers):
            process.start()
            stack.push_async_callback(process.stop)
        try:
            await rig.wait_until_ready()
            yield rig
        except BaseException:
            print(rig.last_words())  # noqa: T201 - pytest shows it with the failure
            raise


def _process(folder: Path, role: Role, name: str, arguments: tuple[str, ...], settings: dict[str, str]) -> Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {PREFIX + name: value for name, value in settings.items()}
    return Process(role, name, arguments, environment, folder / f"{name}.log")


async def _furnish(dsn: str, shelf: Shelf) -> str:
    await migrate(dsn)
    async with open_store(dsn, Settings(secret_key=SECRET.hex()), 1) as store:
        await add_tenant(store.pool, TENANT, shelf)
        return await create_key(store, TENANT)
