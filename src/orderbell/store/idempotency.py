"""Answers that are given once: what a request with an `Idempotency-Key` was answered, for 24 hours.

A request first claims its key. Whoever comes with the same key meanwhile is told that the first is under way, later
its answer. Keys and bodies are there as hashes under the tenant's key, answers are sealed: they may hold a secret that
is shown only once. What a process that died had claimed is free again after a while; nobody can know by then whether
its change counts.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from orderbell.store.postgres import Store

REMEMBERED: Final = timedelta(hours=24)
CLAIMED_MAX: Final = timedelta(minutes=5)
"""How long a request may be under way; longer than any takes."""

_TRIES_MAX: Final = 3

_CLAIM: Final = """
INSERT INTO idempotency AS i (tenant, key_hash, route, body_hash, made_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant, key_hash) DO UPDATE
SET route = excluded.route, body_hash = excluded.body_hash, status = NULL, answer = NULL, made_at = excluded.made_at
WHERE i.made_at <= $6 OR (i.status IS NULL AND i.made_at <= $7)
RETURNING key_hash
"""
_FIND: Final = "SELECT route, body_hash, status, answer FROM idempotency WHERE tenant = $1 AND key_hash = $2"
_KEEP: Final = """
UPDATE idempotency SET status = $4, answer = $5
WHERE tenant = $1 AND key_hash = $2 AND made_at = $3 AND status IS NULL
"""
_RELEASE: Final = """
DELETE FROM idempotency WHERE tenant = $1 AND key_hash = $2 AND made_at = $3 AND status IS NULL
"""
_FORGET: Final = "DELETE FROM idempotency WHERE made_at <= $1"  # of all tenants: nobody sees what goes


class Claim(Struct, frozen=True):
    """A key that a request holds."""

    key_hash: bytes
    made_at: datetime


class Given(Struct, frozen=True):
    """The answer that was given to the same request before."""

    status: int
    answer: bytes


Found = Claim | Given | Literal["in_progress", "mismatch"]
"""What a key turned out to be: free and now claimed, answered, under way, or used for another request."""


class KnownAnswers:
    """The answers of one tenant. Every method raises DatabaseUnavailable where PostgreSQL does not answer."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._vault, self._tenant = store, store.vault, tenant
        self._key = store.vault.index_key(tenant)

    def hash_of(self, *parts: bytes) -> bytes:
        """A hash of some texts under the tenant's key; no two lists of texts have the same."""
        digest = hashlib.blake2b(digest_size=32, key=self._key, person=b"idempotency")
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    async def claim(self, key_hash: bytes, route: str, body_hash: bytes, now: datetime) -> Found:
        """Claim a key for a request, or say what became of it before."""
        async with self._store.connection() as connection:
            for _ in range(_TRIES_MAX):
                values = (self._tenant, key_hash, route, body_hash, now, now - REMEMBERED, now - CLAIMED_MAX)
                if await connection.fetchval(_CLAIM, *values) is not None:
                    return Claim(key_hash, now)
                row = await connection.fetchrow(_FIND, self._tenant, key_hash)
                if row is None:
                    continue  # it was given back between the two statements
                if (row["route"], row["body_hash"]) != (route, body_hash):
                    return "mismatch"
                if row["status"] is None:
                    return "in_progress"
                return Given(row["status"], self._vault.open(self._tenant, key_hash, row["answer"]))
        return "in_progress"

    async def keep(self, claim: Claim, status: int, answer: bytes) -> None:
        """Keep the answer to the request that holds the key."""
        sealed = self._vault.seal(self._tenant, claim.key_hash, answer)
        async with self._store.connection() as connection:
            await connection.execute(_KEEP, self._tenant, claim.key_hash, claim.made_at, status, sealed)

    async def release(self, claim: Claim) -> None:
        """Give the key back: the request changed nothing and may come again."""
        async with self._store.connection() as connection:
            await connection.execute(_RELEASE, self._tenant, claim.key_hash, claim.made_at)


async def forget_answers(store: Store, now: datetime) -> int:
    """Throw away the answers of all tenants that are too old to be given again; return how many there were.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    async with store.connection() as connection:
        status = await connection.execute(_FORGET, now - REMEMBERED)
    return int(status.rpartition(" ")[2])
