"""What all processes share about a provider: its access token, and how many messages people still allow.

A token is fetched by one process while the others wait: most providers void the old one when a new one is asked for.
The lock is one of the session and not of a transaction, for nobody may wait for a provider inside a transaction.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Protocol, TypeVar

from orderbell.store.postgres import Connection, Store

_TENANT: Final = ""  # what belongs to the installation is sealed under the name of nobody
_LOCK = "SELECT pg_advisory_lock(hashtextextended($1, 7))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended($1, 7))"
_READ = "SELECT value, good_until FROM token WHERE provider = $1"
_WRITE = """
INSERT INTO token (provider, value, good_until) VALUES ($1, $2, $3)
ON CONFLICT (provider) DO UPDATE SET value = excluded.value, good_until = excluded.good_until
"""
_GRANT = """
INSERT INTO allowance AS a (provider, address_key, scope, count) VALUES ($1, $2, $3, greatest($4, 0))
ON CONFLICT (provider, address_key, scope) DO UPDATE SET count = greatest(a.count + $4, 0)
"""
_TAKE_BACK = "DELETE FROM allowance WHERE provider = $1 AND address_key = $2 AND scope = $3"
_SPEND = """
UPDATE allowance SET count = count - 1 WHERE provider = $1 AND address_key = $2 AND scope = $3 AND count > 0
"""


class AnyToken(Protocol):
    """An access token and how long it is good for."""

    @property
    def value(self) -> str:
        """The token."""
        ...

    @property
    def good_until(self) -> datetime:
        """Aware UTC."""
        ...


Fetched = TypeVar("Fetched", bound=AnyToken)


class SharedByAll:
    """The token and the grants of one provider, in the database of a store.

    Every method raises DatabaseUnavailable when PostgreSQL does not answer.
    """

    def __init__(self, store: Store, provider: str, now: Callable[[], datetime]) -> None:
        self._store, self._provider, self._now = store, provider, now
        self._kept: tuple[str, datetime] | None = None
        self._lock = asyncio.Lock()

    async def token(self, fetch: Callable[[], Awaitable[Fetched]], stale: str = "") -> str:
        """Give the token that is good now; fetched by one process when it is over, or equals `stale`."""
        if self._is_good(stale) and self._kept is not None:
            return self._kept[0]
        async with self._lock:
            if not self._is_good(stale):
                async with self._store.connection() as connection:
                    await self._renew(connection, fetch, stale)
            assert self._kept is not None  # noqa: S101 - just renewed
            return self._kept[0]

    async def grant(self, to: str, scope: str, count: int = 1) -> None:
        """Put down that somebody allowed `count` more messages of a kind; 0 takes all that they allowed back."""
        async with self._store.connection() as connection:
            if count:
                await connection.execute(_GRANT, self._provider, self._key(to), scope, count)
            else:
                await connection.execute(_TAKE_BACK, self._provider, self._key(to), scope)

    async def spend(self, to: str, scope: str) -> bool:
        """Use up one grant; False when there is none."""
        async with self._store.connection() as connection:
            return str(await connection.execute(_SPEND, self._provider, self._key(to), scope)) == "UPDATE 1"

    async def _renew(self, connection: Connection, fetch: Callable[[], Awaitable[Fetched]], stale: str) -> None:
        vault = self._store.vault
        try:
            # Inside, for it may be granted in the very moment in which whoever waits for it is cancelled.
            await connection.execute(_LOCK, self._provider)
            row = await connection.fetchrow(_READ, self._provider)
            if row is not None:
                self._kept = (vault.open(_TENANT, self._provider, row["value"]).decode(), row["good_until"])
            if not self._is_good(stale):
                fetched = await fetch()
                sealed = vault.seal(_TENANT, self._provider, fetched.value.encode())
                await connection.execute(_WRITE, self._provider, sealed, fetched.good_until)
                self._kept = (fetched.value, fetched.good_until)
        finally:
            await connection.execute(_UNLOCK, self._provider)

    def _is_good(self, stale: str) -> bool:
        return self._kept is not None and self._kept[0] != stale and self._kept[1] > self._now()

    def _key(self, to: str) -> bytes:
        index_key = self._store.vault.index_key(_TENANT)
        return hmac.new(index_key, f"{self._provider}\0{to}".encode(), hashlib.sha256).digest()[:16]
