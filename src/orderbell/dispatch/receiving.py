"""What providers say of messages later: receipts that were asked for, and receipts that they brought."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from orderbell.channels.protocol import Outcome, Receipt
from orderbell.core.events import OWN_SOURCE, Event, Settled
from orderbell.dispatch.outcomes import clean, ref_of
from orderbell.observe import count, traces
from orderbell.observe.figures import tally
from orderbell.store.ledger import EARLY_MAX, WORDS_KEPT, Ledger, Recipient, Word

Report = Callable[[list[Event]], Awaitable[object]]

EARLY: Final = timedelta(minutes=2)
"""How long a receipt may be ahead of the answer of its message: longer than any channel waits for one."""

SWEEP_EVERY: Final = timedelta(minutes=10)
"""Between two looks at all receipts that nobody knows: messages of others who use the same account have many."""

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
        self._brought: dict[str, list[tuple[list[Word], asyncio.Future[None]]]] = {}
        self._writers: dict[str, asyncio.Task[None]] = {}
        self._swept_at = datetime.min.replace(tzinfo=UTC)

    async def take(self, provider: str, receipts: Sequence[Receipt]) -> None:
        """Write receipts that a provider brought; on return they are kept, whether their messages are known or not.

        The same receipts may come again, late, early and in any order. What comes while others are being written is
        written with the next ones in one transaction: providers bring a flood of small requests.
        """
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._brought.setdefault(provider, []).append(([_word(receipt) for receipt in receipts], kept))
        if provider not in self._writers:
            self._writers[provider] = asyncio.create_task(self._write(provider))
        await kept

    async def _write(self, provider: str) -> None:
        try:
            while brought := self._brought.pop(provider, []):
                try:
                    await self._keep(provider, [word for words, _ in brought for word in words])
                except Exception as problem:  # noqa: BLE001 - each of those who wait hears it
                    for _, kept in brought:
                        if not kept.done():
                            kept.set_exception(problem)
                else:
                    for _, kept in brought:
                        if not kept.done():
                            kept.set_result(None)
        finally:
            del self._writers[provider]

    async def _keep(self, provider: str, words: Sequence[Word]) -> None:
        await self._say_failed(provider, words)
        changed, late = await self._ledger.take_words(provider, words, learn=self._learn)
        count("dispatch.receipts", changed)
        _note(provider, words)
        await self._trace(provider, words)
        report_late(late, provider)

    async def page(self, provider: str, receipts: Sequence[Receipt], after: str) -> None:
        """Write receipts that were asked for, with the cursor behind them."""
        words = [_word(receipt) for receipt in receipts]
        await self._say_failed(provider, words)
        cursor = receipts[-1].cursor
        written = await self._ledger.receive(provider, words, cursor, after, learn=self._learn)
        if written is not None:
            count("dispatch.receipts", written[0])
            _note(provider, words)
            await self._trace(provider, words)
            report_late(written[1], provider)

    async def match(self) -> int:
        """Write the receipts that came before the answers which say whose they are; returns how many."""
        now = self._now()
        is_sweep = now - self._swept_at >= SWEEP_EVERY
        found = await self._ledger.early_words(WORDS_KEPT if is_sweep else EARLY)
        for provider, words in found.items():
            await self._say_failed(provider, words)
            changed, late = await self._ledger.match_words(provider, words, learn=self._learn)
            count("dispatch.receipts", changed)
            report_late(late, provider)
        matched = sum(map(len, found.values()))
        if is_sweep and matched < EARLY_MAX:
            self._swept_at = now
        return matched

    async def _trace(self, provider: str, words: Sequence[Word]) -> None:
        """Put receipts into the traces of what they are about; a receipt alone does not say what that was."""
        tracer = traces.active()
        if tracer is None or not words:
            return
        named = [word.provider_ref for word in words if not word.attempt_id]
        known = await self._ledger.attempts_named(provider, named) if named else {}
        ids = [(word.attempt_id or known.get(word.provider_ref, b""), word.delivered) for word in words]
        told = await self._ledger.notices_told(provider, [attempt_id for attempt_id, _ in ids])
        tracer.heard(provider, [(told[name], delivered) for name, delivered in ids if name in told])

    async def complainants(self, provider: str, attempt_ids: Sequence[bytes]) -> list[Recipient]:
        """Who called messages spam."""
        return await self._ledger.recipients_of(provider, attempt_ids)

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
        ids = {word.attempt_id or known.get(word.provider_ref, b""): word.gone for word in failed}
        about = await self._ledger.recipients(provider, [one for one in ids if one])
        await self.say([one for one in about if not ids[one.attempt_id]], "failed")
        await self.say([one for one in about if ids[one.attempt_id]], Outcome.REJECTED_RECIPIENT.value)


def _note(provider: str, words: Sequence[Word]) -> None:
    for delivered, times in Counter([word.delivered for word in words]).items():
        tally("receipts", (provider, "delivered" if delivered else "failed"), times)


def report_late(late: int, provider: str) -> None:
    """Say aloud that people were told twice."""
    if late:
        count("dispatch.accepted_late", late)
        log.error("attempts that had been given up were taken after all: these people were told twice",
                  provider=provider, messages=late)  # fmt: skip


def _word(receipt: Receipt) -> Word:
    ref, detail = ref_of(receipt.provider_ref), clean(receipt.detail)
    return Word(receipt.attempt_id, receipt.delivered, ref, detail, receipt.at, receipt.gone)


def _settled(one: Recipient, outcome: str, now: datetime) -> Event:
    data = Settled(outcome=outcome, topic=one.topic, channel=one.channel, contact=one.contact, told_at=one.told_at)
    name = f"settled:{one.attempt_id.hex()}:{outcome}"
    return Event(one.tenant, OWN_SOURCE, name, "message.settled", one.order_no, now, now, data)
