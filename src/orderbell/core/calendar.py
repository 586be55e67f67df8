"""When a person may be reached: receiving hours in their own time zone (S3-19)."""

from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


@lru_cache(maxsize=1024)
def zone_of(name: str, otherwise: str) -> ZoneInfo:
    """The zone of that name, or the other one where the name is empty or unknown."""
    try:
        return ZoneInfo(name or otherwise)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo(otherwise)


@lru_cache(maxsize=1024)
def _span(quiet: str) -> tuple[time, time]:
    first, _, last = quiet.partition("-")
    return time.fromisoformat(first), time.fromisoformat(last)


def quiet_until(now: datetime, quiet: str, zone: ZoneInfo) -> datetime | None:
    """The end of the quiet hours that `now` lies in, as aware UTC; None when the person may be reached.

    `quiet` is "22:00-08:00" in local time, over midnight or not; equal ends mean no quiet hours. The end is the
    wall clock's, so a change of the clocks in between shortens or lengthens the night.
    """
    if not quiet:
        return None
    first, last = _span(quiet)
    local = now.astimezone(zone)
    clock = local.time()
    if first < last:
        if not first <= clock < last:
            return None
        day = local.date()
    elif first > last and clock >= first:
        day = local.date() + timedelta(days=1)
    elif first > last and clock < last:
        day = local.date()
    else:
        return None
    end = datetime.combine(day, last, zone).astimezone(UTC)
    if end <= now:  # the clocks went back over the end: it comes a second time
        end = datetime.combine(day, last.replace(fold=1), zone).astimezone(UTC)
    return end
