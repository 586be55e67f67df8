"""Who may come in: routes that an API key opens, each for the tenant of the key.

::

    keyed([handler], tenant_of_key)  # a handler takes `tenant: NamedDependency[str]`
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

from litestar import Request, Router
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import ControllerRouterHandler

TenantOfKey = Callable[[str], Awaitable[str | None]]
"""Says whose API key it is, None when nobody's."""


def keyed(handlers: Sequence[ControllerRouterHandler], tenant_of_key: TenantOfKey) -> Router:
    """Routes that answer 401 without a key that is somebody's."""

    async def tenant(request: Request[Any, Any, Any]) -> str:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise _locked("no_key", "No API key", "send an API key of yours: Authorization: Bearer ob_…", "")
        found = await tenant_of_key(key.strip())
        if found is None:
            detail = "this API key is not known, or was revoked"
            raise _locked("bad_key", "No valid API key", detail, ', error="invalid_token"')
        return found

    return Router("/", route_handlers=handlers, dependencies={"tenant": Provide(tenant)}, security=[{"key": []}])


def _locked(reason: str, title: str, detail: str, challenge: str) -> HTTPException:
    headers = {"WWW-Authenticate": f'Bearer realm="orderbell"{challenge}'}
    extra = {"reason": reason, "title": title}
    return HTTPException(detail=detail, status_code=401, headers=headers, extra=extra)


def say_no(status: int, reason: str, title: str, detail: str, field: str = "") -> NoReturn:
    """Answer with a problem document (RFC 9457)."""
    extra = {"reason": reason, "title": title, "field": field}
    raise HTTPException(detail=detail, status_code=status, extra=extra)
