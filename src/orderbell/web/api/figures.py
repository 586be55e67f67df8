"""`/v1/metrics`: how things stand with the tenant, in the figures that the console shows.

They are for people and reports; Prometheus reads those of the whole installation at `/metrics`.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, time
from zoneinfo import ZoneInfo

from litestar import get
from litestar.di import NamedDependency
from litestar.types import ControllerRouterHandler

from orderbell.core.turn import Shelf
from orderbell.store.overview import Figures, Overview
from orderbell.web.api import examples
from orderbell.web.standing import red_names


def figure_routes(
    overview_of: Callable[[str], Overview],
    shelf_of: Callable[[str], Awaitable[Shelf]],
    zone_of: Callable[[str], str],
    price_millifen: Mapping[str, int],
    now: Callable[[], datetime],
) -> list[ControllerRouterHandler]:
    """Make the route; it needs a key (`web.access.keyed`).

    Args:
        overview_of: The figures of a tenant.
        shelf_of: Its playbooks.
        zone_of: The name of its time zone: the day begins at midnight there.
        price_millifen: What a part of an SMS, or another message, costs by provider, in 1/1000 fen.
        now: The wall clock as aware UTC.
    """

    @get(
        "/v1/metrics", summary="Show how things stand, in figures", tags=["metrics"],
        opt={"right": "metrics:read", "example": examples.FIGURES},
    )  # fmt: skip
    async def show_figures(tenant: NamedDependency[str]) -> Figures:
        """What is open now, and what happened since midnight by the tenant's clock; some seconds old at most."""
        zone, at = ZoneInfo(zone_of(tenant)), now()
        midnight = datetime.combine(at.astimezone(zone).date(), time(), zone)
        return await overview_of(tenant).figures(at, midnight, red_names(await shelf_of(tenant)), price_millifen)

    return [show_figures]
