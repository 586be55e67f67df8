"""Migration 0003 on a database that was in use: nothing that stood there may be lost or told twice."""

from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec

from orderbell.core.model import Message
from orderbell.store.ledger import Claim, Ledger, Moves, Waiting
from orderbell.store.migrate import migrate
from orderbell.store.postgres import Store
from tests.database import VAULT

AT = datetime(2026, 3, 2, tzinfo=UTC)
FIELDS_OF_0002 = 17
"""Of a message; the others came with 0003."""

_MESSAGE = """INSERT INTO message (
    tenant, message_id, order_no, contact, topic, channel, lane, text, body, created_at, told_at, valid_until,
    status, attempt_no, attempt_id, provider, worker, due_at, sending_at)
    VALUES ('acme', $1, 'A1', 'c1', 'paid', 'sms', 0, 'text', $2, $3, $3, $3, $4, 1, $5, 'sandbox', 1, $6, $3)"""


def old_body(message_id: bytes) -> bytes:
    """The sealed body of a message as the release before wrote it."""
    message = Message(
        message_id, "acme", "c1", "sms", "+8613800000001", "paid", "transaction", "critical", "A1", "text", "",
        (bytes(16),), AT, AT, AT + timedelta(days=1),
    )  # fmt: skip
    fields = msgspec.to_builtins(message, builtin_types=(bytes, datetime))
    return VAULT.seal("acme", message_id, msgspec.msgpack.encode(fields[:FIELDS_OF_0002]))


async def fill(connection: asyncpg.Connection) -> None:
    """Leave a message in each status behind, one of them in flight, and an open case."""
    for number, status in enumerate(("queued", "unknown", "sending", "accepted")):
        message_id, attempt_id = bytes([number]) * 16, bytes([number + 9]) * 16
        due_at = AT if status in {"queued", "unknown"} else None
        await connection.execute(_MESSAGE, message_id, old_body(message_id), AT, status, attempt_id, due_at)
        if status == "sending":
            await connection.execute("INSERT INTO flight VALUES ($1, 1, 'sandbox', $1)", attempt_id)
    await connection.execute("INSERT INTO cases VALUES ('acme', 'x', 'A1', 'a', 'k', 'o', 'open', now())")


async def test_data_of_the_release_before(blank_database: str) -> None:
    """Messages of 0002 must be readable, those in flight be found in doubt, and open cases count as known."""
    await migrate(blank_database, "0002")
    connection = await asyncpg.connect(blank_database)
    store = None
    seen: list[Waiting] = []

    def keep(waiting: list[Waiting]) -> Moves:
        seen.extend(waiting)
        return Moves()

    try:
        await fill(connection)
        await migrate(blank_database)
        store = await Store.open(blank_database, VAULT)
        ledger = Ledger(store)
        await ledger.claim_waiting("queued", Claim(AT, 10, ["sms"], 1), keep)
        await ledger.claim_waiting("unknown", Claim(AT, 10, ["sandbox"], 1), keep)
        assert [one.message.to for one in seen] == ["+8613800000001"] * 2
        assert await ledger.doubt_left_behind(timedelta(0), AT, {}) == 1
        statuses = await connection.fetch("SELECT status FROM message ORDER BY message_id")
        assert [row["status"] for row in statuses] == ["queued", "unknown", "unknown", "accepted"]
        assert await connection.fetchval("SELECT count(*) FROM cases WHERE staff_told_at IS NULL") == 0
    finally:
        if store is not None:
            await store.close()
        await connection.close()
