"""How providers stand, for people to look at: breakers worker by worker, and how far our texts are approved."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from orderbell.store.postgres import Store

_STANDINGS = """
SELECT s.provider, s.worker, s.state, s.reason, s.detail, s.retry_at, s.at
FROM standing s JOIN worker w ON w.worker = s.worker AND w.lease_until > clock_timestamp()
ORDER BY s.provider, s.worker
"""
_TEMPLATES = "SELECT provider, state, count(*)::int AS count FROM template GROUP BY 1, 2"


class WorkerStanding(Struct, frozen=True):
    """How a worker that sends now finds a provider: its breaker, why, until when, and the last trouble."""

    provider: str
    worker: int
    state: str
    reason: str
    detail: str
    retry_at: datetime | None
    at: datetime


class Standings:
    """Reads of the whole installation; every method raises DatabaseUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def by_provider(self) -> Mapping[str, list[WorkerStanding]]:
        """How each worker finds its providers, by provider."""
        found: dict[str, list[WorkerStanding]] = {}
        async with self._store.connection() as connection:
            for row in await connection.fetch(_STANDINGS):
                found.setdefault(row["provider"], []).append(WorkerStanding(**row))
        return found

    async def templates(self) -> Mapping[str, dict[str, int]]:
        """How many of our texts each provider has approved and not, by provider and state."""
        counts: dict[str, dict[str, int]] = {}
        async with self._store.connection() as connection:
            for row in await connection.fetch(_TEMPLATES):
                counts.setdefault(row["provider"], {})[row["state"]] = row["count"]
        return counts
