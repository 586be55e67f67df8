"""How values are written in texts: codes, money, dates and spans. A value that cannot be is written as nothing."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

from orderbell.core.calendar import zone_of
from orderbell.core.events import ORDER_NO_MAX

FEN_MAX = 10**12  # the most that intake takes
SECONDS_MAX = 253_402_214_400  # the last day that dates can name, whatever the zone
DAYS_MAX = 999
_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60

Form = Literal["short", "plain", "long", "mail"]
"""Cut for an SMS, in GSM letters only, at full length, or with the exact amounts of a mail."""


class SpansSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """How spans are written: `{count}小时内`, or one form for one and another for many."""

    minutes: str | tuple[str, str]
    hours: str | tuple[str, str]
    days: str | tuple[str, str]


def show_code(value: str | int | None, form: Form) -> str:
    """Write a number of an order or parcel whole: intake takes no other, and half a number is worse than none."""
    if not isinstance(value, str) or len(value) > ORDER_NO_MAX or not (value.isascii() and value.isprintable()):
        return ""
    return value.replace("`", "'") if form == "plain" else value


def show_money(fen: int, form: Form) -> str:
    """Write fen in yuan; a mail is kept as a receipt, with both decimals, elsewhere 152 reads better (S3-13)."""
    if not 0 <= fen <= FEN_MAX:
        return ""
    yuan, rest = divmod(fen, 100)
    return f"{yuan:,}.{rest:02d}" if rest or form == "mail" else f"{yuan:,}"


def show_date(pattern: str, months: Sequence[str], seconds: int, timezone: str) -> str:
    """Write the day of a moment, in whole seconds since 1970, as it is called in a zone."""
    if not _DAY <= seconds <= SECONDS_MAX:
        return ""
    local = datetime.fromtimestamp(seconds, zone_of(timezone))
    return date_form(pattern, months, local.month, local.day)


def date_form(pattern: str, months: Sequence[str], month: int, day: int) -> str:
    """Write a day, by the names of the months or, without them, by numbers."""
    name = months[month - 1] if months else str(month)
    return pattern.replace("{month}", name).replace("{day}", str(day))


def show_span(spans: SpansSpec, seconds: int) -> str:
    """Write a span, always rounded up: "within" must stay true. Days and hours from three on, unless they come even."""
    if not 0 < seconds <= DAYS_MAX * _DAY:
        return ""
    if seconds % _DAY == 0 or seconds >= 3 * _DAY:
        return _span_form(spans.days, -(-seconds // _DAY))
    if seconds % _HOUR == 0 or seconds >= 3 * _HOUR:
        return _span_form(spans.hours, -(-seconds // _HOUR))
    return _span_form(spans.minutes, -(-seconds // _MINUTE))


def _span_form(form: str | tuple[str, str], count: int) -> str:
    if not isinstance(form, str):
        form = form[count > 1]
    return form.replace("{count}", str(count))


def longest_spans(spans: SpansSpec) -> list[str]:
    """The forms of spans among which the longest is."""
    forms = ((spans.minutes, 180), (spans.hours, 72), (spans.days, DAYS_MAX))
    return [_span_form(form, count) for form, most in forms for count in (1, most)]
