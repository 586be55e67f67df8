"""The whole API for tests: all routes of the site on a real database, with orders in many states, for two tenants.

::

    async with running_api(store) as api:
        await fill(api)
        answer = await api.http.get("/v1/orders")
"""

import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx
import msgspec
from litestar import Litestar

from orderbell.app.activation import Following
from orderbell.app.front import Front, front_routes
from orderbell.core.events import Answer, Event, Status, parse_event
from orderbell.core.turn import Shelf
from orderbell.dispatch import Dispatcher
from orderbell.playbooks import load_shelf
from orderbell.serving import serving
from orderbell.settings import Settings
from orderbell.store.keys import SCOPES, create_key
from orderbell.store.ledger import Ledger
from orderbell.store.postgres import Store
from orderbell.store.tenants import add_tenant
from orderbell.web.site import create_site
from tests.dispatch.rig import Clock, Scripted

PHONE = "+8613800138000"
TENANTS = ("acme", "other")


@dataclass
class Api:
    """What runs: `http` has a key of `acme` with all scopes, `other` that of another tenant."""

    store: Store
    app: Litestar
    url: str
    http: httpx.AsyncClient
    other: httpx.AsyncClient
    key: str
    clock: Clock
    front: Front
    channel: Scripted
    dispatcher: Dispatcher
    told: list[str] = field(default_factory=list)

    async def tell(self, kind: str, order_no: str = "A1", *, tenant: str = "acme", **data: object) -> None:
        """Have an event decided, a second after the one before."""
        self.clock.turn(1)
        self.told.append(kind)
        wire = {"id": f"e{len(self.told)}", "source": "shop", "type": kind, "subject": order_no, "data": data}
        event = parse_event(msgspec.json.encode(wire), tenant, self.clock())
        assert isinstance(event, Event), event
        (answer,) = await self.store.turn(self.front.shelves, [event])
        assert answer.status is Status.ACCEPTED, answer

    async def key_for(self, scopes: Collection[str] = SCOPES, tenant: str = "acme") -> str:
        """Make another key."""
        return await create_key(self.store, tenant, scopes=scopes)

    async def get(self, path: str, **query: object) -> Any:  # noqa: ANN401 - JSON of any shape
        """Read what must be there."""
        response = await self.http.get(path, params={name: str(value) for name, value in query.items()})
        assert response.status_code == 200, response.text
        return response.json()


@cache
def shipped() -> Shelf:
    """The playbooks that ship."""
    return load_shelf("")


@contextlib.asynccontextmanager
async def running_api(store: Store, **settings: Any) -> AsyncIterator[Api]:  # noqa: ANN401 - settings of any type
    """Run the site on a database."""
    clock, channel, following = Clock(), Scripted(), Following(store.pool, shipped())
    keys = []
    for tenant in TENANTS:
        await add_tenant(store.pool, tenant, shipped())
        keys.append(await create_key(store, tenant))
    await following.refresh()

    async def submit(events: list[Event]) -> list[Answer]:
        return await store.turn(following.shelves, events)

    async def shelf_of(tenant: str) -> Shelf:
        return following.shelves[tenant]

    async def ready() -> Sequence[str]:
        return []

    wide = {"api_requests_per_s": 100_000, "api_burst": 1_000_000}  # tests ask quickly
    front = Front(Settings(**(wide | settings)), store, following, shelf_of, submit, clock)
    app = create_site(front_routes(front), ready, front.hall())
    dispatcher = Dispatcher(Ledger(store), following.shelves, [channel], now=clock)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(front.close)
        url = await stack.enter_async_context(serving(app))
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=20)
            )
            for key in keys
        ]
        yield Api(store, app, url, clients[0], clients[1], keys[0], clock, front, channel, dispatcher)


async def fill(api: Api, tenant: str = "acme") -> None:
    """Make orders: one on its way, one in trouble with a case, one that is done, and messages that went out."""
    people = {"buyer": {"id": "ann", "phone": PHONE, "email": "ann@example.com", "tier": "vip"}}
    for number in ("A1", "A2", "A3"):
        await api.tell("order.placed", number, tenant=tenant, amount_fen=12900, title="红茶礼盒", people=people)
        await api.tell("payment.succeeded", number, tenant=tenant)
    await api.tell("parcel.shipped", "A1", tenant=tenant, carrier="SF", tracking_no="SF100")
    await api.tell("stock.short", "A2", tenant=tenant)
    await api.tell("order.cancelled", "A3", tenant=tenant, reason="changed my mind")
    await api.tell("payment.failed", "B1", tenant=tenant, people={"buyer": {"phone": "+8613900139000"}})
    await api.dispatcher.step()
    api.clock.turn(3600)
    await api.dispatcher.step()
