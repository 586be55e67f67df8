"""What the browser looks at: a whole platform with orders of the three playbooks, and somebody of each role.

The orders lived through three days on a virtual clock that ends now, so every time on the pages is one that the
production code has made, and nothing had to be waited for.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from orderbell.app.accounts import make_ticket
from orderbell.app.platform import Platform, open_platform
from orderbell.app.shop import Story, tell_stories
from orderbell.app.virtual import VirtualHost
from orderbell.channels.sandbox import SandboxChannel
from orderbell.core.events import Event, parse_event
from orderbell.core.turn import Shelf
from orderbell.playbooks import load_shelf
from orderbell.sandbox.server import running
from orderbell.settings import Settings
from orderbell.store.accounts import Accounts, Role
from orderbell.store.keys import create_key
from orderbell.store.postgres import Store
from orderbell.store.tenants import add_tenant
from orderbell.store.tracking import Tracking
from orderbell.web.account.passwords import Passwords
from tests.database import VAULT

TENANT: Final = "acme"
SECRET: Final = bytes(range(32)).hex()  # that of the tests' vault
PASSWORD: Final = "a long password for tests"
LIVED: Final = timedelta(days=3)
STEP: Final = timedelta(hours=1)
GAP: Final = timedelta(minutes=180)
BUSY: Final = timedelta(minutes=100)
BUSY_GAP: Final = timedelta(minutes=10)
STAFF: Final[Mapping[str, Role]] = {"vera": "viewer", "ada": "agent", "otto": "operator", "olga": "owner"}
"""Names by role: viewer, agent, operator, owner."""


@dataclass
class Premises:
    """What is there: where it runs, what the orders are about, and a key of the API."""

    platform: Platform
    key: str
    stories: list[Story] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where the site is."""
        return self.platform.url

    @property
    def store(self) -> Store:
        """The database."""
        return self.platform.store

    async def ticket(self, name: str) -> str:
        """The path of a link that signs one of the staff in, once: no throttle, and no password to be hashed."""
        return await make_ticket(self.store, TENANT, name, role=STAFF[name])

    async def tell(self, order_no: str, *events: tuple[str, dict[str, Any]]) -> None:
        """Bring events in as a shop does: types with their data."""
        told = [
            {"id": f"{order_no}/{place}", "source": "browser", "subject": order_no, "type": kind, "data": data}
            for place, (kind, data) in enumerate(events)
        ]
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=30) as http:
            answer = await http.post("/v1/events", json=told, headers={"authorization": f"Bearer {self.key}"})
        assert answer.json()["accepted"] == len(events), answer.text

    async def page_of(self, order_no: str) -> str:
        """The path of the customer's page of an order."""
        return f"/t/{await Tracking(self.store).token_for(TENANT, order_no, datetime.now(UTC))}"

    async def order_with(self, anomaly: str = "", playbook: str = "") -> str:
        """An order in which something opened, or any of a playbook; the newest."""
        query = (
            "SELECT o.order_no FROM orders o WHERE o.tenant = $1 AND ($3 = '' OR o.playbook = $3) AND ($2 = '' OR"
            " EXISTS (SELECT FROM anomaly a WHERE a.tenant = o.tenant AND a.order_no = o.order_no AND a.name = $2))"
            " AND EXISTS (SELECT FROM message m WHERE m.tenant = o.tenant AND m.order_no = o.order_no)"
            " ORDER BY opened_at DESC LIMIT 1"
        )
        found: str | None = await self.store.pool.fetchval(query, TENANT, anomaly, playbook)
        assert found is not None, (anomaly, playbook)
        return found


@contextlib.asynccontextmanager
async def open_premises(dsn: str, folder: Path) -> AsyncIterator[Premises]:
    """Let the orders live, then open the platform on what became of them."""
    store = await Store.open(dsn, VAULT)
    shelf = load_shelf("")
    now = datetime.now(UTC)
    try:
        await add_tenant(store.pool, TENANT, shelf)
        key = await create_key(store, TENANT)
        stories = await _live(store, shelf, now, folder)
        await _hire(store, now)
    finally:
        await store.close()
    settings = Settings(database_url=dsn, data_dir=str(folder), secret_key=SECRET, port=0, sandbox_port=0)
    async with open_platform(settings) as platform:
        yield Premises(platform, key, stories)


async def _live(store: Store, shelf: Shelf, now: datetime, folder: Path) -> list[Story]:
    """Tell the stories of three days, moment by moment."""
    start = now - LIVED
    moment = start
    async with running(folder / "past.jsonl", clock=lambda: moment) as url:
        channel = SandboxChannel(url)
        host = VirtualHost(store, {TENANT: shelf}, [channel], start=start)
        stories: list[Story] = []
        events: list[Event] = []
        for story in _stories(start, now):
            stories.append(story)
            events += [event for event in map(_event_of, _beats(story)) if event.received_at < now]
        events.sort(key=lambda event: (event.received_at, event.id))
        while moment < now:
            moment = min(moment + STEP, now)
            due = [event for event in events if event.received_at <= moment]
            del events[: len(due)]
            if due:
                await host.feed(due)
            await host.advance(moment)
        await host.close()
        await channel.close()
    return stories


def _stories(start: datetime, now: datetime) -> Iterator[Story]:
    """Orders of three days, and more of the last two hours, so that something goes on and something is wrong."""
    told = tell_stories(7, start, GAP)
    yield from takewhile(lambda story: story.placed_at < now, told)
    told = tell_stories(3, now - BUSY, BUSY_GAP)
    for story in takewhile(lambda story: story.placed_at < now, told):
        yield msgspec.structs.replace(story, order_no=f"{story.order_no[0]}2{story.order_no[2:]}")


def _beats(story: Story) -> list[tuple[str, datetime, dict[str, object]]]:
    return [
        (
            f"{story.order_no}/{index:03d}",
            story.placed_at + beat.after,
            {"type": beat.type, "subject": story.order_no, "playbook": story.playbook, "data": beat.data},
        )
        for index, beat in enumerate(story.beats)
    ]


def _event_of(beat: tuple[str, datetime, dict[str, object]]) -> Event:
    name, at, fields = beat
    wire = {"id": name, "source": "shop", "time": at, **fields}
    event = parse_event(msgspec.json.encode(wire), TENANT, at)
    assert isinstance(event, Event), event
    return event


async def _hire(store: Store, now: datetime) -> None:
    accounts = Accounts(store)
    hashed = await Passwords().hash(PASSWORD)
    for name, role in STAFF.items():
        account = await accounts.add(TENANT, name, role, now)
        await accounts.set_password(account, hashed)
