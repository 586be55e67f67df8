"""How long a receipt is waited for before another channel is tried: learned from the receipts that came (S0-32)."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final

from orderbell.core.events import ChannelName
from orderbell.core.plan import PATIENCE

FLOOR: Final = timedelta(minutes=1)
CEILING: Final = timedelta(minutes=15)
"""However slow a channel is: what is urgent should not wait for longer than this."""

RECEIPTS_MIN: Final = 50
"""Fewer receipts prove nothing."""

FACTOR: Final = 2.0
"""On top of the time within which 95 % of the receipts came: the next channel costs money and patience, too."""


def patience_of(
    channels: Iterable[ChannelName], paces: Mapping[str, tuple[float, int]]
) -> dict[ChannelName, timedelta]:
    """For every channel how long to wait; `paces` are the seconds within which 95 % come, and out of how many."""
    found: dict[ChannelName, timedelta] = {}
    for channel in channels:
        delay_p95_s, receipts = paces.get(channel, (0.0, 0))
        learned = timedelta(seconds=max(delay_p95_s, 0.0) * FACTOR)
        found[channel] = min(max(learned, FLOOR), CEILING) if receipts >= RECEIPTS_MIN else PATIENCE
    return found
