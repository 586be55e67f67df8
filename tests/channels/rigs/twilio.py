"""The rig of Twilio: its simulator, and a listener for what it calls back with."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Callback, Heard, Outcome, Outgoing, Receipt
from orderbell.channels.twilio import TwilioChannel, TwilioOptions
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.simulator import utc_now
from orderbell.sandbox.twilio import TwilioSimulator
from orderbell.serving import serving
from tests.channels.listener import listening
from tests.channels.situations import FAULTS, Facts, Rig, Situation

TO = "+8613800138000"


class TwilioRig:
    """The simulated account and its levers."""

    facts = Facts(
        expected={},
        bad=(
            (Outgoing(bytes(16), "sms", "nobody", "【叮咚】已发货"), Outcome.REJECTED_RECIPIENT),
            (Outgoing(bytes(16), "sms", TO, "长" * 1_601), Outcome.REJECTED_CONTENT),
            (Outgoing(bytes(16), "sms", TO, ""), Outcome.REJECTED_CONTENT),
            (Outgoing(bytes(16), "sms", "+8613800138009", "【叮咚】已发货"), Outcome.REJECTED_RECIPIENT),
        ),
    )

    def __init__(self) -> None:
        self._running = AsyncExitStack()
        self.simulator = TwilioSimulator()
        self.simulator.stopped.add("+8613800138009")
        self.heard: list[Heard] = []

    async def start(self) -> None:
        """Start simulator and listener and make the channels."""
        self.url = await self._running.enter_async_context(serving(self.simulator, stopping=self.simulator.end_waiting))
        self._running.push_async_callback(self.simulator.close)
        callbacks, self.heard = await self._running.enter_async_context(listening(self.hear))
        self.callback_url = self.simulator.callback_url = f"{callbacks}/hook/token"
        self.channel = self.make(timeout_s=30)
        self.impatient = self.make(connect_timeout_s=0.4, timeout_s=0.5)

    def hear(self, callback: Callback) -> Heard:
        """Pass a callback to the channel, which is made after the listener."""
        return self.channel.hear(callback)

    def options(self, *, connect_timeout_s: float = 2, timeout_s: float = 10) -> TwilioOptions:
        """The options of a channel to the simulated account."""
        return TwilioOptions(
            account_sid=self.simulator.account_sid,
            auth_token="sandbox",
            sender=self.simulator.sender,
            callback_url=self.callback_url,
            url=self.url,
            connect_timeout_s=connect_timeout_s,
            timeout_s=timeout_s,
        )

    def make(self, *, connect_timeout_s: float = 2, timeout_s: float = 10) -> TwilioChannel:
        """Make a channel to the simulated account."""
        options = self.options(connect_timeout_s=connect_timeout_s, timeout_s=timeout_s)
        return TwilioChannel(options, name="twilio", now=utc_now, shared=KeptInMemory(utc_now))

    def outgoing(self, number: int) -> Outgoing:
        """Make a message that can be told from the others by its text."""
        return Outgoing(number.to_bytes(16, "big"), "sms", TO, f"【叮咚】订单{number}已发货")

    async def arrange(self, situation: Situation) -> None:
        """Set the faults, change the token, or stop the server."""
        if situation is Situation.GONE:
            await self._running.aclose()
            return
        self.simulator.faults = FAULTS.get(situation, Faults())
        word = "other" if situation is Situation.BAD_CREDENTIALS else "sandbox"
        self.simulator.keys[self.simulator.account_sid] = word

    def handed_over(self) -> list[bytes]:
        """List the attempts of the messages that were made, by their status callbacks."""
        callbacks = [str(taken.fields["StatusCallback"]) for taken in self.simulator.taken]
        return [bytes.fromhex(callback.partition("?attempt=")[2]) for callback in callbacks]

    async def receipts(self) -> list[Receipt]:
        """All receipts that were heard, once the simulator has no more to say."""
        await self.simulator.told()
        return [receipt for heard in self.heard for receipt in heard.receipts]

    async def stop(self) -> None:
        """Close the channels, then the servers."""
        await self.channel.close()
        await self.impatient.close()
        await self._running.aclose()


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Run a simulated account for one test."""
    made = TwilioRig()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
