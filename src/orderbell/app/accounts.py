"""Accounts: the door of the site, and accounts from the command line."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from msgspec import Struct

from orderbell.app.clock import Clock, system_clock
from orderbell.app.database import open_database, open_store
from orderbell.core.turn import Shelf
from orderbell.errors import AccountRefused
from orderbell.playbooks import load_shelf
from orderbell.settings import Settings
from orderbell.store.accounts import Account, Accounts, Listed, Role
from orderbell.store.postgres import Store
from orderbell.store.sessions import Sessions
from orderbell.store.tenants import add_tenant
from orderbell.store.throttle import Throttle
from orderbell.store.trail import SYSTEM, Trail
from orderbell.web.account.door import Door
from orderbell.web.account.passwords import Passwords, breached_in


def open_door(store: Store, settings: Settings, shelf_of: Callable[[str], Shelf], now: Clock = system_clock) -> Door:
    """Make the door of a site.

    `now` is the clock on the wall, also where orders live by another one: sessions and codes are of real people.
    SettingsInvalid where the list of stolen passwords cannot be read.
    """
    accounts = Accounts(store)

    async def open_shop(tenant: str) -> None:
        await add_tenant(store.pool, tenant, shelf_of(tenant))

    return Door(
        accounts=accounts, sessions=Sessions(store, now), throttle=Throttle(store, now), trail=Trail(store, now),
        passwords=Passwords(breached_in(settings.breached_passwords)), now=now, open_shop=open_shop,
        tenants=accounts.all_tenants,
        public_url=settings.public_url, trusted_hops=settings.trusted_hops,
    )  # fmt: skip


async def first_run_path(store: Store, now: Clock = system_clock) -> str | None:
    """Where the first account is made, with a new token that voids earlier ones; None when there is an account."""
    token = await Sessions(store, now).make_setup_token()
    return f"/setup?token={token}" if token is not None else None


async def make_ticket(
    store: Store, tenant: str, name: str, *, role: Role = "owner", lasts: timedelta = timedelta(days=1),
    now: Clock = system_clock,
) -> str:  # fmt: skip
    """Make a path that signs somebody in, once and without a password; the account is made when it is new."""
    accounts = Accounts(store)
    found = await accounts.find(name)
    if found is None:
        account = await accounts.add(tenant, name, role, now())
    else:
        account = found.account
        await accounts.join(tenant, account, role, now())
    return f"/enter/{await Sessions(store, now).make_ticket(account, lasts)}"


class Clerk:
    """What the command line does to accounts; every change is in the trails of the tenants that it touches."""

    def __init__(self, store: Store, settings: Settings, now: Clock = system_clock) -> None:
        self._store, self._settings, self._now = store, settings, now
        self._accounts, self._sessions, self._trail = Accounts(store), Sessions(store, now), Trail(store, now)

    async def add(self, name: str, tenant: str, role: Role, lasts: timedelta) -> str:
        """Give somebody a role in a tenant, who is added when new; a link for whoever has no account yet, else empty.

        Raises:
            AccountRefused: It is no name.
        """
        if tenant not in await self._accounts.all_tenants():
            await add_tenant(self._store.pool, tenant, load_shelf(self._settings.playbooks_dir))
        async with self._trail.together():
            await self._trail.write(tenant, SYSTEM, "user.invite", name, {"role": role})
            found = await self._accounts.find(name)
            if found is not None:
                await self._accounts.join(tenant, found.account, role, self._now())
                return ""
            return await self._link(await self._accounts.add(tenant, name, role, self._now()), lasts)

    async def list(self) -> list[Listed]:
        """All accounts of the installation."""
        return await self._accounts.all()

    async def set_role(self, name: str, tenant: str, role: Role) -> None:
        """Change somebody's role.

        Raises:
            AccountRefused: There is no such account in the tenant, or it is the last owner.
        """
        found = await self._find(name)
        async with self._trail.together():
            if not await self._accounts.set_role(tenant, found.account, role):
                raise AccountRefused("unknown", f"{name} does not work for {tenant}; `orderbell account add` lets them")
            await self._trail.write(tenant, SYSTEM, "user.role", found.name, {"role": role})

    async def set_disabled(self, name: str, *, disabled: bool) -> None:
        """End an account everywhere, or let it in again.

        Raises:
            AccountRefused: There is no such account.
        """
        found = await self._find(name)
        async with self._trail.together():
            await self._accounts.set_disabled(found.account, self._now() if disabled else None)
            await self._tell_all(found, "user.disable" if disabled else "user.enable")

    async def link(self, name: str, lasts: timedelta, *, reset: bool = False) -> str:
        """Make a link that signs somebody in once; a `reset` first takes password, second step and sessions away.

        Raises:
            AccountRefused: There is no such account, or it is disabled.
        """
        found = await self._find(name)
        if found.disabled_at is not None:
            raise AccountRefused(
                "unknown", f"{name} is disabled; `orderbell account disable --undo` lets them in again"
            )
        async with self._trail.together():
            if reset:
                await self._accounts.set_password(found.account, "")
                await self._accounts.set_two_step(found.account, None)
            await self._tell_all(found, "user.reset" if reset else "user.link")
            return await self._link(found.account, lasts)

    async def _find(self, name: str) -> Account:
        found = await self._accounts.find(name)
        if found is None:
            raise AccountRefused("unknown", f"there is no account {name}; `orderbell account list` shows them")
        return found

    async def _link(self, account: int, lasts: timedelta) -> str:
        base = self._settings.public_url.rstrip("/") or f"http://{self._settings.host}:{self._settings.port}"
        return f"{base}/enter/{await self._sessions.make_ticket(account, lasts)}"

    async def _tell_all(self, account: Account, action: str) -> None:
        for tenant in await self._accounts.tenants_of(account.account):
            await self._trail.write(tenant, SYSTEM, action, account.name)


class Shown(Struct, frozen=True):
    """An account as the command line prints it."""

    name: str
    roles: list[str]
    state: str


def shown(account: Listed) -> Shown:
    """How an account stands, in a word."""
    if account.disabled_at is not None:
        state = "disabled"
    elif not account.has_password:
        state = "no password yet"
    else:
        state = "password and second step" if account.two_step else "password"
    return Shown(account.name, account.roles, state)


@asynccontextmanager
async def open_clerk(settings: Settings) -> AsyncIterator[Clerk]:
    """Open the installation's database for changes to accounts."""
    async with open_database(settings) as dsn, open_store(dsn, settings, 2) as store:
        yield Clerk(store, settings)
