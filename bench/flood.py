"""What `fairness` puts into the queue beforehand, each notice with the moment at which it is due, and what came of it.

Nothing is fed while the clock runs, so the dispatcher has the processor to itself as far as the machine allows.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from time import perf_counter

import msgspec
from msgspec import Struct

from bench.processes import orderbell
from bench.scratch import Scratch
from bench.seed import until_settled
from bench.stream import SEED, VAULT
from bench.table import percentile
from orderbell.app.clock import system_clock
from orderbell.channels.sandbox import SandboxChannel
from orderbell.core.model import Contact, Notice, derive_id, encode_state
from orderbell.core.playbook import PlaybookSpec, compile_playbook
from orderbell.core.turn import Shelf
from orderbell.core.wording import WordingSpec
from orderbell.dispatch import Dispatcher
from orderbell.sandbox.ledger import Entry
from orderbell.store.ledger import Ledger
from orderbell.store.postgres import Store

LANE_OF = {"paid": 0, "moved": 1, "offer": 2}
AHEAD_S = 2.0
"""From when the queue is filled to the first that falls due: the dispatcher has its first looks behind it."""

POLL_S = 0.2
DRAINED_WITHIN_S = 240
VALID_S = 3600.0

_PLAYBOOK = {
    "name": "lanes", "principal": "buyer", "locale": "en", "timezone": "UTC", "brand": {"en": "Acme"},
    "stages": {"placed": {"says": {"en": "Placed"}, "light": "green"}}, "rules": [],
    "categories": {"transaction": {"mandatory": True}, "parcel": {}, "offers": {"marketing": True}},
    "marketing": {"hours": "00:00-00:00"},
    "notices": {
        "paid": {"to": "buyer", "category": "transaction", "lane": "critical", "channels": ["sms", "inbox"]},
        "moved": {"to": "buyer", "category": "parcel", "channels": ["sms"]},
        "offer": {"to": "buyer", "category": "offers", "lane": "marketing", "channels": ["sms"]},
    },
}  # fmt: skip
_WORDING = {
    "locale": "en", "signature": "[{brand}] ", "opt_out": " Reply TD to opt out", "subject": "Order {order_no}",
    "date": "{month} {day}", "months": [str(month) for month in range(1, 13)],
    "spans": {"minutes": "{count} min", "hours": "{count} h", "days": "{count} d"},
    "texts": {
        "paid": {"sms": ["Order {order_no} is paid."]}, "moved": {"sms": ["Order {order_no} has moved."]},
        "offer": {"sms": ["We have news for you."]},
    },
}  # fmt: skip

CONTACT_COLUMNS = ("tenant", "contact", "body", "updated_at")

_read_entry = msgspec.json.Decoder(Entry).decode


class Due(Struct, frozen=True):
    """A notice to come: seconds from the beginning to when it falls due, and from then to when it is out of date."""

    tenant: str
    topic: str
    at_s: float
    valid_s: float = VALID_S


class Told(Struct, frozen=True):
    """A notice and when its message was taken by the provider, in seconds from the beginning; None if it never was."""

    due: Due
    taken_s: float | None
    times: int = 0

    @property
    def delay_s(self) -> float:
        """From due to taken; what was never taken counts as endless."""
        return float("inf") if self.taken_s is None else self.taken_s - self.due.at_s


class Flooded(Struct, frozen=True):
    """What became of everything: the messages in the order of the notices, and how many notices had which fate."""

    told: list[Told]
    fates: dict[str, int]

    def delays_ms(
        self, topic: str, tenants: Sequence[str] = (), from_s: float = 0, until_s: float = 1e9
    ) -> list[float]:
        """How long messages of a topic took, of all tenants or some, that fell due within a span."""
        return [
            1000 * one.delay_s
            for one in self.told
            if one.due.topic == topic
            and from_s <= one.due.at_s < until_s
            and (not tenants or one.due.tenant in tenants)
        ]

    @property
    def dropped(self) -> int:
        """How many notices were left out because they were out of date."""
        return sum(
            count_
            for fate, count_ in self.fates.items()
            if fate.startswith("dropped ") and fate.endswith(" out_of_date")
        )

    def sent_part(self, topic: str) -> float:
        """Which part of the notices of a topic was taken by the provider."""
        mine = [one.taken_s is not None for one in self.told if one.due.topic == topic]
        return sum(mine) / len(mine) if mine else 0.0

    def p_ms(self, share: float, topic: str, tenants: Sequence[str] = (), until_s: float = 1e9) -> float:
        """A percentile of those, in milliseconds."""
        return percentile(self.delays_ms(topic, tenants, 0, until_s), share)

    def ended_s(self, *topics: str) -> float:
        """When the last message of some topics was taken."""
        return max((one.taken_s for one in self.told if one.taken_s is not None and one.due.topic in topics), default=0)


def shelf() -> Shelf:
    """A playbook with one text for each lane, without caps and at every hour."""
    spec = msgspec.convert(_PLAYBOOK, PlaybookSpec)
    playbook, problems = compile_playbook(spec, {"en": msgspec.convert(_WORDING, WordingSpec)})
    assert playbook is not None, problems
    return Shelf({"lanes": playbook}, "lanes")


def stream(tenant: str, topic: str, per_s: float, seconds: float, *, valid_s: float = VALID_S) -> list[Due]:
    """So many a second at random moments, the same ones in every run."""
    dice = random.Random(f"{SEED} {tenant} {topic}")
    return [Due(tenant, topic, dice.uniform(0, seconds), valid_s) for _ in range(int(per_s * seconds))]


async def flood(scratch: Scratch, coming: Sequence[Due], *, connections: int = 4) -> Flooded:
    """One run: fill the queue, let one dispatcher send to the sandbox until nothing is left, and read its ledger."""
    path = scratch.folder / f"flood-{perf_counter():.6f}.jsonl"
    async with (
        scratch.store(connections=connections) as store,
        orderbell("sandbox", "--port", "0", "--ledger", str(path), says="The sandbox listens") as sandbox,
    ):
        begins_at = await _fill(store, coming)
        channel = SandboxChannel(sandbox.word)
        shelves = dict.fromkeys({one.tenant for one in coming}, shelf())
        async with _dispatching(Dispatcher(Ledger(store), shelves, [channel], now=system_clock)):
            async with asyncio.timeout(DRAINED_WITHIN_S):
                while await store.pool.fetchval("SELECT EXISTS (SELECT FROM queue)"):  # noqa: ASYNC110 - the database is another process
                    await asyncio.sleep(POLL_S)
            await until_settled(store.pool.fetchval)
        await channel.close()
        rows = await store.pool.fetch(
            "SELECT fate || ' ' || topic || ' ' || reason AS fate, count(*) FROM notice GROUP BY 1"
        )
    taken = _taken(path)
    path.unlink()
    found = []
    for number, one in enumerate(coming):
        times = taken.get(_phone(number), [])
        found.append(Told(one, (min(times) - begins_at).total_seconds() if times else None, len(times)))
    return Flooded(found, {row["fate"]: row["count"] for row in rows})


@contextlib.asynccontextmanager
async def _dispatching(dispatcher: Dispatcher) -> AsyncIterator[None]:
    running = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        await dispatcher.close()
        await running


async def _fill(store: Store, coming: Sequence[Due]) -> datetime:
    """Put everything into the queue, each for a person of their own; gives the moment at which the seconds begin."""
    now = system_clock()
    await store.pool.copy_records_to_table("contact", records=_contact_rows(coming, now), columns=CONTACT_COLUMNS)
    begins_at = system_clock() + timedelta(seconds=AHEAD_S + len(coming) / 10_000)
    await store.pool.copy_records_to_table("queue", records=_queue_rows(coming, begins_at))
    await store.pool.execute("VACUUM ANALYZE contact, queue")
    return begins_at


def _phone(number: int) -> str:
    return f"+86138{number:08}"


def _contact_rows(coming: Iterable[Due], now: datetime) -> Iterable[tuple[object, ...]]:
    for number, one in zip(count(), coming, strict=False):
        contact = Contact(one.tenant, f"c{number}", _phone(number), marketing="yes")
        yield (one.tenant, contact.id, VAULT.seal(one.tenant, contact.id, encode_state(contact)), now)


def _queue_rows(coming: Iterable[Due], begins_at: datetime) -> Iterable[tuple[object, ...]]:
    for number, one in zip(count(), coming, strict=False):
        due_at = begins_at + timedelta(seconds=one.at_s)
        notice = Notice(
            derive_id(due_at, one.tenant, number), one.tenant, f"c{number}", f"A{number}", "buyer", "lanes", one.topic,
            due_at, due_at, due_at + timedelta(minutes=5), due_at + timedelta(seconds=one.valid_s),
            values={"order_no": f"A{number}"},
        )  # fmt: skip
        yield (one.tenant, notice.contact, notice.id, LANE_OF[one.topic], due_at, encode_state(notice))


def _taken(path: Path) -> dict[str, list[datetime]]:
    taken: dict[str, list[datetime]] = {}
    with path.open("rb") as lines:
        for line in lines:
            entry = _read_entry(line)
            if entry.channel == "sms":
                taken.setdefault(entry.to, []).append(entry.at)
    return taken
