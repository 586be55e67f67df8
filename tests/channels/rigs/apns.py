"""The rig of the Apple Push Notification service."""

import contextlib
import datetime as dt
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from orderbell.channels.apns import ApnsChannel, ApnsOptions
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Outcome, Outgoing, Receipt, Shared
from orderbell.sandbox.apns import ApnsSimulator
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.http2 import serving_http2
from tests.channels.situations import FAULTS, Facts, Rig, Situation

TEAM, KEY, TOPIC = "DEF123GHIJ", "ABC123DEFG", "com.example.shop"
PHONE = f"apns:{'00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0'}"
GONE = "11fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"
STRANGER = "22fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"


def now() -> dt.datetime:
    """Tell the time."""
    return dt.datetime.now(dt.UTC)


def outgoing(number: int) -> Outgoing:
    """Make a message that can be told from the others by its number."""
    text, order = f"订单 {number} 已发货", str(number)
    return Outgoing(number.to_bytes(16, "big"), "push", PHONE, text, subject="叮咚", topic="shipped", order_no=order)


def open_channel(
    simulator: ApnsSimulator,
    url: str,
    clock: Callable[[], dt.datetime] = now,
    shared: Shared | None = None,
    **options: object,
) -> ApnsChannel:
    """Make a channel to a simulator."""
    key = {"team_id": TEAM, "key_id": KEY, "topic": TOPIC, "private_key": simulator.private_key}
    made = msgspec.convert({"url": url, **key, **options}, ApnsOptions)
    return ApnsChannel(made, name="apns", now=clock, shared=shared or KeptInMemory(clock))


class ApnsRig:
    """APNs and its levers."""

    facts = Facts(
        expected={Situation.LOSES_RECEIPTS: None},
        bad=(
            (msgspec.structs.replace(outgoing(0), to=f"apns:{GONE}"), Outcome.REJECTED_RECIPIENT),
            (msgspec.structs.replace(outgoing(0), to=f"apns:{STRANGER}"), Outcome.REJECTED_RECIPIENT),
            (msgspec.structs.replace(outgoing(0), to="apns:00fc"), Outcome.REJECTED_RECIPIENT),
            (msgspec.structs.replace(outgoing(0), to="apns:../../x"), Outcome.REJECTED_RECIPIENT),
            (msgspec.structs.replace(outgoing(0), to=f"fcm:{GONE}"), Outcome.REJECTED_RECIPIENT),
            (msgspec.structs.replace(outgoing(0), text="长" * 2000), Outcome.REJECTED_CONTENT),
        ),
    )

    def __init__(self) -> None:
        self._running = AsyncExitStack()
        self.simulator = ApnsSimulator(TEAM, KEY, TOPIC)
        self.simulator.gone[GONE] = 1_767_323_045_000
        self.simulator.strangers.add(STRANGER)

    async def start(self) -> None:
        """Start the server and make the channels."""
        served = serving_http2(self.simulator, stopping=self.simulator.end_waiting)
        url = await self._running.enter_async_context(served)
        self.channel = open_channel(self.simulator, url, timeout_s=30)
        self.impatient = open_channel(self.simulator, url, connect_timeout_s=0.4, timeout_s=0.5)

    def outgoing(self, number: int) -> Outgoing:
        """Make a good message."""
        return outgoing(number)

    async def arrange(self, situation: Situation) -> None:
        """Set the faults, or stop the server."""
        self.simulator.faults = FAULTS.get(situation, Faults())
        self.simulator.fail_with = "InvalidProviderToken" if situation is Situation.BAD_CREDENTIALS else ""
        if situation is Situation.GONE:
            await self._running.aclose()

    def handed_over(self) -> list[bytes]:
        """List what the simulator took."""
        return [uuid.UUID(one.ref).bytes for one in self.simulator.taken]

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
    """Run APNs for one test."""
    made = ApnsRig()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
