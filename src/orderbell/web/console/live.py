"""The live feed: what happens at a tenant, told to every open overview as it happens (server-sent events).

One loop for each process asks for the news of each tenant that somebody watches, every two seconds; every page gets
them in its own language. With nobody watching nothing is asked (https://html.spec.whatwg.org/#server-sent-events).

::

    feed = Feed(lambda tenant: Overview(store, tenant), now)
    task = asyncio.create_task(feed.run())
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from litestar.response import Stream

from orderbell.errors import DatabaseUnavailable
from orderbell.observe import count
from orderbell.store.overview import Happening, Marker, Overview
from orderbell.web.console.placing import rendered_piece
from orderbell.web.live import (
    COME_LATER,
    EVERY_S,
    HEARTBEAT_S,
    OPENED,
    STILL_HERE,
    event_stream,
    too_many_pages,
)
from orderbell.web.rendering import View
from orderbell.web.rights import Visitor

LISTENERS_MAX: Final = 500
LISTENERS_OF_ONE_MAX: Final = 20
"""For one account: nobody can take the places of all the others."""

CHECKED_EVERY: Final = timedelta(seconds=10)
"""How often it is asked whether those who listen are signed in still."""

WAITING_MAX: Final = 100
"""The newest news that wait for a page which does not read; older ones are left out."""

NEWS_AT_ONCE: Final = 50
KNOWN_MAX: Final = 1000
CATCH_UP: Final = timedelta(minutes=10)
"""A page that was away for longer begins anew."""

log = structlog.get_logger()


class Listener:
    """One open page: what it has been told, and what waits to be told."""

    __slots__ = ("_known", "_order", "ended", "news", "tenant", "visitor", "waiting")

    def __init__(self, tenant: str, visitor: Visitor | None) -> None:
        self.tenant, self.visitor, self.ended = tenant, visitor, False
        self.waiting: deque[Happening] = deque(maxlen=WAITING_MAX)
        self.news = asyncio.Event()
        self._known: set[str] = set()
        self._order: deque[str] = deque()

    def tell(self, found: Sequence[Happening]) -> None:
        """Put what is new to this page in the row."""
        for one in found:
            key = key_of(one)
            if key not in self._known:
                self._known.add(key)
                self._order.append(key)
                self.waiting.append(one)
                self.news.set()
        while len(self._order) > KNOWN_MAX:
            self._known.discard(self._order.popleft())


StillOpen = Callable[[Collection[int]], Awaitable[Collection[tuple[str, str]]]]
"""The sessions of some accounts that are not over, by public name and tenant."""


class Feed:
    """The open overviews of a process; `run` until `close`.

    With `still_open` nothing is told any more to a page whose session is over, or works for another tenant by now.
    """

    def __init__(
        self, overview_of: Callable[[str], Overview], now: Callable[[], datetime], *, every_s: float = EVERY_S,
        still_open: StillOpen | None = None,
    ) -> None:  # fmt: skip
        self._overview_of, self._now, self._every_s, self._still_open = overview_of, now, every_s, still_open
        self._checked_at = now()
        self._listeners: set[Listener] = set()
        self._markers: dict[str, Marker] = {}
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Look for news until `close`; a database that is away is waited for."""
        while not self._closing.is_set():
            try:
                await self.look()
            except DatabaseUnavailable:
                count("feed.waits")
            except Exception:
                log.exception("news were not told")
                count("feed.failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._closing.wait()

    async def look(self) -> None:
        """Look once, and tell everybody who listens."""
        await self._let_go()
        tenants = {listener.tenant for listener in self._listeners}
        self._markers = {tenant: marker for tenant, marker in self._markers.items() if tenant in tenants}
        for tenant in sorted(tenants):
            marker = self._markers.get(tenant) or Marker(self._now(), frozenset())
            found, self._markers[tenant] = await self._overview_of(tenant).news(self._now(), marker, NEWS_AT_ONCE)
            for listener in self._listeners:
                if listener.tenant == tenant:
                    listener.tell(found)

    async def _let_go(self) -> None:
        """End the feeds of those who are signed out."""
        now = self._now()
        if self._still_open is None or not self._listeners or now - self._checked_at < CHECKED_EVERY:
            return
        self._checked_at = now
        seen = {listener: listener.visitor for listener in self._listeners if listener.visitor is not None}
        known = await self._still_open({visitor.account for visitor in seen.values()})
        for listener, visitor in seen.items():
            if (visitor.session, listener.tenant) not in known:
                listener.ended = True
                listener.news.set()

    async def close(self) -> None:
        """End all feeds."""
        self._closing.set()
        for listener in self._listeners:
            listener.news.set()

    async def respond(self, view: View, tenant: str, since: datetime | None) -> Stream:
        """Answer a page that shows what happened until `since`.

        Raises:
            HTTPException: 503 with `Retry-After` where too many pages are open.
        """
        if self._is_full(view):
            raise too_many_pages()
        listener, now = Listener(tenant, view.visitor), self._now()
        if since is not None and now - CATCH_UP < since < now:
            found, _ = await self._overview_of(tenant).news(now, Marker(since, frozenset()), NEWS_AT_ONCE)
            listener.tell(found)  # the page knows by their names which of them it shows already
        return event_stream(self._lines(listener, view))

    def _is_full(self, view: View) -> bool:
        account = view.visitor.account if view.visitor is not None else 0
        own = sum(one.visitor is not None and one.visitor.account == account for one in self._listeners)
        return len(self._listeners) >= LISTENERS_MAX or own >= LISTENERS_OF_ONE_MAX or self._closing.is_set()

    async def _lines(self, listener: Listener, view: View) -> AsyncGenerator[str, None]:
        if self._is_full(view):  # others came while the database was asked
            yield COME_LATER
            return
        self._listeners.add(listener)
        try:
            yield OPENED
            while not self._closing.is_set():
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await listener.news.wait()
                except TimeoutError:
                    yield STILL_HERE
                    continue
                listener.news.clear()
                if listener.ended:
                    return
                while listener.waiting:
                    yield _message(listener.waiting.popleft(), view)
        finally:
            self._listeners.discard(listener)


def _message(one: Happening, view: View) -> str:
    """A line of the feed as an event; its id is its moment, from which a page that lost us goes on."""
    text = rendered_piece("feed_line.html", view, one=one, key=key_of(one), said=sentence(one, view)).strip()
    data = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"id: {micros_of(one.at)}\n{data}\n"


def key_of(one: Happening) -> str:
    """The name of a line of the feed, the same whenever it is told."""
    parts = (one.kind, one.order_no, one.name, one.stage, one.id or one.detail, str(micros_of(one.at)))
    return "n" + hashlib.blake2b("\x1f".join(parts).encode(), digest_size=8).hexdigest()


def sentence(one: Happening, view: View) -> str:
    """What happened, in the viewer's language."""
    if one.kind == "event":
        return view.called("events", one.name)
    if one.kind == "timer":
        return view.say("overview.news_timer", name=view.called("deadlines", one.name))
    if one.kind == "message":
        channel, _, status = one.detail.partition(" ")
        return view.say(
            "overview.news_message", channel=view.called("channels", channel), topic=view.called("topics", one.name),
            status=view.say(f"messages.status_{status}"),
        )  # fmt: skip
    if one.kind == "case_opened":
        key = "call_back" if one.detail == "call_back" else "case_opened"
        return view.say(f"overview.news_{key}", owner=view.called("owners", one.name))
    return view.say(f"overview.news_{one.kind}", name=view.called("anomalies", one.name))


def micros_of(at: datetime) -> int:
    """A moment as whole microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def read_micros(text: str) -> datetime | None:
    """The moment of such a number; None where it is none."""
    if not text.isascii() or not text.isdigit() or len(text) > _MICROS_DIGITS_MAX:
        return None
    return _EPOCH + timedelta(microseconds=int(text))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROS_DIGITS_MAX: Final = 17
