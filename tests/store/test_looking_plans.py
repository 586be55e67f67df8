"""Searches, lists and the overview read rows by index, in proportion to what they give, however many there are."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from orderbell.core.model import Contact, encode_state
from orderbell.store import looks, overview, pulse, rows
from orderbell.store.looking import _prefix
from orderbell.store.looks import Ask
from orderbell.store.postgres import Store
from tests.database import VAULT
from tests.dispatch.rig import NOON

ORDERS = 60_000
PEOPLE = 20_000
TENANT = "acme"
WATCHED = ("orders", "party", "contact", "anomaly", "message", "journal", "pulse")

_FILL = """
INSERT INTO orders SELECT t, 'A' || lpad(n::text, 6, '0'), 1, 'tiny', 'placed', 'yellow',
    timestamptz '{at}' + n * interval '1 second', '{at}', '' FROM generate_series(1, {count}) n,
    unnest('{{acme,other}}'::text[]) t;
INSERT INTO party SELECT t, 'c' || n % 20000, 'A' || lpad(n::text, 6, '0') FROM generate_series(1, {count}) n,
    unnest('{{acme,other}}'::text[]) t;
INSERT INTO anomaly SELECT 'acme', 'A' || lpad(n::text, 6, '0'), 'late', timestamptz '{at}' + n * interval '1 second',
    CASE WHEN n % 10 > 0 THEN timestamptz '{at}' END FROM generate_series(1, {count}) n;
INSERT INTO message SELECT 'acme', substring(int8send((extract(epoch FROM timestamptz '{at}') * 1000)::bigint
    + n * 1000) FROM 3) || int8send(n) || '\\x0000', 'A' || lpad(n::text, 6, '0'), 'c' || n % 20000, 'paid', 'sms', 1,
    'text', '', '{at}', '{at}', '{at}', 'delivered', 1, int8send(n), 'ali', 1 FROM generate_series(1, {count}) n;
INSERT INTO journal SELECT 'acme', 'A' || n, 1, timestamptz '{at}' + n * interval '1 second', 'paid', 'shop', n::text,
    'applied', 'placed', convert_to(repeat('x', 300), 'UTF8'), '[]', '' FROM generate_series(1, {count}) n;
"""


@pytest.fixture
async def filled(store: Store) -> Store:
    """A database with 60,000 orders and as many messages, anomalies and lines of the journal, without statistics."""
    await store.ensure_partitions(NOON, NOON + timedelta(seconds=ORDERS))
    await store.pool.execute("INSERT INTO tenant (tenant) VALUES ('acme'), ('other')")
    await store.pool.execute(_FILL.format(at=NOON.isoformat(), count=ORDERS))
    key = VAULT.index_key(TENANT)
    people = [Contact(TENANT, f"c{n}", f"+86138{n:08}", f"c{n}@example.com") for n in range(PEOPLE)]
    lines = ((TENANT, c.id, encode_state(c), *rows.finders(key, c), NOON) for c in people)
    names = ("tenant", "contact", "body", "phone_key", "phone_tail", "mail_key", "updated_at")
    await store.pool.copy_records_to_table("contact", records=lines, columns=names)
    return store


async def rows_read(store: Store, settings: str, statement: str, *values: object) -> int:
    """How many rows a statement reads from the tables watched; whole tables are never read."""
    async with store.pool.acquire() as connection:
        await connection.execute(settings)
        explained = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *values)
        await connection.execute("ROLLBACK")
    nodes: list[dict[str, Any]] = [msgspec.json.decode(explained)[0]["Plan"]]
    read = 0.0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        name = node.get("Relation Name", "")
        if name.partition("_y")[0] in WATCHED:
            assert node["Node Type"] != "Seq Scan", node
            removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            read += (node["Actual Rows"] + removed) * node["Actual Loops"]
    return round(read)


@pytest.mark.parametrize("analyzed", [False, True])
async def test_orders_are_found_by_index(filled: Store, *, analyzed: bool) -> None:
    """Newest first, by trouble, by person and by number: each page reads few more rows than it shows."""
    if analyzed:
        await filled.pool.execute("ANALYZE")
    at = NOON + timedelta(seconds=ORDERS // 2)
    limit, steps = 51, 20_000

    async def read(statement: str, ask: Ask, **pieces: str) -> int:
        made = {"limit": ask.put(limit), "steps": ask.put(steps)} | pieces
        used = {name: value for name, value in made.items() if "{" + name + "}" in statement}
        if "steps" not in used:
            ask.values.pop()
        return await rows_read(filled, looks.BEGIN, statement.format(**used), *ask.values)

    assert (
        await read(looks.NEWEST_ORDERS, Ask(TENANT, at, "A"), window="true", wanted="o.stage = 'placed'") <= 3 * limit
    )
    nothing = await read(looks.NEWEST_ORDERS, Ask(TENANT, at, "A"), window="true", wanted="o.stage = 'gone'")
    assert nothing <= 2 * steps
    troubled = await read(looks.TROUBLED_ORDERS, Ask(TENANT, at, "A", ""), named="true", wanted="o.light = 'yellow'")
    assert troubled <= 5 * limit
    people = Ask(TENANT, at, "A")
    contacts = people.put(["c1", "c2"])
    found = await read(looks.ORDERS_OF_PEOPLE, people, contacts=contacts, text=people.put("x"), wanted="true")
    assert found <= 30
    number = Ask(TENANT, "")
    prefix = number.put(_prefix("A01"))
    begun = await read(
        looks.ORDERS_BY_NUMBER, number, prefix=prefix, text=number.put("x"), contacts=number.put(["c1"]), wanted="true"
    )
    assert begun <= 4 * limit
    tail = rows.tail_key(VAULT.index_key(TENANT), "1234")
    assert await rows_read(filled, looks.BEGIN, looks.PEOPLE_BY_TAIL, TENANT, tail, 100) <= 3
    messages = Ask(TENANT, b"\xff" * 16)
    assert await read(looks.NEWEST_MESSAGES, messages, window="true", wanted="m.status = 'delivered'") <= 2 * limit


@pytest.mark.parametrize("analyzed", [False, True])
async def test_the_overview_reads_what_is_open_and_what_was_counted(filled: Store, *, analyzed: bool) -> None:
    """Figures read open anomalies and the slots, the news the newest lines, a slot's count the lines of its minutes."""
    if analyzed:
        await filled.pool.execute("ANALYZE")
    now = NOON + timedelta(seconds=ORDERS)
    anomalies = await rows_read(filled, looks.BEGIN, overview._ANOMALIES, TENANT)
    assert anomalies == ORDERS // 10
    assert await rows_read(filled, looks.BEGIN, overview._RED, TENANT, ["late"]) == ORDERS // 10
    async with filled.pool.acquire() as connection:
        await connection.execute("SELECT brin_summarize_new_values(indexrelid) FROM pg_index WHERE indrelid::regclass"
                                 "::text LIKE 'journal_y%' AND indexrelid::regclass::text LIKE '%at_idx'")  # fmt: skip
    news = await rows_read(filled, looks.BEGIN, overview._STEPS, TENANT, now - timedelta(seconds=6), now, 200)
    assert news <= 1000
    slot = pulse.slot_of(NOON + timedelta(hours=5))
    begin = f"BEGIN; {pulse._SETTINGS}; {pulse._BY_KEY}"
    assert await rows_read(filled, begin, pulse._EVENTS, slot, slot + pulse.SLOT) <= 1500
    ids = (pulse.id_at(slot), pulse.id_at(slot + pulse.SLOT))
    assert await rows_read(filled, begin, pulse._MESSAGES, *ids) <= 310
    assert await rows_read(filled, begin, pulse._TOLD, *ids) <= 310
