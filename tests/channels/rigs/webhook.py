"""The rig of the outgoing webhook: a receiver that verifies, on loopback."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Outcome, Outgoing, Receipt
from orderbell.channels.webhook import WebhookChannel, WebhookOptions
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.simulator import utc_now
from orderbell.sandbox.webhook import WebhookReceiver
from orderbell.serving import serving
from tests.channels.situations import FAULTS, Facts, Rig, Situation

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


class WebhookRig:
    """The receiver and its levers."""

    facts = Facts(
        expected={
            # Whether a receiver has the same secret cannot be asked without sending; its own tests have this one.
            Situation.BAD_CREDENTIALS: None,
        },
        bad=(
            (Outgoing(bytes(16), "webhook", "http://127.0.0.1:1/", "{}"), Outcome.REJECTED_RECIPIENT),
            (Outgoing(bytes(16), "webhook", "https://169.254.169.254/latest", "{}"), Outcome.REJECTED_RECIPIENT),
            (Outgoing(bytes(16), "webhook", "no address", "{}"), Outcome.REJECTED_RECIPIENT),
            (Outgoing(bytes(16), "webhook", "https://8.8.8.8/", "{"), Outcome.REJECTED_CONTENT),
        ),
    )

    def __init__(self) -> None:
        self._running = AsyncExitStack()
        self.receiver = WebhookReceiver(secrets=(SECRET,))

    async def start(self) -> None:
        """Start the receiver and make the channels."""
        self.url = await self._running.enter_async_context(serving(self.receiver, stopping=self.receiver.end_waiting))
        self._running.push_async_callback(self.receiver.close)
        self.channel = self.make(timeout_s=30)
        self.impatient = self.make(connect_timeout_s=0.4, timeout_s=0.5)

    def make(self, *, connect_timeout_s: float = 2, timeout_s: float = 15) -> WebhookChannel:
        """Make a channel that may call the receiver."""
        options = WebhookOptions(
            endpoints={f"{self.url}/bell": (SECRET,)},
            allow_hosts=(self.url.removeprefix("http://"),),
            connect_timeout_s=connect_timeout_s,
            timeout_s=timeout_s,
        )
        return WebhookChannel(options, name="webhook", now=utc_now, shared=KeptInMemory(utc_now))

    def outgoing(self, number: int) -> Outgoing:
        """Make a message that can be told from the others by its number."""
        return Outgoing(number.to_bytes(16, "big"), "webhook", f"{self.url}/bell", f'{{"number": {number}}}')

    async def arrange(self, situation: Situation) -> None:
        """Set the faults, or stop the receiver."""
        if situation is Situation.GONE:
            await self._running.aclose()
        else:
            self.receiver.faults = FAULTS.get(situation, Faults())

    def handed_over(self) -> list[bytes]:
        """List the webhooks that were taken."""
        return [bytes.fromhex(taken.ref.removeprefix("msg_")) for taken in self.receiver.taken]

    async def receipts(self) -> list[Receipt]:
        """There are none."""
        return []

    async def stop(self) -> None:
        """Close the channels, then the receiver."""
        await self.channel.close()
        await self.impatient.close()
        await self._running.aclose()


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Run a receiver for one test."""
    made = WebhookRig()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
