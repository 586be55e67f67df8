"""The ledger must hold every message that was handed over, and find its way back after any stop."""

import datetime as dt
from pathlib import Path

import pytest

from orderbell.sandbox.ledger import Delivery, Incoming, Ledger, LedgerUnusable, parse_attempt_id
from tests.sandbox_server import read_ledger

NOW = dt.datetime(2026, 3, 1, 8, 0, tzinfo=dt.UTC)


def incoming(number: int, *, channel: str = "sms", topic: str = "shipped") -> tuple[bytes, Incoming]:
    """Make a message with its decoded attempt id."""
    attempt_id = number.to_bytes(16, "big")
    return attempt_id, Incoming(
        attempt_id=attempt_id.hex(), channel=channel, to="+8613800138000", text="已发货", topic=topic
    )


def record(ledger: Ledger, *numbers: int, delivery: Delivery = Delivery.DELIVERED, at: dt.datetime = NOW) -> None:
    """Record messages of one request."""
    ledger.record([incoming(number) for number in numbers], [delivery] * len(numbers), at)


def test_record_writes_before_returning(tmp_path: Path) -> None:
    """What was recorded must be in the file at once, one line per message in order."""
    ledger = Ledger(tmp_path / "ledger")
    record(ledger, 1, 2)
    record(ledger, 3)
    entries = read_ledger(tmp_path / "ledger")
    assert [entry.number for entry in entries] == [1, 2, 3]
    assert [int(entry.attempt_id, 16) for entry in entries] == [1, 2, 3]
    assert entries[0].text == "已发货"
    assert entries[0].at == NOW
    ledger.close()


def test_record_of_repeats(tmp_path: Path) -> None:
    """An attempt handed over again, in one request or later, must be a second line marked as repeat."""
    ledger = Ledger(tmp_path / "ledger")
    record(ledger, 1, 2, 1)
    record(ledger, 2, 3)
    marks = [(int(entry.attempt_id, 16), entry.repeat) for entry in read_ledger(tmp_path / "ledger")]
    assert marks == [(1, False), (2, False), (1, True), (2, True), (3, False)]
    assert ledger.summary().repeats == 2
    ledger.close()


def test_summary_by_channel_and_topic(tmp_path: Path) -> None:
    """The counts must add up over channels and topics, and be the same after opening the file again."""
    ledger = Ledger(tmp_path / "ledger")
    messages = [incoming(1), incoming(2, channel="push"), incoming(3, topic="late"), incoming(4)]
    deliveries = [Delivery.DELIVERED, Delivery.FAILED, Delivery.SILENT, Delivery.DELIVERED]
    ledger.record(messages, deliveries, NOW)
    summary = ledger.summary()
    assert summary.messages == 4
    assert summary.channels == {"sms": 3, "push": 1}
    assert summary.topics == {"sms/shipped": 2, "push/shipped": 1, "sms/late": 1}
    assert summary.deliveries == {"delivered": 2, "failed": 1, "silent": 1}
    ledger.close()
    again = Ledger(tmp_path / "ledger")
    assert again.summary() == summary
    again.close()


def test_reopened_ledger(tmp_path: Path) -> None:
    """Receipts, look-ups and numbers must go on after a restart as if there had been none."""
    ledger = Ledger(tmp_path / "ledger")
    record(ledger, 1)
    record(ledger, 2, delivery=Delivery.FAILED)
    record(ledger, 3, delivery=Delivery.SILENT)
    receipts = ledger.receipts(0, 10, NOW, 0)
    ledger.close()
    again = Ledger(tmp_path / "ledger")
    assert again.receipts(0, 10, NOW, 0) == receipts
    assert again.look_up(incoming(2)[0], NOW, 0).state == "failed"
    record(again, 3, 4)
    assert [(entry.number, entry.repeat) for entry in read_ledger(again.path)][3:] == [(4, True), (5, False)]
    again.close()


@pytest.mark.parametrize("torn", [b"{", b'{"number":3,"at":"2026-', b"\x00\x00\x00"])
def test_torn_last_line(tmp_path: Path, torn: bytes) -> None:
    """A torn last line, which was never answered, must be cut off, and the next message written cleanly."""
    path = tmp_path / "ledger"
    ledger = Ledger(path)
    record(ledger, 1, 2)
    ledger.close()
    with path.open("ab") as file:
        file.write(torn)
    again = Ledger(path)
    assert len(again) == 2
    record(again, 3)
    assert [int(entry.attempt_id, 16) for entry in read_ledger(path)] == [1, 2, 3]
    again.close()


def test_damaged_line_in_the_middle(tmp_path: Path) -> None:
    """Damage before the end must be refused by line number: a ledger with a hole is no oracle."""
    path = tmp_path / "ledger"
    ledger = Ledger(path)
    record(ledger, 1, 2, 3)
    ledger.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{}\n" + lines[2])
    with pytest.raises(LedgerUnusable, match="line 2"):
        Ledger(path)
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(LedgerUnusable, match="line 2"):
        Ledger(path)


def test_ledger_in_use(tmp_path: Path) -> None:
    """Two sandboxes must not write into one ledger; once the first has gone the second may."""
    ledger = Ledger(tmp_path / "ledger")
    with pytest.raises(LedgerUnusable, match="another sandbox"):
        Ledger(tmp_path / "ledger")
    ledger.close()
    Ledger(tmp_path / "ledger").close()


def test_receipts_with_delay(tmp_path: Path) -> None:
    """A receipt must not come before its delay is over, and then name the moment it came."""
    ledger = Ledger(tmp_path / "ledger")
    record(ledger, 1)
    record(ledger, 2, at=NOW + dt.timedelta(seconds=5))
    assert ledger.receipts(0, 10, NOW + dt.timedelta(seconds=9), 10) == []
    assert ledger.look_up(incoming(1)[0], NOW + dt.timedelta(seconds=9), 10).state == "accepted"
    due = ledger.receipts(0, 10, NOW + dt.timedelta(seconds=10), 10)
    assert [(receipt.number, receipt.at) for receipt in due] == [(1, NOW + dt.timedelta(seconds=10))]
    assert ledger.look_up(incoming(1)[0], NOW + dt.timedelta(seconds=10), 10).state == "delivered"
    ledger.close()


def test_receipts_after_clock_was_set_back(tmp_path: Path) -> None:
    """Receipts must stay in the order of the messages when the clock goes back."""
    ledger = Ledger(tmp_path / "ledger")
    record(ledger, 1)
    record(ledger, 2, at=NOW - dt.timedelta(hours=1))
    assert ledger.receipts(0, 10, NOW - dt.timedelta(minutes=30), 0) == []
    assert [receipt.number for receipt in ledger.receipts(0, 10, NOW, 0)] == [1, 2]
    ledger.close()


def test_recent_is_bounded(tmp_path: Path) -> None:
    """Only the latest messages may stay in memory with their text."""
    ledger = Ledger(tmp_path / "ledger")
    record(ledger, *range(500))
    assert [entry.number for entry in ledger.recent] == list(range(301, 501))
    ledger.close()


@pytest.mark.parametrize("text", ["", "00", "g" * 32, "0" * 31, "0" * 33, "A" * 32, " " + "0" * 32, "00 " * 16])
def test_attempt_id_of_wrong_form(text: str) -> None:
    """An attempt id in any form but one must be refused: two spellings would hide a repeat."""
    assert parse_attempt_id(text) is None


def test_attempt_id_of_right_form() -> None:
    """32 lower-case hexadecimal digits must be read as 16 bytes."""
    assert parse_attempt_id("0a" * 16) == b"\x0a" * 16
