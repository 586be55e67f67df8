"""How events change the facts of an order, and what comes too late to change them."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
import pytest

from orderbell.core.events import Phase
from orderbell.core.fold import _ADVANCE, fold
from orderbell.core.model import Order, Parcel
from tests.core.samples import NOON, event, order


def folded(
    before: Order,
    kind: str,
    at_s: float = 60,
    late_s: float = 0,
    zone: str = "UTC",
    **data: Any,  # noqa: ANN401 - fields of any event
) -> Order | None:
    """The order after an event's facts; None where they came too late."""
    changes = fold(before, event(kind, at_s, late_s=late_s, **data), zone)
    return None if changes is None else msgspec.structs.replace(before, **changes)


def known(found: Order | None) -> Order:
    """An order that is certainly there."""
    assert found is not None
    return found


def test_first_word_on_an_order_counts() -> None:
    """Amount, title and category are those that were told first; the first line names the order."""
    placed = known(folded(order(), "order.placed", amount_fen=5, items=[{"title": "Tea"}], category="food"))
    assert (placed.amount_fen, placed.title, placed.category) == (5, "Tea", "food")
    again = known(folded(placed, "order.placed", amount_fen=9, title="Pot"))
    assert (again.amount_fen, again.title) == (5, "Tea")
    assert known(folded(order(), "item.received", title="Watch")).title == "Watch"
    assert known(folded(order(), "order.placed")) == order()


def test_payment_when_it_comes() -> None:
    """Money that came is the amount where none was known."""
    paid = known(folded(order(), "payment.succeeded", amount_fen=7))
    assert (paid.payment, paid.amount_fen, paid.sum_fen, paid.payment_at) == (
        "paid",
        7,
        7,
        NOON + timedelta(seconds=60),
    )
    assert known(folded(order(amount_fen=9), "payment.succeeded", amount_fen=7)).amount_fen == 9
    assert known(folded(order(), "payment.succeeded")).amount_fen == 0


@pytest.mark.parametrize(("kind", "payment"), [("payment.failed", "failed"), ("payment.expired", "expired")])
def test_payment_when_it_does_not_come(kind: str, payment: str) -> None:
    """A failure is the state of an unpaid order, and older news than the last word on it, or than money, is stale."""
    failed = known(folded(order(), kind, at_s=60))
    assert failed.payment == payment
    assert folded(failed, kind, at_s=70, late_s=30) is None
    assert folded(order(payment="paid"), kind) is None
    assert folded(order(payment="refunded"), kind) is None


def test_refund_and_what_is_older_than_it() -> None:
    """A refund is the last word on the money; an older payment or the refund's own beginning comes too late."""
    refunded = known(folded(order(payment="paid", sum_fen=9), "refund.succeeded", at_s=60))
    assert (refunded.payment, refunded.sum_fen) == ("refunded", 9)
    assert folded(refunded, "payment.succeeded", at_s=70, late_s=30) is None
    assert folded(refunded, "refund.started", at_s=70, late_s=30) is None
    assert known(folded(refunded, "refund.started", at_s=70, amount_fen=4)).sum_fen == 4
    assert known(folded(refunded, "payment.succeeded", at_s=90)).payment == "paid"
    assert known(folded(order(), "refund.started", amount_fen=4)).payment == "refunding"


@pytest.mark.parametrize(
    ("kind", "data", "field", "value"),
    [
        ("order.cancelled", {"reason": "late"}, "reason", "late"),
        ("risk.flagged", {"reason": "odd"}, "reason", "odd"),
        ("stock.short", {"title": "Tea"}, "title", "Tea"),
        ("stock.short", {}, "title", "Pot"),
        ("key.failed", {"reason": "none"}, "reason", "none"),
        ("key.failed", {}, "key", "failed"),
        ("key.issued", {}, "key", "issued"),
        ("item.offer", {"price_fen": 8}, "price_fen", 8),
        ("payout.sent", {"amount_fen": 8}, "sum_fen", 8),
        ("complaint.opened", {"text": "x" * 300}, "text", "x" * 200),
        ("link.clicked", {}, "title", "Pot"),
    ],
)
def test_single_facts(kind: str, data: dict[str, Any], field: str, value: object) -> None:
    """Each type changes its own fact."""
    assert getattr(known(folded(order(title="Pot"), kind, **data)), field) == value


def test_dates_are_those_of_the_playbooks_zone() -> None:
    """A date means the last second of that day where the shop is."""
    promised = known(folded(order(), "parcel.promised", zone="Asia/Shanghai", by="2026-03-05"))
    assert promised.promised_by == datetime(2026, 3, 5, 15, 59, 59, tzinfo=UTC)
    assert known(folded(order(), "item.expiring", until="2026-03-05")).until == datetime(
        2026, 3, 5, 23, 59, 59, tzinfo=UTC
    )


def test_every_phase_has_its_place() -> None:
    """Every phase of the vocabulary has a place on the way."""
    assert set(get_args(Phase)) == _ADVANCE.keys() - {""}


def test_parcel_is_found_by_number_or_by_being_the_only_one() -> None:
    """A scan without a number means the only parcel; a number fills one that had none."""
    shipped = known(folded(order(), "parcel.shipped", carrier="SF"))
    numbered = known(folded(shipped, "parcel.scanned", tracking_no="T1", phase="in_transit"))
    assert [parcel.tracking_no for parcel in numbered.parcels] == ["T1"]
    assert (numbered.carrier, numbered.phase, numbered.moves) == ("SF", "in_transit", 1)
    nameless = known(folded(numbered, "parcel.scanned", phase="out_for_delivery", carrier="YTO"))
    assert [(parcel.tracking_no, parcel.carrier) for parcel in nameless.parcels] == [("T1", "YTO")]
    again = known(folded(nameless, "parcel.shipped", at_s=90, tracking_no="T1"))
    assert (again.parcels[0].phase, again.parcels[0].carrier) == ("out_for_delivery", "YTO")
    unknown = known(folded(order(), "parcel.scanned", phase="pending"))
    assert unknown.parcels == (Parcel("", "", "pending", NOON + timedelta(seconds=60)),)


def test_order_is_as_far_as_its_last_parcel() -> None:
    """Of several parcels the least advanced speaks for the order; without a number a scan means a new one."""
    one = known(folded(order(), "parcel.scanned", tracking_no="T1", phase="delivered"))
    two = known(folded(one, "parcel.shipped", tracking_no="T2"))
    assert (one.phase, two.phase, len(two.parcels)) == ("delivered", "", 2)
    three = known(folded(two, "parcel.scanned", phase="in_transit"))
    assert len(three.parcels) == 3
    done = known(folded(two, "parcel.scanned", tracking_no="T2", phase="delivered"))
    assert done.phase == "delivered"


def test_scan_when_older_or_after_the_end() -> None:
    """A scan with an older time, or of the road after the end of it, is stale; a return is not."""
    moving = known(folded(order(), "parcel.scanned", tracking_no="T1", phase="in_transit"))
    assert folded(moving, "parcel.scanned", at_s=90, late_s=60, tracking_no="T1", phase="picked_up") is None
    done = known(folded(moving, "parcel.scanned", at_s=90, tracking_no="T1", phase="delivered"))
    assert folded(done, "parcel.scanned", at_s=95, tracking_no="T1", phase="in_transit") is None
    assert known(folded(done, "parcel.scanned", at_s=95, tracking_no="T1", phase="returning")).phase == "returning"
    assert known(folded(done, "parcel.scanned", at_s=95, tracking_no="T1", phase="returned")).phase == "returned"


@pytest.mark.parametrize(
    ("until", "days", "zone", "found"),
    [
        (datetime(2026, 3, 7, 22, 59, 59, tzinfo=UTC), 2, "Europe/Berlin", datetime(2026, 3, 9, 22, 59, 59, tzinfo=UTC)),
        (datetime(2026, 3, 28, 22, 59, 59, tzinfo=UTC), 1, "Europe/Berlin", datetime(2026, 3, 29, 21, 59, 59, tzinfo=UTC)),
        (datetime(2026, 10, 24, 21, 59, 59, tzinfo=UTC), 1, "Europe/Berlin", datetime(2026, 10, 25, 22, 59, 59, tzinfo=UTC)),
        (datetime(2026, 3, 28, 22, 59, 59, tzinfo=UTC), 1, "UTC", datetime(2026, 3, 29, 22, 59, 59, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_extension_goes_by_the_calendar(until: datetime, days: int, zone: str, found: datetime) -> None:
    """A consignment is longer by days, not by hours: it still ends with the day when the clocks change."""
    extended = known(folded(order(until=until), "choice.made", zone=zone, option="extend", days=days))
    assert extended.until == found


def test_extension_when_there_is_nothing_to_extend() -> None:
    """Without an end, without days, or with another choice nothing moves; nor does the end of all time."""
    ends = order(until=NOON)
    assert known(folded(order(), "choice.made", option="extend", days=3)).until is None
    assert known(folded(ends, "choice.made", option="extend")) == ends
    assert known(folded(ends, "choice.made", option="refund", days=3)) == ends
    last = order(until=datetime.max.replace(tzinfo=UTC))
    assert known(folded(last, "choice.made", option="extend", days=3)) == last


def test_refund_of_a_part_leaves_the_rest_owed() -> None:
    """A part that was paid back moves money and nothing else: the rest is still owed in goods."""
    before = order(payment="paid", amount_fen=100)
    assert known(folded(before, "refund.succeeded", amount_fen=40)) == msgspec.structs.replace(before, sum_fen=40)


def test_expired_item_has_no_end_to_wait_for() -> None:
    """What has expired does not expire again."""
    assert known(folded(order(until=NOON), "item.expired")).until is None
