"""How SMS are counted, and how words from outside are made fit to stand in one."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderbell.core.segments import Size, clean, cut, is_gsm, measure, one_part, plain, utf16_units

FAMILY = "👨\u200d👩\u200d👧"
FLAG = "🇨🇳"
WAVE = "👋🏽"
# What hides, turns, joins and doubles, beside anything else.
NASTY = st.sampled_from(
    [*"【】〖〗\u200b\u200d\u202e\u2066\ufeff\ufe0f\u0301\n\r\x00\x85 \u3000é中", FAMILY, FLAG, WAVE, "😀"]
)
TEXTS = st.lists(st.one_of(NASTY, st.text(max_size=3)), max_size=40).map("".join)


@pytest.mark.parametrize(
    ("text", "units", "parts", "gsm"),
    [
        ("", 0, 1, True),
        ("a" * 160, 160, 1, True),
        ("a" * 161, 161, 2, True),
        ("a" * 306, 306, 2, True),
        ("a" * 307, 307, 3, True),
        ("€" * 80, 160, 1, True),
        ("€" * 80 + "a", 161, 2, True),
        ("a" * 152 + "€" + "a" * 152, 306, 3, True),  # an escape is not parted from its character
        ("^{}\\[~]|€\f", 20, 1, True),
        ("a" * 69 + "中", 70, 1, False),
        ("a" * 70 + "中", 71, 2, False),
        ("中" * 134, 134, 2, False),
        ("中" * 135, 135, 3, False),
        ("😀" * 35, 70, 1, False),
        ("😀" * 36, 72, 2, False),
        ("中" * 66 + "😀" + "中" * 66, 134, 3, False),  # a part holds 66 where a pair would be torn
        ("`" * 71, 71, 2, False),
    ],
)
def test_measure_at_every_limit(text: str, units: int, parts: int, gsm: bool) -> None:
    """Units and parts are those of GSM 03.38 and of UTF-16 at 70/67 and 160/153."""
    assert measure(text) == Size(units, parts, gsm)
    assert one_part(text) == (units if parts == 1 else None)


def test_measure_under_a_chinese_signature() -> None:
    """A signature outside the GSM alphabet makes even a plain text count in UTF-16 units."""
    assert measure("a" * 71, gsm=False) == Size(71, 2, gsm=False)
    assert measure("a" * 70, gsm=False) == Size(70, 1, gsm=False)


# It takes the escape character for a letter, and an empty text for UTF-16.
@given(
    st.text(st.characters(exclude_characters="\x1b", exclude_categories=["Cs"]), min_size=1, max_size=400),
    st.sampled_from(["", "a" * 150, "中" * 64]),
)
def test_measure_agrees_with_smsutil(text: str, before: str) -> None:
    """Another implementation finds the same encoding and the same number of parts."""
    smsutil: Any = pytest.importorskip("smsutil")
    theirs = smsutil.split(before + text)
    size = measure(before + text)
    assert size.gsm == (theirs.encoding == "gsm0338")
    assert size.parts == len(theirs.parts)


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=200))
def test_utf16_units_count_pairs_twice(text: str) -> None:
    """Every character beyond U+FFFF counts two, any other one, lone surrogates too."""
    assert utf16_units(text) == sum(1 + (character > "\uffff") for character in text)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("羊毛围巾", "羊毛围巾"),
        ("  a  b\t\r\n c\u3000d ", "a b c d"),
        ("a\u2028b\x85c\x00d\x1be", "a b c d e"),
        ("\u202etxt.exe\u202c", "txt.exe"),
        ("\u2066左\u2069\u200e右\u200f", "左右"),
        ("ad\u00admin\u200b\ufeff\u2060", "admin"),
        ("【假银行】〖x〗︻y︼", "[假银行][x][y]"),
        (f"{FAMILY}{FLAG}{WAVE}❤️", f"{FAMILY}{FLAG}{WAVE}❤️"),
        ("a\u200db", "ab"),
        ("\u3164\u115f", ""),
    ],
)
def test_clean_leaves_one_visible_line(text: str, cleaned: str) -> None:
    """What hides, turns or breaks a line goes, what makes a signature is replaced, emoji stay whole."""
    assert clean(text) == cleaned


@given(TEXTS)
def test_clean_twice_changes_nothing_more(text: str) -> None:
    """Cleaning is done once and for all, and no signature, control or turn of direction is left."""
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert not set(cleaned) & set("【】\u202e\u2066\u200b\n\r\x00")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Hermès", "Hermès"),
        ("Kraków", "Krakow"),
        ("“it’s” – [5 €]…", '"it\'s" - (5 EUR)...'),
        ("余额不足", ""),
        ("Café 中", ""),
    ],
)
def test_plain_writes_gsm_letters_or_nothing(text: str, written: str) -> None:
    """Accents that GSM lacks are dropped, its two-septet characters replaced, other scripts given up."""
    assert plain(text) == written
    assert is_gsm(written)


@given(TEXTS)
def test_plain_takes_one_septet_a_character(text: str) -> None:
    """What it writes can be counted by its length."""
    written = plain(clean(text))
    assert measure(written).gsm
    assert sum(1 + (character in "\f^{}\\[~]|€") for character in written) == len(written)


@pytest.mark.parametrize(
    ("text", "units_max", "short"),
    [
        ("羊毛围巾", 4, "羊毛围巾"),
        ("羊毛围巾厚", 4, "羊毛围…"),
        ("Air Jordan 1 Chicago", 12, "Air Jordan…"),
        ("羊毛😀围巾", 5, "羊毛😀…"),
        ("羊毛😀围巾", 4, "羊毛…"),
        (f"好{FAMILY}好好", 9, f"好{FAMILY}好好"[:1] + "…"),
        (f"好{FAMILY}好好", 10, f"好{FAMILY}…"),
        (f"{FLAG}{FLAG}好", 8, f"{FLAG}…"),
        (f"{WAVE}好好", 4, ""),
        (f"{WAVE}好好", 5, f"{WAVE}…"),
        ("cafe\u0301s中", 5, "caf…"),
        ("a" + "\u0301" * 1000, 10, ""),
    ],
)
def test_cut_tears_no_visible_character(text: str, units_max: int, short: str) -> None:
    """Pairs, marks, joined emoji, skin tones and flags stay whole or go whole."""
    assert cut(text, units_max, "…") == short


@given(TEXTS, st.integers(3, 30), st.sampled_from(["…", ".."]))
def test_cut_never_exceeds_the_limit(text: str, units_max: int, ellipsis: str) -> None:
    """The result fits, is the beginning of the text, and ends where a visible character ends."""
    short = cut(text, units_max, ellipsis)
    assert utf16_units(short) <= units_max
    if short != text:
        kept = short.removesuffix(ellipsis)
        assert text.startswith(kept)
        after = text[len(kept) :].lstrip()[:1]
        assert not short or text[len(kept)].isspace() or unicodedata.category(after)[0] != "M"
