"""What is looked for all the time must cost what it gives, however much of the rest there is."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from orderbell.store import departures as sql
from orderbell.store import statements
from orderbell.store.ledger import EARLY_MAX, WORDS_KEPT
from orderbell.store.postgres import Store

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(days=1)
FLOOD = 100_000
SMALL = [f"shop{number}" for number in range(9)]
LANE, SHARE = 1, 10
TABLES = ("queue", "contact", "receipt", "handle")


class Cost(msgspec.Struct):
    """What a statement gave, the rows that it read from the tables below, and the pages that it touched."""

    given: int
    rows: int
    pages: int


async def cost(store: Store, statement: str, *values: object) -> Cost:
    """Run a statement as a claim does, and see what it took."""
    async with store.pool.acquire() as connection:
        await connection.execute(statements.BEGIN)
        explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        (top,) = msgspec.json.decode(await connection.fetchval(explained, *values))
        await connection.execute("ROLLBACK")
    nodes, rows = [top["Plan"]], 0.0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if node.get("Relation Name") in TABLES:
            rows += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    plan = top["Plan"]
    return Cost(int(plan["Actual Rows"]), round(rows), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.fixture
async def flooded(store: Store) -> Store:
    """A queue in which one tenant has 100,000 notices and nine have fifty, each for one of 20,000 people or of fifty."""
    for tenant, notice_count, people in [("flood", FLOOD, 20_000), *((name, 50, 50) for name in SMALL)]:
        await store.pool.execute(
            "INSERT INTO queue SELECT $1, 'c' || n % $4::int, int8send(n), $2, $3::timestamptz + n * interval '1 ms', ''"
            " FROM generate_series(1, $5::bigint) n",
            tenant, LANE, NOON, people, notice_count,
        )  # fmt: skip
        await store.pool.execute(
            "INSERT INTO contact (tenant, contact, body, updated_at) SELECT $1, 'c' || n, '', $2"
            " FROM generate_series(0, $3::int - 1) n",
            tenant, NOON, people,
        )  # fmt: skip
    return store


@pytest.mark.parametrize("analyzed", [False, True])
async def test_claims_read_no_more_than_their_shares(flooded: Store, *, analyzed: bool) -> None:
    """With 100,000 notices of one tenant both statements must read rows by tenants and shares, whatever is known."""
    if analyzed:
        await flooded.pool.execute("ANALYZE")
    tenants = ["flood", *SMALL]
    due = await cost(flooded, sql.TENANTS_DUE, LANE, LATER, tenants)
    assert due.given == len(tenants)
    assert due.rows <= 3 * len(tenants), due
    assert due.pages <= 12 * len(tenants), due
    none = await cost(flooded, sql.TENANTS_DUE, LANE, NOON, tenants)
    assert none.given == 0
    assert none.rows <= 3 * len(tenants), none
    claim = await cost(flooded, sql.CLAIM_SHARES, LANE, LATER, SHARE, tenants)
    assert claim.given == SHARE * len(tenants)
    assert claim.rows <= 3 * SHARE * len(tenants), claim
    assert claim.pages <= 15 * SHARE * len(tenants), claim


async def test_idle_lanes_cost_nothing(flooded: Store) -> None:
    """In a lane without notices the question who has something due must touch a few pages only."""
    due = await cost(flooded, sql.TENANTS_DUE, 0, LATER, ["flood", *SMALL])
    assert (due.given, due.rows) == (0, 0)
    assert due.pages <= 10


@pytest.mark.parametrize("analyzed", [False, True])
async def test_early_receipts_are_found_among_many_names(store: Store, *, analyzed: bool) -> None:
    """Looking for the messages of early receipts must not read the names of all others, nor the receipts of strangers."""
    await store.pool.execute(
        "INSERT INTO handle SELECT 'ali', md5(n::text), int8send(n), $1 FROM generate_series(1, $2::bigint) n",
        NOON,
        FLOOD,
    )
    await store.pool.execute(
        "INSERT INTO receipt SELECT 'ali', 'stranger' || n, true, '', $1, now() - interval '1 hour'"
        " FROM generate_series(1, 20000) n",
        NOON,
    )
    await store.pool.execute(
        "INSERT INTO receipt SELECT 'ali', md5(n::text), true, '', $1 FROM generate_series(1, 20) n", NOON
    )
    if analyzed:
        await store.pool.execute("ANALYZE")
    lately = await cost(store, sql.EARLY, timedelta(minutes=2), EARLY_MAX)
    assert lately.given == 20
    assert lately.rows <= 3 * lately.given, lately
    assert lately.pages <= 10 * lately.given, lately
    assert (await cost(store, sql.EARLY, WORDS_KEPT, EARLY_MAX)).given == 20
