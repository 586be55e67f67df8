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
from msgspec import Struct

from orderbell.core.wishes import CHANNELS
from orderbell.store.lines import OrderFilter
from orderbell.store.looking import Looking
from orderbell.store.overview import Figures, Overview
from orderbell.web.console.desk import Desk
from orderbell.web.console.live import Feed, key_of, micros_of, read_micros, sentence
from orderbell.web.console.placing import piece, show
from orderbell.web.rendering import View, view_of
from orderbell.web.rights import Visitor
from orderbell.web.standing import red_names

NEWS_SHOWN: Final = 40
SLOT_MINUTES: Final = 5
STATUSES: Final = ("delivered", "accepted", "queued", "sending", "failed", "rejected", "unknown")
ENOUGH: Final = 30
"""With fewer events in the last hour most of its minutes are empty: the last day says more, by the hour."""

HOURS_MIN: Final = 6
_TARGET_SHARE: Final = 0.99


class Pace(Struct, frozen=True):
    """How many events came: the key of the title, a chart for ECharts, and the same as rows of a table."""

    title: str
    line: Mapping[str, Any]
    rows: Sequence[tuple[str, int]]


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
        "figures": figures, "today": today.date().isoformat(), "pace": _pace(figures, view),
        "anomalies": _ranked(figures.anomalies), "cases": _ranked(figures.cases),
        "statuses": [one for one in STATUSES if one in figures.messages],
        "channels": [one for one in CHANNELS if any(one in counts for counts in figures.messages.values())],
        "totals": {status: sum(counts.values()) for status, counts in figures.messages.items()},
        "median": timedelta(minutes=figures.critical.median_minutes or 0),
        "is_priced": any(desk.price_millifen.values()),
        "is_prompt": (figures.critical.share or 0) >= _TARGET_SHARE,
    }  # fmt: skip


def _ranked(counts: Mapping[str, int]) -> Sequence[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _clock(at: datetime, view: View) -> str:
    return f"{at.astimezone(view.zone):%H:%M}"


def _pace(figures: Figures, view: View) -> Pace:
    """By the minute where enough goes on for that, else by the hour: a line at the bottom tells nobody anything.

    Hours that are not counted yet are left out, and so are empty ones before the first event.
    """
    minutes, hours = figures.events_per_minute, figures.events_per_hour
    last = figures.at.replace(second=0, microsecond=0)
    if sum(minutes) >= ENOUGH or sum(minutes) >= sum(hours):
        return _paced("overview.throughput", minutes, last, timedelta(minutes=1), view)
    last = last.replace(minute=0)
    behind = max((last - figures.counted_at) // timedelta(hours=1) + 1, 0) if figures.counted_at is not None else 0
    behind = min(behind, len(hours) - HOURS_MIN)
    hours = hours[: len(hours) - behind]
    began = next((place for place, count in enumerate(hours) if count), 0)
    hours = hours[max(min(began, len(hours) - HOURS_MIN), 0) :]
    return _paced("overview.throughput_hours", hours, last - timedelta(hours=behind), timedelta(hours=1), view)


def _paced(title: str, counts: Sequence[int], last: datetime, step: timedelta, view: View) -> Pace:
    times = [_clock(last - step * (len(counts) - 1 - place), view) for place in range(len(counts))]
    rows = SLOT_MINUTES if step < timedelta(hours=1) else 1
    return Pace(title, _line(counts, times, view), _by_slot(counts, times, rows))


def _line(counts: Sequence[int], times: Sequence[str], view: View) -> dict[str, Any]:
    """The throughput, for ECharts."""
    return {
        "grid": {"left": 40, "right": 12, "top": 16, "bottom": 26},
        "tooltip": {"trigger": "axis"},
        "xAxis": {
            "type": "category", "data": times, "boundaryGap": False, "axisLabel": {"interval": len(counts) // 6 - 1},
        },
        "yAxis": {"type": "value", "minInterval": 1, "splitLine": {"lineStyle": {"color": "#e8edf0"}}},
        "series": [{
            "type": "line", "data": counts, "showSymbol": False, "color": "#0f6e63",
            "name": view.say("overview.events"), "areaStyle": {"opacity": 0.12}, "lineStyle": {"width": 2},
        }],
    }  # fmt: skip


def _by_slot(counts: Sequence[int], times: Sequence[str], size: int) -> Sequence[tuple[str, int]]:
    """The same for whoever reads: the newest row first."""
    begins = [max(end - size, 0) for end in range(len(counts), 0, -size)]
    return [(times[begin], sum(counts[begin : begin + size])) for begin in begins]
