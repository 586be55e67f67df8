"""Both hosts for the tests of this folder: databases to copy, and a sandbox to send to."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orderbell.channels.sandbox import SandboxChannel
from tests.sandbox_server import RunningSandbox, running_sandbox


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[RunningSandbox]:
    """A sandbox provider of this test's own."""
    async with running_sandbox(tmp_path) as running:
        yield running


@pytest.fixture
async def channel(sandbox: RunningSandbox) -> AsyncIterator[SandboxChannel]:
    """The way to it."""
    opened = SandboxChannel(sandbox.url)
    yield opened
    await opened.close()
