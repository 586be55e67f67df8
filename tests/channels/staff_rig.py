"""The rig of the staff robots; those of DingTalk, WeCom, Feishu and Slack differ in the kind alone."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Outcome, Outgoing, Receipt
from orderbell.channels.staff import Kind, Robot, StaffChannel, StaffOptions
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.staff import StaffSimulator
from orderbell.serving import serving
from tests.channels.situations import FAULTS, Facts, Rig, Situation

SECRET = "SECoftherig"


def utc_now() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


def channel_to(
    base_url: str,
    kind: Kind,
    *,
    now: Callable[[], datetime] = utc_now,
    secret: str = SECRET,
    timeout_s: float = 30,
    connect_timeout_s: float = 3,
    mention: tuple[str, ...] = (),
) -> StaffChannel:
    """Make a channel with one robot named `desk` of a simulator."""
    known = Robot(kind=kind, url=StaffSimulator.robot_url(base_url, kind), secret=secret, mention=mention)
    options = StaffOptions(robots={"desk": known}, timeout_s=timeout_s, connect_timeout_s=connect_timeout_s)
    return StaffChannel(options, name="staff", now=now, shared=KeptInMemory(now))


class StaffRig:
    """Robots of one kind and their levers."""

    # Wrong tokens are tried in test_staff.py: no check can find them out without posting.
    facts = Facts(bad=((Outgoing(bytes(16), "staff", "nobody", "叮咚"), Outcome.REJECTED_RECIPIENT),))

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._simulator = StaffSimulator(secret=SECRET)
        self._running = AsyncExitStack()

    async def start(self) -> None:
        """Start the server and make the channels."""
        serve = serving(self._simulator, stopping=self._simulator.end_waiting)
        url = await self._running.enter_async_context(serve)
        self._running.push_async_callback(self._simulator.close)
        self.channel = channel_to(url, self._kind)
        self.impatient = channel_to(url, self._kind, timeout_s=0.5, connect_timeout_s=0.4)

    def outgoing(self, number: int) -> Outgoing:
        """Make a message that can be told from the others by its number."""
        return Outgoing(number.to_bytes(16, "big"), "staff", "desk", f"叮咚：3 条提醒\n第 {number}")

    async def arrange(self, situation: Situation) -> None:
        """Set the faults, or stop the server."""
        if situation is Situation.GONE:
            await self._running.aclose()
        else:
            self._simulator.faults = FAULTS.get(situation, Faults())

    def handed_over(self) -> list[bytes]:
        """Read the numbers from the texts: a robot is told no attempt."""
        return [int(one.text.rpartition(" ")[2]).to_bytes(16, "big") for one in self._simulator.taken]

    async def receipts(self) -> list[Receipt]:
        """There are none."""
        return []

    async def stop(self) -> None:
        """Close the channels, then the server."""
        await self.channel.close()
        await self.impatient.close()
        await self._running.aclose()


def rig_of(kind: Kind) -> Callable[[Path], AbstractAsyncContextManager[Rig]]:
    """Make the `rig` of a kind of robot."""

    @contextlib.asynccontextmanager
    async def rig(folder: Path) -> AsyncIterator[Rig]:
        made = StaffRig(kind)
        await made.start()
        try:
            yield made
        finally:
            await made.stop()

    return rig
