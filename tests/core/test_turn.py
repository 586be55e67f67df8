"""One turn: batches, timers between events, people, projections, and what a failing decision leaves behind."""

from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import pytest

from orderbell.core import turn as subject
from orderbell.core.decide import decide
from orderbell.core.events import ChannelName, Event, Person, Settled
from orderbell.core.model import (
    Consent,
    Contact,
    Decision,
    EndpointState,
    History,
    Order,
    Party,
    Reason,
    Told,
    Try,
)  # fmt: skip
from orderbell.core.playbook import Playbook
from orderbell.core.turn import Key, Shelf, Turn, contact_id, contact_keys, merge_contact, refuse_stray, run_turn
from tests.core.samples import NOON, event, notice, playbook

BOOK = playbook()
ANN = {"buyer": {"phone": "+86 138 1234"}}
A1 = ("acme", "A1")
SHELVES = {"acme": Shelf({"small": BOOK}, "small")}


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
    keys = contact_keys(
        SHELVES, [event("link.clicked", people={"buyer": {"id": "u1"}}), event("link.clicked")], first.orders
    )
    assert keys == {("acme", "u1"), ("acme", old)}
    stranger = event("link.clicked", no="A9", people={"buyer": {"id": "u1"}})
    assert contact_keys(SHELVES, [stranger], {}) == {("acme", "u1")}
    family = event("link.clicked", people={"family": {"id": "u2"}})
    assert contact_keys(SHELVES, [family], first.orders) == {("acme", "u2")}
    lost = msgspec.structs.replace(stranger, playbook="nonsense")
    assert contact_keys(SHELVES, [lost], {}) == {("acme", "u1")}


def test_contact_keys_of_what_people_say_and_what_became_of_messages() -> None:
    """A reply is about all people of its order, a settled message about the one it was for."""
    first = turned(event("order.placed", people=ANN | {"family": {"id": "eve"}}))
    buyer = first.orders[A1].parties[0].contact
    assert contact_keys(SHELVES, [event("reply.received", text="T")], first.orders) == {
        ("acme", buyer),
        ("acme", "eve"),
    }
    assert contact_keys(SHELVES, [event("reply.received", text="T")], {}) == set()
    assert contact_keys(SHELVES, [settled("failed", "sms", "eve")], {}) == {("acme", "eve")}


def test_contact_keys_when_the_batch_names_the_playbook_only_once() -> None:
    """People of an order that begins in the same batch are looked up as the turn will know them."""
    shelf = Shelf({"small": BOOK, "german": playbook(region="DE", name="german")}, "small")
    begins = msgspec.structs.replace(event("order.placed"), playbook="german")
    people = {"buyer": Person(phone="0151 23456789")}
    goes_on = msgspec.structs.replace(event("link.clicked", 1), playbook="", people=people)
    keys = contact_keys({"acme": shelf}, [begins, goes_on], {})
    assert keys == run_turn({"acme": shelf}, [begins, goes_on], {}, {}).contacts.keys()


def settled(outcome: str, channel: ChannelName, name: str, at_s: float = 60, told_s: float | None = 60) -> Event:
    """Word from dispatch of a message."""
    at = NOON + timedelta(seconds=at_s)
    told_at = None if told_s is None else NOON + timedelta(seconds=told_s)
    data = Settled(outcome=outcome, topic="paid", channel=channel, contact=name, told_at=told_at)
    return Event("acme", "orderbell", f"{outcome}{channel}{at_s}", "message.settled", "A1", at, at, data)


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
    turn, seen = followed({"phone": "13812345678"}, {"locale": "en"}, {"email": "a@b"})
    assert len(set(seen)) == 1
    assert turn.contacts["acme", seen[0]] == Contact(
        "acme", seen[0], phone="+8613812345678", email="a@b", locale="en", checked_at=NOON + timedelta(seconds=2), order_count=1,
    )  # fmt: skip


def test_person_when_the_phone_is_another() -> None:
    """Another phone is another contact: wishes come along, other addresses and what is known of them do not."""
    turn, seen = followed({"phone": "13812345678", "email": "a@b", "quiet": "22:00-08:00"}, {"phone": "13912345678"})
    assert turn.contacts["acme", seen[1]] == Contact(
        "acme", seen[1], phone="+8613912345678", quiet="22:00-08:00", checked_at=NOON + timedelta(seconds=1), order_count=1,
    )  # fmt: skip
    assert seen[0] != seen[1]


def test_person_when_the_mail_address_or_the_id_is_another() -> None:
    """Who is known by mail alone becomes another contact with another address; so does who gets an id."""
    _, seen = followed({"email": "a@b"}, {"email": "c@d"}, {"id": "u1"})
    assert len(set(seen)) == 3


def test_person_when_the_contact_was_not_loaded() -> None:
    """A role whose contact the host does not have begins anew."""
    first = turned(event("order.placed", people={"buyer": {"phone": "13812345678"}}))
    turn = turned(event("link.clicked", 1, people={"buyer": {"phone": "13912345678"}}), orders=first.orders)
    assert [one.phone for one in turn.contacts.values()] == ["+8613912345678"]


def test_merge_keeps_what_is_not_said() -> None:
    """What an event does not say of a person stays; an empty list of muted kinds is said."""
    before = Contact("acme", "ann", phone="+8613812345678", mute=("may",), tier="vip", states={"sms": "verified"})
    assert merge_contact(before, Person(), NOON) is before
    assert merge_contact(before, Person(phone="138-1234-5678", mute=("may",)), NOON) == before
    assert merge_contact(before, Person(email="a@b", mute=()), NOON) == msgspec.structs.replace(
        before, email="a@b", mute=(), checked_at=NOON
    )


def test_new_phone_resets_what_was_known_of_the_old_one() -> None:
    """A number that never worked says nothing of another; those of other channels stay."""
    before = Contact("acme", "ann", phone="+8613812345678", states={"sms": "blocked", "push": "bounced"})
    new = merge_contact(before, Person(phone="13912345678"), NOON)
    assert (new.phone, new.states, new.checked_at) == ("+8613912345678", {"push": "bounced"}, NOON)


@pytest.mark.parametrize(
    ("phone", "number", "state"),
    [
        ("010-62345678", "+861062345678", "landline"),
        ("12", "12", "invalid"),
        ("0049 151 23456789", "+4915123456789", None),
        ("１３８ 1234 5678", "+8613812345678", None),
    ],
)
def test_phone_that_takes_no_sms(phone: str, number: str, state: str | None) -> None:
    """A landline or what is no number is kept as it is, and never tried by SMS."""
    person = merge_contact(Contact("acme", "ann"), Person(phone=phone), NOON)
    assert (person.phone, person.states.get("sms")) == (number, state)
    assert person.endpoint("sms") == ("" if state else number)


def test_wishes_and_endpoints_that_an_event_brings() -> None:
    """All that is said of a person is kept; the tier that the shop sets is the shop's."""
    said = Person(
        email="a@b", app="app:1", wechat="wx:1", tier="new", locale="en", timezone="UTC", quiet="22:00-08:00",
        mute=("may:sms",), frequency="calm",
    )  # fmt: skip
    assert merge_contact(Contact("acme", "ann"), said, NOON) == Contact(
        "acme", "ann", email="a@b", app="app:1", wechat="wx:1", tier="new", locale="en", timezone="UTC",
        quiet="22:00-08:00", mute=("may:sms",), frequency="calm", checked_at=NOON, tier_set=True,
    )  # fmt: skip


@pytest.mark.parametrize(("phone", "same"), [
    ("138 1234 5678", True), ("+86 138-1234-5678", True), ("008613812345678", True), ("１３８１２３４５６７８", True),
    ("13812345679", False),
])  # fmt: skip
def test_person_is_the_same_however_the_phone_is_written(phone: str, same: bool) -> None:
    """The id comes from the E.164 form."""
    assert (
        contact_id("A1", "buyer", Person(phone=phone)) == contact_id("A2", "x", Person(phone="13812345678"))
    ) is same


def test_person_is_another_in_another_country() -> None:
    """A number without a country code is one of the playbook's region."""
    local = Person(phone="0151 23456789")
    assert contact_id("A1", "buyer", local, region="DE") == contact_id("A1", "buyer", Person(phone="+4915123456789"))
    assert contact_id("A1", "buyer", local, region="DE") != contact_id("A1", "buyer", local)
    turn = turned(event("order.placed", people={"buyer": {"phone": "0151 23456789"}}), book=playbook(region="DE"))
    assert [one.phone for one in turn.contacts.values()] == ["+4915123456789"]


def test_id_of_a_person_is_blind() -> None:
    """With a key nobody can find a person by trying numbers; another tenant's key gives another id."""
    person, keys = Person(phone="13812345678"), {"acme": b"k" * 32, "other": b"o" * 32}
    ids = {contact_id("A1", "buyer", person, key) for key in (b"", *keys.values())}
    assert len(ids) == 3
    first = event("order.placed", people={"buyer": {"phone": "13812345678"}})
    turn = run_turn(SHELVES, [first], {}, {}, key_of=keys.__getitem__)
    assert turn.contacts.keys() == {("acme", contact_id("A1", "buyer", person, keys["acme"]))}
    assert contact_keys(SHELVES, [first], {}, keys.__getitem__) == turn.contacts.keys()
    assert contact_id("A1", "buyer", Person(id="u1"), keys["acme"]) == "u1"


def bought(*amounts_fen: int, book: Playbook = BOOK, **person: object) -> list[Contact]:
    """Ann after each of her orders."""
    contacts: dict[Key, Contact] = {}
    seen: list[Contact] = []
    for index, amount_fen in enumerate(amounts_fen):
        one = event("order.placed", no=f"A{index}", amount_fen=amount_fen, people={"buyer": {"id": "ann", **person}})
        contacts |= turned(one, contacts=contacts, book=book).contacts
        seen.append(contacts["acme", "ann"])
    return seen


def test_tier_follows_the_orders() -> None:
    """Orders and their sum make a person valued, by the rules of the playbook; what the shop says stays."""
    assert [(one.tier, one.order_count) for one in bought(1, 1, 1)] == [("regular", 1), ("regular", 2), ("vip", 3)]
    assert [(one.tier, one.spent_fen) for one in bought(60_000, 40_000)] == [("regular", 60_000), ("vip", 100_000)]
    assert [one.tier for one in bought(1, 1, 1, tier="new")] == ["new", "new", "new"]
    assert [one.tier for one in bought(1, 1, 1, book=playbook(tiers=...))] == ["regular"] * 3
    newer = playbook(tiers={"new": "contact.order_count <= 1"})
    assert [one.tier for one in bought(1, 1, 1, book=newer)] == ["new", "regular", "vip"]


def test_tier_counts_orders_once_and_only_of_the_principal() -> None:
    """Further events of an order, and being somebody else in it, are no further orders."""
    both = {"buyer": {"id": "ann"}, "giver": {"id": "gil"}}
    turn = turned(
        event("order.placed", amount_fen=5, people=both), event("payment.succeeded", 1, amount_fen=5, people=both)
    )
    counts = {one.id: (one.order_count, one.spent_fen) for one in turn.contacts.values()}
    assert counts == {"ann": (1, 5), "gil": (0, 0)}
    assert turn.orders[A1].parties == (Party("buyer", "ann"), Party("giver", "gil"))


def test_tier_counts_orders_whose_people_come_later() -> None:
    """Who an order belongs to may be told after the order itself."""
    turn = turned(event("order.placed", amount_fen=5), event("payment.succeeded", 1, people={"buyer": {"id": "ann"}}))
    assert turn.contacts["acme", "ann"].order_count == 1


def test_consent_is_kept_as_a_record() -> None:
    """What an event says of consent is kept with time and source, each time that it changes."""
    yes, no = {"buyer": {"id": "ann", "marketing": True}}, {"buyer": {"id": "ann", "marketing": False}}
    turn = turned(
        event("order.placed", people=yes), event("link.clicked", 5, people=yes), event("link.clicked", 9, people=no)
    )
    assert turn.consents == [
        Consent("acme", "ann", "marketing", True, NOON, "event shop"),
        Consent("acme", "ann", "marketing", False, NOON + timedelta(seconds=9), "event shop"),
    ]


def test_opt_out_stands_against_what_was_said_before_it() -> None:
    """The last word counts, by when it was said and not by when it was heard."""
    agrees = {"buyer": {"id": "ann", "marketing": True}}
    before = event("payment.succeeded", 120, late_s=119, people=agrees)
    turn = turned(event("order.placed", people=agrees), event("reply.received", 60, text="TD"), before)
    assert turn.contacts["acme", "ann"].marketing == "no"


def test_consent_is_not_inherited_by_another_number() -> None:
    """A record of consent is there only where somebody gave it."""
    agrees = event("order.placed", people={"buyer": {"phone": "13812345678", "marketing": True}})
    turn = turned(agrees, event("link.clicked", 60, people={"buyer": {"phone": "13912345678"}}))
    assert len(turn.contacts) == 2
    assert [one.at for one in turn.consents] == [NOON]


ANSWERED = {"buyer": {"id": "ann"}, "family": {"id": "eve"}}


def answered(text: str, sender: str = "", **changes: object) -> tuple[Turn, Turn]:
    """The turn of an order and of a reply to it."""
    first = turned(event("order.placed", people=ANSWERED))
    contacts = {key: msgspec.structs.replace(one, **changes) for key, one in first.contacts.items()}
    reply = event("reply.received", 60, text=text, sender=sender)
    return first, turned(reply, orders=first.orders, contacts=contacts)


@pytest.mark.parametrize(("text", "given"), [("TD", False), ("回复 Ｔ", False), ("退订", False), ("START", True)])
def test_opt_out_holds_from_that_moment(text: str, given: bool) -> None:
    """A word is enough; it is kept as a record with its words, each time."""
    _, turn = answered(text, marketing="no" if given else "yes")
    assert turn.contacts["acme", "ann"].marketing == ("yes" if given else "no")
    assert turn.consents == [
        Consent("acme", "ann", "marketing", given, NOON + timedelta(seconds=60), "reply reply.received@60", text)
    ]
    _, again = answered(text, marketing="yes" if given else "no", states={"sms": "verified"})
    assert (len(again.consents), again.contacts["acme", "ann"].marketing) == (1, "yes" if given else "no")


def test_reply_proves_the_phone_of_whoever_sent_it() -> None:
    """Who answers can be reached: a number that was given up is tried again."""
    _, turn = answered("你好", sender="family", states={"sms": "blocked"})
    assert {name: one.states for (_, name), one in turn.contacts.items()} == {"eve": {"sms": "verified"}}
    assert turn.consents == []


def test_reply_of_nobody_known() -> None:
    """A reply from a role that the order does not have, to an order without people or to none changes no contact."""
    assert answered("TD", sender="stranger")[1].contacts == {}
    bare = turned(event("order.placed"))
    assert turned(event("reply.received", 60, text="TD"), orders=bare.orders).consents == []
    assert turned(event("reply.received", text="TD")).consents == []
    first, _ = answered("TD")
    assert turned(event("reply.received", 60, text="TD"), orders=first.orders).consents == []


def test_reply_in_the_batch_of_its_order() -> None:
    """An opt-out counts at once, also for a contact that the same batch brought."""
    turn = turned(
        event("order.placed", people={"buyer": {"id": "ann", "marketing": True}}), event("reply.received", 1, text="T")
    )
    assert (turn.contacts["acme", "ann"].marketing, [one.given for one in turn.consents]) == ("no", [True, False])
    assert turn.new_contacts == {("acme", "ann")}


@pytest.mark.parametrize(
    ("outcome", "before", "told_s", "state"),
    [
        ("rejected_recipient", {}, 60, "blocked"),
        ("rejected_recipient", {"sms": "bounced"}, 60, "blocked"),
        ("rejected_recipient", {"sms": "verified"}, None, "blocked"),
        ("failed", {}, 60, "bounced"),
        ("failed", {"sms": "blocked"}, 60, "blocked"),
        ("failed", {"sms": "landline"}, 60, "landline"),
        ("delivered", {}, 60, None),
        ("rejected_recipient", {}, -1, None),
    ],
)
def test_fate_of_a_message_tells_of_the_address(
    outcome: str, before: dict[ChannelName, EndpointState], told_s: float | None, state: str | None
) -> None:
    """What a provider will never take is given up, what did not arrive comes later; a newer address is not concerned."""
    ann = Contact("acme", "ann", phone="+8613812345678", states=before, checked_at=NOON)
    one = settled(outcome, "sms", "ann", told_s=told_s)
    turn = turned(one, orders=turned(event("order.placed")).orders, contacts={ann.key: ann})
    assert turn.contacts.get(ann.key, ann).states.get("sms") == state
    assert turned(one, orders=turned(event("order.placed")).orders).contacts == {}


def test_turn_hands_over_withdrawals_and_amends() -> None:
    """What is taken back goes the way of the notices, what is promised to those who hand it out."""
    new = {"buyer": {"id": "ann", "tier": "new"}}
    turn = turned(event("stock.short", people=new), event("stock.restored", 9))
    assert [(one.topic, one.withdraws) for one in turn.notices] == [("late", ()), ("", ("late",)), ("restored", ())]
    assert [(one.contact, one.order_no, one.kind, one.value_fen) for one in turn.amends] == [
        ("ann", "A1", "coupon", 1000)
    ]


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


def test_what_waits_follows_a_person_to_a_new_number() -> None:
    """Under another number the order's news go there, with what was heard of it; what was tried or is another's stays."""
    first = turned(event("order.placed", people={"buyer": {"phone": "13800138001"}}))
    people = {"buyer": {"phone": "13800138002"}}
    moved = turned(event("contact.changed", 60, people=people), orders=first.orders, contacts=first.contacts)
    [move] = moved.moves
    old, new = (contact_id("A1", "buyer", Person(phone=phone)) for phone in ("13800138001", "13800138002"))
    assert (move.keys, move.order_no) == ((("acme", old), ("acme", new)), "A1")
    waiting = notice("paid", contact=old)
    assert move.of(waiting) == msgspec.structs.replace(waiting, contact=new)
    for stays in ({"order_no": "A2"}, {"withdraws": ("paid",)}, {"tried": (Try("sms", b"", NOON),)}):
        assert move.of(msgspec.structs.replace(waiting, **stays)) is None
    told = [Told(NOON, no, "paid", "service", "sms") for no in ("A1", "A2")]
    assert move.heard(History(tuple(told)), History((told[0],))).told == (told[0],)
    assert move.heard(History(tuple(told)), History()).told == (told[0],)


def test_contact_of_another_role_keeps_what_waits() -> None:
    """Where the old contact still has a part in the order, nothing is taken from them."""
    both = {"buyer": {"phone": "13800138001"}, "friend": {"phone": "13800138001"}}
    first = turned(event("order.placed", people=both))
    people = {"buyer": {"phone": "13800138002"}}
    assert turned(event("contact.changed", 60, people=people), orders=first.orders, contacts=first.contacts).moves == []


def test_consent_that_a_shop_has_on_file() -> None:
    """A flag that comes with every event does not undo an opt-out; an explicit change does."""
    first, out = answered("TD", marketing="yes")
    people = {"buyer": {"id": "ann", "marketing": True}}
    contacts = {**first.contacts, **out.contacts}
    kept = turned(event("link.clicked", 90, people=people), orders=first.orders, contacts=contacts)
    assert (kept.consents, kept.contacts) == ([], {})
    changed = turned(event("contact.changed", 90, people=people), orders=first.orders, contacts=contacts)
    assert [(one.given, one.source) for one in changed.consents] == [(True, "event shop")]


def test_consent_on_file_that_is_older_than_the_last_word() -> None:
    """A consent that was given before the person's last word is not that person's word any more."""
    agrees = {"buyer": {"id": "ann", "marketing": True}}
    known = {("acme", "ann"): Contact("acme", "ann", marketing_at=NOON + timedelta(seconds=60))}
    turn = turned(event("order.placed", 61, late_s=30, people=agrees), contacts=known)
    assert (turn.consents, turn.contacts.get(("acme", "ann"), known["acme", "ann"]).marketing) == ([], "")
