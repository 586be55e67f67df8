"""The rig of the sandbox provider: the model for all others."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from orderbell.channels.protocol import Outcome, Outgoing, Receipt
from orderbell.channels.sandbox import SandboxChannel
from orderbell.sandbox.faults import Faults
from tests.channels.situations import FAULTS, Facts, Rig, Situation
from tests.sandbox_server import read_ledger, running_sandbox


class SandboxRig:
    """The sandbox provider and its levers."""

    facts = Facts(
        bad=(
            (Outgoing(bytes(16), "sms", "nobody", "【叮咚】已发货"), Outcome.REJECTED_RECIPIENT),
            (Outgoing(bytes(16), "sms", "+8613800138000", "长" * 71), Outcome.REJECTED_CONTENT),
            (Outgoing(bytes(16), "sms", "+8613800138000", "half a pair \ud83d"), Outcome.REJECTED_CONTENT),
        ),
    )

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = AsyncExitStack()

    async def start(self) -> None:
        """Start the server and make the channels."""
        self._sandbox = await self._running.enter_async_context(running_sandbox(self._folder))
        self.channel = SandboxChannel(self._sandbox.url, batch_max=10, timeout_s=30)
        self.impatient = SandboxChannel(self._sandbox.url, connect_timeout_s=0.4, timeout_s=0.5)

    def outgoing(self, number: int) -> Outgoing:
        """Make a message that can be told from the others by its number."""
        return Outgoing(number.to_bytes(16, "big"), "sms", "+8613800138000", "【叮咚】已发货", topic="shipped")

    async def arrange(self, situation: Situation) -> None:
        """Set the faults, or stop the server."""
        if situation is Situation.GONE:
            await self._running.aclose()
        else:
            await self._sandbox.set_faults(FAULTS.get(situation, Faults()))

    def handed_over(self) -> list[bytes]:
        """Read the ledger."""
        return [bytes.fromhex(entry.attempt_id) for entry in read_ledger(self._sandbox.ledger_path)]

    async def receipts(self) -> list[Receipt]:
        """Fetch all receipts."""
        return await self.channel.receipts(1000)

    async def stop(self) -> None:
        """Close the channels, then the server."""
        await self.channel.close()
        await self.impatient.close()
        await self._running.aclose()


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Run the sandbox for one test."""
    made = SandboxRig(folder)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
