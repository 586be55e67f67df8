"""The rig of SMPP: a pretended SMSC and channels bound to it."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Outcome, Outgoing, Receipt
from orderbell.channels.smpp import SmppChannel, SmppOptions
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.smsc import SmscSimulator
from tests.channels.situations import FAULTS, Facts, Rig, Situation


def utc_now() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


class SmppRig:
    """An SMSC and its levers."""

    facts = Facts(
        expected={Situation.SERVER_ERROR: (Outcome.RETRY_LATER, False)},  # RSYSERR is a word of the manual
        bad=(
            (Outgoing(bytes(16), "sms", "nobody", "【叮咚】已发货"), Outcome.REJECTED_RECIPIENT),
            (Outgoing(bytes(16), "sms", "+8613800138000", "长" * 67 * 9), Outcome.REJECTED_CONTENT),
            (Outgoing(bytes(16), "sms", "+8613800138000", "half a pair \ud83d"), Outcome.REJECTED_CONTENT),
        ),
        retry_after=False,
    )

    def __init__(self) -> None:
        self._running = AsyncExitStack()

    async def start(self) -> None:
        """Start the SMSC and make the channels."""
        self.smsc = SmscSimulator()
        port = await self._running.enter_async_context(self.smsc.listening())
        self.options = SmppOptions(
            host="127.0.0.1",
            port=port,
            system_id=self.smsc.system_id,
            password=self.smsc.password,
            source="1065",
            receipt_zone="UTC",
        )
        self.channel = self.make(timeout_s=30.0)
        self.impatient = self.make(timeout_s=0.5, connect_timeout_s=0.4)

    def make(self, **changes: object) -> SmppChannel:
        """Make a channel with other options."""
        channel = SmppChannel(
            msgspec.structs.replace(self.options, **changes), name="smpp", now=utc_now, shared=KeptInMemory(utc_now)
        )
        self._running.push_async_callback(channel.close)
        return channel

    def outgoing(self, number: int) -> Outgoing:
        """Make a message that can be told from the others by its number."""
        return Outgoing(number.to_bytes(16, "big"), "sms", "+8613800138000", f"【叮咚】第{number}件已发货")

    async def arrange(self, situation: Situation) -> None:
        """Set the faults, change the password, or stop the SMSC."""
        if situation is Situation.GONE:
            await self._running.aclose()
            return
        if situation is Situation.BAD_CREDENTIALS:
            self.smsc.password = "changed"
            self.smsc.drop()
        self.smsc.faults = FAULTS.get(situation, Faults())

    def handed_over(self) -> list[bytes]:
        """Read the numbers in the texts."""
        texts = [taken.text for taken in self.smsc.taken]
        return [int("".join(filter(str.isdigit, text))).to_bytes(16, "big") for text in texts]

    async def receipts(self) -> list[Receipt]:
        """Fetch all receipts."""
        await self.smsc.told()
        return await self.channel.receipts(1000)

    async def stop(self) -> None:
        """Close the channels, then the SMSC."""
        await self._running.aclose()


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Run an SMSC for one test."""
    made = SmppRig()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
