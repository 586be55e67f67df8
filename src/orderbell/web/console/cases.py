"""The list of cases: what a colleague has to do, for whom it is, and for how long it has waited."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.types import ControllerRouterHandler

from orderbell.core.model import Owner, Party
from orderbell.store.lines import CaseFilter
from orderbell.store.looking import Looking
from orderbell.web.console.desk import Desk
from orderbell.web.console.placing import is_more, piece, show
from orderbell.web.rendering import view_of
from orderbell.web.rights import Visitor

ROWS: Final = 50
OWNERS: Final[tuple[Owner, ...]] = get_args(Owner)
CaseState = Literal["unresolved", "open", "acknowledged", "resolved"]
STATES: Final[tuple[CaseState, ...]] = get_args(CaseState)


def cases_routes(desk: Desk) -> list[ControllerRouterHandler]:
    """Make the routes; they are for people who are signed in."""

    @get("/console/cases", opt={"right": "cases:read"})
    async def list_cases(request: Request[Any, Any, Any], visitor: NamedDependency[Visitor]) -> Response[str]:
        view = view_of(request, visitor)
        looking = Looking(desk.store, visitor.tenant)
        asked, owner = view.query.get("state", ""), view.query.get("owner", "")
        state: CaseState = next((one for one in STATES if one == asked), "unresolved")
        wanted = CaseFilter(state=state, owner=owner if owner in OWNERS else "")
        try:
            found = await looking.cases(wanted, view.query.get("after", ""), ROWS)
        except ValueError:  # a cursor that nobody here has made: the list begins anew
            found = await looking.cases(wanted, "", ROWS)
        people = await _people(desk, looking, visitor, [one.order_no for one in found.items])
        next_url = view.link(after=found.next) if found.next else ""
        values = {"found": found, "next_url": next_url, "people": people}
        if is_more(request):
            return piece("cases_rows.html", view, **values)
        owners = [(one, view.called("owners", one)) for one in OWNERS]
        return show("cases.html", view, **values, owners=owners, owner=wanted.owner, states=STATES, state=state)

    return [list_cases]


async def _people(desk: Desk, looking: Looking, visitor: Visitor, order_nos: Sequence[str]) -> Mapping[str, Party]:
    """The customer of each order, for those who may see people."""
    if not visitor.may("people:read") or not order_nos:
        return {}
    shelf = await desk.shelf_of(visitor.tenant)
    found = {}
    for no, order in (await looking.orders_named(order_nos)).items():
        playbook = shelf.find(order.playbook)
        principal = playbook.principal if playbook is not None else ""
        party = next((one for one in order.parties if one.role == principal), None)
        if party is not None:
            found[no] = party
    return found
