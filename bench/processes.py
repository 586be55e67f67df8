"""OrderBell's own commands as processes of their own, so that each has its place in the count of processor time."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from bench.stream import SECRET

START_S = 30


class Started:
    """A command that runs: its process id, and the last word of the line by which it said that it works."""

    def __init__(self, pid: int, word: str) -> None:
        self.pid, self.word = pid, word


@asynccontextmanager
async def orderbell(*arguments: str, says: str, settings: Mapping[str, str] | None = None) -> AsyncIterator[Started]:
    """Run `orderbell ARGUMENTS` until the block ends; begins when it prints a line that starts with `says`."""
    async with module("orderbell", *arguments, says=says, settings=settings) as started:
        yield started


@asynccontextmanager
async def module(
    name: str, *arguments: str, says: str, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Started]:
    """Run `python -m NAME ARGUMENTS` until the block ends; begins as `orderbell` does."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ORDERBELL_")}
    named = {f"ORDERBELL_{setting.upper()}": value for setting, value in (settings or {}).items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", name, *arguments, stdout=asyncio.subprocess.PIPE,
        env=environment | {"ORDERBELL_LOG_LEVEL": "error", "ORDERBELL_SECRET_KEY": SECRET.hex()} | named,
    )  # fmt: skip
    try:
        yield Started(process.pid, await _word(process, says))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _word(process: asyncio.subprocess.Process, says: str) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(START_S):
        async for line in process.stdout:
            text = line.decode().strip()
            if text.startswith(says):
                return text.rpartition(" ")[2]
    raise RuntimeError(f"orderbell ended before it said {says!r}")
