"""The rig of Tencent Cloud SMS, and what its tests share: some messages share a request, most have their own."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Heard, Outcome, Outgoing, Receipt
from orderbell.channels.tencent import TencentChannel, TencentOptions
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.tencent import Sign, Template, TencentSimulator
from orderbell.serving import serving
from tests.channels.listener import listening
from tests.channels.situations import FAULTS, Facts, Rig, Situation

SECRET_ID = "AKIDEXAMPLE"
SECRET_KEY = "SECRETEXAMPLE"
TEMPLATES = {
    "1001": Template("您的订单{1}已由{2}发出"),
    "1002": Template("{1}", status=1),
    "1003": Template("Your order {1} is on its way", international=1),
    "1004": Template("大促{1} 拒收请回复R", kind="marketing"),
    "1005": Template("已发货"),
}
BLOCKED = "+8613900139000"


def utc_now() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


def message(
    number: int, *, to: str = "", code: str = "1001", slots: tuple[tuple[str, str], ...] | None = None
) -> Outgoing:
    """Make a message to a phone of its own; those whose numbers leave the same rest by 5 have the same variables."""
    if slots is None:
        slots = (("order", f"A{number % 5}"), ("carrier", "顺丰"))
    values = dict(slots)
    return Outgoing(
        number.to_bytes(16, "big"),
        "sms",
        to or f"+86138{number:08d}",
        f"【腾讯云】您的订单{values.get('order')}已由{values.get('carrier')}发出",
        template="您的订单{order}已由{carrier}发出",
        slots=slots,
        template_code=code,
    )


BAD = (
    (message(0, code=""), Outcome.REJECTED_CONTENT),
    (message(0, code="9999"), Outcome.REJECTED_CONTENT),
    (message(0, code="1002", slots=(("order", "A1"),)), Outcome.REJECTED_CONTENT),
    (message(0, code="1003", slots=(("order", "A1"),)), Outcome.REJECTED_CONTENT),
    (message(0, slots=(("order", "A1"),)), Outcome.REJECTED_CONTENT),
    (message(0, slots=(("order", "A234567"), ("carrier", "顺丰"))), Outcome.REJECTED_CONTENT),
    (message(0, slots=(("order", "t.cn/a"), ("carrier", "顺丰"))), Outcome.REJECTED_CONTENT),
    (message(0, slots=(("order", "\ud83d"), ("carrier", "顺丰"))), Outcome.REJECTED_CONTENT),
    (message(0, to="+85261234567"), Outcome.REJECTED_CONTENT),
    (message(0, to="nobody"), Outcome.REJECTED_RECIPIENT),
    (message(0, to="+862012345678"), Outcome.REJECTED_RECIPIENT),
    (message(0, to=BLOCKED), Outcome.REJECTED_RECIPIENT),
)


def options(url: str = "http://127.0.0.1:9", **changed: Any) -> TencentOptions:  # noqa: ANN401 - any option
    """Make options for the simulator's account."""
    made = {"secret_id": SECRET_ID, "secret_key": SECRET_KEY, "sdk_app_id": "1400006666", "sign": "腾讯云", **changed}
    return TencentOptions(url=url, **made)


def make(
    url: str = "http://127.0.0.1:9",
    *,
    now: Callable[[], datetime] = utc_now,
    **changed: Any,  # noqa: ANN401 - any option
) -> TencentChannel:
    """Make a channel."""
    return TencentChannel(options(url, **changed), name="tencent", now=now, shared=KeptInMemory(now))


@contextlib.asynccontextmanager
async def talking(
    simulator: TencentSimulator | None = None,
    *,
    now: Callable[[], datetime] = utc_now,
    **changed: Any,  # noqa: ANN401 - any option
) -> AsyncIterator[tuple[TencentChannel, TencentSimulator]]:
    """Run a simulator and a channel to it."""
    used = simulator or TencentSimulator(templates=TEMPLATES)
    async with serving(used, stopping=used.end_waiting) as url:
        channel = make(url, now=now, **changed)
        yield channel, used
        await channel.close()
    await used.close()


def error(code: str, words: str = "words") -> bytes:
    """Refuse a whole request."""
    return msgspec.json.encode({"Response": {"Error": {"Code": code, "Message": words}, "RequestId": "r"}})


class TencentRig:
    """The simulator and its levers."""

    facts = Facts(expected={}, bad=BAD)

    def __init__(self) -> None:
        self._running = AsyncExitStack()
        self._serving = AsyncExitStack()

    async def start(self) -> None:
        """Start the simulator and the listener, and make the channels."""
        self.simulator = TencentSimulator(templates=TEMPLATES, signs={"腾讯云": Sign()})
        self.simulator.blacklist.add(BLOCKED)
        url = await self._serving.enter_async_context(serving(self.simulator, stopping=self.simulator.end_waiting))
        # Nothing found is nothing sent, at once: the simulator knows of a message before it answers.
        self.channel = make(url, timeout_s=30.0, absent_after_s=0.0)
        self.impatient = make(url, timeout_s=0.5, connect_timeout_s=0.4, absent_after_s=0.0)
        self._heard: list[Heard]
        listener, self._heard = await self._running.enter_async_context(listening(self.channel.hear))
        self.simulator.callback_url = f"{listener}/receipts"

    def outgoing(self, number: int) -> Outgoing:
        """Make a message."""
        return message(number)

    async def arrange(self, situation: Situation) -> None:
        """Set the faults, change the secret, or stop the server."""
        if situation is Situation.GONE:
            await self._serving.aclose()
            return
        self.simulator.secret_key = "another" if situation is Situation.BAD_CREDENTIALS else SECRET_KEY
        self.simulator.faults = FAULTS.get(situation, Faults())

    def handed_over(self) -> list[bytes]:
        """List the attempts by the phones of what was taken: the context names only the first of a request."""
        return [int(taken.to[-8:]).to_bytes(16, "big") for taken in self.simulator.taken]

    async def receipts(self) -> list[Receipt]:
        """Wait for the receipts and list them."""
        await self.simulator.told()
        return [receipt for heard in self._heard for receipt in heard.receipts]

    async def stop(self) -> None:
        """Close the channels, the listener and the simulator."""
        await self.channel.close()
        await self.impatient.close()
        await self._serving.aclose()
        await self._running.aclose()
        await self.simulator.close()


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Run the simulator for one test."""
    made = TencentRig()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
