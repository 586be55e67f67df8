"""The words of explanations (YAML beside this file), and how times, spans and lists are written in them."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from string import Formatter
from zoneinfo import ZoneInfo

import msgspec
import yaml
from msgspec import Struct

LOCALES = ("zh-CN", "en")
_Table = dict[str, str]
_SPANS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
_SPAN_COUNT_MIN = 2  # 90 minutes are read more easily than an hour and a half written as one hour
_formatter = Formatter()


class Words(Struct, frozen=True, forbid_unknown_fields=True):
    """The tables of one locale: what each code is called, and the sentences around them.

    `spans` are one and several; `months` empty where months go by number.
    """

    locale: str
    space: str
    comma: str
    semicolon: str
    quote: str
    aside: str
    months: tuple[str, ...]
    times: _Table
    spans: dict[str, tuple[str, str]]
    roles: _Table
    other_role: str
    nobody_reachable: str
    channels: _Table
    addresses: _Table
    endpoint_states: _Table
    muted_channel: str
    lanes: _Table
    frequencies: _Table
    lights: _Table
    categories: _Table
    owners: _Table
    amends: _Table
    fates: _Table
    topics: _Table
    anomalies: _Table
    events: _Table
    phases: _Table
    deadlines: _Table
    other_deadline: str
    review: str
    outcomes: _Table
    statuses: _Table
    outcome_note: str
    in_the_inbox: str
    attempts: str
    attempts_so_far: str
    words: str
    reasons: _Table
    remedies: _Table
    caps: _Table
    consents: _Table
    sentences: _Table

    def say(self, name: str, **values: object) -> str:
        """A sentence of the table `sentences`, filled in."""
        return fill(self.sentences[name], values)

    def role(self, role: str) -> str:
        """What a role is called; an extra recipient by the shop's own name for them."""
        return self.roles.get(role) or fill(self.other_role, {"role": role})

    def span(self, span: timedelta) -> str:
        """A span in the greatest unit that it is a few of."""
        seconds = max(round(span.total_seconds()), 1)
        for unit, length in _SPANS:
            if seconds >= length * _SPAN_COUNT_MIN or length in (seconds, 1):
                count = round(seconds / length)
                return fill(self.spans[unit][count != 1], {"count": count})
        raise AssertionError(span)  # pragma: no cover - the last unit takes all

    def time(self, at: datetime, zone: ZoneInfo, beside: datetime | None = None, *, exact: bool = False) -> str:
        """A moment by the clock of a zone, as short as it can be next to another one; `exact` with its seconds."""
        local = at.astimezone(zone)
        form = "same_year"
        if beside is not None:
            other = beside.astimezone(zone)
            days = (local.date() - other.date()).days
            form = {0: "same_day", 1: "next_day"}.get(days, "same_year" if local.year == other.year else "other_year")
        second = fill(self.times["second"], {"second": f"{local.second:02}"}) if exact and local.second else ""
        values = {
            "year": local.year, "month": self.months[local.month - 1] if self.months else local.month,
            "day": local.day, "hour": f"{local.hour:02}", "minute": f"{local.minute:02}{second}",
        }  # fmt: skip
        return fill(self.times[form], values)

    def listed(self, parts: Iterable[str]) -> str:
        """Several things in a row."""
        return self.comma.join(dict.fromkeys(parts))

    def joined(self, *sentences: str) -> str:
        """Sentences one after the other, each with a capital letter first; empty ones are left out."""
        return self.space.join(capital(sentence) for sentence in sentences if sentence)


def capital(text: str) -> str:
    """The text with its first letter large."""
    return text[:1].upper() + text[1:]


def fill(template: str, values: Mapping[str, object]) -> str:
    """Fill a template of these files in; values are taken as they are, whatever signs they hold."""
    return _formatter.vformat(template, (), values)


@lru_cache(maxsize=len(LOCALES))
def read_words(locale: str) -> Words:
    """The words of one of `LOCALES`."""
    text = (Path(__file__).parent / f"{locale}.yaml").read_text(encoding="utf-8")
    return msgspec.convert(yaml.safe_load(text), Words)


def locale_of(wanted: str, otherwise: str = LOCALES[0]) -> str:
    """The locale that fits a tag such as zh, en-GB or an `Accept-Language` header best; the first that fits counts."""
    for part in wanted.split(","):
        language = part.partition(";")[0].strip().replace("_", "-").partition("-")[0].lower()
        for locale in LOCALES:
            if language and locale.partition("-")[0].lower() == language:
                return locale
    return otherwise
