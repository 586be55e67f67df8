"""Looking at sending and steering it from the command line: halted or not, what waits, and going on after a restore."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from orderbell.app.clock import system_clock
from orderbell.app.database import open_database, open_store
from orderbell.app.providers import read_providers
from orderbell.channels.sandbox import NAME as SANDBOX
from orderbell.channels.sandbox import SandboxChannel
from orderbell.dispatch.patience import patience_of
from orderbell.dispatch.reconciling import Progress, Reconciled, reconcile
from orderbell.dispatch.routes import Routes
from orderbell.errors import OrderBellError
from orderbell.playbooks import load_shelf
from orderbell.settings import Settings
from orderbell.store.ledger import INBOX, Backlog, Ledger, Standing
from orderbell.store.postgres import Store
from orderbell.store.sharing import SharedByAll
from orderbell.store.templates import Templates
from orderbell.store.tenants import read_shelves

CONNECTIONS = 4
RESTORED = "restored"
"""The reason of a halt that a dispatcher made by itself."""


class ReasonTaken(OrderBellError):
    """A halt may not be given this reason."""


class ProvidersMissing(OrderBellError):
    """Providers that messages went by cannot be asked, because the settings do not name them."""


class State(Struct, frozen=True):
    """How sending stands: halted or not, why and since when, what waits, and how the workers find their providers."""

    halted: bool
    reason: str
    since: datetime | None
    backlog: Backlog
    providers: list[Standing]


def why_halted(reason: str) -> str:
    """The reason of a halt in words."""
    return "this database was restored from a backup" if reason == RESTORED else reason


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Store]:
    async with open_database(settings) as dsn, open_store(dsn, settings, CONNECTIONS) as store:
        yield store


async def look(settings: Settings) -> State:
    """How sending stands."""
    async with _opened(settings) as store:
        ledger = Ledger(store)
        return State(*await ledger.halted(), await ledger.backlog(system_clock()), await ledger.standings())


async def halt(settings: Settings, reason: str) -> State:
    """Stop sending on every worker: nothing is lost, everything waits. What is halted already keeps its time.

    Raises:
        ReasonTaken: Only a restore may be the reason that says so.
    """
    if reason.strip() == RESTORED:
        raise ReasonTaken(f"{RESTORED!r} is what OrderBell itself says after a restore; write it in other words")
    async with _opened(settings) as store:
        await Ledger(store).halt(reason, system_clock())
    return await look(settings)


async def resume(
    settings: Settings,
    *,
    anyway: bool = False,
    progress: Progress = lambda _done, _all: None,
    say: Callable[[str], None] = lambda _: None,
) -> Reconciled | None:
    """Let sending go on; after a restore only once it is known what had been sent.

    Returns what was found out, None where there was nothing to find out. Where providers could not be asked about
    some messages sending stays halted, unless it is to go on `anyway`: then these messages stay unknown.
    """
    now = system_clock()
    async with _opened(settings) as store, AsyncExitStack() as stack:
        ledger = Ledger(store)
        halted, reason, _ = await ledger.halted()
        if not halted or reason != RESTORED:
            await ledger.resume()
            return None
        say("asking the providers what had been sent")
        routes = await _routes(stack, store, settings, now)
        missing = await ledger.used() - routes.channels.keys() - {INBOX, SANDBOX}
        if missing and not anyway:
            raise ProvidersMissing(
                f"messages went by {', '.join(sorted(missing))}, which these settings do not name: set "
                "ORDERBELL_PROVIDERS_FILE as for `orderbell up`, or nobody can be asked what had been sent. If they "
                "are not used any more: --anyway"
            )
        shelf = load_shelf(settings.playbooks_dir)
        shelves = await read_shelves(store.pool, shelf.playbooks)
        patience = patience_of(routes.open, await ledger.paces())
        found = await reconcile(ledger, shelves, routes, patience, now, progress=progress)
        if anyway or not found.unasked:
            await ledger.resume()
        return found


async def _routes(stack: AsyncExitStack, store: Store, settings: Settings, now: datetime) -> Routes:
    if settings.providers_file:
        specs = read_providers(Path(settings.providers_file))
        channels = [one.open(system_clock, SharedByAll(store, one.name, system_clock)) for one in specs]
        routes = Routes(channels, now, {one.name: one.terms for one in specs})
    else:
        url = settings.sandbox_url or f"http://127.0.0.1:{settings.sandbox_port}"
        routes = Routes([SandboxChannel(url)], now)
    for channel in routes.channels.values():
        stack.push_async_callback(channel.close)
    routes.set_templates(await Templates(store).approved())
    return routes
