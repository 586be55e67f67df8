"""Pages: every list of the API gives some items and, where there are more, the cursor with which to ask on.

::

    GET /v1/orders?limit=50            -> {"items": [...], "next": "c2lk…"}
    GET /v1/orders?limit=50&after=c2lk… -> {"items": [...], "next": ""}

A cursor is only good for the list that gave it. A page that was asked for again holds the same items, whatever was
added meanwhile at the front.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NoReturn, Self, TypeAlias

import msgspec
from litestar.params import QueryParameter
from msgspec import Struct

from orderbell.store.pages import CURSOR_LENGTH_MAX, LIMIT_MAX, Page
from orderbell.web.access import say_no

LIMIT_USUAL: Final = 50
TEXT_LENGTH_MAX: Final = 100

After: TypeAlias = Annotated[
    str,
    QueryParameter(description="Where to go on: the `next` of the page before.", max_length=CURSOR_LENGTH_MAX),
]
"""The cursor of a list, as a parameter of a handler: `after: After = ""`."""

Limit: TypeAlias = Annotated[int, QueryParameter(description="How many items a page has at most.", ge=1, le=LIMIT_MAX)]
"""The length of a page, as a parameter of a handler: `limit: Limit = LIMIT_USUAL`."""


class ListPage(Struct, frozen=True):
    """A page of a list; each list says in a type of its own what its items are.

    `next` is empty on the last page. Where a rare thing is looked for among many, a page may hold few or none and yet
    not be the last: then `looked_back_to` says how far the search has come.
    """

    items: list[Any]
    next: str
    looked_back_to: datetime | None = None

    @classmethod
    def of(cls, page: Page[Any]) -> Self:
        """A page of the store whose lines are the items."""
        return cls(page.items, page.next, page.looked_back_to)


def text_parameter(description: str) -> Any:  # noqa: ANN401 - what a handler's annotation holds
    """The parameter of a name or another short text, which may be empty."""
    return QueryParameter(description=description, max_length=TEXT_LENGTH_MAX)


def moment_parameter(name: str, description: str) -> Any:  # noqa: ANN401 - what a handler's annotation holds
    """The parameter of a moment, which the handler reads by `read_moment`; as text, because "0.5" is no moment."""
    extra = {"type": "string", "format": "date-time", "one_of": None}
    return QueryParameter(name=name, description=description, schema_extra=extra)


def read_moment(text: str | None, field: str) -> datetime | None:
    """Read a moment with its zone (RFC 3339); None where none is given."""
    if text is None:
        return None
    try:
        return msgspec.convert(text, _Moment).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        wrong_value(field, "write a moment with its zone, such as 2026-03-02T10:00:00%2B08:00")


_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


def wrong_value(field: str, detail: str) -> NoReturn:
    """Refuse a parameter: 422 with the reason `wrong_value`; the detail begins with the name of the field."""
    say_no(422, "wrong_value", "The request is refused", f"{field}: {detail}", field)


@contextmanager
def read_cursor() -> Iterator[None]:
    """Turn the ValueError of whoever reads the cursor into a refusal of `after`."""
    try:
        yield
    except ValueError:
        wrong_value("after", "send the `next` of an earlier answer to the same question, or nothing")
