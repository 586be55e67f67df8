"""What a long history costs: the engine with ten million lines of half a year in the journal, against one with none."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg

from bench.engine import measure
from bench.scratch import Scratch
from bench.stream import BEFORE, TENANT, VAULT, Happening, whole_lives
from bench.table import Report, Sample, interleave, rate_row, ratio_row
from orderbell.core.events import Event
from orderbell.store.postgres import Store

LINES = 10_000_000
SPAN = timedelta(days=180)
PORTION = 500_000
WRITERS = 2
AIM_RATIO = 0.9

# About as long as real lines: 330 bytes of event, 150 of decision, eight lines an order.
_FILL = """
INSERT INTO journal (tenant, order_no, version, at, type, source, event_id, verdict, stage, event, decision, detail)
SELECT $1, 'H' || (n / 8), n % 8 + 1, $2::timestamptz + n * $3::interval, 'parcel.scanned', '//shop/retail',
    'history-' || n, 'applied', 'shipped', convert_to(repeat(md5(n::text), 10), 'UTF8'),
    convert_to(repeat(md5(n::text), 5), 'UTF8'), ''
FROM generate_series($4::int, $5::int) AS n
"""


async def _fill(dsn: str, line_count: int, ends_at: datetime) -> None:
    begins_at = ends_at - SPAN
    store = await Store.open(dsn, VAULT, connections=1)
    await store.ensure_partitions(begins_at, ends_at)
    await store.close()
    starts = iter(range(0, line_count, PORTION))

    async def write() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            for start in starts:
                last = min(start + PORTION, line_count) - 1
                await connection.execute(_FILL, TENANT, begins_at, SPAN / line_count, start, last)
        finally:
            await connection.close()

    await asyncio.gather(*(write() for _ in range(WRITERS)))
    connection = await asyncpg.connect(dsn)
    await connection.execute("VACUUM ANALYZE journal")
    await connection.execute("CHECKPOINT")
    await connection.close()


def _renamed(happenings: Sequence[Happening], number: int) -> list[Event]:
    """The same stream about other orders, so that a database can take it more than once."""
    events = []
    for happening in happenings:
        wire = happening.wire | {
            "id": f"{happening.wire['id']}-{number}",
            "subject": f"{happening.wire['subject']}-{number}",
        }
        events.append(Happening(happening.at, happening.order, wire).event())
    return events


async def run(report: Report, rounds: int, scale: float, scratch: Scratch) -> None:
    """Add the rows of this bench."""
    now = datetime.now(UTC)
    line_count = int(LINES * (scale if scale == 1 else scale / 15))
    happenings = whole_lives(int(6_000 * scale), now - BEFORE)
    name = await scratch.create()
    dsn = scratch.server.dsn_for(name)
    await _fill(dsn, line_count, now)
    number = 0

    async def after_much() -> Sample:
        nonlocal number
        number += 1
        await scratch.run("CHECKPOINT")
        store = await Store.open(dsn, VAULT)
        try:
            return await measure(scratch, store, _renamed(happenings, number))
        finally:
            await store.close()

    async def after_nothing() -> Sample:
        async with scratch.store() as store:
            return await measure(scratch, store, _renamed(happenings, number))

    try:
        samples = await interleave(rounds, {"much": after_much, "nothing": after_nothing})
    finally:
        await scratch.drop(name)
    much, nothing = samples["much"], samples["nothing"]
    report.rows += [
        rate_row("journal", "events with an empty journal", "/s", nothing),
        rate_row("journal", f"events with {line_count:,} lines in it", "/s", much),
        ratio_row("journal", "with history against without", much, nothing, aim=AIM_RATIO),
    ]
