"""The list of orders: one field to search by, filters, pages by cursor, and a CSV file of what was found."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, Literal, get_args

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.response import Stream
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.core.model import Light
from orderbell.core.turn import Shelf
from orderbell.store.lines import OrderFilter, OrderLine
from orderbell.store.looking import Looking
from orderbell.store.pages import Page
from orderbell.web.console.desk import Desk
from orderbell.web.console.placing import is_more, piece, show
from orderbell.web.csv import Cell, csv_download
from orderbell.web.rendering import View, view_of
from orderbell.web.rights import Visitor
from orderbell.web.standing import sentence_of, stage_name

ROWS: Final = 50
EXPORT_ROWS: Final = 200
EXPORTED_MAX: Final = 20_000
"""The most orders that one file has; narrower searches make more files."""

LIGHTS: Final[tuple[Light, ...]] = get_args(Light)
FIELDS: Final = ("q", "light", "stage", "anomaly", "playbook")


class Row(Struct, frozen=True):
    """An order as the list shows it; `sentence` is what the customer reads."""

    line: OrderLine
    sentence: str


def orders_routes(desk: Desk) -> list[ControllerRouterHandler]:
    """Make the routes; they are for people who are signed in."""

    @get("/console/orders", opt={"right": "orders:read"})
    async def list_orders(request: Request[Any, Any, Any], visitor: NamedDependency[Visitor]) -> Response[str]:
        view = view_of(request, visitor)
        shelf = await desk.shelf_of(visitor.tenant)
        looking = Looking(desk.store, visitor.tenant)
        wanted = filter_of(view.query)
        try:
            found = await looking.orders(wanted, view.query.get("after", ""), ROWS)
        except ValueError:  # a cursor that nobody here has made: the list begins anew
            found = await looking.orders(wanted, "", ROWS)
        values = {
            "rows": [_row(line, shelf, view) for line in found.items], "found": found,
            "next_url": view.link(after=found.next) if found.next else "",
        }  # fmt: skip
        if is_more(request):
            return piece("orders_rows.html", view, **values)
        return show(
            "orders.html", view, **values, fields=FIELDS, lights=LIGHTS, stages=stages_of(shelf, view.locale),
            anomalies=anomalies_of(shelf, view), playbooks=[(name, name) for name in sorted(shelf.playbooks)],
            is_searched=any(view.query.get(name) for name in FIELDS), export=_export_url(view),
        )  # fmt: skip

    @get("/console/orders.csv", opt={"right": "orders:read"})
    async def export_orders(request: Request[Any, Any, Any], visitor: NamedDependency[Visitor]) -> Stream:
        view = view_of(request, visitor)
        shelf = await desk.shelf_of(visitor.tenant)
        looking, wanted = Looking(desk.store, visitor.tenant), filter_of(view.query)
        first = await looking.orders(wanted, "", EXPORT_ROWS)
        heads = [view.say(f"orders.csv_{name}") for name in _COLUMNS]
        return csv_download("orders.csv", heads, _exported(looking, wanted, first, shelf, view))

    return [list_orders, export_orders]


def filter_of(query: Mapping[str, str]) -> OrderFilter:
    """What a query asks for; a light that is none asks for nothing."""
    asked = query.get("light", "")
    light: Literal["", "red", "yellow", "green"] = next((one for one in LIGHTS if one == asked), "")
    return OrderFilter(
        text=query.get("q", "").strip(), stage=query.get("stage", ""), light=light, anomaly=query.get("anomaly", ""),
        playbook=query.get("playbook", ""),
    )  # fmt: skip


def stages_of(shelf: Shelf, locale: str) -> list[tuple[str, str]]:
    """The stages of all playbooks, each once, by name and in words."""
    found: dict[str, str] = {}
    for playbook in shelf.playbooks.values():
        for stage in playbook.stages.values():
            found.setdefault(stage.name, stage_name(stage.says, locale, stage.name))
    return list(found.items())


def anomalies_of(shelf: Shelf, view: View) -> list[tuple[str, str]]:
    """The anomalies of all playbooks, by name and in words."""
    names = {name for playbook in shelf.playbooks.values() for name in playbook.anomalies}
    return sorted(((name, view.called("anomalies", name)) for name in names), key=lambda pair: pair[1])


def _row(line: OrderLine, shelf: Shelf, view: View) -> Row:
    order, playbook = line.order, shelf.find(line.order.playbook)
    known = playbook is not None and order.stage in playbook.stages
    return Row(line, sentence_of(order, playbook, view.locale) if known and playbook is not None else order.stage)


def _export_url(view: View) -> str:
    return "/console/orders.csv" + view.link(after="").removeprefix(view.path)


_COLUMNS: Final = (
    "no", "light", "stage", "sentence", "anomalies", "playbook", "title", "amount", "payment", "opened", "updated",
)  # fmt: skip


async def _exported(
    looking: Looking, wanted: OrderFilter, page: Page[OrderLine], shelf: Shelf, view: View
) -> AsyncIterator[Sequence[Cell]]:
    count = 0
    while True:
        for line in page.items:
            yield _cells(_row(line, shelf, view), view)
        count += len(page.items)
        if not page.next or count >= EXPORTED_MAX:
            return
        page = await looking.orders(wanted, page.next, EXPORT_ROWS)


def _cells(row: Row, view: View) -> Sequence[Cell]:
    order = row.line.order
    wrong = "; ".join(view.called("anomalies", one.name) for one in order.anomalies)
    return (
        order.no, view.called("lights", row.line.light), order.stage, row.sentence, wrong, order.playbook, order.title,
        f"{order.amount_fen / 100:.2f}", view.say(f"order.payment_{order.payment}"), order.opened_at, order.updated_at,
    )  # fmt: skip
