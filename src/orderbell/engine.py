"""The engine: events that wait are taken in batches, due timers are fired, and callers are answered after commit.

Order is kept: all events of an order go through the same lane, and a lane runs one turn at a time; several
lanes keep the database busy while another batch is being decided. Between processes the order row decides.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from time import perf_counter
from typing import Protocol

import structlog

from orderbell.core.events import Answer, Event, Status
from orderbell.core.model import Reason
from orderbell.core.turn import Key, Shelf
from orderbell.errors import DatabaseUnavailable, OrderBellError
from orderbell.observe import count, traces
from orderbell.observe.figures import measure, tally

log = structlog.get_logger()

PENDING_MAX = 20_000
"""Events that may wait in a process, about two seconds of work; more are turned away at once."""

BUSY_PAUSE_S = 0.05
"""Before the next look when due orders were held by others."""


class IntakeBusy(OrderBellError):
    """More events wait than can be taken soon; send them again in a moment."""


class IntakeClosed(OrderBellError):
    """The process is going down and takes no more events."""


class TurnStore(Protocol):
    """What the engine asks of a store; `store.postgres.Store` is one."""

    async def turn(self, shelves: Mapping[str, Shelf], events: Sequence[Event]) -> list[Answer]:
        """Decide a batch in one transaction."""
        ...

    async def fire_due(self, shelves: Mapping[str, Shelf], until: datetime, limit: int = 500) -> int:
        """Fire due timers; return how many orders changed."""
        ...

    async def next_due_at(self) -> datetime | None:
        """Return when the first timer falls due."""
        ...


class _Ticket:
    """A caller who waits for the answers to several events, which may travel in several batches."""

    __slots__ = ("answers", "done", "missing", "origin")

    def __init__(self, size: int) -> None:
        self.answers: list[Answer | None] = [None] * size
        self.missing = size
        self.origin = traces.origin()
        self.done: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()


class _Share:
    """Some events of one caller for one lane; `places` are their positions among the caller's events."""

    __slots__ = ("events", "places", "ticket")

    def __init__(self, ticket: _Ticket, events: list[Event], places: list[int]) -> None:
        self.ticket, self.events, self.places = ticket, events, places

    def settle(self, answers: Sequence[Answer]) -> None:
        """Hand the answers to the caller, who is woken by the last of them."""
        ticket = self.ticket
        for place, answer in zip(self.places, answers, strict=True):
            ticket.answers[place] = answer
        ticket.missing -= len(self.places)
        if ticket.missing == 0 and not ticket.done.done():
            ticket.done.set_result([answer for answer in ticket.answers if answer is not None])

    def fail(self, problem: Exception) -> None:
        """Tell the caller that the outcome of these events is unknown."""
        if not self.ticket.done.done():
            self.ticket.done.set_exception(problem)


class _Lane:
    """Events that wait for the turns of one lane, oldest first."""

    def __init__(self) -> None:
        self.shares: deque[_Share] = deque()
        self.waiting = 0
        self.changed = asyncio.Event()
        self.first_at = 0.0

    def put(self, share: _Share) -> None:
        """Add the events of a caller at the end."""
        if not self.shares:
            self.first_at = asyncio.get_running_loop().time()
        self.shares.append(share)
        self.waiting += len(share.events)
        self.changed.set()

    def take(self, size: int) -> list[_Share]:
        """Remove the oldest events, at most `size`; a share is never larger."""
        taken: list[_Share] = []
        total = 0
        while self.shares and total + len(self.shares[0].events) <= size:
            share = self.shares.popleft()
            total += len(share.events)
            taken.append(share)
        self.waiting -= total
        return taken


class Intake:
    """Group commit: what arrives within a few milliseconds is decided in one transaction.

    Args:
        store: Where the turns run.
        shelves: The playbooks by tenant; may change while the intake runs.
        size: Events per turn at most.
        wait_ms: How long the first event of a batch waits for company.
        lanes: Turns in flight; the store needs as many connections.
        pending_max: Events that may wait before `submit` raises IntakeBusy.
    """

    def __init__(
        self, store: TurnStore, shelves: Mapping[str, Shelf], *, size: int = 500, wait_ms: float = 3, lanes: int = 2,
        pending_max: int = PENDING_MAX,
    ) -> None:  # fmt: skip
        self._store, self._shelves = store, shelves
        self._size, self._wait_s, self._pending_max = size, wait_ms / 1000, pending_max
        self._lanes = [_Lane() for _ in range(lanes)]
        self._pending = 0
        self._under_way: dict[Key, tuple[_Lane, int]] = {}
        self._closing = False

    @property
    def pending(self) -> int:
        """How many events wait or are being decided."""
        return self._pending

    async def submit(self, events: Sequence[Event]) -> list[Answer]:
        """Have events decided; returns their answers, aligned, once everything accepted is committed.

        Events of one order are decided in the order in which they were submitted.

        Raises:
            IntakeBusy: Too many events wait; none of these was taken.
            IntakeClosed: The intake is closing; none of these was taken.
            DatabaseUnavailable: Some of these may count, some not: sending all of them again is safe.
        """
        if self._closing:
            raise IntakeClosed("the process is going down; send the events again in a moment")
        if self._pending and self._pending + len(events) > self._pending_max:
            count("intake.busy", len(events))
            raise IntakeBusy(f"{self._pending} events wait already; send these again in a moment")
        if not events:
            return []
        ticket = _Ticket(len(events))
        self._pending += len(events)
        self._spread(ticket, events)
        return await ticket.done

    def _spread(self, ticket: _Ticket, events: Sequence[Event]) -> None:
        # An order that has events under way stays in its lane, so that they keep their order. All others go to the
        # first lane until a full batch waits there: few large turns cost less than many small ones.
        free = next((lane for lane in self._lanes if lane.waiting < self._size), None)
        free = free or min(self._lanes, key=lambda lane: lane.waiting)
        places: dict[_Lane, list[int]] = {}
        for place, event in enumerate(events):
            key = event.order_key
            lane, count = self._under_way.get(key, (free, 0))
            self._under_way[key] = (lane, count + 1)
            places.setdefault(lane, []).append(place)
        for lane, mine in places.items():
            for start in range(0, len(mine), self._size):
                part = mine[start : start + self._size]
                lane.put(_Share(ticket, [events[place] for place in part], part))

    def _leave(self, events: Sequence[Event]) -> None:
        for event in events:
            key = event.order_key
            lane, count = self._under_way.pop(key)
            if count > 1:
                self._under_way[key] = (lane, count - 1)

    async def run(self) -> None:
        """Run the turns until `close` is called and everything that was submitted is answered."""
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(self._drive(lane))

    async def close(self) -> None:
        """Take nothing more; `run` ends when the rest is answered."""
        self._closing = True
        for lane in self._lanes:
            lane.changed.set()

    async def _drive(self, lane: _Lane) -> None:
        while True:
            await self._gather(lane)
            batch = lane.take(self._size)
            if not batch:
                return
            # Those that came too late for this batch have been waiting for it: they go next without delay.
            await self._decide(batch)

    async def _gather(self, lane: _Lane) -> None:
        """Wait until a batch is worth a turn; with nothing waiting, that the intake closes."""
        loop = asyncio.get_running_loop()
        while not self._closing:
            rest_s = lane.first_at + self._wait_s - loop.time() if lane.shares else None
            if lane.waiting >= self._size or (rest_s is not None and rest_s <= 0):
                return
            lane.changed.clear()
            try:
                async with asyncio.timeout(rest_s):
                    await lane.changed.wait()
            except TimeoutError:
                return

    async def _decide(self, batch: list[_Share]) -> None:
        events = [event for share in batch for event in share.events]
        began = perf_counter()
        try:
            with traces.turn(lambda: [(share.ticket.origin, share.events) for share in batch]):
                answers = await self._turn(events)
        except asyncio.CancelledError:
            self._fail(batch, DatabaseUnavailable("the process was stopped while it decided the events"))
            raise
        except Exception as problem:  # noqa: BLE001 - whatever it is belongs to the callers, and the lane goes on
            log.warning("turn failed", events=len(events), problem=f"{type(problem).__name__}: {problem}")
            self._fail(batch, problem)
        else:
            measure("turn_seconds", perf_counter() - began)
            _note(answers)
            start = 0
            for share in batch:
                share.settle(answers[start : start + len(share.events)])
                start += len(share.events)
        finally:
            self._pending -= len(events)
            self._leave(events)

    def _fail(self, batch: list[_Share], problem: Exception) -> None:
        for share in batch:
            share.fail(problem)

    async def _turn(self, events: list[Event]) -> list[Answer]:
        """Run a turn; where the fault is not the database's, find the event that it breaks on and refuse that one."""
        try:
            return await self._store.turn(self._shelves, events)
        except DatabaseUnavailable:
            raise
        except Exception as problem:
            if len(events) == 1:
                log.exception("event refused", tenant=events[0].tenant, event_id=events[0].id)
                count("intake.poison")
                detail = f"the event cannot be decided: {type(problem).__name__}"
                return [Answer(events[0].id, Status.REFUSED, Reason.UNDECIDABLE.value, "", detail)]
        middle = len(events) // 2
        return [*await self._turn(events[:middle]), *await self._turn(events[middle:])]


def _note(answers: Sequence[Answer]) -> None:
    """Put what became of a batch into the figures."""
    count("intake.events", len(answers))
    count("intake.turns")
    measure("turn_events", len(answers))
    for status, times in Counter([answer.status for answer in answers]).items():
        tally("events", (status,), times)
        if status is Status.REFUSED:
            for answer in answers:
                if answer.status is Status.REFUSED:
                    tally("events_refused", (answer.reason,))


class Timers:
    """Fires due timers. Any number of processes may run it on one database.

    Args:
        store: Where the timers are.
        shelves: The playbooks by tenant.
        now: The clock.
        poll_s: The longest sleep: timers that others set in the meantime are found after it at the latest.
        limit: Orders per turn.
    """

    def __init__(
        self, store: TurnStore, shelves: Mapping[str, Shelf], *, now: Callable[[], datetime], poll_s: float = 0.5,
        limit: int = 500,
    ) -> None:  # fmt: skip
        self._store, self._shelves, self._now = store, shelves, now
        self._poll_s, self._limit = poll_s, limit
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Fire what falls due until `close` is called; a database that is away is waited for."""
        while not self._closing.is_set():
            try:
                pause_s = await self._look()
            except DatabaseUnavailable as problem:
                log.warning("timers wait for the database", problem=str(problem))
                pause_s = self._poll_s
            except Exception:
                # One order must not stop the timers of all others; it stays due, and the log says why.
                log.exception("timers failed")
                pause_s = self._poll_s
            await self._sleep(pause_s)

    async def close(self) -> None:
        """Have `run` end after the turn that it is in."""
        self._closing.set()

    async def _look(self) -> float:
        """Fire one batch; return how long nothing needs to be done, in seconds."""
        fired = await self._store.fire_due(self._shelves, self._now(), self._limit)
        if fired:
            count("timers.fired", fired)
            return 0.0
        due_at = await self._store.next_due_at()
        if due_at is None:
            return self._poll_s
        return min(self._poll_s, max(BUSY_PAUSE_S, (due_at - self._now()).total_seconds()))

    async def _sleep(self, pause_s: float) -> None:
        if pause_s > 0:
            try:
                async with asyncio.timeout(pause_s):
                    await self._closing.wait()
            except TimeoutError:
                return
