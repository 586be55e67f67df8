"""Pages that hear of changes: server-sent events for many at once, at the price of one statement.

One loop for each process asks the versions of everything that is watched together, every two seconds, and wakes only
the streams whose own has changed. A stream says `changed` with the new version and never what changed: the page then
fetches what it shows by the way that it came, with all its checks (https://html.spec.whatwg.org/#server-sent-events).

::

    live = Live(partial(order_versions, store))
    task = asyncio.create_task(live.run())
    return live.respond(request, [("acme", "A1")])
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

import structlog
from litestar import Request
from litestar.background_tasks import BackgroundTask
from litestar.exceptions import HTTPException
from litestar.response import Stream

from orderbell.errors import DatabaseUnavailable
from orderbell.observe import count
from orderbell.web.client_address import client_address

Key = TypeVar("Key", bound=Hashable)

EVERY_S: Final = 2.0
HEARTBEAT_S: Final = 25.0
"""Proxies close what is silent for longer than 30 to 60 seconds."""

STREAMS_MAX: Final = 2000
STREAMS_OF_ONE_MAX: Final = 40
"""For one address; behind that of a mobile carrier there are many people."""

RETRY_AFTER_S: Final = 60
OPENED: Final = "retry: 5000\n: open\n\n"
STILL_HERE: Final = ": still here\n\n"
COME_LATER: Final = f"retry: {RETRY_AFTER_S * 1000}\n\n"
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}

log = structlog.get_logger()


def event_stream(events: AsyncGenerator[str, None]) -> Stream:
    """The answer to a page that listens; `events` is closed when the page has gone."""

    async def close() -> None:
        # Who reads nothing and goes away leaves it in the middle of a yield, where its place would stay taken.
        await events.aclose()

    return Stream(
        events, media_type="text/event-stream", headers=dict(_HEADERS), background=BackgroundTask(close)
    )  # fmt: skip


def too_many_pages() -> HTTPException:
    """The answer to one page too many."""
    detail = "too many pages are open here; this one works as well, reload it to see what is new"
    extra = {"reason": "too_many_streams", "title": "Too many open pages"}
    return HTTPException(detail=detail, status_code=503, headers={"Retry-After": str(RETRY_AFTER_S)}, extra=extra)


class OpenPage(Generic[Key]):
    """One open page: what it watches, and the news that it has not been told yet."""

    __slots__ = ("address", "keys", "known", "news")

    def __init__(self, keys: Sequence[Key], address: str) -> None:
        self.keys, self.address = tuple(keys), address
        self.known: dict[Key, int] = {}
        self.news = asyncio.Event()


class Live(Generic[Key]):
    """The open pages of a process.

    Args:
        versions: The numbers of what is watched, asked for all at once; what is not there may be left out.
        every_s: How often they are asked.
        heartbeat_s: After how long a silence a comment is sent.
        streams_max: How many pages may be open at once.
        streams_of_one_max: How many of them for one address.
        trusted_hops: How many proxies of ours stand in front of this site.
    """

    def __init__(
        self,
        versions: Callable[[Sequence[Key]], Awaitable[Mapping[Key, int]]],
        *,
        every_s: float = EVERY_S,
        heartbeat_s: float = HEARTBEAT_S,
        streams_max: int = STREAMS_MAX,
        streams_of_one_max: int = STREAMS_OF_ONE_MAX,
        trusted_hops: int = 0,
    ) -> None:
        self._versions, self._every_s, self._heartbeat_s = versions, every_s, heartbeat_s
        self._streams_max, self._streams_of_one_max = streams_max, streams_of_one_max
        self._trusted_hops = trusted_hops
        self._streams: set[OpenPage[Key]] = set()
        self._of_one: Counter[str] = Counter()
        self._closing = asyncio.Event()

    @property
    def open_count(self) -> int:
        """How many pages are open."""
        return len(self._streams)

    async def run(self) -> None:
        """Look for changes until `close`; a database that is away is waited for."""
        while not self._closing.is_set():
            if self._streams:
                try:
                    await self.look()
                except DatabaseUnavailable:
                    count("live.waits")
                except Exception:
                    log.exception("live pages were not told")
                    count("live.failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._closing.wait()

    async def look(self) -> int:
        """Look once, and wake the streams that something changed for; returns how many."""
        streams = list(self._streams)
        found = await self._versions(sorted({key for stream in streams for key in stream.keys}, key=repr))
        woken = 0
        for stream in streams:
            seen = {key: found[key] for key in stream.keys if key in found}
            if seen != stream.known:
                stream.known = seen
                stream.news.set()
                woken += 1
        return woken

    async def close(self) -> None:
        """End all streams; pages that are open come back to whoever serves next."""
        self._closing.set()
        for stream in self._streams:
            stream.news.set()

    async def respond(self, request: Request[Any, Any, Any], keys: Sequence[Key], seen: int | None = None) -> Stream:
        """Answer a page that wants to hear of changes of `keys`.

        `seen` is the sum of the versions that the page shows: where it is another one by now, it is told at once.

        Raises:
            HTTPException: 503 with `Retry-After` where too many pages are open.
        """
        address = client_address(request, self._trusted_hops)
        self._check_room(address)
        stream = OpenPage(keys, address)
        stream.known = dict(await self._versions(list(stream.keys)))
        if seen is not None and seen != sum(stream.known.values()):
            stream.news.set()
        return event_stream(self._events(stream))

    def _is_full(self, address: str) -> bool:
        many = len(self._streams) >= self._streams_max or self._of_one[address] >= self._streams_of_one_max
        return many or self._closing.is_set()

    def _check_room(self, address: str) -> None:
        if self._is_full(address):
            count("live.refused")
            raise too_many_pages()

    async def _events(self, stream: OpenPage[Key]) -> AsyncGenerator[str, None]:
        if self._is_full(stream.address):  # others came while the database was asked
            yield COME_LATER
            return
        self._streams.add(stream)
        self._of_one[stream.address] += 1
        try:
            yield OPENED
            while not self._closing.is_set():
                try:
                    async with asyncio.timeout(self._heartbeat_s):
                        await stream.news.wait()
                except TimeoutError:
                    yield STILL_HERE
                    continue
                stream.news.clear()
                if not self._closing.is_set():
                    yield f"event: changed\ndata: {sum(stream.known.values())}\n\n"
        finally:
            self._streams.discard(stream)
            self._of_one[stream.address] -= 1
            if self._of_one[stream.address] <= 0:
                del self._of_one[stream.address]
