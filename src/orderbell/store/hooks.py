"""Webhooks out: whom a shop has told us to tell, what they are to hear, and what came of it.

A change (`store.changes`) is taken out of its table in the transaction that writes a delivery for each webhook that
wants it. So nothing can be passed over, whenever it commits; a cursor could (and after a restore from a dump, whose
transactions are numbered anew, it would).
"""

import base64
import os
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

import asyncpg
from msgspec import Struct

from orderbell.core.model import derive_id
from orderbell.store.ledger import Ledger
from orderbell.store.postgres import Store
from orderbell.store.rows import columns

PING: Final = "ping"
"""The type of what is sent to try a webhook out; nobody has to want it."""

HOOKS_MAX: Final = 20
"""Of one tenant."""

OVERLAP: Final = timedelta(hours=24)
"""How long a secret goes on counting after another has taken its place."""

KEPT: Final = timedelta(days=7)
"""How long a delivery can be looked at, or be sent once more, after it is over."""

WAITING_MAX: Final = 100_000
"""Deliveries that may wait for a receiver that takes none; then its webhook is turned off."""

COUNTED_MAX: Final = 1_000

_SECRET_BYTES: Final = 32
_AT_ONCE_MAX: Final = 5_000
_DUTY: Final = "webhooks"

HookState: TypeAlias = Literal["on", "off", "gone", "removed"]
DeliveryState: TypeAlias = Literal["waiting", "delivered", "failed"]
HookKey: TypeAlias = tuple[str, bytes]
"""Tenant and id."""

_WATCHED = "SELECT DISTINCT tenant, type FROM hook, unnest(types) AS t (type) WHERE state = 'on'"
_HOOK = "hook_id, url, label, types, state, reason, old_until, failing_since, created_at, updated_at"
_LIST = f"""
SELECT {_HOOK}, (SELECT count(*) FROM (
    SELECT FROM hook_delivery d WHERE d.tenant = h.tenant AND d.hook_id = h.hook_id AND d.state = 'waiting'
    LIMIT {COUNTED_MAX}) AS few) AS waiting
FROM hook h WHERE tenant = $1 AND state <> 'removed' AND ($2::bytea IS NULL OR hook_id = $2)
ORDER BY created_at, hook_id
"""
_ONE_BY_ONE = "SELECT pg_advisory_xact_lock(hashtextextended($1, 8))"
_ADD = f"""
INSERT INTO hook (tenant, hook_id, url, label, types, secret, created_at, updated_at)
SELECT $1, $2, $3, $4, $5::text[], $6, $7, $7
WHERE (SELECT count(*) FROM hook WHERE tenant = $1 AND state <> 'removed') < {HOOKS_MAX}
"""
# Whoever turns it on again, or names another address, begins with a clean slate.
_CHANGE = """
UPDATE hook SET url = coalesce($3, url), label = coalesce($4, label), types = coalesce($5::text[], types),
    state = coalesce($6, state), reason = CASE WHEN $6 IS NULL THEN reason ELSE '' END,
    failing_since = CASE WHEN $6 = 'on' OR $3 <> url THEN NULL ELSE failing_since END, updated_at = $7
WHERE tenant = $1 AND hook_id = $2 AND state <> 'removed'
"""
_ROTATE = """
UPDATE hook SET old_secret = secret, old_until = $4, secret = $3, updated_at = $5
WHERE tenant = $1 AND hook_id = $2 AND state <> 'removed'
"""
_REMOVE = """
UPDATE hook SET state = 'removed', secret = '', old_secret = NULL, old_until = NULL, updated_at = $3
WHERE tenant = $1 AND hook_id = $2 AND state <> 'removed'
"""
_PING = """
INSERT INTO hook_delivery (tenant, hook_id, delivery_id, type, subject, data, at, due_at)
SELECT tenant, hook_id, $3, $4, '', '{}', $5, $5 FROM hook WHERE tenant = $1 AND hook_id = $2 AND state = 'on'
"""
_DELIVERY = "delivery_id, type, subject, data, at, due_at, state, tries, tried_at, status, detail"
_DELIVERIES = f"SELECT {_DELIVERY} FROM hook_delivery WHERE tenant = $1 AND hook_id = $2 ORDER BY place DESC LIMIT $3"
_RETRY = """
UPDATE hook_delivery SET state = 'waiting', tries = 0, due_at = $4, detail = ''
WHERE tenant = $1 AND hook_id = $2 AND delivery_id = $3
"""

# The same number of every tenant, so that one that is busy keeps nobody waiting.
_FAN_OUT = """
WITH taken AS MATERIALIZED (
    SELECT found.tenant, found.place FROM unnest($1::text[]) AS k (tenant), LATERAL (
        SELECT c.tenant, c.place FROM change c WHERE c.tenant = k.tenant ORDER BY c.place LIMIT $2
        FOR UPDATE SKIP LOCKED
    ) AS found
), gone AS (
    DELETE FROM change c USING taken t WHERE c.tenant = t.tenant AND c.place = t.place RETURNING c.*
), told AS (
    INSERT INTO hook_delivery (tenant, hook_id, delivery_id, type, subject, data, at, due_at)
    SELECT g.tenant, h.hook_id, substring(sha256(h.hook_id || g.change_id) FOR 16), g.type, g.subject, g.data, g.at, $3
    FROM gone g JOIN hook h ON h.tenant = g.tenant AND h.state = 'on' AND g.type = ANY (h.types)
    ORDER BY g.tenant, g.place
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM gone
"""
_DUE_HOOKS = """
SELECT h.tenant, h.hook_id FROM hook h WHERE h.state = 'on' AND EXISTS (
    SELECT FROM hook_delivery d
    WHERE d.tenant = h.tenant AND d.hook_id = h.hook_id AND d.state = 'waiting' AND d.due_at <= $1)
"""
_ENDPOINT = """
SELECT url, secret, CASE WHEN old_until > $3 THEN old_secret END AS old_secret FROM hook
WHERE tenant = $1 AND hook_id = $2 AND state = 'on'
"""
_DUE = f"""
SELECT {_DELIVERY} FROM hook_delivery
WHERE tenant = $1 AND hook_id = $2 AND state = 'waiting' AND due_at <= $3 ORDER BY due_at, place LIMIT $4
"""
# By the number of tries: a process that was thought dead overwrites nothing.
_SETTLE = """
WITH settled AS (
    UPDATE hook_delivery d SET state = r.state, tries = r.tries + 1, due_at = r.due_at, status = r.status,
        detail = r.detail, tried_at = $3
    FROM unnest($4::bytea[], $5::int[], $6::text[], $7::timestamptz[], $8::int[], $9::text[])
        AS r (delivery_id, tries, state, due_at, status, detail)
    WHERE d.tenant = $1 AND d.hook_id = $2 AND d.delivery_id = r.delivery_id AND d.state = 'waiting'
        AND d.tries = r.tries
    RETURNING d.state
)
SELECT count(*) FROM settled
"""
_HEALTH = """
UPDATE hook SET failing_since = CASE WHEN $3 THEN NULL ELSE $4::timestamptz END
WHERE tenant = $1 AND hook_id = $2 AND (failing_since IS NOT NULL) = $3
"""
_TURN_OFF = """
UPDATE hook SET state = $3, reason = $4, updated_at = $5
WHERE tenant = $1 AND hook_id = $2 AND state = 'on' AND url = $6 AND ($7::timestamptz IS NULL OR failing_since <= $7)
"""
_FORGET_OVER = """
DELETE FROM hook_delivery WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM hook_delivery WHERE state <> 'waiting' AND tried_at < $1 LIMIT $2))
"""
_FORGET_IDLE = """
DELETE FROM hook_delivery WHERE ctid = ANY (ARRAY(
    SELECT d.ctid FROM hook h JOIN hook_delivery d USING (tenant, hook_id)
    WHERE h.state = 'removed' OR (h.state <> 'on' AND d.state = 'waiting' AND d.at < $1) LIMIT $2))
"""
_FORGET_REMOVED = """
DELETE FROM hook h WHERE state = 'removed'
    AND NOT EXISTS (SELECT FROM hook_delivery d WHERE d.tenant = h.tenant AND d.hook_id = h.hook_id)
"""
_FORGET_CHANGES = """
DELETE FROM change c WHERE NOT EXISTS (SELECT FROM hook h WHERE h.tenant = c.tenant AND h.state = 'on')
"""
_DROWNING = """
UPDATE hook h SET state = 'off', reason = 'backlog', updated_at = $1
WHERE h.state = 'on' AND h.failing_since IS NOT NULL AND (SELECT count(*) FROM (
    SELECT FROM hook_delivery d WHERE d.tenant = h.tenant AND d.hook_id = h.hook_id AND d.state = 'waiting'
    LIMIT $2 + 1) AS few) > $2
RETURNING h.tenant, h.hook_id
"""
_BACKLOG = "SELECT count(*) FROM hook_delivery WHERE state = 'waiting' AND due_at <= $1"


class Hook(Struct, frozen=True, kw_only=True):
    """A webhook as its owners see it.

    `reason` says why it is off: `gone` (the receiver answered 410), `failing` (nothing got through for days) or
    `backlog` (too much waits); empty where a person turned it off. `waiting` counts deliveries, up to `COUNTED_MAX`.
    `old_until` is when the old secret stops counting.
    """

    id: bytes
    url: str
    label: str
    types: tuple[str, ...]
    state: HookState
    reason: str
    old_until: datetime | None
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime
    waiting: int = 0


class Delivery(Struct, frozen=True):
    """Something that a webhook is to hear; `data` is JSON, `status` the last HTTP status, 0 where there was no answer.

    `at` is when it happened, `due_at` when it is tried next, while it waits.
    """

    id: bytes
    type: str
    subject: str
    data: str
    at: datetime
    due_at: datetime
    state: DeliveryState
    tries: int
    tried_at: datetime | None
    status: int
    detail: str


class Endpoint(Struct, frozen=True):
    """Where to send, and the secrets to sign with, the newest first."""

    url: str
    secrets: tuple[str, ...]


class Tried(Struct, frozen=True):
    """What came of one try of a delivery."""

    delivery: Delivery
    state: DeliveryState
    due_at: datetime
    status: int
    detail: str


async def watch(store: Store) -> None:
    """Have this process know who listens to what; raises DatabaseUnavailable."""
    found: dict[str, set[str]] = {}
    async with store.connection() as connection:
        for tenant, kind in await connection.fetch(_WATCHED):
            found.setdefault(kind, set()).add(tenant)
    store.watched = {kind: frozenset(tenants) for kind, tenants in found.items()}


class Hooks:
    """The webhooks of one tenant; every method raises DatabaseUnavailable when PostgreSQL does not answer."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._tenant = store, tenant

    async def every(self) -> list[Hook]:
        """All webhooks, the oldest first."""
        return await self._read(None)

    async def find(self, hook_id: bytes) -> Hook | None:
        """The webhook of that id."""
        return next(iter(await self._read(hook_id)), None)

    async def add(self, url: str, types: Sequence[str], label: str, now: datetime) -> tuple[Hook, str] | None:
        """Add a webhook; gives it and its secret, None where there are `HOOKS_MAX` already."""
        hook_id, secret = derive_id(now, os.urandom(16).hex()), _new_secret()
        sealed = self._seal(hook_id, secret)
        row = (self._tenant, hook_id, url, label, list(types), sealed, now)
        async with self._store.connection() as connection, connection.transaction():
            await connection.execute(_ONE_BY_ONE, self._tenant)  # so that those of others are counted
            if await connection.execute(_ADD, *row) == "INSERT 0 0":
                return None
        await watch(self._store)
        hook = await self.find(hook_id)
        assert hook is not None  # noqa: S101 - just added
        return hook, secret

    async def change(
        self,
        hook_id: bytes,
        now: datetime,
        *,
        url: str | None = None,
        label: str | None = None,
        types: Sequence[str] | None = None,
        on: bool | None = None,
    ) -> Hook | None:
        """Change what is given; None where there is no such webhook. Turned on, it sends what still waits."""
        state = None if on is None else "on" if on else "off"
        wanted = None if types is None else list(types)
        if not await self._execute(_CHANGE, self._tenant, hook_id, url, label, wanted, state, now):
            return None
        await watch(self._store)
        return await self.find(hook_id)

    async def rotate(self, hook_id: bytes, now: datetime, overlap: timedelta = OVERLAP) -> str | None:
        """Give a webhook a new secret; the present one goes on counting for the overlap. None where there is none."""
        secret = _new_secret()
        row = (self._tenant, hook_id, self._seal(hook_id, secret), now + overlap, now)
        return secret if await self._execute(_ROTATE, *row) else None

    async def remove(self, hook_id: bytes, now: datetime) -> bool:
        """Remove a webhook, and what still waits for it."""
        removed = await self._execute(_REMOVE, self._tenant, hook_id, now)
        await watch(self._store)
        return removed

    async def ping(self, hook_id: bytes, now: datetime) -> bytes | None:
        """Have something sent to try a webhook out; gives its id, None where there is no such webhook, or it is off."""
        delivery_id = derive_id(now, os.urandom(16).hex())
        sent = await self._execute(_PING, self._tenant, hook_id, delivery_id, PING, now)
        return delivery_id if sent else None

    async def deliveries(self, hook_id: bytes, limit: int) -> list[Delivery]:
        """What a webhook heard lately or is to hear, the newest first."""
        async with self._store.connection() as connection:
            rows = await connection.fetch(_DELIVERIES, self._tenant, hook_id, limit)
        return [Delivery(*row) for row in rows]

    async def retry(self, hook_id: bytes, delivery_id: bytes, now: datetime) -> bool:
        """Send a delivery once more, with a new schedule, whatever became of it; False where there is none."""
        return await self._execute(_RETRY, self._tenant, hook_id, delivery_id, now)

    async def _read(self, hook_id: bytes | None) -> list[Hook]:
        async with self._store.connection() as connection:
            rows = await connection.fetch(_LIST, self._tenant, hook_id)
        return [_hook(row) for row in rows]

    async def _execute(self, statement: str, *values: object) -> bool:
        async with self._store.connection() as connection:
            return not (await connection.execute(statement, *values)).endswith(" 0")

    def _seal(self, hook_id: bytes, secret: str) -> bytes:
        return self._store.vault.seal(self._tenant, hook_id, secret.encode())


class Outbox:
    """What all webhooks of an installation are to hear, for the one process that tells them.

    Every method raises DatabaseUnavailable when PostgreSQL does not answer.
    """

    def __init__(self, store: Store) -> None:
        self._store, self.ledger = store, Ledger(store)

    @property
    def anybody(self) -> bool:
        """Whether this process knows of a webhook that is on."""
        return bool(self._store.watched)

    async def on_duty(self, worker: int) -> bool:
        """Whether it is for this worker to tell; while its lease holds, it is for nobody else."""
        return await self.ledger.receipt_cursor(_DUTY, worker) is not None

    async def fan_out(self, now: datetime, limit: int) -> int:
        """Make deliveries of at most `limit` changes of each tenant; returns how many changes there were."""
        tenants = sorted({tenant for tenants in self._store.watched.values() for tenant in tenants})
        async with self._store.connection() as connection:
            found: int = await connection.fetchval(_FAN_OUT, tenants, limit, now)
        return found

    async def due_hooks(self, now: datetime) -> list[HookKey]:
        """The webhooks for which something is due."""
        async with self._store.connection() as connection:
            return [(row[0], row[1]) for row in await connection.fetch(_DUE_HOOKS, now)]

    async def due(self, key: HookKey, now: datetime, limit: int) -> tuple[Endpoint, list[Delivery]] | None:
        """Where a webhook sends and what is due, the oldest first; None where it is off, or nothing is due.

        Raises:
            VaultSealed: Its secret was sealed with another secret of the installation.
        """
        async with self._store.connection() as connection:
            row = await connection.fetchrow(_ENDPOINT, *key, now)
            found = await connection.fetch(_DUE, *key, now, limit) if row is not None else []
        if row is None or not found:
            return None
        sealed = [one for one in (row["secret"], row["old_secret"]) if one is not None]
        secrets = tuple(self._store.vault.open(*key, one).decode() for one in sealed)
        return Endpoint(row["url"], secrets), [Delivery(*one) for one in found]

    async def settle(self, key: HookKey, tried: Iterable[Tried], now: datetime) -> int:
        """Write what came of tries; returns how many counted."""
        tries = list(tried)
        rows = sorted((t.delivery.id, t.delivery.tries, t.state, t.due_at, t.status, t.detail) for t in tries)
        well = any(one.state == "delivered" for one in tries)
        async with self._store.connection() as connection, connection.transaction():
            settled: int = await connection.fetchval(_SETTLE, *key, now, *columns(rows, 6))
            await connection.execute(_HEALTH, *key, well, now)
        return settled

    async def turn_off(
        self, key: HookKey, endpoint: Endpoint, state: HookState, reason: str, now: datetime,
        failing_for: timedelta | None = None,
    ) -> bool:  # fmt: skip
        """Send no more to an endpoint; with `failing_for`, only if nothing has got through for so long.

        False where it is off, or sends to another address by now.
        """
        before = None if failing_for is None else now - failing_for
        async with self._store.connection() as connection:
            done = await connection.execute(_TURN_OFF, *key, state, reason, now, endpoint.url, before)
        return str(done) == "UPDATE 1"

    async def tidy(self, now: datetime) -> list[HookKey]:
        """Forget what is long over; turn off whose receivers drown, and give those."""
        async with self._store.connection() as connection:
            await connection.execute(_FORGET_OVER, now - KEPT, _AT_ONCE_MAX)
            await connection.execute(_FORGET_IDLE, now - KEPT, _AT_ONCE_MAX)
            await connection.execute(_FORGET_REMOVED)
            await connection.execute(_FORGET_CHANGES)
            return [(row[0], row[1]) for row in await connection.fetch(_DROWNING, now, WAITING_MAX)]

    async def backlog(self, now: datetime) -> int:
        """How many deliveries are due."""
        async with self._store.connection() as connection:
            found: int = await connection.fetchval(_BACKLOG, now)
        return found


def _hook(row: asyncpg.Record) -> Hook:
    return Hook(
        id=row["hook_id"], url=row["url"], label=row["label"], types=tuple(row["types"]), state=row["state"],
        reason=row["reason"], old_until=row["old_until"], failing_since=row["failing_since"],
        created_at=row["created_at"], updated_at=row["updated_at"], waiting=row["waiting"],
    )  # fmt: skip


def _new_secret() -> str:
    """A secret as Standard Webhooks wants it: 24 to 64 bytes in base64."""
    return "whsec_" + base64.b64encode(os.urandom(_SECRET_BYTES)).decode()
