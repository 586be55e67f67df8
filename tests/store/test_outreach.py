"""Consents, opt-outs and amends stand in the tables with the turn that they came with, once."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from orderbell.app.virtual import VirtualHost
from orderbell.core.events import Event, Status
from orderbell.core.model import (
    Contact,
    History,
    Told,
    decode_contact,
    decode_history,
    decode_notice,
    encode_state,
)  # fmt: skip
from orderbell.core.turn import Shelf
from orderbell.observe import FailpointReached, arm_failpoints
from orderbell.playbooks import shipped_shelf
from orderbell.store.postgres import Store
from orderbell.store.rows import phone_key
from tests.database import VAULT
from tests.dispatch.rig import Scripted
from tests.shop import NOON, TENANT, event

SHELVES: dict[str, Shelf] = {TENANT: shipped_shelf()}
PHONE = "+8613812341234"
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def disarmed() -> Any:  # noqa: ANN401 - a fixture that only ends something
    """Leave no failpoint armed."""
    yield
    arm_failpoints("")


@pytest.fixture
async def host(store: Store) -> AsyncIterator[VirtualHost]:
    """The whole house under a virtual clock, with a provider that takes everything."""
    channel = Scripted(carries=frozenset({"sms", "push"}))
    opened = VirtualHost(store, SHELVES, [channel], start=NOON)
    yield opened
    await opened.close()


def placed(*, after_s: float = 0, name: str = "1", order_no: str = "A1", **person: object) -> Event:
    """A new order of one person."""
    return event(name, order_no, after_s=after_s, people={"buyer": {"phone": PHONE, **person}}, amount_fen=100)


def item(**person: object) -> Event:
    """An item that a newcomer brings, who hears advertising if they like it."""
    people = {"consignor": {"phone": PHONE, "tier": "new", **person}}
    made = event("1", "C1", "item.received", people=people)
    return Event(**{name: getattr(made, name) for name in made.__struct_fields__} | {"playbook": "consignment"})


def reply(text: str, name: str = "9", order_no: str = "A1", after_s: float = 60) -> Event:
    """An answer by SMS of the person whom the order is about."""
    return event(name, order_no, "reply.received", after_s=after_s, text=text)


async def rows(store: Store, query: str) -> list[tuple[object, ...]]:
    """What a query finds."""
    return [tuple(row) for row in await store.pool.fetch(query)]


async def person(store: Store) -> Contact:
    """The one contact."""
    (row,) = await store.pool.fetch("SELECT tenant, contact, body FROM contact")
    return decode_contact(VAULT.open(row[0], row[1], row[2]))


HEARD = History(tuple(Told(NOON, no, "payment_failed", "critical", "sms") for no in ("A1", "A2")))
CONSENTS = "SELECT scope, given, at, source, words FROM consent ORDER BY at"


@pytest.mark.parametrize(("text", "words"), [("TD", "td"), (" ｔｄ ", "ｔｄ"), ("退订", "退订")])
async def test_opt_out_is_kept_with_its_words(store: Store, text: str, words: str) -> None:
    """An opt-out word ends marketing at once, and leaves a record with time, source and words."""
    await store.turn(SHELVES, [placed(marketing=True), reply(text)])
    found = await rows(store, CONSENTS)
    assert found[0] == ("marketing", True, NOON, "event shop", "")
    assert found[1][:4] == ("marketing", False, NOON + timedelta(seconds=60), "reply 9")
    assert str(found[1][4]).lower() == words
    assert await rows(store, "SELECT DISTINCT tenant, contact FROM consent") == [(TENANT, (await person(store)).id)]
    assert (await person(store)).marketing == "no"


async def test_consent_again_is_a_record_again(store: Store) -> None:
    """Every word counts as proof; the same event told twice is one word."""
    back = reply("订阅", "10", after_s=120)
    await store.turn(SHELVES, [placed(), reply("TD"), back])
    answers = await store.turn(SHELVES, [back, reply("TD")])
    assert [answer.status for answer in answers] == [Status.DUPLICATE] * 2
    assert [row[1] for row in await rows(store, CONSENTS)] == [False, True]
    assert (await person(store)).marketing == "yes"


async def test_other_words_are_no_opt_out(store: Store) -> None:
    """A question, a courtesy or a sentence with an opt-out word inside ends nothing."""
    texts = ("查询", "好的谢谢", "不要退订", "TD-LTE phone broken")
    replies = [reply(text, str(number), after_s=60 + number) for number, text in enumerate(texts, 20)]
    await store.turn(SHELVES, [placed(marketing=True), *replies])
    assert (await person(store)).marketing == "yes"
    assert len(await rows(store, CONSENTS)) == 1


async def test_opt_out_is_part_of_its_turn(store: Store) -> None:
    """Record, contact and journal are written together or not at all."""
    await store.turn(SHELVES, [placed(marketing=True)])
    arm_failpoints("turn.before_commit=raise@1")
    with pytest.raises(FailpointReached, match="before_commit"):
        await store.turn(SHELVES, [reply("TD")])
    assert (await person(store)).marketing == "yes"
    assert len(await rows(store, CONSENTS)) == 1
    answers = await store.turn(SHELVES, [reply("TD")])
    assert [answer.status for answer in answers] == [Status.ACCEPTED]
    assert (await person(store)).marketing == "no"
    assert len(await rows(store, CONSENTS)) == 2


@pytest.mark.parametrize("opted_out", [False, True])
async def test_opt_out_ends_marketing_alone(host: VirtualHost, opted_out: bool) -> None:
    """Advertising that was agreed to is sent, and is not any more after the opt-out; transactions go on."""
    await host.feed([item(marketing=True)])
    if opted_out:
        await host.feed([reply("TD", order_no="C1")])
    await host.advance(NOON + 4 * DAY)
    offer = event("5", "C1", "item.offer", after_s=4 * 86_400, price_fen=100)
    await host.feed([offer])
    await host.advance(NOON + 5 * DAY)
    topics = [message.topic for message in await host.messages()]
    assert "offer" in topics
    assert ("guide" in topics) is not opted_out
    guide = [("dropped", "no_consent")] if opted_out else [("sent", "sent")]
    assert await rows(host.store, "SELECT fate, reason FROM notice WHERE topic = 'guide'") == guide


async def test_no_word_is_no_consent(host: VirtualHost) -> None:
    """Who was never asked hears no advertising, and no record says otherwise."""
    await host.feed([item()])
    await host.advance(NOON + 4 * DAY)
    assert await rows(host.store, "SELECT fate, reason FROM notice WHERE topic = 'guide'") == [
        ("dropped", "no_consent")
    ]
    assert await rows(host.store, CONSENTS) == []


AMENDS = "SELECT order_no, contact, kind, value_fen, topic, promised_at FROM amends ORDER BY promised_at"


async def test_amends_are_promised_once_per_order_and_person(host: VirtualHost) -> None:
    """A message that makes amends writes what is to be handed out; neither a second trouble nor a replay adds to it."""
    first = event("2", kind="stock.short", after_s=10, title="Tea")
    await host.feed([placed(tier="new"), first])
    await host.advance(NOON + timedelta(minutes=1))
    found = await rows(host.store, AMENDS)
    name = (await person(host.store)).id
    assert found == [("A1", name, "coupon", 1000, "stock_short", NOON + timedelta(seconds=10))]
    again = [event("3", kind="stock.restored", after_s=100), event("4", kind="stock.short", after_s=200, title="Tea")]
    await host.feed(again)
    answers = await host.feed([first, *again])
    assert {answer.status for answer in answers} == {Status.DUPLICATE}
    await host.advance(NOON + DAY)
    assert await rows(host.store, AMENDS) == found
    await host.feed([placed(after_s=86_400, name="5", order_no="A2")])
    await host.feed([event("6", "A2", "stock.short", after_s=86_410)])
    assert [row[0] for row in await rows(host.store, AMENDS)] == ["A1", "A2"]


async def test_amends_are_part_of_their_turn(store: Store) -> None:
    """What is promised stands there when, and only when, the message that says so waits to be told."""
    arm_failpoints("turn.before_commit=raise@1")
    events = [placed(tier="new"), event("2", kind="stock.short", after_s=10)]
    with pytest.raises(FailpointReached, match="before_commit"):
        await store.turn(SHELVES, events)
    assert await rows(store, AMENDS) == []
    await store.turn(SHELVES, events)
    assert len(await rows(store, AMENDS)) == 1
    assert await rows(store, "SELECT count(*) FROM queue") == [(1,)]


async def test_person_is_found_by_phone_without_the_database_knowing_it(store: Store) -> None:
    """The blind index finds who has a phone, however it was written, in one tenant alone."""
    await store.turn(SHELVES, [placed(phone="138 1234 1234")])
    query = "SELECT contact FROM contact WHERE tenant = $1 AND phone_key = $2"
    key = phone_key(VAULT.index_key(TENANT), PHONE)
    assert await store.pool.fetchval(query, TENANT, key) == (await person(store)).id
    assert phone_key(VAULT.index_key("other"), PHONE) != key
    assert (await person(store)).phone == PHONE


async def test_several_roles_of_a_batch_and_their_replies(store: Store) -> None:
    """A reply belongs to whom it names, in the very batch that introduces them."""
    people = {"buyer": {"phone": PHONE}, "family": {"phone": "+8613900001111"}}
    answer = event("2", kind="reply.received", after_s=5, text="TD", **{"from": "family"})
    await store.turn(SHELVES, [event("1", people=people), answer])
    found = await store.pool.fetch(
        "SELECT c.tenant, c.contact, c.body FROM contact c JOIN consent USING (tenant, contact)"
    )
    assert [decode_contact(VAULT.open(*row)).phone for row in found] == ["+8613900001111"]


async def test_what_waits_follows_a_person_to_a_new_number(store: Store) -> None:
    """News held for the morning go to the new number, and the old one hears nothing."""
    await store.turn(SHELVES, [placed(quiet="00:00-23:59"), event("2", "A1", "payment.failed", after_s=10)])
    await store.turn(SHELVES, [event("3", "A1", "payment.succeeded", after_s=20, amount_fen=100)])
    old = {row[0] for row in await rows(store, "SELECT DISTINCT contact FROM queue")}
    await store.pool.execute("UPDATE contact SET history = $1", encode_state(HEARD))
    people = {"buyer": {"phone": "+8613800138002"}}
    await store.turn(SHELVES, [event("4", "A1", "contact.changed", after_s=30, people=people)])
    found = await store.pool.fetch("SELECT contact, body FROM queue")
    waiting = [(row["contact"], decode_notice(row["body"])) for row in found]
    told = [(name, notice) for name, notice in waiting if not notice.withdraws]
    assert told
    assert all(name not in old and name == notice.contact for name, notice in told)
    [(history,)] = await rows(store, f"SELECT history FROM contact WHERE contact = '{told[0][0]}'")
    assert isinstance(history, bytes)
    assert decode_history(history).told == HEARD.told[:1]
