"""`/v1/cases`: the work that orders wait for, to read; what the staff do with it is told by events."""

from typing import Annotated, Literal

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery, PathParameter, QueryParameter
from litestar.types import ControllerRouterHandler

from orderbell.store.lines import CaseFilter, CaseLine
from orderbell.web.access import say_no
from orderbell.web.api import examples
from orderbell.web.api.messages import Order
from orderbell.web.api.orders import LookingOf
from orderbell.web.api.paging import LIMIT_USUAL, After, Limit, ListPage, read_cursor

State = Literal["", "unresolved", "open", "acknowledged", "resolved"]


class CasePage(ListPage, frozen=True):
    """Cases; `next` is empty on the last page. `looked_back_to` is as in a page of orders."""

    items: list[CaseLine]


def case_routes(looking_of: LookingOf) -> list[ControllerRouterHandler]:
    """Make the routes; they need a key (`web.access.keyed`)."""

    @get("/v1/cases", summary="List cases", tags=["cases"], opt={"right": "cases:read", "example": examples.CASES})
    async def list_cases(
        tenant: NamedDependency[str],
        at_state: Annotated[State, QueryParameter(name="state", description="How far they are.")] = "",
        owner: FromQuery[Literal["", "warehouse", "finance", "logistics", "service"]] = "",
        kind: FromQuery[Literal["", "handle", "call_back"]] = "",
        order_no: Order = "",
        after: After = "",
        limit: Limit = LIMIT_USUAL,
    ) -> CasePage:
        """Work for the staff, the newest first; `unresolved` are the open and the acknowledged ones."""
        with read_cursor():
            page = await looking_of(tenant).cases(CaseFilter(at_state, owner, kind, order_no), after, limit)
        return CasePage.of(page)

    @get(
        "/v1/cases/{case:str}", summary="Show a case", tags=["cases"],
        opt={"right": "cases:read", "example": examples.CASE},
    )  # fmt: skip
    async def show_case(
        tenant: NamedDependency[str],
        case: Annotated[str, PathParameter(description="Its id, 32 hexadecimal digits.", max_length=64)],
    ) -> CaseLine:
        """A case: which order waits for whom, and since when."""
        found = await looking_of(tenant).case(case)
        if found is None:
            say_no(404, "unknown_case", "No such case", "there is no case of this id")
        return found

    return [list_cases, show_case]
