"""A site for tests: the real server on a free port, with an intake that keeps everything in memory.

::

    async with running_site() as site:
        status, answer = await site.post(b"{…}")
        assert site.intake.taken == [...]
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from litestar.types import ControllerRouterHandler

from orderbell.core.events import Answer, Event
from orderbell.errors import DatabaseUnavailable, OrderBellError
from orderbell.serving import serving
from orderbell.sources.events import events_route
from orderbell.store.dedupe import sift
from orderbell.web.site import create_site

KEY = "ob_" + "k" * 43
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class TooBusy(OrderBellError):
    """The intake of the tests has enough."""


@dataclass
class MemoryIntake:
    """Takes events like the real one, in memory; fails with what stands in `failures`, one a call."""

    taken: list[Event] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    lose_answer: bool = False
    known: dict[tuple[str, str, str], bytes] = field(default_factory=dict)

    async def submit(self, events: list[Event]) -> list[Answer]:
        """Answer as the store does."""
        self.calls.append(len(events))
        if self.failures and not self.lose_answer:
            raise self.failures.pop(0)
        sifted = sift(events, self.known)
        self.known |= {event.key: event.body_hash for event in sifted.fresh}
        self.taken += sifted.fresh
        if self.failures:
            raise self.failures.pop(0)
        return sifted.answers


async def tenant_of_key(key: str) -> str | None:
    """Know one key, and fail for another."""
    if key == "ob_broken":
        raise DatabaseUnavailable("postgresql://secret@host does not answer")
    return "acme" if key == KEY else None


@dataclass
class Site:
    """A site that runs; `http` speaks to it with the key."""

    url: str
    intake: MemoryIntake
    http: httpx.AsyncClient
    missing: list[str] = field(default_factory=list)

    async def post(self, body: bytes, media_type: str = "application/json", **headers: str) -> tuple[int, Any]:
        """Send a body to `/v1/events` and read the answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = await self.http.post("/v1/events", content=body, headers={"content-type": media_type, **named})
        return response.status_code, response.json()


@contextlib.asynccontextmanager
async def running_site(*handlers: ControllerRouterHandler) -> AsyncIterator[Site]:
    """Run a site with the events' route and further handlers."""
    intake = MemoryIntake()
    missing: list[str] = []

    async def ready() -> Sequence[str]:
        return missing

    route = events_route(intake.submit, tenant_of_key, lambda: NOON, busy=TooBusy)
    async with serving(create_site([route, *handlers], ready)) as url:
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=20) as http:
            yield Site(url, intake, http, missing)
