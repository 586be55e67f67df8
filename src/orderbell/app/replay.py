"""Past orders through the real engine: PostgreSQL, timers, dispatch and the sandbox, on a virtual clock.

Three loops run side by side, each as far ahead as the one before it allows: events are committed; timers fire up to
the last event committed; messages go out up to the last moment whose timers have fired. So the run is as quick as the
slowest of them, and what is told is the same as if the clock had been real.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from time import perf_counter

import msgspec

from orderbell.channels.protocol import Answer as Sent
from orderbell.channels.protocol import Outgoing
from orderbell.channels.sandbox import SandboxChannel
from orderbell.core.events import Event
from orderbell.core.turn import Shelf
from orderbell.dispatch import Dispatcher
from orderbell.insight.backtest import AFTERMATH, batches
from orderbell.insight.summary import Summary, Tally, percentile
from orderbell.store.ledger import Ledger
from orderbell.store.postgres import Store
from orderbell.store.reading import Reader

BATCH = 500
LANES = 2
IDLE_S = 0.005


class Progress(msgspec.Struct, frozen=True):
    """How far a replay is: events committed, messages handed over, the orders' own time."""

    event_count: int
    message_count: int
    at: datetime


class Replay:
    """One run. `tenant` must be new, or the events are duplicates."""

    def __init__(self, store: Store, shelf: Shelf, sandbox_url: str, *, tenant: str, batch: int = BATCH) -> None:
        self.store, self.shelf, self.tenant, self.batch = store, shelf, tenant, batch
        self.shelves = {tenant: shelf}
        self.watched = _Watched(sandbox_url)
        self.committed_at: datetime | None = None
        self.fired_at: datetime | None = None
        self.event_count = 0
        self.passed: list[tuple[float, float]] = []  # (moment of the orders, moment of the wall) in seconds
        self.done_feeding = self.done_firing = False
        self.dispatcher = Dispatcher(
            Ledger(store), self.shelves, [self.watched], now=self._now, plan_at=lambda due_at: due_at, batch=batch
        )

    def _now(self) -> datetime:
        return self.fired_at or datetime.min.replace(tzinfo=UTC)

    async def run(
        self,
        events: Iterable[Event],
        tally: Tally,
        *,
        first_at: datetime,
        progress: Callable[[Progress], None] | None = None,
    ) -> Summary:
        """Replay the events, let `AFTERMATH` pass, settle every message, and count up."""
        self.committed_at = self.fired_at = first_at
        began = perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed(events))
            group.create_task(self._fire())
            group.create_task(self._dispatch())
            watcher = group.create_task(self._watch(progress))
            group.create_task(self._collect(watcher))
        seconds = perf_counter() - began
        await self.dispatcher.close()
        await self.watched.close()
        return await self._summary(tally, seconds)

    async def _feed(self, events: Iterable[Event]) -> None:
        last: datetime | None = None
        for group in batches(events, self.batch * LANES):
            parts: list[list[Event]] = [[] for _ in range(LANES)]
            for event in group:
                parts[hash(event.order_no) % LANES].append(event)
            await asyncio.gather(*(self.store.turn(self.shelves, part) for part in parts if part))
            self.event_count += len(group)
            last = group[-1].received_at
            self._pass(last)
        if last is not None:
            self._pass(last + AFTERMATH)
        self.done_feeding = True

    def _pass(self, moment: datetime) -> None:
        self.committed_at = moment
        self.passed.append((moment.timestamp(), perf_counter()))

    async def _fire(self) -> None:
        while True:
            ending, until = self.done_feeding, self.committed_at
            assert until is not None  # noqa: S101 - set before the loops start
            due_at = await self.store.next_due_at()
            if due_at is not None and due_at <= until:
                await self.store.fire_due(self.shelves, until, self.batch)
                continue
            self.fired_at = until
            if ending:
                self.done_firing = True
                return
            await asyncio.sleep(IDLE_S)

    async def _dispatch(self) -> None:
        while True:
            ending = self.done_firing
            if await self.dispatcher.step() == 0:
                if ending:
                    return
                await asyncio.sleep(IDLE_S)

    async def _collect(self, watcher: "asyncio.Task[None]") -> None:
        while True:
            ending = self.done_firing
            if await self.dispatcher.receipts() == 0:
                if ending and await self.dispatcher.resolve() == 0 and not await self.dispatcher.step():
                    break
                await asyncio.sleep(IDLE_S * 4)
        watcher.cancel()

    async def _watch(self, progress: Callable[[Progress], None] | None) -> None:
        while progress is not None:
            progress(
                Progress(self.event_count, len(self.watched.handed), self.fired_at or datetime.min.replace(tzinfo=UTC))
            )
            await asyncio.sleep(0.2)

    async def _summary(self, tally: Tally, seconds: float) -> Summary:
        reader = Reader(self.store, self.tenant)
        async for message in reader.messages():
            tally.message(message)
        tally.fates.update(await reader.fate_counts())
        orders = {(order.tenant, order.no): order async for order in reader.orders()}
        summary = tally.summary(
            orders, self.shelf, event_count=self.event_count, step_count=await reader.step_count(), seconds=seconds,
            anomalies=await reader.anomaly_counts(), case_count=await reader.case_count(),
        )  # fmt: skip
        spans = self.handover_ms()
        return msgspec.structs.replace(
            summary, handover_median_ms=round(percentile(spans, 50), 1),
            handover_p99_ms=round(percentile(spans, 99), 1),
            messages_by_status=await reader.message_statuses(),
        )  # fmt: skip

    def handover_ms(self) -> list[float]:
        """From the moment a message became due (its event committed, its time come) to the provider's answer."""
        moments = [moment for moment, _ in self.passed]
        spans = []
        for told_ms, wall in self.watched.handed:
            index = min(bisect_left(moments, told_ms / 1000), len(moments) - 1)
            spans.append((wall - self.passed[index][1]) * 1000)
        return spans


class _Watched(SandboxChannel):
    """A channel whose answers are timed; the moment for which a message was planned stands in its attempt id."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.handed: list[tuple[int, float]] = []

    async def send(self, batch: Sequence[Outgoing]) -> list[Sent]:
        """Hand over, and note when the answers came."""
        answers = await super().send(batch)
        wall = perf_counter()
        self.handed.extend((int.from_bytes(outgoing.attempt_id[:6], "big"), wall) for outgoing in batch)
        return answers
