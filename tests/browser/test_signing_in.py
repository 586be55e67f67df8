"""Signing in: the form, a wrong password, and the way out."""

import pytest
from playwright.async_api import expect

from tests.browser.conftest import OpenWindow

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_sign_in_and_out(open_window: OpenWindow) -> None:
    """A wrong password is told kindly, the right one opens the console, signing out closes it."""
    window = await open_window()
    await window.go("/sign-in")
    await window.check("sign-in")
    window.expected = {401}
    await window.page.fill("input[name=name]", "olga")
    await window.page.fill("input[name=password]", "not the password")
    await window.page.click("form button:not([type=button])")
    await expect(window.page.locator("input[name=name]")).to_have_value("olga")
    await window.check()
    await window.sign_in("olga")
    assert (await window.page.context.cookies())[0]["httpOnly"]


async def test_console_asks_who_is_there(open_window: OpenWindow) -> None:
    """Whoever is not signed in is led to the form, and from there to where they wanted to go."""
    window = await open_window()
    await window.go("/console/orders")
    await expect(window.page.locator("input[name=next]")).to_have_value("/console/orders")
