"""The rig of Alibaba Cloud SMS."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orderbell.channels.alibaba import AlibabaChannel, AlibabaOptions
from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Outcome, Outgoing, Receipt, Unsure
from orderbell.sandbox.alibaba import AlibabaSimulator, Template
from orderbell.sandbox.faults import Faults
from orderbell.serving import serving
from tests.channels.listener import listening
from tests.channels.situations import FAULTS, Facts, Rig, Situation

SIGN = "叮咚"
CODE = "SMS_123456789"
KEY_ID = "LTAItest"
SECRET = "test secret"
TEMPLATE = "您的订单${order}已由${carrier}发出"


def clock() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


def options(url: str, **changed: Any) -> AlibabaOptions:  # noqa: ANN401 - any option
    """Make options for the simulator."""
    settings = {"access_key_id": KEY_ID, "access_key_secret": SECRET, "sign": SIGN, "ref_key": "a key of tests"}
    return AlibabaOptions(**{**settings, "url": url, "timeout_s": 30.0, **changed})


def channel_to(url: str, **changed: Any) -> AlibabaChannel:  # noqa: ANN401 - any option
    """Make a channel to the simulator."""
    return AlibabaChannel(options(url, **changed), name="alibaba", now=clock, shared=KeptInMemory(clock))


def simulator(**settings: Any) -> AlibabaSimulator:  # noqa: ANN401 - any argument
    """Make a simulator that knows the account of `options`."""
    known = {"signs": {SIGN}, "templates": {CODE: Template(TEMPLATE)}}
    return AlibabaSimulator(access_key_id=KEY_ID, access_key_secret=SECRET, **{**known, **settings})


def message(number: int, **changed: Any) -> Outgoing:  # noqa: ANN401 - any field
    """Make a message to the phone that ends with the number, whose attempt id it is."""
    fields: dict[str, Any] = {
        "attempt_id": number.to_bytes(16, "big"),
        "channel": "sms",
        "to": f"+86138{number:08d}",
        "text": f"【{SIGN}】您的订单D{number}已由顺丰速运发出",
        "template": "您的订单{order}已由{carrier}发出",
        "slots": (("order", f"D{number}"), ("carrier", "顺丰速运")),
        "template_code": CODE,
    }
    return Outgoing(**{**fields, **changed})


@contextlib.asynccontextmanager
async def connected(
    made: AlibabaSimulator | None = None,
    **changed: Any,  # noqa: ANN401 - any option
) -> AsyncIterator[tuple[AlibabaSimulator, AlibabaChannel]]:
    """Serve a simulator, with a channel to it."""
    made = made or simulator()
    async with serving(made, stopping=made.end_waiting) as url:
        channel = channel_to(url, **changed)
        yield made, channel
        await channel.close()
        await made.close()


def unsure(outgoing: Outgoing, **changed: Any) -> Unsure:  # noqa: ANN401 - any field
    """What is asked about a message."""
    fields: dict[str, Any] = {"sent_at": datetime.now(UTC), "ref": outgoing.ref, "text": outgoing.text}
    return Unsure(outgoing.attempt_id, outgoing.to, **{**fields, "template_code": outgoing.template_code, **changed})


class AlibabaRig:
    """The simulated provider and its levers."""

    facts = Facts(
        expected={},
        bad=(
            (message(0, template_code=""), Outcome.REJECTED_CONTENT),
            (message(0, template_code="SMS_1"), Outcome.REJECTED_CONTENT),
            (message(0, to="nobody"), Outcome.REJECTED_RECIPIENT),
            (message(0, to="+862131234567"), Outcome.REJECTED_RECIPIENT),
            (message(0, to="+8613899999999"), Outcome.REJECTED_RECIPIENT),
            (message(0, slots=(("order", "长" * 36), ("carrier", "顺丰"))), Outcome.REJECTED_CONTENT),
            (message(0, slots=(("order", "D1"), ("carrier", "见 t.example.com/x"))), Outcome.REJECTED_CONTENT),
            (message(0, slots=(("order", "D1"),)), Outcome.REJECTED_CONTENT),
            (message(0, slots=(("order", "D1"), ("carrier", "禁语"))), Outcome.REJECTED_CONTENT),
        ),
    )

    def __init__(self) -> None:
        self._running = AsyncExitStack()

    async def start(self) -> None:
        """Start the server, the listener and the channels."""
        self.simulator = simulator()
        self.simulator.refused_phones = {"13899999999"}
        self.simulator.forbidden_words = {"禁语"}
        url = await self._running.enter_async_context(serving(self.simulator, stopping=self.simulator.end_waiting))
        self.channel = channel_to(url)
        self.impatient = channel_to(url, connect_timeout_s=0.4, timeout_s=0.5)
        self._listening = AsyncExitStack()
        listener, self._heard = await self._listening.enter_async_context(listening(self.channel.hear))
        self.simulator.callback_url = f"{listener}/receipts"

    def outgoing(self, number: int) -> Outgoing:
        """Make a message whose phone ends with its number."""
        return message(number)

    async def arrange(self, situation: Situation) -> None:
        """Set the faults, change the secret, or stop the server."""
        if situation is Situation.GONE:
            await self._running.aclose()
            return
        self.simulator.access_key_secret = "another" if situation is Situation.BAD_CREDENTIALS else SECRET
        self.simulator.faults = FAULTS.get(situation, Faults())

    def handed_over(self) -> list[bytes]:
        """Tell the attempts by the last digits of the phones."""
        return [int(taken.to[-8:]).to_bytes(16, "big") for taken in self.simulator.taken]

    async def receipts(self) -> list[Receipt]:
        """Wait for all callbacks, and give what was heard."""
        await self.simulator.told()
        return [receipt for heard in self._heard for receipt in heard.receipts]

    async def stop(self) -> None:
        """Close everything."""
        await self.channel.close()
        await self.impatient.close()
        await self.simulator.close()
        await self._running.aclose()
        await self._listening.aclose()


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Run the simulator for one test."""
    made = AlibabaRig()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
