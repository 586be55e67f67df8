"""The link of an SMS on its way: masked where it is stored, whole where it leaves and where its provider is asked."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial

import pytest

from orderbell.app.customer_pages import links_of
from orderbell.channels.protocol import Fate, Found, Outcome
from orderbell.core.clicks import Click
from orderbell.core.model import Message
from orderbell.core.wording import LINK_LENGTH, LINK_MASK
from orderbell.dispatch.routes import Routes
from orderbell.store.links import Links, with_code
from orderbell.store.postgres import Store
from tests.database import VAULT
from tests.dispatch.rig import House, Scripted, notice, shelves
from tests.store.test_tracking import message

BASE = "d.cn/l/"


@pytest.fixture
def house(store: Store) -> House:
    """A house whose playbook has links in SMS."""
    made = House(store)
    made.shelves = shelves(sms_link=BASE)
    return made


def code_in(text: str) -> str:
    """The code at the end of a text."""
    code = text.rpartition(BASE)[2]
    assert len(code) == LINK_LENGTH
    assert code.isalnum()
    return code


async def test_sms_leaves_with_its_link(house: House, store: Store) -> None:
    """The person must get a link that works, without any other address of ours; what is stored must not hold it."""
    channel, links = Scripted(), Links(store)
    await house.put(notice())
    await house.dispatcher(channel, links=partial(links_of, links, "", house.clock)).step()
    (got,) = channel.got
    code = code_in(got.text)
    assert got.link == ""
    (stored,) = await store.pool.fetch("SELECT text, body FROM message")
    assert stored["text"].endswith(BASE + LINK_MASK)
    assert code.encode() not in stored["body"]
    person = Click("GET", "Mozilla/5.0 (iPhone)", "", house.clock() + timedelta(minutes=5))
    target = await links.follow(code, person)
    assert target is not None
    assert (target.tenant, target.order_no, target.contact) == ("acme", "A1", "c1")
    assert await links.follow(LINK_MASK, person) is None
    assert await links.follow(code[:-1], person) is None
    (rate,) = await links.open_rates("acme", house.clock())
    assert (rate.channel, rate.sent, rate.clicked) == ("sms", 1, 1)


async def test_doubtful_sms_is_asked_for_by_what_it_said(house: House, store: Store) -> None:
    """A provider that finds messages by their words must be told the words that left, and the next try must not differ."""
    channel = Scripted(Outcome.UNKNOWN)
    await house.put(notice())
    dispatcher = house.dispatcher(channel, links=partial(links_of, Links(store), "", house.clock))
    await dispatcher.step()
    channel.found = [Found(channel.got[0].attempt_id, Fate.NOT_FOUND)]
    house.clock.turn(2)
    assert (await dispatcher.resolve(), await dispatcher.step()) == (1, 1)
    assert [one.text for one in channel.asked] == [channel.got[0].text]
    assert {one.text for one in channel.got} == {channel.got[0].text}
    assert len(channel.got) == 2
    assert LINK_MASK not in channel.got[0].text


async def test_sms_waits_where_its_link_cannot_be_kept(house: House, store: Store) -> None:
    """No SMS may leave with a link that leads nowhere: it must wait, its provider unblamed, and leave with it later."""
    channel, links = Scripted(), Links(store)
    broken = True

    async def flaky(messages: Sequence[Message]) -> Mapping[bytes, str]:
        return {} if broken else await links_of(links, "", house.clock, messages)

    routes = Routes([channel], house.clock())
    dispatcher = house.dispatcher(routes, links=flaky)
    await house.put(*[notice(number=number, order_no=f"A{number}") for number in range(1, 30)])
    await dispatcher.step()
    assert channel.got == []
    assert set(await house.statuses()) == {"queued"}
    broken = False
    house.clock.turn(60)
    await dispatcher.step()
    assert len({code_in(one.text) for one in channel.got}) == 29
    assert set(await house.statuses()) == {"accepted"}


def test_words_of_others_are_left_alone() -> None:
    """Only the mask at the end is filled, in the text and in the slots; stars that a shop wrote stay what they were."""
    plain = message(channel="sms", text="Order ****: paid.")
    assert with_code(VAULT, plain) is plain
    masked = message(
        channel="sms", text=f"Order A1: {LINK_MASK} paid. {BASE}{LINK_MASK}",
        slots=(("order_no", "A1"), ("title", LINK_MASK), ("link", LINK_MASK)),
    )  # fmt: skip
    sent = with_code(VAULT, masked)
    code = code_in(sent.text)
    assert sent.text == f"Order A1: {LINK_MASK} paid. {BASE}{code}"
    assert sent.slots == (("order_no", "A1"), ("title", LINK_MASK), ("link", code))
    assert with_code(VAULT, message(2, "sms", text=masked.text)).text != sent.text
