"""What viewers and agents do: look, search, and find out why."""

import pytest
from playwright.async_api import expect

from tests.browser.conftest import FEW, OpenWindow
from tests.browser.premises import Premises

pytestmark = pytest.mark.asyncio(loop_scope="session")

SPOKEN = ["1280-zh-CN", "390-zh-CN"]
"""Both sizes, in the language in which barriers are looked for."""


async def test_viewer_looks_around(open_window: OpenWindow, premises: Premises) -> None:
    """Overview, search, an order with its reasons, messages, cases and the glossary; people stay closed."""
    window = await open_window("vera")
    await window.go("/console")
    await expect(window.page.locator("#feed li").first).to_be_visible()
    await window.check("overview")
    order_no = await premises.order_with("payment_failed")
    await window.go("/console/orders")
    await window.check("orders")
    await window.page.fill("main form[role=search] input[name=q]", order_no)
    await window.press("main form[role=search] button")
    await window.page.wait_for_url("**/console/order*")
    if "/console/orders?" in window.page.url:
        await window.press(f"main tbody a:has-text('{order_no}')")
    await expect(window.page.locator("h1")).to_contain_text(order_no)
    await window.check("order")
    for path in (
        "/console/messages", "/console/messages/opened", "/console/cases", "/console/providers", "/console/glossary", "/console/playbook",
        "/console/playbook/retail", "/console/playbook/retail/texts", "/console/playbook/retail/versions",
    ):  # fmt: skip
        await window.go(path)
        await window.check(path.removeprefix("/console/").strip("/").replace("/", "-"))
    await window.go("/console/orders?q=nobody-has-this-number")
    await window.check("orders-none")
    await window.go("/console/people", 403)
    await window.check()


async def test_agent_helps_a_person(open_window: OpenWindow, premises: Premises) -> None:
    """An agent finds a person by phone, sees what they heard and why not, and changes their wishes."""
    window = await open_window("ada")
    await window.go("/console/people")
    await window.check("people")
    contact: str = await premises.store.pool.fetchval(
        "SELECT contact FROM message GROUP BY contact ORDER BY count(*) DESC, contact LIMIT 1"
    )
    await window.go(f"/console/person?id={contact}")
    await window.check("person")
    quiet = window.page.locator("input[name=quiet]")
    await quiet.fill("later")
    window.expected = {422}
    await window.press("#wishes form button")
    await expect(window.page.locator("#w-quiet")).to_be_visible()
    await window.check()
    await window.page.fill("input[name=quiet]", "22:30-08:00")
    await window.press("#wishes form button")
    await expect(window.page.locator("input[name=quiet]")).to_have_value("22:30-08:00")
    await window.check()


@pytest.mark.parametrize("look", FEW)
async def test_feed_is_live(open_window: OpenWindow, premises: Premises, look: str) -> None:
    """What happens while the overview is open appears on it by itself."""
    window = await open_window("vera")
    await window.go("/console")
    order_no = f"LIVE-{look}"
    people = {"buyer": {"id": f"live-{look}", "phone": "+8613800138111"}}
    await premises.tell(order_no, ("order.placed", {"people": people}), ("payment.failed", {}))
    await expect(window.page.locator(f"#feed :text('{order_no}')").first).to_be_visible()
    await window.check()


@pytest.mark.parametrize("look", SPOKEN)
async def test_api_page_bars_nobody(open_window: OpenWindow) -> None:
    """The API's page must be for everybody: with routes open, an answer on it, and the dialog for a key."""
    window = await open_window()
    await window.go("/docs")
    for route in ("events-tellEvents", "people-changeContact", "orders-listOrders"):
        await window.page.click(f"#operations-{route} .opblock-summary-control")
    window.expected = {401}
    await window.page.click("#operations-orders-listOrders button.execute")
    await expect(window.page.locator(".live-responses-table tbody .response-col_status").first).to_have_text("401")
    await window.check("docs")
    await window.page.click(".auth-wrapper button.authorize")
    dialog = window.page.get_by_role("dialog", name="Authorize")
    await expect(dialog.get_by_label("Value:")).to_be_focused()
    await dialog.get_by_role("button", name="Close").first.click()
    await expect(dialog).to_be_hidden()
