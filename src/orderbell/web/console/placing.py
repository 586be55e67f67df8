"""Where things stand in the console: the addresses of its pages, and how a page of it is put together."""

from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import quote, urlencode

from litestar import Request, Response
from litestar.exceptions import HTTPException

from orderbell.core.turn import Shelf
from orderbell.web.rendering import View, fragment, page, rendered

ShelfOf = Callable[[str], Awaitable[Shelf]]
"""The playbooks of a tenant."""

_UNFIT: Final = frozenset({".", ".."})
"""Order numbers that a browser would read as a way through folders."""


def order_url(order_no: str) -> str:
    """The page of an order; a number that cannot stand in a path goes into the query."""
    if "/" in order_no or order_no in _UNFIT:
        return f"/console/order?{urlencode({'no': order_no})}"
    return f"/console/orders/{quote(order_no, safe='')}"


def person_url(contact: str) -> str:
    """The page of a person; ids that the shop gave go into the query where they cannot stand in a path."""
    if "/" in contact or contact in _UNFIT:
        return f"/console/person?{urlencode({'id': contact})}"
    return f"/console/people/{quote(contact, safe='')}"


def orders_url(**query: str) -> str:
    """The list of orders, searched."""
    return _with_query("/console/orders", query)


def messages_url(**query: str) -> str:
    """The list of messages, filtered."""
    return _with_query("/console/messages", query)


def _with_query(path: str, query: dict[str, str]) -> str:
    said = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(said)}" if said else path


_ADDRESSES: Final[dict[str, Any]] = {
    "order_url": order_url, "person_url": person_url, "orders_url": orders_url, "messages_url": messages_url,
}  # fmt: skip


def show(name: str, view: View, **values: Any) -> Response[str]:  # noqa: ANN401 - values of a template
    """A page of the console, which knows the addresses of the others."""
    return page(name, view, **_ADDRESSES, **values)


def piece(name: str, view: View, **values: Any) -> Response[str]:  # noqa: ANN401 - values of a template
    """A piece of a page, for htmx."""
    return fragment(name, view, **_ADDRESSES, **values)


def rendered_piece(name: str, view: View, **values: Any) -> str:  # noqa: ANN401 - values of a template
    """The text of a piece of a page."""
    return rendered(name, view, **_ADDRESSES, **values)


def is_more(request: Request[Any, Any, Any]) -> bool:
    """Whether an open list asks for its next rows (htmx), rather than a browser for a page."""
    return request.headers.get("hx-request") == "true" and "after" in request.query_params


def nothing_here(reason: str, detail: str) -> HTTPException:
    """What is answered for what does not exist, and for what is another tenant's."""
    extra = {"reason": reason, "title": "Nothing here"}
    return HTTPException(detail=detail, status_code=404, extra=extra)
