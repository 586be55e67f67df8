"""The list of cases: what a colleague has to do, for whom it is, and for how long it has waited."""

from typing import Any, Final, Literal, get_args

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.types import ControllerRouterHandler

from orderbell.core.model import Owner
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
        values = {"found": found, "next_url": view.link(after=found.next) if found.next else ""}
        if is_more(request):
            return piece("cases_rows.html", view, **values)
        owners = [(one, view.called("owners", one)) for one in OWNERS]
        return show("cases.html", view, **values, owners=owners, owner=wanted.owner, states=STATES, state=state)

    return [list_cases]
