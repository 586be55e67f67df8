"""A whole OrderBell in one process, or the half that a process runs: web (the way in), worker (the way out)."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

from orderbell.app.activation import Following
from orderbell.app.clock import Clock, system_clock
from orderbell.app.customer_pages import CustomerPages, links_of
from orderbell.app.database import open_database, open_store
from orderbell.app.front import Front, front_routes
from orderbell.app.hearing import Hearing, Submit
from orderbell.app.measuring import metrics_listener, metrics_of
from orderbell.app.providers import ProviderSpec, read_providers
from orderbell.app.repeating import repeat
from orderbell.app.staff import open_alerts, tell_of
from orderbell.app.tracing import open_traces
from orderbell.app.webhooks import open_client, open_webhooks, tell_of_hook
from orderbell.channels.protocol import Channel, ChannelUnavailable
from orderbell.channels.sandbox import SandboxChannel
from orderbell.core.events import Answer, Event
from orderbell.core.model import Message
from orderbell.core.turn import Shelf
from orderbell.dispatch import Dispatcher
from orderbell.dispatch.alerts import Alerts
from orderbell.dispatch.hooks import Webhooks
from orderbell.dispatch.receiving import Receiver
from orderbell.dispatch.routes import Routes
from orderbell.engine import Intake, Timers
from orderbell.errors import OrderBellError, SettingsInvalid
from orderbell.observe import traces
from orderbell.playbooks import load_shelf
from orderbell.sandbox.server import running
from orderbell.serving import bind, serving
from orderbell.settings import Settings
from orderbell.sources.callbacks import Caller, callbacks_route
from orderbell.store import embedded
from orderbell.store.hooks import watch as watch_hooks
from orderbell.store.idempotency import forget_answers
from orderbell.store.keys import create_key
from orderbell.store.ledger import Ledger
from orderbell.store.links import Links
from orderbell.store.people import People
from orderbell.store.postgres import Store
from orderbell.store.pulse import Rollup
from orderbell.store.sharing import SharedByAll
from orderbell.store.templates import Templates
from orderbell.store.tenants import add_tenant
from orderbell.store.unsubscribe import unsubscribe_token
from orderbell.web.console.live import Feed
from orderbell.web.metrics import Metrics, counted, metrics_routes
from orderbell.web.site import create_site
from orderbell.web.tracing import traced

TENANTS_EVERY_S = 2.0
FORGET_EVERY_S = 600.0
"""How often old answers to requests with an `Idempotency-Key` are thrown away."""


@dataclass
class Platform:
    """What runs, and where: `url` is empty without web, `sandbox_url` without worker."""

    settings: Settings
    store: Store
    following: Following
    shelf: Shelf
    url: str = ""
    sandbox_url: str = ""
    metrics_url: str = ""
    intake: Intake | None = None
    dispatcher: Dispatcher | None = None
    routes: Routes | None = None
    providers: Sequence[ProviderSpec] = ()
    channels: dict[str, Channel] = field(default_factory=dict)

    @property
    def shelves(self) -> dict[str, Shelf]:
        """The playbooks that count for each tenant: one mapping, in which new shelves take the place of old ones."""
        return self.following.shelves

    async def add_tenant(self, tenant: str, shelf: Shelf | None = None) -> str:
        """Add a tenant, known from now on, and make an API key for it; the key is shown only here."""
        await add_tenant(self.store.pool, tenant, shelf or self.shelf)
        self.following.add(tenant, shelf)
        return await create_key(self.store, tenant)


@asynccontextmanager
async def open_platform(
    settings: Settings,
    *,
    now: Clock = system_clock,
    web: bool = True,
    worker: bool = True,
    channels: Sequence[Channel] | None = None,
    patience: timedelta | None = None,
) -> AsyncIterator[Platform]:
    """Open the database and run what is asked for until the block ends.

    `channels` replaces the sandbox; `patience` is how long a receipt is waited for, None to learn it. Errors of the
    start (DatabaseUnavailable, SettingsInvalid, PlaybookInvalid, VaultSealed) say what to do; those of later life are
    logged, waited out, and tried again.
    """
    if web and not settings.share_port:
        _check_port(settings)
    async with AsyncExitStack() as stack:
        role = "web" if not worker else "worker" if not web else "all"
        await stack.enter_async_context(open_traces(settings, role))
        dsn = await stack.enter_async_context(open_database(settings))
        store = await stack.enter_async_context(open_store(dsn, settings, settings.database_connections))
        shelf = load_shelf(settings.playbooks_dir)
        platform = Platform(settings, store, Following(store.pool, shelf), shelf)
        await platform.following.refresh()
        await watch_hooks(store)
        news = repeat(partial(_look_for_news, platform), TENANTS_EVERY_S, "news of tenants")
        await stack.enter_async_context(_background(news))
        await stack.enter_async_context(_until_closed(Rollup(store, now)))
        if settings.providers_file and channels is None:
            _open_providers(stack, platform, now)
        metrics = metrics_of(platform, now)
        if worker:
            await _start_worker(stack, platform, now, channels, patience)
        if web:
            await _start_web(stack, platform, now, metrics)
        if settings.metrics_port:
            await _listen_for_metrics(stack, platform, metrics)
        yield platform


async def _start_worker(
    stack: AsyncExitStack,
    platform: Platform,
    now: Clock,
    channels: Sequence[Channel] | None,
    patience: timedelta | None,
) -> None:
    settings = platform.settings
    if channels is None and not platform.providers:
        platform.sandbox_url = settings.sandbox_url or await stack.enter_async_context(_own_sandbox(settings))
        sandbox = SandboxChannel(platform.sandbox_url)
        stack.push_async_callback(sandbox.close)
        channels = [sandbox]
    timers = Timers(platform.store, platform.shelves, now=now)
    store, shelves = platform.store, platform.shelves
    report = partial(store.turn, shelves)
    terms = {one.name: one.terms for one in platform.providers}
    staff = [one for one in platform.providers if one.kind == "staff"]
    alerts = [open_alerts(one, platform.channels[one.name], store, lambda: platform.shelves, now) for one in staff]
    routes = platform.routes = Routes(
        platform.channels.values() if channels is None else channels, now(), terms,
        lambda change: tell_of(change, alerts, staff, now),
    )  # fmt: skip
    for one in alerts:
        await stack.enter_async_context(_until_closed(one))
    platform.dispatcher = Dispatcher(
        Ledger(store), shelves, routes, now=now, patience=patience, report=report,
        templates=Templates(store).approved, inbound=_hearing(platform, report, now).inbound,
        unsubscribe=partial(_unsubscribe_url, settings, store) if settings.public_url else None,
        links=partial(links_of, Links(store), settings.public_url, now),
    )  # fmt: skip
    await stack.enter_async_context(_until_closed(platform.dispatcher))
    await stack.enter_async_context(_until_closed(timers))
    client = open_client(settings)
    stack.push_async_callback(client.close)
    webhooks = open_webhooks(store, client, now, lambda off: tell_of_hook(off, alerts, staff, now))
    await stack.enter_async_context(_until_closed(webhooks))


async def _start_web(stack: AsyncExitStack, platform: Platform, now: Clock, metrics: Metrics) -> None:
    store, settings = platform.store, platform.settings
    intake = platform.intake = Intake(store, platform.shelves)
    await stack.enter_async_context(_until_closed(intake))

    async def submit(events: list[Event]) -> list[Answer]:
        if any(event.tenant not in platform.shelves for event in events):
            await platform.following.refresh()  # one that was added a moment ago
        return await intake.submit(events)

    async def shelf_of(tenant: str) -> Shelf:
        if tenant not in platform.shelves:
            await platform.following.refresh()
        return platform.shelves.get(tenant, platform.shelf)

    front = Front(settings, store, platform.following, shelf_of, submit, now, platform.providers, platform.channels)
    stack.push_async_callback(front.close)
    callers = {one.name: Caller(platform.channels[one.name], one.callback_token) for one in platform.providers}
    hearing = _hearing(platform, submit, now)
    callbacks = callbacks_route(callers, hearing.keep, settings.public_url)
    measuring = metrics_routes(metrics, settings.metrics_token)
    for one in platform.providers:
        await _listen(stack, one, platform.channels[one.name], hearing)
    site = counted(create_site([callbacks, *front_routes(front), *measuring], partial(missing, store), front.hall()))
    if traces.active() is not None:
        site = traced(site)
    forgetting = repeat(lambda: forget_answers(store, now()), FORGET_EVERY_S, "answers to be forgotten")
    await stack.enter_async_context(_background(forgetting))
    try:
        serve = serving(site, host=settings.host, port=settings.port, shared=settings.share_port)
        platform.url = await stack.enter_async_context(serve)
    except OSError as problem:
        raise _port_taken("port", settings.host, settings.port, problem) from None
    await stack.enter_async_context(_until_closed(front.feed))
    await stack.enter_async_context(_until_closed(front.pages))  # ends before the server waits for open streams


async def missing(store: Store) -> Sequence[str]:
    """What a process lacks to do its work now; empty when nothing."""
    try:
        await store.next_due_at()
    except OrderBellError:
        return ["the database does not answer"]
    return []


async def _listen_for_metrics(stack: AsyncExitStack, platform: Platform, metrics: Metrics) -> None:
    settings = platform.settings
    try:
        listener = metrics_listener(metrics, settings, partial(missing, platform.store))
        platform.metrics_url = await stack.enter_async_context(listener)
    except OSError as problem:
        raise _port_taken("metrics_port", settings.metrics_host, settings.metrics_port, problem) from None


def _open_providers(stack: AsyncExitStack, platform: Platform, now: Clock) -> None:
    """Make the channels that the file of providers names; both halves need them, to send and to hear."""
    platform.providers = read_providers(Path(platform.settings.providers_file))
    for spec in platform.providers:
        channel = spec.open(now, SharedByAll(platform.store, spec.name, now))
        stack.push_async_callback(channel.close)
        platform.channels[spec.name] = channel


async def _listen(stack: AsyncExitStack, spec: ProviderSpec, channel: Channel, hearing: Hearing) -> None:
    try:
        await stack.enter_async_context(channel.listening(partial(hearing.keep, spec.name)))
    except OSError as problem:
        words = f"the provider {spec.name} cannot listen where it should ({problem.strerror}); see docs/channels.md"
        raise SettingsInvalid(words) from None


def _unsubscribe_url(settings: Settings, store: Store, message: Message) -> str:
    token = unsubscribe_token(store.vault.index_key, message.tenant, message.contact)
    return f"{settings.public_url.rstrip('/')}/u/{token}"


def _hearing(platform: Platform, submit: Submit, now: Clock) -> Hearing:
    store = platform.store
    receiver = Receiver(Ledger(store), now, submit)
    return Hearing(
        receiver, Templates(store), partial(People, store), shelves=platform.shelves, submit=submit, now=now,
        tenants_of={one.name: one.terms.tenants for one in platform.providers},
        shared_of=lambda name: SharedByAll(store, name, now),
    )  # fmt: skip


@asynccontextmanager
async def _own_sandbox(settings: Settings) -> AsyncIterator[str]:
    folder = Path(settings.data_dir) if settings.data_dir else embedded.default_data_dir().parent
    folder.mkdir(parents=True, exist_ok=True)
    other = f"http://127.0.0.1:{settings.sandbox_port}"
    if settings.sandbox_port and await _answers(other):  # that of another worker
        yield other
        return
    try:
        async with running(folder / "sandbox.jsonl", port=settings.sandbox_port) as url:
            yield url
    except OSError as problem:
        raise _port_taken("sandbox_port", "127.0.0.1", settings.sandbox_port, problem) from None


async def _answers(url: str) -> bool:
    channel = SandboxChannel(url)
    try:
        await channel.receipts(1)
    except ChannelUnavailable:
        return False
    finally:
        await channel.close()
    return True


def _check_port(settings: Settings) -> None:
    """Before anything is started: a port that is taken should cost nobody more than a line."""
    try:
        bind(settings.host, settings.port).close()
    except OSError as problem:
        raise _port_taken("port", settings.host, settings.port, problem) from None


def _port_taken(setting: str, host: str, port: int, problem: OSError) -> SettingsInvalid:
    words = f"{host}:{port} cannot be listened on ({problem.strerror}); choose another with ORDERBELL_{setting.upper()}"
    return SettingsInvalid(f"{words}, 0 takes any free one")


@asynccontextmanager
async def _until_closed(
    part: Intake | Timers | Dispatcher | Alerts | Webhooks | Rollup | CustomerPages | Feed,
) -> AsyncIterator[None]:
    task = asyncio.create_task(part.run())
    try:
        yield
    finally:
        await part.close()
        await task


@asynccontextmanager
async def _background(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _look_for_news(platform: Platform) -> None:
    """Know of a tenant added, a playbook activated, or a webhook made by another process."""
    await platform.following.refresh()
    await watch_hooks(platform.store)
