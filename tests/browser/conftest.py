"""The browser and the premises that it looks at, once for all tests of a process.

Tests drive the Chromium that the system has; where there is none, or Playwright is missing, they are skipped with a
word. Nothing is ever downloaded.
"""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.browser.premises import Premises, open_premises
from tests.database import DatabaseServer

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tests.browser.window import Window

SIZES = {"1280": (1280, 800), "390": (390, 844)}
PATIENCE_MS = 40_000
FEW = ["1280-en", "390-zh-CN"]
"""Enough for what is no main way."""

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

OpenWindow = Callable[..., Awaitable["Window"]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator["Browser"]:
    """The system's Chromium, without a window on the screen."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium here: install it (Debian, Ubuntu: apt install chromium) to have the pages walked")
    playwright = pytest.importorskip("playwright.async_api", reason="Playwright is missing: run `make setup`")
    # Its sandbox needs a user id of its own, which root does not give it; a container's /dev/shm is small.
    arguments = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    async with playwright.async_playwright() as started:
        playwright.expect.set_options(timeout=PATIENCE_MS)  # a busy machine is no fault of a page
        opened = await started.chromium.launch(executable_path=found, args=arguments)
        yield opened
        await opened.close()


@pytest.fixture(scope="session")
def ground(browser: "Browser", database_server: DatabaseServer) -> Iterator[str]:
    """A database for the premises; asks for the browser first, so that nothing is built where there is none."""
    name = database_server.create(database_server.template)
    yield database_server.dsn_for(name)
    database_server.drop(name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def premises(ground: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Premises]:
    """A platform with a past."""
    async with open_premises(ground, tmp_path_factory.mktemp("premises")) as opened:
        yield opened


@pytest.fixture(params=["1280-zh-CN", "1280-en", "390-zh-CN", "390-en"])
def look(request: pytest.FixtureRequest) -> str:
    """Size and language of the window."""
    chosen: str = request.param
    return chosen


@pytest_asyncio.fixture(loop_scope="session")
async def open_window(browser: "Browser", premises: Premises, look: str, tmp_path: Path) -> AsyncIterator[OpenWindow]:
    """Opens windows, each of a visitor of its own; what went wrong in one fails the test."""
    from tests.browser.window import Window, pictures_folder  # noqa: PLC0415 - needs Playwright

    opened: list[Window] = []
    size, _, locale = look.partition("-")

    async def open_one(name: str = "") -> Window:
        width, height = SIZES[size]
        context = await browser.new_context(
            viewport={"width": width, "height": height}, locale=locale, timezone_id="Asia/Shanghai",
            reduced_motion="reduce", has_touch=size == "390", is_mobile=size == "390",
        )  # fmt: skip
        context.set_default_timeout(PATIENCE_MS)
        window = Window(await context.new_page(), premises.url, size, locale, pictures_folder(tmp_path))
        opened.append(window)
        await window.watch()
        if name:
            await window.enter(await premises.ticket(name))
        return window

    yield open_one
    for window in opened:
        await window.close()
