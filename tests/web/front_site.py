"""The whole site for tests, put together as the platform does it, with a clock that stands still, and browsers.

::

    async with running_front(store) as front:
        browser = await front.signed_in("owner")
        page = await browser.get("/console/settings/users")
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import httpx
from litestar import Litestar
from litestar.types import ControllerRouterHandler

from orderbell.app.accounts import open_door
from orderbell.app.activation import Following
from orderbell.app.front import Front, front_routes
from orderbell.core.events import Answer, Event
from orderbell.core.turn import Shelf
from orderbell.playbooks import load_shelf
from orderbell.serving import serving
from orderbell.settings import Settings
from orderbell.store.accounts import Accounts, Role
from orderbell.store.brand import Brands
from orderbell.store.postgres import Store
from orderbell.store.sessions import Sessions
from orderbell.store.tenants import add_tenant
from orderbell.store.trail import Trail
from orderbell.web.account.door import DEVICE_COOKIE
from orderbell.web.account.my_account import my_account_routes
from orderbell.web.account.passwords import Passwords
from orderbell.web.account.signing_in import signing_in_routes, switching_routes
from orderbell.web.console.settings import settings_routes
from orderbell.web.console.trail import trail_routes
from orderbell.web.signed_in import COOKIE, signed_in
from orderbell.web.site import create_site
from tests.dispatch.rig import Clock

PASSWORD = "correct horse battery"


@dataclass
class Browser:
    """A browser with its cookies; it follows no redirect, and says that what it sends comes from a page of the site."""

    http: httpx.AsyncClient
    cookies: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=lambda: {"sec-fetch-site": "same-origin"})

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """Ask for a page."""
        return await self.send("GET", path, None, **headers)

    async def post(self, path: str, data: Mapping[str, object] | None = None, **headers: str) -> httpx.Response:
        """Send a form."""
        return await self.send("POST", path, data or {}, **headers)

    async def send(
        self, method: str, path: str, data: Mapping[str, object] | None = None, **headers: str
    ) -> httpx.Response:
        """Send a request with the cookies, and keep those that come back."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {**self.headers, **named, **({"cookie": cookie} if cookie else {})}
        answer = await self.http.request(method, path, data=data, headers=sent)
        for line in answer.headers.get_list("set-cookie"):
            name, _, rest = line.partition("=")
            value = rest.partition(";")[0].strip('"')
            if "max-age=0" in line.lower() or not value:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer

    @property
    def token(self) -> str:
        """The token of the session, empty when there is none."""
        return self.cookies.get(COOKIE, "")

    @property
    def device(self) -> str:
        """The token by which the device is known."""
        return self.cookies.get(DEVICE_COOKIE, "")

    async def sign_in(self, name: str, password: str = PASSWORD, code: str = "", onwards: str = "") -> httpx.Response:
        """Fill the form of the sign-in page in."""
        form: dict[str, object] = {"name": name, "password": password, "code": code, "next": onwards}
        return await self.post("/sign-in", form)


@dataclass
class RunningFront:
    """What runs: the clock is that of the sessions as well."""

    store: Store
    url: str
    http: httpx.AsyncClient
    clock: Clock
    app: Litestar
    accounts: Accounts
    sessions: Sessions
    trail: Trail

    def browser(self, **headers: str) -> Browser:
        """A browser that nobody used before."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Browser(self.http, headers={"sec-fetch-site": "same-origin", **named})

    async def person(self, name: str, role: Role = "owner", tenant: str = "acme", password: str = PASSWORD) -> int:
        """An account with a password."""
        hashed = await _hash(password)
        return await self.accounts.add(tenant, name, role, self.clock(), password=hashed)

    async def signed_in(self, role: Role = "owner", tenant: str = "acme") -> Browser:
        """A browser in which somebody new of a role is signed in, without the sign-in page."""
        count = len(await self.accounts.all())
        account = await self.person(f"{role}-{tenant}-{count}", role, tenant)
        browser = self.browser()
        browser.cookies[COOKIE] = await self.sessions.open(account, tenant=tenant) or ""
        return browser

    async def actions(self, tenant: str = "acme") -> list[str]:
        """What was done, the newest first."""
        return [change.action for change in await self.trail.read(tenant)]


_hashes: dict[str, str] = {}


async def _hash(password: str) -> str:
    if password not in _hashes:
        _hashes[password] = await Passwords().hash(password)
    return _hashes[password]


@cache
def _shelf() -> Shelf:
    return load_shelf("")


def _door_routes(front: Front, more: Sequence[ControllerRouterHandler]) -> list[ControllerRouterHandler]:
    door, brands = open_door(front.store, front.settings, front.following.files, front.wall), Brands(front.store)
    inside = [
        *switching_routes(door), *my_account_routes(door), *settings_routes(door, brands, front.store),
        *trail_routes(door.trail), *more,
    ]  # fmt: skip
    return [*signing_in_routes(door, brands), signed_in(inside, door.visitor_of, front.settings.public_url)]


@contextlib.asynccontextmanager
async def running_front(
    store: Store,
    settings: Settings | None = None,
    tenants: Sequence[str] = ("acme", "other"),
    *,
    more: Sequence[ControllerRouterHandler] | None = None,
) -> AsyncIterator[RunningFront]:
    """Run the site on a database; with `more`, only the pages of signing in and these, which need a sign-in."""
    clock = Clock()
    following = Following(store.pool, _shelf())
    for tenant in tenants:
        await add_tenant(store.pool, tenant, _shelf())
        following.add(tenant, None)

    async def submit(events: list[Event]) -> list[Answer]:
        return await store.turn(following.shelves, events)

    async def shelf_of(tenant: str) -> Shelf:
        return following.shelves.get(tenant, _shelf())

    async def ready() -> Sequence[str]:
        return []

    front = Front(settings or Settings(), store, following, shelf_of, submit, clock, wall=clock)
    routes = front_routes(front) if more is None else _door_routes(front, more)
    app = create_site(routes, ready, front.hall())
    async with (
        serving(app) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30, follow_redirects=False) as http,
    ):
        yield RunningFront(
            store, url, http, clock, app, Accounts(store), Sessions(store, clock), Trail(store, clock)
        )  # fmt: skip
    await front.close()
