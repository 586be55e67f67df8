"""Looking finds what is there, all of it and nothing else, whatever is asked for."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from orderbell.store import looking as module
from orderbell.store.lines import CaseFilter, MessageFilter, NoticeFilter, OrderFilter
from orderbell.store.looking import Looking, order_versions
from orderbell.store.pages import Page, cursor_of
from orderbell.store.postgres import Store
from orderbell.store.pulse import Rollup
from tests.town import Town, running_town

Line = TypeVar("Line")
Look = Callable[[str], Awaitable[Page[Line]]]

HOSTILE = [
    "\0", "A\0", "\ud800", "%", "_", "A_", "A%", "\\", "'", "''; DROP TABLE orders; --", '"', "x" * 10_000, "0" * 10_000,
    "@", "@" * 5_000, "+" * 100, "\u202e1234", "１２３４", "٣٤٥٦", "\n", "\x1f", "-", "0000", "\U0001f600",
]  # fmt: skip


async def walk(look: Look[Line]) -> list[Line]:
    """All pages of a list, one after the other."""
    found: list[Line] = []
    after = ""
    while True:
        page = await look(after)
        found += page.items
        after = page.next
        if not after:
            return found


def pages_of(looking: Looking, limit: int = 2, **wanted: Any) -> Look[str]:  # noqa: ANN401 - whatever the filter has
    """The numbers of the orders that are wanted, page by page."""

    async def look(after: str) -> Page[str]:
        page = await looking.orders(OrderFilter(**wanted), after, limit)
        return Page([line.order.no for line in page.items], page.next, page.looked_back_to)

    return look


async def numbers(looking: Looking, limit: int = 2, **wanted: Any) -> list[str]:  # noqa: ANN401 - as above
    """The numbers of all orders that are wanted."""
    return await walk(pages_of(looking, limit, **wanted))


@pytest.fixture
async def town(store: Store) -> AsyncIterator[Town]:
    """A town in which three people have placed six orders: A0 to A5, the phones ending in 8000, 8001, 8002."""
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(running_town(store))
        for number in range(6):
            buyer = {"phone": f"+861380013800{number % 3}", "email": f"Ann{number % 3}@example.com"}
            await made.tell("order.placed", f"A{number}", people={"buyer": buyer})
        yield made


@pytest.fixture
def looking(town: Town) -> Looking:
    """Looking at the town's first tenant."""
    return Looking(town.store, "acme")


async def test_orders_come_newest_first_a_page_at_a_time(looking: Looking) -> None:
    """Whatever the length of the pages, every order comes once, the newest opened first."""
    for limit in (1, 2, 5, 6, 200):
        assert await numbers(looking, limit) == ["A5", "A4", "A3", "A2", "A1", "A0"]


FINDINGS = {
    "A3": ["A3"],
    " A3 ": ["A3"],
    "A": ["A0", "A1", "A2", "A3", "A4", "A5"],
    "a": [],
    "8001": ["A4", "A1"],
    "238001": [],
    "38001": ["A4", "A1"],
    "13800138001": ["A4", "A1"],
    "+86 138-0013-8001": ["A4", "A1"],
    "0086 138 0013 8001": ["A4", "A1"],
    "+1 138 0013 8001": [],
    "001": [],
    "ann2@example.com": ["A5", "A2"],
    "ann9@example.com": [],
}


async def test_a_text_finds_orders_by_number_phone_and_mail(looking: Looking) -> None:
    """A number or its beginning, the end of a phone or all of it, and a mail address each find what they mean."""
    for text, found in FINDINGS.items():
        assert await numbers(looking, text=text) == found, text
        assert await numbers(looking, 1, text=text) == found, text


async def test_a_text_that_is_number_and_phone_finds_both_once(town: Town, looking: Looking) -> None:
    """An order of exactly this number comes first, then those of the phone, then longer numbers, none of them twice."""
    for number in ("8001", "80012", "800"):
        await town.tell("order.placed", number, people={"buyer": {"phone": "+8613800138001"}})
    await town.tell("order.placed", "80013", people={"buyer": {"phone": "+8613800138005"}})
    for limit in (1, 2, 3, 100):
        assert await numbers(looking, limit, text="8001") == ["8001", "800", "80012", "A4", "A1", "80013"]


async def test_an_old_phone_still_finds_the_order(town: Town, looking: Looking) -> None:
    """When somebody gets a new number both find the order, and so does each contact."""
    await town.tell("contact.changed", "A0", people={"buyer": {"phone": "+8613900139009"}})
    assert await numbers(looking, text="9009") == ["A0"]
    assert await numbers(looking, text="8000") == ["A3", "A0"]
    (new,) = (await looking.people("13900139009")).items
    (line,) = (await looking.orders_of(new.id)).items
    assert line.order.no == "A0"


async def test_orders_of_a_person_come_newest_first(looking: Looking) -> None:
    """The orders of a contact are those in which they have a part."""
    (person,) = (await looking.people("8002")).items
    lines = await walk(lambda after: looking.orders_of(person.id, after, 1))
    assert [line.order.no for line in lines] == ["A5", "A2"]
    assert (await looking.orders_of("nobody")).items == []
    assert (await looking.orders_of("")).items == []


async def test_filters_join(town: Town, looking: Looking) -> None:
    """Stage, light, playbook, days and text each narrow what the others leave."""
    await town.tell("payment.succeeded", "A1", amount_fen=100)
    await town.tell("payment.succeeded", "A4", amount_fen=100)
    await town.tell("payment.failed", "A2")
    (paid,) = {line.order.stage for line in (await looking.orders(OrderFilter(text="A4"))).items}
    assert await numbers(looking, stage=paid) == ["A4", "A1"]
    assert await numbers(looking, 1, stage="placed") == ["A5", "A3", "A2", "A0"]
    assert await numbers(looking, stage=paid, text="A1") == ["A1"]
    assert await numbers(looking, stage=paid, text="8002") == []
    assert await numbers(looking, stage="placed", text="8002") == ["A5", "A2"]
    assert await numbers(looking, light="red") == ["A2"]
    assert await numbers(looking, light="red", text="A") == ["A2"]
    assert await numbers(looking, light="yellow", playbook="retail") == ["A5", "A4", "A3", "A1", "A0"]
    assert await numbers(looking, playbook="digital") == []
    opened = (await looking.orders(OrderFilter(text="A2"))).items[0].order.opened_at
    assert await numbers(looking, opened_from=opened, opened_until=opened + timedelta(seconds=2)) == ["A3", "A2"]


async def test_troubled_orders_come_by_their_trouble(town: Town, looking: Looking) -> None:
    """By an anomaly or red light the newest trouble comes first; an order with two comes once; a closed one is gone."""
    for number in ("A4", "A1", "A3"):
        await town.tell("payment.failed", number)
    await town.tell("stock.short", "A4")
    for limit in (1, 2, 50):
        assert await numbers(looking, limit, light="red") == ["A3", "A1", "A4"]
        assert await numbers(looking, limit, anomaly="payment_failed") == ["A3", "A1", "A4"]
    await town.tell("payment.succeeded", "A1", amount_fen=100)
    assert await numbers(looking, anomaly="payment_failed") == ["A3", "A4"]
    assert await numbers(looking, anomaly="payment_failed", text="A3") == ["A3"]
    assert await numbers(looking, anomaly="nothing_of_that_name") == []


async def test_a_walk_gives_every_row_once_while_rows_are_added(town: Town, looking: Looking) -> None:
    """Orders, messages and notices that come between two pages neither repeat nor hide what was there before."""
    for number in range(6):
        await town.tell("payment.failed", f"A{number}")
    await town.dispatcher.step()
    added = 0

    async def disturbed(look: Look[Line]) -> Look[Line]:
        async def next_page(after: str) -> Page[Line]:
            nonlocal added
            page = await look(after)
            added += 1
            await town.tell("order.placed", f"B{added}", people={"buyer": {"phone": "+8613800138000"}})
            await town.tell("payment.failed", f"B{added}")
            await town.dispatcher.step()
            return page

        return next_page

    by_phone = [no for no in await walk(await disturbed(pages_of(looking, 1, text="8000"))) if no.startswith("A")]
    assert by_phone == ["A3", "A0"]
    old = ["A5", "A4", "A3", "A2", "A1", "A0"]
    for wanted in ({}, {"stage": "placed"}, {"light": "red"}, {"anomaly": "payment_failed"}):
        found = await walk(await disturbed(pages_of(looking, 2, **wanted)))
        assert [no for no in found if no.startswith("A")] == old
        assert len(found) == len(set(found))
    messages = await walk(await disturbed(lambda after: looking.messages(MessageFilter(), after, 2)))
    assert len({one.id for one in messages}) == len(messages)
    assert [one.order_no for one in messages if one.order_no.startswith("A")] == old
    notices = await walk(await disturbed(lambda after: looking.notices(NoticeFilter(), after, 2)))
    assert [one.order_no for one in notices if one.order_no.startswith("A")] == old


async def test_a_long_look_goes_on_where_it_stopped(
    town: Town, looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a page looked at as many rows as it may, it says how far it came, and the next one goes on from there."""
    monkeypatch.setattr(module, "STEPS_MAX", 2)
    monkeypatch.setattr(module, "MESSAGE_STEPS_MAX", 2)
    for number in range(6):
        await town.tell("payment.failed", f"A{number}")
    await town.dispatcher.step()
    first = await pages_of(looking, 5, stage="nowhere")("")
    opened = (await looking.orders(OrderFilter(text="A4"))).items[0].order.opened_at
    assert (first.items, first.looked_back_to) == ([], opened)
    assert await numbers(looking, 5, stage="nowhere") == []
    assert await numbers(looking, 5, stage="placed") == ["A5", "A4", "A3", "A2", "A1", "A0"]
    assert await numbers(looking, 5, light="red", stage="placed") == ["A5", "A4", "A3", "A2", "A1", "A0"]
    assert await numbers(looking, 5, text="A", stage="placed") == ["A0", "A1", "A2", "A3", "A4", "A5"]
    page = await looking.messages(MessageFilter(topic="nothing"))
    assert page.items == []
    assert page.looked_back_to is not None
    assert await walk(lambda after: looking.messages(MessageFilter(topic="nothing"), after)) == []
    found = await walk(lambda after: looking.messages(MessageFilter(topic="payment_failed"), after))
    assert [one.order_no for one in found] == ["A5", "A4", "A3", "A2", "A1", "A0"]
    assert len(await walk(lambda after: looking.notices(NoticeFilter(fate="sent"), after))) == 6
    assert len(await walk(lambda after: looking.cases(CaseFilter(kind="handle"), after))) == len(
        (await looking.cases(CaseFilter(), "", 200)).items
    )


async def test_messages_are_found_by_what_is_known_of_them(town: Town, looking: Looking) -> None:
    """Order, person, state, channel, topic, provider and time each find the messages, with masked addresses."""
    await town.tell("payment.failed", "A1")
    (waiting,) = (await looking.notices(NoticeFilter(fate="waiting"))).items
    assert (waiting.order_no, waiting.topic, waiting.planned_at) == ("A1", "payment_failed", None)
    assert (await looking.notices(NoticeFilter(fate="waiting", order_no="A1"))).items == [waiting]
    assert (await looking.notices(NoticeFilter(fate="waiting", contact=waiting.contact))).items == [waiting]
    assert (await looking.notices(NoticeFilter(fate="waiting", order_no="A2"))).items == []
    assert (await looking.notices(NoticeFilter(fate="waiting", order_no="A9"))).items == []
    await town.dispatcher.step()
    (line,) = (await looking.messages(MessageFilter())).items
    assert (line.order_no, line.channel, line.to, line.status) == ("A1", "sms", "+86 138****8001", "accepted")
    assert "A1" in line.text
    found: dict[str, Any]
    missed: dict[str, Any]
    for found in (
        {"order_no": "A1"}, {"contact": line.contact}, {"state": "accepted"}, {"channel": "sms"},
        {"topic": "payment_failed"}, {"provider": line.provider}, {"created_from": line.created_at},
        {"order_no": "A1", "contact": line.contact, "state": "accepted"},
    ):  # fmt: skip
        assert (await looking.messages(MessageFilter(**found))).items == [line], found
    for missed in (
        {"order_no": "A2"}, {"contact": "x"}, {"state": "failed"}, {"state": "waiting"}, {"channel": "email"},
        {"topic": "x"}, {"provider": "x"}, {"created_until": line.created_at}, {"state": "unknown"},
    ):  # fmt: skip
        assert (await looking.messages(MessageFilter(**missed))).items == [], missed
    full = await looking.message(line.id)
    assert full is not None
    assert full.line == line
    (notice,) = (await looking.notices(NoticeFilter(order_no="A1"))).items
    assert full.notices == [notice.id]
    assert notice.fate == "sent"
    assert (await looking.notices(NoticeFilter(topic="payment_failed", contact=line.contact))).items == [notice]
    assert (await looking.notices(NoticeFilter(fate="dropped"))).items == []


async def test_waiting_and_unknown_messages_are_found(town: Town, looking: Looking) -> None:
    """What waits for a provider and what nobody knows the outcome of are found among many others, with their tries."""
    for number in range(6):
        await town.tell("payment.failed", f"A{number}")
    await town.dispatcher.step()
    update = "UPDATE message SET status = $2, due_at = $3 WHERE order_no = $1"
    await town.store.pool.execute(update, "A1", "queued", town.clock())
    await town.store.pool.execute(update, "A2", "unknown", None)
    await town.store.pool.execute(update, "A4", "unknown", town.clock())
    await town.store.pool.execute(
        "INSERT INTO attempt SELECT tenant, int8send(1), message_id, 1, 'ali', 'busy', 'so', $1, $1 FROM message"
        " WHERE order_no = 'A1'",
        town.clock(),
    )
    rollup = Rollup(town.store, town.clock)
    while await rollup.round():
        pass
    (line,) = (await looking.messages(MessageFilter(state="waiting"))).items
    assert line.order_no == "A1"
    full = await looking.message(line.id)
    assert full is not None
    assert [(one.outcome, one.provider) for one in full.attempts] == [("busy", "ali")]
    assert [one.order_no for one in await looking.unknowns()] == ["A2", "A4"]
    unknown = await walk(lambda after: looking.messages(MessageFilter(state="unknown"), after, 1))
    assert [one.order_no for one in unknown] == ["A4", "A2"]


async def test_cases_are_found_by_what_is_known_of_them(town: Town, looking: Looking) -> None:
    """State, owner, kind and order each find a case, and its id finds it too."""
    await town.tell("stock.short", "A1")
    (case,) = (await looking.cases(CaseFilter())).items
    assert (case.order_no, case.state, case.closed_at) == ("A1", "open", None)
    found: dict[str, Any]
    for found in ({"state": "open"}, {"state": "unresolved"}, {"owner": case.owner}, {"kind": case.kind},
                  {"order_no": "A1", "owner": case.owner, "state": "open"}):  # fmt: skip
        assert (await looking.cases(CaseFilter(**found))).items == [case], found
    nothing: list[dict[str, Any]] = [
        {"state": "resolved"}, {"state": "acknowledged"}, {"owner": "x"}, {"kind": "x"}, {"order_no": "A2"},
    ]  # fmt: skip
    for missed in nothing:
        assert (await looking.cases(CaseFilter(**missed))).items == [], missed
    assert await looking.case(case.id) == case


async def test_people_are_found_by_what_is_known_of_them(town: Town, looking: Looking) -> None:
    """Phone, its end, mail address and id find a person, whose addresses are masked."""
    await town.tell("order.placed", "C1", people={"buyer": {"id": "ann", "phone": "+8613800138001"}})
    await town.tell("order.placed", "C2", people={"buyer": {"id": "anna"}})
    (person,) = (await looking.people("ANN1@Example.com")).items
    assert (person.phone, person.email) == ("+86 138****8001", "A***@example.com")
    assert {one.id for one in (await looking.people("8001")).items} == {person.id, "ann"}
    assert {one.id for one in (await looking.people("13800138001")).items} == {person.id, "ann"}
    assert [one.id for one in await walk(lambda after: looking.people("an", after, 1))] == ["ann", "anna"]
    assert (await looking.people(person.id)).items == [person]
    assert (await looking.people("801")).items == []


async def test_tenants_never_mix(town: Town, looking: Looking) -> None:
    """Whatever another tenant asks for, nothing of this one comes, by list, by search, or by id."""
    await town.tell("stock.short", "A1")
    await town.tell("payment.failed", "A1")
    await town.tell("order.placed", "A1", tenant="other", people={"buyer": {"phone": "+8613800138000", "id": "bob"}})
    await town.dispatcher.step()
    (case,), message = (await looking.cases(CaseFilter())).items, (await looking.messages(MessageFilter())).items[0]
    other = Looking(town.store, "other")
    assert await numbers(other) == ["A1"]
    assert await numbers(other, text="8000") == ["A1"]
    assert await numbers(other, text="8001") == []
    assert await numbers(other, light="red") == []
    assert [one.id for one in (await other.people("8000")).items] == ["bob"]
    assert (await other.people(message.contact)).items == []
    assert (await other.messages(MessageFilter())).items == []
    assert (await other.messages(MessageFilter(order_no="A1"))).items == []
    assert (await other.messages(MessageFilter(contact=message.contact))).items == []
    assert (await other.notices(NoticeFilter(order_no="A1"))).items == []
    assert (await other.cases(CaseFilter())).items == []
    assert await other.case(case.id) is None
    assert await other.message(message.id) is None
    assert (await other.orders_of(message.contact)).items == []
    both = await order_versions(town.store, [("acme", "A1"), ("other", "A1"), ("other", "A2")])
    assert both == {("acme", "A1"): 3, ("other", "A1"): 1}


async def test_hostile_texts_find_nothing(looking: Looking) -> None:
    """Texts that no name can be give empty pages and no error, wherever they are asked for."""
    for text in HOSTILE:
        for found in (
            await looking.orders(OrderFilter(text=f"{text}~")), await looking.orders(OrderFilter(stage=text)),
            await looking.orders(OrderFilter(anomaly=text)), await looking.orders(OrderFilter(playbook=text)),
            await looking.messages(MessageFilter(order_no=text)), await looking.messages(MessageFilter(contact=text)),
            await looking.messages(MessageFilter(topic=text)), await looking.messages(MessageFilter(channel=text)),
            await looking.messages(MessageFilter(provider=text)), await looking.notices(NoticeFilter(order_no=text)),
            await looking.notices(NoticeFilter(contact=text)),
            await looking.notices(NoticeFilter(order_no=text, fate="waiting")),
            await looking.cases(CaseFilter(owner=text)), await looking.cases(CaseFilter(order_no=text)),
            await looking.orders_of(text), await looking.people(text),
        ):  # fmt: skip
            assert found.items == [], text
        assert await looking.case(text) is None
        assert await looking.message(text) is None


async def test_versions_leave_out_what_is_not_there(town: Town) -> None:
    """Keys that can be of no order are left out, in the one statement that reads the others."""
    keys = [("acme", "A1"), ("acme", "A9"), *(("acme", text) for text in HOSTILE), ("\0", "A1")]
    assert await order_versions(town.store, keys) == {("acme", "A1"): 1}
    assert await order_versions(town.store, []) == {}


async def test_wildcards_are_plain_signs(town: Town, looking: Looking) -> None:
    """Signs that mean something to LIKE find numbers that hold them and no others."""
    for text in ("%", "_", "A_", "A%", "\\"):
        assert await numbers(looking, text=text) == []
        await town.tell("order.placed", f"{text}1")
        assert await numbers(looking, text=text) == [f"{text}1"]


BROKEN = [
    "x", "é", "====", "A" * 1000, "\0", "\ud800", cursor_of("x"), cursor_of(0, 0, "A"), cursor_of(9, 0, "A", ""),
    cursor_of(-1, 0, "A", ""), cursor_of(0, 2**63, "A", ""), cursor_of(0, -(2**60), "A", ""), cursor_of(),
    cursor_of(0, 0, "\0", ""), cursor_of(0, "", "A", ""),
]  # fmt: skip


async def test_broken_cursors_are_refused(looking: Looking) -> None:
    """A cursor that nobody here has made is a ValueError that says `cursor`, in every list."""
    for after in BROKEN:
        for look in (
            looking.orders(OrderFilter(), after), looking.orders_of("x", after),
            looking.messages(MessageFilter(), after), looking.notices(NoticeFilter(), after),
            looking.cases(CaseFilter(), after),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=r"^cursor$"):
                await look
    with pytest.raises(ValueError, match=r"^cursor$"):
        await looking.people("A", cursor_of(1))


async def test_people_who_were_known_before_are_found_too(town: Town, looking: Looking) -> None:
    """Contacts of the time before phones were searchable by their end get their indexes in the background."""
    await town.store.pool.execute("UPDATE contact SET phone_tail = NULL, mail_key = NULL")
    assert (await looking.people("8001")).items == []
    rollup = Rollup(town.store, town.clock)
    while await rollup.round():
        pass
    assert len((await looking.people("8001")).items) == 1
    assert len((await looking.people("ann1@example.com")).items) == 1
