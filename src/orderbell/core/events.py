"""What can happen to an order: the canonical event types, their data, and how they are read from the wire.

Events travel as CloudEvents 1.0 in JSON (https://github.com/cloudevents/spec, v1.0.2, "structured" and
"batched" content modes). `parse_events` turns one request body into events or refusals, one for one and in
order: a bad item refuses itself and never its neighbours.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

ORDER_NO_MAX = 36  # a UUID with its dashes; the 70-character proof counts on it (S0-17)
ID_MAX = 200
EVENT_BYTES_MAX = 256 * 1024
BATCH_MAX = 1000
LENIENT_BYTES_MAX = 1024 * 1024  # the second, slow look at a bad body must not keep others waiting
FUTURE_MAX = timedelta(hours=24)  # clocks of shops are wrong by minutes, not by days
YEAR_MIN, YEAR_MAX = 1970, 2199  # outside of them a slip of the pen, and sums of dates run out of range
DETAIL_MAX = 300  # what is quoted from a bad event is cut
FIELD_MAX = 200
OWN_SOURCE = "orderbell"

Fen = Annotated[int, Meta(ge=0, le=10**12)]
Word = Annotated[str, Meta(max_length=200)]
Name = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]  # no control characters
Code = Annotated[str, Meta(max_length=ORDER_NO_MAX, pattern=r"^[\x21-\x7e]*$")]  # printable ASCII, no blanks
Prose = Annotated[str, Meta(max_length=4000)]
Phase = Literal[
    "pending", "info_received", "picked_up", "in_transit", "customs", "out_for_delivery",
    "available_for_pickup", "attempt_failed", "exception", "delivered", "returning", "returned",
    "cancelled", "expired",
]  # fmt: skip
Tier = Literal["new", "regular", "vip"]
Frequency = Literal["calm", "normal", "all"]
ChannelName = Literal["sms", "email", "push", "wechat", "inbox"]


def is_order_no(text: str) -> bool:
    """Whether a text may be the number of an order: 1 to `ORDER_NO_MAX` printable ASCII characters."""
    return 0 < len(text) <= ORDER_NO_MAX and text.isascii() and text.isprintable()


def read_moment(text: str, zone: tzinfo) -> datetime:
    """Read a date (the last second of that day in `zone`) or an instant (RFC 3339) as aware UTC; ValueError else."""
    if len(text) == len("2026-03-05"):
        moment = datetime.combine(date.fromisoformat(text), time(23, 59, 59), zone)
    else:
        moment = datetime.fromisoformat(text)
    if not YEAR_MIN <= moment.year <= YEAR_MAX:
        raise ValueError(f"the year {moment.year} is not between {YEAR_MIN} and {YEAR_MAX}")
    if moment.tzinfo is None:
        raise ValueError("a zone is missing (RFC 3339, such as 2026-03-02T10:00:00+08:00)")
    return moment.astimezone(UTC)


class _BadMoment(ValueError):
    """A field of the data is no date."""

    def __init__(self, field: str, problem: ValueError) -> None:
        super().__init__(str(problem))
        self.field = field


def _check_moment(field: str, text: str) -> None:
    try:
        read_moment(text, UTC)
    except ValueError as problem:
        raise _BadMoment(field, problem) from None


class Person(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A person as an event brings them: endpoints and wishes; what is not given stays as it was known."""

    id: Name = ""
    phone: Annotated[str, Meta(max_length=40, pattern=r"^([+＋(（]?[0-9０-９][0-9０-９ ()（）.转ext-]{3,38})?\Z")] = ""
    email: Annotated[str, Meta(max_length=254, pattern=r"^([^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+)?$")] = ""
    app: Name = ""
    wechat: Name = ""
    tier: Tier | None = None
    locale: Annotated[str, Meta(max_length=16)] = ""
    timezone: Annotated[str, Meta(max_length=64)] = ""
    quiet: Annotated[str, Meta(pattern=r"^((([01][0-9]|2[0-3]):[0-5][0-9])-(([01][0-9]|2[0-3]):[0-5][0-9]))?\Z")] = ""
    mute: tuple[Word, ...] | None = None
    frequency: Frequency | None = None
    marketing: bool | None = None


class Item(Struct, frozen=True, omit_defaults=True):
    """One line of an order; `price_fen` is the price of one piece in 1/100 yuan."""

    sku: Word = ""
    title: Word = ""
    qty: Annotated[int, Meta(ge=1, le=100_000)] = 1
    price_fen: Fen = 0


class Data(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What every event may carry beside its own fields: the people of the order, by role (S0-4)."""

    people: Annotated[dict[Word, Person], Meta(max_length=50)] | None = None


class OrderPlaced(Data, frozen=True, omit_defaults=True):
    """A promise begins."""

    amount_fen: Fen = 0
    items: Annotated[tuple[Item, ...], Meta(max_length=500)] = ()
    title: Word = ""
    category: Word = ""


class Cancelled(Data, frozen=True, omit_defaults=True):
    """Somebody called the order off."""

    by: Literal["merchant", "system", "buyer", "consignor", "platform"] = "merchant"
    reason: Word = ""


class Amount(Data, frozen=True, omit_defaults=True):
    """Money moved."""

    amount_fen: Fen = 0


class Because(Data, frozen=True, omit_defaults=True):
    """Something happened for a reason."""

    reason: Word = ""


class Stock(Data, frozen=True, omit_defaults=True):
    """The stock of one article changed."""

    sku: Word = ""
    title: Word = ""
    on_hand: Annotated[int, Meta(ge=0, le=10**9)] | None = None


class Shipped(Data, frozen=True, omit_defaults=True):
    """A parcel is on its way."""

    carrier: Word = ""
    tracking_no: Code = ""


class Scanned(Data, frozen=True, omit_defaults=True):
    """The carrier saw a parcel; phases and reasons are those of the parcel vocabulary."""

    phase: Phase
    tracking_no: Code = ""
    carrier: Word = ""
    reason: Word = ""
    place: Word = ""
    text: Prose = ""


class Promised(Data, frozen=True, omit_defaults=True):
    """An arrival was promised: a date (the end of that day in the playbook's zone) or an instant."""

    by: Annotated[str, Meta(min_length=10, max_length=40)]

    def __post_init__(self) -> None:
        """Refuse what is no date."""
        _check_moment("by", self.by)


class Price(Data, frozen=True, omit_defaults=True):
    """A price was proposed, offered, changed or reached."""

    price_fen: Fen


class Until(Data, frozen=True, omit_defaults=True):
    """A consignment runs until a date, that day included."""

    until: Annotated[str, Meta(min_length=10, max_length=40)]

    def __post_init__(self) -> None:
        """Refuse what is no date."""
        _check_moment("until", self.until)


class Received(Data, frozen=True, omit_defaults=True):
    """A consigned item came in."""

    title: Word = ""
    category: Word = ""
    amount_fen: Fen = 0


class Complaint(Data, frozen=True, omit_defaults=True):
    """A customer is not content."""

    text: Prose = ""


class Feedback(Data, frozen=True, omit_defaults=True):
    """A customer rated the order, 1 (bad) to 5."""

    score: Annotated[int, Meta(ge=0, le=10)] = 0
    text: Prose = ""


class Choice(Data, frozen=True, omit_defaults=True):
    """A customer chose one of the ways that were offered; `days` is how long an extension lasts."""

    option: Word
    days: Annotated[int, Meta(ge=0, le=365)] = 0


class Reply(Data, frozen=True, omit_defaults=True):
    """A person answered; `sender` is a role of the order (`from` on the wire), `meaning` what it was read as."""

    text: Prose
    sender: Word = msgspec.field(default="", name="from")
    meaning: Word = ""


class Staff(Data, frozen=True, omit_defaults=True):
    """Somebody of the staff did something about a case; without `case` all open cases are meant."""

    case: Word = ""
    by: Word = ""
    how: Prose = ""
    note: Prose = ""


class TimerDue(Data, frozen=True, omit_defaults=True):
    """A deadline of the playbook passed."""

    name: Word


class Settled(Data, frozen=True, omit_defaults=True):
    """What became of a message: the provider's outcome, on which channel, for whom, and when it had been told."""

    outcome: Word
    channel: ChannelName
    topic: Word = ""
    contact: Word = ""
    told_at: datetime | None = None


DATA_TYPES: dict[str, type[Data]] = {
    "order.placed": OrderPlaced,
    "order.confirmed": Data,
    "order.cancelled": Cancelled,
    "order.completed": Data,
    "payment.succeeded": Amount,
    "payment.failed": Because,
    "payment.expired": Data,
    "refund.started": Amount,
    "refund.succeeded": Amount,
    "risk.flagged": Because,
    "risk.cleared": Data,
    "address.undeliverable": Because,
    "address.changed": Data,
    "contact.invalid": Because,
    "contact.changed": Data,
    "stock.short": Stock,
    "stock.restored": Stock,
    "stock.level": Stock,
    "parcel.packed": Data,
    "parcel.shipped": Shipped,
    "parcel.scanned": Scanned,
    "parcel.promised": Promised,
    "key.issued": Data,
    "key.failed": Because,
    "key.revealed": Data,
    "key.redeemed": Data,
    "item.received": Received,
    "item.approved": Data,
    "item.rejected": Because,
    "item.listed": Data,
    "item.price_proposed": Price,
    "item.price_changed": Price,
    "item.viewed": Data,
    "item.offer": Price,
    "item.sold": Price,
    "item.expiring": Until,
    "item.expired": Data,
    "item.withdrawn": Data,
    "payout.sent": Amount,
    "payout.failed": Because,
    "withdrawal.succeeded": Amount,
    "complaint.opened": Complaint,
    "complaint.answered": Complaint,
    "complaint.closed": Complaint,
    "feedback.given": Feedback,
    "choice.made": Choice,
    "reply.received": Reply,
    "link.clicked": Data,
    "case.acknowledged": Staff,
    "case.assigned": Staff,
    "case.noted": Staff,
    "case.resolved": Staff,
    "case.reopened": Staff,
    "timer.due": TimerDue,
    "message.settled": Settled,
}
INSIDE_TYPES = frozenset({"timer.due", "message.settled"})  # only OrderBell itself says these


class Event(Struct, frozen=True, gc=False):
    """One thing that happened. `(tenant, source, id)` names it; `time` is when, `received_at` when we heard."""

    tenant: str
    source: str
    id: str
    type: str
    order_no: str
    time: datetime
    received_at: datetime
    data: Data
    people: dict[str, Person] | None = None
    playbook: str = ""
    body_hash: bytes = b""

    @property
    def key(self) -> tuple[str, str, str]:
        """The dedupe key."""
        return (self.tenant, self.source, self.id)

    @property
    def order_key(self) -> tuple[str, str]:
        """The key of the order it speaks of."""
        return (self.tenant, self.order_no)


class Status(StrEnum):
    """What became of an event at the door."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


class Answer(Struct, frozen=True, omit_defaults=True):
    """The answer to one event; `field` names what is wrong with a refused one, `detail` says it in words."""

    id: str
    status: Status
    reason: str = ""
    field: str = ""
    detail: str = ""


class Wire(Struct):
    """The CloudEvents envelope as it is read; checked by `parse_event`."""

    id: Annotated[str, Meta(min_length=1, max_length=ID_MAX)]
    source: Annotated[str, Meta(min_length=1, max_length=ID_MAX)]
    type: Annotated[str, Meta(min_length=1, max_length=100)]
    subject: Annotated[str, Meta(min_length=1)]
    specversion: str = "1.0"
    time: datetime | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")
    data_base64: msgspec.Raw = msgspec.Raw(b"")
    playbook: Annotated[str, Meta(max_length=64)] = ""


_WIRE: Callable[[bytes], Wire] = msgspec.json.Decoder(Wire).decode
_WHOLE: Callable[[bytes], msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw).decode
_SPLIT: Callable[[bytes], list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw]).decode
_DATA: dict[str, Callable[[msgspec.Raw], Data]] = {
    name: msgspec.json.Decoder(kind).decode for name, kind in DATA_TYPES.items()
}
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
encode_json = msgspec.json.Encoder(order="deterministic").encode


class _Refusal(Exception):
    """Why one item is refused: reason, field, detail."""

    def __init__(self, reason: str, field: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.field, self.detail = reason, field, detail

    def answer(self, id: str) -> Answer:
        return Answer(id, Status.REFUSED, self.reason, self.field, self.detail[:DETAIL_MAX])


def parse_events(body: bytes, tenant: str, received_at: datetime) -> list[Event | Answer]:
    """Read one request body: a CloudEvent or a list of up to 1,000; answer item for item, in order.

    A body that is not JSON (RFC 8259), nested too deeply, or too long a list, is one refusal without an id. Of a
    name that an object holds twice the last value counts.
    """
    try:
        items = _SPLIT(body) if body.lstrip()[:1] == b"[" else [_WHOLE(body)]
    except _NOT_JSON as problem:
        return _parse_leniently(body, tenant, received_at, problem)
    if len(items) > BATCH_MAX:
        return [_batch_too_long(len(items))]
    return [parse_event(bytes(item), tenant, received_at) for item in items]


def _batch_too_long(count: int) -> Answer:
    detail = f"{count:,} events in one request; send at most {BATCH_MAX:,}"
    return Answer("", Status.REFUSED, "batch_too_long", "", detail)


def _parse_leniently(body: bytes, tenant: str, received_at: datetime, problem: Exception) -> list[Event | Answer]:
    # NaN, Infinity and halves of surrogate pairs (a text cut in the middle of an emoji) are no JSON that anybody must
    # understand, yet many encoders write them: find the items that hold one, spare the others.
    if len(body) > LENIENT_BYTES_MAX:
        return [_not_json("the request body", problem).answer("")]
    try:
        tree = json.loads(body.decode())
    except (ValueError, RecursionError):
        return [_not_json("the request body", problem).answer("")]
    items = tree if isinstance(tree, list) else [tree]
    if len(items) > BATCH_MAX:
        return [_batch_too_long(len(items))]
    return [_parse_tree(item, tenant, received_at) for item in items]


def _parse_tree(item: object, tenant: str, received_at: datetime) -> Event | Answer:
    where = _find(item, _is_not_a_number)
    if where is not None:
        detail = f"{where or 'event'}: NaN and Infinity are not numbers in JSON"
        return _Refusal("not_a_number", where, detail).answer(_id_in(item))
    try:
        raw = json.dumps(item, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        where = _find(item, _is_no_unicode) or ""
        detail = f"{where or 'event'}: half a surrogate pair is no character"
        return _Refusal("wrong_value", where, detail).answer(_id_in(item))
    except RecursionError as problem:
        return _not_json("the event", problem).answer(_id_in(item))
    return parse_event(raw, tenant, received_at)


def _is_not_a_number(leaf: object) -> bool:
    return isinstance(leaf, float) and not math.isfinite(leaf)


def _is_no_unicode(leaf: object) -> bool:
    return isinstance(leaf, str) and _shown(leaf) != leaf


def _holds_nul(leaf: object) -> bool:
    return isinstance(leaf, str) and "\0" in leaf


def _find(tree: object, is_wrong: Callable[[object], bool]) -> str | None:
    # Not recursive: the nesting of a body is the sender's choice. Paths are cut for the same reason.
    waiting: list[tuple[str, object]] = [("", tree)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, dict):
            if wrong := next((name for name in node if is_wrong(name)), None):
                return f"{path}.{_shown(wrong)}".removeprefix(".")[:FIELD_MAX]
            inner = ((f"{path}.{_shown(name[:FIELD_MAX])}"[:FIELD_MAX], value) for name, value in node.items())
            waiting += reversed([*inner])
        elif isinstance(node, list):
            worth = (index for index, value in enumerate(node) if isinstance(value, dict | list) or is_wrong(value))
            waiting += reversed([(f"{path}[{index}]"[:FIELD_MAX], node[index]) for index in worth])
        elif is_wrong(node):
            return path.removeprefix(".")
    return None


def _shown(text: str) -> str:
    # Python's own JSON reader lets half a surrogate pair pass, which no answer could carry.
    return text.encode(errors="replace").decode()


def parse_event(raw: bytes, tenant: str, received_at: datetime) -> Event | Answer:
    """Read one CloudEvent; what is wrong with it comes back as a refusal that names the field."""
    name = ""
    try:
        wire = _read_wire(raw)
        name = wire.id
        _check_words(wire)
        return _event_of(wire, tenant, received_at)
    except _Refusal as refusal:
        return refusal.answer(name or _id_of(raw))


def _read_wire(raw: bytes) -> Wire:
    if len(raw) > EVENT_BYTES_MAX:
        detail = f"the event has {len(raw):,} bytes; at most {EVENT_BYTES_MAX:,} are taken"
        raise _Refusal("too_large", "", detail)
    try:
        return _WIRE(raw)
    except msgspec.ValidationError as problem:
        raise _from_validation("", problem) from None
    except _NOT_JSON as problem:
        raise _not_json("the event", problem) from None


def _not_json(what: str, problem: Exception, field: str = "") -> _Refusal:
    if isinstance(problem, RecursionError):
        return _Refusal("too_deep", field, f"{what} is nested too deeply")
    return _Refusal("not_json", field, f"{what} is not JSON: {problem}")


def _id_of(raw: bytes) -> str:
    try:
        return _id_in(msgspec.json.decode(raw))
    except _NOT_JSON:
        return ""


def _id_in(tree: object) -> str:
    known = tree.get("id") if isinstance(tree, dict) else None
    return _shown(known[:ID_MAX]) if isinstance(known, str) else ""


def _from_validation(prefix: str, problem: msgspec.ValidationError) -> _Refusal:
    # msgspec: "Expected `int`, got `str` - at `$.amount_fen`" / "Object missing required field `subject`"; what it
    # quotes from the event may look like that too, so the last place counts and the whole text must fit.
    text, found, where = str(problem).rpartition(" - at `$")
    if not found:
        text, where = where, ""
    field = prefix + where.rstrip("`").lstrip(".")
    if isinstance(problem.__cause__, _BadMoment):
        field += problem.__cause__.field
    missing, unknown = _MISSING.fullmatch(text), _UNKNOWN.fullmatch(text)
    if name := missing or unknown:
        field = f"{field.rstrip('.')}.{_shown(name[1])}".lstrip(".")[:FIELD_MAX]
    if missing:
        return _Refusal("missing_field", field, f"{field} is missing")
    field = field.rstrip(".")
    return _Refusal("wrong_value", field, f"{field or 'event'}: {'there is no such field' if unknown else text}")


def _check_words(wire: Wire) -> None:
    if wire.specversion != "1.0":
        raise _Refusal("wrong_value", "specversion", "specversion: only CloudEvents 1.0 is understood")
    if not is_order_no(wire.subject):
        detail = f"subject: an order number has 1 to {ORDER_NO_MAX} printable ASCII characters"
        raise _Refusal("bad_order_no", "subject", detail)
    if wire.subject != wire.subject.strip():
        raise _Refusal("bad_order_no", "subject", "subject: an order number has no blanks at its ends")
    for field, text in (("id", wire.id), ("source", wire.source), ("playbook", wire.playbook)):
        if not text.isprintable():
            raise _Refusal("wrong_value", field, f"{field}: control characters are not allowed")
    if wire.data_base64:
        raise _Refusal("wrong_value", "data_base64", "data_base64: send the data as a JSON object in `data`")
    if wire.source == OWN_SOURCE or wire.type in INSIDE_TYPES:
        field = "source" if wire.source == OWN_SOURCE else "type"
        raise _Refusal("reserved", field, f"{field}: this name is kept for OrderBell itself")


def _event_of(wire: Wire, tenant: str, received_at: datetime) -> Event:
    decode = _DATA.get(wire.type)
    if decode is None:
        raise _Refusal("unknown_type", "type", f"type: {wire.type[:60]!r} is not a type that OrderBell knows")
    happened_at = _time_of(wire.time, received_at)
    try:
        data = decode(wire.data)
    except msgspec.ValidationError as problem:
        raise _from_validation("data.", problem) from None
    except _NOT_JSON as problem:
        raise _not_json("the data of the event", problem, "data") from None
    body = encode_json([wire.type, wire.subject, None if wire.time is None else happened_at, wire.playbook, data])
    if b"\\u0000" in body and (where := _find(msgspec.json.decode(body)[-1], _holds_nul)) is not None:
        # PostgreSQL has no U+0000 in its texts: the event could never be written.
        raise _Refusal("wrong_value", f"data.{where}", f"data.{where}: the character U+0000 is not allowed")
    digest = hashlib.blake2b(body, digest_size=16).digest()
    people = data.people
    if people is not None:
        data = msgspec.structs.replace(data, people=None)
    return Event(
        tenant, wire.source, wire.id, wire.type, wire.subject, happened_at, received_at, data, people, wire.playbook,
        digest,
    )  # fmt: skip


def _time_of(moment: datetime | None, received_at: datetime) -> datetime:
    if moment is None:
        return received_at
    if moment.tzinfo is None:
        raise _Refusal("wrong_value", "time", "time: a zone is missing (RFC 3339, such as 2026-03-02T10:00:00+08:00)")
    if moment.year < YEAR_MIN:
        raise _Refusal("wrong_value", "time", f"time: the year {moment.year} is before {YEAR_MIN}")
    if moment.year > YEAR_MAX:
        raise _Refusal("time_in_future", "time", f"time: the year {moment.year} is in the future")
    moment = moment.astimezone(UTC)
    if moment - received_at > FUTURE_MAX:
        raise _Refusal("time_in_future", "time", "time: more than 24 hours in the future; check the shop's clock")
    return min(moment, received_at)


def wire_of(event: Event) -> dict[str, Any]:
    """The event as a CloudEvent without the people's endpoints: what the journal keeps."""
    wire: dict[str, Any] = {
        "specversion": "1.0", "id": event.id, "source": event.source, "type": event.type,
        "subject": event.order_no, "time": event.time, "data": event.data,
    }  # fmt: skip
    if event.people:
        wire["roles"] = sorted(event.people)
    return wire
