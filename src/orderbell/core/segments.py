"""How SMS are counted, and how words from outside are made fit to stand in one.

The facts: one part holds 70 UTF-16 units, of several parts each holds 67, and no pair of surrogates may be
torn apart; where every character is in the alphabet of GSM 03.38 a part holds 160 septets, of several 153,
and a character of the extension table takes two.
"""

import re
import unicodedata

from msgspec import Struct

UNITS_MAX = 70
UNITS_PART_MAX = 67
SEPTETS_MAX = 160
SEPTETS_PART_MAX = 153

_GSM_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENSION = "\f^{}\\[~]|€"
_IS_GSM = re.compile(f"[{re.escape(_GSM_BASIC + _GSM_EXTENSION)}]*").fullmatch
_IN_EXTENSION = re.compile(f"[{re.escape(_GSM_EXTENSION)}]").findall

# Characters that show nothing, or turn the direction of what follows: they only serve to deceive.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\uffff\ud800-\udfff\U000e0000-\U000e0fff"
)
_EMOJI = "\u00a9\u00ae\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
# A joiner is part of an emoji between two of them, and invisible anywhere else.
_LONE_JOINER = f"(?<![{_EMOJI}])\u200d|\u200d(?![{_EMOJI}])"
_remove_invisible = re.compile(f"[{_INVISIBLE}]|{_LONE_JOINER}").sub
_CONTROLS = "\u0000-\u001f\u007f-\u009f"
_remove_controls = re.compile(f"[{_CONTROLS}\u2028\u2029]").sub
# Only 【】 marks a signature; its vertical and hollow forms look the same to a person.
_BRACKETS = str.maketrans("【】〖〗︻︼︗︘", "[][][][]")
_BLANKS = "\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_is_suspicious = re.compile(f"[{_INVISIBLE}{_CONTROLS}{_BLANKS}\u200d【】〖〗︻︼︗︘]").search

_PLAIN = str.maketrans(
    {
        "‘": "'", "’": "'", "‚": "'", "`": "'", "“": '"', "”": '"', "„": '"', "–": "-", "—": "-", "−": "-",
        "…": "...", "€": "EUR", "[": "(", "]": ")", "{": "(", "}": ")", "\\": "/", "|": "/", "~": "-", "^": "-",
    }
)  # fmt: skip
_REGIONAL = ("\U0001f1e6", "\U0001f1ff")
_SKIN = ("\U0001f3fb", "\U0001f3ff")
_JOINER = "\u200d"


class Size(Struct, frozen=True):
    """How much of an SMS a text takes: septets if `gsm`, else UTF-16 units; and how many parts."""

    units: int
    parts: int
    gsm: bool


def measure(text: str, *, gsm: bool = True) -> Size:
    """Count a text as a network does; `gsm=False` where a signature will turn any text into UTF-16."""
    units = one_part(text, gsm=gsm)
    is_short = gsm and is_gsm(text)
    if units is not None:
        return Size(units, 1, gsm=is_short)
    if is_short:
        widths = [1 + (character in _GSM_EXTENSION) for character in text]
        return Size(sum(widths), _count_parts(widths, SEPTETS_PART_MAX), gsm=True)
    widths = [1 + (character > "\uffff") for character in text]
    return Size(sum(widths), _count_parts(widths, UNITS_PART_MAX), gsm=False)


def one_part(text: str, *, gsm: bool = True) -> int | None:
    """The units of a text that fits into one part, None for a longer one: `measure`, but quick."""
    if gsm and _IS_GSM(text):
        units = len(text) + len(_IN_EXTENSION(text))
        return units if units <= SEPTETS_MAX else None
    units = utf16_units(text)
    return units if units <= UNITS_MAX else None


def _count_parts(widths: list[int], room: int) -> int:
    parts, used = 1, 0
    for width in widths:
        used += width
        if used > room:
            parts, used = parts + 1, width
    return parts


def utf16_units(text: str) -> int:
    """How many UTF-16 units a text has: two for each character beyond U+FFFF."""
    if text.isascii():
        return len(text)
    return len(text.encode("utf-16-le", "surrogatepass")) >> 1


def is_gsm(text: str) -> bool:
    """Whether every character is in the alphabet of GSM 03.38 or its extension table."""
    return _IS_GSM(text) is not None


def clean(text: str) -> str:
    """One line of visible text: nothing that hides, turns or breaks it, and no 【】 to fake a signature with."""
    if _is_suspicious(text) is None and "  " not in text:
        return text.strip(" ")
    return " ".join(_remove_controls(" ", _remove_invisible("", text)).translate(_BRACKETS).split())


def plain(text: str) -> str:
    """The text in one-septet characters of GSM 03.38 where that is possible without loss, else nothing."""
    text = unicodedata.normalize("NFC", text).translate(_PLAIN)
    if not _IS_GSM(text):
        parts = unicodedata.normalize("NFKD", text)
        text = "".join(part for part in parts if not unicodedata.combining(part)).translate(_PLAIN)
    return text.strip() if _IS_GSM(text) else ""


def cut(text: str, units_max: int, ellipsis: str) -> str:
    """At most `units_max` UTF-16 units of a text, the ellipsis counted; no visible character is torn apart.

    Empty where not even the first visible character fits.
    """
    if utf16_units(text) <= units_max:
        return text
    room = units_max - len(ellipsis)
    head = text[: room + 1]
    if head.isascii() or (head.isalnum() and utf16_units(head) == len(head)):
        return head[:room].rstrip() + ellipsis  # letters that stand alone: nearly all names
    used = kept = flags = index = 0
    before = ""
    while used <= room:
        character = text[index]
        if not _continues(before, character, flags):
            kept = index
        used += 1 + (character > "\uffff")
        flags = flags + 1 if _REGIONAL[0] <= character <= _REGIONAL[1] else 0
        before = character
        index += 1
    return text[:kept].rstrip() + ellipsis if kept else ""


def _continues(before: str, character: str, flags: int) -> bool:
    # A simple reading of UAX 29: marks, joined emoji, skin tones, and flags of two regional letters.
    if _JOINER in (before, character) or _SKIN[0] <= character <= _SKIN[1]:
        return True
    if _REGIONAL[0] <= character <= _REGIONAL[1]:
        return flags % 2 == 1
    return unicodedata.category(character)[0] == "M"
