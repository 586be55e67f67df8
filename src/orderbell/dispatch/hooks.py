"""Tells shops of changes by webhooks: fans changes out to deliveries, sends them, and tries again by the schedule.

One process does it for all, by a lease. Each webhook has requests of its own under way, so a receiver that is slow or
silent holds up nobody else; one that fails again and again is only probed, one request at a time with a rest between.
What is about the same order goes one after another, unless something of it had to be tried again: then receivers go by
`version`. A delivery is marked after it was taken: who dies in between sends it again, with the same id.

The schedule and what disables an endpoint are those of Standard Webhooks.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec
import structlog
from msgspec import Struct

from orderbell.channels.guarded import AddressRefused
from orderbell.channels.http import NoReply, Reply, read_address
from orderbell.channels.webhook import headers_of, key_of, outcome_of
from orderbell.dispatch.lease import Lease
from orderbell.errors import DatabaseUnavailable, VaultSealed
from orderbell.observe import count, failpoint
from orderbell.store.hooks import Delivery, Endpoint, HookKey, Outbox, Tried

PAUSES: Final = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""Between ten tries: 75 hours and 35 minutes in all."""

TRIES_MAX: Final = len(PAUSES) + 1
JITTER: Final = 0.1
"""The share by which a pause may be shorter or longer, so that what failed together does not come back together."""

GIVE_UP_AFTER: Final = timedelta(hours=60)
"""Where nothing got through for so long when a delivery has had its ten tries (never before 68 hours), it is over."""

AT_ONCE_MAX: Final = 8
"""Requests under way to one webhook."""

ALL_AT_ONCE_MAX: Final = 256
BATCH: Final = 100
CHANGES_MAX: Final = 500
POLL_MS: Final = 500
TIDY_EVERY: Final = timedelta(minutes=1)
BODY_BYTES_MAX: Final = 20_000

FAILURES_MIN: Final = 3
"""Failures in a row after which a receiver is only probed."""

REST_MAX: Final = timedelta(minutes=1)
DETAIL_LENGTH_MAX: Final = 200
CLOSE_WITHIN_S: Final = 2.0
SUCCESSES: Final = range(200, 300)
GONE: Final = 410

log = structlog.get_logger()


class Client(Protocol):
    """How requests leave: `orderbell.channels.guarded.GuardedClient`."""

    async def request(
        self, method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply | NoReply:
        """Ask once; raises AddressRefused."""
        ...


class TurnedOff(Struct, frozen=True):
    """A webhook that was turned off: `reason` is `gone`, `failing` or `backlog`; `host` is empty for the last."""

    tenant: str
    host: str
    reason: str


class _Answered(Struct, frozen=True):
    """What a receiver said: the status (0: nothing), what a person should know, and when it wants to be asked again."""

    status: int
    detail: str
    retry_after_s: float = 0.0

    @property
    def taken(self) -> bool:
        return self.status in SUCCESSES


class _Line(Struct):
    """How a webhook stands with this process."""

    failures: int = 0
    rest_until: datetime | None = None

    @property
    def width(self) -> int:
        return AT_ONCE_MAX if self.failures < FAILURES_MIN else 1

    def rests(self, now: datetime) -> bool:
        return self.rest_until is not None and now < self.rest_until

    def hear(self, answered: _Answered, now: datetime) -> None:
        """Remember how it went; a rest is doubled with each failure."""
        if answered.taken:
            self.failures, self.rest_until = 0, None
            return
        self.failures += 1
        rest = REST_MAX if answered.status == GONE else timedelta(seconds=answered.retry_after_s)
        if self.failures >= FAILURES_MIN:
            grown = timedelta(seconds=2 ** min(self.failures - FAILURES_MIN, 10))
            rest = max(rest, min(grown, REST_MAX))
        if rest:
            self.rest_until = now + rest


def body_of(delivery: Delivery) -> bytes:
    """The body of a webhook: type, time and data, the same at each try."""
    return msgspec.json.encode(
        {"type": delivery.type, "timestamp": delivery.at, "data": msgspec.Raw(delivery.data.encode())}
    )


def next_try(delivery: Delivery, answered: "_Answered", now: datetime, dice: Callable[[], float]) -> Tried:
    """What becomes of a delivery after a try; `dice` gives 0 to 1."""
    if answered.taken:
        return Tried(delivery, "delivered", now, answered.status, "")
    if delivery.tries + 1 >= TRIES_MAX or answered.status == GONE:
        return Tried(delivery, "failed", now, answered.status, answered.detail)
    pause = PAUSES[delivery.tries] * (1 + JITTER * (2 * dice() - 1))
    due_at = now + max(pause, timedelta(seconds=answered.retry_after_s))
    return Tried(delivery, "waiting", due_at, answered.status, answered.detail)


class Webhooks:
    """The loop that tells shops of changes.

    Args:
        outbox: What is to be told.
        client: How requests leave.
        now: The clock, aware UTC.
        dice: Numbers from 0 to 1, for the jitter.
        poll_ms: How often it looks for changes; nothing is looked for where nobody has a webhook.
        tell: Told of webhooks that were turned off.
    """

    def __init__(
        self,
        outbox: Outbox,
        client: Client,
        *,
        now: Callable[[], datetime],
        dice: Callable[[], float] = random.random,
        poll_ms: int = POLL_MS,
        tell: Callable[[TurnedOff], None] = lambda _: None,
    ) -> None:
        self._outbox, self._client, self._now, self._dice = outbox, client, now, dice
        self._poll_s, self._tell = poll_ms / 1000, tell
        self._lease = Lease(outbox.ledger, "webhooks: out")
        self._lines: dict[HookKey, _Line] = {}
        self._serving: dict[HookKey, asyncio.Task[int]] = {}
        self._slots = asyncio.Semaphore(ALL_AT_ONCE_MAX)
        self._tidy_at: datetime | None = None
        self._closing = asyncio.Event()

    async def step(self) -> int:
        """Fan out and send all that is due now; returns how many tries were made."""
        while await self._look() >= CHANGES_MAX:
            pass
        tasks = list(self._serving.values())
        self._serving.clear()
        return sum(await asyncio.gather(*tasks))

    async def run(self) -> None:
        """Tell until `close`; what is under way may end then, or is sent again by whoever is next."""
        while not self._closing.is_set():
            found = 0
            try:
                found = await self._look()
            except DatabaseUnavailable as problem:
                log.warning("webhooks wait for the database", problem=str(problem))
            except Exception:
                # Whatever it was, the next ones must get out.
                log.exception("webhooks failed")
                count("hooks.errors")
            if found < CHANGES_MAX:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):
                        await self._closing.wait()
        await self._end()

    async def close(self) -> None:
        """Let `run` end."""
        self._closing.set()

    async def _end(self) -> None:
        tasks = list(self._serving.values())
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_WITHIN_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(DatabaseUnavailable):
            await self._lease.give_up()

    async def _look(self) -> int:
        """Fan changes out, and begin to serve the webhooks that have something due; returns how many changes."""
        now = self._now()
        tidying = self._tidy_at is None or now >= self._tidy_at
        if not self._outbox.anybody and not tidying:
            return 0
        worker = await self._lease.ensure()
        if not await self._outbox.on_duty(worker):
            return 0
        if tidying:
            await self._tidy(now)
        found = await self._outbox.fan_out(now, CHANGES_MAX)
        count("hooks.changes", found)
        self._serving = {key: task for key, task in self._serving.items() if not task.done()}
        for key in await self._outbox.due_hooks(now):
            line = self._lines.setdefault(key, _Line())
            if key not in self._serving and not line.rests(now):
                self._serving[key] = asyncio.create_task(self._serve(key, line, worker))
        return found

    async def _tidy(self, now: datetime) -> None:
        self._tidy_at = now + TIDY_EVERY
        for tenant, _ in await self._outbox.tidy(now):
            self._tell_off(tenant, "", "backlog")

    async def _serve(self, key: HookKey, line: _Line, worker: int) -> int:
        """Send what is due to one webhook, batch by batch; returns how many tries were made."""
        tried = 0
        try:
            while self._may_send(line, worker):
                due = await self._outbox.due(key, self._now(), BATCH)
                if due is None:
                    break
                tried += await self._deliver(key, line, worker, *due)
                if len(due[1]) < BATCH:
                    break
        except DatabaseUnavailable as problem:
            log.warning("what came of webhooks could not be written", problem=str(problem))
        except VaultSealed:
            log.exception("a webhook's secret cannot be opened", tenant=key[0])
            line.failures = max(line.failures, FAILURES_MIN)
            line.rest_until = self._now() + REST_MAX
        return tried

    def _may_send(self, line: _Line, worker: int) -> bool:
        return self._lease.holds(worker) and not line.rests(self._now()) and not self._closing.is_set()

    async def _deliver(
        self, key: HookKey, line: _Line, worker: int, endpoint: Endpoint, due: Sequence[Delivery]
    ) -> int:
        """Send a batch, some at once but never two about the same thing, and write down what came of each.

        While one lot of answers is being written, the next requests are under way.
        """
        waiting, done_with, tried = list(due), list[Tried](), 0
        running: dict[asyncio.Task[Tried], str] = {}
        writing: asyncio.Task[None] | None = None
        try:
            while True:
                free = self._may_send(line, worker)
                while free and len(running) < line.width and (one := _first(waiting, running.values())) is not None:
                    waiting.remove(one)
                    running[asyncio.create_task(self._try(line, endpoint, one))] = _about(one)
                if writing is None and done_with:
                    tried += len(done_with)
                    writing = asyncio.create_task(self._settle(key, endpoint, done_with))
                    done_with = []
                if writing is None and not running:
                    return tried
                under_way = [*running, *([writing] if writing is not None else [])]
                await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                if writing is not None and writing.done():
                    writing = writing.result()
                for task in [task for task in running if task.done()]:
                    del running[task]
                    done_with.append(task.result())
        finally:
            for left in (*running, writing):
                if left is not None:
                    left.cancel()

    async def _try(self, line: _Line, endpoint: Endpoint, delivery: Delivery) -> Tried:
        async with self._slots:
            answered = await self._send(endpoint, delivery)
        now = self._now()
        line.hear(answered, now)
        return next_try(delivery, answered, now, self._dice)

    async def _send(self, endpoint: Endpoint, delivery: Delivery) -> _Answered:
        body = body_of(delivery)
        if len(body) > BODY_BYTES_MAX:
            return _Answered(0, f"the body is longer than {BODY_BYTES_MAX} bytes")
        headers = headers_of([key_of(secret) for secret in endpoint.secrets], delivery.id, self._now(), body)
        try:
            answered = await self._client.request("POST", endpoint.url, body, headers)
        except AddressRefused as refused:
            return _Answered(0, f"the address is refused: it {refused}"[:DETAIL_LENGTH_MAX])
        if isinstance(answered, NoReply):
            return _Answered(0, answered.detail[:DETAIL_LENGTH_MAX])
        return _Answered(answered.status, outcome_of(answered.status)[1], answered.retry_after_s)

    async def _settle(self, key: HookKey, endpoint: Endpoint, tried: Sequence[Tried]) -> None:
        failpoint("hooks.answered")
        now = self._now()
        await self._outbox.settle(key, tried, now)
        for one in tried:
            count(f"hooks.{one.state if one.state != 'waiting' else 'tried_in_vain'}")
        reason, off = "", False
        if any(one.status == GONE for one in tried):
            reason = "gone"
            off = await self._outbox.turn_off(key, endpoint, "gone", reason, now)
        elif any(one.state == "failed" for one in tried):
            reason = "failing"
            off = await self._outbox.turn_off(key, endpoint, "off", reason, now, GIVE_UP_AFTER)
        if off:
            address = read_address(endpoint.url)
            self._tell_off(key[0], address.host if address is not None else "", reason)

    def _tell_off(self, tenant: str, host: str, reason: str) -> None:
        count("hooks.turned_off")
        log.warning("webhook turned off", tenant=tenant, host=host, reason=reason)
        self._tell(TurnedOff(tenant, host, reason))


def _about(delivery: Delivery) -> str:
    """What must go one after another."""
    return delivery.subject or delivery.id.hex()


def _first(waiting: Iterable[Delivery], busy: Iterable[str]) -> Delivery | None:
    """The first that is about nothing that is under way."""
    under_way = frozenset(busy)
    return next((one for one in waiting if _about(one) not in under_way), None)
