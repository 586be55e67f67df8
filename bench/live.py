"""Open pages that hear of changes: what they cost while nothing changes, and how soon they hear when something does.

`orderbell web` is a process of its own; the pages are connections from many addresses of the loopback, each of the page
of another order.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from time import perf_counter
from urllib.parse import urlsplit

from bench.machine import Meter
from bench.processes import orderbell
from bench.scratch import CONNECTIONS, Scratch
from bench.stream import TENANT, VAULT
from bench.table import Report, Sample, figure_row, interleave, percentile
from orderbell.core.events import Event, parse_event
from orderbell.playbooks import shipped_shelf
from orderbell.store.postgres import Store
from orderbell.store.tracking import Tracking

PAGES = 500
OF_ONE = 25
IDLE_S = 20.0
SETTLE_S = 3.0
CHANGES = 50
AIM_SHARE = 5.0
AIM_HEARD_MS = 2500
READ_BYTES = 65536


def _event(number: int, kind: str) -> Event:
    body = f'{{"id":"{kind}-{number}","source":"bench","type":"{kind}","subject":"L{number}","data":{{}}}}'
    event = parse_event(body.encode(), TENANT, datetime.now(UTC))
    assert isinstance(event, Event)
    return event


class _Page:
    """One open page."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number, self.reader, self.writer = number, reader, writer

    async def heard(self) -> float:
        """Wait for the word that something changed; gives when it came."""
        while b"event: changed" not in await self.reader.read(READ_BYTES):
            assert not self.reader.at_eof()
        return perf_counter()


async def _open(url: str, number: int, token: str, version: int) -> _Page:
    parts = urlsplit(url)
    own = f"127.0.1.{1 + number // OF_ONE}"
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, local_addr=(own, 0))
    request = f"GET /t/{token}/live?v={version} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n"
    writer.write(request.encode())
    head = await reader.readuntil(b": open")
    assert head.startswith(b"HTTP/1.1 200"), head[:200]
    return _Page(number, reader, writer)


async def _prepare(dsn: str, count: int) -> list[str]:
    """Orders with a page each; gives the tokens."""
    store = await Store.open(dsn, VAULT, connections=CONNECTIONS)
    shelves = {TENANT: shipped_shelf()}
    await store.turn(shelves, [_event(number, "order.placed") for number in range(count)])
    tracking, at = Tracking(store), datetime.now(UTC)
    tokens = [await tracking.token_for(TENANT, f"L{number}", at) for number in range(count)]
    await store.close()
    return tokens


async def _change(dsn: str, pages: Sequence[_Page]) -> list[float]:
    """Change an order of each of these pages, and wait until all have heard; gives the milliseconds."""
    store = await Store.open(dsn, VAULT, connections=1)
    hearing = [asyncio.create_task(page.heard()) for page in pages]
    began = perf_counter()
    await store.turn({TENANT: shipped_shelf()}, [_event(page.number, "payment.succeeded") for page in pages])
    waits = [(at - began) * 1000 for at in await asyncio.gather(*hearing)]
    await store.close()
    return waits


async def measure(scratch: Scratch, count: int, idle_s: float) -> Sample:
    """One run with so many open pages; `share` is the processor time of the idle while, in percent of a core."""
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(scratch.database())
        tokens = await _prepare(dsn, max(count, 1))
        own = {"database_url": dsn, "port": "0"}
        web = await stack.enter_async_context(orderbell("web", says="OrderBell listens", settings=own))
        pages = [await _open(web.word, number, tokens[number], 1) for number in range(count)]
        await asyncio.sleep(SETTLE_S)
        meter = Meter({"web": web.pid, "postgres": scratch.pid, "client": os.getpid()})
        began = perf_counter()
        await asyncio.sleep(idle_s)
        seconds, spent = perf_counter() - began, meter.read()
        shares = {f"{name}_share": spent[name] / seconds * 100 for name in ("web", "postgres")}
        waits = await _change(dsn, pages[:CHANGES]) if pages else []
        for page in pages:
            page.writer.close()
    return Sample(max(count, 1), seconds, {}, {**shares, "heard_p99": percentile(waits, 99)})


async def run(report: Report, rounds: int, scale: float, scratch: Scratch) -> None:
    """Add the rows of this bench."""
    count, idle_s = max(10, int(PAGES * scale)), max(5.0, IDLE_S * scale)

    async def none() -> Sample:
        return await measure(scratch, 0, idle_s)

    async def many() -> Sample:
        return await measure(scratch, count, idle_s)

    samples = await interleave(rounds, {"none": none, "many": many})
    note = f"over {idle_s:.0f} s; what the process takes with nobody looking stands below"
    report.rows += [
        figure_row(
            "live", f"web with {count} open pages, idle", "%", samples["many"], "web_share", aim=AIM_SHARE, note=note
        ),
        figure_row("live", f"PostgreSQL with {count} open pages, idle", "%", samples["many"], "postgres_share"),
        figure_row("live", "web with no open page, idle", "%", samples["none"], "web_share"),
        figure_row("live", "PostgreSQL with no open page, idle", "%", samples["none"], "postgres_share"),
        figure_row(
            "live", f"from the event to {CHANGES} pages that hear of it, p99", "ms", samples["many"], "heard_p99",
            aim=AIM_HEARD_MS, note="they are looked for every two seconds",
        ),
    ]  # fmt: skip
