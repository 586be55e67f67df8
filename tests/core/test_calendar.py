"""Receiving hours: over midnight or not, in a person's own zone, where clocks change; workdays of a country."""

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import holidays
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orderbell.core import calendar
from orderbell.core.calendar import (
    hours_until,
    is_hours,
    is_workday,
    is_zone,
    marketing_until,
    quiet_until,
    zone_of,
)

law = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first zone is loaded from disk

SHANGHAI = ZoneInfo("Asia/Shanghai")
AMSTERDAM = ZoneInfo("Europe/Amsterdam")
BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
MINUTE = timedelta(minutes=1)
# Changes by an hour and by half an hour, north and south, at midnight, and of the whole day.
ZONES = [
    "Europe/Berlin", "Europe/London", "America/New_York", "America/St_Johns", "America/Havana", "America/Sao_Paulo",
    "Asia/Beirut", "Asia/Kathmandu", "Asia/Shanghai", "Africa/Casablanca", "Antarctica/Troll", "Australia/Lord_Howe",
    "Pacific/Apia", "Pacific/Chatham", "UTC",
]  # fmt: skip


def local(text: str, zone: ZoneInfo = SHANGHAI, fold: int = 0) -> datetime:
    """A local time as aware UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).astimezone(UTC)


@cache
def changes(zone: str) -> list[datetime]:
    """The hours around 2011 and 2025 in which the clocks of a zone change."""
    found = []
    for year in (2011, 2025):
        hours = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(2 * 8784)]
        offsets = [hour.astimezone(ZoneInfo(zone)).utcoffset() for hour in hours]
        found += [hour for hour, old, new in zip(hours, offsets, offsets[1:], strict=False) if old != new]
    return found or [datetime(2025, 3, 30, tzinfo=UTC)]


@st.composite
def moments(draw: st.DrawFn) -> tuple[datetime, str, ZoneInfo]:
    """An instant, hours and a zone: half the time near a change of the clocks, the ends often near each other."""
    zone = draw(st.sampled_from(ZONES))
    near = st.builds(lambda at, minutes: at + minutes * MINUTE, st.sampled_from(changes(zone)), st.integers(-1500, 300))
    minutes = st.datetimes(datetime(1975, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - naive bounds
    now = draw(near | minutes.map(lambda at: at.replace(second=0, microsecond=0)))
    small = st.builds(time, st.integers(0, 3), st.sampled_from([0, 1, 15, 30, 45, 59]))
    first, last = draw(small | st.times()), draw(small | st.times())
    return now, f"{first:%H:%M}-{last:%H:%M}", ZoneInfo(zone)


@pytest.mark.parametrize(
    ("quiet", "now", "end"),
    [
        ("", "2026-03-02T23:00", None),
        ("22:00-08:00", "2026-03-02T21:59:59", None),
        ("22:00-08:00", "2026-03-02T22:00", "2026-03-03T08:00"),
        ("22:00-08:00", "2026-03-03T07:59:59.5", "2026-03-03T08:00"),
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


@pytest.mark.parametrize(
    ("hours", "now", "opening"),
    [
        ("", "2026-03-02T23:00", None),
        ("09:00-20:00", "2026-03-02T08:59", "2026-03-02T09:00"),
        ("09:00-20:00", "2026-03-02T09:00", None),
        ("09:00-20:00", "2026-03-02T19:59", None),
        ("09:00-20:00", "2026-03-02T20:00", "2026-03-03T09:00"),
        ("20:00-02:00", "2026-03-03T01:59", None),
        ("20:00-02:00", "2026-03-03T02:00", "2026-03-03T20:00"),
        ("09:00-09:00", "2026-03-02T08:00", None),
    ],
)
def test_receiving_hours_of_a_day(hours: str, now: str, opening: str | None) -> None:
    """They open with their first minute and close with their last; equal ends are always open."""
    assert hours_until(local(now), hours, SHANGHAI) == (local(opening) if opening else None)


@pytest.mark.parametrize(
    ("zone", "quiet", "now", "end"),
    [
        (NEW_YORK, "22:00-02:30", "2026-03-08T01:00", "2026-03-08T03:00"),
        (NEW_YORK, "03:20-02:30", "2026-03-08T01:59", "2026-03-08T03:00"),
        (NEW_YORK, "03:00-02:30", "2026-03-08T01:59", "2026-03-09T02:30"),
        (BERLIN, "22:00-08:00", "2026-03-28T23:00", "2026-03-29T08:00"),
        (LORD_HOWE, "22:00-02:15", "2025-10-05T01:59:30.25", "2025-10-05T02:30"),
    ],
)
def test_quiet_hours_when_their_end_is_skipped(zone: ZoneInfo, quiet: str, now: str, end: str) -> None:
    """Where the clocks go forward over the end, it is there when they do; hours skipped whole come the next day."""
    assert quiet_until(local(now, zone), quiet, zone) == local(end, zone)


def test_quiet_hours_when_their_end_comes_twice() -> None:
    """Where the clocks go back over the end, a person is left in peace until it comes the second time."""
    again = local("2026-10-25T02:15", AMSTERDAM, fold=1)
    assert quiet_until(again, "22:00-02:30", AMSTERDAM) == local("2026-10-25T02:30", AMSTERDAM, fold=1)


def test_quiet_hours_when_the_clocks_go_back_before_their_end() -> None:
    """The night is longer by what the clocks go back."""
    before = local("2026-04-05T01:45", LORD_HOWE)
    assert quiet_until(before, "22:00-02:15", LORD_HOWE) == local("2026-04-05T02:15", LORD_HOWE)
    assert local("2026-04-05T02:15", LORD_HOWE) - before == timedelta(hours=1)


@law
@given(moments())
def test_quiet_hours_end_as_soon_as_the_clock_shows(moment: tuple[datetime, str, ZoneInfo]) -> None:
    """The end is the first minute ahead at which the person may be reached, whatever the clocks do."""
    now, quiet, zone = moment
    end = quiet_until(now, quiet, zone)
    if end is None:
        return
    assert end > now
    assert quiet_until(end, quiet, zone) is None
    minute = now + MINUTE
    while quiet_until(minute, quiet, zone) is not None:
        minute += MINUTE
    assert end == minute


@law
@given(moments(), st.timedeltas(timedelta(0), MINUTE))
def test_receiving_hours_are_what_is_not_quiet(moment: tuple[datetime, str, ZoneInfo], more: timedelta) -> None:
    """Both functions say the same of the two halves of a day, and at their answer the person may be reached."""
    now, hours, zone = moment
    opens, closes = hours.split("-")
    opening = hours_until(now + more, hours, zone)
    assert opening == quiet_until(now + more, f"{closes}-{opens}", zone)
    if opening is not None:
        assert opening > now + more
        assert opening.tzinfo is UTC
        assert hours_until(opening, hours, zone) is None


@pytest.mark.parametrize("text", ["09:00-20:00", "22:00-08:00", "00:00-23:59", "08:00-08:00"])
def test_hours_when_well_formed(text: str) -> None:
    """Two times of the day with a dash are hours."""
    assert is_hours(text)
    assert hours_until(local("2026-03-02T12:00"), text, SHANGHAI) is None or text == "22:00-08:00"


@pytest.mark.parametrize(
    "text", ["", "9-20", "24:00-08:00", "09:00-20:60", "09:00-20:00\n", "1\u0662:00-20:00", "09:00"]
)
def test_hours_when_malformed(text: str) -> None:
    """Anything else is not, also what only looks like digits."""
    assert not is_hours(text)


@law
@given(st.text() | st.from_regex(r"\d\d:\d\d-\d\d:\d\d"))
def test_hours_that_are_hours_can_be_used(text: str) -> None:
    """Whatever passes the check is understood."""
    if is_hours(text):
        hours_until(local("2026-03-02T12:00"), text, SHANGHAI)
        quiet_until(local("2026-03-02T12:00"), text, SHANGHAI)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "Asia", "\0", "\ud800", "a" * 1000])
def test_zone_when_unknown(name: str) -> None:
    """What names no zone gives the other one, or UTC."""
    assert not is_zone(name)
    assert zone_of(name, "Asia/Shanghai").key == "Asia/Shanghai"
    assert zone_of(name, name).key == "UTC"
    assert zone_of(name).key == "UTC"


def test_zone_when_known() -> None:
    """A known zone is taken."""
    assert is_zone("Europe/Amsterdam")
    assert zone_of("Europe/Amsterdam", "Asia/Shanghai").key == "Europe/Amsterdam"


@pytest.mark.parametrize(
    ("on", "region", "works"),
    [
        ("2026-03-02", "CN", True),
        ("2026-03-01", "CN", False),
        ("2026-10-01", "cn", False),
        ("2026-10-10", "CN", True),  # a Saturday, worked for the bridge after National Day
        ("2027-10-01", "CN", False),
        ("2099-10-01", "CN", False),
        ("2099-10-10", "CN", False),
        ("1850-01-02", "CN", True),
        ("2026-07-03", "US", False),  # Independence Day is observed on the Friday
        ("2026-03-01", "IL", True),  # a Sunday
        ("2026-03-06", "IL", False),
        ("2026-03-06", "DE", True),
        ("2026-12-25", "XX", True),
        ("2026-12-26", "", False),
        ("9999-12-31", "US", True),
    ],
)
def test_workday(on: str, region: str, works: bool) -> None:
    """Holidays, weekends and days worked instead are those of the country; elsewhere Monday to Friday are worked."""
    assert is_workday(date.fromisoformat(on), region) is works


def test_workday_in_china_when_the_year_is_not_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the year's announcement the feasts and the weekends count."""
    monkeypatch.setattr(calendar, "_is_workday_in_china", lambda _on: None)
    is_workday.cache_clear()
    assert not is_workday(date(2030, 10, 1), "CN")
    assert not is_workday(date(2030, 10, 12), "CN")
    assert is_workday(date(2030, 10, 15), "CN")
    is_workday.cache_clear()


@law
@given(st.dates(), st.sampled_from(sorted(holidays.list_supported_countries())) | st.text(max_size=3))
def test_workday_of_any_country(on: date, region: str) -> None:
    """No date and no country raises, nor warns."""
    assert is_workday(on, region) in (True, False)


@pytest.mark.parametrize(
    ("now", "hours", "workdays_only", "opening"),
    [
        ("2026-03-02T10:00", "09:00-20:00", True, None),
        ("2026-03-02T21:00", "09:00-20:00", True, "2026-03-03T09:00"),
        ("2026-03-06T21:00", "09:00-20:00", True, "2026-03-09T09:00"),
        ("2026-03-06T21:00", "09:00-20:00", False, "2026-03-07T09:00"),
        ("2026-03-07T10:00", "09:00-20:00", False, None),
        ("2026-03-07T10:00", "09:00-20:00", True, "2026-03-09T09:00"),
        ("2026-03-07T10:00", "", True, "2026-03-09T00:00"),
        ("2026-03-07T01:00", "20:00-02:00", True, "2026-03-09T00:00"),
        ("2026-09-30T21:00", "09:00-20:00", True, "2026-10-08T09:00"),
    ],
)
def test_marketing(now: str, hours: str, workdays_only: bool, opening: str | None) -> None:
    """Marketing waits for the hours and, where so asked, for a workday: over National Day that is a week."""
    found = marketing_until(local(now), hours, workdays_only, "CN", SHANGHAI)
    assert found == (local(opening) if opening else None)


@pytest.mark.parametrize(("hours", "opening"), [("09:00-20:00", "2026-04-02T09:00"), ("", "2026-04-01T21:00")])
def test_marketing_when_nobody_ever_works(monkeypatch: pytest.MonkeyPatch, hours: str, opening: str) -> None:
    """After thirty days it stops to wait for a workday."""
    monkeypatch.setattr(calendar, "is_workday", lambda _on, _region: False)
    assert marketing_until(local("2026-03-02T21:00"), hours, True, "CN", SHANGHAI) == local(opening)


@law
@given(moments(), st.booleans(), st.sampled_from(["CN", "DE", "US", "AE", "XX"]))
def test_marketing_goes_out_when_it_may(
    moment: tuple[datetime, str, ZoneInfo], workdays_only: bool, region: str
) -> None:
    """What is told lies ahead, and then it may go out."""
    now, hours, zone = moment
    at = marketing_until(now, hours, workdays_only, region, zone)
    if at is None:
        assert hours_until(now, hours, zone) is None
    else:
        assert at > now
        assert marketing_until(at, hours, workdays_only, region, zone) is None
    day = (at or now).astimezone(zone).date()
    assert not workdays_only or is_workday(day, region)
