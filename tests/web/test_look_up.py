"""Orders looked up by number and digits: hits lead to the page, misses teach nothing."""

import re
import time

import pytest

from orderbell.store.brand import Brand, Brands
from orderbell.store.postgres import Store
from orderbell.web.guest.look_up import ANSWER_S
from tests.dispatch.rig import NOON
from tests.guests import Pages, buyer, running_pages


async def looked_up(pages: Pages, order: str = "A1", phone: str = "8000", **more: str) -> tuple[int, str, str]:
    """Send the form: status, where it leads, and the page without what differs from one answer to the next."""
    response = await pages.http.post("/track", data={"order": order, "phone": phone, **more})
    return response.status_code, response.headers.get("location", ""), re.sub(r'nonce="[^"]*"', "", response.text)


async def test_number_and_digits_lead_to_the_page(store: Store) -> None:
    """However they are typed, the right ones must lead to the page of the person with that phone."""
    async with running_pages(store) as pages:
        await pages.tell("order.placed", people=buyer())
        assert 'name="phone"' in (await pages.http.get("/track")).text
        for order, phone in [("A1", "8000"), (" A1 ", "８０００"), ("Ａ1", " 8000")]:
            status, where, _ = await looked_up(pages, order, phone)
            assert (status, where) == (303, await pages.path())
            assert (await pages.http.get(where)).status_code == 200


async def test_misses_look_alike(store: Store) -> None:
    """Unknown number, wrong digits, another shop, an order without phones or long over: one and the same answer."""
    async with running_pages(store, ("acme", "other")) as pages:
        await pages.tell("order.placed", people=buyer())
        await pages.tell("order.placed", "N1")
        await pages.tell("order.placed", "X1", tenant="other", people=buyer())
        await pages.tell("order.placed", "D1", people=buyer())
        await pages.tell("parcel.scanned", "D1", phase="delivered")
        pages.clock.turn(86400 * 31)
        answers = set()
        for order, phone in [("A1", "1234"), ("Z9", "8000"), ("X1", "8000"), ("N1", "----"), ("N1", "none"), ("D1", "8000"), ("A1", ""), ("", ""),
                             ("A1", "8000 "[:3]), ("A\x001", "8000"), ("订单", "8000"), ("x" * 500, "8000"), ("A1", "0138000")]:  # fmt: skip
            pages.clock.turn(61)
            status, _, text = await looked_up(pages, order, phone, shop="acme")
            assert status == 404, (order, phone)
            answers.add(re.sub(r'(name="order" value=")[^"]*', r"\1", text))  # what was typed is typed already
        assert len(answers) == 1
        pages.clock.turn(3600)
        assert (await looked_up(pages, shop="acme"))[0] == 303


async def test_all_answers_take_alike(store: Store) -> None:
    """Hit or miss, an answer must come at the end of the fixed span, never before."""
    async with running_pages(store) as pages:
        await pages.tell("order.placed", people=buyer())
        for order, phone in [("A1", "8000"), ("A1", "1111"), ("Z1", "8000"), ("", "")]:
            begun = time.perf_counter()
            await looked_up(pages, order, phone)
            assert time.perf_counter() - begun >= ANSWER_S


async def test_an_address_asks_five_times_a_minute(store: Store) -> None:
    """The sixth must be refused in words, whatever it asks for, and not for ever."""
    async with running_pages(store) as pages:
        await pages.tell("order.placed", people=buyer())
        for number in range(5):
            assert (await looked_up(pages, f"Z{number}"))[0] == 404
        response = await pages.http.post("/track", data={"order": "A1", "phone": "8000"})
        assert (response.status_code, "查得太频繁了" in response.text) == (429, True)
        assert int(response.headers["retry-after"]) <= 60
        pages.clock.turn(61)
        assert (await looked_up(pages))[0] == 303


async def test_an_order_is_looked_up_ten_times_an_hour(store: Store) -> None:
    """From however many addresses, digits can be tried ten times; of an order that is not there too."""
    async with running_pages(store) as pages:
        await pages.tell("order.placed", people=buyer())
        for order in ("A1", "Z9"):
            statuses = []
            for number in range(11):
                pages.clock.turn(61)
                statuses.append((await looked_up(pages, order, f"{number:04d}"))[0])
            assert statuses == [404] * 10 + [429]
        pages.clock.turn(3600)
        assert (await looked_up(pages))[0] == 303


@pytest.mark.parametrize("shop", ["", "nobody", "ACME"])
async def test_shop_that_is_not_known(store: Store, shop: str) -> None:
    """Where there are several shops, one must be named; no list of them is shown, and nothing is found without."""
    async with running_pages(store, ("acme", "other")) as pages:
        await Brands(store).set("acme", Brand(name="清茗茶庄"), NOON)
        await pages.tell("order.placed", people=buyer())
        text = (await pages.http.get("/track", params={"shop": shop})).text
        assert "请从店铺发给您的链接" in text
        assert "清茗茶庄" not in text
        assert 'name="order"' not in text
        assert (await looked_up(pages, shop=shop))[0] == 404
        assert "清茗茶庄" in (await pages.http.get("/track?shop=acme")).text


async def test_look_up_from_another_site(store: Store) -> None:
    """Another site must not look orders up with somebody's browser."""
    async with running_pages(store) as pages:
        response = await pages.http.post("/track", data={"order": "A1"}, headers={"sec-fetch-site": "cross-site"})
        assert response.status_code == 403
