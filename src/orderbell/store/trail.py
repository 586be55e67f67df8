"""The trail: who changed what and when, one line for each change, never changed afterwards."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from asyncpg import Record
from msgspec import Struct

from orderbell.store.postgres import Store

PAGE_MAX: Final = 500
DETAIL_LENGTH_MAX: Final = 4000
SYSTEM: Final = "system"
"""The actor of what is done at the command line."""

_TEXT_LENGTH_MAX: Final = 300
_LAST: Final = 2**63 - 1

_WRITE: Final = "INSERT INTO trail (tenant, at, actor, action, object, detail) VALUES ($1, $2, $3, $4, $5, $6)"
_READ: Final = """
SELECT place, at, actor, action, object, detail FROM trail
WHERE tenant = $1 AND place < $2 AND ($4 = '' OR actor = $4) AND ($5 = '' OR starts_with(action, $5))
ORDER BY place DESC LIMIT $3
"""


class Change(Struct, frozen=True):
    """A line of the trail.

    `actor` is `user:<name>`, `key:<fingerprint>` or `system`; `action` such as `playbook.activate`; `object` what was
    changed; `detail` what else there is to say, without personal data. `place` grows with every line.
    """

    place: int
    at: datetime
    actor: str
    action: str
    object: str
    detail: dict[str, Any]


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class Trail:
    """The trails of all tenants; every method raises DatabaseUnavailable when PostgreSQL does not answer."""

    def __init__(self, store: Store, now: Callable[[], datetime] = _wall_clock) -> None:
        self._store, self._now = store, now

    def together(self) -> AbstractAsyncContextManager[None]:
        """Make one transaction of a change and its line: `async with trail.together(): change; await trail.write(…)`.

        When one of them fails, neither is there (`Store.together`).
        """
        return self._store.together()

    async def write(
        self,
        tenant: str,
        actor: str,
        action: str,
        object: str = "",  # noqa: A002 - the column's name
        detail: Mapping[str, object] | None = None,
    ) -> None:
        """Write a line down; texts that are too long are cut off."""
        told = msgspec.json.encode(detail or {}).decode()
        if len(told) > DETAIL_LENGTH_MAX:
            told = msgspec.json.encode({"cut": told[: DETAIL_LENGTH_MAX // 2]}).decode()
        texts = (_clean(text) for text in (actor, action, object))
        async with self._store.connection() as connection:
            await connection.execute(_WRITE, tenant, self._now(), *texts, told.replace("\\u0000", "\\ufffd"))

    async def read(
        self, tenant: str, before: int | None = None, limit: int = 50, *, actor: str = "", action: str = ""
    ) -> list[Change]:
        """The lines before a place, the newest first; of one actor, of actions that begin with a word."""
        place = _LAST if before is None else max(0, min(before, _LAST))
        limit = max(1, min(limit, PAGE_MAX))
        async with self._store.connection() as connection:
            rows = await connection.fetch(_READ, tenant, place, limit, _clean(actor), _clean(action))
        return [_change(row) for row in rows]

    async def read_all(self, tenant: str, *, actor: str = "", action: str = "") -> AsyncIterator[Change]:
        """All lines, the newest first, a page at a time."""
        before: int | None = None
        while page := await self.read(tenant, before, PAGE_MAX, actor=actor, action=action):
            for change in page:
                yield change
            before = page[-1].place


def _clean(text: str) -> str:
    return text.replace("\0", "�").encode("utf-8", "replace").decode()[:_TEXT_LENGTH_MAX]


def _change(row: Record) -> Change:
    detail = msgspec.json.decode(row["detail"], type=dict[str, Any])
    return Change(row["place"], row["at"], row["actor"], row["action"], row["object"], detail)
