"""What providers say of messages later: receipts that were asked for, and receipts that they brought."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import structlog

from orderbell.channels.protocol import Receipt
from orderbell.core.events import OWN_SOURCE, Event, Settled
from orderbell.dispatch.outcomes import clean
from orderbell.observe import count
from orderbell.store.ledger import Ledger, Recipient, Word

Report = Callable[[list[Event]], Awaitable[object]]

log = structlog.get_logger()


class Receiver:
    """Writes receipts down, and reports the messages that did not arrive.

    Args:
        ledger: The tables of sending.
        now: The clock, aware UTC.
        report: Takes the events `message.settled` about them; without it nobody hears of them.
        learn: Whether the delays of receipts are learned from.
    """

    def __init__(
        self, ledger: Ledger, now: Callable[[], datetime], report: Report | None = None, *, learn: bool = True
    ) -> None:
        self._ledger, self._now, self._report, self._learn = ledger, now, report, learn

    async def take(self, provider: str, receipts: Sequence[Receipt]) -> int:
        """Write receipts that a provider brought; on return they are kept, whether their messages are known or not.

        Returns how many messages changed. The same receipts may come again, late, early and in any order.
        """
        words = [_word(receipt) for receipt in receipts]
        await self._say_failed(provider, words)
        changed, late = await self._ledger.take_words(provider, words, learn=self._learn)
        count("dispatch.receipts", changed)
        report_late(late, provider)
        return changed

    async def page(self, provider: str, receipts: Sequence[Receipt], after: str) -> None:
        """Write receipts that were asked for, with the cursor behind them."""
        words = [_word(receipt) for receipt in receipts]
        await self._say_failed(provider, words)
        cursor = receipts[-1].cursor
        written = await self._ledger.receive(provider, words, cursor, after, learn=self._learn)
        if written is not None:
            count("dispatch.receipts", written[0])
            report_late(written[1], provider)

    async def match(self) -> int:
        """Write the receipts that came before the answers which say whose they are."""
        return await self._ledger.match_words(learn=self._learn)

    async def say(self, about: Sequence[Recipient], outcome: str) -> None:
        """Report that messages did not reach their people."""
        if about and self._report is not None:
            now = self._now()
            await self._report([_settled(one, outcome, now) for one in about])

    async def _say_failed(self, provider: str, words: Sequence[Word]) -> None:
        # Before it is written: should this process die here, the receipts come again.
        failed = [word for word in words if not word.delivered]
        if not failed or self._report is None:
            return
        named = [word.provider_ref for word in failed if not word.attempt_id]
        known = await self._ledger.attempts_named(provider, named) if named else {}
        ids = [word.attempt_id or known.get(word.provider_ref, b"") for word in failed]
        await self.say(await self._ledger.recipients(provider, [one for one in ids if one]), "failed")


def report_late(late: int, provider: str) -> None:
    """Say aloud that people were told twice."""
    if late:
        count("dispatch.accepted_late", late)
        log.error("attempts that had been given up were taken after all: these people were told twice",
                  provider=provider, messages=late)  # fmt: skip


def _word(receipt: Receipt) -> Word:
    return Word(receipt.attempt_id, receipt.delivered, clean(receipt.provider_ref), clean(receipt.detail), receipt.at)


def _settled(one: Recipient, outcome: str, now: datetime) -> Event:
    data = Settled(outcome=outcome, topic=one.topic, channel=one.channel, contact=one.contact, told_at=one.told_at)
    name = f"settled:{one.attempt_id.hex()}:{outcome}"
    return Event(one.tenant, OWN_SOURCE, name, "message.settled", one.order_no, now, now, data)
