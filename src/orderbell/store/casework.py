"""Cases that no colleague has been told of yet: who tells of them, which they are, and that it is done.

No row is held while a robot is waited for: a turn that closes a case must not have to wait for the network. One
process at a time is on duty instead, by a lease as for reading receipts, and a case is marked once a robot has taken
the message about it. Should that process die in between, the next one tells of the case again: colleagues may read
something twice, but never miss it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from orderbell.core.model import CaseKind, Owner
from orderbell.errors import DatabaseUnavailable
from orderbell.store.ledger import Ledger
from orderbell.store.postgres import Store

DUTY: Final = timedelta(seconds=90)
"""Longer than a round of telling takes, every robot timing out; afterwards somebody else is on duty."""

MARKS_MAX: Final = 10
MARK_PAUSE_S: Final = 0.05
"""Between looks at cases that turns hold; a turn takes less."""

_ANY = """
SELECT EXISTS (SELECT FROM cases WHERE tenant = ANY ($1::text[]) AND staff_told_at IS NULL AND closed_at IS NULL)
"""
_UNTOLD = """
SELECT tenant, case_id, order_no, anomaly, kind, owner, opened_at FROM cases
WHERE tenant = ANY ($1::text[]) AND staff_told_at IS NULL AND closed_at IS NULL
ORDER BY opened_at DESC LIMIT $2
"""
# Never waits for a turn, so the two cannot wait for each other: what one holds is marked a moment later.
_MARK = """
WITH free AS MATERIALIZED (
    SELECT c.tenant, c.case_id FROM unnest($1::text[], $2::bytea[]) AS k (tenant, case_id)
    JOIN cases c USING (tenant, case_id) WHERE c.staff_told_at IS NULL
    FOR NO KEY UPDATE OF c SKIP LOCKED
), marked AS (
    UPDATE cases c SET staff_told_at = $3 FROM free f WHERE c.tenant = f.tenant AND c.case_id = f.case_id
    RETURNING c.tenant, c.case_id
)
SELECT c.tenant, c.case_id FROM unnest($1::text[], $2::bytea[]) AS k (tenant, case_id)
JOIN cases c USING (tenant, case_id)
WHERE c.staff_told_at IS NULL AND (c.tenant, c.case_id) NOT IN (SELECT tenant, case_id FROM marked)
"""


class UntoldCase(Struct, frozen=True):
    """A case that waits for a person who does not know of it; `opened_at` is aware UTC."""

    tenant: str
    id: bytes
    order_no: str
    anomaly: str
    kind: CaseKind
    owner: Owner
    opened_at: datetime


class Casework:
    """The untold cases of an installation.

    Every method raises DatabaseUnavailable when PostgreSQL does not answer.

    Args:
        store: The database.
        duty: The name under which one process at a time tells; installations with several sets of robots have several.
    """

    def __init__(self, store: Store, duty: str = "staff") -> None:
        self._store, self._ledger, self._duty = store, Ledger(store), duty

    async def waiting(self, tenants: Iterable[str]) -> bool:
        """Whether there is any untold case; costs one look at an index that is empty most of the time."""
        async with self._store.connection() as connection:
            found: bool = await connection.fetchval(_ANY, list(tenants))
        return found

    @asynccontextmanager
    async def on_duty(self) -> AsyncIterator[bool]:
        """Be the one who tells, for the block; False while another process is."""
        worker = await self._ledger.take_lease(f"{self._duty}: cases", DUTY)
        try:
            yield await self._ledger.receipt_cursor(f"{self._duty}: cases", worker) is not None
        finally:
            # Else the lease runs out by itself.
            with suppress(DatabaseUnavailable):
                await self._ledger.give_up_lease(worker)

    async def untold(self, tenants: Iterable[str], limit: int) -> list[UntoldCase]:
        """The newest open cases that nobody was told of; closed ones need nobody any more."""
        async with self._store.connection() as connection:
            return [UntoldCase(*row) for row in await connection.fetch(_UNTOLD, list(tenants), limit)]

    async def mark_told(self, cases: Sequence[UntoldCase], at: datetime) -> int:
        """Put down that colleagues were told of these; returns how many are left, because turns hold them for long."""
        keys = [(case.tenant, case.id) for case in cases]
        for mark in range(MARKS_MAX):
            if not keys:
                break
            if mark:
                await asyncio.sleep(MARK_PAUSE_S)
            async with self._store.connection() as connection:
                left = await connection.fetch(_MARK, [tenant for tenant, _ in keys], [name for _, name in keys], at)
            keys = [(row[0], row[1]) for row in left]
        return len(keys)
