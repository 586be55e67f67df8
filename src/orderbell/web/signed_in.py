"""Routes of people who are signed in: who has no session is sent to the sign-in page, who lacks the right told so.

::

    signed_in([handler], visitor_of)  # a handler takes `visitor: NamedDependency[Visitor]`

The session is looked up before anything of the request is read, for every route here, whether its handler asks for the
visitor or not. A route that names no right answers nobody. What a page asks for by itself, while nobody may sit before
it, says so (`opt={"right": …, "by_itself": True}`): it keeps no session going that nobody uses (OWASP ASVS 5.0, 7.3.1).
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit

from litestar import Request, Response, Router
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler
from litestar.types import ControllerRouterHandler

from orderbell.web.access import is_named_by_litestar
from orderbell.web.rendering import HALL, VISITOR, view_of
from orderbell.web.rights import Visitor
from orderbell.web.same_origin import SAFE_METHODS, refuse_foreign

COOKIE: Final = "__Host-orderbell"
"""The name of the session's cookie; browsers keep others from setting it (RFC 6265bis, 4.1.3.2)."""

SIGN_IN: Final = "/sign-in"


class VisitorOf(Protocol):
    """Says whose session a token is, None when nobody's or over."""

    async def __call__(self, token: str, *, touch: bool = True) -> Visitor | None:
        """Look the token up; `touch` keeps its session going."""
        ...


class SignInFirst(HTTPException):
    """Nobody is signed in; `next_path` is where to go on afterwards."""

    status_code = 401

    def __init__(self, next_path: str = "") -> None:
        extra = {"reason": "signed_out", "title": "Nobody is signed in"}
        super().__init__(detail="sign in first", extra=extra)
        self.next_path = next_path


def signed_in(handlers: Sequence[ControllerRouterHandler], sessions: VisitorOf, public_url: str = "") -> Router:
    """Routes for whoever is signed in and has the right that the route names in `opt["right"]`.

    Without a session a page answers 303 to the sign-in page, a piece of a page (htmx) 401 with `HX-Redirect`; without
    the right 403. What may change something is refused unless a page of this site sent it.
    """

    async def check(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        if is_named_by_litestar(connection):
            return
        right = handler.opt["right"]  # a route that names none is a mistake of ours, and answers nobody
        refuse_foreign(connection, public_url)
        token = connection.cookies.get(COOKIE, "")
        visitor = await sessions(token, touch=not handler.opt.get("by_itself")) if token else None
        if visitor is None:
            raise SignInFirst(_next_path(connection))
        connection.scope["state"][VISITOR] = visitor
        if not visitor.may(right):
            raise _no_right(connection, visitor, right)

    async def visitor(request: Request[Any, Any, Any]) -> Visitor:
        found: Visitor = request.scope["state"][VISITOR]
        return found

    return Router(
        "/",
        route_handlers=handlers,
        guards=[check],
        dependencies={"visitor": Provide(visitor)},
        exception_handlers={SignInFirst: _send_to_sign_in},
        include_in_schema=False,
    )


def _no_right(connection: ASGIConnection[Any, Any, Any, Any], visitor: Visitor, right: str) -> HTTPException:
    detail = f"your role has no right to this ({right})"
    if HALL in connection.app.state:
        view = view_of(Request(connection.scope), visitor)
        detail = view.say("signin.missing_right", role=view.say(f"settings.role_{visitor.role}"))
    return HTTPException(detail=detail, status_code=403, extra={"reason": "missing_right", "title": "Not yours to do"})


def own_path(wanted: str) -> str:
    """A path of this site to go on to, `/console` for whatever else is asked for."""
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return "/console"
    safe = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if safe and not parts.scheme and not parts.netloc and "\\" not in wanted else "/console"


def _next_path(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    if connection.headers.get("hx-request") == "true":
        try:
            parts = urlsplit(connection.headers.get("hx-current-url", ""))
        except ValueError:
            return "/console"
        return own_path(f"{parts.path}?{parts.query}" if parts.query else parts.path)
    if connection.scope.get("method", "GET") not in SAFE_METHODS:
        return "/console"
    query = connection.scope["query_string"].decode("latin-1")
    path: str = connection.scope["path"]
    return own_path(f"{path}?{query}" if query else path)


def _send_to_sign_in(request: Request[Any, Any, Any], error: SignInFirst) -> Response[bytes]:
    where = f"{SIGN_IN}?next={quote(error.next_path, safe='/')}"
    headers = {"Cache-Control": "no-store"}
    if request.headers.get("hx-request") == "true":
        return Response(b"", status_code=401, headers={**headers, "HX-Redirect": where})
    return Response(b"", status_code=303, headers={**headers, "Location": where})
