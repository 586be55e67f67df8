"""What all pages for customers share: the desk that they are served from, and how a page is made for one person.

An address with a token is itself the proof that somebody may see it. So nothing that is not there differs from
anything else that is not there: an unknown token, one that is over, and one of a person who has left the order are the
same 404. Guesses are counted for each process, and whoever makes many of them is heard of in the log.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn

import msgspec
import structlog
from litestar import Request, Response
from msgspec import Struct

from orderbell.core.calendar import zone_of
from orderbell.core.events import Answer, Event
from orderbell.core.playbook import Playbook
from orderbell.core.turn import Key, Shelf
from orderbell.errors import OrderBellError
from orderbell.observe import count
from orderbell.store.brand import Brand
from orderbell.store.people import People
from orderbell.store.throttle import Throttle
from orderbell.store.tracking import Page, Tracking
from orderbell.web.client_address import client_address
from orderbell.web.guest.journey import is_over
from orderbell.web.live import Live
from orderbell.web.rendering import LANGUAGE_COOKIE, LOCALES, View, hall_of, page, view_of
from orderbell.web.same_origin import refuse_foreign

FORM_BYTES_MAX: Final = 16 * 1024
MISSES_MAX: Final = 20
"""So many addresses that open nothing may be tried a minute by one client before it is asked to wait."""

MISSES_ALARM: Final = 200
"""So many misses of all clients a minute are worth a word in the log."""

MINUTE: Final = timedelta(minutes=1)
_CLIENTS_MAX: Final = 50_000

log = structlog.get_logger()


class Guesses:
    """Addresses that open nothing, counted by the minute. A valid one always opens, whoever guesses beside it."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._by_client: dict[str, int] = {}
        self._all, self._told = 0, False

    def missed(self, client: str, now: datetime) -> bool:
        """Count a miss; True where the client has made too many of them this minute."""
        if self._since is None or now - self._since >= MINUTE or len(self._by_client) >= _CLIENTS_MAX:
            self._since, self._all, self._told = now, 0, False
            self._by_client.clear()
        self._all += 1
        self._by_client[client] = self._by_client.get(client, 0) + 1
        count("tracking.missed")
        if self._all >= MISSES_ALARM and not self._told:
            self._told = True
            count("tracking.guessing")
            log.error(
                "somebody guesses the addresses of customers' pages",
                misses_this_minute=self._all, clients=len(self._by_client),
            )  # fmt: skip
        return self._by_client[client] > MISSES_MAX


@dataclass(frozen=True)
class GuestDesk:
    """What pages for customers are served from.

    `submit` takes events as the API does; `trusted_hops` are the proxies of ours in front of this site.
    """

    tracking: Tracking
    people_of: Callable[[str], People]
    shelf_of: Callable[[str], Awaitable[Shelf]]
    brand_of: Callable[[str], Awaitable[Brand]]
    submit: Callable[[list[Event]], Awaitable[list[Answer]]]
    throttle: Throttle
    live: Live[Key]
    now: Callable[[], datetime]
    public_url: str = ""
    trusted_hops: int = 0
    guesses: Guesses = field(default_factory=Guesses)

    def client(self, request: Request[Any, Any, Any]) -> str:
        """The address that a request comes from."""
        return client_address(request, self.trusted_hops)

    async def link_of(self, tenant: str, order_no: str, role: str = "") -> str:
        """The address of the page of a role in an order, the principal's by default, ready to be opened.

        It is a path where no `public_url` is set, and empty where there is no such order or role.
        """
        found = await self.tracking.page(tenant, order_no)
        playbook = (await self.shelf_of(tenant)).find(found.order.playbook) if found is not None else None
        if found is None or playbook is None:
            return ""
        wanted = role or playbook.principal
        contact = next((party.contact for party in found.order.parties if party.role == wanted), "")
        if not contact and wanted != playbook.principal:
            return ""
        token = await self.tracking.token_for(tenant, order_no, self.now(), contact)
        return f"{self.public_url.rstrip('/')}/t/{token}"

    async def guest(self, request: Request[Any, Any, Any], token: str) -> "Guest":
        """Who opens the page of a token.

        Raises:
            NotHere: The token opens nothing, or nothing any more.
        """
        found = await self.tracking.open(token)
        if found is not None:
            shelf = await self.shelf_of(found.order.tenant)
            playbook = shelf.find(found.order.playbook)
            if (
                playbook is not None
                and found.order.stage in playbook.stages
                and not is_over(found, playbook, self.now())
            ):
                view = _view(request, playbook, found)
                brand = named(await self.brand_of(found.order.tenant), playbook, view.locale)
                return Guest(token, found, shelf, playbook, brand, view)
        return self.refuse_guess(request)

    def refuse_guess(self, request: Request[Any, Any, Any]) -> NoReturn:
        """Count an address that opens nothing, and say so; raises NotHere, and TooOften after many."""
        if self.guesses.missed(self.client(request), self.now()):
            raise TooOften(MINUTE)
        raise NotHere


class Guest(Struct, frozen=True):
    """Somebody with a valid address: the page, the playbooks it goes by, the shop, and how it is shown."""

    token: str
    page: Page
    shelf: Shelf
    playbook: Playbook
    brand: Brand
    view: View

    @property
    def path(self) -> str:
        """The path of the page."""
        return f"/t/{self.token}"

    def answer(self, name: str, *, status: int = 200, **values: object) -> Response[str]:
        """A page made of a template."""
        return page(name, self.view, status=status, headers=HEADERS, guest=self, brand=self.brand, **values)


class NotHere(Exception):
    """An address opens nothing."""


class TooOften(Exception):
    """Something was tried too often; `wait` is how long to leave it."""

    def __init__(self, wait: timedelta) -> None:
        super().__init__(wait)
        self.wait = wait


HEADERS: Final[Mapping[str, str]] = {"Referrer-Policy": "no-referrer"}
"""The address is a secret: no other site may learn it."""


async def served(
    request: Request[Any, Any, Any], work: Callable[[], Awaitable[Response[Any]]], brand: Brand | None = None
) -> Response[Any]:
    """Do the work of a page, and say kindly what is the matter where it cannot be done."""
    shop = brand or Brand()
    view = view_of(request)
    try:
        return await work()
    except NotHere:
        return page("track_gone.html", view, status=404, headers=HEADERS, brand=shop)
    except TooOften as often:
        seconds = max(1, round(often.wait.total_seconds()))
        headers = {**HEADERS, "Retry-After": str(seconds)}
        count("tracking.throttled")
        return page(
            "track_often.html", view, status=429, headers=headers, brand=shop, minutes=max(1, -(-seconds // 60))
        )
    except OrderBellError as problem:
        log.warning("a customer's page is not served", problem=str(problem), kind=type(problem).__name__)
        headers = {**HEADERS, "Retry-After": "5"}
        return page("track_away.html", view, status=503, headers=headers, brand=shop)


def named(brand: Brand, playbook: Playbook | None, locale: str) -> Brand:
    """A shop as its customers know it: by the name of its settings, else by that of the playbook."""
    names = playbook.spec.brand if playbook is not None else {}
    return msgspec.structs.replace(brand, name=brand.name or names.get(locale) or next(iter(names.values()), ""))


def refuse_forged(request: Request[Any, Any, Any], public_url: str) -> None:
    """Refuse a form that another site sent.

    These pages tell nobody where they come from (`no-referrer`), so older browsers send `Origin: null` or nothing, and
    that is let through: whoever can send it knows the token, which is all that there is to be protected.
    """
    silent = "sec-fetch-site" not in request.headers and request.headers.get("origin", "null") == "null"
    if not silent:
        refuse_foreign(request, public_url)


def _view(request: Request[Any, Any, Any], playbook: Playbook, found: Page) -> View:
    """In the language that the person chose here, else that of the shop's record, the browser, the playbook."""
    contact = found.contact
    view = view_of(request, zone=zone_of(contact.timezone if contact is not None else "", playbook.timezone).key)
    if view.keep_language or request.cookies.get(LANGUAGE_COOKIE, "")[:2] in LOCALES:
        return view
    wanted = contact.locale if contact is not None else ""
    if not wanted and not request.headers.get("accept-language"):
        wanted = playbook.locale
    locale = LOCALES.get(wanted[:2].lower(), view.locale)
    return msgspec.structs.replace(view, locale=locale, names=hall_of(request).names(locale))
