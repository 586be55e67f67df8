"""The lease under which a dispatcher sends: who loses it stops, and somebody else looks after what it left.

The database's clock decides when a lease is over; this side goes by a clock that nobody can set, from a moment
before the renewal was asked for, less a margin: so it stops first.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from orderbell.observe import count
from orderbell.store.ledger import Ledger

LEASE: Final = timedelta(seconds=10)
RENEW_AFTER_S: Final = 2.0
MARGIN_S: Final = 1.0
GRACE: Final = timedelta(seconds=2)
"""How long after the end of a lease its messages are left alone: a renewal may be committing."""


def steady_s() -> float:
    """Seconds on a clock that cannot be set; on Linux it goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """The present lease of a dispatcher; every one has a number of its own."""

    def __init__(self, ledger: Ledger, name: str, clock_s: Callable[[], float] = steady_s) -> None:
        self._ledger, self._name, self._clock_s = ledger, name, clock_s
        self._worker: int | None = None
        self._renew_at_s = 0.0
        self._ends_at_s = 0.0
        self._asking = asyncio.Lock()

    def holds(self, worker: int) -> bool:
        """Whether that number is still ours, with a margin."""
        return worker == self._worker and self._clock_s() < self._ends_at_s

    async def ensure(self) -> int:
        """Renew the lease where it is time, take a new one where there is none; returns its number."""
        async with self._asking:
            return await self._ensure()

    def renounce(self) -> None:
        """Forget the lease without a word: it runs out, and what stands under it is looked after then."""
        count("dispatch.lease_renounced")
        self._worker = None

    async def give_up(self) -> None:
        """Give the lease back; nothing is under way any more."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await self._ledger.give_up_lease(worker)

    async def _ensure(self) -> int:
        asked_at_s = self._clock_s()
        worker = self._worker
        if worker is not None and asked_at_s < self._renew_at_s:
            return worker
        if worker is not None and not await self._ledger.renew_lease(worker, LEASE):
            count("dispatch.lease_lost")
            worker = None
        if worker is None:
            asked_at_s = self._clock_s()
            worker = await self._ledger.take_lease(self._name, LEASE)
        self._worker = worker
        self._renew_at_s = asked_at_s + RENEW_AFTER_S
        self._ends_at_s = asked_at_s + LEASE.total_seconds() - MARGIN_S
        return worker
