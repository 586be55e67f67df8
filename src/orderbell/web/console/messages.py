"""The list of messages: what went wrong first, every text as the person saw it, and each try of a provider."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Final, get_args

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Stream
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.core.segments import SEPTETS_MAX, UNITS_MAX, measure
from orderbell.core.turn import Shelf
from orderbell.core.wishes import CHANNELS
from orderbell.store.lines import MessageFilter, MessageLine, MessageState
from orderbell.store.looking import Looking
from orderbell.store.pages import Page
from orderbell.web.console.desk import Desk
from orderbell.web.console.opened import opened_routes
from orderbell.web.console.placing import is_more, nothing_here, piece, show
from orderbell.web.console.stories import STATUS_KINDS, Bubble
from orderbell.web.csv import Cell, csv_download
from orderbell.web.rendering import View, view_of
from orderbell.web.rights import Visitor

ROWS: Final = 50
EXPORT_ROWS: Final = 200
EXPORTED_MAX: Final = 20_000

STATES: Final[tuple[MessageState, ...]] = get_args(MessageState)
TABS: Final[tuple[MessageState, ...]] = ("", "unknown", "failed", "rejected", "waiting", "accepted", "delivered")
"""The states as tabs: after all of them those that want a look, then the others."""

FIELDS: Final = ("state", "channel", "topic", "provider", "day", "order_no")


class Row(Struct, frozen=True):
    """A message as the list shows it."""

    line: MessageLine
    bubble: Bubble


def messages_routes(desk: Desk) -> list[ControllerRouterHandler]:
    """Make the routes; they are for people who are signed in."""

    @get("/console/messages", opt={"right": "messages:read"})
    async def list_messages(request: Request[Any, Any, Any], visitor: NamedDependency[Visitor]) -> Response[str]:
        view = view_of(request, visitor)
        looking = Looking(desk.store, visitor.tenant)
        wanted, wrong = filter_of(view)
        try:
            found = await looking.messages(wanted, view.query.get("after", ""), ROWS)
        except ValueError:  # a cursor that nobody here has made: the list begins anew
            found = await looking.messages(wanted, "", ROWS)
        values = {
            "rows": [row_of(line, view) for line in found.items], "found": found,
            "next_url": view.link(after=found.next) if found.next else "",
        }  # fmt: skip
        if is_more(request):
            return piece("messages_rows.html", view, **values)
        return show(
            "messages.html", view, **values, tabs=TABS, state=wanted.state, wrong=wrong,
            channels=[(name, view.called("channels", name)) for name in CHANNELS],
            topics=topics_of(await desk.shelf_of(visitor.tenant), view),
            is_filtered=any(view.query.get(name) for name in FIELDS),
            export="/console/messages.csv" + view.link(after="").removeprefix(view.path),
        )  # fmt: skip

    @get("/console/messages/{message_id:str}", opt={"right": "messages:read"})
    async def show_message(
        request: Request[Any, Any, Any], visitor: NamedDependency[Visitor], message_id: FromPath[str]
    ) -> Response[str]:
        view = view_of(request, visitor)
        full = await Looking(desk.store, visitor.tenant).message(message_id)
        if full is None:
            raise nothing_here("unknown_message", "there is no message of this id")
        values = {"row": row_of(full.line, view), "full": full}
        if request.headers.get("hx-request") == "true":
            return piece("message_details.html", view, **values)
        return show("message.html", view, **values)

    @get("/console/messages.csv", opt={"right": "messages:read"})
    async def export_messages(request: Request[Any, Any, Any], visitor: NamedDependency[Visitor]) -> Stream:
        view = view_of(request, visitor)
        looking, (wanted, _) = Looking(desk.store, visitor.tenant), filter_of(view)
        first = await looking.messages(wanted, "", EXPORT_ROWS)
        heads = [view.say(f"messages.csv_{name}") for name in _COLUMNS]
        return csv_download("messages.csv", heads, _exported(looking, wanted, first, view))

    return [list_messages, export_messages, *opened_routes(desk, TABS), show_message]


def filter_of(view: View) -> tuple[MessageFilter, str]:
    """What a query asks for, and what is wrong with its day; a day is one of the viewer's clock."""
    query: Mapping[str, str] = view.query
    asked, day, wrong = query.get("state", ""), query.get("day", ""), ""
    state: MessageState = next((one for one in STATES if one == asked), "")
    since = until = None
    if day:
        try:
            begin = datetime.combine(date.fromisoformat(day), time(), view.zone)
            since, until = begin, begin + timedelta(days=1)
        except (ValueError, OverflowError):
            wrong = view.say("messages.wrong_day")
    made = MessageFilter(
        state=state, channel=query.get("channel", ""), topic=query.get("topic", ""),
        provider=query.get("provider", "").strip(), order_no=query.get("order_no", "").strip(), created_from=since,
        created_until=until,
    )  # fmt: skip
    return made, wrong


def topics_of(shelf: Shelf, view: View) -> list[tuple[str, str]]:
    """The topics of all playbooks, by name and in words."""
    names = {name for playbook in shelf.playbooks.values() for name in playbook.notices}
    return sorted(((name, view.called("topics", name)) for name in names), key=lambda pair: pair[1])


def row_of(line: MessageLine, view: View) -> Row:
    """A message as the person saw it."""
    size = measure(line.text) if line.channel == "sms" else None
    bubble = Bubble(
        view.called("channels", line.channel), view.say(f"messages.status_{line.status}"),
        STATUS_KINDS.get(line.status, "calm"), line.text, line.subject, line.sending_at or line.told_at,
        line.settled_at, line.provider, line.attempt_no, line.to if line.channel != "inbox" else "",
        size.units if size is not None else 0, 0 if size is None else SEPTETS_MAX if size.gsm else UNITS_MAX,
        size.parts if size is not None else 0,
    )  # fmt: skip
    return Row(line, bubble)


_COLUMNS: Final = (
    "id", "order_no", "topic", "channel", "to", "status", "provider", "attempts", "detail", "subject", "text",
    "created", "told", "settled",
)  # fmt: skip


async def _exported(
    looking: Looking, wanted: MessageFilter, page: Page[MessageLine], view: View
) -> AsyncIterator[Sequence[Cell]]:
    count = 0
    while True:
        for line in page.items:
            yield (
                line.id, line.order_no, view.called("topics", line.topic), view.called("channels", line.channel),
                line.to, view.say(f"messages.status_{line.status}"), line.provider, line.attempt_no, line.detail,
                line.subject, line.text, line.created_at, line.told_at, line.settled_at,
            )  # fmt: skip
        count += len(page.items)
        if not page.next or count >= EXPORTED_MAX:
            return
        page = await looking.messages(wanted, page.next, EXPORT_ROWS)
