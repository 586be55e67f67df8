"""A town for tests of people: a real store behind the site, two tenants with keys, a clock, and a provider in hand.

::

    async with running_town(store) as town:
        await town.tell("order.placed", "A1", people={"buyer": {"id": "ann", "phone": "+8613800138000"}})
        answer = await town.http.get("/v1/contacts/ann")
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import httpx
import msgspec

from orderbell.core.events import Answer, Event, Status, parse_event
from orderbell.core.model import Contact
from orderbell.core.turn import Shelf
from orderbell.dispatch import Dispatcher
from orderbell.playbooks import load_shelf
from orderbell.serving import serving
from orderbell.sources.events import events_route
from orderbell.sources.replies import replies_route
from orderbell.store.keys import KeyRing, create_key
from orderbell.store.ledger import Ledger
from orderbell.store.people import People
from orderbell.store.postgres import Store
from orderbell.store.tenants import add_tenant
from orderbell.store.trail import Trail
from orderbell.web.access import keyed
from orderbell.web.api.people import people_routes
from orderbell.web.site import create_site
from tests.dispatch.rig import Clock, Scripted
from tests.site_server import TooBusy

PHONE = "+8613800138000"


@dataclass
class Town:
    """What runs; `http` has the key of `acme`, `other` that of another tenant; failures are raised by the intake."""

    store: Store
    url: str
    http: httpx.AsyncClient
    other: httpx.AsyncClient
    clock: Clock
    shelves: dict[str, Shelf]
    channel: Scripted
    dispatcher: Dispatcher
    failures: list[Exception] = field(default_factory=list)
    told: int = 0

    def people(self, tenant: str = "acme") -> People:
        """The contacts of a tenant."""
        return People(self.store, tenant)

    async def tell(self, kind: str, order_no: str = "A1", *, tenant: str = "acme", **data: object) -> None:
        """Have an event decided, a second after the one before."""
        self.clock.turn(1)
        self.told += 1
        wire = {"id": f"e{self.told}", "source": "shop", "type": kind, "subject": order_no, "data": data}
        event = parse_event(msgspec.json.encode(wire), tenant, self.clock())
        assert isinstance(event, Event), event
        (answer,) = await self.store.turn(self.shelves, [event])
        assert answer.status is Status.ACCEPTED, answer

    async def reply(self, name: str, text: str, **who: object) -> httpx.Response:
        """Hand on a reply."""
        return await self.http.post("/v1/replies", json={"id": name, "text": text, **who})

    async def contact(self, name: str, tenant: str = "acme") -> Contact:
        """A contact that must be there."""
        found = await self.people(tenant).find(name)
        assert found is not None
        return found

    async def replies_of(self, order_no: str = "A1") -> list[tuple[str, str, str]]:
        """Source, id and role of the replies in the journal of an order."""
        rows = await self.store.pool.fetch(
            "SELECT source, event_id, convert_from(event, 'UTF8')::json -> 'data' ->> 'from' FROM journal"
            " WHERE type = 'reply.received' AND order_no = $1 ORDER BY at, event_id",
            order_no,
        )
        return [tuple(row) for row in rows]


@cache
def _shelf() -> Shelf:
    return load_shelf("")


@contextlib.asynccontextmanager
async def running_town(store: Store) -> AsyncIterator[Town]:
    """Open a town on a database."""
    shelf, clock, channel = _shelf(), Clock(), Scripted()
    shelves = dict.fromkeys(("acme", "other"), shelf)
    keys = []
    for tenant in shelves:
        await add_tenant(store.pool, tenant, shelf)
        keys.append(await create_key(store, tenant))
    failures: list[Exception] = []

    async def submit(events: list[Event]) -> list[Answer]:
        if failures:
            raise failures.pop(0)
        return await store.turn(shelves, events)

    async def shelf_of(tenant: str) -> Shelf:
        return shelves[tenant]

    async def ready() -> Sequence[str]:
        return []

    ring, people_of = KeyRing(store.pool), partial(People, store)
    routes = [
        *people_routes(people_of, shelf_of, Trail(store, clock), clock),
        replies_route(people_of, shelf_of, submit, clock, busy=TooBusy),
    ]
    events = events_route(submit, ring.tenant_of, clock, busy=TooBusy)
    dispatcher = Dispatcher(Ledger(store), shelves, [channel], now=clock)
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(create_site([events, keyed(routes, ring.caller_of)], ready)))
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=20)
            )
            for key in keys
        ]
        yield Town(store, url, clients[0], clients[1], clock, shelves, channel, dispatcher, failures)


def people(**buyer: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401 - whatever a person may have
    """A buyer with a phone and an id of the shop."""
    return {"buyer": {"id": "ann", "phone": PHONE, **buyer}}
