"""The trail as a page and as a file: who changed what, for the owners of a shop."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from orderbell.store.trail import Trail
from orderbell.web.csv import Cell, csv_download
from orderbell.web.rendering import View, page, view_of
from orderbell.web.rights import Visitor

PAGE: Final = 50
_HEADS: Final = ("at", "actor", "action", "object", "detail")


def trail_routes(trail: Trail) -> Sequence[ControllerRouterHandler]:
    """Make the routes; they go under `signed_in`."""

    @get("/console/trail", opt={"right": "trail:read"})
    async def show_trail(
        request: Request[Any, Any, Any],
        visitor: NamedDependency[Visitor],
        before: FromQuery[int | None] = None,
        actor: FromQuery[str] = "",
        action: FromQuery[str] = "",
    ) -> Response[Any]:
        found = await trail.read(visitor.tenant, before, PAGE + 1, actor=actor.strip(), action=action.strip())
        view, shown = view_of(request, visitor), found[:PAGE]
        onwards = view.link(before=str(shown[-1].place)) if len(found) > PAGE else ""
        rows = [(change, done(change.action, view), told(change.detail)) for change in shown]
        return page("trail.html", view, rows=rows, onwards=onwards, actor=actor, action=action)

    @get("/console/trail.csv", opt={"right": "trail:read"})
    async def export_trail(
        visitor: NamedDependency[Visitor], actor: FromQuery[str] = "", action: FromQuery[str] = ""
    ) -> Stream:
        async def rows() -> AsyncIterator[Sequence[Cell]]:
            async for one in trail.read_all(visitor.tenant, actor=actor.strip(), action=action.strip()):
                yield one.at, one.actor, one.action, one.object, told(one.detail)

        return csv_download("trail.csv", _HEADS, rows())

    return [show_trail, export_trail]


def done(action: str, view: View) -> str:
    """What an action is called; '' where nobody named it."""
    return view.find(f"settings.did_{action.replace('.', '_')}")


def told(detail: dict[str, Any]) -> str:
    """The details of a change in one line."""
    return "; ".join(f"{name}: {value if isinstance(value, str) else _plain(value)}" for name, value in detail.items())


def _plain(value: object) -> str:
    """A value that is no text; a list of texts without the marks of JSON."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return msgspec.json.encode(value).decode()
