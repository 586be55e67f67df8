"""Which programs may come in: routes that an API key opens, each for the tenant of the key and as far as its scopes.

::

    keyed([handler], caller_of_key)  # a handler takes `tenant: NamedDependency[str]`, perhaps `caller` as well

The key is looked up before anything of the request is read, for every route here, whether its handler asks for the
tenant or not. A route that names no right answers nobody.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NoReturn

from litestar import Request, Router
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler
from litestar.types import ControllerRouterHandler

from orderbell.store.keys import ApiCaller

CallerOf = Callable[[str], Awaitable[ApiCaller | None]]
"""Says whose API key it is and what it may do, None when nobody's."""

_CALLER: Final = "caller"


def keyed(handlers: Sequence[ControllerRouterHandler], caller_of_key: CallerOf) -> Router:
    """Routes that answer 401 without a key that is somebody's, 403 to one without the scope in `opt["right"]`."""

    async def check(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        if is_named_by_litestar(connection):
            return
        right = handler.opt["right"]  # a route that names none is a mistake of ours, and answers nobody
        scheme, _, key = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise _locked("no_key", "No API key", "send an API key of yours: Authorization: Bearer ob_…", "")
        found = await caller_of_key(key.strip())
        if found is None:
            detail = "this API key is not known, or was revoked"
            raise _locked("bad_key", "No valid API key", detail, ', error="invalid_token"')
        if right not in found.scopes:
            say_no(403, "missing_scope", "The key may not do this", f"this API key has no scope {right}")
        connection.scope["state"][_CALLER] = found

    async def caller(request: Request[Any, Any, Any]) -> ApiCaller:
        found: ApiCaller = request.scope["state"][_CALLER]
        return found

    async def tenant(request: Request[Any, Any, Any]) -> str:
        return (await caller(request)).tenant

    return Router(
        "/",
        route_handlers=handlers,
        guards=[check],
        dependencies={"tenant": Provide(tenant), "caller": Provide(caller)},
        security=[{"key": []}],
    )


def is_named_by_litestar(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    """Whether only the methods of a route are asked for, which are no secret: Litestar answers that by itself."""
    return connection.scope.get("method") == "OPTIONS"


def _locked(reason: str, title: str, detail: str, challenge: str) -> HTTPException:
    headers = {"WWW-Authenticate": f'Bearer realm="orderbell"{challenge}'}
    extra = {"reason": reason, "title": title}
    return HTTPException(detail=detail, status_code=401, headers=headers, extra=extra)


def say_no(status: int, reason: str, title: str, detail: str, field: str = "") -> NoReturn:
    """Answer with a problem document (RFC 9457)."""
    extra = {"reason": reason, "title": title, "field": field}
    raise HTTPException(detail=detail, status_code=status, extra=extra)
