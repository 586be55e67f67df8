"""A playbook on past orders, in memory: who would have been told what and when."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from time import perf_counter

from orderbell.core.events import Event
from orderbell.core.turn import Shelf
from orderbell.insight.summary import Summary, Tally
from orderbell.store.memory import MemoryHost

BATCH = 500
AFTERMATH = timedelta(days=30)  # after the last event, so that what is still open grows late


def run_backtest(
    events: Iterable[Event],
    shelf: Shelf,
    tally: Tally,
    *,
    tenant: str,
    until: datetime | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Summary, MemoryHost]:
    """Run events in the order of their arrival through the pure core; deadlines fire and notices are planned between.

    `until` lets time pass after the last event, default: `AFTERMATH`.
    """
    host = MemoryHost({tenant: shelf}, keep_journal=False)
    began = perf_counter()
    event_count = 0
    last = until
    for batch in batches(events, BATCH):
        host.feed(batch)
        host.advance(batch[-1].received_at)
        event_count += len(batch)
        last = batch[-1].received_at
        if progress is not None:
            progress(len(batch))
    if last is not None:
        host.advance(until or last + AFTERMATH)
    seconds = perf_counter() - began
    for message in host.messages:
        tally.message(message)
    tally.fates.update(f"{fate.kind}:{fate.reason}" for fate in host.fates)
    anomalies = Counter(line.name for line in host.anomalies.values())
    summary = tally.summary(
        host.orders, shelf, event_count=event_count, step_count=host.step_count, seconds=seconds, anomalies=anomalies,
        case_count=len(host.cases),
    )  # fmt: skip
    return summary, host


def batches(events: Iterable[Event], size: int) -> Iterator[list[Event]]:
    """Cut a stream into lists of at most `size`."""
    source = iter(events)
    while batch := list(islice(source, size)):
        yield batch
