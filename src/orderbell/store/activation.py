"""Which version of a playbook counts for a tenant: drafts, versions, and an append-only record of what took effect.

A version that a tenant activated takes the place of the playbook of the same name from the files, for that tenant
alone. Who activates says which version they saw: where somebody was quicker, nothing changes and they are told.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import msgspec
import structlog
from msgspec import Struct

from orderbell.core.model import decode_notice
from orderbell.core.playbook import Playbook, PlaybookSpec, compile_playbook
from orderbell.core.wording import WordingSpec
from orderbell.errors import OrderBellError
from orderbell.store.postgres import Connection, Store
from orderbell.store.rows import columns

LIVE_FOR: Final = timedelta(days=90)
"""An order that is done counts as live for so long after its last change: something may still be heard of it."""

VERSIONS_MAX: Final = 200
WAITING_MAX: Final = 20_000
"""The most waiting notices that are looked at for the topics they speak of."""

_LOOK_TIMEOUT_MS = 15_000
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

Known = dict[tuple[str, str, str], Playbook | None]
"""Compiled playbooks by tenant, name and version; None for one that this release refuses."""

log = structlog.get_logger()

_ACTIVE = "SELECT tenant, name, version FROM active WHERE version <> ''"
_STORED = "SELECT version FROM active WHERE tenant = $1 AND name = $2"
_BODIES = """
SELECT tenant, name, version, body, wording FROM playbook
JOIN unnest($1::text[], $2::text[], $3::text[]) AS k (tenant, name, version) USING (tenant, name, version)
WHERE wording IS NOT NULL
"""
# The version that was seen must still be the one that counts; where there is no row yet, the files are followed.
_SWITCH = """
INSERT INTO active AS a (tenant, name, version, number) VALUES ($1, $2, $4, 1)
ON CONFLICT (tenant, name) DO UPDATE SET version = excluded.version, number = a.number + 1 WHERE a.version = $3
RETURNING number
"""
_KEEP = """
INSERT INTO playbook AS p (tenant, name, version, body, wording, source, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant, name, version) DO UPDATE SET wording = excluded.wording,
    source = CASE WHEN p.source = '' THEN excluded.source ELSE p.source END
"""
_RECORD = """
INSERT INTO activation (tenant, name, number, version, follows, activated_at, actor) VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_HISTORY = """
SELECT name, number, version, follows, activated_at, actor FROM activation WHERE tenant = $1 AND name = $2
ORDER BY number DESC LIMIT $3
"""
_LATEST = """
SELECT name, number, r.version, r.follows, r.activated_at, r.actor
FROM active a JOIN activation r USING (tenant, name, number) WHERE a.tenant = $1
"""
_VERSION = """
SELECT name, version, body, wording, source, created_at FROM playbook
WHERE tenant = $1 AND name = $2 AND version = $3 AND wording IS NOT NULL
"""
_DRAFT = "SELECT name, body, base_version, updated_at, actor FROM draft WHERE tenant = $1 AND name = $2"
_DRAFTS = "SELECT name, '' AS body, base_version, updated_at, actor FROM draft WHERE tenant = $1 ORDER BY name"
_PUT_DRAFT = """
INSERT INTO draft AS d (tenant, name, body, base_version, updated_at, actor) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant, name) DO UPDATE SET body = excluded.body, base_version = excluded.base_version,
    updated_at = excluded.updated_at, actor = excluded.actor
WHERE d.updated_at IS NOT DISTINCT FROM $7::timestamptz
RETURNING updated_at
"""
_DROP_DRAFT = """
DELETE FROM draft WHERE tenant = $1 AND name = $2 AND ($3::timestamptz IS NULL OR updated_at = $3)
"""
# Rungs are looked for one by one, and only those that would be gone: nearly always there is none.
_STANDING = """
SELECT stage FROM unnest($3::text[]) AS gone (name) CROSS JOIN LATERAL (
    SELECT o.stage FROM orders o WHERE o.tenant = $1 AND o.playbook = $2 AND o.stage = gone.name
        AND (o.light <> 'green' OR o.updated_at > $4) LIMIT 1) AS found
"""
_SUFFERING = """
SELECT DISTINCT a.name FROM anomaly a JOIN orders o ON o.tenant = a.tenant AND o.order_no = a.order_no
WHERE a.tenant = $1 AND o.playbook = $2 AND a.name = ANY ($3::text[]) AND a.closed_at IS NULL
"""
_WAITING = "SELECT body FROM queue WHERE tenant = $1 LIMIT $2"


class VersionChanged(OrderBellError):
    """Another version counts by now than the one that was seen."""

    def __init__(self, current: str) -> None:
        super().__init__(f"{current or 'no version'} counts by now; look at it, and activate again")
        self.current = current


class DraftChanged(OrderBellError):
    """Somebody else saved the draft meanwhile."""


class Activation(Struct, frozen=True):
    """A line of the record: what took effect, when, by whose doing; `follows` where it came from the files."""

    name: str
    number: int
    version: str
    follows: bool
    activated_at: datetime
    actor: str


class Draft(Struct, frozen=True):
    """What a person writes and nobody follows yet; `base_version` counted when they began."""

    name: str
    body: str
    base_version: str
    updated_at: datetime
    actor: str


class Version(Struct, frozen=True):
    """All that decides and speaks, under the name of its content; `source` is the YAML that a person wrote."""

    name: str
    version: str
    spec: PlaybookSpec
    wordings: dict[str, WordingSpec]
    source: str
    created_at: datetime

    def compiled(self) -> Playbook | None:
        """The playbook; None where this release refuses what an earlier one took."""
        playbook, problems = compile_playbook(self.spec, self.wordings)
        if playbook is None:
            log.error("playbook unusable", name=self.name, version=self.version, problem=problems[0].message)
            return None
        return replace(playbook, version=self.version)  # a later release may name the same content otherwise


class Missed(Struct, frozen=True):
    """What is in use and would be gone: stages in which live orders stand, open anomalies, topics that wait."""

    stages: tuple[str, ...] = ()
    anomalies: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything would be missed."""
        return bool(self.stages or self.anomalies or self.topics)


class Activations:
    """Drafts, versions and activations of one tenant. Every method raises DatabaseUnavailable."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._tenant = store, tenant

    async def history(self, name: str) -> list[Activation]:
        """What counted of a name, the newest first."""
        async with self._store.connection() as connection:
            rows = await connection.fetch(_HISTORY, self._tenant, name, VERSIONS_MAX)
        return [Activation(**row) for row in rows]

    async def latest(self) -> dict[str, Activation]:
        """What the tenant did last with each name that it ever activated."""
        async with self._store.connection() as connection:
            return {row["name"]: Activation(**row) for row in await connection.fetch(_LATEST, self._tenant)}

    async def version(self, name: str, version: str) -> Version | None:
        """A version that was activated once; None where the tenant has none of this name."""
        if not version.isalnum() or not version.isascii():
            return None
        async with self._store.connection() as connection:
            row = await connection.fetchrow(_VERSION, self._tenant, name, version)
        return _version(row) if row is not None else None

    async def activate(
        self, version: Version, *, expected: str, from_files: str, follow: bool, at: datetime, actor: str
    ) -> Activation | None:
        """Let a version count from now on; None where it does so already.

        Args:
            version: What is to count; it is kept, so that it can be compared and activated again.
            expected: The version that was seen to count.
            from_files: That of the playbook of this name in the files, empty where there is none.
            follow: Whether `version` is that of the files, and later ones of them are to count as well.
            at: When it was done.
            actor: By whom.

        Raises:
            VersionChanged: Another version counts by now.
        """
        name = version.name
        async with self._store.connection() as connection, connection.transaction():
            stored: str = await connection.fetchval(_STORED, self._tenant, name) or ""
            current = stored or from_files
            if current != expected:
                raise VersionChanged(current)
            wanted = "" if follow else version.version
            if wanted == stored and (stored or follow):
                return None
            number = await connection.fetchval(_SWITCH, self._tenant, name, stored, wanted)
            if number is None:
                raise VersionChanged(await connection.fetchval(_STORED, self._tenant, name) or from_files)
            await connection.execute(_KEEP, self._tenant, *_columns(version))
            line = Activation(name, number, version.version, follow, at, actor)
            await connection.execute(_RECORD, self._tenant, *msgspec.structs.astuple(line))
        return line

    async def keep(self, version: Version) -> None:
        """Keep a version that counts now, so that it can be compared with what comes after it."""
        async with self._store.connection() as connection:
            await connection.execute(_KEEP, self._tenant, *_columns(version))

    async def drafts(self) -> dict[str, Draft]:
        """All drafts by name, without their bodies."""
        async with self._store.connection() as connection:
            return {row["name"]: Draft(**row) for row in await connection.fetch(_DRAFTS, self._tenant)}

    async def draft(self, name: str) -> Draft | None:
        """The draft of a name."""
        async with self._store.connection() as connection:
            row = await connection.fetchrow(_DRAFT, self._tenant, name)
        return Draft(**row) if row is not None else None

    async def put_draft(self, draft: Draft, seen: datetime | None) -> None:
        """Save a draft; `seen` is when the one that was looked at had been saved, None where there was none.

        Raises:
            DraftChanged: Somebody else saved it meanwhile.
        """
        columns = (draft.name, draft.body, draft.base_version, draft.updated_at, draft.actor)
        async with self._store.connection() as connection:
            if await connection.fetchval(_PUT_DRAFT, self._tenant, *columns, seen) is None:
                raise DraftChanged("somebody else saved this draft meanwhile; look at theirs before you save yours")

    async def drop_draft(self, name: str, seen: datetime | None = None) -> bool:
        """Throw a draft away; with `seen` only the one that was saved then. False where there is none such."""
        async with self._store.connection() as connection:
            return str(await connection.execute(_DROP_DRAFT, self._tenant, name, seen)) == "DELETE 1"

    async def missed(self, old: Collection[Playbook], new: Playbook, now: datetime) -> Missed:
        """What the tenant's orders and notices need of the versions so far, and the new one does not have.

        Orders that are done and have not changed for `LIVE_FOR` are left out: what may still be heard of one of them
        is journalled as undecidable, and its light turns red.
        """
        stages = {name for playbook in old for name in playbook.stages} - new.stages.keys()
        anomalies = {name for playbook in old for name in playbook.anomalies} - new.anomalies.keys()
        topics = {topic for playbook in old for topic in playbook.notices} - new.notices.keys()
        if not (stages or anomalies or topics):
            return Missed()
        async with self._store.connection() as connection, connection.transaction(readonly=True):
            await connection.execute(f"SET LOCAL statement_timeout = {_LOOK_TIMEOUT_MS}")
            return Missed(
                await self._names(connection, _STANDING, new.name, stages, now - LIVE_FOR),
                await self._names(connection, _SUFFERING, new.name, anomalies),
                await self._waiting(connection, new.name, topics) if topics else (),
            )

    async def _names(
        self, connection: Connection, statement: str, name: str, gone: set[str], *others: object
    ) -> tuple[str, ...]:
        if not gone:
            return ()
        rows = await connection.fetch(statement, self._tenant, name, sorted(gone), *others)
        return tuple(sorted(row[0] for row in rows))

    async def _waiting(self, connection: Connection, name: str, gone: set[str]) -> tuple[str, ...]:
        rows = await connection.fetch(_WAITING, self._tenant, WAITING_MAX)
        notices = [decode_notice(row[0]) for row in rows]
        return tuple(sorted({n.topic for n in notices if n.playbook == name and n.topic in gone}))


async def read_active(pool: "asyncpg.Pool[asyncpg.Record]", known: Known) -> Mapping[str, dict[str, Playbook]]:
    """The playbooks that tenants activated, by tenant and name; those that follow the files are not among them.

    `known` holds what was compiled before and is kept up to date. A version that this release refuses is logged and
    left out, so that the tenant follows the files.
    """
    keys = [(row["tenant"], row["name"], row["version"]) for row in await pool.fetch(_ACTIVE)]
    for gone in known.keys() - set(keys):
        del known[gone]
    new = [key for key in keys if key not in known]
    if new:
        for row in await pool.fetch(_BODIES, *columns(new, 3)):
            known[row["tenant"], row["name"], row["version"]] = _compiled(row)
    found: dict[str, dict[str, Playbook]] = {}
    for key in keys:
        playbook = known.get(key)
        if playbook is not None:
            found.setdefault(key[0], {})[key[1]] = playbook
    return found


def version_of(playbook: Playbook, source: str, created_at: datetime) -> Version:
    """A compiled playbook as it is kept."""
    wordings = {locale: words.spec for locale, words in playbook.wording.items()}
    return Version(playbook.name, playbook.version, playbook.spec, wordings, source, created_at)


def _columns(version: Version) -> tuple[object, ...]:
    body, wording = msgspec.json.encode(version.spec).decode(), msgspec.json.encode(version.wordings).decode()
    return version.name, version.version, body, wording, version.source, version.created_at


def _compiled(row: asyncpg.Record) -> Playbook | None:
    try:
        spec = msgspec.json.decode(row["body"], type=PlaybookSpec)
        wordings = msgspec.json.decode(row["wording"], type=dict[str, WordingSpec])
    except msgspec.ValidationError as wrong:
        log.error("playbook unusable", name=row["name"], version=row["version"], problem=str(wrong))  # noqa: TRY400 - the trace says no more
        return None
    return Version(row["name"], row["version"], spec, wordings, "", _NEVER).compiled()


def _version(row: asyncpg.Record) -> Version:
    return Version(
        row["name"], row["version"], msgspec.json.decode(row["body"], type=PlaybookSpec),
        msgspec.json.decode(row["wording"], type=dict[str, WordingSpec]), row["source"], row["created_at"],
    )  # fmt: skip
