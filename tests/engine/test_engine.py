"""The engine: batches form, order is kept, callers are answered after commit, and a full house says so."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest

from orderbell.core.events import Answer, Event, Status
from orderbell.core.turn import Shelf
from orderbell.engine import Intake, IntakeBusy, IntakeClosed, Timers, TurnStore
from orderbell.errors import DatabaseUnavailable
from orderbell.store.postgres import Store
from tests.shop import NOON, event, shelves

SHELVES = shelves()


class FakeStore:
    """Remembers the batches; holds them while `gate` is closed and fails with `problem` if there is one."""

    def __init__(self) -> None:
        self.batches: list[list[Event]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.problem: Exception | None = None
        self.poison = ""
        self.due: list[datetime] = []

    async def turn(self, shelves: Mapping[str, Shelf], events: Sequence[Event]) -> list[Answer]:
        """Accept everything."""
        self.entered.set()
        await self.gate.wait()
        if self.problem is not None:
            raise self.problem
        if self.poison in {told.id for told in events}:
            raise ValueError(self.poison)
        self.batches.append(list(events))
        return [Answer(told.id, Status.ACCEPTED) for told in events]

    async def fire_due(self, shelves: Mapping[str, Shelf], until: datetime, limit: int = 500) -> int:
        """Fire what is due."""
        if self.problem is not None:
            problem, self.problem = self.problem, None
            raise problem
        ripe = [at for at in self.due if at <= until][:limit]
        self.due = [at for at in self.due if at not in ripe]
        if not self.due:
            self.entered.set()
        return len(ripe)

    async def next_due_at(self) -> datetime | None:
        """Return the first."""
        return min(self.due, default=None)


@asynccontextmanager
async def running(intake: Intake) -> AsyncIterator[Intake]:
    """An intake that runs."""
    task = asyncio.create_task(intake.run())
    try:
        yield intake
    finally:
        await intake.close()
        await task


async def test_events_submitted_together_share_a_turn() -> None:
    """Many callers within the waiting time are one batch."""
    store = FakeStore()
    async with running(Intake(store, SHELVES, lanes=1, wait_ms=50)) as intake:
        answers = await asyncio.gather(*(intake.submit([event(str(n), f"A{n}")]) for n in range(20)))
    assert [answer.id for (answer,) in answers] == [str(n) for n in range(20)]
    assert [len(batch) for batch in store.batches] == [20]
    assert intake.pending == 0


async def test_full_batch_does_not_wait() -> None:
    """A batch of the full size goes at once, however long the waiting time is."""
    store = FakeStore()
    async with running(Intake(store, SHELVES, lanes=1, size=10, wait_ms=3_600_000)) as intake:
        events = [event(str(n), f"A{n}") for n in range(30)]
        assert len(await intake.submit(events)) == 30
    assert [len(batch) for batch in store.batches] == [10, 10, 10]


async def test_events_of_an_order_keep_their_order() -> None:
    """Within a call and over calls, the events of an order are decided as they were submitted."""
    store = FakeStore()
    async with running(Intake(store, SHELVES, lanes=3, size=7, wait_ms=0)) as intake:
        calls = [[event(f"{call}-{n}", f"A{n % 5}") for n in range(23)] for call in range(9)]
        answers = await asyncio.gather(*(intake.submit(call) for call in calls))
    assert [[answer.id for answer in mine] for mine in answers] == [[told.id for told in call] for call in calls]
    for number in range(5):
        decided = [told.id for batch in store.batches for told in batch if told.order_no == f"A{number}"]
        assert decided == [told.id for call in calls for told in call if told.order_no == f"A{number}"]


async def test_nobody_is_answered_before_commit() -> None:
    """While the turn is not committed the caller waits."""
    store = FakeStore()
    store.gate.clear()
    async with running(Intake(store, SHELVES, wait_ms=0)) as intake:
        call = asyncio.create_task(intake.submit([event("1")]))
        await store.entered.wait()
        assert not call.done()
        store.gate.set()
        (answer,) = await call
    assert answer.status is Status.ACCEPTED


async def test_full_house_turns_callers_away() -> None:
    """Over the bound a caller is refused at once; when the work is done there is room again."""
    store = FakeStore()
    store.gate.clear()
    async with running(Intake(store, SHELVES, wait_ms=0, pending_max=10)) as intake:
        first = asyncio.create_task(intake.submit([event(str(n), f"A{n}") for n in range(8)]))
        await store.entered.wait()
        with pytest.raises(IntakeBusy, match="8 events wait"):
            await intake.submit([event(f"x{n}") for n in range(3)])
        store.gate.set()
        assert len(await first) == 8
        assert len(await intake.submit([event(f"x{n}") for n in range(3)])) == 3


async def test_failing_database_fails_the_callers_and_not_the_intake() -> None:
    """Callers hear that the outcome is unknown; later calls are served."""
    store = FakeStore()
    store.problem = DatabaseUnavailable("away")
    async with running(Intake(store, SHELVES, wait_ms=0)) as intake:
        with pytest.raises(DatabaseUnavailable, match="away"):
            await intake.submit([event("1"), event("2", "A2")])
        store.problem = None
        assert len(await intake.submit([event("1")])) == 1


async def test_event_that_breaks_its_turn_is_refused_alone() -> None:
    """The one event that no turn survives is found and refused; its neighbours are accepted."""
    store = FakeStore()
    store.poison = "5"
    async with running(Intake(store, SHELVES, lanes=1, wait_ms=0)) as intake:
        answers = await intake.submit([event(str(n), f"A{n}") for n in range(9)])
    assert [answer.id for answer in answers if answer.status is Status.REFUSED] == ["5"]
    assert [answer.id for answer in answers] == [str(n) for n in range(9)]
    assert sorted(told.id for batch in store.batches for told in batch) == list("01234678")


async def test_caller_who_leaves_disturbs_nobody() -> None:
    """A caller who is cancelled does not cancel the turn of the others."""
    store = FakeStore()
    store.gate.clear()
    async with running(Intake(store, SHELVES, lanes=1, wait_ms=20)) as intake:
        leaver = asyncio.create_task(intake.submit([event("1")]))
        stayer = asyncio.create_task(intake.submit([event("2", "A2")]))
        await store.entered.wait()
        leaver.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaver
        store.gate.set()
        assert [answer.id for answer in await stayer] == ["2"]


async def test_closing_answers_what_was_taken_and_takes_no_more() -> None:
    """Everything submitted before the end is answered, what comes later is turned away."""
    store = FakeStore()
    intake = Intake(store, SHELVES, wait_ms=3_600_000)
    task = asyncio.create_task(intake.run())
    calls = [asyncio.create_task(intake.submit([event(str(n), f"A{n}")])) for n in range(5)]
    await asyncio.sleep(0)
    await intake.close()
    await task
    assert [len(await call) for call in calls] == [1] * 5
    with pytest.raises(IntakeClosed):
        await intake.submit([event("late")])


async def test_timers_fire_until_nothing_is_due() -> None:
    """More due orders than one turn takes are fired one turn after another; a database that is away is waited for."""
    store = FakeStore()
    store.due = [NOON + timedelta(seconds=n) for n in range(25)]
    store.problem = DatabaseUnavailable("away")
    checked: TurnStore = store
    timers = Timers(checked, SHELVES, now=lambda: NOON + timedelta(hours=1), poll_s=0.001, limit=10)
    task = asyncio.create_task(timers.run())
    await store.entered.wait()
    await timers.close()
    await task
    assert store.due == []


async def test_engine_on_postgresql_decides_and_fires(store: Store) -> None:
    """The real store under the engine: many callers, two lanes, then timers by two workers."""
    async with running(Intake(store, SHELVES, size=50, wait_ms=1)) as intake:
        placed = [intake.submit([event(f"p{n}", f"A{n % 20}", after_s=n)]) for n in range(100)]
        answers = await asyncio.gather(*placed)
    assert {answer.status for (answer,) in answers} == {Status.ACCEPTED}
    workers = [Timers(store, SHELVES, now=lambda: NOON + timedelta(hours=2), poll_s=0.01, limit=7) for _ in range(2)]
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    fired = "SELECT count(*) FROM journal WHERE type = 'timer.due'"
    async with asyncio.timeout(20):
        while await store.pool.fetchval(fired) < 20:  # noqa: ASYNC110 - a table has no event to wait for
            await asyncio.sleep(0)
    for worker in workers:
        await worker.close()
    await asyncio.gather(*tasks)
    assert await store.pool.fetchval(fired) == 20
    assert await store.pool.fetchval("SELECT count(*) FROM orders WHERE light = 'red'") == 20
