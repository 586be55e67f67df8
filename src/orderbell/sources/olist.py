"""The Olist orders (Brazil, 2016 to 2018) as a stream of events in historical order.

The data set is "Brazilian E-Commerce Public Dataset by Olist" (Kaggle, CC BY-NC-SA 4.0: not for commercial
products), one Parquet file per table. It times five things: purchase, approval of the payment, hand-over to the
carrier, delivery, and reviews. What it knows without a time is placed here:

- the promised date is known from the purchase on;
- a `canceled` order is cancelled one day after its last known time (purchase, approval, hand-over, delivery);
- an `unavailable` order is found short of stock one day after its last known time, and cancelled after three.

Times of the data have no zone and are read as those of São Paulo: no purchase, approval, hand-over, delivery or
answer lies in an hour that summer time skipped there. The times of an order may contradict each other (handed
over before purchase): every event stands at its own time, so an order can begin with any of them.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow
from pyarrow import compute, parquet

from orderbell.core.events import (
    ORDER_NO_MAX,
    Amount,
    Cancelled,
    Data,
    Event,
    Feedback,
    OrderPlaced,
    Person,
    Promised,
    Scanned,
    Shipped,
    Stock,
)
from orderbell.errors import HistoryUnreadable

SOURCE = "olist"
TIMEZONE = "America/Sao_Paulo"
FEEDBACK_TEXT_MAX = 500
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_S = 3600
DAY_S = 24 * HOUR_S
CANCELLED_AFTER_S = DAY_S
SHORT_AFTER_S = DAY_S
UNAVAILABLE_AFTER_S = 3 * DAY_S
CHUNK_ROWS = 8192  # rows that become Python objects at a time

_TEXT = pyarrow.large_string()
_LOCAL = pyarrow.timestamp("s")
_SECONDS = pyarrow.int64()
_FILES: dict[str, dict[str, Any]] = {
    "orders": {
        "order_id": _TEXT,
        "customer_id": _TEXT,
        "order_status": _TEXT,
        "order_purchase_timestamp": _LOCAL,
        "order_approved_at": _LOCAL,
        "order_delivered_carrier_date": _LOCAL,
        "order_delivered_customer_date": _LOCAL,
        "order_estimated_delivery_date": _LOCAL,
    },
    "order_payments": {"order_id": _TEXT, "payment_value": pyarrow.float64()},
    "order_items": {"order_id": _TEXT, "order_item_id": pyarrow.int32(), "product_id": _TEXT},
    "products": {"product_id": _TEXT, "product_category_name": _TEXT},
    "category_translation": {"product_category_name": _TEXT, "product_category_name_english": _TEXT},
    "customers": {"customer_id": _TEXT, "customer_unique_id": _TEXT},
    "order_reviews": {
        "review_id": _TEXT,
        "order_id": _TEXT,
        "review_score": pyarrow.int32(),
        "review_comment_title": _TEXT,
        "review_comment_message": _TEXT,
        "review_creation_date": _LOCAL,
        "review_answer_timestamp": _LOCAL,
    },
}


class _Kind(NamedTuple):
    """What happened to an order, as it ends the event's id, and the type of the event."""

    what: str
    type: str


# In this order, where an order has several at one time.
_KINDS = (
    _Kind("placed", "order.placed"),
    _Kind("promised", "parcel.promised"),
    _Kind("paid", "payment.succeeded"),
    _Kind("shipped", "parcel.shipped"),
    _Kind("picked_up", "parcel.scanned"),
    _Kind("delivered", "parcel.scanned"),
    _Kind("short", "stock.short"),
    _Kind("cancelled", "order.cancelled"),
    _Kind("feedback", "feedback.given"),
)
_RANKS = {kind.what: rank for rank, kind in enumerate(_KINDS)}
_PLACED, _FEEDBACK = _RANKS["placed"], _RANKS["feedback"]


class _Orders(NamedTuple):
    """Columns of the orders, sorted by order number; `promise` is by order number."""

    no: list[str]
    person: list[str]
    amount_fen: list[int]
    category: list[str]
    status: list[str | None]
    promise: dict[str, Promised]


class _Reviews(NamedTuple):
    """Columns of the reviews."""

    id: list[str]
    score: list[int]
    text: list[str]


@dataclass(frozen=True)
class History:
    """Past orders: what happened, in the order in which it was heard of, and what had been promised.

    `promises` has the end of the promised day by order number, `delivered` the time of delivery; `counts` the
    number of events by type. All times are aware UTC, whole seconds.
    """

    order_count: int
    event_count: int
    first_at: datetime
    last_at: datetime
    counts: Mapping[str, int]
    promises: Mapping[str, datetime] = field(repr=False)
    delivered: Mapping[str, datetime] = field(repr=False)
    _tenant: str = field(repr=False)
    _rows: Any = field(repr=False)
    _orders: _Orders = field(repr=False)
    _reviews: _Reviews = field(repr=False)

    @property
    def events(self) -> Iterator[Event]:
        """All events by time, order number and kind, made while they are read; each call begins anew."""
        makers = _makers(self._orders, self._reviews)
        last, at = -1, EPOCH
        for batch in self._rows.to_batches(max_chunksize=CHUNK_ROWS):
            columns = (column.to_pylist() for column in batch.columns)
            for seconds, order, rank, review in zip(*columns, strict=True):
                what, type_ = _KINDS[rank]
                no = self._orders.no[order]
                name = f"{no}:{what}" if rank != _FEEDBACK else f"{no}:{what}:{self._reviews.id[review]}"
                if seconds != last:  # what happened to an order often happened in pairs
                    last, at = seconds, datetime.fromtimestamp(seconds, UTC)
                data = makers[rank](order, review)
                people = {"buyer": _buyer(self._orders.person[order])} if rank == _PLACED else None
                digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
                yield Event(self._tenant, SOURCE, name, type_, no, at, at, data, people, "", digest)

    @property
    def late(self) -> set[str]:
        """The order numbers that were delivered on a later calendar day than promised."""
        promises = self.promises
        return {no for no, at in self.delivered.items() if no in promises and at > promises[no]}


def read_olist(
    folder: Path,
    *,
    tenant: str = SOURCE,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> History:
    """Read the folder with the Parquet files of Olist; money is in 1/100 of a real.

    `limit` keeps the first orders by time of purchase, with all their events. `progress` hears after each file
    how many of how many are read. Raises HistoryUnreadable when a file or column is missing or of another form.
    """
    tables: dict[str, Any] = {}
    for done, name in enumerate(_FILES, start=1):
        tables[name] = _read_file(folder, name)
        if progress is not None:
            progress(done, len(_FILES))
    orders = _chosen_orders(tables["orders"], limit, folder)
    times = _order_times(orders)
    promised = _to_utc(_end_of_day(orders["order_estimated_delivery_date"]), fold=1)
    reviews, review_rows = _review_rows(tables["order_reviews"], orders["order_id"])
    rows = [
        _rows_of(rank, times[kind.what] if kind.what != "promised" else _where(promised, times["placed"]))
        for rank, kind in enumerate(_KINDS)
        if rank != _FEEDBACK
    ]
    sorted_rows = pyarrow.concat_tables([*rows, review_rows]).sort_by(
        [(name, "ascending") for name in ("seconds", "order", "rank", "review")]
    )
    if not sorted_rows.num_rows:
        raise HistoryUnreadable(f"{folder}: there is no order with a time in it")
    numbers: list[str] = orders["order_id"].to_pylist()
    promises = _moments(numbers, promised)
    return History(
        order_count=orders.num_rows,
        event_count=sorted_rows.num_rows,
        first_at=datetime.fromtimestamp(sorted_rows["seconds"][0].as_py(), UTC),
        last_at=datetime.fromtimestamp(sorted_rows["seconds"][-1].as_py(), UTC),
        counts=_count_types(sorted_rows["rank"]),
        promises=promises,
        delivered=_moments(numbers, times["delivered"]),
        _tenant=tenant,
        _rows=sorted_rows,
        _orders=_order_columns(orders, tables, promises),
        _reviews=reviews,
    )


def _read_file(folder: Path, name: str) -> Any:  # noqa: ANN401 - a pyarrow.Table, which has no types
    path = folder / f"{name}.parquet"
    wanted = _FILES[name]
    try:
        file = parquet.ParquetFile(path)
        missing = sorted(set(wanted) - set(file.schema_arrow.names))
        if missing:
            raise HistoryUnreadable(f"{path}: the column {missing[0]} is missing; is this the Olist data set?")
        table = file.read(columns=list(wanted)).select(list(wanted))
        return table.cast(pyarrow.schema(list(wanted.items())), safe=False).combine_chunks()
    except FileNotFoundError:
        detail = "there is no such file; give the folder that holds the Parquet files of Olist"
        raise HistoryUnreadable(f"{path}: {detail}") from None
    except (pyarrow.ArrowException, OSError) as problem:
        raise HistoryUnreadable(f"{path}: {problem}") from None


def _chosen_orders(orders: Any, limit: int | None, folder: Path) -> Any:  # noqa: ANN401 - tables
    valid = compute.match_substring_regex(orders["order_id"], rf"^[\x21-\x7e]{{1,{ORDER_NO_MAX}}}$")
    if not compute.all(compute.fill_null(valid, fill_value=False), min_count=0).as_py():
        detail = f"order_id: an order number has 1 to {ORDER_NO_MAX} printable ASCII characters"
        raise HistoryUnreadable(f"{folder / 'orders.parquet'}: {detail}")
    if limit is not None:
        first = [("order_purchase_timestamp", "ascending"), ("order_id", "ascending")]
        orders = orders.sort_by(first).slice(0, limit)
    return orders.sort_by("order_id").combine_chunks()


@cache
def _offset_s(hour: int, fold: int) -> int:
    # Offsets in São Paulo change at full hours and are whole hours since 1914.
    local = datetime(1970, 1, 1, tzinfo=ZoneInfo(TIMEZONE), fold=fold) + timedelta(hours=hour)
    offset = local.replace(fold=fold).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


def _to_utc(local: Any, fold: int = 0) -> Any:  # noqa: ANN401 - arrays
    """Local seconds since 1970 as those of UTC.

    `fold` chooses between the two meanings of an hour that summer time repeats; an hour that it skips is taken
    as if the clock had not yet been put forward (PEP 495). Only the distinct hours are looked up: some 20,000.
    """
    hours = compute.divide(local, HOUR_S).dictionary_encode()
    offsets = [None if hour is None else _offset_s(hour, fold) for hour in hours.dictionary.to_pylist()]
    return compute.subtract(local, pyarrow.array(offsets, _SECONDS).take(hours.indices))


def _local_seconds(column: Any) -> Any:  # noqa: ANN401 - arrays
    chunks = column.cast(_SECONDS)
    return chunks.combine_chunks() if isinstance(chunks, pyarrow.ChunkedArray) else chunks


def _end_of_day(column: Any) -> Any:  # noqa: ANN401 - arrays
    seconds = _local_seconds(column)
    return compute.add(compute.multiply(compute.divide(seconds, DAY_S), DAY_S), DAY_S - 1)


def _order_times(orders: Any) -> dict[str, Any]:  # noqa: ANN401 - a table
    """UTC seconds of every kind of event but promises and reviews, null where it did not happen."""
    placed, paid, handed, delivered = (
        _to_utc(_local_seconds(orders[name]))
        for name in (
            "order_purchase_timestamp",
            "order_approved_at",
            "order_delivered_carrier_date",
            "order_delivered_customer_date",
        )
    )
    last = compute.max_element_wise(placed, paid, handed, delivered)
    status = orders["order_status"].combine_chunks()
    unavailable = compute.equal(status, "unavailable")
    nothing = pyarrow.scalar(None, _SECONDS)
    given_up = compute.if_else(compute.equal(status, "canceled"), compute.add(last, CANCELLED_AFTER_S), nothing)
    return {
        "placed": placed,
        "paid": paid,
        "shipped": handed,
        "picked_up": handed,
        "delivered": delivered,
        "short": compute.if_else(unavailable, compute.add(last, SHORT_AFTER_S), nothing),
        "cancelled": compute.if_else(unavailable, compute.add(last, UNAVAILABLE_AFTER_S), given_up),
    }


def _where(known: Any, times: Any) -> Any:  # noqa: ANN401 - arrays
    return compute.if_else(compute.is_valid(known), times, pyarrow.scalar(None, _SECONDS))


def _rows_of(rank: int, times: Any) -> Any:  # noqa: ANN401 - arrays
    order = compute.indices_nonzero(compute.is_valid(times))
    return _row_table(times.take(order), order, rank, pyarrow.repeat(0, len(order)))


def _row_table(seconds: Any, order: Any, rank: int, review: Any) -> Any:  # noqa: ANN401 - arrays
    ranks = pyarrow.repeat(pyarrow.scalar(rank, pyarrow.int8()), len(seconds))
    columns = [seconds, order.cast(pyarrow.int32()), ranks, review.cast(pyarrow.int32())]
    return pyarrow.table(columns, names=["seconds", "order", "rank", "review"])


def _review_rows(reviews: Any, numbers: Any) -> tuple[_Reviews, Any]:  # noqa: ANN401 - tables
    """The reviews of the orders in `numbers` that have a time, and their rows."""
    answered = compute.coalesce(reviews["review_answer_timestamp"], reviews["review_creation_date"])
    order = compute.index_in(reviews["order_id"], value_set=numbers, skip_nulls=True)
    table = reviews.append_column("at", answered).append_column("order", order)
    known = compute.and_(compute.is_valid(answered), compute.is_valid(order))
    table = table.filter(compute.and_(known, compute.is_valid(table["review_id"]))).combine_chunks()
    title, message = table["review_comment_title"].fill_null(""), table["review_comment_message"].fill_null("")
    text = compute.binary_join_element_wise(title, message, pyarrow.scalar("\n", _TEXT))
    text = compute.utf8_slice_codeunits(compute.utf8_trim_whitespace(text), 0, FEEDBACK_TEXT_MAX)
    scores = table["review_score"].fill_null(0)
    columns = _Reviews(table["review_id"].to_pylist(), scores.to_pylist(), text.to_pylist())
    seconds = _to_utc(_local_seconds(table["at"]))
    review = pyarrow.array(range(table.num_rows), pyarrow.int32())
    return columns, _row_table(seconds, table["order"].combine_chunks(), _FEEDBACK, review)


def _order_columns(orders: Any, tables: Mapping[str, Any], promises: Mapping[str, datetime]) -> _Orders:  # noqa: ANN401
    numbers = orders["order_id"]
    payments = tables["order_payments"]
    cents = compute.round(compute.multiply(payments["payment_value"], 100)).cast(_SECONDS)
    paid = pyarrow.table([payments["order_id"], cents], names=["order_id", "cents"])
    sums = paid.group_by("order_id").aggregate([("cents", "sum")])
    items = tables["order_items"].sort_by("order_item_id")
    firsts = items.group_by("order_id", use_threads=False).aggregate([("product_id", "first")])
    product = _look_up(numbers, firsts, "order_id", "product_id_first")
    name = _look_up(product, tables["products"], "product_id", "product_category_name")
    translation = tables["category_translation"]
    category = _look_up(name, translation, "product_category_name", "product_category_name_english")
    customer = orders["customer_id"]
    person = _look_up(customer, tables["customers"], "customer_id", "customer_unique_id")
    amount = compute.max_element_wise(_look_up(numbers, sums, "order_id", "cents_sum").fill_null(0), 0)
    listed: list[str] = numbers.to_pylist()
    known = {at: Promised(by=at.isoformat()) for at in set(promises.values())}  # few days, many orders
    return _Orders(
        no=listed,
        person=compute.coalesce(person, customer, numbers).to_pylist(),
        amount_fen=amount.to_pylist(),
        category=category.fill_null("").to_pylist(),
        status=orders["order_status"].to_pylist(),
        promise={no: known[at] for no, at in promises.items()},
    )


def _look_up(keys: Any, table: Any, key: str, value: str) -> Any:  # noqa: ANN401 - columns
    """For every key the value of the row of `table` that has it, null where none has."""
    return table[value].take(compute.index_in(keys, value_set=table[key], skip_nulls=True))


def _moments(numbers: list[str], seconds: Any) -> dict[str, datetime]:  # noqa: ANN401 - an array
    encoded = seconds.dictionary_encode()
    moments = [None if at is None else datetime.fromtimestamp(at, UTC) for at in encoded.dictionary.to_pylist()]
    pairs = zip(numbers, encoded.indices.to_pylist(), strict=True)
    return {no: at for no, index in pairs if index is not None and (at := moments[index]) is not None}


def _count_types(ranks: Any) -> dict[str, int]:  # noqa: ANN401 - a column
    counts = dict.fromkeys((kind.type for kind in _KINDS), 0)
    for pair in compute.value_counts(ranks).to_pylist():
        counts[_KINDS[pair["values"]].type] += pair["counts"]
    return counts


def _makers(orders: _Orders, reviews: _Reviews) -> tuple[Callable[[int, int], Data], ...]:
    """For every kind of event, by rank: from the indices of an order and a review to the event's data."""
    shipped, picked_up = Shipped(), Scanned(phase="picked_up")
    delivered, short = Scanned(phase="delivered"), Stock()

    def place(order: int, _: int) -> OrderPlaced:
        category = orders.category[order]
        title = category.replace("_", " ")
        return OrderPlaced(amount_fen=orders.amount_fen[order], title=title, category=category)

    makers: dict[str, Callable[[int, int], Data]] = {
        "placed": place,
        "promised": lambda order, _: orders.promise[orders.no[order]],
        "paid": lambda order, _: Amount(amount_fen=orders.amount_fen[order]),
        "shipped": lambda *_: shipped,
        "picked_up": lambda *_: picked_up,
        "delivered": lambda *_: delivered,
        "short": lambda *_: short,
        "cancelled": lambda order, _: Cancelled(by="merchant", reason=orders.status[order] or ""),
        "feedback": lambda _, review: Feedback(score=reviews.score[review], text=reviews.text[review]),
    }
    return tuple(makers[kind.what] for kind in _KINDS)


def _buyer(name: str) -> Person:
    # The data has no phone numbers. Brazil has no area code 00, so these ring nowhere.
    digits = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) % 10**9
    return Person(id=name, phone=f"+5500{digits:09d}", locale="en", timezone=TIMEZONE)
