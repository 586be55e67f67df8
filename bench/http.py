"""Events over HTTP: `orderbell web` as a process of its own, an API key, answers after commit."""

import asyncio
import gc
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from time import perf_counter

from bench.client import drive, request_bytes
from bench.machine import Meter
from bench.processes import orderbell
from bench.scratch import Scratch
from bench.stream import Happening, all_at_once, batches_of
from bench.table import Report, Sample, figure_row, interleave, percentile, rate_row

BATCH = 100
BATCH_LINES = 16
SINGLE_LINES = 64
BATCH_AIM_PER_S = 12_000
SINGLE_AIM_PER_S = 4_000
SINGLE_AIM_P99_MS = 60


async def measure(scratch: Scratch, happenings: Sequence[Happening], lines: int, size: int, *, webs: int = 1) -> Sample:
    """One run: `size` events a request over so many connections; each order keeps to one of them.

    The connections are spread over `webs` processes.
    """
    queues: list[list[bytes]] = [[] for _ in range(lines)]
    for happening in happenings:
        queues[happening.order % lines].append(happening.body)
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(scratch.database())
        own = {"database_url": dsn, "port": "0"}
        doors = [
            await stack.enter_async_context(orderbell("web", says="OrderBell listens", settings=own))
            for _ in range(webs)
        ]
        requests = [
            [
                [request_bytes(door.word, scratch.key, body) for body in batches_of(queue, size)]
                for queue in queues[number::webs]
                if queue
            ]
            for number, door in enumerate(doors)
        ]
        gc.collect()
        pids = {f"web {number}" if number else "web": door.pid for number, door in enumerate(doors)}
        meter = Meter({"client": os.getpid(), "postgres": scratch.pid, **pids})
        began = perf_counter()
        outcomes = await asyncio.gather(*(drive(door.word, mine) for door, mine in zip(doors, requests, strict=True)))
        seconds = perf_counter() - began
        spent = meter.read()
    accepted = sum(outcome.accepted for outcome in outcomes)
    assert accepted == len(happenings), f"{accepted} of {len(happenings)} accepted"
    waits_ms = [wait for outcome in outcomes for wait in outcome.waits_ms]
    figures = {"p50": percentile(waits_ms, 50), "p99": percentile(waits_ms, 99)}
    return Sample(len(happenings), seconds, spent, figures)


async def run(report: Report, rounds: int, scale: float, scratch: Scratch) -> None:
    """Add the rows of this bench."""
    many = all_at_once(int(6_000 * scale), datetime.now(UTC))
    few = many[: len(many) * 2 // 5]

    async def in_batches() -> Sample:
        return await measure(scratch, many, BATCH_LINES, BATCH)

    async def singly() -> Sample:
        return await measure(scratch, few, SINGLE_LINES, 1)

    async def through_two() -> Sample:
        return await measure(scratch, many, BATCH_LINES, BATCH, webs=2)

    async def singly_through_two() -> Sample:
        return await measure(scratch, few, SINGLE_LINES, 1, webs=2)

    runs = {"batches": in_batches, "two": through_two, "singly": singly, "two singly": singly_through_two}
    samples = await interleave(rounds, runs)
    batched, single = samples["batches"], samples["singly"]
    report.rows += [
        rate_row(
            "http", f"events decided and durable, {BATCH} a request", "/s", batched, aim=BATCH_AIM_PER_S,
            note=f"{len(many):,} events over {BATCH_LINES} connections",
        ),
        figure_row("http", f"a request of {BATCH}, p99", "ms", batched, "p99"),
        rate_row("http", "the same through two web processes", "/s", samples["two"], aim=BATCH_AIM_PER_S),
        rate_row(
            "http", f"events one by one, {SINGLE_LINES} clients", "/s", single, aim=SINGLE_AIM_PER_S,
            note=f"{len(few):,} events; every client waits for its answer",
        ),
        figure_row("http", "one event, p50", "ms", single, "p50"),
        figure_row("http", "one event, p99", "ms", single, "p99", aim=SINGLE_AIM_P99_MS),
        rate_row("http", "one by one through two web processes", "/s", samples["two singly"], aim=SINGLE_AIM_PER_S),
        figure_row("http", "one event through two, p99", "ms", samples["two singly"], "p99", aim=SINGLE_AIM_P99_MS),
    ]  # fmt: skip
