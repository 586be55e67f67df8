"""Accounts: who may sign in, and the role that each has in a tenant.

An account is of the whole installation, its name is unique there. A membership gives it a role in one tenant, and the
owners of that tenant decide over the membership alone. What ends an account or a membership ends its sessions at once.
"""

import unicodedata
from datetime import datetime
from typing import Final, Literal, TypeAlias, get_args

import asyncpg
import msgspec
from msgspec import Struct

from orderbell.errors import AccountRefused
from orderbell.store.postgres import Connection, Store

Role: TypeAlias = Literal["owner", "operator", "agent", "viewer"]

ROLE_NAMES: Final[tuple[Role, ...]] = get_args(Role)
"""From the one who may everything to the one who may only look."""

NAME_LENGTH_MAX: Final = 40
LOCALES: Final = ("", "zh-CN", "en")

_ANY: Final = "SELECT EXISTS (SELECT FROM account)"
_ACCOUNT: Final = """
SELECT account, name, locale, password <> '' AS has_password, two_step IS NOT NULL AS two_step,
    disabled_at, created_at FROM account
"""
_CREDENTIALS: Final = "SELECT account, name, password, two_step, disabled_at IS NOT NULL AS disabled FROM account"
_ADD: Final = """
INSERT INTO account (name, name_key, locale, created_at, password) VALUES ($1, $2, $3, $4, $5) RETURNING account
"""
_JOIN: Final = """
INSERT INTO membership (tenant, account, role, since) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant, account) DO UPDATE SET role = $3, disabled_at = NULL
"""
_MEMBERS: Final = """
SELECT m.account, a.name, m.role, m.since, coalesce(m.disabled_at, a.disabled_at) AS disabled_at,
    a.password <> '' AS has_password, a.two_step IS NOT NULL AS two_step,
    (SELECT max(seen_at) FROM session s WHERE s.account = m.account AND s.tenant = m.tenant) AS seen_at,
    NOT EXISTS (SELECT FROM membership o WHERE o.account = m.account AND o.tenant <> m.tenant) AS only_here
FROM membership m JOIN account a USING (account) WHERE m.tenant = $1
"""
_TENANTS: Final = "SELECT tenant FROM membership WHERE account = $1 AND disabled_at IS NULL ORDER BY tenant"
_ALL_TENANTS: Final = "SELECT tenant FROM tenant ORDER BY created_at, tenant"
_ALL: Final = """
SELECT a.account, a.name, a.disabled_at, a.password <> '' AS has_password, a.two_step IS NOT NULL AS two_step,
    coalesce((SELECT array_agg(m.tenant || ': ' || m.role ORDER BY m.tenant) FROM membership m
        WHERE m.account = a.account AND m.disabled_at IS NULL), '{}') AS roles
FROM account a ORDER BY a.name
"""
_OWNERS: Final = """
SELECT m.account FROM membership m JOIN account a USING (account)
WHERE m.tenant = $1 AND m.role = 'owner' AND m.disabled_at IS NULL AND a.disabled_at IS NULL FOR UPDATE OF m
"""
_SET_ROLE: Final = "UPDATE membership SET role = $3 WHERE tenant = $1 AND account = $2"
_SET_MEMBER: Final = "UPDATE membership SET disabled_at = $3 WHERE tenant = $1 AND account = $2"
_END_HERE: Final = "DELETE FROM session WHERE tenant = $1 AND account = $2"
_END_ALL: Final = "DELETE FROM session WHERE account = $1 AND token_hash <> $2"
_FORGET_DEVICES: Final = "DELETE FROM device WHERE account = $1"
_VOID_TICKETS: Final = "DELETE FROM ticket WHERE account = $1"
_SET_PASSWORD: Final = "UPDATE account SET password = $2 WHERE account = $1"  # noqa: S105 - a statement
_SET_TWO_STEP: Final = "UPDATE account SET two_step = $2, two_step_last = $3 WHERE account = $1"
_TAKE_CODE: Final = """
UPDATE account SET two_step_last = $2 WHERE account = $1 AND two_step_last < $2 RETURNING account
"""
_SET_LOCALE: Final = "UPDATE account SET locale = $2 WHERE account = $1"
_SET_DISABLED: Final = "UPDATE account SET disabled_at = $2 WHERE account = $1"


class Account(Struct, frozen=True):
    """What may be shown of an account; `locale` is empty where the browser's language counts."""

    account: int
    name: str
    locale: str
    has_password: bool
    two_step: bool
    disabled_at: datetime | None
    created_at: datetime


class Credentials(Struct, frozen=True):
    """What a sign-in is checked against: a password's hash, empty when there is none, and the two-step secret."""

    account: int
    name: str
    password: str
    two_step: bytes | None
    disabled: bool

    def __repr__(self) -> str:
        return f"Credentials({self.account})"

    __str__ = __repr__


class Member(Struct, frozen=True):
    """Somebody who works for a tenant; `only_here`: for no other one."""

    account: int
    name: str
    role: Role
    since: datetime
    disabled_at: datetime | None
    has_password: bool
    two_step: bool
    seen_at: datetime | None
    only_here: bool


class Listed(Struct, frozen=True):
    """An account as the installation's list shows it; roles are written `tenant: role`."""

    account: int
    name: str
    disabled_at: datetime | None
    has_password: bool
    two_step: bool
    roles: list[str]


def clean_name(name: str) -> str:
    """A name as it is kept: without blanks around it.

    Raises:
        AccountRefused: It is empty, too long, or holds signs that nobody can read.
    """
    name = _spaced(unicodedata.normalize("NFC", name))
    if not name or len(name) > NAME_LENGTH_MAX or not name.isprintable():
        raise AccountRefused("bad_name", f"a name has 1 to {NAME_LENGTH_MAX} signs, all of them readable")
    return name


def name_key(name: str) -> str:
    """A name as names are compared: in any case and width they are the same."""
    return _spaced(unicodedata.normalize("NFKC", name)).casefold().replace("\0", "�")[: 4 * NAME_LENGTH_MAX]


def _spaced(name: str) -> str:
    # blanks of Chinese keyboards are twice as wide; of a name they are all the same
    return " ".join(part for part in name.replace("\u3000", " ").split(" ") if part)


class Accounts:
    """The accounts of an installation; every method raises DatabaseUnavailable when PostgreSQL does not answer."""

    def __init__(self, store: Store) -> None:
        self._store, self._vault = store, store.vault

    async def any(self) -> bool:
        """Whether there is any account."""
        async with self._store.connection() as connection:
            found: bool = await connection.fetchval(_ANY)
        return found

    async def all(self) -> list[Listed]:
        """Every account of the installation, by name."""
        async with self._store.connection() as connection:
            return [Listed(**row) for row in await connection.fetch(_ALL)]

    async def all_tenants(self) -> list[str]:
        """Every tenant of the installation, the oldest first."""
        async with self._store.connection() as connection:
            return [row[0] for row in await connection.fetch(_ALL_TENANTS)]

    async def find(self, name: str) -> Account | None:
        """The account of this name."""
        async with self._store.connection() as connection:
            row = await connection.fetchrow(f"{_ACCOUNT} WHERE name_key = $1", name_key(name))
        return Account(**row) if row is not None else None

    async def get(self, account: int) -> Account | None:
        """The account of this number."""
        async with self._store.connection() as connection:
            row = await connection.fetchrow(f"{_ACCOUNT} WHERE account = $1", account)
        return Account(**row) if row is not None else None

    async def credentials(self, name: str) -> Credentials | None:
        """What a sign-in under this name is checked against."""
        async with self._store.connection() as connection:
            return self._credentials(await connection.fetchrow(f"{_CREDENTIALS} WHERE name_key = $1", name_key(name)))

    async def credentials_of(self, account: int) -> Credentials | None:
        """What a change to this account is checked against."""
        async with self._store.connection() as connection:
            return self._credentials(await connection.fetchrow(f"{_CREDENTIALS} WHERE account = $1", account))

    async def add(
        self, tenant: str, name: str, role: Role, at: datetime, *, locale: str = "", password: str = ""
    ) -> int:
        """Make an account with a role in a tenant; `password` is a hash.

        Raises:
            AccountRefused: The name is taken or no name.
        """
        name = clean_name(name)
        async with self._store.connection() as connection, connection.transaction():
            try:
                account: int = await connection.fetchval(_ADD, name, name_key(name), locale, at, password)
            except asyncpg.UniqueViolationError:
                raise AccountRefused("name_taken", f"there is an account {name} already") from None
            await connection.execute(_JOIN, tenant, account, role, at)
        return account

    async def join(self, tenant: str, account: int, role: Role, at: datetime) -> None:
        """Give an account a role in a tenant, whatever it had there before; the last owner stays one."""
        async with self._store.connection() as connection, connection.transaction():
            if role != "owner":
                await _refuse_last_owner(connection, tenant, account)
            await connection.execute(_JOIN, tenant, account, role, at)

    async def members(self, tenant: str) -> list[Member]:
        """Who works for a tenant, by name."""
        async with self._store.connection() as connection:
            rows = await connection.fetch(f"{_MEMBERS} ORDER BY a.name, m.account", tenant)
        return [msgspec.convert(dict(row), Member) for row in rows]

    async def member(self, tenant: str, account: int) -> Member | None:
        """One who works for a tenant."""
        async with self._store.connection() as connection:
            row = await connection.fetchrow(f"{_MEMBERS} AND m.account = $2", tenant, account)
        return msgspec.convert(dict(row), Member) if row is not None else None

    async def tenants_of(self, account: int) -> list[str]:
        """The tenants that an account may work for."""
        async with self._store.connection() as connection:
            return [row[0] for row in await connection.fetch(_TENANTS, account)]

    async def set_role(self, tenant: str, account: int, role: Role) -> bool:
        """Change a role, from now on; False where nobody of this number works for the tenant.

        Raises:
            AccountRefused: Nobody else is an owner.
        """
        async with self._store.connection() as connection, connection.transaction():
            if role != "owner":
                await _refuse_last_owner(connection, tenant, account)
            return await connection.execute(_SET_ROLE, tenant, account, role) == "UPDATE 1"

    async def set_member_disabled(self, tenant: str, account: int, at: datetime | None) -> bool:
        """Let somebody no longer work for a tenant, or again (None); False where nobody of this number does.

        Raises:
            AccountRefused: Nobody else is an owner.
        """
        async with self._store.connection() as connection, connection.transaction():
            if at is not None:
                await _refuse_last_owner(connection, tenant, account)
                await connection.execute(_END_HERE, tenant, account)
            return await connection.execute(_SET_MEMBER, tenant, account, at) == "UPDATE 1"

    async def set_disabled(self, account: int, at: datetime | None) -> None:
        """End an account everywhere, or let it in again (None)."""
        async with self._store.connection() as connection, connection.transaction():
            await connection.execute(_SET_DISABLED, account, at)
            if at is not None:
                await _end_everything(connection, account)

    async def set_password(self, account: int, password: str, keep: bytes = b"") -> None:
        """Set a new password's hash; ends all sessions but the one of the hash `keep`, tickets and known devices."""
        async with self._store.connection() as connection, connection.transaction():
            await connection.execute(_SET_PASSWORD, account, password)
            await _end_everything(connection, account, keep)

    async def renew_hash(self, account: int, password: str) -> None:
        """Keep the same password by a better hash."""
        async with self._store.connection() as connection:
            await connection.execute(_SET_PASSWORD, account, password)

    async def set_two_step(self, account: int, secret: bytes | None, step: int = 0, keep: bytes = b"") -> None:
        """Turn the second step on with a secret, whose code of `step` is used up, or off (None).

        Ends all sessions but the one of the hash `keep`, and tickets: they were made when one step was enough.
        """
        sealed = self._vault.seal("", _row(account), secret) if secret is not None else None
        async with self._store.connection() as connection, connection.transaction():
            await connection.execute(_SET_TWO_STEP, account, sealed, step)
            await connection.execute(_END_ALL, account, keep)
            await connection.execute(_VOID_TICKETS, account)

    async def take_code(self, account: int, step: int) -> bool:
        """Use the code of a time step up; False when it, or a later one, was used before."""
        async with self._store.connection() as connection:
            return await connection.fetchval(_TAKE_CODE, account, step) is not None

    async def set_locale(self, account: int, locale: str) -> None:
        """Choose the language of an account: zh-CN, en, or that of the browser (empty)."""
        if locale not in LOCALES:
            raise ValueError(f"no language: {locale!r}")
        async with self._store.connection() as connection:
            await connection.execute(_SET_LOCALE, account, locale)

    def _credentials(self, row: "asyncpg.Record | None") -> Credentials | None:
        if row is None:
            return None
        account, name, password, sealed, disabled = row
        secret = self._vault.open("", _row(account), sealed) if sealed is not None else None
        return Credentials(account, name, password, secret, disabled)


def _row(account: int) -> str:
    return f"account {account}"


async def _refuse_last_owner(connection: Connection, tenant: str, account: int) -> None:
    owners = {row[0] for row in await connection.fetch(_OWNERS, tenant)}
    if owners == {account}:
        raise AccountRefused("last_owner", "nobody else is an owner; make somebody else one first")


async def _end_everything(connection: Connection, account: int, keep: bytes = b"") -> None:
    await connection.execute(_END_ALL, account, keep)
    await connection.execute(_FORGET_DEVICES, account)
    await connection.execute(_VOID_TICKETS, account)
