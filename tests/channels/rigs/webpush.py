"""The rig of Web Push."""

import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Outcome, Outgoing, Receipt
from orderbell.channels.webpush import WebPushChannel, WebPushOptions
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.webpush import WebPushSimulator
from orderbell.serving import serving
from tests.channels.situations import FAULTS, Facts, Rig, Situation

# The key of the application server in RFC 8291, appendix A.
PRIVATE_KEY = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
PUBLIC_KEY = "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"


def now() -> dt.datetime:
    """Tell the time."""
    return dt.datetime.now(dt.UTC)


def outgoing(number: int, to: str) -> Outgoing:
    """Make a message that can be told from the others by its number."""
    text, order = f"订单 {number} 已发货", str(number)
    return Outgoing(number.to_bytes(16, "big"), "push", to, text, subject="叮咚", topic="shipped", order_no=order)


def open_channel(url: str, clock: Callable[[], dt.datetime] = now, **options: object) -> WebPushChannel:
    """Make a channel that may call a simulator."""
    own = {"vapid_private_key": PRIVATE_KEY, "subject": "mailto:shop@example.com", "allow_hosts": [url]}
    made = msgspec.convert({**own, **options}, WebPushOptions)
    return WebPushChannel(made, name="webpush", now=clock, shared=KeptInMemory(clock))


class WebPushRig:
    """A push service and its levers."""

    facts: Facts

    def __init__(self) -> None:
        self._running = AsyncExitStack()
        self.simulator = WebPushSimulator()

    async def start(self) -> None:
        """Start the server, make the channels and subscribe a browser."""
        url = await self._running.enter_async_context(serving(self.simulator, stopping=self.simulator.end_waiting))
        self.channel = open_channel(url, timeout_s=30)
        self.impatient = open_channel(url, connect_timeout_s=0.4, timeout_s=0.5)
        self._browser = f"webpush:{self.simulator.subscribe(url, PUBLIC_KEY)}"
        gone = self.simulator.subscribe(url, PUBLIC_KEY, "gone")
        self.simulator.gone.add("gone")
        elsewhere = self.simulator.subscribe("http://169.254.169.254", PUBLIC_KEY)
        self.facts = Facts(
            expected={Situation.LOSES_RECEIPTS: None},
            bad=(
                (outgoing(0, f"webpush:{gone}"), Outcome.REJECTED_RECIPIENT),
                (outgoing(0, f"webpush:{elsewhere}"), Outcome.REJECTED_RECIPIENT),
                (outgoing(0, "webpush:{}"), Outcome.REJECTED_RECIPIENT),
                (outgoing(0, "fcm:token"), Outcome.REJECTED_RECIPIENT),
                (
                    outgoing(0, f"webpush:{self.simulator.subscribe(url, 'another key')}"),
                    Outcome.REJECTED_RECIPIENT,
                ),
                (
                    msgspec.structs.replace(outgoing(0, self._browser), text="长" * 2000),
                    Outcome.REJECTED_CONTENT,
                ),
            ),
        )

    def outgoing(self, number: int) -> Outgoing:
        """Make a good message."""
        return outgoing(number, self._browser)

    async def arrange(self, situation: Situation) -> None:
        """Set the faults, or stop the server."""
        self.simulator.faults = FAULTS.get(situation, Faults())
        self.simulator.fail_with = "google bad signature" if situation is Situation.BAD_CREDENTIALS else ""
        if situation is Situation.GONE:
            await self._running.aclose()

    def handed_over(self) -> list[bytes]:
        """List what the browser could read."""
        return [int(one.fields["message"]["order_no"]).to_bytes(16, "big") for one in self.simulator.taken]

    async def receipts(self) -> list[Receipt]:
        """There are none."""
        return []

    async def stop(self) -> None:
        """Close the channels, then the server."""
        await self.channel.close()
        await self.impatient.close()
        await self._running.aclose()
        await self.simulator.close()


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Run a push service for one test."""
    made = WebPushRig()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
