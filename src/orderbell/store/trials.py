"""Drafts tried on past orders: how far each trial is, what came of it, and the past itself, read back.

The journal holds no people; the parties of an order and their wishes are read as they stand now, and of an address only
that there is one. Results quote messages, so they are sealed.
"""

from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

import asyncpg
from msgspec import Struct

from orderbell.core.events import OWN_SOURCE, Person
from orderbell.core.model import Contact, decode_contact, decode_order
from orderbell.store.postgres import Connection, Store

LOST_AFTER: Final = timedelta(seconds=30)
"""A trial of which its process has said nothing for so long is given up."""

KEPT: Final = 20
"""Trials that are remembered of a tenant."""

_CHUNK: Final = 500
_READ_TIMEOUT_MS: Final = 60_000

State = Literal["running", "done", "stopped", "failed"]

_GIVE_UP = """
UPDATE trial SET state = 'failed', detail = 'lost' WHERE tenant = $1 AND state = 'running' AND seen_at < $2
"""
_START = """
INSERT INTO trial (tenant, trial_id, name, version, against, days, started_at, seen_at, actor)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)
"""
_FORGET = """
DELETE FROM trial WHERE tenant = $1 AND state <> 'running' AND trial_id NOT IN (
    SELECT trial_id FROM trial WHERE tenant = $1 ORDER BY started_at DESC LIMIT $2)
"""
_BEAT = """
UPDATE trial SET done = $3, total = $4, seen_at = $5 WHERE tenant = $1 AND trial_id = $2 AND state = 'running'
RETURNING stop
"""
_END = """
UPDATE trial SET state = $3, detail = $4, result = $5, seen_at = $6, done = total
WHERE tenant = $1 AND trial_id = $2 AND state = 'running'
"""
_STOP = "UPDATE trial SET stop = true WHERE tenant = $1 AND name = $2 AND state = 'running'"
_LATEST = """
SELECT trial_id, name, version, against, days, state, done, total, detail, started_at, seen_at, actor, result FROM trial
WHERE tenant = $1 AND name = $2 ORDER BY started_at DESC LIMIT 1
"""
_ORDERS = """
SELECT order_no, state FROM orders WHERE tenant = $1 AND opened_at >= $2 AND playbook = $3
ORDER BY opened_at DESC LIMIT $4
"""
_STEPS = """
SELECT order_no, at, event FROM journal
WHERE tenant = $1 AND order_no = ANY ($2::text[]) AND at >= $3 AND version > 0 AND source <> $4
ORDER BY order_no, version
"""
_PEOPLE = "SELECT contact, body FROM contact WHERE tenant = $1 AND contact = ANY ($2::text[])"


class TrialRunning(Exception):
    """Another trial of the tenant is running."""


class Trial(Struct, frozen=True):
    """A draft on past orders; `done` of `total` events were taken, `detail` says why it failed.

    `version` is what was tried, `against` what counted then.
    """

    id: UUID
    name: str
    version: str
    against: str
    days: int
    state: State
    done: int
    total: int
    detail: str
    started_at: datetime
    seen_at: datetime
    actor: str
    result: bytes | None


class PastEvent(Struct, frozen=True):
    """An event as the journal keeps it, when it was heard, and the order's people with its first one."""

    order_no: str
    at: datetime
    event: bytes
    people: dict[str, Person] | None = None


class Past(Struct, frozen=True):
    """What happened to some orders, in the order in which it was heard; `is_cut` where there would have been more."""

    events: list[PastEvent]
    order_count: int
    is_cut: bool


class TrialBook:
    """The trials of one tenant, and its past. Every method raises DatabaseUnavailable."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._vault, self._tenant = store, store.vault, tenant

    async def start(self, trial: Trial) -> None:
        """Write down that a trial begins.

        Raises:
            TrialRunning: There is one already, and its process lives.
        """
        async with self._store.connection() as connection:
            await connection.execute(_GIVE_UP, self._tenant, trial.started_at - LOST_AFTER)
            columns = (trial.id, trial.name, trial.version, trial.against, trial.days, trial.started_at, trial.actor)
            try:
                await connection.execute(_START, self._tenant, *columns)
            except asyncpg.UniqueViolationError:
                raise TrialRunning from None
            await connection.execute(_FORGET, self._tenant, KEPT)

    async def beat(self, trial: UUID, done: int, total: int, now: datetime) -> bool:
        """Say how far it is; False where it is to stop."""
        async with self._store.connection() as connection:
            stop = await connection.fetchval(_BEAT, self._tenant, trial, done, total, now)
        return stop is False  # None: somebody gave it up

    async def end(self, trial: UUID, state: State, now: datetime, *, detail: str = "", result: bytes = b"") -> None:
        """Write down what came of it; a result is sealed."""
        sealed = self._vault.seal(self._tenant, trial.bytes, result) if result else None
        async with self._store.connection() as connection:
            await connection.execute(_END, self._tenant, trial, state, detail, sealed, now)

    async def ask_to_stop(self, name: str) -> None:
        """Ask what runs for a playbook to stop; its process looks every second."""
        async with self._store.connection() as connection:
            await connection.execute(_STOP, self._tenant, name)

    async def latest(self, name: str) -> Trial | None:
        """The last trial of a playbook, with its result opened."""
        async with self._store.connection() as connection:
            row = await connection.fetchrow(_LATEST, self._tenant, name)
        if row is None:
            return None
        sealed = row["result"]
        opened = self._vault.open(self._tenant, row["trial_id"].bytes, sealed) if sealed is not None else None
        columns = dict(row) | {"id": row["trial_id"], "result": opened}
        del columns["trial_id"]
        return Trial(**columns)

    async def past(self, name: str, since: datetime, *, orders_max: int, events_max: int) -> Past:
        """What happened to the orders that began under a playbook since a moment, the latest of them.

        Raises:
            TimeoutError: Reading takes longer than a minute.
        """
        try:
            async with (
                self._store.connection() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                await connection.execute(f"SET LOCAL statement_timeout = {_READ_TIMEOUT_MS}")
                return await self._past(connection, name, since, orders_max, events_max)
        except asyncpg.QueryCanceledError as problem:
            raise TimeoutError from problem

    async def _past(self, connection: Connection, name: str, since: datetime, orders_max: int, events_max: int) -> Past:
        rows = await connection.fetch(_ORDERS, self._tenant, since, name, orders_max + 1)
        parties = {row["order_no"]: decode_order(row["state"]).parties for row in rows[:orders_max]}
        numbers, events, taken = list(parties), list[PastEvent](), 0
        while taken < len(numbers) and len(events) < events_max:
            chunk = numbers[taken : taken + _CHUNK]
            named = {party.contact for number in chunk for party in parties[number]}
            people = await self._people(connection, named)
            begun: set[str] = set()
            for number, at, event in await connection.fetch(_STEPS, self._tenant, chunk, since, OWN_SOURCE):
                roles = {party.role: people.get(party.contact, Person(id=party.contact)) for party in parties[number]}
                events.append(PastEvent(number, at, event, roles if roles and number not in begun else None))
                begun.add(number)
            taken += len(chunk)
        events.sort(key=lambda one: one.at)  # stable: what one order heard stays in its order
        return Past(events, taken, len(rows) > orders_max or taken < len(numbers))

    async def _people(self, connection: Connection, names: set[str]) -> dict[str, Person]:
        rows = await connection.fetch(_PEOPLE, self._tenant, sorted(names))
        opened = (decode_contact(self._vault.open(self._tenant, row[0], row[1])) for row in rows)
        return {contact.id: stand_in(contact) for contact in opened}


def stand_in(contact: Contact) -> Person:
    """Somebody with the same wishes and with addresses on the same channels, none of which is theirs."""
    reached = contact.addresses()
    return Person(
        id=contact.id, phone="+8613800138000" if "sms" in reached else "",
        email="somebody@example.com" if "email" in reached else "", app="app" if "push" in reached else "",
        wechat="wechat" if "wechat" in reached else "", tier=contact.tier if contact.tier_set else None,
        locale=contact.locale, timezone=contact.timezone, quiet=contact.quiet, mute=contact.mute,
        frequency=contact.frequency,
        marketing={"yes": True, "no": False}.get(contact.marketing),
    )  # fmt: skip
