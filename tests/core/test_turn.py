"""One turn: batches, timers between events, people, projections, and what a failing decision leaves behind."""

from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import pytest

from orderbell.core import turn as subject
from orderbell.core.decide import decide
from orderbell.core.events import Event, Person
from orderbell.core.model import Contact, Decision, Order, Party, Reason
from orderbell.core.playbook import Playbook
from orderbell.core.turn import Key, Shelf, Turn, contact_id, contact_keys, merge_contact, refuse_stray, run_turn
from tests.core.samples import NOON, event, playbook

BOOK = playbook()
ANN = {"buyer": {"phone": "+86 138 1234"}}
A1 = ("acme", "A1")


def turned(
    *events: Event,
    orders: dict[Key, Order] | None = None,
    contacts: dict[Key, Contact] | None = None,
    book: Playbook = BOOK,
    until: datetime | None = None,
) -> Turn:
    """A turn over these events."""
    shelves = {"acme": Shelf({"small": book}, "small")}
    return run_turn(shelves, events, orders or {}, contacts or {}, due=sorted(orders or {}), until=until)


def kinds(turn: Turn) -> list[tuple[str, Reason]]:
    """The journal in short."""
    return [(entry.event.type, entry.verdict) for entry in turn.entries]


def test_turn_creates_order_and_contact() -> None:
    """The first event of an order and the first word of a person make new rows."""
    turn = turned(event("order.placed", people=ANN), event("payment.succeeded", 1, people=ANN))
    name = contact_id("A1", "buyer", Person(phone="861381234"))
    assert (turn.created, turn.new_contacts) == ({A1}, {("acme", name)})
    assert turn.orders[A1].version == 2
    assert [notice.contact for notice in turn.notices] == [name]
    again = turned(event("link.clicked", 2, people=ANN), orders=turn.orders, contacts=turn.contacts)
    assert (again.created, again.new_contacts, again.contacts) == (set(), set(), {})


def test_timer_fires_before_a_later_event() -> None:
    """What fell due before an event was heard comes first, at its own time."""
    turn = turned(event("order.placed"), event("payment.succeeded", 3600))
    assert [(entry.event.type, entry.at - NOON) for entry in turn.entries] == [
        ("order.placed", timedelta(0)), ("timer.due", timedelta(minutes=30)), ("payment.succeeded", timedelta(hours=1)),
    ]  # fmt: skip
    lines = list(turn.anomalies.values())
    assert [(line.name, line.opened_at, line.closed_at) for line in lines] == [
        ("overdue", NOON + timedelta(minutes=30), NOON + timedelta(hours=1))
    ]


def test_due_orders_fire_after_the_events() -> None:
    """Orders that the host names fire what is due by its clock; orders that are gone are passed over."""
    orders = turned(event("order.placed")).orders
    assert kinds(turned(orders=orders, until=NOON + timedelta(minutes=29))) == []
    assert kinds(turned(orders=orders, until=NOON + timedelta(days=9))) == [("timer.due", Reason.APPLIED)]
    shelves = {"acme": Shelf({"small": BOOK}, "small")}
    assert run_turn(shelves, (), {}, {}, due=[("acme", "gone")], until=NOON).entries == []


def test_time_of_an_order_never_runs_back() -> None:
    """An event that another machine heard earlier counts from the order's last moment."""
    first = turned(event("order.placed", 100))
    turn = turned(event("link.clicked", 50), orders=first.orders)
    assert turn.orders[A1].updated_at == NOON + timedelta(seconds=100)


def test_playbook_when_unknown() -> None:
    """An event for a playbook that nobody knows is kept with its reason, whether its order is there or not."""
    lost = msgspec.structs.replace(event("order.placed"), playbook="nonsense")
    turn = turned(lost, event("order.placed", no="A2"))
    assert [entry.verdict for entry in turn.entries] == [Reason.UNKNOWN_PLAYBOOK, Reason.APPLIED]
    assert turn.entries[0].detail == "there is no playbook 'nonsense'"
    known = msgspec.structs.replace(turned(event("order.placed")).orders[A1], playbook="gone")
    later = turned(event("link.clicked", 9999), orders={A1: known})
    assert (later.entries[0].verdict, later.entries[0].version, later.orders) == (Reason.UNKNOWN_PLAYBOOK, 1, {})


def test_decision_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision that fails is journalled with its error; neighbours go on, and a failing timer is not tried for ever."""

    def sometimes(
        book: Playbook, order: Order | None, one: Event, now: datetime, parties: tuple[Party, ...]
    ) -> Decision:
        if one.order_no == "A2" or one.type == "timer.due":
            raise RuntimeError("broken")
        return decide(book, order, one, now, parties)

    monkeypatch.setattr(subject, "decide", sometimes)
    turn = turned(event("order.placed", no="A2"), event("order.placed"), event("payment.succeeded", 3600))
    assert kinds(turn) == [
        ("order.placed", Reason.UNDECIDABLE), ("order.placed", Reason.APPLIED),
        ("timer.due", Reason.UNDECIDABLE), ("payment.succeeded", Reason.APPLIED),
    ]  # fmt: skip
    assert (turn.entries[0].detail, turn.entries[2].version) == ("RuntimeError: broken", 1)
    assert turn.created == {A1}


def test_timer_when_it_will_not_go() -> None:
    """A playbook that would arm the same timer again and again cannot hold a turn up."""
    wrong = replace(BOOK.deadlines["unpaid"], name="misnamed")
    book = replace(BOOK, deadlines_at={**BOOK.deadlines_at, "placed": (wrong,)})
    turn = turned(orders=turned(event("order.placed"), book=book).orders, until=NOON + timedelta(days=1), book=book)
    assert kinds(turn) == [("timer.due", Reason.TIMER_GONE)]
    assert turn.orders[A1].timers == {}


def test_projections_of_a_case() -> None:
    """A case is shown as it opens, changes and closes."""
    opened = turned(event("stock.short"))
    [(key, line)] = opened.cases.items()
    assert (line.case.state, line.closed_at) == ("open", None)
    known = turned(event("case.acknowledged", 5), orders=opened.orders)
    assert known.cases[key].case.state == "acknowledged"
    done = turned(event("case.resolved", 9), orders=known.orders)
    assert (done.cases[key].case.state, done.cases[key].closed_at) == ("resolved", NOON + timedelta(seconds=9))
    other = turned(event("link.clicked", 9), orders=known.orders)
    assert other.cases == {}


def test_projections_when_opened_and_closed_at_once() -> None:
    """What opens and closes in one decision is shown as closed, and does not end the batch."""
    book = playbook(anomalies={"grave": {"opens": [{"on": "case.resolved"}]}})
    turn = turned(event("case.resolved"), event("order.placed", no="A2"), book=book)
    assert [line.closed_at for line in turn.anomalies.values()] == [NOON]
    assert [line.closed_at for line in turn.cases.values()] == [NOON]
    assert len(turn.orders) == 2


def test_contact_is_who_the_shop_says_or_whose_phone_it_is() -> None:
    """The shop's id comes first, then the digits of the phone, then the mail address, then the role in the order."""
    assert contact_id("A1", "buyer", Person(id="u1", phone="138 1")) == "u1"
    assert contact_id("A1", "buyer", Person(phone="138 1234")) == contact_id(
        "A2", "x", Person(phone="(138)1234", email="a@b")
    )
    assert contact_id("A1", "buyer", Person(email="A@b")) == contact_id("A2", "x", Person(email="a@B"))
    assert contact_id("A1", "buyer", Person()) != contact_id("A2", "buyer", Person())


def test_contact_keys_of_a_batch() -> None:
    """The host loads the people whom events name, and those known in the same role."""
    first = turned(event("order.placed", people=ANN))
    old = first.orders[A1].parties[0].contact
    keys = contact_keys([event("link.clicked", people={"buyer": {"id": "u1"}}), event("link.clicked")], first.orders)
    assert keys == {("acme", "u1"), ("acme", old)}
    assert contact_keys([event("link.clicked", no="A9", people={"buyer": {"id": "u1"}})], {}) == {("acme", "u1")}


def followed(*people: dict[str, object]) -> tuple[Turn, list[str]]:
    """What becomes of a buyer of whom news come one after the other: the turn and their contact each time."""
    turn, seen = Turn(), []
    contacts: dict[Key, Contact] = {}
    for index, person in enumerate(people):
        turn = turned(event("link.clicked", index, people={"buyer": person}), orders=turn.orders, contacts=contacts)
        contacts |= turn.contacts
        seen.append(turn.orders[A1].parties[0].contact)
    return turn, seen


def test_person_when_only_wishes_or_a_mail_address_are_new() -> None:
    """News of somebody who is known by phone stay with that contact."""
    turn, seen = followed({"phone": "1381234"}, {"locale": "en"}, {"email": "a@b"})
    assert len(set(seen)) == 1
    assert turn.contacts["acme", seen[0]] == Contact("acme", seen[0], phone="1381234", email="a@b", locale="en")


def test_person_when_the_phone_is_another() -> None:
    """Another phone is another contact: wishes come along, other addresses do not."""
    turn, seen = followed({"phone": "1381234", "email": "a@b", "quiet": "22:00-08:00"}, {"phone": "1399999"})
    assert turn.contacts["acme", seen[1]] == Contact("acme", seen[1], phone="1399999", quiet="22:00-08:00")
    assert seen[0] != seen[1]


def test_person_when_the_mail_address_or_the_id_is_another() -> None:
    """Who is known by mail alone becomes another contact with another address; so does who gets an id."""
    _, seen = followed({"email": "a@b"}, {"email": "c@d"}, {"id": "u1"})
    assert len(set(seen)) == 3


def test_person_when_the_contact_was_not_loaded() -> None:
    """A role whose contact the host does not have begins anew."""
    first = turned(event("order.placed", people={"buyer": {"phone": "1381234"}}))
    turn = turned(event("link.clicked", 1, people={"buyer": {"phone": "1399999"}}), orders=first.orders)
    assert [one.phone for one in turn.contacts.values()] == ["1399999"]


def test_merge_keeps_what_is_not_said() -> None:
    """What an event does not say of a person stays; an empty list of muted kinds is said."""
    before = Contact("acme", "ann", phone="1", mute=("may",), tier="vip")
    assert merge_contact(before, Person()) is before
    assert merge_contact(before, Person(phone="2", mute=())) == msgspec.structs.replace(before, phone="2", mute=())


def test_stray_event_is_refused_at_the_door() -> None:
    """An event for a tenant or a playbook that is not there is refused with the field; any other is not."""
    shelves = {"acme": Shelf({"small": BOOK}, "small")}
    assert refuse_stray(shelves, event("order.placed")) is None
    playbook_gone = refuse_stray(shelves, msgspec.structs.replace(event("order.placed"), playbook="nonsense"))
    assert playbook_gone is not None
    assert (playbook_gone.field, playbook_gone.reason) == ("playbook", Reason.UNKNOWN_PLAYBOOK)
    assert playbook_gone.detail == "playbook: there is no 'nonsense'; known: small"
    nobody = refuse_stray({}, event("order.placed"))
    assert nobody is not None
    assert (nobody.field, nobody.detail) == ("tenant", "tenant: nobody here is called 'acme'")
