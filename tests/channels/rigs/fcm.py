"""The rig of Firebase Cloud Messaging."""

import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from orderbell.channels.fcm import FcmChannel, FcmOptions
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Outcome, Outgoing, Receipt, Shared
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.fcm import FcmSimulator
from orderbell.serving import serving
from tests.channels.situations import FAULTS, Facts, Rig, Situation

PHONE = "fcm:bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1"
GONE = "gone3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1"
STRANGER = "other3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1"


def now() -> dt.datetime:
    """Tell the time."""
    return dt.datetime.now(dt.UTC)


def outgoing(number: int) -> Outgoing:
    """Make a message that can be told from the others by its number."""
    text, order = f"Order {number} has been shipped", str(number)
    return Outgoing(
        number.to_bytes(16, "big"), "push", PHONE, text, subject="OrderBell", topic="shipped", order_no=order
    )


def open_channel(
    simulator: FcmSimulator,
    url: str,
    clock: Callable[[], dt.datetime] = now,
    shared: Shared | None = None,
    **options: object,
) -> FcmChannel:
    """Make a channel to a simulator."""
    made = {"service_account": simulator.service_account(url), "url": url, **options}
    shared = shared or KeptInMemory(clock)
    return FcmChannel(msgspec.convert(made, FcmOptions), name="fcm", now=clock, shared=shared)


class FcmRig:
    """FCM and its levers."""

    facts = Facts(
        expected={Situation.LOSES_RECEIPTS: None},
        bad=(
            (msgspec.structs.replace(outgoing(0), to=f"fcm:{GONE}"), Outcome.REJECTED_RECIPIENT),
            (msgspec.structs.replace(outgoing(0), to=f"fcm:{STRANGER}"), Outcome.REJECTED_RECIPIENT),
            (msgspec.structs.replace(outgoing(0), to="fcm:no token"), Outcome.REJECTED_RECIPIENT),
            (msgspec.structs.replace(outgoing(0), to="jpush:bk3RNwTe3H0"), Outcome.REJECTED_RECIPIENT),
            (msgspec.structs.replace(outgoing(0), text="长" * 2000), Outcome.REJECTED_CONTENT),
        ),
    )

    def __init__(self) -> None:
        self._running = AsyncExitStack()
        self.simulator = FcmSimulator()
        self.simulator.gone.add(GONE)
        self.simulator.strangers.add(STRANGER)

    async def start(self) -> None:
        """Start the server and make the channels."""
        url = await self._running.enter_async_context(serving(self.simulator, stopping=self.simulator.end_waiting))
        self.channel = open_channel(self.simulator, url, timeout_s=30)
        self.impatient = open_channel(self.simulator, url, connect_timeout_s=0.4, timeout_s=0.5)

    def outgoing(self, number: int) -> Outgoing:
        """Make a good message."""
        return outgoing(number)

    async def arrange(self, situation: Situation) -> None:
        """Set the faults, or stop the server."""
        self.simulator.faults = FAULTS.get(situation, Faults())
        self.simulator.fail_with = "PERMISSION_DENIED" if situation is Situation.BAD_CREDENTIALS else ""
        if situation is Situation.GONE:
            await self._running.aclose()

    def handed_over(self) -> list[bytes]:
        """List what the simulator took."""
        return [int(one.fields["message"].data["order_no"]).to_bytes(16, "big") for one in self.simulator.taken]

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
    """Run FCM for one test."""
    made = FcmRig()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
