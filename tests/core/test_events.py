"""Reading events: whatever comes in, every item has one answer, and a refusal names what is wrong."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderbell.core.events import (
    BATCH_MAX,
    DATA_TYPES,
    EVENT_BYTES_MAX,
    FIELD_MAX,
    INSIDE_TYPES,
    LENIENT_BYTES_MAX,
    Amount,
    Answer,
    Event,
    Person,
    Promised,
    Status,
    parse_events,
    read_moment,
    wire_of,
)

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def wire(kind: str = "payment.failed", data: str = "{}", **changes: object) -> bytes:
    """Make an event as it comes in; `data` is JSON, or what pretends to be."""
    head = {"id": "e1", "source": "shop", "type": kind, "subject": "A1", **changes}
    return json.dumps(head).encode()[:-1] + b',"data":' + data.encode() + b"}"


def read(body: bytes) -> Event | Answer:
    """Read a body with one event."""
    (item,) = parse_events(body, "acme", NOON)
    return item


def taken(body: bytes) -> Event:
    """Read an event that must be taken."""
    item = read(body)
    assert isinstance(item, Event), item
    return item


def refused(body: bytes) -> Answer:
    """Read an event that must be refused."""
    item = read(body)
    assert isinstance(item, Answer), item
    assert item.status is Status.REFUSED
    assert item.detail
    return item


def test_event_as_it_should_be() -> None:
    """Everything that the envelope and the data say must be in the event."""
    data = '{"amount_fen":990,"people":{"buyer":{"phone":"+86 138-0013-8000","tier":"vip"}}}'
    event = taken(wire("payment.succeeded", data, time="2026-03-02T18:00:00+08:00", playbook="retail"))
    assert event.key == ("acme", "shop", "e1")
    assert event.order_key == ("acme", "A1")
    assert (event.time, event.received_at) == (NOON - timedelta(hours=2), NOON)
    assert event.data == Amount(amount_fen=990)
    assert event.people == {"buyer": Person(phone="+86 138-0013-8000", tier="vip")}
    assert event.playbook == "retail"


@pytest.mark.parametrize("kind", sorted(DATA_TYPES))
def test_every_type_but_those_inside_is_taken(kind: str) -> None:
    """Every canonical type can be told by a shop, except those that only OrderBell says."""
    fields = {
        "phase": "delivered", "by": "2026-03-05", "price_fen": 1, "until": "2026-03-05T00:00:00Z", "option": "wait",
        "text": "hi", "name": "x", "outcome": "delivered",
    }  # fmt: skip
    if kind.startswith("order."):
        fields["by"] = "buyer"
    item = read(wire(kind, json.dumps(fields)))
    if kind in INSIDE_TYPES:
        assert isinstance(item, Answer)
        assert (item.reason, item.field) == ("reserved", "type")
    else:
        assert isinstance(item, Event), item


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        (b"1", "wrong_value", ""),
        (b"null", "wrong_value", ""),
        (b'"event"', "wrong_value", ""),
        (b"[[]]", "wrong_value", ""),
        (b'{"id":"e1","source":"s","type":"order.placed"}', "missing_field", "subject"),
        (b'{"source":"s","type":"order.placed","subject":"A1"}', "missing_field", "id"),
        (wire(subject=1), "wrong_value", "subject"),
        (wire(subject=""), "wrong_value", "subject"),
        (wire(subject="A\n1"), "bad_order_no", "subject"),
        (wire(subject="A\x001"), "bad_order_no", "subject"),
        (wire(subject="订单"), "bad_order_no", "subject"),
        (wire(subject=" A1"), "bad_order_no", "subject"),
        (wire(subject="x" * 37), "bad_order_no", "subject"),
        (wire(id=""), "wrong_value", "id"),
        (wire(id="x" * 201), "wrong_value", "id"),
        (wire(id="e\n1"), "wrong_value", "id"),
        (wire(source="s\x7f"), "wrong_value", "source"),
        (wire(source="orderbell"), "reserved", "source"),
        (wire(playbook="a\tb"), "wrong_value", "playbook"),
        (wire(specversion="0.3"), "wrong_value", "specversion"),
        (wire(data_base64="e30="), "wrong_value", "data_base64"),
        (wire("no.such"), "unknown_type", "type"),
        (wire(time=1), "wrong_value", "time"),
        (wire(time="yesterday"), "wrong_value", "time"),
        (wire(time="2026-03-02T10:00:00"), "wrong_value", "time"),
        (wire(time="0001-01-01T00:00:00+14:00"), "wrong_value", "time"),
        (wire(time="9999-12-31T23:59:59-14:00"), "time_in_future", "time"),
        (wire(time="2026-03-03T12:00:01Z"), "time_in_future", "time"),
        (wire(data="null"), "wrong_value", "data"),
        (wire(data="[]"), "wrong_value", "data"),
        (wire(data='{"reason":1}'), "wrong_value", "data.reason"),
        (wire(data='{"reason":"%s"}' % ("x" * 201)), "wrong_value", "data.reason"),
        (wire(data='{"reason":"a\\u0000b"}'), "wrong_value", "data.reason"),
        (wire(data='{"reason":"\\ud83d"}'), "wrong_value", "data.reason"),
        (wire(data='{"reason":NaN}'), "not_a_number", "data.reason"),
        (wire(data='{"x":[{"y":[1,{},Infinity]}]}'), "not_a_number", "data.x[0].y[2]"),
        (wire("payment.succeeded", '{"amount_fen":-1}'), "wrong_value", "data.amount_fen"),
        (wire("payment.succeeded", '{"amount_fen":1.0}'), "wrong_value", "data.amount_fen"),
        (wire("payment.succeeded", '{"amount_fen":"1"}'), "wrong_value", "data.amount_fen"),
        (wire("payment.succeeded", '{"amount_fen":true}'), "wrong_value", "data.amount_fen"),
        (wire("payment.succeeded", '{"amount_fen":1e999}'), "wrong_value", "data.amount_fen"),
        (wire("payment.succeeded", '{"amount_fen":-Infinity}'), "not_a_number", "data.amount_fen"),
        (wire("payment.succeeded", '{"amount_fen":1%s}' % ("0" * 400)), "wrong_value", "data.amount_fen"),
        (wire("payment.succeeded", '{"amount_fen":1%s}' % ("0" * 5_000)), "wrong_value", "data.amount_fen"),
        (wire("parcel.scanned", "{}"), "missing_field", "data.phase"),
        (wire("parcel.scanned", '{"phase":"lost in space"}'), "wrong_value", "data.phase"),
        (wire("parcel.promised", '{"by":"2026-13-01"}'), "wrong_value", "data.by"),
        (wire("parcel.promised", '{"by":"2026-03-05T10:00:00"}'), "wrong_value", "data.by"),
        (wire("parcel.promised", '{"by":"0001-01-01T00:00:00+14:00"}'), "wrong_value", "data.by"),
        (wire("item.expiring", '{"until":"9999-12-31"}'), "wrong_value", "data.until"),
        (wire(data='{"people":{"buyer":{"phone":"call me"}}}'), "wrong_value", "data.people[...].phone"),
        (wire(data='{"people":{"buyer":{"email":"@"}}}'), "wrong_value", "data.people[...].email"),
        (wire(data='{"people":{"buyer":{"fon":"1"}}}'), "wrong_value", "data.people[...].fon"),
        (wire(data='{"people":{"buyer":{"quiet":"25:00-26:00"}}}'), "wrong_value", "data.people[...].quiet"),
        (wire(data='{"people":{"a\\u0000b":{"id":"x"}}}'), "wrong_value", "data.people.a\0b"),
        (wire(data='{"reason":"%s"}' % ("x" * 10**6)), "too_large", ""),
    ],
)  # fmt: skip
def test_event_refused(body: bytes, reason: str, field: str) -> None:
    """What is wrong with an event must be named, and must not stop its neighbours in a list."""
    answer = refused(body)
    assert (answer.reason, answer.field) == (reason, field)
    items = parse_events(b"[" + b",".join([wire(id="a"), body, wire(id="b")]) + b"]", "acme", NOON)
    assert [item.id for item in items if isinstance(item, Event)] == ["a", "b"]
    assert items[1] == answer


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b" \r\n", "not_json"),
        (b"not json", "not_json"),
        (b"{'id':1}", "not_json"),
        (b"[" + wire(), "not_json"),
        (wire() + wire(), "not_json"),
        (b"\xef\xbb\xbf" + wire(), "not_json"),
        (wire().decode().encode("utf-16"), "not_json"),
        (wire(data='{"reason":"a\nb"}'), "not_json"),
        (wire(id="X").replace(b"X", b"\xff"), "not_json"),
        (b"[" + b"[" * 100_000 + b"]" * 100_001, "too_deep"),
        (wire(data="[" * 100_000 + "]" * 100_000), "too_deep"),
        (b"[NaN," + b"1," * LENIENT_BYTES_MAX, "not_json"),
        (b"[" + b"1," * BATCH_MAX + b"1]", "batch_too_long"),
        (b"[" + b"NaN," * BATCH_MAX + b"1]", "batch_too_long"),
        (b"[" + b",".join([wire()] * 10_000) + b"]", "batch_too_long"),
    ],
)
def test_body_refused(body: bytes, reason: str) -> None:
    """A body in which no item can be told from another is one refusal without an id."""
    answer = refused(body)
    assert (answer.id, answer.reason) == ("", reason)


def test_text_that_is_no_utf_8_stops_nobody_else() -> None:
    """Bytes that are no UTF-8 inside a text must refuse their event only."""
    bad = wire(data='{"reason":"X"}').replace(b"X", b"\xff")
    items = parse_events(b"[" + wire() + b"," + bad + b"]", "acme", NOON)
    assert [type(item) for item in items] == [Event, Answer]
    assert isinstance(items[1], Answer)
    assert (items[1].id, items[1].reason, items[1].field) == ("e1", "not_json", "data")


def test_refusal_that_quotes_deceiving_text() -> None:
    """A value that looks like the words of the reader's own errors must deceive nobody."""
    for value in ("missing required field", "x - at `$.subject`", "Object missing required field `id`"):
        answer = refused(wire(data=json.dumps({"people": {"buyer": {"frequency": value}}})))
        assert (answer.reason, answer.field) == ("wrong_value", "data.people[...].frequency")


def test_refusal_is_short() -> None:
    """What a refusal quotes from the event must be cut."""
    for data in (
        {"people": {"buyer": {"frequency": "x" * 100_000}}},
        {"people": {"buyer": {"x" * 100_000: 1}}},
    ):
        assert len(msgspec.json.encode(refused(wire(data=json.dumps(data))))) < 1_000
    deep = '{"%s":' % ("k" * 3_000) * 50 + "NaN" + "}" * 50
    assert len(refused(wire(data=deep)).field) <= FIELD_MAX


def test_refusal_with_half_a_character_can_be_written() -> None:
    """An id or a name with half a surrogate pair must come back as something that is JSON."""
    for body in (b'{"id":"\\ud800","x":NaN}', b'{"id":"\\ud800"}', b'{"id":"e1","\\udfff":1}'):
        answer = refused(body)
        assert msgspec.json.decode(msgspec.json.encode(answer), type=Answer) == answer


def test_lenient_reading_of_what_is_nested_deeply() -> None:
    """An item that can be read but not be written again must be refused, not raise."""
    outcomes = set()
    for depth in range(800, 1_000):
        body = b"[NaN," + wire(data='{"x":' + "[" * depth + "]" * depth + "}") + b"]"
        outcomes |= {"taken" if isinstance(item, Event) else item.reason for item in parse_events(body, "acme", NOON)}
    assert outcomes <= {"taken", "not_a_number", "not_json", "too_deep"}


def test_names_that_come_twice() -> None:
    """Of a name that an object holds twice the last value must count, in the envelope and in the data."""
    event = taken(
        b'{"id":"a","id":"b","source":"s","type":"payment.succeeded","subject":"A1","subject":"A2",'
        b'"data":{"amount_fen":1,"amount_fen":2}}'
    )
    assert (event.id, event.order_no, event.data) == ("b", "A2", Amount(amount_fen=2))


def test_what_nobody_knows_is_passed_over() -> None:
    """Extension attributes and unknown fields of the data must do no harm."""
    event = taken(wire("payment.succeeded", '{"amount_fen":5,"colour":"red"}', traceparent="00-1", time=None))
    assert event.data == Amount(amount_fen=5)
    assert event.time == NOON


def test_text_about_an_escape_is_taken() -> None:
    """Text that merely spells out the escape of U+0000 holds no U+0000."""
    event = taken(wire("complaint.opened", r'{"text":"\\u0000"}'))
    assert getattr(event.data, "text", "") == r"\u0000"


def test_empty_list() -> None:
    """Nothing sent must be nothing answered."""
    assert parse_events(b"[]", "acme", NOON) == []


def test_event_of_the_greatest_size() -> None:
    """An event of exactly the greatest size must be taken, one byte more must not."""
    body = wire(filler="x" * (EVENT_BYTES_MAX - len(wire(filler=""))))
    assert len(body) == EVENT_BYTES_MAX
    assert isinstance(read(body), Event)
    assert refused(body.replace(b'"x', b'"xx', 1)).reason == "too_large"


def test_time_of_a_shop_whose_clock_is_fast() -> None:
    """A time a little ahead must count as now, because nothing can have happened later than we heard of it."""
    assert taken(wire(time="2026-03-02T12:10:00Z")).time == NOON
    assert taken(wire(time="2026-03-03T12:00:00Z")).time == NOON


def test_body_hash() -> None:
    """The hash must be the same for the same event however it is written, and another for another body."""
    one = taken(b'{"id":"e1","source":"s","type":"payment.succeeded","subject":"A1","data":{"amount_fen":1}}')
    same = taken(b'{ "data":{"amount_fen":1, "x":2}, "subject":"A1","type":"payment.succeeded","id":"e1","source":"s"}')
    other = taken(b'{"id":"e1","source":"s","type":"payment.succeeded","subject":"A1","data":{"amount_fen":2}}')
    assert one.body_hash == same.body_hash
    assert one.body_hash != other.body_hash
    assert len(one.body_hash) == 16


def test_moments() -> None:
    """A date must mean its last second where it is told, an instant itself, and both must have a plausible year."""
    shanghai = ZoneInfo("Asia/Shanghai")
    assert read_moment("2026-03-05", shanghai) == datetime(2026, 3, 5, 15, 59, 59, tzinfo=UTC)
    assert read_moment("2026-03-05T10:00:00+08:00", UTC) == datetime(2026, 3, 5, 2, tzinfo=UTC)
    for text in ("1969-12-31", "2200-01-01", "0001-01-01T00:00:00+14:00", "2026-03-05T10:00:00", "2026-02-30", "soon"):
        with pytest.raises(ValueError, match=r"."):
            read_moment(text, shanghai)
    assert Promised(by="2026-03-05").by == "2026-03-05"


@given(day=st.dates(date(1970, 1, 1), date(2199, 12, 31)), hours=st.integers(-14, 14))
def test_moment_taken_at_the_door_is_good_everywhere(day: date, hours: int) -> None:
    """A date that the door lets in must be readable in every zone that a playbook may name."""
    assert read_moment(day.isoformat(), timezone(timedelta(hours=hours))).tzinfo is UTC


def test_journal_form_without_endpoints() -> None:
    """What the journal keeps must name the roles of the people, not their phones."""
    event = taken(wire(data='{"people":{"seller":{"phone":"13800138000"},"buyer":{"email":"a@b.cn"}}}'))
    assert wire_of(event)["roles"] == ["buyer", "seller"]
    assert b"13800138000" not in msgspec.json.encode(wire_of(event))
    assert "roles" not in wire_of(taken(wire()))


def check(body: bytes) -> None:
    """What must hold of any bytes."""
    items = parse_events(body, "acme", NOON)
    for item in items:
        if isinstance(item, Event):
            assert item.order_no.isprintable()
            assert item.time <= NOON
            encoded = msgspec.json.encode(wire_of(item))
        else:
            assert item.status is Status.REFUSED
            assert item.reason
            assert item.detail
            assert len(item.detail) <= 300
            encoded = msgspec.json.encode(item)
        json.loads(encoded.decode())
    if not body.lstrip().startswith(b"["):
        assert len(items) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(sorted(DATA_TYPES)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("by", "until", "phase", "amount_fen", "people", "items", "text", "reason", "score", "price_fen", "option")


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(body: bytes) -> None:
    """No bytes may raise, and every answer must be proper JSON."""
    check(body)


@given(tree=JSON, ascii_only=st.booleans())
def test_any_json_is_answered(tree: object, ascii_only: bool) -> None:
    """No JSON may raise, whether it is an event, a list or neither."""
    check(json.dumps(tree, ensure_ascii=ascii_only).encode(errors="surrogatepass"))


@st.composite
def near_events(draw: st.DrawFn) -> dict[str, Any]:
    """Make something like an event: each part right or anything at all."""
    moment = st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
    data = JSON | st.dictionaries(st.sampled_from(FIELDS), JSON | moment, max_size=4)
    parts = {
        "id": st.text(min_size=1, max_size=9), "source": st.just("shop"), "type": st.sampled_from(sorted(DATA_TYPES)),
        "subject": st.text("AZ09-", min_size=1, max_size=9), "time": moment, "data": data,
    }  # fmt: skip
    bent = draw(st.sets(st.sampled_from(sorted(parts)), max_size=2))
    return {name: draw(JSON if name in bent else part) for name, part in parts.items()}


@given(events=st.lists(near_events(), max_size=5), cut=st.integers(-3, 0))
def test_anything_like_events_is_answered(events: list[dict[str, Any]], cut: int) -> None:
    """Lists of events and what only looks like events must be answered item for item."""
    body = json.dumps(events).encode()
    check(body)
    assert len(parse_events(body, "acme", NOON)) == len(events)
    check(body[: len(body) + cut])
