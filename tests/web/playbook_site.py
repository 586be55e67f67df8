"""A site with the pages and the API of playbooks: a real store, two tenants with keys, visitors of each role.

::

    async with running_playbooks(store) as site:
        page = await site.page("/console/playbook")
        answer = await site.api.get("/v1/playbooks")
"""

import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from functools import cache

import httpx
import msgspec

from orderbell.app.activation import Desk, Following
from orderbell.app.front import names_of
from orderbell.app.trials import Trying
from orderbell.core.events import Answer, Event, Status, parse_event
from orderbell.core.turn import Shelf
from orderbell.insight.preview import Preview
from orderbell.playbooks import shipped_shelf
from orderbell.serving import serving
from orderbell.store.accounts import Role
from orderbell.store.keys import SCOPES, KeyRing, create_key
from orderbell.store.postgres import Store
from orderbell.store.tenants import add_tenant
from orderbell.store.trail import Trail
from orderbell.web.access import keyed
from orderbell.web.api.playbooks import playbook_routes
from orderbell.web.console.drafting import drafting_pages
from orderbell.web.console.glossary import glossary_pages
from orderbell.web.console.playbook import playbook_pages
from orderbell.web.console.providers import Carrier, provider_pages
from orderbell.web.console.trials import trial_pages
from orderbell.web.rendering import Hall
from orderbell.web.signed_in import COOKIE, signed_in
from orderbell.web.site import create_site
from tests.dispatch.rig import Clock
from tests.web.console_site import visitor_of

TENANTS = ("acme", "other")
CARRIERS = (
    Carrier("ali", "alibaba", ("sms",), 4500, 50.0, 2.0, frozenset(), ("+86",)),
    Carrier("secret", "smpp", ("sms",), tenants=frozenset({"other"})),
)


@dataclass
class Site:
    """What runs; `api` has a key of acme with every scope."""

    store: Store
    clock: Clock
    following: Following
    desk: Desk
    trying: Trying
    trail: Trail
    url: str
    http: httpx.AsyncClient
    api: httpx.AsyncClient
    told: int = 0

    async def tell(self, kind: str, order_no: str = "A1", *, tenant: str = "acme", **data: object) -> None:
        """Have an event decided by what counts now."""
        self.clock.turn(1)
        self.told += 1
        playbook = data.pop("playbook", "")
        wire = {
            "id": f"e{self.told}", "source": "shop", "type": kind, "subject": order_no, "data": data,
            "playbook": playbook,
        }  # fmt: skip
        event = parse_event(msgspec.json.encode(wire), tenant, self.clock())
        assert isinstance(event, Event), event
        (answer,) = await self.store.turn(self.following.shelves, [event])
        assert isinstance(answer, Answer)
        assert answer.status is Status.ACCEPTED, answer

    def version(self, name: str = "retail", tenant: str = "acme") -> str:
        """The version that counts in this process."""
        return self.following.shelves[tenant].playbooks[name].version

    async def get(self, path: str, *, role: Role = "owner", tenant: str = "acme", lang: str = "en") -> httpx.Response:
        """Ask for a page as somebody of a role."""
        return await self.http.get(path, headers=_headers(role, tenant, lang))

    async def page(self, path: str, *, role: Role = "owner", tenant: str = "acme", lang: str = "en") -> str:
        """The text of a page that must be there."""
        answer = await self.get(path, role=role, tenant=tenant, lang=lang)
        assert answer.status_code == 200, (answer.status_code, answer.text[:500])
        return answer.text

    async def post(
        self, path: str, form: dict[str, str], *, role: Role = "owner", tenant: str = "acme"
    ) -> httpx.Response:
        """Send a form as somebody of a role."""
        headers = _headers(role, tenant, "en") | {"sec-fetch-site": "same-origin"}
        return await self.http.post(path, data=form, headers=headers)

    async def save(self, body: str, name: str = "retail", *, role: Role = "owner", seen: str = "") -> httpx.Response:
        """Save a draft."""
        return await self.post(f"/console/playbook/{name}/draft", {"body": body, "seen": seen}, role=role)

    async def key(self, *scopes: str, tenant: str = "acme") -> dict[str, str]:
        """The header of another key."""
        return {"authorization": f"Bearer {await create_key(self.store, tenant, 'test', scopes)}"}

    async def actions(self) -> list[tuple[str, str, str]]:
        """Who did what to what, the newest first."""
        return [(one.actor, one.action, one.object) for one in await self.trail.read("acme")]


@cache
def shelf() -> Shelf:
    """The playbooks that ship; reading them takes half a second."""
    return shipped_shelf()


def _headers(role: str, tenant: str, lang: str) -> dict[str, str]:
    return {"cookie": f"{COOKIE}={role}.{tenant}", "accept-language": lang}


@contextlib.asynccontextmanager
async def running_playbooks(store: Store, *, scopes: Collection[str] = SCOPES, folder: str = "") -> AsyncIterator[Site]:
    """Open a site on a database."""
    clock = Clock()
    for tenant in TENANTS:
        await add_tenant(store.pool, tenant, shelf())
    following, trail = Following(store.pool, shelf()), Trail(store, clock)
    await following.refresh()
    desk = Desk(store, following, folder, clock)
    trying = Trying(store, desk, clock)
    pages = [
        *playbook_pages(desk), *drafting_pages(desk, trying, trail), *trial_pages(desk, trying),
        *provider_pages(store, CARRIERS), *glossary_pages(),
    ]  # fmt: skip

    async def ready() -> Sequence[str]:
        return []

    hall = Hall(clock, lambda _: "Asia/Shanghai", names_of)
    routes = [
        signed_in(pages, visitor_of), keyed(list(playbook_routes(desk, Preview)), KeyRing(store.pool).caller_of)
    ]  # fmt: skip
    key = await create_key(store, "acme", "all", scopes)
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(create_site(routes, ready, hall)))
        stack.push_async_callback(trying.close)
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False, timeout=30))
        bearer = {"authorization": f"Bearer {key}"}
        api = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, trust_env=False, timeout=30, headers=bearer)
        )
        yield Site(store, clock, following, desk, trying, trail, url, http, api)
