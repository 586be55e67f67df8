"""A console for tests: a real store with two tenants, orders made by real turns, and visitors of each role.

::

    async with running_console(store) as console:
        await console.tell("order.placed", "A1", people=people())
        page = await console.get("/console/orders/A1")
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial

import httpx

from orderbell.app.front import names_of
from orderbell.app.telling import StoryTeller
from orderbell.core.turn import Shelf
from orderbell.serving import serving
from orderbell.store.accounts import ROLE_NAMES, Role
from orderbell.store.overview import Overview
from orderbell.store.postgres import Store
from orderbell.store.pulse import Rollup
from orderbell.store.trail import Trail
from orderbell.web.console.desk import Desk
from orderbell.web.console.live import Feed, StillOpen
from orderbell.web.console.routes import console_routes
from orderbell.web.rendering import Hall
from orderbell.web.rights import Visitor
from orderbell.web.signed_in import COOKIE, signed_in
from orderbell.web.site import create_site
from tests.town import Town, running_town


@dataclass
class Console:
    """A console that runs; `town` makes things happen."""

    town: Town
    url: str
    http: httpx.AsyncClient
    feed: Feed
    rollup: Rollup

    async def tell(self, kind: str, order_no: str = "A1", *, tenant: str = "acme", **data: object) -> None:
        """Have an event decided."""
        await self.town.tell(kind, order_no, tenant=tenant, **data)

    async def settle(self) -> None:
        """Have what is due told, and its receipts heard."""
        for _ in range(3):
            self.town.clock.turn(10)
            await self.town.dispatcher.step()
            await self.town.dispatcher.receipts()

    async def get(
        self, path: str, *, role: Role = "owner", tenant: str = "acme", lang: str = "zh", htmx: bool = False
    ) -> httpx.Response:
        """Ask for a page as somebody of a role."""
        headers = self._headers(role, tenant, lang) | ({"hx-request": "true"} if htmx else {})
        return await self.http.get(path, headers=headers)

    async def page(self, path: str, *, role: Role = "owner", tenant: str = "acme", lang: str = "zh") -> str:
        """The text of a page that must be there."""
        answer = await self.get(path, role=role, tenant=tenant, lang=lang)
        assert answer.status_code == 200, (answer.status_code, answer.text[:500])
        return answer.text

    async def post(
        self, path: str, form: dict[str, object], *, role: Role = "owner", tenant: str = "acme", lang: str = "zh"
    ) -> httpx.Response:
        """Send a form as somebody of a role."""
        headers = self._headers(role, tenant, lang) | {"sec-fetch-site": "same-origin"}
        return await self.http.post(path, data=form, headers=headers)

    def _headers(self, role: Role, tenant: str, lang: str) -> dict[str, str]:
        return {"cookie": f"{COOKIE}={role}.{tenant}", "accept-language": lang}


async def visitor_of(token: str, *, touch: bool = True) -> Visitor | None:
    """Read a token such as `viewer.acme`."""
    role, _, tenant = token.partition(".")
    if role not in ROLE_NAMES:
        return None
    return Visitor(account=1, name=f"{role}-name", tenant=tenant, role=role, tenants=(tenant,), locale="")


@contextlib.asynccontextmanager
async def running_console(
    store: Store, still_open: StillOpen | None = None, **changes: object
) -> AsyncIterator[Console]:
    """Open a console on a database."""
    async with contextlib.AsyncExitStack() as stack:
        town = await stack.enter_async_context(running_town(store))

        async def shelf_of(tenant: str) -> Shelf:
            return town.shelves[tenant]

        async def ready() -> Sequence[str]:
            return []

        desk = Desk(store, shelf_of, StoryTeller(), Trail(store, town.clock), town.clock, **changes)  # type: ignore[arg-type]
        hall = Hall(town.clock, lambda _: "Asia/Shanghai", names_of)
        feed = Feed(partial(Overview, store), town.clock, every_s=0.05, still_open=still_open)
        rollup = Rollup(store, town.clock)
        site = create_site([signed_in(console_routes(desk, feed), visitor_of)], ready, hall)
        url = await stack.enter_async_context(serving(site))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False, timeout=20))
        running = asyncio.create_task(feed.run())
        try:
            yield Console(town, url, http, feed, rollup)
        finally:
            await feed.close()
            await running
