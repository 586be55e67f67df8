"""What WeChat takes as the value of a template's key, and how words are made to fit.

A key is a kind and a number, such as `thing1` or `character_string12`. One value that breaks the rule of its kind
costs the whole message (errcode 47003), so every value is cleaned, and where that loses nothing but length it is cut,
before it is sent. Source: developers.weixin.qq.com, "subscribe-message / sendMessage", restrictions on values.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Final

from orderbell.errors import OrderBellError

_THING_LENGTH_MAX: Final = 20
_STRING_LENGTH_MAX: Final = 32
_SYMBOL_LENGTH_MAX: Final = 5
_PHRASE_LENGTH_MAX: Final = 5
_NAME_HAN_LENGTH_MAX: Final = 10
_NAME_LETTERS_LENGTH_MAX: Final = 20
_PHONE_LENGTH_MAX: Final = 17
_BEYOND_ONE_UNIT: Final = 0xFFFF
_SHOWN_LENGTH_MAX: Final = 40

_HAN: Final = r"\u3400-\u4dbf\u4e00-\u9fff\u3007"
_CLOCK: Final = r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?"
_MONTH: Final = r"(?:0?[1-9]|1[0-2])"
_DAY: Final = r"(?:0?[1-9]|[12][0-9]|3[01])"
_DATE: Final = rf"[0-9]{{4}}(?:年{_MONTH}月{_DAY}日|(?P<dash>[-/.]){_MONTH}(?P=dash){_DAY})"

_not_han = re.compile(rf"[^{_HAN}]")
_any_han = re.compile(rf"[{_HAN}]")
_digits = re.compile(r"[0-9]")
_number = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_letters = re.compile(r"[A-Za-z]+")
_printable = re.compile(r"[!-~]+")
_not_symbol = re.compile(rf"[0-9A-Za-z\s{_HAN}]")
_phone = re.compile(r"[0-9+\-()#*]+")
_car = re.compile(rf"[{_HAN}A-Z0-9][A-Z0-9]{{0,6}}[{_HAN}A-Z0-9]?")
_amount = re.compile(r"[0-9]{1,10}(?:\.[0-9]+)?元?")
_currency_word = re.compile(r"^(?:CNY|RMB|CN(?=¥))", re.IGNORECASE)
_clock = re.compile(_CLOCK)
_date = re.compile(rf"{_DATE}(?: ?{_CLOCK})?")
_iso_middle = re.compile(r"(?<=[0-9])T(?=[0-9])")
_range_middle = re.compile(r"\s*(?:~|至|到|—+|–| - )\s*")
_surrogate = re.compile(r"[\ud800-\udfff]")


class DoesNotFit(OrderBellError):
    """A value cannot be made what WeChat takes for its key."""


def is_key(name: str) -> bool:
    """Tell whether a name is one of WeChat's keys: a kind that we know and a number."""
    return kind_of(name) in _FITTING and name[-1:].isdecimal()


def kind_of(key: str) -> str:
    """The kind of a key: its name without the number."""
    return key.rstrip("0123456789")


def fit(key: str, words: str) -> str:
    """Make words fit for a key; those of a kind that we do not know are only cleaned.

    Raises:
        DoesNotFit: nothing true that is left of them would be taken; says which key, and what it takes.
    """
    if _surrogate.search(words):
        raise DoesNotFit(f"{key} cannot be written as UTF-8")
    cleaned = " ".join("".join(c if unicodedata.category(c) != "Cc" else " " for c in words).split())
    kind = kind_of(key)
    fitted = _FITTING.get(kind, _as_it_is)(cleaned)
    if fitted is None or not (fitted or kind == "const"):
        takes = _TAKES.get(kind, "some text")
        raise DoesNotFit(f"{key} takes {takes}, which cannot be made of words like {_shape(cleaned)!r}")
    return fitted


def length_of(words: str) -> int:
    """Count as a phone does: a character beyond the basic plane (most emoji) is two."""
    return sum(2 if ord(c) > _BEYOND_ONE_UNIT else 1 for c in words)


def _shape(words: str) -> str:
    """Show what words look like without telling what they are: they may be a name or a phone number."""
    return "".join(
        "0" if c.isdigit() else "字" if _any_han.match(c) else "a" if c.isalpha() else c
        for c in words[:_SHOWN_LENGTH_MAX]
    )


def _cut(words: str, length_max: int, mark: str) -> str:
    """Cut to a length, and show with a mark that it was cut."""
    if length_of(words) <= length_max:
        return words
    left = length_max - len(mark)
    kept = []
    for c in words:
        left -= length_of(c)
        if left < 0:
            break
        kept.append(c)
    return "".join(kept).rstrip() + mark


def _narrow(words: str) -> str:
    """Turn full-width forms into the plain ones, and drop spaces."""
    return "".join(unicodedata.normalize("NFKC", words).split())


def _as_it_is(words: str) -> str | None:
    return words


def _thing(words: str) -> str | None:
    return _cut(words, _THING_LENGTH_MAX, "…")


def _number_of(words: str) -> str | None:
    number = _narrow(words).replace(",", "")
    # A number that has been cut is another number.
    return number if _number.fullmatch(number) and len(number) <= _STRING_LENGTH_MAX else None


def _letter(words: str) -> str | None:
    letters = _narrow(words)
    return letters[:_STRING_LENGTH_MAX] if _letters.fullmatch(letters) else None


def _symbol(words: str) -> str | None:
    return _not_symbol.sub("", words)[:_SYMBOL_LENGTH_MAX]


def _character_string(words: str) -> str | None:
    narrow = _narrow(words)
    return _cut(narrow, _STRING_LENGTH_MAX, "...") if _printable.fullmatch(narrow) else None


def _moments(words: str, *, clock_alone: bool) -> str | None:
    """Read one moment or two with something like "to" between them; written with `~` in WeChat's way."""
    spelled = _iso_middle.sub(" ", unicodedata.normalize("NFKC", words))
    sides = _range_middle.split(spelled)
    if len(sides) > 2 or not all(_is_moment(side, clock_alone=clock_alone or n > 0) for n, side in enumerate(sides)):  # noqa: PLR2004 - from and to
        return None
    return "~".join(sides)


def _is_moment(words: str, *, clock_alone: bool) -> bool:
    return _date.fullmatch(words) is not None or (clock_alone and _clock.fullmatch(words) is not None)


def _time(words: str) -> str | None:
    return _moments(words, clock_alone=True)


def _date_of(words: str) -> str | None:
    return _moments(words, clock_alone=False)


def _amount_of(words: str) -> str | None:
    amount = _currency_word.sub("", _narrow(words).replace(",", ""))
    bare = amount[1:] if amount and unicodedata.category(amount[0]) == "Sc" else amount
    return amount if _amount.fullmatch(bare) else None


def _phone_number(words: str) -> str | None:
    phone = _narrow(words)
    if len(phone) > _PHONE_LENGTH_MAX:
        phone = re.sub(r"[-()]", "", phone)
    return phone if _phone.fullmatch(phone) and len(phone) <= _PHONE_LENGTH_MAX else None


def _car_number(words: str) -> str | None:
    car = re.sub(r"[-·•.]", "", _narrow(words)).upper()
    return car if _car.fullmatch(car) else None


def _name(words: str) -> str | None:
    name = " ".join(_digits.sub("", unicodedata.normalize("NFKC", words)).split())
    return _cut(name, _NAME_HAN_LENGTH_MAX if _any_han.search(name) else _NAME_LETTERS_LENGTH_MAX, "")


def _phrase(words: str) -> str | None:
    return _not_han.sub("", words)[:_PHRASE_LENGTH_MAX]


def _const(words: str) -> str | None:
    # It must be one of the words that were submitted with the template: one that has been cut is none of them.
    return words if length_of(words) <= _THING_LENGTH_MAX else None


_FITTING: Final[Mapping[str, Callable[[str], str | None]]] = {
    "thing": _thing,
    "number": _number_of,
    "letter": _letter,
    "symbol": _symbol,
    "character_string": _character_string,
    "time": _time,
    "date": _date_of,
    "amount": _amount_of,
    "phone_number": _phone_number,
    "car_number": _car_number,
    "name": _name,
    "phrase": _phrase,
    "const": _const,
    "enum": _const,
}

_TAKES: Final[Mapping[str, str]] = {
    "thing": "up to 20 characters",
    "number": "a number of up to 32 digits",
    "letter": "letters A to Z only",
    "symbol": "up to 5 symbols",
    "character_string": "up to 32 digits, letters and symbols, no Chinese",
    "time": "a time such as 15:01 or 2026年10月1日 15:01",
    "date": "a date such as 2026年10月1日",
    "amount": "an amount such as ¥12.50, up to 10 digits",
    "phone_number": "a phone number of up to 17 digits and symbols",
    "car_number": "a number plate of up to 8 characters",
    "name": "a name without digits",
    "phrase": "up to 5 Chinese characters",
    "const": "one of the template's approved words",
    "enum": "one of the template's approved words",
}
