"""Runs the benchmarks: `python -m bench.run --help`, in the folder of the repository."""

import argparse
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

import msgspec
import uvloop
from rich.console import Console

from bench import (
    batches,
    core,
    dispatch,
    engine,
    fairness,
    flow,
    history,
    hooks,
    http,
    journal,
    live,
    looking,
    outage,
    outreach,
)
from bench.machine import describe
from bench.scratch import Scratch, scratch_server
from bench.table import Report, show
from orderbell.observe import set_up_logging

Bench = Callable[[Report, int, float, Scratch], Awaitable[None]]
ROUNDS = 5
QUICK_ROUNDS = 1
QUICK_SCALE = 0.15
HISTORY = Path(__file__).resolve().parents[2] / "shared" / "data" / "olist"
WIDTH = 140
"""Of tables that go into a file."""

ON_DEMAND = {"fairness", "journal", "looking", "outage"}
"""Take minutes, and the journal about 8 GB of disk, looking 5 GB, so only when asked for by name."""

err = Console(stderr=True)


def main() -> None:
    """Read the command line, run what is asked for, print."""
    options = _options()
    set_up_logging("CRITICAL")  # faults are made on purpose here; figures go to the standard output
    report = Report(describe(Path(tempfile.gettempdir())))
    uvloop.run(_run(options, report))
    if options.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(_plain(report))).decode() + "\n")
    else:
        show(Console(width=None if sys.stdout.isatty() else WIDTH), report)
    sys.exit(1 if report.failed else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="orderbell bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(_benches(HISTORY))}")
    parser.add_argument("--quick", action="store_true", help="small and few runs: does it work at all?")
    parser.add_argument("--rounds", type=int, default=0, help=f"interleaved runs of each, default {ROUNDS}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--history", type=Path, default=HISTORY, help="the folder of the Olist orders")
    options = parser.parse_args()
    unknown = set(options.names) - set(_benches(HISTORY))
    if unknown:
        parser.error(f"there is no bench {', '.join(sorted(unknown))}; there are {', '.join(_benches(HISTORY))}")
    return options


def _benches(folder: Path) -> dict[str, Bench]:
    async def alone(report: Report, rounds: int, scale: float, _scratch: Scratch) -> None:
        await core.run(report, rounds, scale)

    async def past(report: Report, rounds: int, scale: float, scratch: Scratch) -> None:
        await history.run(report, rounds, scale, scratch, folder)

    return {
        "core": alone, "engine": engine.run, "http": http.run, "dispatch": dispatch.run, "flow": flow.run,
        "outreach": outreach.run, "batches": batches.run, "outage": outage.run, "hooks": hooks.run,
        "fairness": fairness.run, "history": past, "journal": journal.run, "looking": looking.run,
        "live": live.run,
    }  # fmt: skip


async def _run(options: argparse.Namespace, report: Report) -> None:
    benches = _benches(options.history)
    names = options.names or [name for name in benches if name not in ON_DEMAND]
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    scale = QUICK_SCALE if options.quick else 1.0
    async with scratch_server() as scratch:
        for name in names:
            began = perf_counter()
            err.print(f"{name}: {rounds} rounds …", highlight=False)
            try:
                await benches[name](report, rounds, scale, scratch)
            except Exception as problem:  # noqa: BLE001 - the figures of the others are worth keeping
                err.print_exception()
                report.failed[name] = f"{type(problem).__name__}: {problem}"
            err.print(f"{name}: {perf_counter() - began:.0f} s", highlight=False)
    report.skipped |= {name: "only when asked for by name" for name in ON_DEMAND if not options.names}


def _plain(report: Report) -> dict[str, object]:
    rows = [msgspec.structs.asdict(row) | {"median": row.median, "verdict": row.verdict} for row in report.rows]
    return {"machine": report.machine, "rows": rows, "skipped": report.skipped, "failed": report.failed}


if __name__ == "__main__":
    main()
