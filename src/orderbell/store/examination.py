"""What a database is like, before anything relies on it; for `orderbell doctor`."""

from datetime import UTC, datetime

import asyncpg
from alembic.config import Config
from alembic.script import ScriptDirectory
from msgspec import Struct

from orderbell.store.migrate import CONNECT_TIMEOUT_S, MIGRATIONS

TABLES = ("orders", "journal", "queue", "message")
SWITCHES = ("fsync", "synchronous_commit")
_FACTS = """SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS release,
    current_setting('server_encoding') AS encoding, current_setting('max_connections')::int AS connections_max,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connection_count,
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS read_only,
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create, current_user::text AS account,
    coalesce(current_schema()::text, 'public') AS schema"""
_SWITCHES = "SELECT name FROM unnest($1::text[]) AS name WHERE current_setting(name) = 'off'"
_RIGHTS = """SELECT name FROM unnest($1::text[]) AS name
    WHERE to_regclass(name) IS NOT NULL AND NOT (has_table_privilege(name, 'SELECT')
        AND has_table_privilege(name, 'INSERT') AND has_table_privilege(name, 'UPDATE')
        AND has_table_privilege(name, 'DELETE'))"""


class DatabaseFacts(Struct, frozen=True):
    """A database as it was found.

    `off` names what of `SWITCHES` is off, `refused` the tables that may not be read and written; `revision` is that of
    the tables (None: there are none), `known` whether this version can bring it to `head`.
    """

    version: int
    release: str
    encoding: str
    connections_max: int
    connection_count: int
    read_only: bool
    may_create: bool
    account: str
    schema: str
    clock_apart_s: float
    off: tuple[str, ...]
    refused: tuple[str, ...]
    revision: str | None
    head: str | None
    known: bool


class Unreachable(Struct, frozen=True):
    """Why there is no talking to a database, and how to mend it."""

    says: str
    remedy: str


async def examine_database(dsn: str) -> DatabaseFacts | Unreachable:
    """Ask a database what it is like; changes nothing."""
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
        return _unreachable(problem)
    try:
        apart_s = await _clock_apart_s(connection)
        row = await connection.fetchrow(_FACTS)
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        off = tuple(found["name"] for found in await connection.fetch(_SWITCHES, list(SWITCHES)))
        refused = tuple(found["name"] for found in await connection.fetch(_RIGHTS, list(TABLES)))
        revision, head, known = await _revision(connection)
        return DatabaseFacts(
            **dict(row.items()), clock_apart_s=apart_s, off=off, refused=refused, revision=revision, head=head,
            known=known,
        )  # fmt: skip
    finally:
        await connection.close()


async def _clock_apart_s(connection: "asyncpg.Connection[asyncpg.Record]") -> float:
    """How far the clocks are apart for sure: the way of question and answer left out."""
    before = datetime.now(UTC)
    database_at: datetime = await connection.fetchval("SELECT clock_timestamp()")
    after = datetime.now(UTC)
    return max((before - database_at).total_seconds(), (database_at - after).total_seconds(), 0.0)


async def _revision(connection: "asyncpg.Connection[asyncpg.Record]") -> tuple[str | None, str | None, bool]:
    config = Config()
    # Alembic reads the value with %-interpolation.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    # An account without any right to the table must hear of its rights, not of this one.
    readable = "SELECT coalesce(has_table_privilege(to_regclass('alembic_version'), 'SELECT'), false)"
    if not await connection.fetchval(readable):
        return None, head, True
    revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return revision, head, revision is None or revision in {script.revision for script in scripts.walk_revisions()}


def _unreachable(problem: Exception) -> Unreachable:
    if isinstance(problem, (ValueError, asyncpg.InterfaceError)):
        # What could not be understood is quoted in the problem, and may be a part of the password.
        remedy = "write postgresql://ACCOUNT:PASSWORD@HOST:PORT/NAME, and %2F, %40, %3A for /, @ and : in the password"
        return Unreachable("it is no address of a PostgreSQL", remedy)
    remedy = "is it running, and are address, account and password in ORDERBELL_DATABASE_URL right?"
    if isinstance(problem, asyncpg.InvalidCatalogNameError):
        remedy = "make it: `createdb --encoding=UTF8 NAME`, owned by the account that OrderBell uses"
    elif isinstance(problem, asyncpg.InvalidAuthorizationSpecificationError):
        remedy = "correct account and password in ORDERBELL_DATABASE_URL, or allow the account in pg_hba.conf"
    return Unreachable(str(problem) or type(problem).__name__, remedy)
