"""The customer's page over the API: its address, what people wrote into its form for addresses, and how links do."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.core.events import is_order_no
from orderbell.store.keys import ApiCaller
from orderbell.store.links import Links, OpenRate
from orderbell.store.tracking import Correction, Tracking
from orderbell.store.trail import Trail
from orderbell.web.access import say_no
from orderbell.web.api import examples
from orderbell.web.api.orders import OrderNo
from orderbell.web.api.paging import text_parameter

DAYS_MAX: Final = 90
ROLE_LENGTH_MAX: Final = 200

LinkOf = Callable[[str, str, str], Awaitable[str]]
"""The address of a customer's page, by tenant, order and role; empty where there is none."""


class PageLink(Struct, frozen=True):
    """The address of the page of one person in one order; whoever has it may see the page."""

    url: str


class Corrections(Struct, frozen=True):
    """What people wrote into the form for addresses, the newest first."""

    corrections: list[Correction]


class LinkRates(Struct, frozen=True):
    """How the links in messages do, by topic and channel; SMS carry none."""

    since: datetime
    rates: list[OpenRate]


def link_routes(
    link_of: LinkOf, tracking: Tracking, links: Links, trail: Trail, now: Callable[[], datetime]
) -> list[ControllerRouterHandler]:
    """Make the routes; they need a key (`web.access.keyed`)."""

    @post(
        "/v1/orders/{order_no:str}/link", summary="Get the address of the customer's page", tags=["orders"],
        opt={"right": "links:write", "example": examples.PAGE_LINK}, status_code=200,
    )  # fmt: skip
    async def make_page_link(
        tenant: NamedDependency[str],
        caller: NamedDependency[ApiCaller],
        request: Request[Any, Any, Any],
        order_no: OrderNo,
        role: Annotated[str, text_parameter("Whose page, by role; else that of the customer.")] = "",
    ) -> PageLink:
        """The address for one person in an order; it stays the same, and whoever has it may see the page."""
        known = is_order_no(order_no) and len(role) <= ROLE_LENGTH_MAX and role.isprintable()
        async with trail.together():
            url = await link_of(tenant, order_no, role) if known else ""
            if not url:
                say_no(404, "unknown_order", "No such order", "there is no order of this number with such a role")
            await trail.write(tenant, caller.actor, "link.make", order_no, {"role": role} if role else {})
        return PageLink(url if "://" in url else str(request.base_url).rstrip("/") + url)

    @get(
        "/v1/orders/{order_no:str}/corrections", summary="List addresses that customers put right", tags=["orders"],
        opt={"right": "people:read", "example": examples.CORRECTIONS},
    )  # fmt: skip
    async def list_corrections(tenant: NamedDependency[str], order_no: OrderNo) -> Corrections:
        """What customers wrote into the form for addresses on their page, in clear, the newest first."""
        if not is_order_no(order_no) or await tracking.page(tenant, order_no) is None:
            say_no(404, "unknown_order", "No such order", "there is no order of this number")
        return Corrections(await tracking.corrections(tenant, order_no))

    @get(
        "/v1/metrics/links", summary="Count which links in messages are followed", tags=["metrics"],
        opt={"right": "metrics:read", "example": examples.LINK_RATES},
    )  # fmt: skip
    async def show_link_rates(
        tenant: NamedDependency[str],
        days: Annotated[int, QueryParameter(description="Of so many days.", ge=1, le=DAYS_MAX)] = 30,
    ) -> LinkRates:
        """By topic and channel: how many messages had a link, and how many of those links people followed."""
        since = now() - timedelta(days=days)
        return LinkRates(since, await links.open_rates(tenant, since))

    return [make_page_link, list_corrections, show_link_rates]
