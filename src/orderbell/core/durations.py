"""Spans of time as people write them: `30s`, `5m`, `2h`, `3d`, `1d12h`, `-24h`."""

import re
from datetime import timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FORM = re.compile(r"(-?)((?:\d{1,6}[smhd])+)")
_PART = re.compile(r"(\d+)([smhd])")
_SECONDS_MAX = 3660 * 86400  # ten years; more is a slip, and could leave the calendar


def parse_duration(text: str) -> timedelta:
    """Read a span; ValueError for anything else."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no span of time")
    seconds = sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(found[2]))
    if seconds > _SECONDS_MAX:
        raise ValueError(f"{text!r} is more than ten years")
    return timedelta(seconds=-seconds if found[1] else seconds)


def format_duration(span: timedelta) -> str:
    """Write a span in at most two units: `1d12h`, `5m`, `-24h` stays `-1d`."""
    seconds = round(abs(span.total_seconds()))
    parts: list[str] = []
    for unit in ("d", "h", "m", "s"):
        count, seconds = divmod(seconds, _UNITS[unit])
        if count and len(parts) < 2:  # noqa: PLR2004 - two units are as exact as people read
            parts.append(f"{count}{unit}")
    sign = "-" if span < timedelta(0) else ""
    return sign + ("".join(parts) or "0s")
