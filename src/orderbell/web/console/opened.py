"""How often people open what a message leads to, by topic and channel (S0-25): what few open wants other words.

Counted are links that people followed, as far as they can be told from scanners (`orderbell.core.clicks`). A share is
named low where it is below half of what all topics reach on the same channel: channels differ more than words do.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote, urlencode

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from orderbell.core.turn import Shelf
from orderbell.store.links import Links, OpenRate
from orderbell.web.console.desk import Desk
from orderbell.web.console.placing import show
from orderbell.web.rendering import view_of
from orderbell.web.rights import Visitor

DAYS: Final = ("7", "30", "90")
JUDGED_FROM: Final = 30
"""Of fewer messages one person more or less moves the share by more than 3 points: nothing can be told from it."""

LOW_SHARE: Final = 0.5
"""A share below half of its channel's is low."""


class Opened(Struct, frozen=True):
    """A topic on a channel; `share` is None while too few went out, `texts` are its pages by playbook."""

    topic: str
    channel: str
    sent: int
    clicked: int
    share: float | None
    is_low: bool
    texts: Sequence[tuple[str, str]]


def opened_routes(desk: Desk, tabs: Sequence[str]) -> list[ControllerRouterHandler]:
    """Make the route; it is for people who are signed in. `tabs` are those of the list of messages."""

    @get("/console/messages/opened", opt={"right": "messages:read"})
    async def show_opened(request: Request[Any, Any, Any], visitor: NamedDependency[Visitor]) -> Response[str]:
        view = view_of(request, visitor)
        days = next((one for one in DAYS if one == view.query.get("days")), DAYS[1])
        since = view.now - timedelta(days=int(days))
        shelf = await desk.shelf_of(visitor.tenant)
        rows = opened_of(await Links(desk.store).open_rates(visitor.tenant, since), shelf)
        has_links = bool(desk.public_url) or any(one.spec.sms_link for one in shelf.playbooks.values())
        return show(
            "opened.html", view, rows=rows, best=max((one.share or 0 for one in rows), default=0) or 1, days=days,
            choices=[(one, view.say("messages.opened_last", days=one)) for one in DAYS],
            judged_from=JUDGED_FROM, has_links=has_links, tabs=tabs, state=None,
        )  # fmt: skip

    return [show_opened]


def opened_of(rates: Iterable[OpenRate], shelf: Shelf) -> list[Opened]:
    """The rates as they are shown: what is low first, then what was sent most."""
    known = list(rates)
    usual = _shares(known)
    rows = [_row(one, usual[one.channel], shelf) for one in known]
    return sorted(rows, key=lambda one: (not one.is_low, -one.sent, one.topic, one.channel))


def _shares(rates: Sequence[OpenRate]) -> Mapping[str, float]:
    """What all topics of a channel reach together."""
    sent: dict[str, int] = {}
    clicked: dict[str, int] = {}
    for one in rates:
        sent[one.channel] = sent.get(one.channel, 0) + one.sent
        clicked[one.channel] = clicked.get(one.channel, 0) + one.clicked
    return {channel: clicked[channel] / count if count else 0 for channel, count in sent.items()}


def _row(rate: OpenRate, usual: float, shelf: Shelf) -> Opened:
    share = rate.clicked / rate.sent if rate.sent >= JUDGED_FROM else None
    is_low = share is not None and share < usual * LOW_SHARE
    query = urlencode({"topic": rate.topic, "channel": rate.channel})
    texts = [
        (name, f"/console/playbook/{quote(name, safe='')}/texts?{query}")
        for name, playbook in sorted(shelf.playbooks.items())
        if rate.topic in playbook.notices
    ]
    return Opened(rate.topic, rate.channel, rate.sent, rate.clicked, share, is_low, texts)
