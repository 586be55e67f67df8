"""OrderBell on PostgreSQL under a virtual clock: the production engine and dispatcher, time as the caller says."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from orderbell.channels.protocol import Channel
from orderbell.core.events import Answer, Event
from orderbell.core.model import Message, Order
from orderbell.core.turn import Key, Shelf
from orderbell.dispatch import Dispatcher
from orderbell.store.ledger import Ledger
from orderbell.store.postgres import Store
from orderbell.store.reading import Reader


class VirtualHost:
    """The same steps as the in-memory host, in the same order: a moment's timers, then what is to be told at it."""

    def __init__(
        self,
        store: Store,
        shelves: Mapping[str, Shelf],
        channels: Sequence[Channel],
        *,
        start: datetime,
        batch: int = 500,
    ) -> None:
        self.store, self.shelves, self._now, self._batch = store, shelves, start, batch
        self.dispatcher = Dispatcher(
            Ledger(store), shelves, channels, now=lambda: self._now, plan_at=lambda due_at: due_at, batch=batch,
            report=self.feed,
        )  # fmt: skip

    async def feed(self, events: Sequence[Event]) -> list[Answer]:
        """Take a batch in, as one turn."""
        return await self.store.turn(self.shelves, events)

    async def advance(self, until: datetime) -> None:
        """Let time pass, moment by moment, up to and including `until`."""
        while True:
            timer_at, queue_at = await self.store.next_due_at(), await self.dispatcher.next_due_at()
            moments = [at for at in (timer_at, queue_at) if at is not None and at <= until]
            if not moments:
                break
            self._now = max(self._now, min(moments))
            while timer_at is not None and timer_at <= self._now:
                await self.store.fire_due(self.shelves, self._now, self._batch)
                timer_at = await self.store.next_due_at()
            while await self.dispatcher.receipts():
                pass
            while await self.dispatcher.step():
                pass
        self._now = max(self._now, until)
        while await self.dispatcher.receipts():
            pass

    async def order(self, key: Key) -> Order | None:
        """The order as it stands."""
        return await Reader(self.store, key[0]).order(key[1])

    async def messages(self) -> list[Message]:
        """Every message of all tenants so far, in the order in which they were told."""
        found = [message for tenant in self.shelves async for message in Reader(self.store, tenant).messages()]
        return sorted(found, key=lambda message: (message.told_at, message.id))

    def key_of(self, tenant: str) -> bytes:
        """The key of the tenant's blind indexes."""
        return self.store.vault.index_key(tenant)

    async def close(self) -> None:
        """Give the dispatcher's lease up."""
        await self.dispatcher.close()
