"""What an SMSC brings: receipts understood, long replies put together, and all of it kept until it is stored.

An SMSC forgets what has been answered with success, and brings again what has not. So a deliver_sm is answered only
once whoever reads from here says, with a cursor, that it is safely kept. Where that takes too long it is answered with
"temporary error" (RX_T_APPN) and will be brought again; what comes again is recognised by its content.
"""

import datetime as dt
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Final, Generic, Literal, Protocol, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from aiosmpplib.codec import find_codec_info  # type: ignore[import-untyped] # annotated, but without py.typed
from aiosmpplib.state import (  # type: ignore[import-untyped] # as above
    MESSAGE_PAYLOAD,
    MESSAGE_STATE,
    NETWORK_ERROR_CODE,
    RECEIPTED_MESSAGE_ID,
    SAR_MSG_REF_NUM,
    SAR_SEGMENT_SEQNUM,
    SAR_TOTAL_SEGMENTS,
    TON,
    SmppCommandStatus,
)

Item = TypeVar("Item")

IdForm = Literal["as_is", "hex", "decimal"]
"""How an SMSC writes the number of a message."""

# SMPP 3.4 section 5.2.12: the type of a deliver_sm, and the flag that a header comes before the text.
_TYPE_BITS: Final = 0x3C
_RECEIPT: Final = 0x04
_HEADER_FLAG: Final = 0x40
# Section 5.2.28. Accepted and on its way are no final word; whatever else is not "delivered" is a failure.
_STATES: Final = {
    1: "ENROUTE",
    2: "DELIVRD",
    3: "EXPIRED",
    4: "DELETED",
    5: "UNDELIV",
    6: "ACCEPTD",
    7: "UNKNOWN",
    8: "REJECTD",
}
_DELIVERED: Final = frozenset({"DELIVRD", "DELIVERED"})
_UNDECIDED: Final = frozenset({"", "ENROUTE", "ACCEPTD", "ACCEPTED", "SCHEDULED", "BUFFERED"})
_FIELD: Final = re.compile(r"\b(id|stat|err|done date):(\S*)", re.IGNORECASE)
_CODECS: Final = {0: "gsm0338", 1: "ascii", 3: "latin-1", 6: "iso8859-5", 7: "iso8859-8", 8: "utf-16-be", 15: "gb18030"}
# GSM 03.40 section 9.2.3.24: parts of a long message, numbered with one byte or with two.
_PARTS_8: Final = 0x00
_PARTS_16: Final = 0x08
# Mobile numbers of China have 11 digits without their country; service numbers have fewer than 9.
_NATIONAL_LENGTH_MAX: Final = 11
_SHORT_LENGTH_MAX: Final = 8
_DETAIL_LENGTH_MAX: Final = 40
_KEPT_MAX: Final = 10_000
# Somebody may say the same again another day, so only what comes soon is taken for the same.
_UNTOLD_FOR: Final = dt.timedelta(hours=1)
_UNFINISHED_MAX: Final = 1_000
_UNFINISHED_FOR: Final = dt.timedelta(minutes=5)

ROK: Final = int(SmppCommandStatus.ESME_ROK)
RX_T_APPN: Final = int(SmppCommandStatus.ESME_RX_T_APPN)


class Part(msgspec.Struct, frozen=True):
    """Where a text stands in a longer one."""

    reference: int
    total: int
    number: int


class Brought(msgspec.Struct, frozen=True):
    """A deliver_sm, read."""

    source: str
    source_ton: int
    destination: str
    kind: int
    text: str
    part: Part | None
    options: Mapping[int, bytes]


class Report(msgspec.Struct, frozen=True):
    """A final receipt: which message, what became of it, when by the clock of the SMSC (None: not told)."""

    ref: str
    delivered: bool
    detail: str
    done_at: dt.datetime | None


def read_deliver(body: bytes) -> Brought:
    """Read the body of a deliver_sm (SMPP 3.4 section 4.6.1).

    Raises:
        ValueError: it is cut off or contradicts itself.
    """
    reader = _Reader(body)
    reader.string()  # service_type
    source_ton, _, source = reader.byte(), reader.byte(), reader.string()
    reader.take(2)
    destination = reader.string()
    esm_class = reader.byte()
    reader.take(2)
    reader.string()
    reader.string()
    reader.take(2)
    coding, _, length = reader.byte(), reader.byte(), reader.byte()
    message = reader.take(length)
    options: dict[int, bytes] = {}
    while reader.has_more:
        tag = reader.short()
        options[tag] = reader.take(reader.short())
    message = message or options.get(MESSAGE_PAYLOAD, b"")
    part, message = _split_header(message) if esm_class & _HEADER_FLAG else (None, message)
    text = _decode(message, coding)
    return Brought(source, source_ton, destination, esm_class & _TYPE_BITS, text, part or _part_of(options), options)


def is_receipt(brought: Brought) -> bool:
    """Whether a deliver_sm is about a message of ours; some SMSCs forget to flag it but name the message and state."""
    if brought.kind == _RECEIPT:
        return True
    return brought.kind == 0 and {RECEIPTED_MESSAGE_ID, MESSAGE_STATE} <= brought.options.keys()


def is_message(brought: Brought) -> bool:
    """Whether a deliver_sm is from a person, and neither a receipt nor a notification."""
    return brought.kind == 0 and not is_receipt(brought)


def read_receipt(brought: Brought, form: IdForm, zone: ZoneInfo) -> Report | None:
    """Read a receipt (SMPP 3.4 appendix B); None where it says nothing final, or not about which message.

    Its options come before its text, which every SMSC writes as it likes.
    """
    said: dict[str, str] = {}
    # What stands after "text:" was written by whoever wrote the message.
    for name, value in _FIELD.findall(re.split(r"\btext:", brought.text, maxsplit=1, flags=re.IGNORECASE)[0]):
        said.setdefault(name.lower(), value)
    named = brought.options.get(RECEIPTED_MESSAGE_ID, b"").split(b"\0")[0].decode("ascii", "replace")
    ref = canonical(named or said.get("id", ""), form)
    state = said.get("stat", "").upper()
    coded = brought.options.get(MESSAGE_STATE)
    if coded:
        state = _STATES.get(coded[0], f"STATE {coded[0]}")
    if not ref or state in _UNDECIDED:
        return None
    error = said.get("err", "")
    network = brought.options.get(NETWORK_ERROR_CODE)
    if network:
        error = str(int.from_bytes(network[1:], "big"))
    detail = f"{state} err:{error}" if error.strip("0") else state
    delivered = state in _DELIVERED
    return Report(ref, delivered, detail[:_DETAIL_LENGTH_MAX], _read_date(said.get("done date", ""), zone))


def canonical(number: str, form: IdForm) -> str:
    """Write the number of a message so that two ways of writing it become one; what is no number stays as it is."""
    number = number.strip()
    try:
        return number if form == "as_is" else str(int(number, 16 if form == "hex" else 10))
    except ValueError:
        return number


def to_phone(address: str, ton: int, country: str) -> str:
    """Write a sender in E.164; short numbers and names stay as they are.

    `country` is the calling code of the numbers that come without one, empty where none do.
    """
    if not (address.isascii() and address.isdigit()):
        return address
    if address.startswith("00"):
        return f"+{address[2:]}"
    with_country = not country or (address.startswith(country) and len(address) > _NATIONAL_LENGTH_MAX)
    if ton == TON.INTERNATIONAL or (with_country and len(address) > _SHORT_LENGTH_MAX):
        return f"+{address}"
    return f"+{country}{address.removeprefix('0')}" if country and len(address) > _SHORT_LENGTH_MAX else address


def _read_date(written: str, zone: ZoneInfo) -> dt.datetime | None:
    digits = re.sub(r"\D", "", written)
    for pattern, length in (("%y%m%d%H%M", 10), ("%y%m%d%H%M%S", 12), ("%Y%m%d%H%M%S", 14)):
        if len(digits) == length:
            try:
                return dt.datetime.strptime(digits, pattern).replace(tzinfo=zone).astimezone(dt.UTC)
            except (ValueError, OverflowError):
                return None
    return None


def _decode(message: bytes, coding: int) -> str:
    name = _CODECS.get(coding, "latin-1")
    if coding == 0:
        decoded: str = find_codec_info(name).decode(message, "replace")[0]
        return decoded
    return message.decode(name, "replace")


def _split_header(message: bytes) -> tuple[Part | None, bytes]:
    """Take the user data header off a text, and find the part that it names."""
    reader = _Reader(message)
    header = _Reader(reader.take(reader.byte()))
    part = None
    while header.has_more:
        kind, value = header.byte(), header.take(header.byte())
        if kind == _PARTS_8 and len(value) == 3:  # noqa: PLR2004 - reference, total, number
            part = Part(*value)
        elif kind == _PARTS_16 and len(value) == 4:  # noqa: PLR2004 - the same with a longer reference
            part = Part(*struct.unpack("!HBB", value))
    return part, reader.rest()


def _part_of(options: Mapping[int, bytes]) -> Part | None:
    reference, total, number = (
        options.get(tag, b"") for tag in (SAR_MSG_REF_NUM, SAR_TOTAL_SEGMENTS, SAR_SEGMENT_SEQNUM)
    )
    if not reference or len(total) != 1 or len(number) != 1:
        return None
    return Part(int.from_bytes(reference[-2:], "big"), total[0], number[0])


class _Reader:
    """Reads the fields of a PDU one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def has_more(self) -> bool:
        return self._at < len(self._data)

    def take(self, length: int) -> bytes:
        taken = self._data[self._at : self._at + length]
        if len(taken) < length:
            raise ValueError("a PDU ends too early")
        self._at += length
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def byte(self) -> int:
        return self.take(1)[0]

    def short(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def string(self) -> str:
        end = self._data.find(0, self._at)
        if end < 0:
            raise ValueError("a text of a PDU has no end")
        text = self.take(end - self._at).decode("ascii", "replace")
        self._at += 1
        return text


class Answerable(Protocol):
    """A connection over which a deliver_sm came."""

    @property
    def is_open(self) -> bool:
        """Whether it still stands."""
        ...

    def answer(self, sequence: int, status: int) -> bool:
        """Answer a deliver_sm; False if the connection is gone."""
        ...


class Owed(msgspec.Struct, eq=False):
    """A deliver_sm whose answer is still owed."""

    content: bytes
    session: Answerable
    sequence: int
    asked_again: bool = False
    is_settled: bool = False

    @property
    def is_waited_for(self) -> bool:
        """Whether the SMSC still waits for the answer; otherwise it will bring the same again."""
        return not self.asked_again and not self.is_settled and self.session.is_open

    def ask_again(self) -> bool:
        """Let the SMSC bring it again; False if that is not needed any more."""
        if not self.is_waited_for:
            return False
        self.asked_again = True
        return self.session.answer(self.sequence, RX_T_APPN)


class Answers:
    """Which deliver_sm have been taken in, and what the SMSC has yet to be told about them.

    Args:
        now: the clock, aware UTC.
        owing: called when the SMSC begins to wait for an answer.
    """

    def __init__(self, now: Callable[[], dt.datetime], owing: Callable[[Owed], None]) -> None:
        self._now = now
        self._owing = owing
        # Lists, for somebody may say the same twice.
        self._owed: dict[bytes, list[Owed]] = {}
        self._untold: OrderedDict[bytes, list[dt.datetime]] = OrderedDict()

    def take(self, session: Answerable, sequence: int, body: bytes) -> Owed | None:
        """Take in a deliver_sm, or None for one that is known already or too many: that has been seen to."""
        content = blake2b(body, digest_size=16).digest()
        if self._was_stored(content):
            session.answer(sequence, ROK)
            return None
        same = self._owed.get(content, ())
        known = next((owed for owed in same if not owed.is_waited_for), None)
        if known is not None:
            known.session, known.sequence, known.asked_again = session, sequence, False
            self._owing(known)
            return None
        if len(self._owed) >= _KEPT_MAX:
            session.answer(sequence, RX_T_APPN)
            return None
        owed = Owed(content, session, sequence)
        self._owed.setdefault(content, []).append(owed)
        self._owing(owed)
        return owed

    def settle(self, owed: Owed) -> None:
        """Tell the SMSC that it is safely kept; should it not hear that, it will when it brings it again."""
        same = self._owed.get(owed.content, [])
        if owed in same:
            same.remove(owed)
        if not same:
            self._owed.pop(owed.content, None)
        waited_for = owed.is_waited_for
        owed.is_settled = True
        if waited_for and owed.session.answer(owed.sequence, ROK):
            return
        self._untold.setdefault(owed.content, []).append(self._now())
        while len(self._untold) > _KEPT_MAX:
            self._untold.popitem(last=False)

    def _was_stored(self, content: bytes) -> bool:
        moments = [moment for moment in self._untold.pop(content, []) if self._now() - moment < _UNTOLD_FOR]
        if len(moments) > 1:
            self._untold[content] = moments[1:]
        return bool(moments)


class Shelf(Generic[Item]):
    """Things in order of arrival, kept until a cursor says that they are stored.

    Args:
        name: of this shelf; a cursor of another one is the beginning of this.
        settle: called with each deliver_sm that something was made of, once it is stored.
    """

    def __init__(self, name: str, settle: Callable[[Owed], None]) -> None:
        self._name = name
        self._settle = settle
        self._things: OrderedDict[int, tuple[Item, list[Owed]]] = OrderedDict()
        self._last = 0

    def __len__(self) -> int:
        return len(self._things)

    def put(self, item: Item, owed: list[Owed]) -> None:
        """Keep something."""
        self._last += 1
        self._things[self._last] = (item, owed)

    def forget(self, after: str) -> int:
        """Let go of everything up to a cursor; returns how much that was."""
        number, _, name = after.partition("@")
        if name != self._name or not number.isdecimal():
            return 0
        gone = [kept for kept in self._things if kept <= int(number)]
        for kept in gone:
            for owed in self._things.pop(kept)[1]:
                self._settle(owed)
        return len(gone)

    def read(self, limit: int) -> list[tuple[str, Item]]:
        """List the oldest things, each with its cursor."""
        listed = list(self._things.items())[:limit]
        return [(f"{number}@{self._name}", item) for number, (item, _) in listed]


class Unfinished(msgspec.Struct):
    """A long text of which not all parts are there."""

    since: dt.datetime
    first: Brought
    texts: dict[int, str]
    owed: list[Owed]


class Assembly:
    """Puts the parts of long texts together."""

    def __init__(self) -> None:
        self._unfinished: OrderedDict[tuple[str, str, int, int], Unfinished] = OrderedDict()

    def add(self, brought: Brought, owed: Owed, now: dt.datetime) -> Unfinished | None:
        """Add a text or a part of one; gives it back once it is whole."""
        part = brought.part
        if part is None or part.total < 2:  # noqa: PLR2004 - one part is the whole
            return Unfinished(now, brought, {1: brought.text}, [owed])
        key = (brought.source, brought.destination, part.reference, part.total)
        found = self._unfinished.setdefault(key, Unfinished(now, brought, {}, []))
        found.texts[part.number] = brought.text
        found.owed.append(owed)
        return self._unfinished.pop(key) if len(found.texts) >= part.total else None

    def overdue(self, now: dt.datetime) -> list[Unfinished]:
        """Take out what has waited for its missing parts for too long: better a piece than nothing."""
        taken = []
        while self._unfinished:
            key, oldest = next(iter(self._unfinished.items()))
            if now - oldest.since < _UNFINISHED_FOR and len(self._unfinished) <= _UNFINISHED_MAX:
                break
            taken.append(self._unfinished.pop(key))
        return taken


def whole(unfinished: Unfinished) -> str:
    """The text of all parts that are there, in order; a gap shows as […]."""
    part = unfinished.first.part
    total = part.total if part is not None else 1
    return "".join(unfinished.texts.get(number, "[…]") for number in range(1, max(total, 1) + 1))
