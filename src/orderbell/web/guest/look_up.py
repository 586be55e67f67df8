"""`/track`: an order looked up by its number and the last four digits of a phone of somebody in it.

A form, for those who have no link at hand; the answer to a good one is the way to the page. All misses look alike: a
number that is not there, one of another shop, wrong digits. They take alike as well: every answer is given at the end
of a fixed span, or of the next one where the database was slow. Four digits are soon guessed, so an order can be looked
up ten times an hour, by whomever, and an address may ask five times a minute.
"""

import asyncio
import hmac
import time
import unicodedata
from collections.abc import Callable, Collection
from datetime import timedelta
from functools import partial
from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

from orderbell.core.events import ORDER_NO_MAX, is_order_no
from orderbell.observe import count
from orderbell.store.brand import Brand
from orderbell.web.forms import read_form
from orderbell.web.guest.desk import (
    FORM_BYTES_MAX,
    HEADERS,
    GuestDesk,
    TooOften,
    refuse_forged,
    served,
)
from orderbell.web.guest.journey import is_over
from orderbell.web.rendering import page, view_of

DIGITS: Final = 4
ANSWER_S: Final = 0.4
"""When a look-up is answered; a multiple of it where it took longer."""

BY_ADDRESS: Final = (5, timedelta(minutes=1))
BY_ORDER: Final = (10, timedelta(hours=1))

_PUBLIC: Final = {"public": "customers look their orders up; number and digits are the proof"}
_NOBODY: Final = "----"


def look_up_routes(desk: GuestDesk, tenants: Callable[[], Collection[str]]) -> list[ControllerRouterHandler]:
    """Make the routes; `tenants` are all shops: where there is one only, nobody needs to say which."""
    looking = _LookingUp(desk, tenants)

    @get("/track", include_in_schema=False, opt=_PUBLIC)
    async def show_look_up(request: Request[Any, Any, Any]) -> Response[Any]:
        return await served(request, partial(looking.show, request))

    @post(
        "/track", include_in_schema=False, opt=_PUBLIC, status_code=303, request_max_body_size=FORM_BYTES_MAX
    )  # fmt: skip
    async def look_order_up(request: Request[Any, Any, Any]) -> Response[Any]:
        return await served(request, partial(looking.look, request))

    return [show_look_up, look_order_up]


class _LookingUp:
    """What the routes do."""

    def __init__(self, desk: GuestDesk, tenants: Callable[[], Collection[str]]) -> None:
        self.desk, self.tenants = desk, tenants

    async def show(self, request: Request[Any, Any, Any]) -> Response[Any]:
        """The form."""
        return await self.form(request, request.query_params.get("shop", ""))

    async def form(self, request: Request[Any, Any, Any], shop: str, missed: str | None = None) -> Response[Any]:
        """The form, before or after a miss with the number that was typed; no fields where the shop is not known."""
        tenant = self.tenant(shop)
        brand = await self.desk.brand_of(tenant) if tenant else Brand()
        known = shop if shop == tenant else ""
        return page(
            "track_look_up.html", view_of(request), status=200 if missed is None else 404, headers=HEADERS,
            brand=brand, shop=known if tenant else None, missed=missed,
        )  # fmt: skip

    def tenant(self, shop: str) -> str:
        """The tenant that is meant; '' where that is not known."""
        tenants = self.tenants()
        if shop:
            return shop if shop in tenants else ""
        return next(iter(tenants)) if len(tenants) == 1 else ""

    async def look(self, request: Request[Any, Any, Any]) -> Response[Any]:
        """Look an order up, and answer when all are answered."""
        refuse_forged(request, self.desk.public_url)
        form = await read_form(request, FORM_BYTES_MAX)
        begun = time.monotonic()
        try:
            token = await self.found(request, form.raw("shop"), _folded(form.raw("order")), _folded(form.raw("phone")))
        finally:
            spent = time.monotonic() - begun
            await asyncio.sleep(ANSWER_S - spent % ANSWER_S)
        if token:
            count("tracking.looked_up")
            return Redirect(f"/t/{token}", status_code=303, headers=dict(HEADERS))
        count("tracking.look_up_missed")
        typed = form.raw("order")[:ORDER_NO_MAX]
        return await self.form(request, form.raw("shop"), typed if typed.isprintable() else "")

    async def found(self, request: Request[Any, Any, Any], shop: str, order_no: str, digits: str) -> str:
        """The token of the page; '' for every miss.

        Raises:
            TooOften: This address, or whoever asks for this order, has asked often enough.
        """
        tenant = self.tenant(shop)
        order_no = order_no if is_order_no(order_no) else "?"
        # the second is counted for orders that are not there too
        for scope, key, (limit, window) in (
            ("track.address", self.desk.client(request), BY_ADDRESS),
            ("track.order", f"{tenant}\0{order_no}", BY_ORDER),
        ):
            wait_s = await self.desk.throttle.take(scope, key, limit, window)
            if wait_s:
                raise TooOften(timedelta(seconds=wait_s))
        contact = await self.holder(tenant, order_no, digits)
        if contact is None:
            return ""
        return await self.desk.tracking.token_for(tenant, order_no, self.desk.now(), contact)

    async def holder(self, tenant: str, order_no: str, digits: str) -> str | None:
        """Who of an order's people has a phone that ends so; None for every miss."""
        found = await self.desk.tracking.holders(tenant, order_no)
        order, people = found if found is not None else (None, [])
        wanted = digits if len(digits) == DIGITS and digits.isascii() and digits.isdecimal() else _NOBODY
        right = [one.id for one in people if hmac.compare_digest(one.phone[-DIGITS:] or "none", wanted)]
        if order is None or not right:
            return None
        found_page = await self.desk.tracking.page(tenant, order_no, right[0])
        playbook = (await self.desk.shelf_of(tenant)).find(order.playbook)
        over = found_page is None or playbook is None or is_over(found_page, playbook, self.desk.now())
        return None if over else right[0]


def _folded(text: str) -> str:
    """What somebody typed, with full-width digits and letters as narrow ones and without blanks around."""
    return unicodedata.normalize("NFKC", text[:100]).strip()
