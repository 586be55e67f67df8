"""What operators and owners do: change a playbook, and look after users, keys and the shop's settings."""

from datetime import UTC, datetime

import pytest
from playwright.async_api import expect

from orderbell.store.changes import CHANGE_TYPES
from orderbell.store.hooks import Hooks
from tests.browser.conftest import FEW, OpenWindow
from tests.browser.premises import TENANT, Premises

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_operator_changes_a_playbook(open_window: OpenWindow, premises: Premises, look: str) -> None:
    """A draft with a mistake is refused in plain words; mended, it is tried on past orders, and activated."""
    window = await open_window("otto")
    path = "/console/playbook/digital"
    await window.go(f"{path}/draft")
    await window.check("draft")
    body = await window.page.input_value("textarea[name=body]")
    await window.page.fill("textarea[name=body]", body + "\nno_such_field: 1\n")
    await window.press("main form:has(textarea) button")
    await expect(window.page.locator(".faults li").first).to_be_visible()
    await window.check("draft-faults")
    changed = f"name: digital\nextends: digital\nnotices:\n  payment_received: {{wait: {len(look)}m, within: 30m, also: []}}\n"
    await window.page.fill("textarea[name=body]", changed)
    await window.press("main form:has(textarea) button")
    await window.check("draft-changes")
    await window.press("#trial form button:not(.small)")
    await expect(window.page.locator("#trial-now table").first).to_be_visible(timeout=60_000)
    await window.page.reload()
    await window.check("trial")
    await window.page.check("#activate input[name=sure]")
    await window.press("#activate form button")
    await window.check()
    await window.go(f"{path}/versions")
    await window.check("versions")


async def test_owner_looks_after_the_shop(open_window: OpenWindow, look: str) -> None:
    """An owner invites a user, makes a key that is shown once, and reads in the trail what was done."""
    window = await open_window("olga")
    await window.go("/console/settings/users")
    await window.check("users")
    await window.page.fill("main form[action='/console/settings/users'] input[name=name]", f"new {look}")
    await window.press("main form[action='/console/settings/users'] button")
    await expect(window.page.locator("main code").first).to_contain_text("/enter/")
    await window.check()
    await window.go("/console/settings/keys")
    await window.page.fill("main form[action='/console/settings/keys'] input[name=label]", f"shop {look}")
    await window.press("main form[action='/console/settings/keys'] button")
    await expect(window.page.locator("main code").first).to_contain_text("ob_")
    await window.check()
    for name in ("account", "brand", "webhooks", "keys"):
        await window.go(f"/console/settings/{name}")
        await window.check(f"settings-{name}")
    await window.go("/console/trail")
    await window.check("trail")


@pytest.mark.parametrize("look", FEW)
async def test_owner_sees_what_a_webhook_was_sent(open_window: OpenWindow, premises: Premises) -> None:
    """A webhook that nobody answers shows what was tried, and why it did not get through."""
    made = await Hooks(premises.store, TENANT).add("https://127.0.0.1:9/bell", CHANGE_TYPES, "Bell", datetime.now(UTC))
    assert made is not None
    window = await open_window("olga")
    await window.go(f"/console/settings/webhooks/{made[0].id.hex()}")
    await window.press("main form[action$=ping] button")
    await window.check("webhook")
    await window.press("main form[action$=rotate] button")
    await window.check("webhook-rotated")
    await window.press("main form[action$=remove] button")
    await window.check()
