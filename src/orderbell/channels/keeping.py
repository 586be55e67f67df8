"""What is shared about a provider, kept in memory: for one process, and for tests."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime

from orderbell.channels.protocol import Token


class KeptInMemory:
    """`Shared` for one process alone.

    Args:
        now: the clock, aware UTC.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._token: Token | None = None
        self._lock = asyncio.Lock()
        self._grants: Counter[tuple[str, str]] = Counter()

    async def token(self, fetch: Callable[[], Awaitable[Token]], stale: str = "") -> str:
        """See `Shared.token`."""
        async with self._lock:
            kept = self._token
            if kept is None or kept.value == stale or kept.good_until <= self._now():
                kept = self._token = await fetch()
            return kept.value

    async def grant(self, to: str, scope: str, count: int = 1) -> None:
        """See `Shared.grant`."""
        self._grants[to, scope] = self._grants[to, scope] + count if count else 0

    async def spend(self, to: str, scope: str) -> bool:
        """See `Shared.spend`."""
        if self._grants[to, scope] < 1:
            return False
        self._grants[to, scope] -= 1
        return True
