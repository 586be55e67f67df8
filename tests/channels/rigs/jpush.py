"""The rig of JPush."""

import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from orderbell.channels.jpush import JpushChannel, JpushOptions
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Outcome, Outgoing, Receipt
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.jpush import JpushSimulator
from orderbell.serving import serving
from tests.channels.situations import FAULTS, Facts, Rig, Situation

APP_KEY, SECRET = "7d431e42dfa6a6d693ac2d04", "5e987ac6d2e04d95a9d8f0d1"
PHONE = "jpush:1507bfd3f7c466c355c"
GONE = "1507bfd3f7c466c3000"


def now() -> dt.datetime:
    """Tell the time."""
    return dt.datetime.now(dt.UTC)


def outgoing(number: int) -> Outgoing:
    """Make a message that can be told from the others by its number."""
    text, order = f"订单 {number} 已发货", str(number)
    return Outgoing(number.to_bytes(16, "big"), "push", PHONE, text, subject="叮咚", topic="shipped", order_no=order)


def open_channel(url: str, **options: object) -> JpushChannel:
    """Make a channel to a simulator."""
    made = msgspec.convert({"app_key": APP_KEY, "master_secret": SECRET, "url": url, **options}, JpushOptions)
    return JpushChannel(made, name="jpush", now=now, shared=KeptInMemory(now))


class JpushRig:
    """JPush and its levers."""

    facts = Facts(
        expected={Situation.LOSES_RECEIPTS: None},
        bad=(
            (msgspec.structs.replace(outgoing(0), to=f"jpush:{GONE}"), Outcome.REJECTED_RECIPIENT),
            (msgspec.structs.replace(outgoing(0), to="jpush:not an id"), Outcome.REJECTED_RECIPIENT),
            (msgspec.structs.replace(outgoing(0), to="fcm:1507bfd3f7c466c355c"), Outcome.REJECTED_RECIPIENT),
            (msgspec.structs.replace(outgoing(0), text="长" * 2000), Outcome.REJECTED_CONTENT),
        ),
    )

    def __init__(self) -> None:
        self._running = AsyncExitStack()
        self.simulator = JpushSimulator(APP_KEY, SECRET)
        self.simulator.gone.add(GONE)

    async def start(self) -> None:
        """Start the server and make the channels."""
        url = await self._running.enter_async_context(serving(self.simulator, stopping=self.simulator.end_waiting))
        self.channel = open_channel(url, timeout_s=30)
        self.impatient = open_channel(url, connect_timeout_s=0.4, timeout_s=0.5)

    def outgoing(self, number: int) -> Outgoing:
        """Make a good message."""
        return outgoing(number)

    async def arrange(self, situation: Situation) -> None:
        """Set the faults, or stop the server."""
        self.simulator.faults = FAULTS.get(situation, Faults())
        self.simulator.fail_with = ""
        if situation is Situation.BAD_CREDENTIALS:
            self.simulator.refuse_key()
        if situation is Situation.GONE:
            await self._running.aclose()

    def handed_over(self) -> list[bytes]:
        """List what the simulator took."""
        taken = [one.fields["notification"]["android"]["extras"]["order_no"] for one in self.simulator.taken]
        return [int(order).to_bytes(16, "big") for order in taken]

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
    """Run JPush for one test."""
    made = JpushRig()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
