"""Reads for whoever watches an installation live: what is new of one tenant, and how things stand."""

from collections.abc import Iterable
from datetime import datetime

from orderbell.core.model import Message, Notice, decode_message, decode_notice
from orderbell.store.postgres import Store
from orderbell.store.rows import columns

_MESSAGES = "SELECT attempt_id, message_id, body FROM message WHERE tenant = $1 AND attempt_id = ANY($2::bytea[])"
# One that waits for a receipt is still in the queue.
_NOTICES = """SELECT notice_id, body FROM notice WHERE tenant = $1 AND notice_id = ANY ($3::bytea[])
    UNION ALL SELECT q.notice_id, q.body FROM unnest($2::text[], $3::bytea[]) AS k (contact, notice_id)
    JOIN queue q ON q.tenant = $1 AND q.contact = k.contact AND q.notice_id = k.notice_id"""
_ANOMALIES = """SELECT order_no, name, opened_at, closed_at FROM anomaly
    WHERE tenant = $1 AND (opened_at > $2 OR closed_at > $2)"""
_CASES = """SELECT order_no, anomaly, kind, owner, opened_at, closed_at FROM cases
    WHERE tenant = $1 AND (opened_at > $2 OR closed_at > $2)"""
_LIGHTS = "SELECT light, count(*) FROM orders WHERE tenant = $1 GROUP BY 1"
_OPEN = """SELECT (SELECT count(*) FROM anomaly WHERE tenant = $1 AND closed_at IS NULL) AS anomalies,
    (SELECT count(*) FROM cases WHERE tenant = $1 AND closed_at IS NULL) AS cases"""
_KINDS = "SELECT name, count(*), count(closed_at) FROM anomaly WHERE tenant = $1 GROUP BY 1 ORDER BY 2 DESC, 1"
_TOPICS = """SELECT topic, channel, count(*) FROM message
    WHERE tenant = $1 AND status IN ('accepted', 'delivered', 'failed') GROUP BY 1, 2"""


class Watch:
    """What stands in the database of one tenant, for a screen; for installations as small as a demo's."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._pool, self._vault, self._tenant = store.pool, store.vault, tenant

    async def messages(self, attempt_ids: Iterable[bytes]) -> dict[bytes, Message]:
        """The messages of these attempts, by attempt."""
        rows = await self._pool.fetch(_MESSAGES, self._tenant, list(attempt_ids))
        return {row[0]: decode_message(self._vault.open(self._tenant, row[1], row[2])) for row in rows}

    async def notices(self, messages: Iterable[Message]) -> dict[bytes, Notice]:
        """The notices that these messages tell, by id."""
        pairs = [(message.contact, notice_id) for message in messages for notice_id in message.notices]
        rows = await self._pool.fetch(_NOTICES, self._tenant, *columns(pairs, 2))
        return {row[0]: decode_notice(row[1]) for row in rows}

    async def anomalies(self, since: datetime) -> list[tuple[str, str, datetime, datetime | None]]:
        """What opened or closed after a moment: order, name, opened, closed."""
        return [tuple(row) for row in await self._pool.fetch(_ANOMALIES, self._tenant, since)]

    async def cases(self, since: datetime) -> list[tuple[str, str, str, str, datetime, datetime | None]]:
        """What opened or closed after a moment: order, anomaly, kind, owner, opened, closed."""
        return [tuple(row) for row in await self._pool.fetch(_CASES, self._tenant, since)]

    async def lights(self) -> dict[str, int]:
        """How many orders show each light."""
        return {row[0]: row[1] for row in await self._pool.fetch(_LIGHTS, self._tenant)}

    async def open_counts(self) -> tuple[int, int]:
        """How many anomalies and cases are open."""
        row = await self._pool.fetchrow(_OPEN, self._tenant)
        return (row["anomalies"], row["cases"]) if row is not None else (0, 0)

    async def anomaly_kinds(self) -> dict[str, tuple[int, int]]:
        """How many anomalies of each kind there have been, and how many of them are over; the most frequent first."""
        return {row[0]: (row[1], row[2]) for row in await self._pool.fetch(_KINDS, self._tenant)}

    async def topics(self) -> dict[str, dict[str, int]]:
        """How many messages of each topic a channel's provider has accepted; the most frequent topic first."""
        topics: dict[str, dict[str, int]] = {}
        for topic, channel, count in await self._pool.fetch(_TOPICS, self._tenant):
            topics.setdefault(topic, {})[channel] = count
        return dict(sorted(topics.items(), key=lambda pair: (-sum(pair[1].values()), pair[0])))
