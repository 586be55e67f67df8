"""How often one API key may ask: a bucket of tokens for each key, in this process.

A request takes a token; the bucket holds `burst` of them and gets `per_s` new ones a second. Who finds it empty is
answered 429 with `Retry-After`. Every answer says how much is left, in the headers `RateLimit-Policy` and `RateLimit`
(draft-ietf-httpapi-ratelimit-headers-10). Several processes on one port have a bucket each, so together they let
through more. Keys that are nobody's have no bucket: their requests end at the look-up.
"""

import math
import time
from collections.abc import Callable, Iterable
from typing import Final

from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Middleware, Receive, Scope, Send
from msgspec import Struct

from orderbell.observe import count
from orderbell.web.access import CallerOf

BUCKETS_MAX: Final = 10_000
POLICY: Final = "key"
"""The name of the limit in the headers."""

_TOO_MANY: Final = 429


class Ration(Struct, frozen=True):
    """What a bucket answered: whether there was a token, how many are left, and when it is full again."""

    given: bool
    left: int
    full_in_s: int
    retry_after_s: int


class Limits:
    """The buckets of a process.

    Args:
        per_s: How many tokens a bucket gets a second.
        burst: How many it holds.
        clock: Seconds that never run back.
    """

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_s, self.burst = per_s, burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    @property
    def policy(self) -> str:
        """The limit as the header `RateLimit-Policy` says it: so many requests in the seconds that fill a bucket."""
        return f'"{POLICY}";q={self.burst};w={math.ceil(self.burst / self.per_s)}'

    def take(self, name: str) -> Ration:
        """Take a token from the bucket of that name."""
        now = self._clock()
        tokens, at = self._buckets.pop(name, (float(self.burst), now))
        tokens = min(self.burst, tokens + (now - at) * self.per_s)
        given = tokens >= 1
        tokens -= given
        if len(self._buckets) >= BUCKETS_MAX:
            self._forget_full(now)
        if len(self._buckets) >= BUCKETS_MAX:
            del self._buckets[next(iter(self._buckets))]  # that of the key which asked longest ago
        self._buckets[name] = (tokens, now)
        full_in_s = math.ceil((self.burst - tokens) / self.per_s)
        return Ration(given, int(tokens), full_in_s, max(1, math.ceil((1 - tokens) / self.per_s)))

    def _forget_full(self, now: float) -> None:
        self._buckets = {
            name: (tokens, at)
            for name, (tokens, at) in self._buckets.items()
            if tokens + (now - at) * self.per_s < self.burst
        }


def limited(limits: Limits, caller_of_key: CallerOf) -> Middleware:
    """Lets a key ask no more often than its bucket allows; lies before the routes that need a key.

    ::

        Router("/", route_handlers=[keyed([...], caller_of_key)], middleware=[limited(limits, caller_of_key)])
    """
    middleware = _Limited(limits, caller_of_key)

    def wrap(app: ASGIApp) -> ASGIApp:
        return middleware(app)  # a function, because Litestar makes deep copies of all but functions

    return wrap


class _Limited(ASGIMiddleware):
    scopes = (ScopeType.HTTP,)

    def __init__(self, limits: Limits, caller_of_key: CallerOf) -> None:
        self._limits, self._caller_of_key = limits, caller_of_key

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        key = bearer_of(scope["headers"])
        caller = await self._caller_of_key(key) if key else None
        if caller is None:
            await next_app(scope, receive, send)  # which says so
            return
        ration = self._limits.take(caller.fingerprint)
        said = {
            "RateLimit-Policy": self._limits.policy,
            "RateLimit": f'"{POLICY}";r={ration.left};t={ration.full_in_s}',
        }
        if not ration.given:
            count("api.limited")
            raise _too_many(self._limits, ration, said)

        async def send_with_ration(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableScopeHeaders(message)
                for name, value in said.items():
                    headers[name] = value
            await send(message)

        await next_app(scope, receive, send_with_ration)


def bearer_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The API key that a request brings; empty where it brings none."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.decode("latin-1").partition(" ")
            return key.strip() if scheme.lower() == "bearer" else ""
    return ""


def _too_many(limits: Limits, ration: Ration, said: dict[str, str]) -> HTTPException:
    detail = (
        f"this key has {limits.per_s:g} requests a second, {limits.burst} at once; "
        f"send the same again in {ration.retry_after_s} s"
    )
    extra = {"reason": "too_many_requests", "title": "Too many requests"}
    headers = {**said, "Retry-After": str(ration.retry_after_s)}
    return HTTPException(detail=detail, status_code=_TOO_MANY, headers=headers, extra=extra)
