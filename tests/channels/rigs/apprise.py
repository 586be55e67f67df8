"""The rig of Apprise: its plugin for plain JSON, and a service on loopback that takes it."""

import contextlib
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from orderbell.channels.apprise import AppriseChannel, AppriseOptions, _load
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Outcome, Outgoing, Receipt
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.simulator import Answered, Asked, Simulator, utc_now
from orderbell.serving import serving
from tests.channels.situations import FAULTS, Facts, Rig, Situation


class JsonService(Simulator):
    """A service that takes what Apprise's `json://` sends; the last part of the path is the recipient."""

    async def answer(self, asked: Asked) -> Answered:
        """Take a message, or fail."""
        if self.dice.strikes(self.faults.refuse):
            return Answered(503)
        if self.dice.strikes(self.faults.throttle):
            return Answered(429, headers=(("retry-after", "7"),))
        if self.dice.strikes(self.faults.error_body):
            return Answered(200, b'{"errcode": 45009}')
        content = msgspec.json.decode(asked.body)
        self.keep(f"n{len(self.taken)}", asked.path.rpartition("/")[2], content["message"], title=content["title"])
        return Answered(body=b'{"ok": true}', took=True)


def load_quietly() -> None:
    """Let Apprise load its plugins once: one imports a module that Python is about to drop, and warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert _load("json://localhost")


class AppriseRig:
    """The service and its levers."""

    facts = Facts(
        expected={
            # All that Apprise ever says about a failure is no.
            Situation.THROTTLING: (Outcome.UNKNOWN, False),
            Situation.GONE: (Outcome.UNKNOWN, False),
            # And it says yes to an error in the body of a success.
            Situation.STRANGE_CODE: (Outcome.ACCEPTED, False),
            Situation.BAD_CREDENTIALS: None,
        },
        bad=(
            (Outgoing(bytes(16), "staff", "two, people", "到货"), Outcome.REJECTED_RECIPIENT),
            (Outgoing(bytes(16), "email", "somebody", "到货"), Outcome.REJECTED_RECIPIENT),
            (Outgoing(bytes(16), "staff", "somebody", " "), Outcome.REJECTED_CONTENT),
        ),
    )

    def __init__(self) -> None:
        self._running = AsyncExitStack()
        self.service = JsonService()

    async def start(self) -> None:
        """Start the service and make the channels."""
        load_quietly()
        url = await self._running.enter_async_context(serving(self.service, stopping=self.service.end_waiting))
        self._running.push_async_callback(self.service.close)
        self.url = url.replace("http:", "json:") + "/bell/{to}"
        self.channel = self.make(timeout_s=30)
        self.impatient = self.make(timeout_s=0.4)

    def make(self, *, timeout_s: float) -> AppriseChannel:
        """Make a channel to the service."""
        options = AppriseOptions(urls={"staff": self.url}, timeout_s=timeout_s)
        return AppriseChannel(options, name="apprise", now=utc_now, shared=KeptInMemory(utc_now))

    def outgoing(self, number: int) -> Outgoing:
        """Make a message to a recipient of its own."""
        return Outgoing(number.to_bytes(16, "big"), "staff", f"{number:032x}", f"订单{number}", subject="到货")

    async def arrange(self, situation: Situation) -> None:
        """Set the faults, or stop the service."""
        if situation is Situation.GONE:
            await self._running.aclose()
        else:
            self.service.faults = FAULTS.get(situation, Faults())

    def handed_over(self) -> list[bytes]:
        """List the attempts by their recipients."""
        return [bytes.fromhex(taken.to) for taken in self.service.taken]

    async def receipts(self) -> list[Receipt]:
        """There are none."""
        return []

    async def stop(self) -> None:
        """Close the channels, then the service."""
        await self.channel.close()
        await self.impatient.close()
        await self._running.aclose()


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Run a service for one test."""
    made = AppriseRig()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
