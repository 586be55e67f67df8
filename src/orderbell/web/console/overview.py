"""The overview: how things stand now, in a few large figures, and what happens as it happens.

The figures are asked for every ten seconds by the page itself; each leads to the list of what it counts.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any, Final

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from orderbell.core.turn import Shelf
from orderbell.core.wishes import CHANNELS
from orderbell.store.lines import OrderFilter
from orderbell.store.looking import Looking
from orderbell.store.overview import Figures, Overview
from orderbell.web.console.desk import Desk
from orderbell.web.console.live import Feed, key_of, micros_of, read_micros, sentence
from orderbell.web.console.placing import piece, show
from orderbell.web.rendering import View, view_of
from orderbell.web.rights import Visitor

NEWS_SHOWN: Final = 40
SLOT_MINUTES: Final = 5
STATUSES: Final = ("delivered", "accepted", "queued", "sending", "failed", "rejected", "unknown")
_TARGET_SHARE: Final = 0.99


def overview_routes(desk: Desk, feed: Feed) -> list[ControllerRouterHandler]:
    """Make the routes; they are for people who are signed in."""

    @get("/console", opt={"right": "orders:read"})
    async def show_overview(request: Request[Any, Any, Any], visitor: NamedDependency[Visitor]) -> Response[str]:
        view = view_of(request, visitor)
        values = await _figures(desk, view, visitor.tenant)
        news, _ = await Overview(desk.store, visitor.tenant).news(view.now, None, NEWS_SHOWN)
        figures: Figures = values["figures"]
        is_empty = not (figures.orders or figures.events or news) and await _has_no_orders(desk, visitor.tenant)
        return show(
            "overview.html", view, **values, news=[(one, key_of(one), sentence(one, view)) for one in reversed(news)],
            since=micros_of(view.now), is_empty=is_empty, base_url=desk.public_url or str(request.base_url).rstrip("/"),
        )  # fmt: skip

    @get("/console/figures", opt={"right": "orders:read", "by_itself": True})
    async def show_figures(request: Request[Any, Any, Any], visitor: NamedDependency[Visitor]) -> Response[str]:
        view = view_of(request, visitor)
        return piece("overview_figures.html", view, **await _figures(desk, view, visitor.tenant))

    @get("/console/live", opt={"right": "orders:read", "by_itself": True})
    async def watch(
        request: Request[Any, Any, Any], visitor: NamedDependency[Visitor], since: FromQuery[str] = ""
    ) -> Stream:
        # A page that lost us says by itself how far it came.
        last = request.headers.get("last-event-id", "") or since
        return await feed.respond(view_of(request, visitor), visitor.tenant, read_micros(last))

    return [show_overview, show_figures, watch]


async def _has_no_orders(desk: Desk, tenant: str) -> bool:
    return not (await Looking(desk.store, tenant).orders(OrderFilter(), "", 1)).items


async def _figures(desk: Desk, view: View, tenant: str) -> dict[str, Any]:
    shelf = await desk.shelf_of(tenant)
    today = datetime.combine(view.now.astimezone(view.zone).date(), time(), view.zone)
    figures = await Overview(desk.store, tenant).figures(view.now, today, red_names(shelf), desk.price_millifen)
    return {
        "figures": figures, "today": today.date().isoformat(), "line": _line(figures, view),
        "minutes": _by_slot(figures, view), "anomalies": _ranked(figures.anomalies), "cases": _ranked(figures.cases),
        "statuses": [one for one in STATUSES if one in figures.messages],
        "channels": [one for one in CHANNELS if any(one in counts for counts in figures.messages.values())],
        "totals": {status: sum(counts.values()) for status, counts in figures.messages.items()},
        "median": timedelta(minutes=figures.critical.median_minutes or 0),
        "is_prompt": (figures.critical.share or 0) >= _TARGET_SHARE,
    }  # fmt: skip


def red_names(shelf: Shelf) -> frozenset[str]:
    """The anomalies that turn an order red in any playbook of a tenant."""
    return frozenset(
        name for playbook in shelf.playbooks.values() for name, one in playbook.anomalies.items() if one.light == "red"
    )


def _ranked(counts: Mapping[str, int]) -> Sequence[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _clock(at: datetime, view: View) -> str:
    return f"{at.astimezone(view.zone):%H:%M}"


def _line(figures: Figures, view: View) -> dict[str, Any]:
    """The throughput of the last hour, for ECharts."""
    last = figures.at.replace(second=0, microsecond=0)
    count = len(figures.events_per_minute)
    minutes = [_clock(last - timedelta(minutes=count - 1 - place), view) for place in range(count)]
    return {
        "grid": {"left": 40, "right": 12, "top": 16, "bottom": 26},
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "category", "data": minutes, "boundaryGap": False, "axisLabel": {"interval": 9}},
        "yAxis": {"type": "value", "minInterval": 1, "splitLine": {"lineStyle": {"color": "#e8edf0"}}},
        "series": [{
            "type": "line", "data": figures.events_per_minute, "showSymbol": False, "color": "#0f6e63",
            "name": view.say("overview.events"), "areaStyle": {"opacity": 0.12}, "lineStyle": {"width": 2},
        }],
    }  # fmt: skip


def _by_slot(figures: Figures, view: View) -> Sequence[tuple[str, int]]:
    """The same for whoever reads: five minutes a row, the newest first."""
    last = figures.at.replace(second=0, microsecond=0)
    counts = figures.events_per_minute
    rows = []
    for end in range(len(counts), 0, -SLOT_MINUTES):
        begin = last - timedelta(minutes=len(counts) - max(end - SLOT_MINUTES, 0) - 1)
        rows.append((_clock(begin, view), sum(counts[max(end - SLOT_MINUTES, 0) : end])))
    return rows
