"""Short links: where they lead, what they count, and how messages come by them."""

from functools import partial

from orderbell.app.customer_pages import links_of
from orderbell.dispatch import Dispatcher
from orderbell.store.ledger import Ledger
from orderbell.store.links import Links
from orderbell.store.postgres import Store
from tests.dispatch.rig import Scripted
from tests.guests import BROWSER, Pages, buyer, running_pages
from tests.store.test_tracking import message


async def linked(pages: Pages, channel: str = "email") -> str:
    """The path of the link of a message that was handed over five minutes ago."""
    await pages.tell("order.placed", people=buyer())
    (code,) = (await pages.pages.links.codes_for([message(channel=channel)], pages.clock())).values()
    pages.clock.turn(300)
    return f"/l/{code}"


async def reasons(pages: Pages) -> list[str]:
    """What the requests so far were judged to be."""
    return [row[0] for row in await pages.store.pool.fetch("SELECT reason FROM hit ORDER BY place")]


async def test_link_leads_to_the_page_of_its_reader(store: Store) -> None:
    """A link must lead to the page, uncached, and to nothing that a request names."""
    async with running_pages(store) as pages:
        path = await linked(pages)
        for asked in (path, f"{path}?next=https://evil.example", f"{path}?lang=en&url=//evil.example"):
            response = await pages.http.get(asked, headers={"host": "evil.example"})
            assert (response.status_code, response.headers["location"]) == (302, await pages.path())
            assert response.headers["cache-control"] == "no-store"
            assert (await pages.http.get(response.headers["location"])).status_code == 200
        assert await reasons(pages) == ["person"] * 3


async def test_programs_are_not_counted(store: Store) -> None:
    """HEAD, prefetch, previews and what says nothing of itself must be put down as what they are."""
    async with running_pages(store) as pages:
        path = await linked(pages)
        await pages.http.head(path)
        await pages.http.get(path, headers={"sec-purpose": "prefetch;prerender"})
        await pages.http.get(path, headers={"purpose": "prefetch"})
        await pages.http.get(path, headers={"user-agent": "WhatsApp/2.2"})
        await pages.http.get(path, headers={"user-agent": ""})
        assert await reasons(pages) == ["not_get", "prefetch", "prefetch", "program", "program"]
        assert not await store.pool.fetchval("SELECT bool_or(human) FROM hit")


async def test_scanner_and_its_twin_are_taken_back(store: Store) -> None:
    """Two programs within two seconds, or one that opens the trap, must undo what was counted before."""
    async with running_pages(store) as pages:
        path = await linked(pages)
        await pages.http.get(path)
        pages.clock.turn(1)
        await pages.http.get(path, headers={"user-agent": "Mozilla/5.0 (Windows NT 10.0) Chrome/140"})
        assert await reasons(pages) == ["burst", "burst"]
        pages.clock.turn(60)
        await pages.http.get(path)
        assert await reasons(pages) == ["burst", "burst", "person"]
        await pages.http.get(f"{path}/all")
        assert (await reasons(pages))[2:] == ["trap", "trap"]


async def test_scanner_on_the_way_of_a_mail(store: Store) -> None:
    """What opens a mail's link seconds after it was handed over must not count, though it calls itself a browser."""
    async with running_pages(store) as pages:
        await pages.tell("order.placed", people=buyer())
        (code,) = (await pages.pages.links.codes_for([message()], pages.clock())).values()
        pages.clock.turn(5)
        await pages.http.get(f"/l/{code}")
        assert await reasons(pages) == ["too_soon"]


async def test_link_changes_nothing_but_the_count(store: Store) -> None:
    """Following a link must leave every other table as it was."""
    async with running_pages(store) as pages:
        path = await linked(pages)
        before = await pages.contents()
        await pages.http.get(path)
        after = await pages.contents()
        assert len(after.pop("hit")) == len(before.pop("hit")) + 1
        assert after == before


async def test_link_that_is_nobodys(store: Store) -> None:
    """An unknown code must be the same 404 as an unknown token, and a page's token is no code."""
    async with running_pages(store) as pages:
        path = await linked(pages)
        token = (await pages.path())[3:]
        for code in ("x" * 22, "x", token, path[3:].swapcase()):
            response = await pages.http.get(f"/l/{code}")
            assert (response.status_code, "这个链接打不开" in response.text) == (404, True)
        assert (await pages.http.post(path)).status_code == 405
        assert await reasons(pages) == []


async def test_messages_carry_their_links(store: Store) -> None:
    """Mail and push must be handed over with a link that works, SMS without; nothing is written without an address."""
    async with running_pages(store) as pages:
        channel = Scripted(carries=frozenset({"sms", "email", "push"}))
        await pages.tell("order.placed", people=buyer(email="ann@example.com", app="token-1234567890"))
        await pages.tell("payment.succeeded", amount_fen=100)
        pages.clock.turn(300)
        links = partial(links_of, Links(store), "https://bell.example/", pages.clock)
        await Dispatcher(Ledger(store), pages.shelves, [channel], now=pages.clock, links=links).step()
        by_channel = {one.channel: one.link for one in channel.got}
        assert by_channel["email"].startswith("https://bell.example/l/")
        assert not by_channel.get("sms")
        pages.clock.turn(60)
        path = by_channel["email"].removeprefix("https://bell.example")
        response = await pages.http.get(path, headers=BROWSER)
        assert (await pages.http.get(response.headers["location"])).status_code == 200
        rows = await store.pool.fetchval("SELECT count(*) FROM link")
        await pages.tell("parcel.shipped", carrier="SF", tracking_no="SF12345678")
        pages.clock.turn(300)
        await Dispatcher(Ledger(store), pages.shelves, [channel], now=pages.clock).step()
        assert len(channel.got) > len(by_channel)
        assert not channel.got[-1].link
        assert await store.pool.fetchval("SELECT count(*) FROM link") == rows


async def test_messages_leave_without_links_when_those_cannot_be_kept(store: Store) -> None:
    """A database that is away must cost the link, never the message."""
    links = Links(store)
    await store.pool.close()
    assert await links_of(links, "https://bell.example", lambda: message().told_at, [message()]) == {}
