"""The rig of WeChat: template messages of an official account, with events pushed in the safe mode."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.protocol import Heard, Outcome, Outgoing, Receipt
from orderbell.channels.wechat import WeChatChannel, WeChatOptions
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.simulator import utc_now
from orderbell.sandbox.wechat import WeChatSimulator
from orderbell.serving import serving
from tests.channels.listener import listening
from tests.channels.situations import FAULTS, Facts, Rig, Situation

APPID = "wx5823bf96d3bd56c7"
TEMPLATE = "ngqIpbwh8bUfcSsECmogfXcV14J0tQlEpBO27izEYtY"
OPENID = "oABC123_-def456GHI789jkl012mn"
STRANGER = "oABC123_-nobody"
CALLBACK_TOKEN = "pamtest"
AES_KEY = "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR"
KEYS = {TEMPLATE: {"what": "thing1", "number": "character_string2"}}
PERMISSIONS = 1_000

Kind = Literal["oa_template", "oa_subscribe", "mini_program"]


def message(
    number: int, *, what: str = "您的订单已发货，请注意查收", to: str = OPENID, code: str = TEMPLATE
) -> Outgoing:
    """Make a message whose second word tells which one it is; only slots of the one template are bound to keys."""
    names = KEYS[TEMPLATE] if code == TEMPLATE else KEYS[TEMPLATE].values()
    return Outgoing(
        number.to_bytes(16, "big"), "wechat", to, "【叮咚】已发货", template="{what}{number}",
        slots=tuple(zip(names, (what, f"{number:032x}"), strict=True)), template_code=code,
    )  # fmt: skip


class WeChatRig:
    """One WeChat account and its levers."""

    def __init__(self, kind: Kind, push: Literal["xml", "safe", "json"]) -> None:
        self._kind = kind
        self._running = AsyncExitStack()
        self._heard: list[Heard] = []
        self.simulator = WeChatSimulator(
            appid=APPID,
            templates={TEMPLATE: ["thing1", "character_string2"]},
            callback_token=CALLBACK_TOKEN,
            encoding_aes_key=AES_KEY,
            push=push,
        )
        bad = [
            (message(0, code="no-such-template"), Outcome.REJECTED_CONTENT),
            (message(0, code=""), Outcome.REJECTED_CONTENT),
            (message(0, what="\n"), Outcome.REJECTED_CONTENT),
            (message(0, to=""), Outcome.REJECTED_RECIPIENT),
            (message(0, to="not an openid"), Outcome.REJECTED_RECIPIENT),
        ]
        if kind != "oa_template":
            bad.append((message(0, to=STRANGER), Outcome.REJECTED_RECIPIENT))
        self.facts = Facts(expected={}, bad=tuple(bad))

    async def start(self) -> None:
        """Start the server, the listener and the channels."""
        url = await self._running.enter_async_context(serving(self.simulator, stopping=self.simulator.end_waiting))
        self._server = self._running.pop_all()
        self.shared = KeptInMemory(utc_now)
        for scope in (TEMPLATE, "no-such-template"):
            await self.shared.grant(OPENID, scope, PERMISSIONS)
        self.simulator.grants[OPENID, TEMPLATE] = PERMISSIONS
        self.channel = self.make_channel(url)
        self.impatient = self.make_channel(url, connect_timeout_s=0.4, timeout_s=0.5)
        base, self._heard = await self._running.enter_async_context(listening(self.channel.hear))
        self.simulator.callback_url = f"{base}/hooks/wechat"

    def make_channel(self, url: str, *, timeout_s: float = 30, connect_timeout_s: float = 2) -> WeChatChannel:
        """Make a channel to the account."""
        options = WeChatOptions(
            appid=APPID, secret=self.simulator.secret, message_kind=self._kind, keys=KEYS, url=url,
            message_token=CALLBACK_TOKEN, encoding_aes_key=AES_KEY if self.simulator.push == "safe" else "",
            timeout_s=timeout_s, connect_timeout_s=connect_timeout_s,
        )  # fmt: skip
        return WeChatChannel(options, name="wechat", now=lambda: datetime.now(UTC), shared=self.shared)

    def outgoing(self, number: int) -> Outgoing:
        """Make a message that can be told from the others by its number."""
        return message(number)

    async def arrange(self, situation: Situation) -> None:
        """Set the faults, change the account's secret, or stop the server."""
        self.simulator.faults = FAULTS.get(situation, Faults())
        if situation is Situation.GONE:
            await self._server.aclose()
        if situation is Situation.BAD_CREDENTIALS:
            self.simulator.secret = "another"
            self.simulator.forget_tokens()

    def handed_over(self) -> list[bytes]:
        """Read from the messages which attempts they are."""
        return [bytes.fromhex(taken.fields["words"]["character_string2"]) for taken in self.simulator.taken]

    async def receipts(self) -> list[Receipt]:
        """Wait for the events to come, and give the receipts in them."""
        await self.simulator.told()
        return [receipt for heard in self._heard for receipt in heard.receipts]

    async def stop(self) -> None:
        """Close the channels, then the servers."""
        await self.channel.close()
        await self.impatient.close()
        await self.simulator.close()
        await asyncio.gather(self._running.aclose(), self._server.aclose())


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Run WeChat for one test."""
    made = WeChatRig("oa_template", "safe")
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
