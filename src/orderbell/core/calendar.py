"""When a person may be reached: receiving hours in their own time zone, workdays of their country (S3-19)."""

import re
import warnings
from bisect import bisect_left
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from holidays import HolidayBase

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
# Longer than any run of holidays: whoever finds no workday within it has a wrong calendar, and waits no longer.
_AHEAD_MAX = timedelta(days=30)
_SATURDAY = 5
_matches_hours = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]-(?:[01][0-9]|2[0-3]):[0-5][0-9]").fullmatch
_matches_region = re.compile(r"[A-Z]{2}").fullmatch


@lru_cache(maxsize=1024)
def zone_of(name: str, otherwise: str = "UTC") -> ZoneInfo:
    """The zone of that name, or the other one where the name is empty or unknown, or UTC where both are."""
    return _load(name) or _load(otherwise) or ZoneInfo("UTC")


def is_zone(name: str) -> bool:
    """Whether a time zone of that name is known."""
    return _load(name) is not None


@lru_cache(maxsize=1024)
def _load(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones, or a name too long for a file
        return None


def is_hours(text: str) -> bool:
    """Whether a text is hours of the day, such as 09:00-20:00."""
    return _matches_hours(text) is not None


@lru_cache(maxsize=1024)
def _span(hours: str) -> tuple[time, time]:
    first, _, last = hours.partition("-")
    return time.fromisoformat(first), time.fromisoformat(last)


def quiet_until(now: datetime, quiet: str, zone: ZoneInfo) -> datetime | None:
    """The end of the quiet hours that `now` lies in, as aware UTC; None when the person may be reached.

    `quiet` is "22:00-08:00" in local time, over midnight or not; empty or with equal ends it means none. The wall
    clock counts: the end is the first instant at which it shows no quiet hour, also when the clocks change on the way.
    ValueError for what `is_hours` refuses.
    """
    if not quiet:
        return None
    first, last = _span(quiet)
    return _left(now, first, last, zone)


def hours_until(now: datetime, hours: str, zone: ZoneInfo) -> datetime | None:
    """When receiving hours open next, as aware UTC; None when they are open.

    The complement of `quiet_until`: what is not in "09:00-20:00" is quiet. Empty hours or equal ends are always open.
    """
    if not hours:
        return None
    opens, closes = _span(hours)
    return _left(now, closes, opens, zone)


def _left(now: datetime, first: time, last: time, zone: ZoneInfo) -> datetime | None:
    # The first instant whose wall clock is outside [first, last), None if `now` is one. Goes from change to change of
    # the clocks: one can skip the end, or bring it twice.
    instant, local = now.astimezone(UTC), now.astimezone(zone)
    while _within(clock := local.time(), first, last):
        ahead = instant + (datetime.combine(date.min, last) - datetime.combine(date.min, clock)) % _DAY
        there = ahead.astimezone(zone)
        if there.utcoffset() != local.utcoffset():
            ahead = _change(instant, ahead, zone)
            there = ahead.astimezone(zone)
        instant, local = ahead, there
    return instant if instant > now else None


def _within(clock: time, first: time, last: time) -> bool:
    return first <= clock < last if first <= last else clock >= first or clock < last


def _change(after: datetime, until: datetime, zone: ZoneInfo) -> datetime:
    # The instant in (after, until] at which the offset becomes another; clocks change on a full second.
    before = after.astimezone(zone).utcoffset()
    start = after.replace(microsecond=0)
    seconds = range((until - start) // _SECOND + 1)
    changed = bisect_left(seconds, 1, key=lambda s: (start + s * _SECOND).astimezone(zone).utcoffset() != before)
    return start + changed * _SECOND


@lru_cache(maxsize=8192)
def is_workday(on: date, region: str) -> bool:
    """Whether people work on that date in that country (ISO 3166, two letters); Monday to Friday where it is unknown.

    For China with the days that are worked to make up for a bridge; where the year's are not announced yet, without.
    """
    region = region.upper()
    if region == "CN" and (known := _is_workday_in_china(on)) is not None:
        return known
    calendar = _holidays(region)
    if calendar is None:
        return on.weekday() < _SATURDAY
    with warnings.catch_warnings():
        # The dates of some feasts are known for some years only; that is said by a warning, and no reason to fail.
        warnings.simplefilter("ignore")
        free = on in calendar
    return not free and calendar.is_working_day(on)


def _is_workday_in_china(on: date) -> bool | None:
    import chinese_calendar  # noqa: PLC0415 - only who sends marketing needs it

    try:
        return bool(chinese_calendar.is_workday(on))
    except NotImplementedError:
        return None


@lru_cache(maxsize=256)
def _holidays(region: str) -> "HolidayBase | None":
    import holidays  # noqa: PLC0415 - takes a tenth of a second to import

    try:
        return holidays.country_holidays(region) if _matches_region(region) else None
    except NotImplementedError:
        return None


def marketing_until(now: datetime, hours: str, workdays_only: bool, region: str, zone: ZoneInfo) -> datetime | None:  # noqa: FBT001 - a field of the playbook
    """The next instant at which marketing may go out, as aware UTC; None if it may now.

    That is within `hours` and, if so asked, on a workday of `region`: the day that the instant lies on in `zone`, not
    the day on which a night began. Looks 30 days ahead, then takes the next opening whatever the day.
    """
    at = now.astimezone(UTC)
    while True:
        opens = hours_until(at, hours, zone) or at
        day = opens.astimezone(zone).date()
        if not workdays_only or is_workday(day, region) or opens - now >= _AHEAD_MAX:
            return opens if opens > now else None
        at = min(datetime.combine(day + _DAY, time(), zone).astimezone(UTC), now + _AHEAD_MAX)
