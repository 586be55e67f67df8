"""Untold cases in the real database: told by one at a time, no row held meanwhile, none told of that is closed."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from orderbell.core.model import Case
from orderbell.core.turn import CaseLine
from orderbell.store import casework as module
from orderbell.store import rows, statements
from orderbell.store.casework import Casework, UntoldCase
from orderbell.store.postgres import Store

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TENANTS = ("acme", "bell")


def line(number: int, *, tenant: str = "acme", closed: bool = False) -> CaseLine:
    """A case as a turn writes it, one a minute."""
    case = Case(number.to_bytes(16, "big"), "parcel_lost", "handle", "logistics", NOON + timedelta(minutes=number))
    return CaseLine(tenant, f"A{number}", case, NOON if closed else None)


async def put(store: Store, *lines: CaseLine) -> None:
    """Write cases as a turn does."""
    await store.pool.execute(statements.PUT_CASES, *rows.cases(lines))


def orders(cases: Iterable[UntoldCase]) -> list[str]:
    """The order numbers of cases."""
    return [case.order_no for case in cases]


async def told_count(store: Store) -> int:
    """How many cases are marked."""
    return int(await store.pool.fetchval("SELECT count(*) FROM cases WHERE staff_told_at IS NOT NULL"))


async def test_untold_are_the_open_ones_newest_first(store: Store) -> None:
    """Only open cases of these tenants that nobody was told of must be given, the newest first, at most so many."""
    casework = Casework(store)
    assert not await casework.waiting(TENANTS)
    await put(store, line(1), line(2, tenant="bell"), line(3, closed=True), line(4, tenant="other"), line(5))
    assert await casework.waiting(TENANTS)
    assert not await casework.waiting(["nobody"])
    found = await casework.untold(TENANTS, 10)
    assert orders(found) == ["A5", "A2", "A1"]
    assert found[1] == UntoldCase(
        "bell", bytes([*bytes(15), 2]), "A2", "parcel_lost", "handle", "logistics", NOON + timedelta(minutes=2)
    )
    assert orders(await casework.untold(TENANTS, 2)) == ["A5", "A2"]
    assert await casework.mark_told(found[:2], NOON) == 0
    assert orders(await casework.untold(TENANTS, 10)) == ["A1"]
    await put(store, line(1, closed=True))
    assert not await casework.waiting(TENANTS)


async def test_mark_keeps_the_first_time(store: Store) -> None:
    """Marking twice must change nothing, nor must a later turn that changes the case."""
    casework = Casework(store)
    await put(store, line(1))
    found = await casework.untold(TENANTS, 10)
    assert await casework.mark_told(found, NOON) == 0
    assert await casework.mark_told(found, NOON + timedelta(hours=1)) == 0
    await put(store, line(1))
    assert await store.pool.fetchval("SELECT staff_told_at FROM cases") == NOON
    assert await casework.mark_told([], NOON) == 0


async def test_mark_beside_a_turn(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case that a turn holds must not be waited for in the database, and be named as left; the others are marked."""
    monkeypatch.setattr(module, "MARK_PAUSE_S", 0)
    casework = Casework(store)
    await put(store, line(1), line(2), line(3))
    found = await casework.untold(TENANTS, 10)
    async with store.pool.acquire() as turn:
        transaction = turn.transaction()
        await transaction.start()
        await turn.execute("UPDATE cases SET state = 'acknowledged' WHERE order_no = 'A2'")
        assert await casework.mark_told(found, NOON) == 1
        assert await told_count(store) == 2
        await transaction.commit()
    assert await casework.mark_told(found, NOON) == 0
    assert await told_count(store) == 3


async def test_turn_closes_a_case_that_is_being_told(store: Store) -> None:
    """Telling must hold no row: a turn closes the case at once, and the mark that follows harms nobody."""
    casework = Casework(store)
    await put(store, line(1))
    async with casework.on_duty() as ours:
        assert ours
        found = await casework.untold(TENANTS, 10)
        async with store.pool.acquire() as turn, turn.transaction():
            await turn.execute("SET LOCAL lock_timeout = '100ms'")
            await turn.execute(statements.PUT_CASES, *rows.cases([line(1, closed=True)]))
        assert await casework.mark_told(found, NOON) == 0
    assert not await casework.waiting(TENANTS)


async def test_one_is_on_duty(store: Store) -> None:
    """Of several processes one must be on duty; another takes over when it goes, or when its lease is over."""
    one, other = Casework(store), Casework(store)
    elsewhere = Casework(store, "staff of bell")
    async with one.on_duty() as first, other.on_duty() as second, elsewhere.on_duty() as third:
        assert (first, second, third) == (True, False, True)
    async with other.on_duty() as second:
        assert second
        async with one.on_duty() as first:
            assert not first
        await store.pool.execute("UPDATE worker SET lease_until = now() - interval '1 second'")
        async with one.on_duty() as first:
            assert first, "the dead were waited for"
    # What runs out by itself is cleared away with the other leases; nothing else may be left.
    assert await store.pool.fetchval("SELECT count(*) FROM worker WHERE lease_until > now()") == 0


async def test_untold_are_found_by_their_index(store: Store) -> None:
    """However many cases there have been, the untold ones must be found without reading the others."""
    await store.pool.execute(
        "INSERT INTO cases (tenant, case_id, order_no, anomaly, kind, owner, state, opened_at, closed_at,"
        " staff_told_at) SELECT 'acme', int8send(n) || int8send(n), 'B' || n, 'parcel_lost', 'handle', 'logistics',"
        " 'open', $1::timestamptz + n * interval '1 second', NULL, $1 FROM generate_series(1, 20000) AS n",
        NOON,
    )
    await put(store, *(line(number) for number in range(1, 6)))
    await store.pool.execute("ANALYZE cases")
    for statement, more in ((module._UNTOLD, [100]), (module._ANY, [])):
        plan = await store.pool.fetch("EXPLAIN " + statement, ["acme"], *more)
        assert "cases_untold" in "\n".join(row[0] for row in plan), plan
