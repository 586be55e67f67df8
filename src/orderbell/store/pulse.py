"""The pulse: what happened in an installation, counted by five minutes, and its orders counted as a whole now and then.

Counting belongs to no turn and to no request: one process at a time does it in the background, and whoever looks
reads a few hundred small rows. A slot of five minutes is counted as a whole, again and again, until nothing in it is
open any more, and more rarely the longer ago it is; so no count can drift away from what it counts.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

import msgspec
from msgspec import Struct

from orderbell.core.events import OWN_SOURCE
from orderbell.core.model import decode_contact
from orderbell.errors import DatabaseUnavailable
from orderbell.store import rows
from orderbell.store.postgres import Connection, Store

SLOT: Final = timedelta(minutes=5)
SLOT_MINUTES: Final = 5
IN_TIME_S: Final = 300
"""Within so many seconds somebody has to be told (S0-15)."""

EVERY_S: Final = 10.0
"""How old the count of the running slot becomes."""

YOUNG: Final = timedelta(seconds=30)
"""So long after its end a slot may still get lines: of transactions under way."""

AGING: Final = 8
"""A slot with something open is counted again when an eighth of its age has passed."""

BACK: Final = timedelta(hours=37)
"""How far a new installation, or one that stood still, is counted back: today, in whatever zone."""

OPEN_FOR: Final = timedelta(days=3)
KEPT: Final = timedelta(days=40)
SLOTS_MAX: Final = 40
"""Of one round: what is left is for the next one, which follows at once."""

DOUBTFUL_MAX: Final = 1000
"""The most messages in doubt of a slot that are kept by name, for people to look at."""

EASE: Final = 50
"""Counting may take one part of so many of the time."""

CENSUS_EASE: Final = 200
FINDERS_MAX: Final = 500
RETRY_S: Final = 30.0

_LOCK: Final = "SELECT pg_try_advisory_xact_lock(1886153829)"  # spells "pul"; one process counts at a time
_SETTINGS: Final = """
SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0
"""
# Each tenant's messages of the slot stand together in the primary key.
_BY_KEY: Final = """
SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off
"""
_COUNTED: Final = "SELECT slot, counted_at, open FROM pulse WHERE tenant = '' AND slot >= $1"
_EVENTS: Final = f"""
SELECT tenant, floor(extract(epoch FROM at - $1) / 60)::int AS minute, count(*) FROM journal
WHERE at >= $1 AND at < $2 AND source <> '{OWN_SOURCE}' GROUP BY 1, 2
"""
_FROM: Final = """
FROM tenant t JOIN message m ON m.tenant = t.tenant AND m.message_id >= $1 AND m.message_id < $2
"""
_TAKEN: Final = "(m.status IN ('accepted', 'delivered') OR (m.status = 'failed' AND m.provider_ref <> ''))"
# An SMS in the alphabet of ASCII holds 160 signs, of several parts each 153; any other one 70 and 67.
_PARTS: Final = """CASE WHEN m.channel <> 'sms' THEN 1
    WHEN octet_length(m.text) = length(m.text) THEN CASE WHEN length(m.text) <= 160 THEN 1
        ELSE (length(m.text) + 152) / 153 END
    WHEN length(m.text) <= 70 THEN 1 ELSE (length(m.text) + 66) / 67 END"""
_MESSAGES: Final = f"""
SELECT m.tenant, m.channel, m.provider, m.status, count(*), coalesce(sum({_PARTS}) FILTER (WHERE {_TAKEN}), 0)
{_FROM} GROUP BY 1, 2, 3, 4
"""
# News that went out on several channels counts once, by the first that was taken.
_TOLD: Final = f"""
SELECT tenant, critical, delay_s <= {IN_TIME_S},
    CASE WHEN delay_s IS NOT NULL THEN floor(10 * ln(greatest(delay_s, 1)))::int END, count(*)
FROM (
    SELECT m.tenant, m.lane = 0 AS critical, bool_or(m.status IN ('queued', 'sending', 'unknown')) AS waits,
        extract(epoch FROM min(m.sending_at) FILTER (WHERE {_TAKEN}) - m.created_at)::float8 AS delay_s
    {_FROM} WHERE m.channel <> 'inbox' GROUP BY m.tenant, m.lane, m.contact, m.order_no, m.topic, m.created_at
) AS news
WHERE delay_s IS NOT NULL OR waits GROUP BY 1, 2, 3, 4
"""
_DOUBTFUL: Final = f"""
SELECT tenant, (array_agg(message_id))[:{DOUBTFUL_MAX}] FROM (
    SELECT m.tenant, m.message_id {_FROM} WHERE m.status = 'unknown' ORDER BY m.tenant, m.message_id
) AS doubts GROUP BY 1
"""
_OPT_OUTS: Final = """
SELECT t.tenant, count(*) FROM tenant t JOIN consent c ON c.tenant = t.tenant AND c.at >= $1 AND c.at < $2
WHERE NOT c.given GROUP BY 1
"""
_PUT: Final = """
INSERT INTO pulse (tenant, slot, counted_at, open, unknown, doubtful, body)
SELECT n.tenant, $1, $2, n.open, n.unknown, '{}', n.body FROM unnest($3::text[], $4::int[], $5::int[], $6::bytea[])
    AS n (tenant, open, unknown, body)
ON CONFLICT (tenant, slot) DO UPDATE SET counted_at = excluded.counted_at, open = excluded.open,
    unknown = excluded.unknown, doubtful = excluded.doubtful, body = excluded.body
"""
_NAME: Final = "UPDATE pulse SET doubtful = $3 WHERE tenant = $1 AND slot = $2"
_FORGET: Final = "DELETE FROM pulse WHERE slot < $1"
_SINCE_CENSUS: Final = "SELECT counted_at, took_s FROM census WHERE tenant = ''"
_CENSUS: Final = "SELECT tenant, playbook, stage, light, count(*) FROM orders GROUP BY 1, 2, 3, 4"
_PUT_CENSUS: Final = """
INSERT INTO census (tenant, counted_at, took_s, body)
SELECT n.tenant, $1, $2, n.body FROM unnest($3::text[], $4::bytea[]) AS n (tenant, body)
ON CONFLICT (tenant) DO UPDATE SET counted_at = excluded.counted_at, took_s = excluded.took_s, body = excluded.body
"""
_UNFOUND: Final = """
SELECT tenant, contact, body FROM contact WHERE phone_tail IS NULL ORDER BY tenant, contact LIMIT $1
FOR UPDATE SKIP LOCKED
"""
_FIND: Final = """
UPDATE contact c SET phone_key = n.phone_key, phone_tail = n.phone_tail, mail_key = n.mail_key
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::bytea[])
    AS n (tenant, contact, phone_key, phone_tail, mail_key)
WHERE c.tenant = n.tenant AND c.contact = n.contact
"""

_OPEN = frozenset({"queued", "sending", "accepted", "unknown"})

log = logging.getLogger(__name__)


class Sent(Struct, frozen=True, array_like=True):
    """Messages of one kind: how many, and of how many parts those consist that a provider took."""

    channel: str
    provider: str
    status: str
    count: int
    parts: int


class Told(Struct, frozen=True, array_like=True):
    """News of one kind: whether critical, told in time (None: still waits), and the class of its delay.

    Class n are delays of e^(n/10) seconds to e^((n+1)/10).
    """

    critical: bool
    in_time: bool | None
    delay_class: int | None
    count: int


class Beat(Struct, array_like=True):
    """What happened to a tenant in one slot: events by minute, messages by what became of them, delays, opt-outs."""

    events: list[int] = msgspec.field(default_factory=lambda: [0] * SLOT_MINUTES)
    messages: list[Sent] = []
    told: list[Told] = []
    opt_outs: int = 0


class Count(Struct, frozen=True, array_like=True):
    """How many orders follow a playbook, stand at a stage and show a light."""

    playbook: str
    stage: str
    light: str
    count: int


encode = msgspec.msgpack.Encoder().encode
decode_beat = msgspec.msgpack.Decoder(Beat).decode
decode_counts = msgspec.msgpack.Decoder(list[Count]).decode


def slot_of(at: datetime) -> datetime:
    """The beginning of the slot of a moment."""
    return datetime.fromtimestamp(at.timestamp() // SLOT.total_seconds() * SLOT.total_seconds(), UTC)


def id_at(at: datetime) -> bytes:
    """How the ids of messages begin whose news arose at a moment."""
    return max(int(at.timestamp() * 1000), 0).to_bytes(6, "big")


class Rollup:
    """Counts what happened, one process at a time; made once a process.

    Args:
        store: The database.
        now: The clock, aware UTC.
    """

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now
        self._closing = asyncio.Event()
        self._rest_until: dict[datetime, float] = {}
        self._found_all = False

    async def run(self) -> None:
        """Count until `close`; what fails is logged and tried again."""
        while not self._closing.is_set():
            pause_s = EVERY_S
            try:
                if await self.round():
                    pause_s = 0.0
            except DatabaseUnavailable as problem:
                log.warning("counting has to wait: %s", problem)
                pause_s = RETRY_S
            except Exception:
                # Whatever it was: figures that stand still for weeks are worse than a round that is lost.
                log.exception("counting failed")
                pause_s = RETRY_S
            try:
                await asyncio.wait_for(self._closing.wait(), max(pause_s, 0.01))
            except TimeoutError:
                continue

    async def close(self) -> None:
        """End after the round under way."""
        self._closing.set()

    async def round(self) -> bool:
        """Count what is due; returns whether more is due already. Nothing is done while another process counts.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer.
        """
        async with self._store.connection() as connection, connection.transaction():
            if not await connection.fetchval(_LOCK):
                return False
            await connection.execute(_SETTINGS)
            now = self._now()
            more = await self._find(connection)
            await self._take_census(connection, now)
            await connection.execute(_BY_KEY)
            due = await self._due(connection, now)
            for slot in due[:SLOTS_MAX]:
                began = monotonic()
                await self._count(connection, slot, now)
                self._rest_until[slot] = monotonic() + EASE * (monotonic() - began)
            await connection.execute(_FORGET, now - KEPT)
            return more or len(due) > SLOTS_MAX

    async def _due(self, connection: Connection, now: datetime) -> list[datetime]:
        """The slots to count, the newest first."""
        found = await connection.fetch(_COUNTED, slot_of(now - OPEN_FOR))
        counted = {row["slot"]: (row["counted_at"], row["open"]) for row in found}
        self._rest_until = {slot: at for slot, at in self._rest_until.items() if slot in counted}
        first, slot = slot_of(now - OPEN_FOR), slot_of(now)
        due = []
        while slot >= first:
            if slot not in counted:
                if slot >= now - BACK:
                    due.append(slot)
            elif self._is_due(slot, *counted[slot], now):
                due.append(slot)
            slot -= SLOT
        return due

    def _is_due(self, slot: datetime, counted_at: datetime, open_count: int, now: datetime) -> bool:
        end = slot + SLOT
        young = counted_at < end + YOUNG
        if not young and not open_count:
            return False
        wait = timedelta(seconds=EVERY_S * 0.9) if young else max((now - end) / AGING, timedelta(seconds=EVERY_S * 0.9))
        return now - counted_at >= wait and monotonic() >= self._rest_until.get(slot, 0.0)

    async def _count(self, connection: Connection, slot: datetime, now: datetime) -> None:
        end = slot + SLOT
        beats: dict[str, Beat] = {}
        for tenant, minute, count in await connection.fetch(_EVENTS, slot, end):
            beats.setdefault(tenant, Beat()).events[minute] = count
        ids = (id_at(slot), id_at(end))
        for tenant, *sent in await connection.fetch(_MESSAGES, *ids):
            beats.setdefault(tenant, Beat()).messages.append(Sent(*sent))
        for tenant, *told in await connection.fetch(_TOLD, *ids):
            beats.setdefault(tenant, Beat()).told.append(Told(*told))
        for tenant, count in await connection.fetch(_OPT_OUTS, slot, end):
            beats.setdefault(tenant, Beat()).opt_outs = count
        lines = [(tenant, _open(beat, _OPEN), _open(beat, {"unknown"}), encode(beat)) for tenant, beat in beats.items()]
        lines.append(("", sum(line[1] for line in lines), 0, b""))
        await connection.execute(_PUT, slot, now, *rows.columns(sorted(lines), 4))
        if any(line[2] for line in lines):
            for tenant, doubtful in await connection.fetch(_DOUBTFUL, *ids):
                await connection.execute(_NAME, tenant, slot, doubtful)

    async def _take_census(self, connection: Connection, now: datetime) -> None:
        last = await connection.fetchrow(_SINCE_CENSUS)
        if last is not None:
            rest = timedelta(seconds=max(EVERY_S * 0.9, CENSUS_EASE * last["took_s"]))
            if timedelta(0) <= now - last["counted_at"] < rest:
                return
        began = monotonic()
        counts: dict[str, list[Count]] = {"": []}
        for tenant, *count in await connection.fetch(_CENSUS):
            counts.setdefault(tenant, []).append(Count(*count))
        lines = sorted((tenant, encode(found)) for tenant, found in counts.items())
        await connection.execute(_PUT_CENSUS, now, monotonic() - began, *rows.columns(lines, 2))

    async def _find(self, connection: Connection) -> bool:
        """Give contacts of the time before there was any the blind indexes by which they are found."""
        if self._found_all:
            return False
        vault = self._store.vault
        found = await connection.fetch(_UNFOUND, FINDERS_MAX)
        lines = []
        for tenant, name, body in found:
            contact = decode_contact(vault.open(tenant, name, body))
            lines.append((tenant, name, *rows.finders(vault.index_key(tenant), contact)))
        if lines:
            await connection.execute(_FIND, *rows.columns(lines, 5))
        self._found_all = not lines
        return bool(lines)


def _open(beat: Beat, statuses: frozenset[str] | set[str]) -> int:
    return sum(sent.count for sent in beat.messages if sent.status in statuses)
