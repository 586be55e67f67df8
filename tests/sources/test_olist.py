"""The Olist history: the real data set, and small files of our own with its quirks."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pyarrow
import pytest
from pyarrow import parquet

from orderbell.core.events import Event, Feedback, OrderPlaced, Promised, Scanned, encode_json, parse_event
from orderbell.errors import HistoryUnreadable
from orderbell.sources.olist import History, read_olist

OLIST = Path(__file__).resolve().parents[3] / "shared" / "data" / "olist"
ORDER_TIMES = ("purchase_timestamp", "approved_at", "delivered_carrier_date", "delivered_customer_date")
Row = dict[str, Any]


@pytest.fixture(scope="module")
def real() -> History:
    """The whole data set."""
    if not OLIST.is_dir():
        pytest.skip(f"the Olist data set is not in {OLIST}")
    return read_olist(OLIST)


@pytest.fixture(scope="module")
def real_events(real: History) -> list[Event]:
    """All its events."""
    return list(real.events)


def order(no: str, *times: str, status: str = "delivered", promised: str | None = "2018-01-20") -> Row:
    """One row of the orders; empty times are null."""
    row: Row = {"order_id": no, "customer_id": f"c-{no}", "order_status": status}
    for name, text in zip(ORDER_TIMES, (*times, "", "", "", ""), strict=False):
        row[f"order_{name}"] = datetime.fromisoformat(text) if text else None
    row["order_estimated_delivery_date"] = datetime.fromisoformat(promised) if promised else None
    return row


def review(no: str, id: str, score: int, answered: str = "", *, created: str = "", text: str | None = None) -> Row:
    """One row of the reviews; empty times are null."""
    return {
        "review_id": id,
        "order_id": no,
        "review_score": score,
        "review_comment_title": None,
        "review_comment_message": text,
        "review_creation_date": datetime.fromisoformat(created) if created else None,
        "review_answer_timestamp": datetime.fromisoformat(answered) if answered else None,
    }


def write(folder: Path, orders: list[Row], **others: list[Row]) -> Path:
    """Write the seven files; what is not given has no rows."""
    text, moment = pyarrow.large_string(), pyarrow.timestamp("us")
    schemas: dict[str, dict[str, Any]] = {
        "orders": dict.fromkeys(order("")) | {f"order_{name}": moment for name in ORDER_TIMES},
        "order_payments": {"order_id": text, "payment_value": pyarrow.float64()},
        "order_items": {"order_id": text, "order_item_id": pyarrow.int32(), "product_id": text},
        "products": {"product_id": text, "product_category_name": text},
        "category_translation": {"product_category_name": text, "product_category_name_english": text},
        "customers": {"customer_id": text, "customer_unique_id": text},
        "order_reviews": dict.fromkeys(review("", "", 0)) | {"review_score": pyarrow.int8()},
    }
    for name, schema in schemas.items():
        typed = {column: kind or (moment if "date" in column or "timestamp" in column else text)
                 for column, kind in schema.items()}  # fmt: skip
        rows = orders if name == "orders" else others.get(name, [])
        table = pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(list(typed.items())))
        parquet.write_table(table, folder / f"{name}.parquet")
    return folder


def told(history: History) -> list[tuple[str, str]]:
    """What happened and when, in order, without the order number."""
    return [(event.id.split(":", 1)[1], event.time.isoformat()[:16]) for event in history.events]


def as_wire(event: Event) -> bytes:
    """The event as a shop would have sent it."""
    data: Mapping[str, object] = msgspec.json.decode(msgspec.json.encode(event.data))
    people = {"people": event.people} if event.people else {}
    return encode_json(
        {
            "specversion": "1.0",
            "id": event.id,
            "source": event.source,
            "type": event.type,
            "subject": event.order_no,
            "time": event.time,
            "playbook": event.playbook,
            "data": {**data, **people},
        }
    )


def test_real_history_has_every_timed_event(real: History) -> None:
    """Counts agree with the facts that were computed from the files themselves."""
    assert real.order_count == len(real.promises) == 99_441
    assert real.counts == {
        "order.placed": 99_441,
        "parcel.promised": 99_441,
        "payment.succeeded": 99_441 - 160,
        "parcel.shipped": 97_658,
        "parcel.scanned": 97_658 + 96_476,
        "stock.short": 609,
        "order.cancelled": 625 + 609,
        "feedback.given": 99_224 - 17,
    }
    assert real.event_count == sum(real.counts.values())
    assert len(real.delivered) == 96_476


def test_real_lateness_is_by_calendar_day(real: History) -> None:
    """The orders that came on a later day than promised are found, neither more nor fewer."""
    assert len(real.late) == 6_535


def test_real_events_come_in_order_and_once(real: History, real_events: list[Event]) -> None:
    """Time never runs back, no id comes twice, and only the purchase brings people."""
    events = real_events
    assert len(events) == real.event_count
    assert len({event.id for event in events}) == len(events)
    assert all(a.time <= b.time for a, b in pairwise(events))
    assert (events[0].time, events[-1].time) == (real.first_at, real.last_at)
    assert Counter(event.type for event in events) == real.counts
    assert {event.type for event in events if event.people} == {"order.placed"}
    assert {event.playbook for event in events} == {""}
    assert all(event.time == event.received_at for event in events)


def test_real_events_pass_the_front_door(real_events: list[Event]) -> None:
    """Every hundredth event, sent over the wire, is read back as it was but for its hash."""
    for event in real_events[::100]:
        again = parse_event(as_wire(event), "olist", event.received_at)
        assert isinstance(again, Event), again
        assert msgspec.structs.replace(again, body_hash=event.body_hash) == event


def test_limit_keeps_the_first_orders_with_all_their_events(real_events: list[Event]) -> None:
    """The first N orders by purchase come with the very events they have in the whole history."""
    few = read_olist(OLIST, limit=50)
    assert few.order_count == 50
    numbers = set(few.promises)
    assert list(few.events) == [event for event in real_events if event.order_no in numbers]
    first = sorted((e.time, e.order_no) for e in real_events if e.type == "order.placed")[:50]
    assert {no for _, no in first} == numbers


def test_plain_order_becomes_its_events(tmp_path: Path) -> None:
    """Money is summed in hundredths, the first item names the order, and local times become UTC."""
    folder = write(
        tmp_path,
        [order("a", "2018-01-02 10:00", "2018-01-02 11:00", "2018-01-03 09:00", "2018-01-20 23:30")],
        order_payments=[{"order_id": "a", "payment_value": value} for value in (0.07, 19.99)],
        order_items=[
            {"order_id": "a", "order_item_id": 2, "product_id": "p2"},
            {"order_id": "a", "order_item_id": 1, "product_id": "p1"},
        ],
        products=[
            {"product_id": "p1", "product_category_name": "beleza_saude"},
            {"product_id": "p2", "product_category_name": "automotivo"},
        ],
        category_translation=[
            {"product_category_name": "beleza_saude", "product_category_name_english": "health_beauty"},
            {"product_category_name": "automotivo", "product_category_name_english": "auto"},
        ],
        customers=[{"customer_id": "c-a", "customer_unique_id": "somebody"}],
        order_reviews=[review("a", "r1", 5, "2018-01-21 08:00", text="Muito bom")],
    )
    history = read_olist(folder, tenant="shop")
    assert told(history) == [
        ("placed", "2018-01-02T12:00"),
        ("promised", "2018-01-02T12:00"),
        ("paid", "2018-01-02T13:00"),
        ("shipped", "2018-01-03T11:00"),
        ("picked_up", "2018-01-03T11:00"),
        ("delivered", "2018-01-21T01:30"),
        ("feedback:r1", "2018-01-21T10:00"),
    ]
    events = list(history.events)
    assert events == list(history.events)
    assert events[0].data == OrderPlaced(amount_fen=2006, title="health beauty", category="health_beauty")
    assert events[1].data == Promised(by="2018-01-21T01:59:59+00:00")
    assert events[4].data == Scanned(phase="picked_up")
    assert events[6].data == Feedback(score=5, text="Muito bom")
    assert {event.tenant for event in events} == {"shop"}
    assert events[2].body_hash == hashlib.blake2b(b"a:paid", digest_size=16).digest()
    buyer = (events[0].people or {})["buyer"]
    assert (buyer.id, buyer.timezone, buyer.phone[:5], len(buyer.phone)) == (
        "somebody", "America/Sao_Paulo", "+5500", 14,
    )  # fmt: skip
    assert history.late == set()


def test_contradicting_times_stand_as_they_are(tmp_path: Path) -> None:
    """An order handed over before its purchase begins with its parcel."""
    folder = write(
        tmp_path, [order("a", "2018-01-02 10:00", "2018-01-05 11:00", "2018-01-01 09:00", "2018-01-01 08:00")]
    )
    assert [what for what, _ in told(read_olist(folder))] == [
        "delivered", "shipped", "picked_up", "placed", "promised", "paid",
    ]  # fmt: skip


def test_orders_that_were_given_up_are_placed_in_time(tmp_path: Path) -> None:
    """Cancellation follows the last known time by a day; a shortage does, and its cancellation by three."""
    folder = write(
        tmp_path,
        [
            order("a", "2018-01-02 10:00", "2018-01-03 10:00", status="canceled"),
            order("b", "2018-01-02 10:00", status="unavailable"),
            order("c", "2018-01-01 10:00", "", "", "2018-01-04 10:00", status="canceled"),
        ],
    )
    events = [event for event in read_olist(folder).events if event.type in ("order.cancelled", "stock.short")]
    assert [(event.id, event.time.isoformat()[:16]) for event in events] == [
        ("b:short", "2018-01-03T12:00"),
        ("a:cancelled", "2018-01-04T12:00"),
        ("b:cancelled", "2018-01-05T12:00"),
        ("c:cancelled", "2018-01-05T12:00"),
    ]
    assert [getattr(event.data, "reason", "") for event in events] == ["", "canceled", "unavailable", "canceled"]


def test_order_without_anything_else_is_an_order(tmp_path: Path) -> None:
    """Without items, payments, customer, promise and approval an order is still placed, worth nothing."""
    history = read_olist(write(tmp_path, [order("a", "2018-01-02 10:00", status="created", promised=None)]))
    (event,) = history.events
    assert event.data == OrderPlaced()
    assert (event.people or {})["buyer"].id == "c-a"
    assert (dict(history.promises), dict(history.delivered)) == ({}, {})


def test_reviews_without_a_time_or_an_order_are_left_out(tmp_path: Path) -> None:
    """Several reviews of an order all count; the day of the survey stands in for a missing answer."""
    folder = write(
        tmp_path,
        [order("a", "2018-01-02 10:00", promised=None)],
        order_reviews=[
            review("a", "r1", 1, "2018-02-02 10:00", text="x" * 900),
            review("a", "r2", 2, created="2018-02-01"),
            review("a", "r3", 3),
            review("z", "r4", 4, "2018-02-02 10:00"),
        ],
    )
    history = read_olist(folder)
    assert told(history)[1:] == [("feedback:r2", "2018-02-01T02:00"), ("feedback:r1", "2018-02-02T12:00")]
    assert [len(event.data.text) for event in history.events if isinstance(event.data, Feedback)] == [0, 500]


def test_summer_time_breaks_nothing(tmp_path: Path) -> None:
    """A skipped hour and a repeated one are read; a promise lasts to the second end of a repeated day."""
    folder = write(
        tmp_path,
        [
            order("a", "2017-10-15 00:30", promised="2018-02-17"),  # 00:00 to 00:59 did not exist
            order("b", "2018-02-17 23:30", "", "", "2018-02-17 23:59:59", promised="2018-02-17"),
            order("c", "2018-02-17 23:30", "", "", "2018-02-18 00:00", promised="2018-02-17"),
        ],
    )
    history = read_olist(folder)
    assert history.first_at == datetime(2017, 10, 15, 3, 30, tzinfo=UTC)
    assert history.promises["b"] == datetime(2018, 2, 18, 2, 59, 59, tzinfo=UTC)
    assert history.delivered["b"] == datetime(2018, 2, 18, 1, 59, 59, tzinfo=UTC)
    assert history.late == {"c"}


def test_equal_times_are_in_order_of_number_and_kind(tmp_path: Path) -> None:
    """The order of rows in the files changes nothing."""
    moment = "2018-01-02 10:00"
    rows = [order(no, moment, moment) for no in ("b", "a")]
    history = read_olist(write(tmp_path, rows))
    assert [event.id for event in history.events] == [
        "a:placed", "a:promised", "a:paid", "b:placed", "b:promised", "b:paid",
    ]  # fmt: skip


def test_progress_hears_of_every_file(tmp_path: Path) -> None:
    """The progress goes from one to all files."""
    heard: list[tuple[int, int]] = []
    read_olist(write(tmp_path, [order("a", "2018-01-02 10:00")]), progress=lambda *news: heard.append(news))
    assert heard == [(done, 7) for done in range(1, 8)]


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda folder: (folder / "customers.parquet").unlink(), "customers.parquet: there is no such file"),
        (lambda folder: (folder / "products.parquet").write_bytes(b"no"), "products.parquet"),
        (
            lambda folder: parquet.write_table(pyarrow.table({"a": [1]}), folder / "orders.parquet"),
            "the column customer_id is missing",
        ),
        (lambda folder: write(folder, [order("a b", "2018-01-02 10:00")]), "an order number has"),
        (lambda folder: write(folder, []), "there is no order"),
    ],
)
def test_unreadable_folder_says_what_is_wrong(tmp_path: Path, spoil: Any, word: str) -> None:  # noqa: ANN401 - a lambda
    """A missing or foreign file is one clear error that names it."""
    spoil(write(tmp_path, [order("a", "2018-01-02 10:00")]))
    with pytest.raises(HistoryUnreadable, match=word):
        read_olist(tmp_path)
