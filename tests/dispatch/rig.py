"""A house with one queue for the tests of dispatch: notices as a turn would leave them, a clock that tests turn."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from orderbell.channels.protocol import (
    Answer,
    Channel,
    Found,
    Outcome,
    Outgoing,
    Provider,
    Receipt,
    ReceiptsBy,
    Recovery,
    Unsure,
)
from orderbell.channels.sandbox import SandboxChannel
from orderbell.core.model import Contact, Notice, derive_id, encode_state
from orderbell.core.playbook import PlaybookSpec, compile_playbook
from orderbell.core.turn import Shelf
from orderbell.core.wording import WordingSpec
from orderbell.dispatch import Dispatcher
from orderbell.dispatch.dispatcher import Links
from orderbell.dispatch.planning import PlanAt
from orderbell.dispatch.receiving import Report
from orderbell.dispatch.routes import Routes
from orderbell.store.ledger import Ledger
from orderbell.store.postgres import Store
from tests.database import VAULT

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TENANT = "acme"
LANES = {"paid": 0, "shipped": 1, "moved": 1, "arrived": 1, "offer": 2}
OFFERS_MAX = 2

_CATEGORIES = {"transaction": {"mandatory": True}, "parcel": {}, "offers": {"marketing": True}}
_PLAYBOOK = {
    "name": "tiny",
    "principal": "buyer",
    "locale": "en",
    "timezone": "UTC",
    "brand": {"en": "Acme"},
    "stages": {"placed": {"says": {"en": "Placed"}, "light": "green"}},
    "rules": [],
    "categories": _CATEGORIES,
    "caps": {"offers": {"per": "person", "most": OFFERS_MAX, "within": "24h", "lanes": "marketing"}},
    "notices": {
        "paid": {"to": "buyer", "category": "transaction", "lane": "critical"},
        "shipped": {"to": "buyer", "category": "parcel", "covers": ["moved"]},
        "moved": {"to": "buyer", "category": "parcel"},
        "arrived": {"to": "buyer", "category": "parcel", "channels": ["push", "sms", "inbox"]},
        "offer": {"to": "buyer", "category": "offers", "lane": "marketing"},
    },
}
_WORDING = {
    "locale": "en",
    "signature": "[{brand}] ",
    "opt_out": " Reply TD to opt out",
    "link": " {link}",
    "subject": "Order {order_no}",
    "date": "{month} {day}",
    "months": ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    "spans": {"minutes": "{count} min", "hours": "{count} h", "days": "{count} d"},
    "texts": {
        "paid": {"sms": ["Order {order_no} is paid."]},
        "shipped": {"sms": ["Order {order_no} is on its way."]},
        "moved": {"sms": ["Order {order_no} has moved."]},
        "arrived": {"sms": ["Order {order_no} is there."]},
        "offer": {"sms": ["We have news for you."]},
    },
}


def shelves(*tenants: str, in_doubt: str = "wait", sms_link: str = "") -> dict[str, Shelf]:
    """The playbook of these tests for each of these tenants; `in_doubt` is that of transactions."""
    categories = {**_CATEGORIES, "transaction": {"mandatory": True, "in_doubt": in_doubt}}
    spec = msgspec.convert(_PLAYBOOK | {"categories": categories, "sms_link": sms_link}, PlaybookSpec)
    wording = msgspec.convert(_WORDING, WordingSpec)
    playbook, problems = compile_playbook(spec, {"en": wording})
    assert playbook is not None, problems
    return dict.fromkeys(tenants or (TENANT,), Shelf({"tiny": playbook}, "tiny"))


class Clock:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.at

    def turn(self, seconds: float) -> None:
        """Turn it on."""
        self.at += timedelta(seconds=seconds)


def contact(
    number: int = 1,
    *,
    phone: str | None = None,
    quiet: str = "",
    app: str = "",
    email: str = "",
    marketing: bool = True,
) -> Contact:
    """A person with a phone, who likes to hear of offers."""
    phone = f"+86138{number:08}" if phone is None else phone
    return Contact(
        TENANT, f"c{number}", phone, email, app, quiet=quiet, marketing="yes" if marketing else "no"
    )  # fmt: skip


def notice(
    topic: str = "paid",
    number: int = 1,
    order_no: str = "A1",
    *,
    after_s: float = 0,
    wait_s: float = 0,
    valid_s: float = 86400,
) -> Notice:
    """A notice for a contact, made `after_s` seconds after noon and due `wait_s` later."""
    at = NOON + timedelta(seconds=after_s)
    due_at = at + timedelta(seconds=wait_s)
    return Notice(
        derive_id(at, order_no, topic, number), TENANT, f"c{number}", order_no, "buyer", "tiny", topic, at, due_at,
        due_at + timedelta(minutes=5), at + timedelta(seconds=valid_s), values={"order_no": order_no},
    )  # fmt: skip


class House:
    """A database with a queue, the dispatchers on it, and a look at its tables."""

    def __init__(self, store: Store) -> None:
        self.pool, self.clock, self.ledger = store.pool, Clock(), Ledger(store)
        self.shelves = shelves()

    def set_doubt(self, in_doubt: str) -> None:
        """Say what becomes of transactions that nobody can find out about."""
        self.shelves = shelves(in_doubt=in_doubt)

    def serve(self, *tenants: str) -> None:
        """Serve these tenants."""
        self.shelves = shelves(*tenants)

    def dispatcher(
        self,
        *channels: Channel | Routes,
        batch: int = 500,
        poll_ms: int = 50,
        plan_at: PlanAt | None = None,
        report: Report | None = None,
        links: Links | None = None,
    ) -> Dispatcher:
        """A dispatcher on this database."""
        ways = [one for one in channels if isinstance(one, Routes)]
        providers = [one for one in channels if not isinstance(one, Routes)]
        return Dispatcher(
            self.ledger, self.shelves, ways[0] if ways else providers, now=self.clock, batch=batch, poll_ms=poll_ms, plan_at=plan_at,
            report=report, links=links,
        )  # fmt: skip

    async def put(self, *notices: Notice, contacts: Iterable[Contact] | None = None) -> None:
        """Fill the queue, and add the contacts that are not there yet."""
        if contacts is None:
            contacts = [contact(int(name[1:])) for name in {n.contact for n in notices}]
        people = [(c.tenant, c.id, VAULT.seal(c.tenant, c.id, encode_state(c)), NOON) for c in contacts]
        await self.pool.executemany("INSERT INTO contact VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING", people)
        rows = [(n.tenant, n.contact, n.id, LANES.get(n.topic, 1), n.due_at, encode_state(n)) for n in notices]
        await self.pool.copy_records_to_table("queue", records=rows)

    async def statuses(self) -> list[str]:
        """The status of every message, in the order of their orders."""
        rows = await self.pool.fetch("SELECT status FROM message ORDER BY order_no, message_id")
        return [row["status"] for row in rows]

    async def fates(self) -> dict[str, tuple[str, str]]:
        """The fate and reason of every notice by topic."""
        rows = await self.pool.fetch("SELECT topic, fate, reason FROM notice")
        return {row["topic"]: (row["fate"], row["reason"]) for row in rows}

    async def waiting(self) -> int:
        """How many notices are in the queue."""
        return int(await self.pool.fetchval("SELECT count(*) FROM queue"))

    async def clear(self) -> None:
        """Empty the tables."""
        await self.pool.execute("UPDATE halt SET halted = false, reason = '', since = NULL, cluster = ''")
        await self.pool.execute(
            "TRUNCATE contact, queue, notice, message, attempt, flight, worker, receipt_cursor, pace, tally, handle,"
            " receipt, template"
        )

    async def end_leases(self) -> None:
        """Let all leases be over for a while; the database's clock cannot be turned."""
        await self.pool.execute("UPDATE worker SET lease_until = now() - interval '1 minute'")


class Scripted(Provider):
    """A provider in the test's hand: answers as told, `accepted` otherwise, and remembers what it got."""

    lookup_after_s = 2.0
    receipts_by = ReceiptsBy.PULL

    def __init__(
        self,
        *outcomes: Outcome,
        recovery: Recovery = Recovery.LOOKUP,
        found: Sequence[Found] = (),
        retry_after_s: float = 0,
        carries: frozenset[str] = frozenset({"sms"}),
    ) -> None:
        self.name, self.carries, self.batch_max = "scripted", carries, 500
        self.recovery, self.found, self.outcomes, self.retry_after_s = recovery, found, list(outcomes), retry_after_s
        self.got: list[Outgoing] = []
        self.asked: list[Unsure] = []
        self.words: list[Receipt] = []
        self.detail = "so"

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """Answer a batch with the next outcome."""
        self.got += batch
        outcome = self.outcomes.pop(0) if self.outcomes else Outcome.ACCEPTED
        return [Answer(o.attempt_id, outcome, f"ref-{len(self.got)}", self.detail, self.retry_after_s) for o in batch]

    async def receipts(self, limit: int, after: str = "") -> list[Receipt]:
        """Give the receipts put into `words`; the cursor counts them."""
        start = int(after or 0)
        return [
            msgspec.structs.replace(word, cursor=str(start + number))
            for number, word in enumerate(self.words[start : start + limit], 1)
        ]

    async def lookup(self, attempts: Sequence[Unsure]) -> list[Found]:
        """Say what was put into `found`."""
        self.asked += attempts
        asked = {one.attempt_id for one in attempts}
        return [one for one in self.found if one.attempt_id in asked]


class Gated(SandboxChannel):
    """The sandbox's channel with a gate before the request: what stands at it has not left yet."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.arrived, self.opened = asyncio.Event(), asyncio.Event()

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """Wait at the gate, then hand over."""
        self.arrived.set()
        await self.opened.wait()
        return await super().send(batch)
