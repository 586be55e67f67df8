"""A browser window that finds fault: with errors on the console, failed requests, overflowing pages and barriers."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import BrowserContext, ConsoleMessage, FloatRect, Page, Request, Response, expect

from tests.house.tree import ROOT

PICTURES: Final = "ORDERBELL_PICTURES"
"""Set to anything, pictures for the README go to docs/pictures."""

CHOSEN: Final = frozenset(
    {
        *(f"{name}-{locale}-1280" for name in ("overview", "order", "messages", "trial") for locale in ("zh-CN", "en")),
        *(f"{name}-zh-CN-1280" for name in ("orders", "person", "cases", "providers", "playbook-retail-texts")),
        *(f"customer-{locale}-390" for locale in ("zh-CN", "en")),
        *(f"{name}-zh-CN-390" for name in ("overview", "order", "customer-choice")),
    }
)
"""Those of them that are kept in docs/pictures."""

PICTURE_BYTES_MAX: Final = 150_000
LOWER_BY: Final = (1, 0.875, 0.75, 0.625)
"""A kept picture that has too many bytes is cut at the bottom."""

GRAVE: Final = frozenset({"serious", "critical"})
_CLIENT_ERROR: Final = 400

# A violation of the content security policy is told to the page; this passes it on to whoever reads its console.
_REPORT: Final = (
    "document.addEventListener('securitypolicyviolation',"
    " (event) => console.error('CSP: ' + event.violatedDirective + ' ' + event.blockedURI + ' ' + event.sourceFile))"
)
_TOO_WIDE: Final = """() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    return [...document.querySelectorAll('body *')]
        .filter((one) => one.getBoundingClientRect().right > width + 1)
        .slice(0, 5).map((one) => one.outerHTML.slice(0, 120));
}"""


@dataclass
class Window:
    """One window of one visitor; everything that goes wrong in it is kept until `close` or `check` complains."""

    page: Page
    base: str
    size: str
    locale: str
    pictures: Path
    faults: list[str] = field(default_factory=list)
    expected: set[int] = field(default_factory=set)

    async def watch(self) -> None:
        """Listen for faults from now on."""
        await self.page.add_init_script(_REPORT)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda problem: self.faults.append(f"{self.page.url}: uncaught {problem}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._answered)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not self._is_expected(message.text):
            self.faults.append(f"{self.page.url}: console {message.type}: {message.text}")

    def _is_expected(self, text: str) -> bool:
        return any(f"status of {status}" in text for status in self.expected)

    def _failed(self, request: Request) -> None:
        # A stream ends, and what was under way is given up, when the page is left.
        if request.failure != "net::ERR_ABORTED":
            self.faults.append(f"{request.method} {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= _CLIENT_ERROR and response.status not in self.expected:
            self.faults.append(f"{response.request.method} {response.url}: {response.status}")

    async def go(self, path: str, status: int = 200) -> None:
        """Open a page of the site."""
        self.expected = {status} if status >= _CLIENT_ERROR else set()
        answer = await self.page.goto(f"{self.base}{path}")
        if answer is None or answer.status != status:
            pytest.fail(f"{path}: {answer.status if answer is not None else 'no answer'}")

    async def enter(self, path: str) -> None:
        """Come in by a one-time link."""
        await self.go(path)
        await self.press("main form button")
        await self.page.wait_for_url("**/console**")

    async def press(self, button: str) -> None:
        """Press a button or follow a link, and wait for the page that comes."""
        async with self.page.expect_navigation(wait_until="load"):
            await self.page.locator(button).first.click()

    async def check(self, name: str = "") -> None:
        """Find fault with the page as it stands, and take a picture of it under this name."""
        await expect(self.page.locator("h1").first).to_be_visible()
        wide = await self.page.evaluate(_TOO_WIDE)
        if wide:
            pytest.fail(f"{self.page.url} is wider than {self.size}: {wide}")
        if (language := await self.page.evaluate("document.documentElement.lang")) != self.locale:
            pytest.fail(f"{self.page.url} speaks {language}")
        if self.locale == "zh-CN":  # what bars people is in the form of a page, not in its language
            await self._find_barriers()
        self.complain()
        if name:
            await self._take_picture(name)

    async def _find_barriers(self) -> None:
        results: dict[str, Any] = (await Axe().run(self.page)).response
        grave = [
            f"{one['id']} ({one['impact']}): {one['help']}: {[node['html'][:160] for node in one['nodes'][:3]]}"
            for one in results["violations"]
            if one["impact"] in GRAVE
        ]
        if grave:
            pytest.fail("\n".join([self.page.url, *grave]))

    async def _take_picture(self, name: str) -> None:
        named = f"{name}-{self.locale}-{self.size}"
        if PICTURES in os.environ and named not in CHOSEN:
            return
        self.pictures.mkdir(parents=True, exist_ok=True)
        path = self.pictures / f"{named}.png"
        size = self.page.viewport_size or {"width": 1, "height": 1}
        for part in LOWER_BY if PICTURES in os.environ else LOWER_BY[:1]:
            clip = FloatRect(x=0, y=0, width=size["width"], height=size["height"] * part)
            await self.page.screenshot(path=path, animations="disabled", caret="hide", clip=clip)
            if path.stat().st_size <= PICTURE_BYTES_MAX:
                return
        if PICTURES in os.environ:
            pytest.fail(f"{path} has {path.stat().st_size} bytes")

    def complain(self) -> None:
        """Fail if anything went wrong in this window so far."""
        faults, self.faults = self.faults, []
        if faults:
            pytest.fail("\n".join(faults))

    async def close(self) -> None:
        """Close the window; fail if anything went wrong in it."""
        context: BrowserContext = self.page.context
        await context.close()
        self.complain()


def pictures_folder(fallback: Path) -> Path:
    """Where pictures go."""
    return ROOT / "docs" / "pictures" if os.environ.get(PICTURES) else fallback
