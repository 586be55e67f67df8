"""Webhooks for tests: changes as turns leave them, a receiver that verifies, a clock that tests turn."""

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from standardwebhooks import Webhook

from orderbell.channels.guarded import GuardedClient
from orderbell.dispatch.hooks import TurnedOff, Webhooks
from orderbell.sandbox.simulator import Answered, Asked, Simulator
from orderbell.serving import serving
from orderbell.store.changes import ADD_CHANGES, CHANGE_TYPES, change_id
from orderbell.store.hooks import Delivery, Hook, Hooks, Outbox, watch
from orderbell.store.postgres import Store
from orderbell.store.rows import columns

TENANT = "acme"


@dataclass
class Bell:
    """A store with webhooks and the loop that tells them; the clock starts now, since receivers look at the time."""

    store: Store
    clock: "Clock"
    client: GuardedClient
    loop: Webhooks
    off: list[TurnedOff] = field(default_factory=list)
    told: int = 0

    def hooks(self, tenant: str = TENANT) -> Hooks:
        """The webhooks of a tenant."""
        return Hooks(self.store, tenant)

    async def add(self, url: str, types: Sequence[str] = CHANGE_TYPES, tenant: str = TENANT) -> tuple[Hook, str]:
        """Add a webhook."""
        made = await self.hooks(tenant).add(url, types, "", self.clock())
        assert made is not None
        return made

    async def happen(self, *subjects: str, tenant: str = TENANT, kind: str = "order.changed") -> None:
        """Let something change about each of these."""
        rows = []
        for subject in subjects:
            self.told += 1
            data = json.dumps({"order_no": subject, "version": self.told})
            rows.append((tenant, change_id(tenant, kind, subject, self.told), kind, subject, data, self.clock()))
        await self.store.pool.execute(ADD_CHANGES, *columns(rows, 6))

    async def deliveries(self, hook: Hook, tenant: str = TENANT) -> list[Delivery]:
        """What a webhook is told, the oldest first."""
        return (await self.hooks(tenant).deliveries(hook.id, 1000))[::-1]

    async def only(self, hook: Hook) -> Delivery:
        """The only delivery of a webhook."""
        (found,) = await self.deliveries(hook)
        return found

    def another(self) -> Webhooks:
        """The loop of another process."""
        return _loop(self.store, self.client, self.clock, self.off)


class Clock:
    """The wall clock, which tests turn on."""

    def __init__(self) -> None:
        self.turned = timedelta()

    def __call__(self) -> datetime:
        """Tell the time."""
        return datetime.now(UTC) + self.turned

    def turn(self, span: timedelta) -> None:
        """Turn it on."""
        self.turned += span


def _loop(store: Store, client: GuardedClient, clock: Clock, off: list[TurnedOff]) -> Webhooks:
    return Webhooks(Outbox(store), client, now=clock, dice=lambda: 0.5, tell=off.append)


@contextlib.asynccontextmanager
async def ringing(store: Store, *, timeout_s: float = 5) -> AsyncIterator[Bell]:
    """Open it all on a database; hosts of this machine may be called."""
    clock, off = Clock(), list[TurnedOff]()
    client = GuardedClient(
        allow_hosts=["127.0.0.1", "localhost"],
        ports=range(65536),
        connect_timeout_s=min(1, timeout_s / 2),
        timeout_s=timeout_s,
    )
    await watch(store)
    try:
        yield Bell(store, clock, client, _loop(store, client, clock, off), off)
    finally:
        await client.close()


class Scripted(Simulator):
    """A receiver that answers as told, 200 otherwise, and remembers what it was asked, with the status it gave."""

    def __init__(self, *statuses: int) -> None:
        super().__init__()
        self.statuses = list(statuses)
        self.headers: tuple[tuple[str, str], ...] = ()
        self.seen: list[Asked] = []

    async def answer(self, asked: Asked) -> Answered:
        """Answer with the next status."""
        self.seen.append(asked)
        status = self.statuses.pop(0) if self.statuses else 200
        return Answered(status, b"{}", headers=self.headers if status != 200 else ())

    @property
    def ids(self) -> list[str]:
        """The ids of what came, in the order of coming."""
        return [asked.headers["webhook-id"] for asked in self.seen]

    def body(self, number: int = -1) -> dict[str, object]:
        """A body as JSON."""
        read: dict[str, object] = json.loads(self.seen[number].body)
        return read


def is_signed(asked: Asked, *secrets: str) -> bool:
    """Whether there is a signature for each of these secrets, as the reference library makes it, and no other."""
    at = datetime.fromtimestamp(int(asked.headers["webhook-timestamp"]), UTC)
    wanted = [Webhook(one).sign(asked.headers["webhook-id"], at, asked.body.decode()) for one in secrets]
    return asked.headers["webhook-signature"].split(" ") == wanted


@contextlib.asynccontextmanager
async def listening(*statuses: int) -> AsyncIterator[tuple[Scripted, str]]:
    """Let a receiver listen that answers so; gives it and its address."""
    made = Scripted(*statuses)
    async with serving(made, stopping=made.end_waiting) as url:
        yield made, url
        await made.close()
