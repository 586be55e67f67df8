"""Signing in: the form, a wrong password, the way out, and the first run."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import expect

from orderbell.store.accounts import Accounts
from orderbell.web.account.passwords import Passwords
from orderbell.web.account.two_step import STEP_S, code_at, read_secret
from tests.browser.conftest import FEW, OpenWindow
from tests.browser.premises import TENANT, Premises

pytestmark = pytest.mark.asyncio(loop_scope="session")

PASSWORD = "a long password for tests"
GO = "main form button:not([type=button])"


async def test_sign_in_and_out(open_window: OpenWindow, premises: Premises, look: str) -> None:
    """A wrong password is told kindly, the right one opens the console, signing out closes it."""
    accounts = Accounts(premises.store)
    account = await accounts.add(TENANT, f"sue {look}", "owner", datetime.now(UTC))
    await accounts.set_password(account, await Passwords().hash(PASSWORD))
    window = await open_window()
    await window.go("/sign-in")
    await window.check("sign-in")
    window.expected = {401}
    await window.page.fill("input[name=name]", f"sue {look}")
    await window.page.fill("input[name=password]", "not the password")
    await window.press(GO)
    await expect(window.page.locator("input[name=name]")).to_have_value(f"sue {look}")
    await window.check()
    await window.page.fill("input[name=password]", PASSWORD)
    await window.press(GO)
    await window.page.wait_for_url("**/console**")
    session = next(one for one in await window.page.context.cookies() if one["name"].startswith("__Host-"))
    assert (session["httpOnly"], session["secure"], session["sameSite"]) == (True, True, "Lax")
    leave = window.page.locator("form[action='/sign-out'] button").first
    if not await leave.is_visible():  # behind the menu of a narrow window
        await window.page.locator("header summary, header button[aria-expanded]").first.click()
    async with window.page.expect_navigation(url="**/sign-in**"):
        await leave.click()
    await window.go("/console")
    assert "/sign-in" in window.page.url


@pytest.mark.parametrize("look", FEW)
async def test_second_step(open_window: OpenWindow, premises: Premises, look: str) -> None:
    """The second step is turned on with a code of the app, and from then on the password alone opens nothing."""
    accounts, name = Accounts(premises.store), f"tom {look}"
    account = await accounts.add(TENANT, name, "viewer", datetime.now(UTC))
    await accounts.set_password(account, await Passwords().hash(PASSWORD))
    window = await open_window()

    async def sign_in(code: str = "") -> None:
        await window.page.fill("input[name=name]", name)
        await window.page.fill("input[name=password]", PASSWORD)
        await window.page.fill("input[name=code]", code)
        await window.press(GO)

    await window.go("/sign-in")
    await sign_in()
    await window.go("/console/settings/account/two-step")
    await window.check("two-step")
    secret = read_secret(await window.page.locator("input[name=secret]").input_value())
    assert secret is not None
    await window.page.fill("main form input[name=current]", PASSWORD)
    await window.page.fill("main form input[name=code]", code_at(secret, datetime.now(UTC) - timedelta(seconds=STEP_S)))
    await window.press("main form[action$=two-step] button")
    await window.check("two-step-on")
    await window.page.context.clear_cookies()
    await window.go("/sign-in")
    window.expected = {401}
    await sign_in()
    await window.check("sign-in-refused")
    await sign_in(code_at(secret, datetime.now(UTC) + timedelta(seconds=STEP_S)))
    await window.page.wait_for_url("**/console**")


@pytest.mark.parametrize("look", FEW)
async def test_console_asks_who_is_there(open_window: OpenWindow) -> None:
    """Whoever is not signed in is led to the form, and from there to where they wanted to go."""
    window = await open_window()
    await window.go("/console/orders")
    await expect(window.page.locator("input[name=next]")).to_have_value("/console/orders")


@pytest.mark.parametrize("look", FEW)
async def test_link_that_is_over_says_so(open_window: OpenWindow) -> None:
    """A one-time link that nobody made, and a page that is not there, are told in plain words."""
    window = await open_window()
    for path in (f"/enter/{'x' * 43}", f"/t/{'x' * 22}", "/nowhere"):
        await window.go(path, 404)
        await window.check()
