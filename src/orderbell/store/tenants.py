"""Tenants: who uses an installation, and the playbooks that they follow, kept by version."""

from collections.abc import Mapping

import asyncpg
import msgspec

from orderbell.core.playbook import Playbook
from orderbell.core.turn import Shelf
from orderbell.errors import DatabaseUnavailable
from orderbell.store.activation import Known, read_active
from orderbell.store.postgres import BREAKS

_TENANT = "INSERT INTO tenant (tenant, playbook) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_PLAYBOOKS = """INSERT INTO playbook (tenant, name, version, body)
    SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING"""


async def add_tenant(pool: "asyncpg.Pool[asyncpg.Record]", tenant: str, shelf: Shelf) -> None:
    """Make sure that the tenant exists, and that the playbooks it follows can be looked up by version."""
    await pool.execute(_TENANT, tenant, shelf.default)
    playbooks = list(shelf.playbooks.values())
    bodies = [msgspec.json.encode(playbook.spec).decode() for playbook in playbooks]
    await pool.execute(_PLAYBOOKS, tenant, [p.name for p in playbooks], [p.version for p in playbooks], bodies)


async def read_shelves(
    pool: "asyncpg.Pool[asyncpg.Record]",
    playbooks: Mapping[str, Playbook],
    bases: Mapping[str, Shelf] | None = None,
    known: Known | None = None,
) -> dict[str, Shelf]:
    """The shelf of every tenant: the given playbooks, what it activated itself over them, and its own default.

    `bases` are shelves that stand in for the given playbooks, by tenant; `known` keeps what was compiled.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    try:
        rows = await pool.fetch("SELECT tenant, playbook FROM tenant")
        own = await read_active(pool, {} if known is None else known)
    except BREAKS as problem:
        raise DatabaseUnavailable(f"PostgreSQL does not answer: {problem}") from problem
    shelves = {row[0]: (bases or {}).get(row[0]) or Shelf(dict(playbooks), row[1]) for row in rows}
    return {
        name: Shelf(shelf.playbooks | own[name], shelf.default) if name in own else shelf
        for name, shelf in shelves.items()
    }
