"""API keys: made with scopes, listed, revoked and looked up. Only their SHA-256 is stored.

A key has 256 random bits, so a plain hash of it cannot be turned back and needs no salt.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Final, Literal, TypeAlias, get_args

import asyncpg
from msgspec import Struct

from orderbell.errors import DatabaseUnavailable, ScopeMissing
from orderbell.store.postgres import BREAKS, Store
from orderbell.store.trail import Trail

PREFIX: Final = "ob_"
KEY_LENGTH: Final = len(PREFIX) + 43  # 32 bytes in url-safe base64
REMEMBERED_S: Final = 5
"""How long a looked-up key counts without another look; so long may a revoked key live on."""

REMEMBERED_MAX: Final = 10_000
_LOOK_UP_WITHIN_S: Final = 5
_FINGERPRINT_LENGTH: Final = 12

Scope: TypeAlias = Literal[
    "events:write",
    "orders:read",
    "people:read",
    "people:write",
    "messages:read",
    "cases:read",
    "playbooks:read",
    "playbooks:write",
    "providers:read",
    "hooks:read",
    "hooks:write",
    "metrics:read",
    "settings:write",
    "links:write",
]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""What a key may be allowed; who else may come in and what was changed are for people alone."""

_ADD_TENANT = "INSERT INTO tenant (tenant) VALUES ($1) ON CONFLICT DO NOTHING"
_ADD = "INSERT INTO api_key (tenant, key_hash, label, scopes) VALUES ($1, $2, $3, $4::text[])"
_LOOK_UP = "SELECT tenant, scopes FROM api_key WHERE key_hash = $1 AND revoked_at IS NULL"
_LIST = """
SELECT tenant, key_hash, label, created_at, revoked_at, scopes
FROM api_key WHERE tenant = $1 ORDER BY created_at, key_hash
"""
_REVOKE = f"""
UPDATE api_key SET revoked_at = now()
WHERE tenant = $1 AND left(encode(key_hash, 'hex'), {_FINGERPRINT_LENGTH}) = $2 AND revoked_at IS NULL
RETURNING key_hash
"""

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


class ApiKey(Struct, frozen=True):
    """What is known of a key after it was made; `fingerprint` is the beginning of its hash and names it to people."""

    tenant: str
    fingerprint: str
    label: str
    created_at: datetime
    revoked_at: datetime | None
    scopes: tuple[str, ...]


class ApiCaller(Struct, frozen=True):
    """Who calls with a key, and what the key may do; the trail names it by its fingerprint."""

    tenant: str
    scopes: frozenset[str]
    fingerprint: str

    @property
    def actor(self) -> str:
        """How the trail names the key."""
        return f"key:{self.fingerprint}"


def fingerprint_of(key: str) -> str:
    """The name by which a key is listed and revoked."""
    return _digest(key).hex()[:_FINGERPRINT_LENGTH]


async def create_key(store: Store, tenant: str, label: str = "", scopes: Collection[str] = SCOPES) -> str:
    """Make a key for a tenant, who is added when new; the only time that the key itself is seen.

    Raises:
        ValueError: A scope that no key can have.
    """
    if unknown := set(scopes) - set(SCOPES):
        raise ValueError(f"no scope of a key: {', '.join(sorted(unknown))}")
    key = PREFIX + secrets.token_urlsafe(32)
    async with store.connection() as connection, connection.transaction():
        await connection.execute(_ADD_TENANT, tenant)
        await connection.execute(_ADD, tenant, _digest(key), label, sorted(scopes))
    return key


async def revoke_key(store: Store, tenant: str, fingerprint: str) -> bool:
    """Revoke the key with this fingerprint; False when the tenant has none, or it was revoked before."""
    async with store.connection() as connection:
        return bool(await connection.fetch(_REVOKE, tenant, fingerprint))


async def make_key(
    store: Store, trail: Trail, tenant: str, actor: str, label: str, scopes: Collection[str] = SCOPES
) -> str:
    """As `create_key`, with a line in the trail."""
    async with trail.together():
        key = await create_key(store, tenant, label, scopes)
        await trail.write(tenant, actor, "key.make", fingerprint_of(key), {"label": label, "scopes": sorted(scopes)})
    return key


async def end_key(store: Store, trail: Trail, tenant: str, actor: str, fingerprint: str) -> bool:
    """As `revoke_key`, with a line in the trail."""
    async with trail.together():
        done = await revoke_key(store, tenant, fingerprint)
        if done:
            await trail.write(tenant, actor, "key.revoke", fingerprint)
    return done


async def list_keys(store: Store, tenant: str) -> list[ApiKey]:
    """List the keys of a tenant, the oldest first, the revoked among them."""
    async with store.connection() as connection:
        rows = await connection.fetch(_LIST, tenant)
    return [
        ApiKey(
            row["tenant"],
            row["key_hash"].hex()[:_FINGERPRINT_LENGTH],
            row["label"],
            row["created_at"],
            row["revoked_at"],
            tuple(row["scopes"]),
        )
        for row in rows
    ]


class KeyRing:
    """Looks keys up, and remembers them for a few seconds.

    Args:
        pool: Where the keys are.
        clock: Seconds that never run back.
    """

    def __init__(self, pool: Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool, self._clock = pool, clock
        self._known: dict[bytes, tuple[ApiCaller, float]] = {}

    async def tenant_of(self, key: str) -> str | None:
        """Say who may bring events with this key; None when it is nobody's or revoked.

        Raises:
            ScopeMissing: It may not bring events.
            DatabaseUnavailable: As `caller_of`.
        """
        caller = await self.caller_of(key)
        if caller is None:
            return None
        if "events:write" not in caller.scopes:
            raise ScopeMissing("this API key has no scope events:write")
        return caller.tenant

    async def caller_of(self, key: str) -> ApiCaller | None:
        """Say whose key it is and what it may do; None when nobody's or revoked, at the latest 5 s after it was.

        Raises:
            DatabaseUnavailable: It is not remembered and cannot be looked up.
        """
        if len(key) != KEY_LENGTH or not key.startswith(PREFIX) or not key.isascii():
            return None  # no work for the database
        digest = _digest(key)
        known = self._known.get(digest)
        now = self._clock()
        if known is not None and now < known[1]:
            return known[0]
        caller = await self._look_up(digest)
        if caller is None:
            # Keys that are nobody's are not remembered: there is no end of them, and a new key works at once.
            self._known.pop(digest, None)
            return None
        if len(self._known) >= REMEMBERED_MAX:
            self._known.clear()
        self._known[digest] = (caller, now + REMEMBERED_S)
        return caller

    async def _look_up(self, digest: bytes) -> ApiCaller | None:
        try:
            async with asyncio.timeout(_LOOK_UP_WITHIN_S):
                row = await self._pool.fetchrow(_LOOK_UP, digest)
        except BREAKS as problem:
            raise DatabaseUnavailable(f"PostgreSQL does not answer: {problem}") from problem
        if row is None:
            return None
        return ApiCaller(row["tenant"], frozenset(row["scopes"]), digest.hex()[:_FINGERPRINT_LENGTH])


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
