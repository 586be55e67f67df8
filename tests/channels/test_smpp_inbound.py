"""What SMSCs bring is read as it is meant, however they write it, and garbage harms nobody."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import smpp34
from hypothesis import given
from hypothesis import strategies as st

from orderbell.channels.smpp_inbound import (
    Brought,
    Report,
    canonical,
    is_message,
    is_receipt,
    read_deliver,
    read_receipt,
    to_phone,
)

HEADER_BYTES = 16
SHANGHAI = ZoneInfo("Asia/Shanghai")
DONE = datetime(2026, 11, 21, 18, 2, tzinfo=UTC)
TEXT = "id:0123 sub:001 dlvrd:001 submit date:2611220100 done date:2611220202 stat:DELIVRD err:000 text:hello"


def brought(text: bytes, **fields: object) -> Brought:
    """Write a deliver_sm with another library, and read it."""
    return read_deliver(smpp34.DeliverSm("8613800138000", "1065", text, **fields).encode()[HEADER_BYTES:])  # type: ignore[arg-type]


def receipt(text: str, *options: tuple[int, bytes]) -> Report | None:
    """Read a receipt with this text and these options."""
    tlvs = [smpp34.Tlv(tag, value) for tag, value in options]
    return read_receipt(brought(text.encode(), esm_class=4, tlvs=tlvs), "as_is", SHANGHAI)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXT, Report("0123", True, "DELIVRD", DONE)),
        (TEXT.replace("2611220202", "261122020207"), Report("0123", True, "DELIVRD", DONE.replace(second=7))),
        (TEXT.replace("2611220202", "20261122020207"), Report("0123", True, "DELIVRD", DONE.replace(second=7))),
        (TEXT.replace("2611220202", "9999999999"), Report("0123", True, "DELIVRD", None)),
        (TEXT.replace("stat:DELIVRD", "stat:delivrd"), Report("0123", True, "DELIVRD", DONE)),
        (TEXT.replace("DELIVRD err:000", "UNDELIV err:0A1"), Report("0123", False, "UNDELIV err:0A1", DONE)),
        (TEXT.replace("DELIVRD", "EXPIRED"), Report("0123", False, "EXPIRED", DONE)),
        (TEXT.replace("DELIVRD", "UNKNOWN"), Report("0123", False, "UNKNOWN", DONE)),
        (TEXT.replace("DELIVRD", "MK:0012"), Report("0123", False, "MK:0012", DONE)),  # a carrier's own code
        ("id:7 stat:REJECTD text:id:8 stat:DELIVRD", Report("7", False, "REJECTD", None)),
        ("id:7 Text:stat:DELIVRD", None),  # the words of a customer are no state
        (TEXT.replace("DELIVRD", "ENROUTE"), None),
        (TEXT.replace("DELIVRD", "ACCEPTD"), None),
        ("stat:DELIVRD", None),
        ("id: stat:DELIVRD", None),
        ("", None),
    ],
)
def test_receipt_in_text(text: str, expected: Report | None) -> None:
    """The text of a receipt must be read as the many SMSCs write it; only DELIVRD is success."""
    assert receipt(text) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([(0x1E, b"abc\0"), (0x427, b"\x02")], Report("abc", True, "DELIVRD", DONE)),
        ([(0x1E, b"abc")], Report("abc", False, "REJECTD", DONE)),
        ([(0x427, b"\x05"), (0x423, b"\x03\x01\xff")], Report("0123", False, "UNDELIV err:511", DONE)),
        ([(0x427, b"\x2a")], Report("0123", False, "STATE 42", DONE)),
        ([(0x427, b"\x01")], None),
        ([(0x427, b""), (0x1E, b"\0")], Report("0123", False, "REJECTD", DONE)),
    ],
)
def test_receipt_in_options(options: list[tuple[int, bytes]], expected: Report | None) -> None:
    """What the options of a receipt say must come before what its text says."""
    assert receipt(TEXT.replace("DELIVRD", "REJECTD"), *options) == expected


def test_receipt_without_text_or_flag() -> None:
    """A receipt that is nothing but options must be one, even where the SMSC forgot to flag it."""
    options = [smpp34.Tlv(0x1E, b"9\0"), smpp34.Tlv(0x427, b"\x02")]
    for esm_class in (4, 0):
        made = brought(b"", esm_class=esm_class, tlvs=options)
        assert is_receipt(made)
        assert not is_message(made)
        assert read_receipt(made, "as_is", SHANGHAI) == Report("9", True, "DELIVRD", None)


@pytest.mark.parametrize("esm_class", [0x08, 0x10, 0x18, 0x20])
def test_notification_is_neither(esm_class: int) -> None:
    """Acknowledgements and intermediate notifications must be taken neither for a receipt nor for a reply."""
    made = brought(b"id:1 stat:DELIVRD", esm_class=esm_class)
    assert not is_receipt(made)
    assert not is_message(made)


@pytest.mark.parametrize(
    ("answered", "answer_form", "told", "receipt_form"),
    [
        ("1A2B", "hex", "6699", "decimal"),
        ("1a2b", "hex", "00006699", "decimal"),
        ("0000001a2b", "hex", "1A2B", "hex"),
        ("6699", "decimal", "1a2b", "hex"),
        ("msg-7", "as_is", "msg-7", "as_is"),
        ("msg-7", "hex", "msg-7", "decimal"),  # what is no number stays as it is
    ],
)
def test_number_of_message_is_one(answered: str, answer_form: str, told: str, receipt_form: str) -> None:
    """A number written in two ways must be one, for that is how a receipt finds its message."""
    assert canonical(answered, answer_form) == canonical(told, receipt_form)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("coding", "octets", "text"),
    [
        (8, "退订".encode("utf-16-be"), "退订"),
        (8, "好😀".encode("utf-16-be"), "好😀"),
        (0, b"\x00R\x1be\x02", "@R€$"),
        (1, b"STOP", "STOP"),
        (3, "café".encode("latin-1"), "café"),
        (15, "退订".encode("gbk"), "退订"),
        (0xF5, b"T", "T"),
        (8, b"\x90", "\ufffd"),
    ],
)
def test_text_of_reply(coding: int, octets: bytes, text: str) -> None:
    """A reply must be read in the alphabet that it names."""
    made = brought(octets, data_coding=coding)
    assert is_message(made)
    assert made.text == text
    assert made.part is None


def test_text_in_message_payload() -> None:
    """A text in message_payload must be read like any other."""
    payload = smpp34.Tlv(0x424, "长".encode("utf-16-be") * 200)
    assert brought(b"", data_coding=8, tlvs=[payload]).text == "长" * 200


@pytest.mark.parametrize(
    ("header", "options", "expected"),
    [
        ("050003ff0201", [], (0xFF, 2, 1)),
        ("06080412340302", [], (0x1234, 3, 2)),
        ("0b0504158a0000000307 0202", [], (7, 2, 2)),
        ("", [(0x20C, b"\x00\x09"), (0x20E, b"\x02"), (0x20F, b"\x01")], (9, 2, 1)),
        ("", [(0x20C, b"\x00\x09"), (0x20E, b"\xff" * 9), (0x20F, b"\x01")], None),
        ("0401020000", [], None),
    ],
)
def test_part_of_reply(header: str, options: list[tuple[int, bytes]], expected: tuple[int, int, int] | None) -> None:
    """A part of a long reply must be known by its header, short or long, after others, or by its options."""
    made = brought(
        bytes.fromhex(header) + "订".encode("utf-16-be"),
        data_coding=8,
        esm_class=0x40 if header else 0,
        tlvs=[smpp34.Tlv(tag, value) for tag, value in options],
    )
    assert made.text == "订"
    assert (made.part and (made.part.reference, made.part.total, made.part.number)) == expected


@given(st.binary(max_size=300))
def test_garbage_is_refused(body: bytes) -> None:
    """Any bytes must be read or refused with ValueError, and nothing that was read may trip what comes after."""
    try:
        made = read_deliver(body)
    except ValueError:
        return
    read_receipt(made, "hex", SHANGHAI)
    to_phone(made.source, made.source_ton, "86")


@given(st.binary(max_size=120), st.sampled_from([0, 4, 0x40, 0x44]), st.integers(0, 255))
def test_garbage_in_good_frame(text: bytes, esm_class: int, coding: int) -> None:
    """Hostile texts in a well-formed deliver_sm must do no harm either."""
    try:
        made = brought(text, esm_class=esm_class, data_coding=coding)
    except ValueError:
        assert esm_class & 0x40
        return
    report = read_receipt(made, "decimal", SHANGHAI)
    assert report is None or len(report.detail) <= 40


@pytest.mark.parametrize(
    ("address", "ton", "country", "phone"),
    [
        ("8613800138000", 1, "", "+8613800138000"),
        ("8613800138000", 0, "", "+8613800138000"),
        ("8613800138000", 0, "86", "+8613800138000"),
        ("13800138000", 0, "86", "+8613800138000"),
        ("13800138000", 2, "86", "+8613800138000"),
        ("008613800138000", 0, "", "+8613800138000"),
        ("12025550123", 1, "86", "+12025550123"),
        ("10086", 0, "86", "10086"),
        ("10086", 0, "", "10086"),
        ("SHOP", 5, "86", "SHOP"),
        ("", 0, "86", ""),
    ],
)
def test_sender_in_international_form(address: str, ton: int, country: str, phone: str) -> None:
    """Senders must come out in E.164; short numbers and names as they are."""
    assert to_phone(address, ton, country) == phone
