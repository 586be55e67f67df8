"""Pages of a long list: each ends with a cursor, opaque text that says where the next one goes on.

A cursor holds the key of the last row, so rows that are added meanwhile shift nothing: a row that was there from the
beginning comes exactly once.
"""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

CURSOR_LENGTH_MAX = 2_400
"""Of a line of a journal that is named by two texts of 200 characters, each of up to four bytes."""

LIMIT_MAX = 200

Line = TypeVar("Line")
Key = TypeVar("Key", bound=tuple[object, ...])

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.msgpack.Encoder().encode


class Page(Struct, Generic[Line], frozen=True):
    """A part of a list.

    `next` is the cursor of the next page, empty at the end of the list. `looked_back_to` is set where a look through
    many rows was stopped: nothing was left out down to this moment, and `next` goes on from there.
    """

    items: list[Line]
    next: str = ""
    looked_back_to: datetime | None = None


def cursor_of(*key: object) -> str:
    """Text for the key of a row; moments keep their microseconds."""
    parts = [micros(part) if isinstance(part, datetime) else part for part in key]
    return base64.urlsafe_b64encode(_encode(parts)).decode().rstrip("=")


def read_cursor(text: str, kind: type[Key]) -> Key | None:
    """The key in a cursor; None for an empty one.

    Args:
        text: What `cursor_of` made.
        kind: The key's shape, such as `tuple[int, str]`.

    Raises:
        ValueError: It says `cursor`: nobody here has made this text.
    """
    if not text:
        return None
    if len(text) > CURSOR_LENGTH_MAX:
        raise ValueError("cursor")
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        key = msgspec.msgpack.decode(packed, type=kind)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise ValueError("cursor") from None
    if not all(is_storable(part) for part in key if isinstance(part, str)):
        raise ValueError("cursor")
    return key


def moment(micros: int) -> datetime:
    """The moment so many microseconds after 1970; raises ValueError `cursor` beyond the calendar."""
    try:
        return _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        raise ValueError("cursor") from None


def within(limit: int) -> int:
    """A page's length as it is kept: 1 to `LIMIT_MAX`."""
    return max(1, min(limit, LIMIT_MAX))


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can hold a text: it has no U+0000, nor half of a character."""
    return "\0" not in text and text.encode(errors="replace").decode() == text


def micros(at: datetime) -> int:
    """Microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)
