"""How the database stands, for monitoring: each look is short, read-only and bounded, whatever the tables hold.

Counts stop at COUNTED_MAX, every statement is cut off after CUT_OFF_MS, and none of them is held open while another
runs, so that looking never becomes the long transaction that it looks for.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

import asyncpg
from msgspec import Struct

from orderbell.core.model import LANES
from orderbell.observe.figures import Labels
from orderbell.store.postgres import Connection, Store

COUNTED_MAX: Final = 100_000
CUT_OFF_MS: Final = 2_000

HOT_TABLES: Final = ("orders", "timer", "queue", "message", "flight", "contact", "event_key", "handle")
"""Those whose rows change or go all the time."""

Figures = Mapping[str, Mapping[Labels, float]]
"""By name of `observe.figures.GAUGES`, by labels."""

_BEGIN = f"BEGIN READ ONLY; SET LOCAL statement_timeout = {CUT_OFF_MS}; SET LOCAL lock_timeout = 500"


class _Look(Struct, frozen=True):
    """A statement whose rows are label values, then a number; what it fills."""

    name: str
    sql: str
    labels: int = 0
    timed: bool = False


_LANE_OF: Final = f"(ARRAY[{', '.join(repr(lane) for lane in LANES)}])[l.lane + 1]"
_EACH_LANE: Final = f"generate_series(0, {len(LANES) - 1}) AS l (lane)"

_LOOKS: Final[Sequence[_Look]] = (
    _Look(
        "timers_lag_seconds",
        "SELECT greatest(extract(epoch FROM $1::timestamptz - min(due_at)), 0)::float8 FROM timer", timed=True,
    ),
    _Look(
        "queue_due",
        f"SELECT {_LANE_OF}, (SELECT count(*) FROM (SELECT FROM queue q WHERE q.lane = l.lane"
        f" AND q.due_at <= $1::timestamptz LIMIT {COUNTED_MAX}) AS few)::float8 FROM {_EACH_LANE}", 1, timed=True,
    ),
    _Look(
        "queue_oldest_seconds",
        f"SELECT {_LANE_OF}, greatest(extract(epoch FROM $1::timestamptz - (SELECT min(q.due_at) FROM queue q"
        f" WHERE q.lane = l.lane)), 0)::float8 FROM {_EACH_LANE}", 1, timed=True,
    ),
    _Look(
        "messages_waiting",
        f"SELECT {_LANE_OF}, (SELECT count(*) FROM (SELECT FROM message m WHERE m.lane = l.lane"
        f" AND m.due_at IS NOT NULL AND m.status = 'queued' LIMIT {COUNTED_MAX}) AS few)::float8 FROM {_EACH_LANE}", 1,
    ),
    # Of those that wait for their turn to be asked about: the index of what waits leads to them.
    _Look(
        "messages_in_doubt",
        "SELECT count(*)::float8 FROM (SELECT FROM message WHERE due_at IS NOT NULL AND status = 'unknown'"
        f" LIMIT {COUNTED_MAX}) AS few",
    ),
    _Look("requests_recorded", f"SELECT count(*)::float8 FROM (SELECT FROM flight LIMIT {COUNTED_MAX}) AS few"),
    _Look(
        "anomalies_open",
        "SELECT name, count(*)::float8 FROM (SELECT name FROM anomaly WHERE closed_at IS NULL"
        f" LIMIT {COUNTED_MAX}) AS few GROUP BY name ORDER BY 2 DESC LIMIT 100", 1,
    ),
    _Look(
        "cases_open",
        "SELECT owner, count(*)::float8 FROM (SELECT owner FROM cases WHERE closed_at IS NULL"
        f" LIMIT {COUNTED_MAX}) AS few GROUP BY owner ORDER BY 2 DESC LIMIT 100", 1,
    ),
    _Look("receipt_delay_p95_seconds", "SELECT channel, delay_p95_s FROM pace", 1),
    _Look(
        "receipt_delay_mean_seconds",
        "SELECT provider, sum(delay_s) / nullif(sum(received), 0) FROM tally"
        " WHERE minute > $1::timestamptz - interval '10 minutes' GROUP BY provider HAVING sum(received) > 0",
        1, timed=True,
    ),
    _Look(
        "receipt_share",
        "SELECT provider, least(sum(received)::float8 / sum(accepted), 1) FROM tally"
        " WHERE minute > $1::timestamptz - interval '60 minutes' GROUP BY provider HAVING sum(accepted) > 0",
        1, timed=True,
    ),
    _Look(
        "providers_paused",
        "SELECT s.provider, count(*) FILTER (WHERE s.state = 'open')::float8 FROM standing s"
        " JOIN worker w ON w.worker = s.worker AND w.lease_until > clock_timestamp() GROUP BY s.provider", 1,
    ),
    _Look("workers", "SELECT count(*)::float8 FROM worker WHERE lease_until > clock_timestamp()"),
    _Look("sending_halted", "SELECT max(halted::int)::float8 FROM halt"),
    # Vacuum itself holds nobody back; a session of another role is seen only by those who may see it.
    _Look(
        "database_oldest_snapshot_seconds",
        "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8 FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_xmin IS NOT NULL AND pid <> pg_backend_pid()"
        " AND backend_type <> 'autovacuum worker' AND query NOT ILIKE 'vacuum%'",
    ),
    _Look(
        "database_oldest_xmin_age",
        "SELECT coalesce(max(age), 0)::float8 FROM (SELECT age(backend_xmin) FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_type <> 'autovacuum worker' UNION ALL"
        " SELECT age(xmin) FROM pg_replication_slots UNION ALL SELECT age(catalog_xmin) FROM pg_replication_slots"
        " UNION ALL SELECT age(transaction) FROM pg_prepared_xacts WHERE database = current_database()) AS held",
    ),
    _Look("database_dead_rows", "SELECT relname::text, n_dead_tup::float8 FROM pg_stat_user_tables"
          f" WHERE schemaname = current_schema() AND relname IN {HOT_TABLES}", 1),
    _Look("database_live_rows", "SELECT relname::text, n_live_tup::float8 FROM pg_stat_user_tables"
          f" WHERE schemaname = current_schema() AND relname IN {HOT_TABLES}", 1),
)  # fmt: skip


class Gauges:
    """Looks at the database of an installation, all tenants together."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, now: datetime) -> Figures:
        """Look at everything once; what took too long is left out.

        `now` is the platform's clock, aware UTC: what is due is due by it. Raises DatabaseUnavailable.
        """
        found: dict[str, Mapping[Labels, float]] = {}
        async with self._store.connection() as connection:
            for look in _LOOKS:
                with suppress(asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError):
                    found[look.name] = await _look(connection, look, now)
        return found


async def _look(connection: Connection, look: _Look, now: datetime) -> Mapping[Labels, float]:
    await connection.execute(_BEGIN)
    try:
        rows = await connection.fetch(look.sql, *([now] if look.timed else []))
    finally:
        await connection.execute("ROLLBACK")
    return {tuple(map(str, row[: look.labels])): float(row[look.labels] or 0.0) for row in rows}


def pool_connections(store: Store) -> Mapping[Labels, float]:
    """How many connections of this process's pool are in use, idle, and allowed at most."""
    pool = store.pool
    size, idle = pool.get_size(), pool.get_idle_size()
    return {("used",): size - idle, ("idle",): idle, ("max",): pool.get_max_size()}
