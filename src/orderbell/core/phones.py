"""Phones as people write them, in the one form that providers take (E.164), and addresses made unreadable for pages.

Which numbers exist and what rings there is known by the tables of libphonenumber, through `phonenumbers`.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Literal

import phonenumbers
from msgspec import Struct
from phonenumbers import NumberParseException, PhoneNumberFormat, PhoneNumberType

PhoneState = Literal["ok", "unlisted", "landline", "invalid"]

# Nobody writes a phone longer than this, and a cache must not keep a novel.
_LENGTH_MAX = 64
# US numbers do not tell a mobile phone from a fixed line, so they get the benefit of the doubt. VoIP ranges do not:
# JP 050, KR 070 or DE 032 are home and office lines, and a VoIP line with SMS mostly has a number of a mobile range.
_TAKES_SMS = frozenset({PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE})
_EXTENSION = re.compile(r"(?:;ext=|ext|x|#|,|;|转|轉|分机|分機)\D{0,12}[0-9]{1,8}\D?\Z", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")
_CALLING_CODES = frozenset(map(str, phonenumbers.COUNTRY_CODE_TO_REGION_CODE))
_DOMAIN = re.compile(r"[\w-]+(\.[\w-]+)*")
_HIDDEN_MIN = 4
_SHORT_MAX = 7  # with the last four shown, less than four would be hidden
_STARS = "****"


class Phone(Struct, frozen=True):
    """What a text says about a phone.

    `number` is E.164 such as +8613800138000; for an invalid one the digits as written, with the + that led them.
    `state`: ok can take an SMS, landline rings but cannot, invalid has letters or a length that no number has.
    unlisted fits the country but no range known here: new ranges open faster than tables are updated, so it is tried.
    """

    number: str
    state: PhoneState


def read_phone(text: str, region: str = "CN") -> Phone:
    """Read a phone as written by a person in `region` (ISO 3166, two letters); what it cannot be is invalid.

    Full-width signs, blanks, dashes, brackets and 00 for + do not matter; extensions are dropped. Letters make it
    invalid: a vanity number of another country would become somebody's mobile phone. Raises nothing.
    """
    plain = _CHINESE.match(text)
    if plain is not None and (region == "CN" or text[0] == "+"):
        return Phone("+86" + plain[1], "ok")
    return _read(text.strip()[: _LENGTH_MAX + 1], region[:3])


# Most phones here are mobiles of mainland China, and the library takes 70 µs for one that it has not seen.
_CHINESE = re.compile(r"(?:\+86)?(1[3-9][0-9]{9})\Z")


@lru_cache(maxsize=16_384)
def _read(text: str, region: str) -> Phone:
    plain = unicodedata.normalize("NFKC", text).strip().removeprefix("tel:")
    main = _EXTENSION.sub("", plain)
    try:
        if len(text) > _LENGTH_MAX or _LETTER.search(main):
            return Phone(_digits(plain), "invalid")
        found = phonenumbers.parse(main, region.upper())
    except NumberParseException:
        return Phone(_digits(plain), "invalid")
    if not phonenumbers.is_possible_number(found):
        return Phone(_digits(plain), "invalid")
    number = phonenumbers.format_number(found, PhoneNumberFormat.E164)
    if not phonenumbers.is_valid_number(found):
        return Phone(number, "unlisted")
    return Phone(number, "ok" if phonenumbers.number_type(found) in _TAKES_SMS else "landline")


def _digits(text: str) -> str:
    digits = "".join(str(unicodedata.decimal(sign)) for sign in text if sign.isdecimal())
    return "+" + digits if text.startswith("+") else digits


def mask_phone(number: str) -> str:
    """Mask a phone for pages: `+8613800138000` becomes `+86 138****8000`, a short one shows its last two digits.

    At least four digits are hidden behind as many stars whatever their count, so shorter numbers show less.
    """
    digits = _digits(number[:_LENGTH_MAX].strip())
    code = ""
    if digits.startswith("+"):
        digits = digits[1:]
        code = next((digits[:length] for length in (1, 2, 3) if digits[:length] in _CALLING_CODES), "")
    rest = digits.removeprefix(code)
    if len(rest) > _SHORT_MAX:
        masked = rest[: min(3, len(rest) - _HIDDEN_MIN - 4)] + _STARS + rest[-4:]
    else:
        masked = _STARS + (rest[-2:] if len(rest) >= _HIDDEN_MIN else "")
    return f"+{code} {masked}" if code else masked


def mask_email(address: str) -> str:
    """Mask a mail address for pages: `ann@example.com` becomes `a***@example.com`; what is none shows nothing."""
    name, _, domain = address.strip().rpartition("@")
    if not name or not _DOMAIN.fullmatch(domain):
        return "***"
    return f"{name[0] if name[0].isalnum() else ''}***@{domain}"
