"""The rigs: for every provider, a channel to it and levers that put the provider into each situation.

A new provider gets a rig of its own and an entry in `RIGS`; then all of `test_conformance.py` holds for it as
well.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import pytest

from orderbell.channels.protocol import Channel
from orderbell.channels.sandbox import SandboxChannel
from orderbell.sandbox.faults import Faults
from tests.sandbox_server import read_ledger, running_sandbox


class Situation(StrEnum):
    """What a provider can be in the middle of."""

    HEALTHY = "healthy"
    ERROR_503 = "error_503"
    THROTTLING = "throttling"
    NEVER_ANSWERS = "never_answers"
    """Takes the messages, then says nothing."""
    CUTS_ANSWER = "cuts_answer"
    """Takes the messages, then breaks the connection in the middle of its answer."""
    STRANGE_CODE = "strange_code"
    """Answers 200 with a code that is in no manual."""
    CANNOT_DELIVER = "cannot_deliver"
    LOSES_RECEIPTS = "loses_receipts"
    GONE = "gone"
    """Nothing listens any more."""


class Rig(Protocol):
    """A provider under test, with two channels to it."""

    @property
    def channel(self) -> Channel:
        """A channel that waits long enough for any machine."""
        ...

    @property
    def impatient(self) -> Channel:
        """A channel that waits half a second."""
        ...

    async def arrange(self, situation: Situation) -> None:
        """Put the provider into a situation."""

    def handed_over(self) -> list[bytes]:
        """List the attempts that the provider took, in order."""


_FAULTS = {
    Situation.HEALTHY: Faults(),
    Situation.ERROR_503: Faults(refuse=1),
    Situation.THROTTLING: Faults(throttle=1),
    Situation.NEVER_ANSWERS: Faults(timeout_after_accept=1),
    Situation.CUTS_ANSWER: Faults(cut_after_accept=1),
    Situation.STRANGE_CODE: Faults(error_body=1),
    Situation.CANNOT_DELIVER: Faults(fail_delivery=1),
    Situation.LOSES_RECEIPTS: Faults(lose_receipts=1),
}


class SandboxRig:
    """The sandbox provider and its levers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = AsyncExitStack()

    async def start(self) -> None:
        """Start the server and make the channels."""
        self._sandbox = await self._running.enter_async_context(running_sandbox(self._folder))
        self.channel: Channel = SandboxChannel(self._sandbox.url, batch_max=10, timeout_s=30)
        self.impatient: Channel = SandboxChannel(self._sandbox.url, connect_timeout_s=0.4, timeout_s=0.5)

    async def arrange(self, situation: Situation) -> None:
        """Set the faults, or stop the server."""
        if situation is Situation.GONE:
            await self._running.aclose()
        else:
            await self._sandbox.set_faults(_FAULTS[situation])

    def handed_over(self) -> list[bytes]:
        """Read the ledger."""
        return [bytes.fromhex(entry.attempt_id) for entry in read_ledger(self._sandbox.ledger_path)]

    async def stop(self) -> None:
        """Close the channels, then the server."""
        await self.channel.close()
        await self.impatient.close()
        await self._running.aclose()


@contextlib.asynccontextmanager
async def sandbox_rig(folder: Path) -> AsyncIterator[Rig]:
    """Run the sandbox for one test."""
    rig = SandboxRig(folder)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()


RIGS: dict[str, Callable[[Path], AbstractAsyncContextManager[Rig]]] = {"sandbox": sandbox_rig}


@pytest.fixture(params=sorted(RIGS))
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """Give each provider in turn."""
    async with RIGS[request.param](tmp_path) as rig:
        yield rig
