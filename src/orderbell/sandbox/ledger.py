"""The sandbox's ledger: a file with one JSON line for every message that was ever handed over.

The file is the truth about what reached the provider. It is appended to with one write before the request is
answered, so what was answered is in it even when any process dies the next moment, the sandbox itself
included. It does not remove duplicates: the same attempt handed over twice is two lines, the second marked
`repeat`, because counting them is what the ledger is for.
"""

import datetime as dt
import fcntl
import os
from array import array
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from orderbell.errors import OrderBellError

# Enough for a person to look at; older messages are in the file.
_RECENT_COUNT: Final = 200
_ATTEMPT_ID_LENGTH: Final = 16


class LedgerUnusable(OrderBellError):
    """The ledger file is damaged or in use by another sandbox."""


class Delivery(StrEnum):
    """What becomes of a message after it was taken, fixed at that moment."""

    DELIVERED = "delivered"
    FAILED = "failed"
    SILENT = "silent"
    """Delivered, but the receipt is lost on its way."""


class Incoming(msgspec.Struct, frozen=True):
    """One message as it comes over the wire; `attempt_id` in hexadecimal."""

    attempt_id: str
    channel: str
    to: str
    text: str
    subject: str = ""
    topic: str = ""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the ledger; `number` counts from 1 without gaps, `at` is aware UTC."""

    number: int
    at: dt.datetime
    attempt_id: str
    channel: str
    to: str
    text: str
    subject: str = ""
    topic: str = ""
    delivery: Delivery = Delivery.DELIVERED
    repeat: bool = False


class Receipt(msgspec.Struct, frozen=True):
    """A delivery receipt; `number` is that of the message."""

    number: int
    attempt_id: str
    ref: str
    delivered: bool
    at: dt.datetime
    detail: str


class State(msgspec.Struct, frozen=True):
    """What is known about one attempt: accepted, delivered, failed or not_found."""

    attempt_id: str
    state: str
    ref: str = ""
    detail: str = ""


class Summary(msgspec.Struct, frozen=True):
    """Counts over the whole ledger; `topics` are counted per channel under `channel/topic`."""

    messages: int
    repeats: int
    channels: dict[str, int]
    topics: dict[str, int]
    deliveries: dict[str, int]


_FAILED_DETAIL: Final = "absent subscriber"
_encode_lines = msgspec.json.Encoder().encode_lines
_decode_entry = msgspec.json.Decoder(Entry).decode


def parse_attempt_id(text: str) -> bytes | None:
    """Read an attempt id of 32 lower-case hexadecimal digits, or None if it is none."""
    try:
        attempt_id = bytes.fromhex(text)
    except ValueError:
        return None
    return attempt_id if attempt_id.hex() == text and len(attempt_id) == _ATTEMPT_ID_LENGTH else None


def ref_of(number: int) -> str:
    """Make the provider's own reference of a message."""
    return f"sb-{number}"


class Ledger:
    """The file and small indexes over it: about 200 bytes of memory per message, whatever its text.

    A torn last line, left by a power cut, is cut off: its message was never answered.

    Raises:
        LedgerUnusable: another sandbox has the file open, or a line that is not the last cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._number_by_attempt: dict[bytes, int] = {}
        self._attempt_ids = bytearray()
        self._accepted_at_s = array("d")
        self._failed = bytearray()
        self._receipt_numbers = array("Q")
        self._channels: Counter[str] = Counter()
        self._topics: Counter[str] = Counter()
        self._deliveries: Counter[str] = Counter()
        self._repeats = 0
        self.recent: deque[Entry] = deque(maxlen=_RECENT_COUNT)
        try:
            self._lock()
            self._load()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._accepted_at_s)

    def record(
        self, messages: Sequence[tuple[bytes, Incoming]], deliveries: Sequence[Delivery], at: dt.datetime
    ) -> list[Entry]:
        """Write messages with what will become of them; on return the operating system has the bytes."""
        entries: list[Entry] = []
        number = len(self)
        for (_, incoming), delivery in zip(messages, deliveries, strict=True):
            number += 1
            entries.append(
                Entry(
                    number=number,
                    at=at,
                    attempt_id=incoming.attempt_id,
                    channel=incoming.channel,
                    to=incoming.to,
                    text=incoming.text,
                    subject=incoming.subject,
                    topic=incoming.topic,
                    delivery=delivery,
                )
            )
        entries = self._mark_repeats(entries, [attempt_id for attempt_id, _ in messages])
        self._append(_encode_lines(entries))
        for (attempt_id, _), entry in zip(messages, entries, strict=True):
            self._index(attempt_id, entry)
        return entries

    @property
    def id(self) -> str:
        """Which ledger this is: its first attempt's id, empty while there is none. A new file is another ledger."""
        return self._attempt_id(1).hex() if len(self) else ""

    def receipts(self, after: int, limit: int, now: dt.datetime, delay_s: float) -> list[Receipt]:
        """List receipts of messages with a number above `after` that are due by now, in order."""
        found: list[Receipt] = []
        due_s = now.timestamp() - delay_s
        start = bisect_right(self._receipt_numbers, after)
        for number in self._receipt_numbers[start : start + limit]:
            accepted_at_s = self._accepted_at_s[number - 1]
            if accepted_at_s > due_s:
                break
            failed = bool(self._failed[number - 1])
            found.append(
                Receipt(
                    number=number,
                    attempt_id=self._attempt_id(number).hex(),
                    ref=ref_of(number),
                    delivered=not failed,
                    at=dt.datetime.fromtimestamp(accepted_at_s + delay_s, dt.UTC),
                    detail=_FAILED_DETAIL if failed else "",
                )
            )
        return found

    def look_up(self, attempt_id: bytes, now: dt.datetime, delay_s: float) -> State:
        """Say what became of an attempt (of its last message, if it came more than once)."""
        number = self._number_by_attempt.get(attempt_id)
        if number is None:
            return State(attempt_id=attempt_id.hex(), state="not_found")
        if self._accepted_at_s[number - 1] > now.timestamp() - delay_s:
            return State(attempt_id=attempt_id.hex(), state="accepted", ref=ref_of(number))
        failed = bool(self._failed[number - 1])
        return State(
            attempt_id=attempt_id.hex(),
            state="failed" if failed else "delivered",
            ref=ref_of(number),
            detail=_FAILED_DETAIL if failed else "",
        )

    def summary(self) -> Summary:
        """Count what is in the ledger; costs nothing per message."""
        return Summary(
            messages=len(self),
            repeats=self._repeats,
            channels=dict(self._channels),
            topics=dict(self._topics),
            deliveries=dict(self._deliveries),
        )

    def close(self) -> None:
        """Close the file, which also frees it for another sandbox."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LedgerUnusable(f"{self.path}: another sandbox has this ledger open; stop it first") from error

    def _load(self) -> None:
        length = 0
        with self.path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    os.ftruncate(self._file, length)
                    return
                length += len(line)
                self._load_line(line)

    def _load_line(self, line: bytes) -> None:
        where = f"{self.path}, line {len(self) + 1}"
        try:
            entry = _decode_entry(line)
        except ValueError as error:
            raise LedgerUnusable(f"{where}: {error}; mend the line or move the file away") from error
        attempt_id = parse_attempt_id(entry.attempt_id)
        if attempt_id is None or entry.number != len(self) + 1:
            raise LedgerUnusable(f"{where}: wrong attempt id or number; mend the line or move the file away")
        self._index(attempt_id, entry)

    def _mark_repeats(self, entries: list[Entry], attempt_ids: list[bytes]) -> list[Entry]:
        known = self._number_by_attempt
        if known.keys().isdisjoint(attempt_ids) and len(set(attempt_ids)) == len(attempt_ids):
            return entries
        seen: set[bytes] = set()
        marked: list[Entry] = []
        for attempt_id, entry in zip(attempt_ids, entries, strict=True):
            repeat = attempt_id in known or attempt_id in seen
            marked.append(msgspec.structs.replace(entry, repeat=True) if repeat else entry)
            seen.add(attempt_id)
        return marked

    def _append(self, lines: bytes) -> None:
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def _index(self, attempt_id: bytes, entry: Entry) -> None:
        number = entry.number
        accepted_at_s = entry.at.timestamp()
        if self._accepted_at_s:
            # Receipts come in order, so a clock that was set back must not make a later message due first.
            accepted_at_s = max(accepted_at_s, self._accepted_at_s[-1])
        self._accepted_at_s.append(accepted_at_s)
        self._attempt_ids += attempt_id
        self._number_by_attempt[attempt_id] = number
        self._failed.append(entry.delivery is Delivery.FAILED)
        if entry.delivery is not Delivery.SILENT:
            self._receipt_numbers.append(number)
        self._channels[entry.channel] += 1
        self._topics[f"{entry.channel}/{entry.topic}"] += 1
        self._deliveries[entry.delivery] += 1
        self._repeats += entry.repeat
        self.recent.append(entry)

    def _attempt_id(self, number: int) -> bytes:
        end = number * _ATTEMPT_ID_LENGTH
        return bytes(self._attempt_ids[end - _ATTEMPT_ID_LENGTH : end])
