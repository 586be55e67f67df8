"""Which row of Tencent's history of a phone is an attempt whose answer was lost: pure.

A row bears the `SerialNo` of the message and the time at which the phone got it, but neither our id (unless Tencent
switches `SessionContext` on for the account) nor the time of sending. What cannot be said with confidence is not said.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from orderbell.channels.protocol import Fate, Found, Unsure
from orderbell.channels.tencent_wire import ROWS_MAX, Row, quiet

# What the time at which the phone got it may make of a row, in seconds after the attempt. Carriers tell it to the
# second or to the minute; most receipts come within seconds, those of phones that are off after hours.
_SURELY_EARLIER_S: Final = -60.0
_NEAR_S: Final = (-5.0, 120.0)

_FATES: Final = {"SUCCESS": Fate.DELIVERED, "FAIL": Fate.FAILED}


class History(msgspec.Struct, frozen=True):
    """What Tencent knows about the phone of an attempt; `clock_off_s` is how far its clock is ahead of ours."""

    rows: Sequence[Row]
    clock_off_s: float = 0.0


def match(
    asked: Mapping[bytes, tuple[Unsure, History]],
    known: Mapping[str, bytes],
    *,
    absent_after_s: float,
    now: dt.datetime,
) -> list[Found]:
    """Say what became of attempts, by attempt id; those that are not clear are left out.

    `known` is which serial number belongs to which attempt. A row belongs to an attempt if it says so by serial number
    or context; else if it alone was received soon after the attempt, and nobody else may claim it. That nothing was
    sent is said `absent_after_s` after the attempt, if the history is complete and nothing in it could be the attempt.
    """
    rows: dict[bytes, Row | None] = {}
    for attempt_id, (one, history) in asked.items():
        mine = _named(one, history.rows, known)
        if mine is not None:
            rows[attempt_id] = mine
            continue
        free = _free(one, history.rows, known, asked)
        after_s = {serial: _after_s(one, row, history.clock_off_s) for serial, row in free.items()}
        near = [serial for serial, s in after_s.items() if s is not None and _NEAR_S[0] <= s <= _NEAR_S[1]]
        latest_s = max(absent_after_s, _NEAR_S[1])
        possible = any(s is None or _SURELY_EARLIER_S <= s <= latest_s for s in after_s.values())
        complete = len(history.rows) < ROWS_MAX
        if len(near) == 1 and complete:
            rows[attempt_id] = free[near[0]]
        elif not possible and complete and one.sent_at and (now - one.sent_at).total_seconds() >= absent_after_s:
            rows[attempt_id] = None
    claims = [row.serial_no for row in rows.values() if row is not None]
    return [
        _found(attempt_id, row) for attempt_id, row in rows.items() if row is None or claims.count(row.serial_no) == 1
    ]


def _named(one: Unsure, rows: Sequence[Row], known: Mapping[str, bytes]) -> Row | None:
    """Find the row that says itself whose it is."""
    context = one.attempt_id.hex()
    for row in rows:
        if row.session_context == context or known.get(row.serial_no) == one.attempt_id:
            return row
        if one.ref and row.serial_no == one.ref:
            return row
    return None


def _free(
    one: Unsure, rows: Sequence[Row], known: Mapping[str, bytes], asked: Mapping[bytes, tuple[Unsure, History]]
) -> dict[str, Row]:
    """List the rows that are not named as somebody else's, by serial number.

    A context names the first message of its request, so it only tells of those to the same phone.
    """
    others = [other for other, _ in asked.values() if other.to == one.to and other is not one]
    refs = {other.ref for other in others if other.ref}
    contexts = {other.attempt_id.hex() for other in others}
    return {
        row.serial_no: row
        for row in rows
        if row.serial_no not in known and row.serial_no not in refs and row.session_context not in contexts
    }


def _after_s(one: Unsure, row: Row, clock_off_s: float) -> float | None:
    """Seconds from the attempt until the phone got what the row is about, None where it does not say when."""
    if not row.user_receive_time or one.sent_at is None:
        return None
    return row.user_receive_time - clock_off_s - one.sent_at.timestamp()


def _found(attempt_id: bytes, row: Row | None) -> Found:
    if row is None:
        return Found(attempt_id, Fate.NOT_FOUND, detail="Tencent knows of no such message")
    fate = _FATES.get(row.report_status or "", Fate.ACCEPTED)
    return Found(attempt_id, fate, row.serial_no, quiet(row.description or ""))
