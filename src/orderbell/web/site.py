"""The site: an ASGI application made of the routes that are handed in, two health checks and one way to say no.

Every error leaves as a problem document (RFC 9457, https://www.rfc-editor.org/rfc/rfc9457), and what went wrong inside
stays in the log. A route says no by raising Litestar's `HTTPException`; the members of its `extra` mapping go into
the document: `title` and `reason` (a word of the API, from which the problem's type is made), `field` and `id`.

A route that Litestar cannot describe by itself (bare ASGI) brings its part of the OpenAPI document in
`opt["openapi"]`, a mapping with `paths` and `components`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Litestar, Request, Response, Router, get
from litestar.datastructures import MutableScopeHeaders, State
from litestar.enums import MediaType
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.routes import HTTPRoute
from litestar.static_files import create_static_files_router
from litestar.types import ControllerRouterHandler, Message, Scope

from orderbell import __version__
from orderbell.errors import OrderBellError
from orderbell.web.api.openapi import whole_document
from orderbell.web.rendering import HALL, HERE, VISITOR, Hall, rendered, security_headers, view_of

log = structlog.get_logger()

PROBLEM_TYPE = "application/problem+json"
_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The policy of what is no page of ours: a browser that is made to show it runs and fetches nothing."""

READY_WITHIN_S = 5
"""How long the look at what the site needs may take."""

_NOT_FOUND = 404
_SERVER_ERROR = 500
_KEPT_S = 365 * 86400
_NAMED_ERRORS = frozenset({400, 401, 403, 404, 429, 503})
_FOR_CUSTOMERS = ("/t/", "/l/", "/u/", "/track")
_FOR_PROGRAMS = ("/v1/", "/schema/", "/static/", "/metrics")

_UNAVAILABLE = HTTPException(
    detail="nothing can be read or confirmed at the moment; send the same again later",
    status_code=503, headers={"Retry-After": "2"}, extra={"reason": "unavailable", "title": "Unavailable"},
)  # fmt: skip

Ready = Callable[[], Awaitable[Sequence[str]]]
"""Says what is missing before requests can be served; empty when nothing is."""


class Health(msgspec.Struct, frozen=True):
    """The answer of a health check."""

    status: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as RFC 9457 wants it, with the reason, the field and the event's id where they are known."""

    type: str
    title: str
    status: int
    detail: str
    reason: str = ""
    field: str = ""
    id: str = ""


_INTERNAL = Problem(
    "about:blank", "Internal Server Error", _SERVER_ERROR, "Something went wrong here, not with you; the log says what."
)


def create_site(route_handlers: Sequence[ControllerRouterHandler], ready: Ready, hall: Hall | None = None) -> Litestar:
    """Put the site together: the routes, `/static/`, `/healthz`, `/readyz` and `/schema/openapi.json`.

    Args:
        route_handlers: Handlers, controllers or routers of Litestar.
        ready: Asked by `/readyz`, which answers 503 while it names something or does not answer within 5 s. What it
            names is shown to anybody.
        hall: What pages need; None where the routes have none.
    """
    return Litestar(
        [*route_handlers, _healthz, _readyz_for(ready), _static_files()],
        state=State({HALL: hall} if hall is not None else {}),
        exception_handlers={Exception: _tell_problem},
        before_send=[_say_all_methods, _say_what_not_to_do],
        openapi_config=OpenAPIConfig(
            title="OrderBell",
            version=__version__,
            description="Tell OrderBell what happened to an order; it tells the people.",
            use_handler_docstrings=True,
            render_plugins=[_WholeSchema()],
            openapi_router=Router(
                "/schema", route_handlers=[], opt={"public": "the API's description"}, include_in_schema=False
            ),
        ),
        logging_config=None,
        debug=False,
    )


async def _say_all_methods(message: Message, scope: Scope) -> None:
    # Litestar's own answer to OPTIONS names the methods of the handler that was registered first, and no others.
    if message["type"] != "http.response.start" or scope.get("method") != "OPTIONS":
        return
    headers, here = MutableScopeHeaders(message), scope.get("path_template")
    routes = (route for route in scope["litestar_app"].routes if isinstance(route, HTTPRoute))
    found = {method for route in routes if here in (route.path, route.path_format) for method in route.methods}
    if "allow" in headers and found:
        headers["allow"] = ", ".join(sorted(found))


async def _say_what_not_to_do(message: Message, _: Scope) -> None:
    # Whatever says nothing else is nobody's to keep, and is what its type says (OWASP ASVS 5.0, 3.4.4 and 14.3.2).
    if message["type"] == "http.response.start":
        headers = MutableScopeHeaders(message)
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Cache-Control", "no-store")
        headers.setdefault("Content-Security-Policy", _NOTHING)


def _static_files() -> ControllerRouterHandler:
    return create_static_files_router(
        "/static", [HERE / "static"], opt={"public": "what every page shows"}, after_request=_may_be_kept
    )


def _may_be_kept(response: Response[Any]) -> Response[Any]:
    response.headers["Cache-Control"] = f"public, max-age={_KEPT_S}, immutable"  # the address changes with the file
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@get(
    "/healthz", summary="The process is alive", tags=["health"], sync_to_thread=False, opt={"public": "a health check"}
)
def _healthz() -> Health:
    return Health("alive")


def _readyz_for(ready: Ready) -> ControllerRouterHandler:
    @get("/readyz", summary="The process can take requests", tags=["health"], opt={"public": "a health check"})
    async def readyz() -> Health:
        missing: Sequence[str]
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                missing = await ready()
        except Exception as problem:  # noqa: BLE001 - whatever it is, the answer is no, and never the reason inside
            log.warning("readiness unknown", problem=str(problem), kind=type(problem).__name__)
            missing = ["what the site needs does not answer"]
        if missing:
            extra = {"reason": "not_ready", "title": "Not ready"}
            raise HTTPException(detail="; ".join(missing), status_code=503, headers={"Retry-After": "2"}, extra=extra)
        return Health("ready")

    return readyz


def _tell_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Turn whatever a route died of into a problem document."""
    if isinstance(error, OrderBellError):
        # What it says may name hosts and accounts: for the log, not for the client.
        log.warning("request turned away", problem=str(error), kind=type(error).__name__)
        error = _UNAVAILABLE
    problem = _problem_of(error)
    if problem.status >= _SERVER_ERROR and not problem.reason:
        log.error("request failed", method=request.method, path=_loggable(request.scope["path"]), exc_info=error)
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    headers["X-Content-Type-Options"] = "nosniff"
    if _wants_page(request):
        return _error_page(request, problem, headers)
    return Response(msgspec.json.encode(problem), status_code=problem.status, media_type=PROBLEM_TYPE, headers=headers)


def _wants_page(request: Request[Any, Any, Any]) -> bool:
    """Whether a person with a browser asked, for a page."""
    accepts_pages = "text/html" in request.headers.get("accept", "")
    return HALL in request.app.state and accepts_pages and not request.scope["path"].startswith(_FOR_PROGRAMS)


def _error_page(request: Request[Any, Any, Any], problem: Problem, headers: dict[str, str]) -> Response[bytes]:
    view = view_of(request, request.scope["state"].get(VISITOR))
    key = problem.status if problem.status in _NAMED_ERRORS else "other"
    ours = problem.status == _SERVER_ERROR
    words = view.say("shell.error_ours") if ours else ""
    if problem.reason and not ours:
        words = view.find(f"shell.why_{problem.reason}") or problem.detail
    if not words and problem.status == _NOT_FOUND:
        words = view.say("shell.error_404_words")
    path = request.scope["path"]
    # a customer whose link is broken has no business at the way in of the staff
    back = "" if path.startswith(_FOR_CUSTOMERS) else "/console" if path.startswith("/console") else "/"
    html = rendered("error.html", view, heading=view.say(f"shell.error_{key}"), words=words, back=back)
    return Response(
        html.encode(), status_code=problem.status, media_type=MediaType.HTML,
        headers={**security_headers(view), **headers},
    )  # fmt: skip


def _loggable(path: str) -> str:
    """A path without what in it is a secret: the addresses of callbacks and one-click links."""
    for begin in ("/v1/callbacks/", "/u/", "/enter/", "/setup", "/t/", "/l/"):
        if path.startswith(begin):
            return f"{begin}…"
    return path


def _problem_of(error: Exception) -> Problem:
    if not isinstance(error, HTTPException):
        return _INTERNAL
    status, phrase = error.status_code, HTTPStatus(error.status_code).phrase
    if isinstance(error.extra, dict) and "reason" in error.extra:
        said = {"title": phrase, **error.extra}
        return Problem(f"urn:orderbell:problem:{said['reason']}", status=status, detail=error.detail, **said)
    if status >= _SERVER_ERROR:
        return _INTERNAL
    # Litestar lists what is wrong with parameters and bodies that it reads itself: [{"message", "key", "source"}]
    wrong = error.extra[0] if isinstance(error.extra, list) and error.extra else {}
    field, detail = str(wrong.get("key", "")), str(wrong.get("message", error.detail))
    if field:
        title, reason = "The request is refused", "wrong_value"
        return Problem(f"urn:orderbell:problem:{reason}", title, 422, f"{field}: {detail}", reason, field)
    return Problem("about:blank", phrase, status, detail)


class _WholeSchema(JsonRenderPlugin):
    """The OpenAPI document with the parts that routes bring along."""

    def __init__(self) -> None:
        super().__init__(path=["/openapi.json", "/"])

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Put the document together; it never changes, but is asked for too seldom to keep it."""
        return msgspec.json.encode(whole_document(openapi_schema, request.app.routes, Problem))
