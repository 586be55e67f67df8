"""A sandbox provider for tests: a real server on a free port, inside the test's event loop.

::

    async with running_sandbox(tmp_path) as sandbox:
        channel = SandboxChannel(sandbox.url)
        ...
        assert [entry.to for entry in sandbox.ledger()] == [...]
"""

import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from orderbell.channels.http import HttpClient, Reply
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.ledger import Entry
from orderbell.sandbox.server import running

_decode_entry = msgspec.json.Decoder(Entry).decode


def read_ledger(path: Path) -> list[Entry]:
    """Read every message that was ever handed over, in order."""
    return [_decode_entry(line) for line in path.read_bytes().splitlines()]


def utc_now() -> dt.datetime:
    """Tell the wall clock's time."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class RunningSandbox:
    """A sandbox that runs; `http` is a client of its HTTP interface."""

    url: str
    ledger_path: Path
    http: HttpClient

    def ledger(self) -> list[Entry]:
        """Read every message that was handed over, in order."""
        return read_ledger(self.ledger_path)

    async def set_faults(self, faults: Faults) -> None:
        """Make it misbehave from now on."""
        answered = await self.http.request("PUT", "/v1/faults", msgspec.json.encode(faults))
        assert isinstance(answered, Reply)
        assert answered.status == 200, answered.body


@contextlib.asynccontextmanager
async def running_sandbox(
    folder: Path, *, token: str | None = None, clock: Callable[[], dt.datetime] = utc_now
) -> AsyncIterator[RunningSandbox]:
    """Run a sandbox whose ledger is `ledger.jsonl` in a folder; started again there, it goes on with it."""
    ledger_path = folder / "ledger.jsonl"
    async with running(ledger_path, token=token, clock=clock) as url:
        http = HttpClient(url, token=token, timeout_s=30)
        try:
            yield RunningSandbox(url=url, ledger_path=ledger_path, http=http)
        finally:
            await http.close()
