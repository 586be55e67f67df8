"""The store: a pool of connections and the turn as one transaction.

Everything that touches an order locks its row first. A turn that lost a race (another transaction made the
same order or contact, or PostgreSQL broke a deadlock) is rolled back and tried again as a whole; so is one whose
connection broke. When it broke during COMMIT nobody knows whether the turn counts: the second try finds out by
the event keys, and answers `duplicate` for events that the first try took after all. Either way they count once.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, Self, TypeAlias, TypeVar

import asyncpg

from orderbell.core.events import Answer, Event
from orderbell.core.model import (
    NOTHING_HEARD,
    Contact,
    Order,
    decode_contact,
    decode_history,
    decode_notice,
    decode_order,
    encode_state,
)  # fmt: skip
from orderbell.core.turn import Key, Move, Shelf, Turn, contact_keys, refuse_stray, run_turn
from orderbell.errors import DatabaseUnavailable, TurnConflict
from orderbell.observe import count, failpoint, traces
from orderbell.store import rows, statements
from orderbell.store.changes import ADD_CHANGES, Watched, change_rows
from orderbell.store.dedupe import EventKey, Sifted, first_of_each_key, sift
from orderbell.store.partitions import Month, create_partitions, month_of, months_between
from orderbell.store.vault import Vault

TRIES_MAX = 5
RACES_MAX = 20
"""Whoever loses a race has lost it to a turn that went through, so losing many is no sign of a fault."""

FIRST_PAUSE_S = 0.05
"""Before the second try after a lost connection; doubled for each further one."""

POSTPONED = timedelta(hours=1)
"""How long a timer rests that cannot fire because its playbook is not there."""

COMMAND_TIMEOUT_S = 60
CONNECT_TIMEOUT_S = 10

# A turn that failed with one of these can succeed when it is run again.
RACES = (asyncpg.TransactionRollbackError, asyncpg.UniqueViolationError, TurnConflict)
BREAKS = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the driver says so when the server ends a connection between two messages
    OSError,
    TimeoutError,
)

Shelves: TypeAlias = Mapping[str, Shelf]
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Result = TypeVar("Result")

_shared: ContextVar["tuple[Store, asyncio.Task[Any] | None, Connection] | None"] = ContextVar("_shared", default=None)
"""The connection that the calls of one task share, with the store and the task that they must be of."""


class _MonthsMissing(Exception):
    """The turn must be run again with these partitions."""

    def __init__(self, months: set[Month]) -> None:
        super().__init__(months)
        self.months = months


class Store:
    """The database of one installation, shared by all tasks of a process; made by `open`."""

    def __init__(self, dsn: str, pool: "asyncpg.Pool[asyncpg.Record]", vault: Vault) -> None:
        self.dsn, self.pool, self.vault = dsn, pool, vault
        self.watched: Watched = {}
        """Which tenants have webhooks that want which changes; kept up to date by `store.hooks.watch`."""
        self._months: set[Month] = set()

    @classmethod
    async def open(cls, dsn: str, vault: Vault, *, connections: int = 4) -> Self:
        """Connect; the tables must be there (`orderbell.store.migrate`).

        Args:
            dsn: A PostgreSQL address as libpq takes it; `?host=/folder` names a unix socket.
            vault: Seals and opens what is personal.
            connections: The most that are held at once; one turn needs one.

        Raises:
            DatabaseUnavailable: Nobody answers there, or refuses us.
        """
        try:
            pool = await asyncpg.create_pool(
                dsn, min_size=1, max_size=connections, reset=_keep, timeout=CONNECT_TIMEOUT_S,
                command_timeout=COMMAND_TIMEOUT_S, max_inactive_connection_lifetime=0,
                server_settings={"application_name": "orderbell"},
            )  # fmt: skip
        except (asyncpg.PostgresError, *BREAKS) as problem:
            raise DatabaseUnavailable(f"PostgreSQL does not let us in: {problem}") from problem
        return cls(dsn, pool, vault)

    async def close(self) -> None:
        """Wait for the turns in flight and give the connections back."""
        await self.pool.close()

    async def turn(self, shelves: Shelves, events: Sequence[Event]) -> list[Answer]:
        """Decide a batch of events in one transaction; the answers are aligned with the events.

        When it returns, what was accepted is committed. Events that name an unknown tenant or playbook are refused.

        Raises:
            DatabaseUnavailable: The connection was lost, more than once. Some events may count: sending them
                again is safe.
        """
        shelves = dict(shelves)  # one that is activated meanwhile is for the next turn
        refused = [refuse_stray(shelves, event) for event in events]
        ours = [event for event, no in zip(events, refused, strict=True) if no is None]
        done: list[Turn] = []
        answers = iter(await self._tried(lambda c: self._take(c, shelves, ours, done)) if ours else [])
        _trace(done)
        return [no or next(answers) for no in refused]

    async def fire_due(self, shelves: Shelves, until: datetime, limit: int = 500) -> int:
        """Fire what is due by `until`, of at most `limit` orders; return how many orders changed.

        Any number of processes may call it: each order is fired by one. Orders that a turn holds are left for
        the next call, so 0 does not prove that nothing is due.

        Raises:
            DatabaseUnavailable: As `turn`.
        """
        shelves = dict(shelves)
        done: list[Turn] = []
        fired = await self._tried(lambda c: self._fire(c, shelves, until, limit, done))
        _trace(done)
        return fired

    async def next_due_at(self) -> datetime | None:
        """Return when the first timer falls due, None when no order waits for anything."""
        due_at: datetime | None = await self._guarded(self.pool.fetchval(statements.NEXT_DUE))
        return due_at

    async def ensure_partitions(self, at_first: datetime, at_last: datetime) -> None:
        """See to it that the journal takes lines from `at_first` to `at_last`; known months cost nothing."""
        await self._guarded(self._create(set(months_between(at_first, at_last)) - self._months))

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection for reads and changes of single rows; DatabaseUnavailable when it breaks."""
        shared = _shared.get()
        try:
            if shared is not None and shared[:2] == (self, asyncio.current_task()):
                yield shared[2]
            else:
                async with self.pool.acquire() as connection:
                    yield connection
        except BREAKS as problem:
            raise DatabaseUnavailable(f"PostgreSQL does not answer: {problem}") from problem

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Make one transaction of all that this task does over `connection` meanwhile: all of it counts, or nothing.

        Turns keep transactions of their own; tasks that are begun meanwhile have nothing to do with it.
        """
        async with self.connection() as connection, connection.transaction():
            token = _shared.set((self, asyncio.current_task(), connection))
            try:
                yield
            finally:
                _shared.reset(token)

    async def _create(self, months: set[Month]) -> None:
        if months:
            async with self.pool.acquire() as connection:
                await create_partitions(connection, sorted(months))
            self._months |= months

    async def _guarded(self, call: Awaitable[Result]) -> Result:
        try:
            return await call
        except BREAKS as problem:
            raise DatabaseUnavailable(f"PostgreSQL does not answer: {problem}") from problem

    async def _tried(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Run work in a transaction, again where that can help."""
        races = breaks = drops = 0
        while True:
            try:
                async with self.pool.acquire() as connection, _transaction(connection):
                    return await work(connection)
            except _MonthsMissing as missing:
                await self._guarded(self._create(missing.months))
            except asyncpg.CheckViolationError:
                # Somebody dropped a month that this process knew.
                self._months.clear()
                drops += 1
                if drops >= TRIES_MAX:
                    raise
            except RACES as race:
                count("turn.races")
                races += 1
                if races >= RACES_MAX:
                    raise DatabaseUnavailable(f"the turn lost {races} races in a row: {race}") from race
            except BREAKS as problem:
                count("turn.breaks")
                breaks += 1
                if breaks >= TRIES_MAX:
                    raise DatabaseUnavailable(f"PostgreSQL does not answer: {problem}") from problem
                await asyncio.sleep(FIRST_PAUSE_S * 2 ** (breaks - 1))

    async def _take(
        self, connection: Connection, shelves: Shelves, events: Sequence[Event], done: list[Turn]
    ) -> list[Answer]:
        sifted = await _sift(connection, events)
        fresh = sifted.fresh
        orders = await _lock_orders(connection, {event.order_key for event in fresh})
        contacts = await self._lock_contacts(connection, contact_keys(shelves, fresh, orders, self.vault.index_key))
        turn = run_turn(shelves, fresh, orders, contacts, key_of=self.vault.index_key)
        done[:] = [turn]  # of several tries, the last one counts
        turn.entries[:0] = sifted.altered
        if turn.entries:
            await self._write(connection, shelves, turn, orders, rows.timer_rows(orders, turn))
            await self._note(connection, shelves, orders, turn)
        return sifted.answers

    async def _fire(
        self, connection: Connection, shelves: Shelves, until: datetime, limit: int, done: list[Turn]
    ) -> int:
        claimed = await connection.fetch(statements.CLAIM_TIMERS, until, list(shelves), limit)
        if not claimed:
            return 0
        due = {(row["tenant"], row["order_no"]): row["due_at"] for row in claimed}
        orders = await _lock_orders(connection, due, statements.LOCK_FREE_ORDERS)
        if len(orders) < len(due):
            lost = sorted(key for key in due if key not in orders)
            await connection.execute(statements.DROP_LOST_TIMERS, *rows.keys(lost))
        keys = [key for key in due if key in orders]
        turn = run_turn(shelves, [], orders, {}, keys, until)
        done[:] = [turn]
        timers = rows.timer_rows(orders, turn)
        for key in keys:
            _mend(timers, turn.orders.get(key) or orders[key], due[key], until)
        await self._write(connection, shelves, turn, orders, timers)
        await self._note(connection, shelves, orders, turn)
        return len(turn.orders)

    async def _note(self, connection: Connection, shelves: Shelves, before: Mapping[Key, Order], turn: Turn) -> None:
        """Put down for webhooks what changed, where somebody listens."""
        if self.watched and (changed := change_rows(self.watched, shelves, before, turn)):
            await connection.execute(ADD_CHANGES, *rows.columns(changed, 6))

    async def _write(
        self,
        connection: Connection,
        shelves: Shelves,
        turn: Turn,
        before: Mapping[Key, Order],
        timers: rows.TimerRows,
    ) -> None:
        self._check_months(turn)
        new = [order for key, order in turn.orders.items() if key in turn.created]
        if new:
            added = await connection.execute(statements.ADD_ORDERS, *rows.new_orders(new, shelves))
            _expect(added, len(new), "orders")
        if turn.contacts:
            await self._write_contacts(connection, turn)
        for move in turn.moves:
            await _move(connection, move)
        changed = [order for key, order in turn.orders.items() if key not in turn.created]
        await connection.execute(
            statements.WRITE, *rows.changed_orders(changed, shelves), *rows.armed_timers(timers),
            *rows.keys(timers.cleared), *rows.queue(turn.notices, shelves), *rows.parties(before, turn),
        )  # fmt: skip
        if turn.anomalies:
            await connection.execute(statements.PUT_ANOMALIES, *rows.anomalies(turn.anomalies.values()))
        if turn.cases:
            await connection.execute(statements.PUT_CASES, *rows.cases(turn.cases.values()))
        if turn.consents:
            await connection.execute(statements.ADD_CONSENTS, *rows.consents(turn.consents))
        if turn.amends:
            await connection.execute(statements.ADD_AMENDS, *rows.amends(turn.amends))
        lines = map(rows.journal_row, turn.entries)
        await connection.copy_records_to_table("journal", records=lines, columns=rows.JOURNAL)

    async def _lock_contacts(self, connection: Connection, keys: set[Key]) -> dict[Key, Contact]:
        if not keys:
            return {}
        found = await connection.fetch(statements.LOCK_CONTACTS, *rows.keys(keys))
        return {(tenant, name): decode_contact(self.vault.open(tenant, name, body)) for tenant, name, body in found}

    async def _write_contacts(self, connection: Connection, turn: Turn) -> None:
        updated_at = max(entry.at for entry in turn.entries)
        new = [contact for key, contact in turn.contacts.items() if key in turn.new_contacts]
        if new:
            columns = rows.contact_columns(new, updated_at, self.vault)
            _expect(await connection.execute(statements.ADD_CONTACTS, *columns), len(new), "contacts")
        changed = [contact for key, contact in turn.contacts.items() if key not in turn.new_contacts]
        if changed:
            columns = rows.contact_columns(changed, updated_at, self.vault)
            await connection.execute(statements.CHANGE_CONTACTS, *columns)

    def _check_months(self, turn: Turn) -> None:
        instants = [entry.at for entry in turn.entries]
        if instants:
            ends = {month_of(min(instants)), month_of(max(instants))}
            # Nearly every batch lies in one month: then its ends tell all.
            missing = (ends if len(ends) == 1 else {month_of(at) for at in instants}) - self._months
            if missing:
                raise _MonthsMissing(missing)


def _trace(done: Sequence[Turn]) -> None:
    tracer = traces.active()
    if tracer is not None:
        for turn in done:
            tracer.decided(turn)


@asynccontextmanager
async def _transaction(connection: Connection) -> AsyncIterator[None]:
    # Written out because BEGIN and the settings are one round trip this way.
    try:
        await connection.execute(statements.BEGIN)
        yield
        failpoint("turn.before_commit")
        await connection.execute("COMMIT")
    except BREAKS:
        connection.terminate()
        raise
    except BaseException:
        try:
            await connection.execute("ROLLBACK")
        except Exception:  # noqa: BLE001 - whatever is wrong with the connection, the pool makes a new one
            connection.terminate()
        raise
    failpoint("turn.after_commit")


async def _keep(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Leave a connection that comes back to the pool as it is: the turn sets nothing beyond its transaction."""


async def _sift(connection: Connection, events: Sequence[Event]) -> Sifted:
    firsts = first_of_each_key(events)
    wanted = rows.event_keys(firsts)
    known: dict[EventKey, bytes] = {}
    if _affected(await connection.execute(statements.TAKE_KEYS, *wanted)) < len(firsts):
        found = await connection.fetch(statements.KNOWN_KEYS, *wanted[:3])
        known = {firsts[row["place"] - 1].key: row["body_hash"] for row in found if not row["fresh"]}
    failpoint("turn.after_keys")
    return sift(events, known)


async def _lock_orders(
    connection: Connection, keys: Iterable[Key], statement: str = statements.LOCK_ORDERS
) -> dict[Key, Order]:
    wanted = rows.keys(keys)
    found = await connection.fetch(statement, *wanted) if wanted[0] else []
    orders = (decode_order(row["state"]) for row in found)
    return {(order.tenant, order.no): order for order in orders}


async def _move(connection: Connection, move: Move) -> None:
    """Take what waits for the old contact over to the new one, and what was heard of the order."""
    (tenant, old), (_, new) = move.keys
    waiting = await connection.fetch(statements.WAITING_FOR, tenant, old)
    moved = [(row, notice) for row in waiting if (notice := move.of(decode_notice(row["body"]))) is not None]
    if moved:
        await connection.execute(statements.UNQUEUE, tenant, old, [row["notice_id"] for row, _ in moved])
        lines = [(row["notice_id"], row["lane"], row["due_at"], encode_state(notice)) for row, notice in moved]
        await connection.execute(statements.REQUEUE, tenant, new, *rows.columns(lines, 4))
    found = await connection.fetch(statements.HEARD_BY, tenant, [old, new])
    heard: dict[str, bytes | None] = {row["contact"]: row["history"] for row in found}
    if (told := heard.get(old)) is not None:
        before = heard.get(new)
        history = move.heard(decode_history(told), decode_history(before) if before is not None else NOTHING_HEARD)
        await connection.execute(statements.REMEMBER, tenant, new, encode_state(history))


def _mend(timers: rows.TimerRows, order: Order, claimed_at: datetime, until: datetime) -> None:
    """Make the timer row of an order agree with the order, so that a stale one does not come up for ever."""
    key = (order.tenant, order.no)
    due_at = order.next_due_at
    if due_at is None:
        timers.cleared.add(key)
    elif due_at <= until:
        count("timers.postponed")
        timers.armed[key] = until + POSTPONED
    elif due_at != claimed_at:
        timers.armed[key] = due_at


def _affected(status: str) -> int:
    """Read the number of rows from a command's answer, such as `INSERT 0 500`."""
    return int(status.rpartition(" ")[2])


def _expect(status: str, expected: int, what: str) -> None:
    if _affected(status) != expected:
        raise TurnConflict(f"another transaction made the same {what} first")
