"""`/metrics`: the figures of this process and of its database, as Prometheus reads them.

The figures of the database are looked up when somebody asks and what is known is older than LOOK_EVERY_S; who asks
more often, and however many ask at once, gets what is known. A database that does not answer takes its own figures
away, never those of the process.

Nobody is told but a caller on this machine that no proxy speaks for, or one who brings the token; everybody else
finds nothing there.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterator, Mapping
from time import monotonic, perf_counter
from typing import Any, Final

import structlog
from litestar import Request, Response, get
from litestar.enums import ScopeType
from litestar.exceptions import NotFoundException
from litestar.types import ASGIApp, ControllerRouterHandler, Message, Receive, Scope, Send
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from orderbell.errors import OrderBellError
from orderbell.observe import counts
from orderbell.observe.figures import (
    FROM_ZERO,
    GAUGES,
    HISTOGRAMS,
    PREFIX,
    TALLIES,
    Histogram,
    Labels,
    histograms,
    measure,
    tallies,
    tally,
)  # fmt: skip

LOOK_EVERY_S: Final = 15.0
LOOK_WITHIN_S: Final = 10.0
"""How long one look at the database may take in all; who asked is answered without it after that."""

_LOCAL: Final = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")

Gauged = Mapping[str, Mapping[Labels, float]]
"""By name of `observe.figures.GAUGES`, by labels."""

log = structlog.get_logger()


class Metrics(Collector):
    """Puts the figures into Prometheus's words.

    Args:
        look: Reads the figures of the database; an OrderBellError when it does not answer.
        here: Gives the figures of the process; quick.
    """

    def __init__(self, look: Callable[[], Awaitable[Gauged]], here: Callable[[], Gauged]) -> None:
        self._look, self._here = look, here
        self._known: Gauged = {}
        self._looked_at: float | None = None
        self._up = False
        self._looking: asyncio.Task[None] | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    async def render(self, accepted: str) -> tuple[bytes, str]:
        """Give everything as text, in the format that the `Accept` header asks for, and its media type."""
        await self._refresh()
        encode, media_type = choose_encoder(accepted)
        return encode(self._registry), media_type

    async def _refresh(self) -> None:
        if self._looked_at is None or monotonic() - self._looked_at >= LOOK_EVERY_S:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look_again())
            await asyncio.wait([self._looking], timeout=LOOK_WITHIN_S)

    async def _look_again(self) -> None:
        try:
            async with asyncio.timeout(LOOK_WITHIN_S):
                self._known = await self._look()
            self._up = True
        except (OrderBellError, TimeoutError) as problem:
            self._known, self._up = {}, False
            log.warning("no figures of the database", problem=str(problem), kind=type(problem).__name__)
        except Exception:
            self._known, self._up = {}, False
            log.exception("figures of the database failed")
        self._looked_at = monotonic()

    def collect(self) -> Iterator[Metric]:
        """Every family, with or without samples: what a dashboard names is always there."""
        yield from map(_counter, TALLIES)
        yield from map(_histogram, HISTOGRAMS)
        age_s = monotonic() - self._looked_at if self._looked_at is not None else 0.0
        own: Gauged = {"database_up": {(): float(self._up)}, "database_look_age_seconds": {(): age_s}}
        known = {**self._known, **self._here(), **own}
        for name, family in GAUGES.items():
            gauge = GaugeMetricFamily(PREFIX + name, family.says, labels=family.labels)
            for labels, value in known.get(name, {}).items():
                gauge.add_metric(labels, value)
            yield gauge


def _counter(name: str) -> Metric:
    family = TALLIES[name]
    counter = CounterMetricFamily(PREFIX + name, family.says, labels=family.labels)
    found: Mapping[Labels, int] = tallies(name)
    if name == "counts":
        found = {(what,): times for what, times in (dict.fromkeys(FROM_ZERO, 0) | counts()).items()}
    for labels, times in sorted(found.items()):
        counter.add_metric(labels, times)
    return counter


def _histogram(name: str) -> Metric:
    family = HISTOGRAMS[name]
    made = HistogramMetricFamily(PREFIX + name, family.says, labels=family.labels)
    ends = [*map(repr, family.bounds), "+Inf"]
    found = histograms(name) or ({} if family.labels else {(): Histogram([0] * len(ends), 0.0)})
    for labels, histogram in sorted(found.items()):
        total = 0
        buckets = []
        for end, count in zip(ends, histogram.counts, strict=True):
            total += count
            buckets.append((end, float(total)))
        made.add_metric(labels, buckets, histogram.total)
    return made


def metrics_routes(metrics: Metrics, token: str) -> list[ControllerRouterHandler]:
    """The route; with an empty token only callers on this machine are told."""

    @get("/metrics", include_in_schema=False, opt={"public": "to callers on this machine, or with the token"})
    async def tell(request: Request[Any, Any, Any]) -> Response[bytes]:
        if not may_read(request.scope, token):
            raise NotFoundException
        body, media_type = await metrics.render(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": media_type, "Cache-Control": "no-store"})

    return [tell]


def may_read(scope: Mapping[str, Any], token: str) -> bool:
    """Whether a caller may see the figures: one with the token, or one on this machine that no proxy speaks for."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return bool(token) and hmac.compare_digest(given.strip().encode(), token.encode())
    client = scope.get("client") or ("", 0)
    return client[0] in _LOCAL and not any(name in headers for name in _FORWARDED)


def counted(app: ASGIApp) -> ASGIApp:
    """An application that counts its answers, by the pattern of the path: the path itself may hold a secret."""

    async def count_answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.WEBSOCKET:
            await app(scope, receive, send)
            return
        began = perf_counter()
        status = 0
        streams = False

        async def watched(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                streams = any(value.startswith(b"text/event-stream") for _, value in message["headers"])
            await send(message)

        try:
            await app(scope, receive, watched)
        finally:
            route = scope.get("path_template") or "none"
            tally("http_requests", (scope["method"] if status else "none", route, str(status or 499)))
            if not streams:  # which is open for as long as somebody looks
                measure("http_seconds", perf_counter() - began, (route,))

    return count_answer
