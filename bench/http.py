"""Events over HTTP: `orderbell web` as a process of its own, an API key, answers after commit."""

import gc
import os
from collections.abc import Sequence
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


async def measure(scratch: Scratch, happenings: Sequence[Happening], lines: int, size: int) -> Sample:
    """One run: `size` events a request over so many connections; each order keeps to one of them."""
    queues: list[list[bytes]] = [[] for _ in range(lines)]
    for happening in happenings:
        queues[happening.order % lines].append(happening.body)
    async with (
        scratch.database() as dsn,
        orderbell("web", says="OrderBell listens", settings={"database_url": dsn, "port": "0"}) as web,
    ):
        requests = [
            [request_bytes(web.word, scratch.key, body) for body in batches_of(queue, size)]
            for queue in queues
            if queue
        ]
        gc.collect()
        meter = Meter({"client": os.getpid(), "web": web.pid, "postgres": scratch.pid})
        began = perf_counter()
        outcome = await drive(web.word, requests)
        seconds = perf_counter() - began
        spent = meter.read()
    assert outcome.accepted == len(happenings), f"{outcome.accepted} of {len(happenings)} accepted"
    figures = {"p50": percentile(outcome.waits_ms, 50), "p99": percentile(outcome.waits_ms, 99)}
    return Sample(len(happenings), seconds, spent, figures)


async def run(report: Report, rounds: int, scale: float, scratch: Scratch) -> None:
    """Add the rows of this bench."""
    many = all_at_once(int(6_000 * scale), datetime.now(UTC))
    few = many[: len(many) * 2 // 5]

    async def in_batches() -> Sample:
        return await measure(scratch, many, BATCH_LINES, BATCH)

    async def singly() -> Sample:
        return await measure(scratch, few, SINGLE_LINES, 1)

    samples = await interleave(rounds, {"batches": in_batches, "singly": singly})
    batched, single = samples["batches"], samples["singly"]
    report.rows += [
        rate_row(
            "http", f"events decided and durable, {BATCH} a request", "/s", batched, aim=BATCH_AIM_PER_S,
            note=f"{len(many):,} events over {BATCH_LINES} connections",
        ),
        figure_row("http", f"a request of {BATCH}, p99", "ms", batched, "p99"),
        rate_row(
            "http", f"events one by one, {SINGLE_LINES} clients", "/s", single, aim=SINGLE_AIM_PER_S,
            note=f"{len(few):,} events; every client waits for its answer",
        ),
        figure_row("http", "one event, p50", "ms", single, "p50"),
        figure_row("http", "one event, p99", "ms", single, "p99", aim=SINGLE_AIM_P99_MS),
    ]  # fmt: skip
