"""The door: what signing in is made of, checked the same way for whoever stands before it.

A name that nobody has costs and tells as much as a wrong password. An account is checked at most 5 times in 15 minutes
for browsers that never signed in to it, so that no crowd of addresses can guess on; a browser that did has tries of its
own, so that no crowd can lock its owner out.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, urlsplit

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from msgspec import Struct

from orderbell.observe import count
from orderbell.store.accounts import Accounts, Credentials, name_key
from orderbell.store.sessions import DEVICE_KNOWN, Sessions, hash_of
from orderbell.store.throttle import Throttle
from orderbell.store.trail import Trail
from orderbell.web.account.passwords import Passwords, is_outdated
from orderbell.web.account.two_step import matching_step
from orderbell.web.client_address import client_address
from orderbell.web.rights import Visitor
from orderbell.web.signed_in import COOKIE

DEVICE_COOKIE: Final = "__Host-orderbell-device"
WINDOW: Final = timedelta(minutes=15)
TRIES_A_NAME: Final = 5
TRIES_A_DEVICE: Final = 10
TRIES_AN_ADDRESS: Final = 30
TRIES_INSIDE: Final = 10
"""How often somebody who is signed in may name their password to change their account."""

_BROWSERS: Final = ("Edg", "OPR", "MicroMessenger", "Firefox", "Chrome", "Safari", "curl", "python")
_SYSTEMS: Final = ("Windows", "Android", "iPhone", "iPad", "Mac OS", "HarmonyOS", "Linux")


class Answer(Struct, frozen=True):
    """What a check came to: the account (0 for no), and after how many seconds it may be tried again (0: at once)."""

    account: int = 0
    retry_after_s: int = 0
    known_device: bool = False


class Door(Struct, frozen=True):
    """What the pages of signing in and of accounts work with.

    `open_shop` makes sure that a tenant exists, and `tenants` names all that do; both are for the first run.
    `public_url` and `trusted_hops` are the settings of these names.
    """

    accounts: Accounts
    sessions: Sessions
    throttle: Throttle
    trail: Trail
    passwords: Passwords
    now: Callable[[], datetime]
    open_shop: Callable[[str], Awaitable[None]]
    tenants: Callable[[], Awaitable[list[str]]]
    public_url: str = ""
    trusted_hops: int = 0

    async def visitor_of(self, token: str, *, touch: bool = True) -> Visitor | None:
        """Who is signed in with a session's token; `touch` keeps the session going."""
        found = await self.sessions.find(token, touch=touch)
        if found is None:
            return None
        return Visitor(
            account=found.account, name=found.name, tenant=found.tenant, role=found.role, tenants=found.tenants,
            locale=found.locale, session=found.session,
        )  # fmt: skip

    def address_of(self, request: ASGIConnection[Any, Any, Any, Any]) -> str:
        """Where a request comes from."""
        return client_address(request, self.trusted_hops)

    async def check(self, name: str, password: str, code: str, *, device: str, address: str) -> Answer:
        """Check a name with its password, and the second step where the account has one."""
        found = await self.accounts.credentials(name)
        known = await self.sessions.know_device(found.account if found is not None else 0, device)
        retry_after_s = await self._take(name, device if known else "", address)
        if retry_after_s:
            count("sign_in.throttled")
            return Answer(retry_after_s=retry_after_s)
        usable = found is not None and not found.disabled
        right = await self.passwords.fits(found.password if found is not None and usable else "", password)
        if found is None or not right or not await self._second_step(found, code):
            count("sign_in.refused")
            return Answer()
        if is_outdated(found.password):
            await self.accounts.renew_hash(found.account, await self.passwords.hash(password))
        return Answer(found.account, known_device=known)

    async def confirm(self, account: int, password: str) -> Answer:
        """Check the password of somebody who is signed in; one who has none yet needs none."""
        found = await self.accounts.credentials_of(account)
        if found is None:
            return Answer()
        if not found.password:
            return Answer(account)
        retry_after_s = await self.throttle.take("account", str(account), TRIES_INSIDE, WINDOW)
        if retry_after_s:
            return Answer(retry_after_s=retry_after_s)
        return Answer(account if await self.passwords.fits(found.password, password) else 0)

    async def let_in(self, request: Request[Any, Any, Any], account: int, how: str, *, tenant: str = "") -> str | None:
        """Begin a new session in place of the one that the browser had; None where the account works for nobody."""
        old = request.cookies.get(COOKIE, "")
        if old:
            await self.sessions.end(old)  # what stood in the browser before must not be signed in now
        async with self.trail.together():
            token = await self.sessions.open(
                account, tenant=tenant, label=label_of(request.headers.get("user-agent", "")),
                address=self.address_of(request),
            )  # fmt: skip
            visitor = await self.visitor_of(token) if token is not None else None
            if visitor is None:
                return None
            await self.trail.write(visitor.tenant, visitor.actor, "session.open", visitor.name, {"by": how})
        return token

    async def _take(self, name: str, device: str, address: str) -> int:
        if device:
            return await self.throttle.take("device", hash_of(device).hex(), TRIES_A_DEVICE, WINDOW)
        by_address = await self.throttle.take("address", address, TRIES_AN_ADDRESS, WINDOW)
        return by_address or await self.throttle.take("name", name_key(name), TRIES_A_NAME, WINDOW)

    async def _second_step(self, found: Credentials, code: str) -> bool:
        if found.two_step is None:
            return True
        step = matching_step(found.two_step, code, self.now())
        return step is not None and await self.accounts.take_code(found.account, step)


def label_of(agent: str) -> str:
    """A browser as people call it, such as `Firefox, Windows`."""
    browser = next((one for one in _BROWSERS if one in agent), "?").replace("MicroMessenger", "WeChat")
    system = next((one for one in _SYSTEMS if one in agent), "?").replace("Mac OS", "macOS")
    return f"{browser.replace('Edg', 'Edge').replace('OPR', 'Opera')}, {system}"


def keeps_secrets(request: ASGIConnection[Any, Any, Any, Any], public_url: str) -> bool:
    """Whether the browser will keep a cookie that is for secure connections only: https, or this very machine."""
    if request.scope["scheme"] == "https" or request.headers.get("origin", "").startswith("https://"):
        return True
    if "sec-fetch-site" in request.headers:  # browsers say so over secure connections only
        return True
    try:
        host = (urlsplit(f"//{request.headers.get('host', '')}").hostname or "").lower()
    except ValueError:
        return False
    public = urlsplit(public_url)
    if public.scheme == "https" and host == (public.hostname or "").lower():
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def session_cookie(token: str) -> Cookie:
    """The cookie of a session; it ends with the browser, an empty one at once."""
    age_s = None if token else 0
    return Cookie(COOKIE, value=token, path="/", secure=True, httponly=True, samesite="lax", max_age=age_s)


def device_cookie(token: str) -> Cookie:
    """The cookie by which a browser is known that signed in before."""
    age_s = int(DEVICE_KNOWN.total_seconds())
    return Cookie(DEVICE_COOKIE, value=token, path="/", secure=True, httponly=True, samesite="lax", max_age=age_s)


def go_to(path: str, *cookies: Cookie) -> Response[bytes]:
    """Send the browser on, with GET, to a path of this site."""
    headers = {"Location": quote(path, safe="/?&=%+:;,@!$'()*~#[]-._"), "Cache-Control": "no-store"}
    return Response(b"", status_code=303, headers=headers, cookies=list(cookies))
