"""Receiving hours: over midnight or not, in a person's own zone, where clocks change."""

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderbell.core.calendar import quiet_until, zone_of

SHANGHAI = ZoneInfo("Asia/Shanghai")
AMSTERDAM = ZoneInfo("Europe/Amsterdam")


def local(text: str, zone: ZoneInfo = SHANGHAI, fold: int = 0) -> datetime:
    """A local time as aware UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).astimezone(UTC)


@pytest.mark.parametrize(
    ("quiet", "now", "end"),
    [
        ("", "2026-03-02T23:00", None),
        ("22:00-08:00", "2026-03-02T21:59:59", None),
        ("22:00-08:00", "2026-03-02T22:00", "2026-03-03T08:00"),
        ("22:00-08:00", "2026-03-03T07:59:59", "2026-03-03T08:00"),
        ("22:00-08:00", "2026-03-03T08:00", None),
        ("13:00-15:00", "2026-03-02T12:59", None),
        ("13:00-15:00", "2026-03-02T13:00", "2026-03-02T15:00"),
        ("13:00-15:00", "2026-03-02T15:00", None),
        ("08:00-08:00", "2026-03-02T08:00", None),
    ],
)
def test_quiet_hours_of_a_day(quiet: str, now: str, end: str | None) -> None:
    """The first minute is quiet, the end is not; equal ends mean none."""
    assert quiet_until(local(now), quiet, SHANGHAI) == (local(end) if end else None)


def test_quiet_hours_when_their_end_comes_twice() -> None:
    """Where the clocks go back over the end, a person is left in peace until it comes the second time."""
    again = local("2026-10-25T02:15", AMSTERDAM, fold=1)
    assert quiet_until(again, "22:00-02:30", AMSTERDAM) == local("2026-10-25T02:30", AMSTERDAM, fold=1)


@given(
    now=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - naive bounds
    first=st.times(), last=st.times(), zone=st.sampled_from(["Europe/Amsterdam", "America/New_York", "Australia/Lord_Howe"]),
)  # fmt: skip
def test_quiet_hours_always_end_later(now: datetime, first: time, last: time, zone: str) -> None:
    """Whatever the hours and the zone, the end lies ahead: nothing waits in a circle."""
    end = quiet_until(now, f"{first:%H:%M}-{last:%H:%M}", ZoneInfo(zone))
    assert end is None or end > now


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "Asia"])
def test_zone_when_unknown(name: str) -> None:
    """What names no zone gives the other one."""
    assert zone_of(name, "Asia/Shanghai").key == "Asia/Shanghai"


def test_zone_when_known() -> None:
    """A known zone is taken."""
    assert zone_of("Europe/Amsterdam", "Asia/Shanghai").key == "Europe/Amsterdam"
