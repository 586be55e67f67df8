"""`/l/{code}`: the short link of a message, which leads to the customer's page and counts who follows it.

It leads nowhere else: the target is made from what is stored with the code, never from the request. The count is the
only thing that a request changes, and nothing is decided by it.
"""

from functools import partial
from typing import Any, Final

from litestar import Request, Response, route
from litestar.enums import HttpMethod
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

from orderbell.core.clicks import Click
from orderbell.observe import count
from orderbell.store.links import Links
from orderbell.web.guest.desk import MINUTE, GuestDesk, NotHere, TooOften, served

_PUBLIC: Final = {"public": "a link in a message opens for whoever has it"}
_METHODS: Final = [HttpMethod.GET, HttpMethod.HEAD]
_HEADERS: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}
_AGENT_LENGTH: Final = 400


def short_link_routes(desk: GuestDesk, links: Links) -> list[ControllerRouterHandler]:
    """Make the routes."""

    async def follow(request: Request[Any, Any, Any], code: str, *, trap: bool) -> Response[Any]:
        headers = request.headers
        purpose = headers.get("sec-purpose") or headers.get("purpose") or headers.get("x-moz") or ""
        agent = headers.get("user-agent", "")[:_AGENT_LENGTH]
        click = Click(request.method, agent, purpose, desk.now(), trap=trap)
        target = await links.follow(code, click, (desk.client(request), agent))
        if target is None:
            if desk.guesses.missed(desk.client(request), desk.now()):
                raise TooOften(MINUTE)
            raise NotHere
        count("tracking.followed")
        token = desk.tracking.token(target.tenant, target.order_no, target.contact)
        return Redirect(f"/t/{token}", status_code=302, headers=dict(_HEADERS))

    @route("/l/{code:str}", http_method=_METHODS, include_in_schema=False, opt=_PUBLIC)
    async def follow_link(request: Request[Any, Any, Any], code: FromPath[str]) -> Response[Any]:
        return await served(request, partial(follow, request, code, trap=False))

    @route("/l/{code:str}/all", http_method=_METHODS, include_in_schema=False, opt=_PUBLIC)
    async def follow_trap(request: Request[Any, Any, Any], code: FromPath[str]) -> Response[Any]:
        # no person sees this address: whoever opens it opens everything that a message holds
        return await served(request, partial(follow, request, code, trap=True))

    return [follow_link, follow_trap]
