"""Clocks: the system's, and one that runs faster for demonstrations."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Now, as aware UTC."""
    return datetime.now(UTC)


def quick_clock(start: datetime, speed: float) -> Clock:
    """A clock that begins at `start` and runs `speed` times as fast as the real one."""
    began = monotonic()

    def now() -> datetime:
        return start + timedelta(seconds=(monotonic() - began) * speed)

    return now
