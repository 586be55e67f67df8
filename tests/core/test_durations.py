"""Spans of time as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderbell.core.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("2h", 7200), ("3d", 259200), ("1d12h", 129600), ("-24h", -86400), (" 0s ", 0), ("3650d", 315360000)],
)  # fmt: skip
def test_duration_is_read(text: str, seconds: int) -> None:
    """Numbers and units, several of them, and a sign."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "5x", "--5m", "1.5h", "h5", "1234567s"])
def test_duration_when_it_is_none(text: str) -> None:
    """Anything else is refused with what stood there."""
    with pytest.raises(ValueError, match="is no span of time"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["9999d", "-999999d", "999999d" * 2000])
def test_duration_when_it_is_too_long(text: str) -> None:
    """More than ten years is a slip, and would leave the calendar."""
    with pytest.raises(ValueError, match="more than ten years"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (59, "59s"),
        (3600, "1h"),
        (-86400, "-1d"),
        (90061, "1d1h"),
        (86401, "1d1s"),
        (-30, "-30s"),
    ],
)
def test_duration_is_written(seconds: float, text: str) -> None:
    """At most two units, the greatest first."""
    assert format_duration(timedelta(seconds=seconds)) == text


@given(st.integers(-(10**4), 10**4))
def test_duration_is_read_as_it_was_written(minutes: int) -> None:
    """What was written comes back, up to the two units."""
    span = timedelta(minutes=minutes)
    assert abs(parse_duration(format_duration(span)) - span) < timedelta(hours=1)
