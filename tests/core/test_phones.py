"""Phones: one number whatever the spelling, what can take an SMS, and nothing readable on a page."""

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orderbell.core.phones import Phone, PhoneState, mask_email, mask_phone, read_phone

digits = st.text("0123456789", max_size=20)
phonelike = st.text("0123456789+-() .#x;,/:０１８＋（）－\u3000٣转extl", max_size=30)


@pytest.mark.parametrize(
    "text",
    [
        "+8613800138000", "13800138000", "8613800138000", "008613800138000", "0086138 0013 8000", "+86 138-0013-8000",
        "１３８００１３８０００", "＋８６（１３８）００１３－８０００", "(138) 0013.8000", " 138\u30000013\u00a08000\n", "tel:+8613800138000",
        "13800138000 ext. 5", "13800138000转123", "13800138000 分机：12", "13800138000#7", "١٣٨٠٠١٣٨٠٠٠",
    ],
)  # fmt: skip
def test_phone_however_it_is_written(text: str) -> None:
    """All spellings of a number are one number."""
    assert read_phone(text) == Phone("+8613800138000", "ok")


@pytest.mark.parametrize(
    ("text", "number", "state"),
    [
        ("021-12345678", "+862112345678", "landline"),
        ("400-812-3123", "+864008123123", "landline"),
        ("+1 800 555 1234", "+18005551234", "landline"),
        ("+81 50-1234-5678", "+815012345678", "landline"),
        ("+1 (212) 555-1234", "+12125551234", "ok"),
        ("+852 5123 4567", "+85251234567", "ok"),
        ("", "", "invalid"),
        ("+", "+", "invalid"),
        ("10086", "+8610086", "unlisted"),
        ("+86 138-001", "+86138001", "unlisted"),
        ("12345678901", "+8612345678901", "unlisted"),
        ("+999123456", "+999123456", "invalid"),
        ("1-800-FLOWERS", "1800", "invalid"),
        ("13800138000/13900139000", "1380013800013900139000", "invalid"),
        ("call me", "", "invalid"),
    ],
)
def test_phone_and_what_it_can_take(text: str, number: str, state: PhoneState) -> None:
    """Fixed lines, toll-free and VoIP numbers ring only; US numbers may be mobile; the rest is no number."""
    assert read_phone(text) == Phone(number, state)


def test_phone_in_another_region() -> None:
    """Without a country code a number is one of the region; an unknown region knows none."""
    assert read_phone("(212) 555-1234", "us").number == "+12125551234"
    assert read_phone("0044 7911 123456", "DE").number == "+447911123456"
    assert read_phone("13800138000", "XX") == Phone("13800138000", "invalid")
    assert read_phone("+8613800138000", "XX").state == "ok"


@given(st.text() | phonelike, st.sampled_from(["CN", "US", "DE", "", "xx"]) | st.text())
@example("1" * 1_000_000, "CN")
@example("ﷺ" * 64, "CN")
@example("\ud800", "\ud800")
def test_phone_of_any_text(text: str, region: str) -> None:
    """No text raises, and what was understood is E.164 and understood again as the same."""
    phone = read_phone(text, region)
    assert len(phone.number) < 200
    if phone.state == "invalid":
        assert phone.number.removeprefix("+").isdigit() or phone.number in ("", "+")
    else:
        assert phone.number[0] == "+"
        assert phone.number[1:].isdigit()
        assert len(phone.number) <= 18
        assert read_phone(phone.number, "FR") == phone


@given(st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS)))
def test_phone_of_any_country(region: str) -> None:
    """A mobile number of any country is understood as its people dial it and as the world does."""
    mobile = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    if mobile is not None:
        number = phonenumbers.format_number(mobile, phonenumbers.PhoneNumberFormat.E164)
        at_home = phonenumbers.format_number(mobile, phonenumbers.PhoneNumberFormat.NATIONAL)
        assert read_phone(number) == read_phone(at_home, region) == Phone(number, "ok")


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+8613800138000", "+86 138****8000"),
        ("+86 138-0013-8000", "+86 138****8000"),
        ("13800138000", "138****8000"),
        ("+12125551234", "+1 21****1234"),
        ("+85251234567", "+852 ****4567"),
        ("+8612345", "+86 ****45"),
        ("10086", "****86"),
        ("110", "****"),
        ("+999123456789", "999****6789"),
        ("+0861234567890", "086****7890"),
        ("", "****"),
        ("ann", "****"),
    ],
)
def test_mask_phone(number: str, shown: str) -> None:
    """Country, first and last digits stay; the shorter the number, the less."""
    assert mask_phone(number) == shown


@given(digits, st.sampled_from(["", "+", "+86", "+852", "+1"]))
def test_mask_phone_hides(number: str, code: str) -> None:
    """However long a number is, four digits of it are hidden; of a short one all but two, or all."""
    _, space, masked = mask_phone(code + number).rpartition(" ")
    of = len(number) if space and len(code) > 1 else len(code.removeprefix("+")) + len(number)
    shown = sum(map(str.isdigit, masked))
    assert shown <= max(of - 4, 2)
    assert shown <= max(of - 2, 0)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("ann@example.com", "a***@example.com"),
        (" 安娜@例子.cn ", "安***@例子.cn"),
        ('"a@b"@example.com', "***@example.com"),
        ("@example.com", "***"),
        ("ann", "***"),
        ("ann@", "***"),
        ("ann@<b>", "***"),
        ("", "***"),
    ],
)
def test_mask_email(address: str, shown: str) -> None:
    """The first letter and the domain stay; what is no address shows nothing."""
    assert mask_email(address) == shown
