"""Customers' pages for tests: the real routes over a real store, a clock, and a browser for each person.

::

    async with running_pages(store) as pages:
        await pages.tell("order.placed", people={"buyer": {"id": "ann", "phone": PHONE}})
        answer = await pages.http.get(await pages.path())
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx
import msgspec

from orderbell.app.customer_pages import CustomerPages
from orderbell.app.front import names_of
from orderbell.core.events import Answer, Event, Status, parse_event
from orderbell.core.turn import Shelf
from orderbell.playbooks import load_shelf
from orderbell.serving import serving
from orderbell.settings import Settings
from orderbell.store.keys import KeyRing, create_key
from orderbell.store.people import People
from orderbell.store.postgres import Store
from orderbell.store.tenants import add_tenant
from orderbell.web.access import keyed
from orderbell.web.rendering import Hall
from orderbell.web.site import create_site
from tests.dispatch.rig import Clock

PHONE = "+8613800138000"
BROWSER = {
    "user-agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "sec-fetch-site": "same-origin",
    "accept": "text/html",
    "accept-language": "zh-CN,zh;q=0.9",
}


@dataclass
class Pages:
    """What runs; `http` is a browser, `api` a program with the key of the first tenant."""

    store: Store
    url: str
    http: httpx.AsyncClient
    api: httpx.AsyncClient
    clock: Clock
    shelves: dict[str, Shelf]
    pages: CustomerPages
    failures: list[Exception] = field(default_factory=list)
    told: int = 0

    async def tell(
        self, kind: str, order_no: str = "A1", *, tenant: str = "acme", playbook: str = "", **data: object
    ) -> None:
        """Have an event decided, a second after the one before."""
        self.clock.turn(1)
        self.told += 1
        wire = {
            "id": f"e{self.told}",
            "source": "shop",
            "type": kind,
            "subject": order_no,
            "data": data,
            "playbook": playbook,
        }
        event = parse_event(msgspec.json.encode(wire), tenant, self.clock())
        assert isinstance(event, Event), event
        (answer,) = await self.store.turn(self.shelves, [event])
        assert answer.status is Status.ACCEPTED, answer

    async def path(self, order_no: str = "A1", role: str = "", tenant: str = "acme") -> str:
        """The path of somebody's page."""
        path = await self.pages.desk.link_of(tenant, order_no, role)
        assert path.startswith("/t/"), path
        return path

    async def short_stock(self, order_no: str = "A1") -> str:
        """An order that waits for a choice, and the path of its page."""
        await self.tell("order.placed", order_no, amount_fen=19900, title="龙井茶", people=buyer())
        await self.tell("payment.succeeded", order_no, amount_fen=19900)
        await self.tell("stock.short", order_no, title="龙井茶")
        return await self.path(order_no)

    async def choose(self, path: str, option: str, version: int, ask: str = "stock", **fields: str) -> httpx.Response:
        """Send the form of a choice."""
        form = {"ask": ask, "option": option, "version": str(version), "days": "0", "price": "0", **fields}
        return await self.http.post(f"{path}/choice", data=form)

    async def version(self, order_no: str = "A1") -> int:
        """The version of an order."""
        query = "SELECT version FROM orders WHERE tenant = 'acme' AND order_no = $1"
        version: int = await self.store.pool.fetchval(query, order_no)
        return version

    async def page_events(self) -> list[tuple[str, dict[str, Any]]]:
        """The events that came from the page: type and data."""
        rows = await self.store.pool.fetch("SELECT type, event FROM journal WHERE source = 'page' ORDER BY at, version")
        return [(row["type"], msgspec.json.decode(row["event"])["data"]) for row in rows]

    async def contents(self) -> dict[str, list[str]]:
        """Every row of every table, for comparing."""
        tables = await self.store.pool.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
        )
        return {
            row[0]: sorted(line[0] for line in await self.store.pool.fetch(f"SELECT t::text FROM {row[0]} t"))
            for row in tables
        }


@cache
def _shelf() -> Shelf:
    return load_shelf("")


def buyer(**more: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401 - whatever a person may have
    """A buyer with a phone and an id of the shop."""
    return {"buyer": {"id": "ann", "phone": PHONE, **more}}


@contextlib.asynccontextmanager
async def running_pages(store: Store, tenants: Sequence[str] = ("acme",), public_url: str = "") -> AsyncIterator[Pages]:
    """Serve the pages of these tenants."""
    shelf, clock = _shelf(), Clock()
    shelves = dict.fromkeys(tenants, shelf)
    keys = []
    for tenant in tenants:
        await add_tenant(store.pool, tenant, shelf)
        keys.append(await create_key(store, tenant))
    failures: list[Exception] = []

    async def submit(events: list[Event]) -> list[Answer]:
        if failures:
            raise failures.pop(0)
        return await store.turn(shelves, events)

    async def shelf_of(tenant: str) -> Shelf:
        return shelves.get(tenant, shelf)

    async def ready() -> Sequence[str]:
        return []

    made = CustomerPages(Settings(public_url=public_url), store, shelf_of, submit, clock)
    hall = Hall(now=clock, zone_of=lambda _: "Asia/Shanghai", names=names_of)
    people = keyed(made.api(), KeyRing(store.pool).caller_of)
    site = create_site([*made.routes(lambda: list(shelves)), people], ready, hall)
    running = asyncio.create_task(made.run())
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(site))
        stack.push_async_callback(asyncio.wait, [running])
        stack.push_async_callback(made.close)
        common = {"base_url": url, "trust_env": False, "timeout": 20}
        http = await stack.enter_async_context(httpx.AsyncClient(headers=BROWSER, **common))  # type: ignore[arg-type]
        headers = {"authorization": f"Bearer {keys[0]}"}
        api = await stack.enter_async_context(httpx.AsyncClient(headers=headers, **common))  # type: ignore[arg-type]
        yield Pages(store, url, http, api, clock, shelves, made, failures)


def people_of(store: Store) -> People:
    """The contacts of the first tenant."""
    return People(store, "acme")
