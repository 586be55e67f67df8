"""Tokens, links and corrections in the database: what is stored, and what can be learnt from it."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from orderbell.core.clicks import Click
from orderbell.core.model import Message
from orderbell.store.links import HITS_MAX, Links
from orderbell.store.postgres import Store
from orderbell.store.tracking import ALPHABET, KEPT, TOKEN_LENGTH, Tracking, is_token, token_of
from tests.dispatch.rig import NOON
from tests.guests import BROWSER, PHONE, Pages, buyer, running_pages

AGENT = BROWSER["user-agent"]


def message(number: int = 1, channel: str = "email", **more: object) -> Message:
    """A message about A1 for ann."""
    named: dict[str, object] = {
        "id": number.to_bytes(16), "tenant": "acme", "contact": "ann", "channel": channel, "to": "ann@example.com",
        "topic": "shipped", "category": "progress", "lane": "service", "order_no": "A1", "text": "x", "subject": "",
        "notices": (), "created_at": NOON, "told_at": NOON, "valid_until": NOON, **more,
    }  # fmt: skip
    return Message(**named)  # type: ignore[arg-type]


async def placed(pages: Pages) -> None:
    """An order of ann."""
    await pages.tell("order.placed", people=buyer())


@given(st.binary(min_size=32, max_size=32), st.lists(st.text(), max_size=3))
def test_token_is_22_base62_characters(key: bytes, names: list[str]) -> None:
    """Whatever is signed, the token must have 131 bits in its 22 characters and be the same again."""
    names = [name.encode(errors="replace").decode() for name in names]
    token = token_of(key, "x", *names)
    assert len(token) == TOKEN_LENGTH
    assert set(token) <= set(ALPHABET)
    assert is_token(token)
    assert token == token_of(key, "x", *names)
    assert token != token_of(key, "y", *names)


async def test_token_is_stored_as_a_hash_only(store: Store) -> None:
    """No column may hold a token or a code; one is written when it is handed out, once."""
    async with running_pages(store) as pages:
        await placed(pages)
        tracking, links = Tracking(store), Links(store)
        token = tracking.token("acme", "A1", "ann")
        assert await tracking.whose(token) is None, "not handed out yet"
        assert await tracking.token_for("acme", "A1", NOON, "ann") == token
        await tracking.token_for("acme", "A1", NOON, "ann")
        assert await tracking.whose(token) == ("acme", "A1", "ann")
        (code,) = (await links.codes_for([message()], NOON)).values()
        dump = repr(await pages.contents())
        assert token not in dump
        assert code not in dump
        assert len((await pages.contents())["tracking"]) == 1


async def test_token_differs_by_tenant_order_and_person(store: Store) -> None:
    """Nobody's token may follow from another one's."""
    tracking = Tracking(store)
    tokens = {
        tracking.token(*names)
        for names in [
            ("acme", "A1", "ann"),
            ("acme", "A1", "bob"),
            ("acme", "A2", "ann"),
            ("b", "A1", "ann"),
            ("acme", "A1", ""),
        ]
    }
    assert len(tokens) == 5


async def test_page_of_somebody_who_left_the_order(store: Store) -> None:
    """Who stands in the order no more must lose the page, unless it is the same person under another id."""
    async with running_pages(store) as pages:
        await pages.tell("order.placed", people={"buyer": {"phone": PHONE}})
        tracking = Tracking(store)
        first = await pages.path()
        assert (await pages.http.get(first)).status_code == 200
        await pages.tell("contact.changed", people=buyer())
        assert (await pages.http.get(first)).status_code == 200, "the same phone: the same person"
        await pages.tell("contact.changed", people={"buyer": {"id": "eve", "phone": "+8613700137000"}})
        assert (await pages.http.get(first)).status_code == 404
        assert await tracking.page("acme", "A1", "nobody") is None


async def test_correction_is_sealed(store: Store) -> None:
    """An address must stand in no table in clear, and be readable for who may read it."""
    async with running_pages(store) as pages:
        await placed(pages)
        tracking = Tracking(store)
        page = await tracking.page("acme", "A1", "ann")
        assert page is not None
        for _ in range(2):
            await tracking.correct(page.order, b"x" * 16, "ann", "杭州市西湖区龙井路 1 号", NOON)
        assert "龙井路" not in repr(await pages.contents())
        assert "龙井路".encode().hex() not in repr(await pages.contents())
        (kept,) = await tracking.corrections("acme", "A1")
        assert (kept.text, kept.contact) == ("杭州市西湖区龙井路 1 号", "ann")
        assert await tracking.corrections("other", "A1") == []
        await tracking.forget(NOON + KEPT + timedelta(days=1))
        assert await tracking.corrections("acme", "A1") == []


async def test_links_are_made_for_what_can_carry_one(store: Store) -> None:
    """SMS and the inbox carry no link, nor does what is about no order; a second try has the same one."""
    async with running_pages(store) as pages:
        await placed(pages)
        links = Links(store)
        batch = [message(1), message(2, "sms"), message(3, "inbox"), message(4, "push"), message(5, order_no="")]
        codes = await links.codes_for(batch, NOON)
        assert set(codes) == {message(1).id, message(4).id}
        assert await links.codes_for(batch, NOON + timedelta(hours=1)) == codes
        assert await links.codes_for([message(2, "sms")], NOON) == {}


async def test_open_rates_count_people(store: Store) -> None:
    """A message counts once however often its link is followed, scanners stand apart, other tenants do not count."""
    async with running_pages(store) as pages:
        await placed(pages)
        links = Links(store)
        batch = [message(number) for number in (1, 2, 3)]
        codes = await links.codes_for(batch, NOON)
        for one in batch:
            await store.pool.execute(
                "INSERT INTO message (tenant, message_id, order_no, contact, topic, channel, lane, text, body, created_at,"
                " told_at, valid_until, status, attempt_no, attempt_id, provider, worker)"
                " VALUES ('acme', $1, 'A1', 'ann', 'shipped', 'email', 1, '', '', $2, $2, $2, 'accepted', 1, $1, 'x', 0)",
                one.id, NOON,
            )  # fmt: skip
        later = NOON + timedelta(minutes=3)
        for _ in range(2):
            await links.follow(codes[batch[0].id], Click("GET", AGENT, "", later), ("1.1.1.1", AGENT))
        await links.follow(codes[batch[1].id], Click("GET", "curl/8", "", later), ("1.1.1.1", "curl/8"))
        (rate,) = await links.open_rates("acme", NOON - timedelta(days=1))
        assert (rate.topic, rate.channel, rate.sent, rate.clicked, rate.opened) == ("shipped", "email", 3, 1, 2)
        assert await links.open_rates("acme", later) == []
        assert await links.open_rates("other", NOON) == []


async def test_hits_are_bounded_and_hold_nothing_of_a_visitor(store: Store) -> None:
    """A link that is hammered must leave a bounded number of rows, without address or browser."""
    async with running_pages(store) as pages:
        await placed(pages)
        links = Links(store)
        (code,) = (await links.codes_for([message()], NOON)).values()
        for number in range(HITS_MAX + 5):
            click = Click("GET", AGENT, "", NOON + timedelta(minutes=1 + number))
            assert await links.follow(code, click, ("203.0.113.7", AGENT)) is not None
        hits = (await pages.contents())["hit"]
        assert len(hits) == HITS_MAX
        assert "203.0.113.7" not in repr(hits)
        assert "iPhone" not in repr(hits)
