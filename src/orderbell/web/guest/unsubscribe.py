"""`/u/{token}`: one click ends advertising by mail (RFC 8058), and only that.

Scanners open every link of a mail: GET only shows a page with a button; the POST of a mail program, which comes without
cookies and from nowhere, or of that button ends it. The token itself is the proof (`store.unsubscribe`).
"""

from functools import partial
from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from orderbell.core.turn import agree
from orderbell.observe import count
from orderbell.store.unsubscribe import KeyOf, read_token
from orderbell.web.guest.desk import FORM_BYTES_MAX, HEADERS, GuestDesk, named, served
from orderbell.web.rendering import page, view_of

_SOURCE: Final = "unsubscribe link"
_PUBLIC: Final = {"public": "the token itself is the secret"}


def unsubscribe_routes(desk: GuestDesk, key_of: KeyOf) -> list[ControllerRouterHandler]:
    """Make the routes."""

    @get("/u/{token:str}", include_in_schema=False, opt=_PUBLIC)
    async def ask(request: Request[Any, Any, Any], token: FromPath[str]) -> Response[Any]:
        async def show() -> Response[Any]:
            tenant, _ = read(request, token)
            return await _page(desk, request, tenant, done=False)

        return await served(request, show)

    @post("/u/{token:str}", include_in_schema=False, opt=_PUBLIC, status_code=200, request_max_body_size=FORM_BYTES_MAX)
    async def unsubscribe(request: Request[Any, Any, Any], token: FromPath[str]) -> Response[Any]:
        async def end() -> Response[Any]:
            tenant, contact = read(request, token)
            at = desk.now()
            await desk.people_of(tenant).change(contact, partial(agree, given=False, at=at), at, _SOURCE)
            count("unsubscribe.done")
            return await _page(desk, request, tenant, done=True)

        return await served(request, end)

    def read(request: Request[Any, Any, Any], token: str) -> tuple[str, str]:
        return read_token(key_of, token) or desk.refuse_guess(request)

    return [ask, unsubscribe]


async def _page(desk: GuestDesk, request: Request[Any, Any, Any], tenant: str, *, done: bool) -> Response[Any]:
    view, playbook = view_of(request), (await desk.shelf_of(tenant)).find("")
    brand = named(await desk.brand_of(tenant), playbook, view.locale)
    return page("track_unsubscribe.html", view, headers=HEADERS, brand=brand, done=done)
