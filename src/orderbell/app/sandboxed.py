"""A sandbox provider in a process of its own, so that it does not take time from what is measured."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from orderbell.errors import OrderBellError
from orderbell.settings import Settings

START_S = 20


@asynccontextmanager
async def sandbox_process(settings: Settings, ledger: Path | None = None) -> AsyncIterator[str]:
    """Run `orderbell sandbox` on a free port until the end; its address. One that the settings name is used instead."""
    if settings.sandbox_url:
        yield settings.sandbox_url
        return
    with tempfile.TemporaryDirectory(prefix="orderbell-sandbox-") as folder:
        command = (
            sys.executable,
            "-m",
            "orderbell",
            "sandbox",
            "--port",
            "0",
            "--ledger",
            str(ledger or Path(folder) / "ledger.jsonl"),
        )
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            yield await _address(process)
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    async with asyncio.timeout(START_S):
        async for line in process.stdout:
            words = line.decode().split()
            if words and words[-1].startswith("http://"):
                return words[-1]
    raise OrderBellError("the sandbox did not start; run `orderbell sandbox` to see why")
