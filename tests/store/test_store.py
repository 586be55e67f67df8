"""The store: events count once, orders are made once, batches survive bad events and lost connections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import msgspec
import pytest

import orderbell.core.turn
from orderbell.core.decide import decide
from orderbell.core.events import Answer, Event, Person, Status
from orderbell.core.model import Decision, Order, Party, decode_notice, decode_order
from orderbell.core.playbook import Playbook
from orderbell.core.turn import run_turn
from orderbell.errors import DatabaseUnavailable
from orderbell.observe import FailpointReached, arm_failpoints, counts
from orderbell.store import postgres, rows, statements
from orderbell.store.migrate import migrate
from orderbell.store.postgres import Store
from tests.database import VAULT
from tests.shop import BUYER, NOON, TENANT, event, shelves

SHELVES = shelves()
LATER = NOON + timedelta(hours=3)


@pytest.fixture
async def other(database: str) -> AsyncIterator[Store]:
    """A second store on the same database, as another process has."""
    opened = await Store.open(database, VAULT)
    yield opened
    await opened.close()


def statuses(answers: list[Answer]) -> list[Status]:
    """The statuses alone."""
    return [answer.status for answer in answers]


async def order_of(store: Store, order_no: str = "A1") -> Order:
    """The order as it is stored."""
    state = await store.pool.fetchval("SELECT state FROM orders WHERE order_no = $1", order_no)
    return decode_order(state)


async def count_of(store: Store, table: str) -> int:
    """How many rows a table has."""
    found: int = await store.pool.fetchval(f"SELECT count(*) FROM {table}")
    return found


async def test_turn_writes_order_journal_timer_contact_and_queue(store: Store) -> None:
    """What a turn decides stands in the tables when it returns."""
    events = [event("1", people=BUYER), event("2", kind="payment.succeeded", after_s=5)]
    assert statuses(await store.turn(SHELVES, events)) == [Status.ACCEPTED] * 2
    order = await order_of(store)
    assert (order.stage, order.version) == ("paid", 2)
    row = await store.pool.fetchrow("SELECT * FROM orders")
    assert row is not None
    assert (row["stage"], row["version"], row["light"], row["playbook"]) == ("paid", 2, "yellow", "tiny")
    assert await store.next_due_at() == order.next_due_at == NOON + timedelta(hours=2, seconds=5)
    queued = await store.pool.fetch("SELECT lane, contact, body FROM queue")
    assert [(line["lane"], decode_notice(line["body"]).topic) for line in queued] == [(0, "payment_received")]
    assert [line["contact"] for line in queued] == [party.contact for party in order.parties]
    lines = await store.pool.fetch(
        "SELECT version, type, convert_from(event, 'UTF8') AS event FROM journal ORDER BY version"
    )
    assert [(line["version"], line["type"]) for line in lines] == [(1, "order.placed"), (2, "payment.succeeded")]
    assert msgspec.json.decode(lines[0]["event"])["roles"] == ["buyer"]
    assert "13812341234" not in lines[0]["event"]


async def test_turn_projects_anomalies_and_cases(store: Store) -> None:
    """An anomaly and its case are opened and closed in the tables that people search."""
    await store.turn(SHELVES, [event("1"), event("2", kind="stock.short", after_s=1)])
    assert await store.pool.fetchval("SELECT light FROM orders") == "red"
    assert await store.pool.fetchval("SELECT state FROM cases WHERE closed_at IS NULL") == "open"
    await store.turn(SHELVES, [event("3", kind="stock.restored", after_s=2)])
    assert await store.pool.fetchval("SELECT closed_at FROM anomaly") == NOON + timedelta(seconds=2)
    assert await store.pool.fetchval("SELECT state FROM cases WHERE closed_at IS NOT NULL") == "resolved"


async def test_event_again_is_a_duplicate(store: Store) -> None:
    """The same event counts once, in one batch or in two."""
    first = event("1")
    assert statuses(await store.turn(SHELVES, [first, first])) == [Status.ACCEPTED, Status.DUPLICATE]
    answers = await store.turn(SHELVES, [first, event("2", kind="payment.succeeded", after_s=1), first])
    assert statuses(answers) == [Status.DUPLICATE, Status.ACCEPTED, Status.DUPLICATE]
    assert (await order_of(store)).version == 2
    assert await count_of(store, "journal") == 2


async def test_event_altered_is_refused_and_journalled(store: Store) -> None:
    """The same id with another body is refused, names the field, and leaves a line that changes nothing."""
    altered = event("1", amount_fen=7)
    same_batch = await store.turn(SHELVES, [event("1"), altered])
    assert statuses(same_batch) == [Status.ACCEPTED, Status.REFUSED]
    (answer,) = await store.turn(SHELVES, [altered])
    assert (answer.reason, answer.field) == ("altered_duplicate", "id")
    found = await store.pool.fetch("SELECT version FROM journal WHERE verdict = 'altered_duplicate'")
    assert [line["version"] for line in found] == [0, 0]
    assert (await order_of(store)).amount_fen == 0


async def test_events_twice_at_the_same_time_count_once(store: Store, other: Store) -> None:
    """Two connections that bring the same events at once: each event is accepted by exactly one of them."""
    events = [event(str(number), f"A{number % 7}", after_s=number) for number in range(100)]
    both = await asyncio.gather(store.turn(SHELVES, events), other.turn(SHELVES, events[::-1]))
    for one, two in zip(both[0], both[1][::-1], strict=True):
        assert {one.status, two.status} == {Status.ACCEPTED, Status.DUPLICATE}
    assert await count_of(store, "journal") == 100


async def test_new_orders_made_at_the_same_time_are_made_once(store: Store, other: Store) -> None:
    """Different first events of the same orders, from two connections at once, are all applied."""
    mine = [event(f"a{number}", f"A{number}", people=BUYER) for number in range(50)]
    yours = [event(f"b{number}", f"A{number}", "payment.succeeded", people=BUYER) for number in range(49, -1, -1)]
    both = await asyncio.gather(store.turn(SHELVES, mine), other.turn(SHELVES, yours))
    assert {answer.status for answers in both for answer in answers} == {Status.ACCEPTED}
    assert await count_of(store, "orders") == 50
    assert await store.pool.fetchval("SELECT min(version) FROM orders") == 2
    assert await count_of(store, "contact") == 1


async def test_turns_over_the_same_orders_do_not_deadlock(store: Store, other: Store) -> None:
    """Batches that name the same orders in opposite order wait for each other in one direction only."""
    await store.turn(SHELVES, [event(f"new{number}", f"A{number}") for number in range(40)])
    batches = [
        [event(f"{batch}-{number}", f"A{number}", "parcel.packed", after_s=batch) for number in range(40)][
            :: (-1) ** batch
        ]
        for batch in range(12)
    ]
    await asyncio.gather(*((store, other)[n % 2].turn(SHELVES, batch) for n, batch in enumerate(batches)))
    assert await store.pool.fetchval("SELECT count(*) FROM orders WHERE version = 13") == 40
    assert await store.pool.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


async def test_poison_event_does_not_stop_the_batch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event whose decision dies is journalled with its error, and its neighbours are decided."""

    def dying(
        playbook: Playbook, order: Order | None, told: Event, now: object, parties: tuple[Party, ...] = ()
    ) -> Decision:
        if told.id == "bad":
            raise ZeroDivisionError("half a\0 character \ud800")
        return decide(playbook, order, told, told.received_at, parties)

    monkeypatch.setattr(orderbell.core.turn, "decide", dying)
    events = [event("1", "A1"), event("bad", "A2"), event("3", "A3")]
    assert statuses(await store.turn(SHELVES, events)) == [Status.ACCEPTED] * 3
    assert await count_of(store, "orders") == 2
    detail = await store.pool.fetchval("SELECT detail FROM journal WHERE verdict = 'undecidable'")
    assert detail.startswith("ZeroDivisionError: half a")


async def test_unknown_tenant_is_refused_alone(store: Store) -> None:
    """An event of nobody's is refused, the others are taken."""
    answers = await store.turn(SHELVES, [event("1", tenant="nobody"), event("2")])
    assert [(answer.status, answer.reason) for answer in answers] == [
        (Status.REFUSED, "unknown_tenant"),
        (Status.ACCEPTED, ""),
    ]


async def test_name_that_cannot_be_kept_is_no_silent_loss(store: Store) -> None:
    """A contact whose name would break the packing of texts fails its turn, and nothing of it is kept."""
    named = msgspec.structs.replace(event("1"), people={"buyer": Person(id="a\x1fb")})  # as no parser would make it
    with pytest.raises(ValueError, match="control characters"):
        await store.turn(SHELVES, [named])
    assert await count_of(store, "event_key") == 0


async def test_timers_fire_once_with_two_workers(store: Store, other: Store) -> None:
    """Each due order is fired by exactly one of two workers, and nothing stays due."""
    await store.turn(SHELVES, [event(str(number), f"A{number}") for number in range(300)])

    async def work(worker: Store) -> int:
        total = 0
        while (due_at := await worker.next_due_at()) is not None and due_at <= LATER:
            total += await worker.fire_due(SHELVES, LATER, limit=40)
        return total

    assert sum(await asyncio.gather(work(store), work(other))) == 300
    assert await store.pool.fetchval("SELECT count(*) FROM journal WHERE type = 'timer.due'") == 300
    assert await store.pool.fetchval("SELECT count(*) FROM anomaly WHERE name = 'payment_overdue'") == 300


async def test_timer_is_not_fired_early(store: Store) -> None:
    """A moment before it is due nothing happens."""
    await store.turn(SHELVES, [event("1")])
    due_at = NOON + timedelta(minutes=30)
    assert await store.fire_due(SHELVES, due_at - timedelta(microseconds=1)) == 0
    assert await store.fire_due(SHELVES, due_at) == 1


async def test_stale_timer_row_is_mended(store: Store) -> None:
    """A timer row that its order knows nothing of does not come up for ever."""
    await store.turn(SHELVES, [event("1"), event("2", "A2"), event("3", "A2", "order.completed")])
    await store.pool.execute("UPDATE timer SET due_at = $1", NOON)
    await store.pool.execute("INSERT INTO timer VALUES ($1, 'A2', $2), ($1, 'gone', $2)", TENANT, NOON)
    assert await store.fire_due(SHELVES, NOON) == 0
    found = await store.pool.fetch("SELECT order_no, due_at FROM timer")
    assert [tuple(row) for row in found] == [("A1", NOON + timedelta(minutes=30))]


async def test_timer_without_its_playbook_is_postponed(store: Store) -> None:
    """Orders whose playbook is away do not stand in the way of others, and are looked at again."""
    await store.turn(SHELVES, [event("1")])
    elsewhere = shelves()
    elsewhere[TENANT].playbooks.clear()
    assert await store.fire_due(elsewhere, LATER) == 0
    assert await store.next_due_at() == LATER + postgres.POSTPONED
    assert await store.fire_due(SHELVES, LATER + postgres.POSTPONED) == 1


async def test_held_order_is_left_for_the_next_look(store: Store) -> None:
    """Firing never waits for an order that a turn holds."""
    await store.turn(SHELVES, [event("1"), event("2", "A2")])
    async with store.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM orders WHERE order_no = 'A1' FOR UPDATE")
        assert await store.fire_due(SHELVES, LATER) == 1
    assert await store.fire_due(SHELVES, LATER) == 1


async def test_partitions_are_made_as_time_goes_on(store: Store, other: Store) -> None:
    """A batch over a turn of the year finds its months, whoever makes them, at the same time too."""
    later_s = timedelta(days=310).total_seconds()
    await asyncio.gather(
        store.turn(SHELVES, [event("1"), event("2", "A2", after_s=later_s)]),
        other.turn(SHELVES, [event("3", "A3"), event("4", "A4", after_s=later_s)]),
        other.ensure_partitions(NOON, NOON + timedelta(days=62)),
    )
    found = await store.pool.fetch(statements.JOURNAL_PARTITIONS)
    names = {row["relname"] for row in found}
    assert names == {"journal_y2026m03", "journal_y2026m04", "journal_y2026m05", "journal_y2027m01"}
    assert await count_of(store, "journal") == 4


async def test_dropped_partition_comes_back_when_needed(store: Store) -> None:
    """A month that was dropped under a running process does not stop late events of it."""
    await store.turn(SHELVES, [event("1")])
    await store.pool.execute("DROP TABLE journal_y2026m03")
    assert statuses(await store.turn(SHELVES, [event("2", "A2")])) == [Status.ACCEPTED]


async def test_migrations_run_twice_and_at_the_same_time(blank_database: str) -> None:
    """Several processes that start together make the tables once; a second run changes nothing."""
    await asyncio.gather(*(migrate(blank_database) for _ in range(3)))
    await migrate(blank_database)
    connection = await asyncpg.connect(blank_database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM alembic_version") == 1
        assert await connection.fetchval("SELECT count(*) FROM orders") == 0
    finally:
        await connection.close()


async def test_lost_connection_is_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the server ends the connection in the middle of a turn, the turn is run again and nothing is lost."""
    killed: list[bool] = []

    def kill_once(*arguments: object, **named: object) -> object:
        if not killed:
            killed.append(True)
            raise ConnectionResetError("the connection broke")
        return run_turn(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(postgres, "run_turn", kill_once)
    monkeypatch.setattr(postgres, "FIRST_PAUSE_S", 0)
    assert statuses(await store.turn(SHELVES, [event("1")])) == [Status.ACCEPTED]
    assert killed
    assert await count_of(store, "journal") == 1


async def test_killed_backends_lose_nothing(store: Store, monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    """While connections are ended again and again, what is accepted is kept and what is kept counts once."""
    monkeypatch.setattr(postgres, "FIRST_PAUSE_S", 0.001)
    killer = await asyncpg.connect(database, server_settings={"application_name": "killer"})
    done = asyncio.Event()

    async def kill() -> None:
        while not done.is_set():
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'orderbell' AND query LIKE '%event_key%'"
            )
            await asyncio.sleep(0)

    async def feed(lane: int) -> int:
        kept = 0
        for number in range(60):
            batch = [event(f"{lane}-{number}", f"A{lane}", "parcel.packed", after_s=number)]
            with contextlib.suppress(DatabaseUnavailable):
                kept += {Status.ACCEPTED, Status.DUPLICATE}.issuperset(statuses(await store.turn(SHELVES, batch)))
        return kept

    killing = asyncio.create_task(kill())
    kept = sum(await asyncio.gather(*(feed(lane) for lane in range(3))))
    done.set()
    await killing
    await killer.close()
    assert counts().get("turn.breaks", 0) > 0
    in_journal = await count_of(store, "journal")
    assert kept <= in_journal == await count_of(store, "event_key")
    assert await store.pool.fetchval("SELECT sum(version) FROM orders") == in_journal


async def test_turn_that_fails_at_its_end_keeps_nothing(store: Store) -> None:
    """A turn that dies before its commit leaves no trace, and the connection can be used again."""
    arm_failpoints("turn.before_commit=raise@1")
    try:
        with pytest.raises(FailpointReached, match=r"turn\.before_commit"):
            await store.turn(SHELVES, [event("1")])
    finally:
        arm_failpoints("")
    assert await count_of(store, "event_key") == 0
    assert statuses(await store.turn(SHELVES, [event("1")])) == [Status.ACCEPTED]


async def test_cancelled_turn_leaves_the_pool_usable(store: Store) -> None:
    """A turn cancelled at any await is either whole or not there, and its connection is clean."""
    for steps in range(1, 25):
        turn = asyncio.create_task(store.turn(SHELVES, [event(f"c{steps}", f"A{steps}")]))
        for _ in range(steps):
            await asyncio.sleep(0)
        turn.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await turn
    assert statuses(await store.turn(SHELVES, [event("last")])) == [Status.ACCEPTED]
    assert await count_of(store, "journal") == await count_of(store, "event_key") == await count_of(store, "orders")


async def test_unreachable_server_is_said_so(database: str) -> None:
    """Nobody at the address: an error that names the cause."""
    with pytest.raises(DatabaseUnavailable, match="PostgreSQL"):
        await Store.open("postgresql://nobody@/nothing?host=/nonexistent", VAULT)


async def _plan(store: Store, statement: str, *values: object) -> list[str]:
    """The nodes of a statement's plan with what they read, as it runs in a turn."""
    async with store.pool.acquire() as connection:
        await connection.execute(statements.BEGIN)
        explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
        (top,) = msgspec.json.decode(await connection.fetchval(explained, *values))
        await connection.execute("ROLLBACK")
    nodes, found = [top["Plan"]], []
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        scanned = int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        found.append(f"{node['Node Type']} {node.get('Relation Name', '')} {scanned}")
    return found


def _scanned(plan: list[str], table: str) -> list[tuple[str, int]]:
    scans = [line.rsplit(" ", 2) for line in plan]
    return [(kind, int(count)) for kind, name, count in scans if name == table and "Scan" in kind]


async def test_hot_statements_read_no_more_than_their_batch(store: Store) -> None:
    """On 200,000 orders the locks and the timer claim read rows in proportion to the batch, by index."""
    await store.pool.execute(
        "INSERT INTO orders SELECT $1, 'A' || n, 1, 'tiny', 'placed', 'yellow', $2, $2, ''"
        " FROM generate_series(1, 200000) n",
        TENANT, NOON,
    )  # fmt: skip
    await store.pool.execute(
        "INSERT INTO timer SELECT $1, 'A' || n, $2::timestamptz + n * interval '1 second'"
        " FROM generate_series(1, 200000) n",
        TENANT, NOON,
    )  # fmt: skip
    wanted = rows.keys([(TENANT, f"A{number * 300}") for number in range(1, 501)])
    for statement in (statements.LOCK_ORDERS, statements.LOCK_FREE_ORDERS):
        assert _scanned(await _plan(store, statement, *wanted), "orders") == [("Index Scan", 500)]
    claim = await _plan(store, statements.CLAIM_TIMERS, NOON + timedelta(days=3), [TENANT], 100)
    assert _scanned(claim, "timer") == [("Index Scan", 100)]
    moved = [*rows.arguments([], "ttattaa"), *rows.arguments([], "tta"), *wanted, *rows.arguments([], "ttaaaa")]
    moved += rows.arguments([], "ttt")
    assert _scanned(await _plan(store, statements.WRITE, *moved), "timer") == [("Index Scan", 500)]
