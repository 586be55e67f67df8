"""The demo: a whole OrderBell in one process, and a simulated shop that tells it over HTTP what happens to its orders.

A link that signs its owner in once opens the console, by itself where there is a desktop.

It has a database of its own in a folder of its own, which goes when the demo ends: an installation is never touched.
"""

import asyncio
import contextlib
import fcntl
import heapq
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import webbrowser
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
from msgspec import Struct
from rich.console import Console

from orderbell.app.accounts import make_ticket
from orderbell.app.clock import Clock, quick_clock
from orderbell.app.feed import Feed, Outcomes, Screen, WatchedChannel, show_outcomes
from orderbell.app.platform import Platform, open_platform
from orderbell.app.shop import SHOP_ZONE, Story, tell_stories
from orderbell.channels.sandbox import SandboxChannel
from orderbell.client import Client
from orderbell.errors import SettingsInvalid
from orderbell.observe import set_up_logging
from orderbell.sandbox.server import running
from orderbell.settings import Settings
from orderbell.store import embedded
from orderbell.store.accounts import Accounts
from orderbell.store.postgres import Store
from orderbell.store.tracking import Tracking
from orderbell.store.watching import Watch
from orderbell.web.account.passwords import Passwords

TENANT = "demo"
SOURCE = "demo-shop"
OPENS_AT_HOUR = 9
LOOK_EVERY_S = 0.25
PAUSE_MAX_S = 0.1
RECEIPT_S_MAX = 10.0
OWNER = "demo"
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
LAST_WORDS_S = 0.5
"""How long messages that are on their way may still be accepted after the shop has closed."""


class DemoOptions(Struct, frozen=True, kw_only=True):
    """What the demo may be told; `seconds` None: until Ctrl-C. `orders_per_minute` are real minutes."""

    seconds: float | None = None
    speed: float = 1800
    seed: int = 1
    orders_per_minute: float = 30


class ShopClock:
    """Stands at the hour at which the shop opens until `start`, then runs `speed` times as fast as the real one."""

    def __init__(self, opens_at: datetime, speed: float) -> None:
        self.opens_at, self.speed = opens_at, speed
        self._running: Clock | None = None

    def __call__(self) -> datetime:
        """Tell the shop's time, as aware UTC."""
        return self._running() if self._running is not None else self.opens_at

    def start(self) -> None:
        """Let the time run."""
        self._running = quick_clock(self.opens_at, self.speed)


async def run_demo(options: DemoOptions, settings: Settings, console: Console) -> Outcomes:
    """Run the demo until its time is up or Ctrl-C is pressed, and show its summary.

    Errors of the start (DatabaseUnavailable and the like) say what to do. A second Ctrl-C ends it at once.
    """
    set_up_logging("ERROR")
    today = datetime.now(UTC).astimezone(SHOP_ZONE)
    opens_at = today.replace(hour=OPENS_AT_HOUR, minute=0, second=0, microsecond=0).astimezone(UTC)
    clock = ShopClock(opens_at, options.speed)
    stop = asyncio.Event()
    with _stopped_by_signals(stop):
        async with contextlib.AsyncExitStack() as stack:
            with _waiting(console, "Starting PostgreSQL, the sandbox provider, the API and the worker …"):
                shop = await stack.enter_async_context(_opened(settings, clock, console))
            outcomes = await _play(shop, options, console, stop)
            with _waiting(console, "Stopping …"):
                await stack.aclose()
    show_outcomes(console, outcomes)
    return outcomes


@contextlib.contextmanager
def _waiting(console: Console, words: str) -> Iterator[None]:
    if not console.is_terminal:
        console.print(words, highlight=False)
        yield
        return
    with console.status(words):
        yield


@contextlib.contextmanager
def _stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    # The start is waited for: a server that comes up a moment after we went would have nobody to stop it.
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, on_signal)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


@dataclass
class _Shop:
    """What the demo plays on."""

    platform: Platform
    client: Client
    watched: WatchedChannel
    clock: ShopClock
    sandbox_url: str


@contextlib.asynccontextmanager
async def _opened(settings: Settings, clock: ShopClock, console: Console) -> AsyncIterator[_Shop]:
    async with contextlib.AsyncExitStack() as stack:
        home = await asyncio.to_thread(demo_home, _parent(settings))
        stack.callback(home.remove)
        port = free_port(settings.host, settings.port, console, "API")
        sandbox_port = free_port("127.0.0.1", settings.sandbox_port, console, "sandbox")
        own = msgspec.structs.replace(
            settings, database_url="", sandbox_url="", data_dir=str(home.folder), port=port, sandbox_port=sandbox_port
        )
        ledger = home.folder / "sandbox.jsonl"
        sandbox_url = await stack.enter_async_context(running(ledger, port=sandbox_port, clock=clock))
        channel = SandboxChannel(sandbox_url)
        stack.push_async_callback(channel.close)
        watched = WatchedChannel(channel, clock)
        # Receipts come at the pace of this machine, not of the shop's clock.
        patience = timedelta(seconds=RECEIPT_S_MAX * max(1.0, clock.speed))
        try:
            platform = await stack.enter_async_context(
                open_platform(own, now=clock, channels=[watched], patience=patience)
            )
        except SettingsInvalid:  # another program took the port in the meantime
            own = msgspec.structs.replace(own, port=0)
            platform = await stack.enter_async_context(
                open_platform(own, now=clock, channels=[watched], patience=patience)
            )
        client = Client(platform.url, key=await platform.add_tenant(TENANT), source=SOURCE)
        stack.callback(client.close)
        yield _Shop(platform, client, watched, clock, sandbox_url)


async def _hire_owner(store: Store) -> None:
    """An owner whose password nobody knows, so that the link leads to the console and not to choosing one."""
    accounts = Accounts(store)
    account = await accounts.add(TENANT, OWNER, "owner", datetime.now(UTC))
    await accounts.set_password(account, await Passwords().hash(secrets.token_urlsafe()))


async def _play(shop: _Shop, options: DemoOptions, console: Console, stop: asyncio.Event) -> Outcomes:
    """Open the shop, show what happens, and close it again."""
    feed = Feed(Watch(shop.platform.store, TENANT), shop.platform.shelf, shop.watched, shop.clock, options.speed)
    title = f"OrderBell 叮咚 demo: a second is {_span(options.speed)} here, Ctrl-C ends it"
    url = shop.platform.url
    places = (f"Console   {url}", f"Messages  {shop.sandbox_url}  (the sandbox provider's page)")
    await _hire_owner(shop.platform.store)
    await _open_console(url + await make_ticket(shop.platform.store, TENANT, OWNER), options, console)
    gap = timedelta(seconds=60 / options.orders_per_minute * options.speed)
    stories = tell_stories(options.seed, shop.clock.opens_at, gap)
    shop.clock.start()
    began = monotonic()
    closing = asyncio.Event()
    customer = ""
    telling = asyncio.create_task(_Teller(shop, stories, feed).run(closing))
    with Screen(console, title, places, feed.counters, shop.clock) as screen:
        while not (stop.is_set() or telling.done()):
            elapsed_s = monotonic() - began
            if options.seconds is not None and elapsed_s >= options.seconds:
                break
            screen.show(await feed.read(), elapsed_s)
            if not customer and (customer := await _customer_page(shop, feed.watch)):
                screen.say(f"Customer  {url}{customer}  (what one of them sees)")
            await _pause(stop, LOOK_EVERY_S)
        closing.set()
        await telling
        await asyncio.sleep(LAST_WORDS_S)
        screen.show(await feed.read(), monotonic() - began)
    return await feed.outcomes(monotonic() - began, shop.clock() - shop.clock.opens_at)


async def _open_console(link: str, options: DemoOptions, console: Console) -> None:
    """Say where the console is; a desktop opens it, unless the demo is over in a moment."""
    console.print(f"Console   {link}", markup=False, highlight=False, soft_wrap=True)
    has_desktop = sys.platform == "darwin" or any(os.environ.get(name) for name in DISPLAYS)
    if console.is_terminal and has_desktop and options.seconds is None:
        with contextlib.suppress(webbrowser.Error, OSError):
            await asyncio.to_thread(webbrowser.open, link)


async def _customer_page(shop: _Shop, watch: Watch) -> str:
    """The page of the first order that something went wrong with; empty while there is none."""
    troubled = await watch.anomalies(shop.clock.opens_at)
    if not troubled:
        return ""
    order_no = min(troubled, key=lambda one: one[2])[0]
    return f"/t/{await Tracking(shop.platform.store).token_for(TENANT, order_no, shop.clock())}"


def _span(speed: float) -> str:
    if speed >= 3600:  # noqa: PLR2004 - an hour
        return f"{speed / 3600:g} h"
    return f"{speed / 60:g} min" if speed >= 60 else f"{speed:g} s"  # noqa: PLR2004 - a minute


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


@dataclass
class _Teller:
    """Tells OrderBell by HTTP what happens, each thing when its time has come."""

    shop: _Shop
    stories: Iterator[Story]
    feed: Feed
    _waiting: list[tuple[datetime, str, dict[str, Any]]] = field(default_factory=list)

    async def run(self, closing: asyncio.Event) -> None:
        """Tell until the shop closes."""
        story = next(self.stories)
        while not closing.is_set():
            now = self.shop.clock()
            while story.placed_at <= now:
                self._take(story)
                story = next(self.stories)
            due = []
            while self._waiting and self._waiting[0][0] <= now:
                due.append(heapq.heappop(self._waiting)[2])
            if due:
                await self._tell(due)
            next_at = min(story.placed_at, self._waiting[0][0]) if self._waiting else story.placed_at
            rest_s = (next_at - self.shop.clock()).total_seconds() / self.shop.clock.speed
            await _pause(closing, min(max(rest_s, 0.001), PAUSE_MAX_S))

    def _take(self, story: Story) -> None:
        for index, beat in enumerate(story.beats):
            at, name = story.placed_at + beat.after, f"{story.order_no}/{index:03d}"
            event = self.shop.client.event(
                beat.type, story.order_no, id=name, time=at, playbook=story.playbook, **beat.data
            )
            heapq.heappush(self._waiting, (at, name, event))

    async def _tell(self, events: list[dict[str, Any]]) -> None:
        # In a thread, because the server that answers runs in this one.
        answers = await asyncio.to_thread(self.shop.client.tell_many, events)
        statuses = Counter(answer.status for answer in answers)
        self.feed.counters.event_count += statuses["accepted"]
        self.feed.counters.refused_count += statuses["refused"]


def free_port(host: str, port: int, console: Console, what: str) -> int:
    """The port itself, or 0 (any free one) where somebody else has it, which is said."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            console.print(f"Port {port} is in use; the {what} takes another.", highlight=False)
            return 0
    return port


class DemoHome:
    """The folder of one demo; while it runs, it holds the lock in it."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder, self._lock = folder, lock

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _parent(settings: Settings) -> Path:
    return (Path(settings.data_dir).expanduser() if settings.data_dir else embedded.default_data_dir().parent) / "demo"


def demo_home(parent: Path) -> DemoHome:
    """Make the folder of a demo in `parent`, and clear away what killed demos left there."""
    missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    for made in reversed(missing):
        made.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            made.chmod(0o711)
    for left in parent.glob("run-*"):
        _clear(left)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
    lock = _lock(folder)
    if os.geteuid() == 0:
        folder.chmod(0o711)
    return DemoHome(folder, lock)


def _lock(folder: Path) -> int:
    handle = os.open(folder / "demo.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _clear(folder: Path) -> None:
    try:
        handle = _lock(folder)
    except OSError:
        return  # that demo runs
    try:
        if (folder / "postgres" / "cluster" / "postmaster.pid").exists():
            # Whoever is the last to leave a server stops it, so we join the one that has nobody left.
            embedded.start(folder / "postgres").close()
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)
