"""What searches, lists and the overview take with a million orders, and half a million messages of one day."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from time import perf_counter

import httpx
from msgspec.structs import replace

from bench.processes import orderbell
from bench.scratch import Scratch
from bench.seed import seeded
from bench.stream import SEED, TENANT, VAULT
from bench.table import Report, Sample, figure_row, interleave, percentile
from orderbell.core.model import Contact, Message, Notice, Order, Party, decode_order, derive_id, encode_state
from orderbell.store.accounts import Accounts
from orderbell.store.departures import MESSAGE_COLUMNS, NOTICE_COLUMNS
from orderbell.store.dossier import Archive
from orderbell.store.lines import MessageFilter, OrderFilter
from orderbell.store.looking import Looking
from orderbell.store.overview import Overview
from orderbell.store.postgres import Store
from orderbell.store.pulse import Rollup
from orderbell.store.rows import finders
from orderbell.store.sessions import Sessions
from orderbell.web.signed_in import COOKIE

ORDERS = 1_000_000
MODELS = 600
"""Orders that were really decided; all others are made after them."""

SPAN = timedelta(days=90)
MESSAGE_SHARE = 0.5
TODAY = timedelta(hours=20)
PEOPLE_SHARE = 0.8
TROUBLE_SHARE = 0.03
JOURNALLED, LINES = 100_000, 10
QUESTIONS = 200
TIMEOUT_S = 600
PAGE_AIM_MS, SEARCH_AIM_MS, OVERVIEW_AIM_MS = 50, 100, 100

ORDER_COLUMNS = (
    "tenant", "order_no", "version", "playbook", "stage", "light", "opened_at", "updated_at", "state",
)  # fmt: skip
CONTACT_COLUMNS = ("tenant", "contact", "body", "phone_key", "phone_tail", "mail_key", "updated_at")
ANOMALIES = ("payment_failed", "parcel_lost", "stock_shortage", "shipping_late", "delivery_failed")

_JOURNAL = """
INSERT INTO journal (tenant, order_no, version, at, type, source, event_id, verdict, stage, event, decision, detail)
SELECT $1, 'N' || lpad((n % $4)::text, 8, '0'), n / $4 + 1, $2::timestamptz + n * $3::interval, 'parcel.scanned',
    '//shop/retail', 'history-' || n, 'applied', 'shipped',
    convert_to('{"type":"parcel.scanned","data":{"name":"' || repeat(md5(n::text), 8) || '"}}', 'UTF8'),
    convert_to('[]', 'UTF8'), ''
FROM generate_series(0, $5::int - 1) AS n
"""

Question = Callable[[random.Random], Awaitable[object]]


class Town:
    """The database of the bench: so many orders over three months, the last day's messages, people, troubles."""

    def __init__(self, store: Store, models: list[Order], order_count: int, ends_at: datetime) -> None:
        self.store, self.models, self.order_count, self.ends_at = store, models, order_count, ends_at
        self.people_count = int(order_count * PEOPLE_SHARE)
        self.message_count = int(order_count * MESSAGE_SHARE)

    def number(self, place: int) -> str:
        """The number of an order."""
        return f"N{place:08}"

    def person(self, place: int) -> str:
        """The id of whoever placed an order."""
        return f"p{place * 7919 % self.people_count:07}"

    def phone(self, place: int) -> str:
        """The phone of a person."""
        return f"+86138{place * 104_729 % 100_000_000:08}"

    def opened_at(self, place: int) -> datetime:
        """When an order was opened."""
        return self.ends_at - SPAN + SPAN / self.order_count * place

    async def fill(self) -> None:
        """Fill the tables by COPY and bring their statistics up to date."""
        await self.fill_orders()
        await self.fill_rest()

    async def fill_orders(self) -> None:
        """Fill the tables of orders and people."""
        copy = self.store.pool.copy_records_to_table
        await copy("orders", records=self._orders(), columns=ORDER_COLUMNS, timeout=TIMEOUT_S)
        parties = ((TENANT, self.person(place), self.number(place)) for place in range(self.order_count))
        await copy("party", records=parties, columns=("tenant", "contact", "order_no"), timeout=TIMEOUT_S)
        await copy("contact", records=self._people(), columns=CONTACT_COLUMNS, timeout=TIMEOUT_S)

    async def fill_rest(self) -> None:
        """Fill the tables of what happened to them."""
        copy = self.store.pool.copy_records_to_table
        await self.store.ensure_partitions(self.ends_at - SPAN, self.ends_at)
        await copy("anomaly", records=self._anomalies(), timeout=TIMEOUT_S)
        await copy("message", records=self._messages(), columns=MESSAGE_COLUMNS, timeout=TIMEOUT_S)
        await copy("notice", records=self._notices(), columns=NOTICE_COLUMNS, timeout=TIMEOUT_S)
        journalled = min(JOURNALLED, self.order_count)
        lines = journalled * LINES
        await self.store.pool.execute(
            _JOURNAL,
            TENANT,
            self.ends_at - timedelta(days=1),
            timedelta(days=1) / lines,
            journalled,
            lines,
            timeout=TIMEOUT_S,
        )
        await self.store.pool.execute("VACUUM ANALYZE", timeout=TIMEOUT_S)

    def _orders(self) -> Iterator[tuple[object, ...]]:
        for place in range(self.order_count):
            model, at = self.models[place % len(self.models)], self.opened_at(place)
            order = replace(
                model, no=self.number(place), opened_at=at, stage_at=at, updated_at=at,
                parties=(Party("buyer", self.person(place)),),
            )  # fmt: skip
            light = "red" if self._trouble(place) else "green" if place % 10 else "yellow"
            yield TENANT, order.no, order.version, order.playbook, order.stage, light, at, at, encode_state(order)

    def _people(self) -> Iterator[tuple[object, ...]]:
        key = VAULT.index_key(TENANT)
        for place in range(self.people_count):
            name = f"p{place:07}"
            contact = Contact(TENANT, name, self.phone(place), f"c{place}@example.com")
            yield (
                TENANT, name, VAULT.seal(TENANT, name, encode_state(contact)), *finders(key, contact), self.ends_at,
            )  # fmt: skip

    def _trouble(self, place: int) -> str:
        dice = place * 48_271 % 65_537  # a generator of its own for each of a million would take longer than the rest
        return ANOMALIES[dice % len(ANOMALIES)] if dice < 65_537 * TROUBLE_SHARE else ""

    def _anomalies(self) -> Iterator[tuple[object, ...]]:
        for place in range(self.order_count):
            at = self.opened_at(place) + timedelta(hours=1)
            if name := self._trouble(place):
                yield TENANT, self.number(place), name, at, None
            elif place % 14 == 0:
                yield TENANT, self.number(place), ANOMALIES[place % 5], at, at + timedelta(hours=2)

    def _told(self) -> Iterator[tuple[int, datetime, Notice]]:
        for turn in range(self.message_count):
            place = turn * 3 % self.order_count
            at = self.ends_at - TODAY + TODAY / self.message_count * turn
            notice = Notice(
                derive_id(at, turn), TENANT, self.person(place), self.number(place), "buyer", "retail", "shipped", at,
                at, at + timedelta(minutes=5), at + timedelta(days=1), values={"order_no": self.number(place)},
            )  # fmt: skip
            yield turn, at, notice

    def _notices(self) -> Iterable[tuple[object, ...]]:
        for _, at, n in self._told():
            yield n.tenant, n.contact, n.id, n.order_no, n.topic, "sent", "sent", None, at, at, encode_state(n)

    def _messages(self) -> Iterator[tuple[object, ...]]:
        for turn, at, n in self._told():
            status = "unknown" if turn % 5000 == 0 else "failed" if turn % 100 == 1 else "delivered"
            text = f"【叮咚】您的订单{n.order_no}已发货，预计明天送达，请留意查收。"
            m = Message(
                derive_id(at, turn, "sms"), TENANT, n.contact, "sms", self.phone(turn), "shipped", "parcel", "service",
                n.order_no, text, "", (n.id,), at, at, at + timedelta(days=1),
            )  # fmt: skip
            left_at = at + timedelta(seconds=1 + turn % 90)
            yield (
                TENANT, m.id, m.order_no, m.contact, m.topic, "sms", 1, text,
                VAULT.seal(TENANT, m.id, encode_state(m)), at, at, m.valid_until, status, 1, derive_id(at, turn, "try"),
                "alibaba" if turn % 3 else "tencent", 1, left_at, left_at, None, f"r{turn}", "",
            )  # fmt: skip


def questions(town: Town) -> dict[str, tuple[int, Question]]:
    """What is asked, by name, with the aim for 95 % of the answers in milliseconds."""
    looking, overview = Looking(town.store, TENANT), Overview(town.store, TENANT)
    archive, now = Archive(town.store, TENANT), town.ends_at

    def find(make: Callable[[random.Random], OrderFilter]) -> Question:
        return lambda dice: looking.orders(make(dice))

    def any_number(dice: random.Random) -> str:
        return town.number(dice.randrange(town.order_count))

    stages = sorted({model.stage for model in town.models})
    journalled = min(JOURNALLED, town.order_count)
    return {
        "an order by its number": (SEARCH_AIM_MS, find(lambda d: OrderFilter(any_number(d)))),
        "orders whose number begins so": (SEARCH_AIM_MS, find(lambda d: OrderFilter(any_number(d)[: d.randint(1, 7)]))),
        "orders by the last four digits of a phone": (
            SEARCH_AIM_MS, find(lambda d: OrderFilter(f"{d.randrange(10_000):04}")),
        ),
        "orders by a whole phone": (
            SEARCH_AIM_MS, find(lambda d: OrderFilter(town.phone(d.randrange(town.people_count))[3:])),
        ),
        "orders by stage": (SEARCH_AIM_MS, find(lambda d: OrderFilter(stage=d.choice(stages)))),
        "orders at a stage that nobody is at": (SEARCH_AIM_MS, find(lambda _: OrderFilter(stage="nowhere"))),
        "orders with an anomaly": (SEARCH_AIM_MS, find(lambda d: OrderFilter(anomaly=d.choice(ANOMALIES)))),
        "orders that are red": (SEARCH_AIM_MS, find(lambda _: OrderFilter(light="red"))),
        "the newest orders": (SEARCH_AIM_MS, find(lambda _: OrderFilter())),
        "the newest messages": (SEARCH_AIM_MS, lambda _: looking.messages(MessageFilter())),
        "failed messages": (SEARCH_AIM_MS, lambda _: looking.messages(MessageFilter(state="failed"))),
        "messages in doubt": (SEARCH_AIM_MS, lambda _: looking.unknowns()),
        "messages of a person": (
            SEARCH_AIM_MS,
            lambda d: looking.messages(MessageFilter(contact=town.person(d.randrange(town.order_count)))),
        ),
        "all about an order": (PAGE_AIM_MS, lambda d: archive.of_order(town.number(d.randrange(journalled)))),
        "the overview": (OVERVIEW_AIM_MS, lambda _: overview.figures(now, now - TODAY, ANOMALIES)),
        "news of the last minutes": (OVERVIEW_AIM_MS, lambda _: overview.news(now)),
    }  # fmt: skip


@asynccontextmanager
async def _reader(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who is signed in at a console of its own process."""
    account = await Accounts(store).add(TENANT, "reader", "owner", datetime.now(UTC))
    token = await Sessions(store, lambda: datetime.now(UTC)).open(account, tenant=TENANT)
    own = {"database_url": store.dsn, "port": "0"}
    async with orderbell("web", says="OrderBell listens", settings=own) as web:
        headers = {"cookie": f"{COOKIE}={token}", "accept-language": "zh-CN"}
        async with httpx.AsyncClient(base_url=web.word, headers=headers, timeout=30, trust_env=False) as http:
            yield http


def pages(town: Town, http: httpx.AsyncClient) -> dict[str, tuple[int, Question]]:
    """The same over HTTP: whole pages of the console, made for somebody who is signed in."""
    journalled = min(JOURNALLED, town.order_count)

    async def get(path: str, **query: str) -> None:
        answer = await http.get(path, params=query)
        assert answer.status_code == HTTPStatus.OK, (path, answer.status_code)

    return {
        "page of an order": (PAGE_AIM_MS, lambda d: get(f"/console/orders/{town.number(d.randrange(journalled))}")),
        "page of a search by four digits": (
            SEARCH_AIM_MS, lambda d: get("/console/orders", q=f"{d.randrange(10_000):04}"),
        ),
        "page of the overview": (OVERVIEW_AIM_MS, lambda _: get("/console")),
    }  # fmt: skip


async def ask(question: Question, seed: int) -> Sample:
    """Ask many times, one after the other."""
    dice = random.Random(seed)
    took_ms = []
    began = perf_counter()
    for _ in range(QUESTIONS):
        asked = perf_counter()
        await question(dice)
        took_ms.append(1000 * (perf_counter() - asked))
    figures = {"p50_ms": percentile(took_ms, 50), "p95_ms": percentile(took_ms, 95)}
    return Sample(QUESTIONS, perf_counter() - began, {}, figures)


async def run(report: Report, rounds: int, scale: float, scratch: Scratch) -> None:
    """Add the rows of this bench."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    async with seeded(scratch, MODELS, queued=False) as (template, _), scratch.store(template) as models_store:
        found = await models_store.pool.fetch("SELECT state FROM orders ORDER BY order_no")
    models = [decode_order(row["state"]) for row in found]
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(scratch.store())
        town = Town(store, models, int(ORDERS * scale), now)
        await town.fill()
        counting = await _count(store, now)
        asked = {**questions(town), **pages(town, await stack.enter_async_context(_reader(store)))}

        def run_of(question: Question) -> Callable[[], Awaitable[Sample]]:
            return lambda: ask(question, SEED)

        samples = await interleave(rounds, {name: run_of(question) for name, (_, question) in asked.items()})
    size = f"{town.order_count:,} orders, {town.message_count:,} messages, {town.people_count:,} people"
    report.rows += [
        row
        for name, (aim_ms, _) in asked.items()
        for row in (
            figure_row("looking", f"{name}, p50", "ms", samples[name], "p50_ms"),
            figure_row("looking", f"{name}, p95", "ms", samples[name], "p95_ms", aim=aim_ms, note=size),
        )
    ]
    report.rows += [
        figure_row("looking", name, "s", [Sample(1, 0, {}, {"s": took})], "s") for name, took in counting.items()
    ]


async def _count(store: Store, now: datetime) -> Mapping[str, float]:
    """Have everything counted for the overview, as the background does; gives how long it took."""
    rollup = Rollup(store, lambda: now)
    began = perf_counter()
    while await rollup.round():
        pass
    took = await store.pool.fetchval("SELECT took_s FROM census LIMIT 1")
    return {"counting a day of messages, once": perf_counter() - began - took, "counting all orders, once": took}
