"""What a customer does: look at the page of an order, choose, say what they wish to hear, and look an order up."""

import pytest
from playwright.async_api import expect

from orderbell.store.unsubscribe import unsubscribe_token
from tests.browser.conftest import FEW, OpenWindow
from tests.browser.premises import TENANT, Premises
from tests.database import VAULT

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def order_that_asks(premises: Premises, look: str) -> str:
    """An order that is short of stock, so that its buyer is asked what to do."""
    order_no = f"SHORT-{look}"
    people = {"buyer": {"id": f"buyer-{look}", "phone": "+8613800138222"}}
    await premises.tell(
        order_no,
        ("order.placed", {"people": people, "title": "羊毛围巾", "amount_fen": 19900}),
        ("payment.succeeded", {"amount_fen": 19900}),
        ("stock.short", {}),
    )
    return order_no


async def test_customer_chooses(open_window: OpenWindow, premises: Premises, look: str) -> None:
    """The page says how the order stands, asks, says what follows, and thanks for the answer."""
    order_no = await order_that_asks(premises, look)
    window = await open_window()
    path = await premises.page_of(order_no)
    await window.go(path)
    await expect(window.page.locator(".ways a").first).to_be_visible()
    await window.check("customer")
    await window.press(".ways li:last-child a")
    await window.check("customer-choice")
    await window.press("main form button")
    await expect(window.page.locator(".chosen")).to_be_visible()
    await window.check("customer-chosen")


async def test_customer_says_what_they_wish_to_hear(open_window: OpenWindow, premises: Premises, look: str) -> None:
    """Wishes are saved by one button, and said to be saved."""
    window = await open_window()
    path = await premises.page_of(await premises.order_with(playbook="retail"))
    await window.go(f"{path}/wishes")
    await window.check("customer-wishes")
    await window.page.locator("input[name=frequency]").last.check()
    await window.press("main form button")
    await expect(window.page.locator("[role=status]")).to_be_visible()
    await window.check()


@pytest.mark.parametrize("look", FEW)
async def test_customer_looks_an_order_up(open_window: OpenWindow, premises: Premises, look: str) -> None:
    """Number and last four digits open the page; a miss is told without saying which of them was wrong."""
    order_no = f"UP-{look}"
    people = {"buyer": {"id": f"up-{look}", "phone": "+8613800134321"}}
    await premises.tell(order_no, ("order.placed", {"people": people}))
    window = await open_window()
    await window.go("/track")
    await window.check("look-up")
    window.expected = {404, 422}
    for digits in ("0000", "4321"):
        await window.page.fill("input[name=order]", order_no)
        await window.page.fill("input[name=phone]", digits)
        await window.press("main form button")
        await window.check()
    assert "/t/" in window.page.url


@pytest.mark.parametrize("look", FEW)
async def test_customer_is_asked_to_wait(open_window: OpenWindow, premises: Premises) -> None:
    """Whoever looks up too often is told for how long to leave it."""
    desk = await open_window()
    await premises.store.pool.execute("DELETE FROM throttle")
    await desk.go("/track")
    desk.expected = {404, 429}
    for _ in range(6):
        await desk.page.fill("input[name=order]", "NONE-1")
        await desk.page.fill("input[name=phone]", "0000")
        await desk.press("main form button")
        if not await desk.page.locator("input[name=order]").count():
            break
    await desk.check("look-up-often")
    await premises.store.pool.execute("DELETE FROM throttle")


@pytest.mark.parametrize("look", FEW)
async def test_customer_ends_advertising(open_window: OpenWindow, premises: Premises) -> None:
    """The link of a mail asks first; its button ends advertising and says so."""
    window = await open_window()
    await window.go(f"/u/{unsubscribe_token(VAULT.index_key, TENANT, 'somebody')}")
    await window.check("unsubscribe")
    await window.press("main form button")
    assert await window.page.locator("main form").count() == 0
    await window.check("unsubscribed")


@pytest.mark.parametrize("look", FEW)
@pytest.mark.parametrize("playbook", ["retail", "digital", "consignment"])
async def test_page_of_every_playbook(open_window: OpenWindow, premises: Premises, playbook: str) -> None:
    """Each kind of order has its page."""
    window = await open_window()
    await window.go(await premises.page_of(await premises.order_with(playbook=playbook)))
    await window.check(f"customer-{playbook}")
