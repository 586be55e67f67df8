"""The rig of mail: a relay that also confirms deliveries, so that the suite has receipts to look at."""

import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from orderbell.channels.keeping import KeptInMemory
from orderbell.channels.mail import DkimKey, MailChannel, MailOptions
from orderbell.channels.protocol import Heard, Outcome, Outgoing, Receipt
from orderbell.sandbox.faults import Faults
from orderbell.sandbox.mail import MailSimulator
from tests.channels.listener import listening
from tests.channels.mail_samples import ED25519_KEY, ED25519_RECORD
from tests.channels.situations import EXPECTED, FAULTS, Facts, Rig, Situation


def now() -> dt.datetime:
    """Tell the time."""
    return dt.datetime.now(dt.UTC)


class MailRig:
    """The relay and its levers."""

    facts = Facts(
        expected={
            **EXPECTED,
            # A server error of SMTP is a 4xx: nothing was taken, and it says so.
            Situation.SERVER_ERROR: (Outcome.RETRY_LATER, False),
        },
        bad=(
            (Outgoing(bytes(16), "email", "nobody", "发货了", "发货"), Outcome.REJECTED_RECIPIENT),
            (
                Outgoing(bytes(16), "email", "a@b.example\r\nRCPT TO:<c@d.example>", "发货了"),
                Outcome.REJECTED_RECIPIENT,
            ),
            (Outgoing(bytes(16), "email", "unknown@shop.example", "发货了", "发货"), Outcome.REJECTED_RECIPIENT),
            (Outgoing(bytes(16), "email", "full@shop.example", "发货了", "发货"), Outcome.RETRY_LATER),
            (Outgoing(bytes(16), "email", "a@b.example", "发货了", "a\r\nBcc: c@d.example"), Outcome.REJECTED_CONTENT),
            (Outgoing(bytes(16), "email", "a@b.example", "大促", marketing=True), Outcome.REJECTED_CONTENT),
            (Outgoing(bytes(16), "email", "a@b.example", "half a pair \ud83d"), Outcome.REJECTED_CONTENT),
        ),
    )

    def __init__(self) -> None:
        self._running = AsyncExitStack()
        self._serving = AsyncExitStack()
        self._heard: list[Heard] = []

    async def start(self) -> None:
        """Start the relay and make the channels."""
        self.simulator = MailSimulator(username="shop", password="secret-of-relay", find_key=_find_key)
        self.simulator.recipients["unknown@shop.example"] = "550 5.1.1 No such user here"
        self.simulator.recipients["full@shop.example"] = "552 5.2.2 Mailbox full"
        self.simulator.reports_success = True
        self._port = await self._serving.enter_async_context(self.simulator.serving_smtp())
        self.channel = self._make(timeout_s=30, connect_timeout_s=20)
        self.impatient = self._make(timeout_s=0.5, connect_timeout_s=0.4)
        url, self._heard = await self._running.enter_async_context(listening(self.channel.hear))
        self.simulator.callback_url = f"{url}/bounces"

    def outgoing(self, number: int) -> Outgoing:
        """Make a message that can be told from the others by its number."""
        return Outgoing(number.to_bytes(16, "big"), "email", "zhang@shop.example", "您的订单已发货", "发货通知")

    async def arrange(self, situation: Situation) -> None:
        """Set the faults, change the password, or stop the relay."""
        self.simulator.faults = FAULTS.get(situation, Faults())
        self.simulator.login = (b"shop", b"another" if situation is Situation.BAD_CREDENTIALS else b"secret-of-relay")
        if situation is Situation.GONE:
            await self._serving.aclose()

    def handed_over(self) -> list[bytes]:
        """Read the attempts out of the Message-IDs."""
        return [bytes.fromhex(taken.ref[1:33]) for taken in self.simulator.taken]

    async def receipts(self) -> list[Receipt]:
        """Wait until every report has been posted."""
        await self.simulator.told()
        return [receipt for heard in self._heard for receipt in heard.receipts]

    async def stop(self) -> None:
        """Close the channels, then the servers."""
        await self.channel.close()
        await self.impatient.close()
        await self._serving.aclose()
        await self._running.aclose()

    def _make(self, *, timeout_s: float, connect_timeout_s: float) -> MailChannel:
        options = MailOptions(
            host="127.0.0.1",
            port=self._port,
            tls="none",
            username="shop",
            password="secret-of-relay",
            from_address="notice@shop.example",
            from_name="叮咚商城",
            dkim=(DkimKey(domain="shop.example", selector="brisbane", private_key=ED25519_KEY),),
            bounce_domain="bounce.shop.example",
            bounce_key="a key of sixteen or more",
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
        )
        channel = MailChannel(options, name="mail", now=now, shared=KeptInMemory(now))
        channel.resolve_txt = _resolve_txt
        return channel


def _find_key(name: bytes) -> bytes:
    return ED25519_RECORD.encode() if name.rstrip(b".") == b"brisbane._domainkey.shop.example" else b""


async def _resolve_txt(name: str) -> list[str]:
    return [ED25519_RECORD] if name == "brisbane._domainkey.shop.example" else []


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Run the relay for one test."""
    made = MailRig()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
