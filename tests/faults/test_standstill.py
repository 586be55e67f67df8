"""A process that stands still must not make the others wait, and must go on by itself afterwards."""

import asyncio

import pytest

from orderbell.core.events import Status
from orderbell.observe import arm_failpoints, counts
from orderbell.store import statements
from orderbell.store.migrate import migrate
from orderbell.store.postgres import Store
from tests.database import VAULT
from tests.shop import BUYER, event, shelves

PAUSE_MS = 1000
QUICK_MS = 200


async def test_turn_that_stood_still_is_run_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL ends a transaction that does nothing; the turn must come back as a whole and count once."""
    quick = statements.BEGIN.replace(f"'{statements.STANDSTILL_S_MAX}s'", f"'{QUICK_MS}ms'")
    assert quick != statements.BEGIN
    monkeypatch.setattr(statements, "BEGIN", quick)
    before = counts().get("turn.breaks", 0)
    arm_failpoints(f"turn.after_keys=pause:{PAUSE_MS}@1")
    try:
        answers = await store.turn(shelves(), [event("e1", people=BUYER)])
    finally:
        arm_failpoints("")
    assert [answer.status for answer in answers] == [Status.ACCEPTED]
    assert counts()["turn.breaks"] > before
    assert await store.pool.fetchval("SELECT count(*) FROM journal") == 1


async def test_migrate_of_an_old_database_by_several_at_once(blank_database: str) -> None:
    """Whoever comes first makes the tables; the others, then and later, must find them made."""
    await asyncio.gather(*(migrate(blank_database) for _ in range(3)))
    await migrate(blank_database)
    opened = await Store.open(blank_database, VAULT, connections=2)
    try:
        assert await opened.pool.fetchval("SELECT count(*) FROM alembic_version") == 1
    finally:
        await opened.close()
