"""Sessions: who is signed in, from where, and for how long; tickets that sign in once; the token of the first run.

What a browser holds are 256 random bits; here is only their SHA-256. A session ends 30 minutes after it was last used
and 12 hours after it began (OWASP ASVS 5.0, 7.3), and at once when its account or membership does.
"""

import hashlib
import secrets
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct

from orderbell.store.accounts import Role
from orderbell.store.postgres import Store

IDLE: Final = timedelta(minutes=30)
LONGEST: Final = timedelta(hours=12)
TOUCH_EVERY: Final = timedelta(minutes=1)
"""How exactly it is known when a session was last used."""

DEVICE_KNOWN: Final = timedelta(days=180)
NAME_LENGTH: Final = 16
_LABEL_LENGTH_MAX: Final = 80
_TOKEN_LENGTH: Final = 43

_CHOOSE: Final = """
SELECT m.tenant FROM membership m JOIN account a USING (account)
WHERE m.account = $1 AND m.disabled_at IS NULL AND a.disabled_at IS NULL
ORDER BY m.tenant <> $2, m.role <> 'owner', m.since, m.tenant LIMIT 1
"""
_OPEN: Final = """
INSERT INTO session (token_hash, account, tenant, label, address, created_at, seen_at)
VALUES ($1, $2, $3, $4, $5, $6, $6)
"""
_FIND: Final = """
SELECT s.account, a.name, a.locale, s.tenant, m.role, s.seen_at, (
    SELECT array_agg(o.tenant ORDER BY o.tenant) FROM membership o
    WHERE o.account = s.account AND o.disabled_at IS NULL) AS tenants
FROM session s JOIN account a USING (account) JOIN membership m ON m.account = s.account AND m.tenant = s.tenant
WHERE s.token_hash = $1 AND s.seen_at > $2 AND s.created_at > $3 AND a.disabled_at IS NULL AND m.disabled_at IS NULL
"""
_STILL_OPEN: Final = f"""
SELECT left(encode(s.token_hash, 'hex'), {NAME_LENGTH}), s.tenant
FROM session s JOIN account a USING (account) JOIN membership m ON m.account = s.account AND m.tenant = s.tenant
WHERE s.account = ANY ($1::bigint[]) AND s.seen_at > $2 AND s.created_at > $3
    AND a.disabled_at IS NULL AND m.disabled_at IS NULL
"""
_TOUCH: Final = "UPDATE session SET seen_at = $2 WHERE token_hash = $1 AND seen_at < $2"
_LIST: Final = """
SELECT token_hash, account, tenant, label, address, created_at, seen_at FROM session
WHERE account = $1 AND ($2 = '' OR tenant = $2) AND seen_at > $3 AND created_at > $4 ORDER BY seen_at DESC, token_hash
"""
_END: Final = "DELETE FROM session WHERE token_hash = $1"
_END_NAMED: Final = f"""
DELETE FROM session WHERE account = $1 AND left(encode(token_hash, 'hex'), {NAME_LENGTH}) = $2
    AND ($3 = '' OR tenant = $3) RETURNING token_hash
"""
_END_OVER: Final = "DELETE FROM session WHERE seen_at <= $1 OR created_at <= $2"
_SWITCH: Final = """
UPDATE session s SET tenant = $2 FROM membership m
WHERE s.token_hash = $1 AND m.account = s.account AND m.tenant = $2 AND m.disabled_at IS NULL
"""
_KNOWN: Final = """
UPDATE device SET seen_at = $3 WHERE account = $1 AND device_hash = $2 AND seen_at > $4 RETURNING account
"""
_REMEMBER: Final = "INSERT INTO device (account, device_hash, seen_at) VALUES ($1, $2, $3)"
_FORGET: Final = "DELETE FROM device WHERE account = $1 AND seen_at <= $2"

_MAKE_TICKET: Final = "INSERT INTO ticket (ticket_hash, account, expires_at) VALUES ($1, $2, $3)"
_TICKET: Final = """
SELECT a.account, a.name FROM ticket t JOIN account a USING (account)
WHERE t.ticket_hash = $1 AND t.expires_at > $2 AND a.disabled_at IS NULL
"""
_TAKE_TICKET: Final = "DELETE FROM ticket WHERE ticket_hash = $1 AND expires_at > $2 RETURNING account"
_END_TICKETS: Final = "DELETE FROM ticket WHERE expires_at <= $1"
_MAKE_SETUP: Final = """
INSERT INTO setup (token_hash) SELECT $1 WHERE NOT EXISTS (SELECT FROM account)
ON CONFLICT (one) DO UPDATE SET token_hash = $1
"""
_SETUP: Final = "SELECT EXISTS (SELECT FROM setup WHERE token_hash = $1 AND NOT EXISTS (SELECT FROM account))"
_TAKE_SETUP: Final = """
DELETE FROM setup WHERE token_hash = $1 AND NOT EXISTS (SELECT FROM account) RETURNING one
"""


class SignedIn(Struct, frozen=True):
    """Who a session is of, and what they are in the tenant for which they work at the moment."""

    account: int
    name: str
    locale: str
    tenant: str
    role: Role
    tenants: tuple[str, ...]
    session: str


class SessionRow(Struct, frozen=True):
    """A session as it is listed; `session` is its public name, `label` the browser."""

    session: str
    account: int
    tenant: str
    label: str
    address: str
    created_at: datetime
    seen_at: datetime


def hash_of(token: str) -> bytes:
    """What is stored of a token; 256 random bits need no salt."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


class Sessions:
    """The sessions, devices and tickets of an installation; `now` is the wall clock as aware UTC.

    Every method raises DatabaseUnavailable when PostgreSQL does not answer.
    """

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now

    async def open(self, account: int, *, tenant: str = "", label: str = "", address: str = "") -> str | None:
        """Begin a session for this tenant, else for one that the account works for; None when there is none.

        Returns:
            The token, seen only here.
        """
        token, now = secrets.token_urlsafe(32), self._now()
        async with self._store.connection() as connection, connection.transaction():
            chosen = await connection.fetchval(_CHOOSE, account, tenant)
            if chosen is None:
                return None
            await connection.execute(_END_OVER, now - IDLE, now - LONGEST)
            label = label[:_LABEL_LENGTH_MAX]
            await connection.execute(_OPEN, hash_of(token), account, chosen, label, address, now)
        return token

    async def find(self, token: str, *, touch: bool = True) -> SignedIn | None:
        """Whose session it is; None when nobody's, or over. Being asked for keeps it going, if it is to (`touch`)."""
        if len(token) != _TOKEN_LENGTH:
            return None  # no work for the database
        hashed, now = hash_of(token), self._now()
        async with self._store.connection() as connection:
            row = await connection.fetchrow(_FIND, hashed, now - IDLE, now - LONGEST)
            if row is None:
                return None
            if touch and now - row["seen_at"] >= TOUCH_EVERY:
                await connection.execute(_TOUCH, hashed, now)
        values = {**row, "session": hashed.hex()[:NAME_LENGTH]}
        return msgspec.convert(values, SignedIn)

    async def still_open(self, accounts: Collection[int]) -> set[tuple[str, str]]:
        """The sessions of these accounts, by public name and tenant; being asked for keeps none going."""
        now = self._now()
        async with self._store.connection() as connection:
            rows = await connection.fetch(_STILL_OPEN, [*accounts], now - IDLE, now - LONGEST)
        return {(row[0], row[1]) for row in rows}

    async def list(self, account: int, tenant: str = "") -> list[SessionRow]:
        """The sessions of an account, in one tenant or in all, the last used first."""
        now = self._now()
        async with self._store.connection() as connection:
            rows = await connection.fetch(_LIST, account, tenant, now - IDLE, now - LONGEST)
        return [SessionRow(row["token_hash"].hex()[:NAME_LENGTH], *tuple(row)[1:]) for row in rows]

    async def end(self, token: str) -> None:
        """End a session."""
        async with self._store.connection() as connection:
            await connection.execute(_END, hash_of(token))

    async def end_named(self, account: int, session: str, tenant: str = "") -> bool:
        """End a session by its public name; False where the account has none of that name in that tenant."""
        async with self._store.connection() as connection:
            return bool(await connection.fetch(_END_NAMED, account, session.replace("\0", ""), tenant))

    async def switch(self, token: str, tenant: str) -> bool:
        """Work for another tenant from now on; False where the account does not work for it."""
        async with self._store.connection() as connection:
            return await connection.execute(_SWITCH, hash_of(token), tenant.replace("\0", "")) == "UPDATE 1"

    async def know_device(self, account: int, device: str) -> bool:
        """Whether somebody signed in to the account with this device of late."""
        if len(device) != _TOKEN_LENGTH:
            return False
        now = self._now()
        async with self._store.connection() as connection:
            found = await connection.fetchval(_KNOWN, account, hash_of(device), now, now - DEVICE_KNOWN)
        return found is not None

    async def remember_device(self, account: int) -> str:
        """Know a device from now on; gives the token that it is to keep."""
        token, now = secrets.token_urlsafe(32), self._now()
        async with self._store.connection() as connection:
            await connection.execute(_FORGET, account, now - DEVICE_KNOWN)
            await connection.execute(_REMEMBER, account, hash_of(token), now)
        return token

    async def make_ticket(self, account: int, lasts: timedelta) -> str:
        """Make a ticket that signs the account in, once, without a password; seen only here."""
        token, now = secrets.token_urlsafe(32), self._now()
        async with self._store.connection() as connection:
            await connection.execute(_END_TICKETS, now)
            await connection.execute(_MAKE_TICKET, hash_of(token), account, now + lasts)
        return token

    async def look_at_ticket(self, ticket: str) -> str | None:
        """The name of the account that a ticket signs in; None when it is none, used up, or too old."""
        async with self._store.connection() as connection:
            row: Any = await connection.fetchrow(_TICKET, hash_of(ticket), self._now())
        return row["name"] if row is not None else None

    async def take_ticket(self, ticket: str) -> int | None:
        """Use a ticket up; gives the account, None as `look_at_ticket`."""
        async with self._store.connection() as connection:
            account: int | None = await connection.fetchval(_TAKE_TICKET, hash_of(ticket), self._now())
        return account

    async def make_setup_token(self) -> str | None:
        """Make the token by which the first account is made, in place of an earlier one; None when there is one."""
        token = secrets.token_urlsafe(32)
        async with self._store.connection() as connection:
            made = await connection.execute(_MAKE_SETUP, hash_of(token))
        return token if made == "INSERT 0 1" else None

    async def look_at_setup_token(self, token: str) -> bool:
        """Whether the token makes the first account."""
        async with self._store.connection() as connection:
            fits: bool = await connection.fetchval(_SETUP, hash_of(token))
        return fits

    async def take_setup_token(self, token: str) -> bool:
        """Use the token up; of many who come at once, one gets True."""
        async with self._store.connection() as connection:
            return await connection.fetchval(_TAKE_SETUP, hash_of(token)) is not None
