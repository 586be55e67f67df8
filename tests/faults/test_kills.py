"""Whatever is killed while events flow: nothing accepted is lost, nothing is decided otherwise, nobody is told twice."""

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from orderbell.sandbox.faults import Faults
from tests.faults.feeder import Feeder
from tests.faults.killer import Killer
from tests.faults.oracle import Findings, Judge
from tests.faults.rig import Rig, running_rig

SEED = int(os.environ.get("ORDERBELL_FAULT_SEED") or random.SystemRandom().randrange(1 << 32))
EVENTS = int(os.environ.get("ORDERBELL_FAULT_EVENTS") or 20_000)
DRAINED_WITHIN_S = 60
LOOK_EVERY_S = 0.25
SLACK = timedelta(seconds=1)
"""How late a worker that is not in trouble may be."""

FAULTS = Faults(
    slow_ms=100, refuse=0.02, throttle=0.02, cut_after_accept=0.05, error_body=0.002, lose_receipts=0.05,
    fail_delivery=0.02, receipt_delay_s=3, seed=SEED,
)  # fmt: skip

OVERDUE = """SELECT now() AS now,
    (SELECT count(*) FROM timer WHERE due_at <= now() - $1::interval) AS timers,
    (SELECT count(*) FROM queue WHERE due_at <= now() - $1::interval) AS notices,
    (SELECT count(*) FROM message WHERE status IN ('queued', 'sending', 'unknown')) AS messages,
    (SELECT count(*) FROM flight) AS flights"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path that any user may enter: the server does not run as root."""
    with tempfile.TemporaryDirectory(prefix="ob-", dir="/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def test_kills_lose_nothing_and_tell_nobody_twice(folder: Path) -> None:
    """What was accepted must be there once, decided as the pure core decides it, and handed over once."""
    _say(f"\nORDERBELL_FAULT_SEED={SEED} ORDERBELL_FAULT_EVENTS={EVENTS}")
    async with running_rig(folder) as rig:
        began_s = time.monotonic()
        await rig.set_faults(FAULTS)
        feeder = Feeder(rig.urls, rig.key, SEED, EVENTS)
        killer = Killer(rig, feeder, SEED)
        async with asyncio.TaskGroup() as group:
            group.create_task(feeder.run())
            group.create_task(killer.run())
        flooded_s = time.monotonic() - began_s
        drained_at = await _drain(rig)
        drained_s = time.monotonic() - began_s - flooded_s
        parts = (*rig.webs, *rig.workers)
        codes = await asyncio.gather(*(part.stop() for part in parts))
        findings = await _judge(rig, feeder, drained_at)
        spans_s = {"flood": flooded_s, "drain": drained_s, "all": time.monotonic() - began_s}
        _report(rig, feeder, killer, findings, spans_s)
        # who was still starting knows no better way to end than the signal's own
        ends = {part.name: code for part, code in zip(parts, codes, strict=True) if code not in (0, -signal.SIGTERM)}
        assert ends == {}, f"somebody did not end in order: {ends}\n{rig.last_words()}"
    assert feeder.wrong == []
    assert findings.wrong == {}
    assert len(feeder.taken) == EVENTS
    assert findings.numbers["messages handed over twice"] == 0


async def _drain(rig: Rig) -> datetime:
    """Wait until nothing is overdue and nothing in doubt; returns the moment up to which everything was done."""
    await rig.set_faults(Faults())
    connection = await asyncpg.connect(rig.server.dsn)
    try:
        ends_at_s = time.monotonic() + DRAINED_WITHIN_S
        while True:
            row = await connection.fetchrow(OVERDUE, SLACK)
            assert row is not None
            now: datetime = row["now"]
            if not (row["timers"] or row["notices"] or row["messages"] or row["flights"]):
                return now - SLACK
            assert time.monotonic() < ends_at_s, f"not drained within {DRAINED_WITHIN_S} s: {dict(row)}"
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        await connection.close()


async def _judge(rig: Rig, feeder: Feeder, drained_at: datetime) -> Findings:
    connection = await asyncpg.connect(rig.server.dsn)
    try:
        return await Judge(feeder, rig.shelf, drained_at).judge(connection, rig.ledger)
    finally:
        await connection.close()


def _report(rig: Rig, feeder: Feeder, killer: Killer, findings: Findings, spans_s: Mapping[str, float]) -> None:
    exits = sum((process.exits for process in (*rig.webs, *rig.workers)), Counter[int]())
    lines = {
        "events": len(feeder.taken),
        "told again": feeder.again,
        "altered": feeder.altered.total(),
        "requests": feeder.requests,
        "retries": dict(feeder.retries),
        "slow answers": sorted(feeder.longest_s, reverse=True)[:5],
        "faults": dict(killer.done),
        "exit codes": dict(exits),
        "seconds": ", ".join(f"{name} {span_s:.1f}" for name, span_s in spans_s.items()),
        "events/s": round(len(feeder.taken) / spans_s["flood"]),
        "doubts left behind": rig.doubts_left_behind(),
        **findings.numbers,
    }
    _say(*killer.log, *(f"{name:28}{value}" for name, value in lines.items()))
    for kind, problems in findings.wrong.items():
        _say(f"WRONG {kind}:", *(f"  {problem}" for problem in problems))


def _say(*lines: str) -> None:
    """Tell whoever reads along, or reads of a failure."""
    sys.stdout.write("\n".join(lines) + "\n")
