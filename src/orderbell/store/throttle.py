"""Throttle: how often something may be done in a while, counted for all processes together.

Every try that was let through is remembered for as long as it counts, so that no more than the limit fall into any
window, wherever it begins. What is counted (a name, an address) is stored as a keyed hash only.
"""

import hashlib
import hmac
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from orderbell.store.postgres import Store

LIMIT_MAX: Final = 1000
SWEEP_EVERY: Final = 256
"""How many tries of a process lie between two sweeps of what counts no more."""

_SWEEP_MAX: Final = 10_000

_TAKE: Final = """
INSERT INTO throttle AS t (scope, key_hash, hits, taken, until_at) VALUES ($1, $2, ARRAY[$3::timestamptz], true, $4)
ON CONFLICT (scope, key_hash) DO UPDATE SET (hits, taken, until_at) = (
    SELECT CASE WHEN cardinality(recent) < $6 THEN recent || $3::timestamptz ELSE recent END,
        cardinality(recent) < $6, greatest(t.until_at, $4)
    FROM (SELECT ARRAY(SELECT hit FROM unnest(t.hits) AS hit WHERE hit > $5 ORDER BY hit)) AS found (recent))
RETURNING taken, hits
"""
_FORGET: Final = "DELETE FROM throttle WHERE scope = $1 AND key_hash = $2"
_SWEEP: Final = """
DELETE FROM throttle WHERE (scope, key_hash) IN (
    SELECT scope, key_hash FROM throttle WHERE until_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
"""


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class Throttle:
    """Counts tries in the store; `now` is a clock of aware UTC.

    Every method raises DatabaseUnavailable when PostgreSQL does not answer.
    """

    def __init__(self, store: Store, now: Callable[[], datetime] = _wall_clock) -> None:
        self._store, self._now = store, now
        self._key = hmac.digest(store.vault.index_key(""), b"throttle", hashlib.sha256)
        self._taken = 0

    async def take(self, scope: str, key: str, limit: int, window: timedelta) -> int:
        """Do something once more: 0 when it may be done now, else after how many seconds it may be tried again.

        Args:
            scope: What is done.
            key: By whom, or to what.
            limit: How often it may be done within a window; 1 to 1,000.
            window: How long a try counts.
        """
        if not 1 <= limit <= LIMIT_MAX:
            raise ValueError(f"a limit is 1 to {LIMIT_MAX}, not {limit}")
        now = self._now()
        async with self._store.connection() as connection:
            row = await connection.fetchrow(
                _TAKE, scope, self._hash(scope, key), now, now + window, now - window, limit
            )
        await self._sweep_at_times(now)
        if row is None or row["taken"]:
            return 0
        first: datetime = row["hits"][-limit]
        return max(1, math.ceil((first + window - now).total_seconds()))

    async def forget(self, scope: str, key: str) -> None:
        """Let somebody begin anew."""
        async with self._store.connection() as connection:
            await connection.execute(_FORGET, scope, self._hash(scope, key))

    async def _sweep_at_times(self, now: datetime) -> None:
        self._taken += 1
        if self._taken % SWEEP_EVERY == 0:
            async with self._store.connection() as connection:
                await connection.execute(_SWEEP, now, _SWEEP_MAX)

    def _hash(self, scope: str, key: str) -> bytes:
        return hmac.digest(self._key, f"{scope}\0{key}".encode("utf-8", "surrogatepass"), hashlib.sha256)
