"""The dispatcher: the loops that plan, send, settle, read receipts and resolve doubts."""

import asyncio
import contextlib
import os
import platform
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from time import perf_counter, time_ns
from typing import Final

import structlog
from msgspec.structs import replace

from orderbell.channels.protocol import (
    Answer,
    Channel,
    ChannelUnavailable,
    Fate,
    InboundSms,
    Outcome,
    Outgoing,
    ReceiptsBy,
    Recovery,
    Unsure,
)  # fmt: skip
from orderbell.core.model import Message
from orderbell.core.turn import Shelf
from orderbell.core.wording import LINK_MASK
from orderbell.dispatch import outcomes
from orderbell.dispatch.lease import GRACE, RENEW_AFTER_S, Lease
from orderbell.dispatch.patience import patience_of
from orderbell.dispatch.planning import PlanAt, Planner, lay_out, outgoing
from orderbell.dispatch.receiving import Receiver, Report, report_late
from orderbell.dispatch.routes import PLACES, REFUSES_CONTENT, Routes
from orderbell.errors import DatabaseUnavailable
from orderbell.observe import count, failpoint, traces
from orderbell.observe.figures import measure, tally
from orderbell.store.ledger import (
    ALL_LANES,
    Claim,
    Departure,
    Ledger,
    Look,
    Move,
    Moves,
    Recipient,
    Request,
    Waiting,
)  # fmt: skip

RECEIPTS_BATCH: Final = 1000
RECEIPTS_IDLE_S: Final = 0.5
RESOLVE_IDLE_S: Final = 0.5
SETTLE_PAUSE_S: Final = 0.2
"""Between tries to write answers down while the database is away."""

LEARN_EVERY_S: Final = 10.0
"""Between two looks at how long receipts take."""

MATCH_IDLE_S: Final = 1.0
COMPLAIN_EVERY: Final = timedelta(seconds=30)
TALLIED: Final = timedelta(minutes=10)
"""Over how long the share of confirmed messages is counted."""

PLACE_KEPT: Final = timedelta(seconds=2)
"""How long the place that a message has reserved at a provider is kept for it."""

CHANNELS: Final = ["sms", "email", "push", "wechat"]
"""What waits of all of them is looked at, so that it ends where nobody carries the channel any more."""

CRITICAL: Final = (0,)
OTHERS: Final = tuple(ALL_LANES[1:])

PUMPS: Final = 2
"""Of the other lanes: while one waits for the database, the other plans."""

BRISK_BATCH: Final = 100
"""A claim of the other lanes takes no more while somebody waits beside it: what is critical, or another tenant.

All lanes share a processor and a database, and each waits for the end of what another has begun.
"""

BRISK_RECEIPTS: Final = 250
"""The same of receipts: writing a thousand down holds up everybody for a while."""

BRISK_FOR: Final = timedelta(seconds=5)
"""How long claims stay small after that was last so."""

GIVE_WAY_S: Final = 0.05
"""How long the other lanes stand back, at most, while something critical is being claimed."""

Templates = Callable[[], Awaitable[Mapping[str, Mapping[str, str]]]]
Inbound = Callable[[str, Sequence[InboundSms]], Awaitable[None]]
Links = Callable[[Sequence[Message]], Awaitable[Mapping[bytes, str]]]

log = structlog.get_logger()


class Dispatcher:
    """Sends what the orders' turns have put into the queue. Any number of them work on one database.

    Args:
        ledger: The tables of sending.
        shelves: The playbooks by tenant; may change while the dispatcher runs.
        channels: The providers, or the routes to them. The inbox needs none.
        now: The clock, aware UTC.
        poll_ms: The pause before the next look when nothing was due.
        batch: Due notices or waiting messages per transaction.
        in_flight: Requests under way at once.
        plan_at: From when a notice fell due to when it is planned. By default that is the moment of dispatch;
            a replay passes `lambda due_at: due_at`, so that planning is as punctual as a machine that is never late.
            Such a dispatcher learns nothing from the clock of its receipts.
        patience: How long a receipt is waited for on every channel; None to learn it.
        report: Takes the events `message.settled` about addresses that a provider will never take; without it
            nobody hears of them.
        templates: Gives the approved templates, by provider and text; asked for again and again.
        inbound: Takes what people wrote to a provider that is asked for it.
        unsubscribe: The address at which the person of a message ends advertising with one click; for mail.
        links: The pages that messages open, by message; asked once for each request.
    """

    def __init__(
        self,
        ledger: Ledger,
        shelves: Mapping[str, Shelf],
        channels: Sequence[Channel] | Routes,
        *,
        now: Callable[[], datetime],
        poll_ms: int = 50,
        batch: int = 500,
        in_flight: int = PLACES,
        plan_at: PlanAt | None = None,
        patience: timedelta | None = None,
        report: Report | None = None,
        templates: Templates | None = None,
        inbound: Inbound | None = None,
        unsubscribe: Callable[[Message], str] | None = None,
        links: Links | None = None,
    ) -> None:
        self._ledger, self._shelves, self._now, self._plan_at = ledger, shelves, now, plan_at
        self._routes = channels if isinstance(channels, Routes) else Routes(channels, now())
        self._channels = self._routes.channels
        open_ = self._routes.open
        self._patience = dict.fromkeys(open_, patience) if patience else patience_of(open_, {})
        self._learns = plan_at is None and patience is None
        self._receiver = Receiver(ledger, now, report, learn=self._learns)
        self._templates = templates
        self._poll_s, self._batch, self._in_flight = poll_ms / 1000, batch, in_flight
        self._lease = Lease(ledger, f"{platform.node()}:{os.getpid()}")
        self._inbound, self._unsubscribe, self._links = inbound, unsubscribe, links
        self._inbound_after: dict[str, str] = {}
        self._complained: dict[tuple[str, str], datetime] = {}
        # What is critical has places of its own, and so has each provider: no flood, no slow one keeps others waiting.
        self._slots = {
            (name, critical): asyncio.Semaphore(in_flight) for name in self._channels for critical in (False, True)
        }
        self._checked_as = 0
        self._clear = asyncio.Event()  # nothing critical is being claimed
        self._clear.set()
        self._brisk_until: datetime | None = None
        self._flying: set[asyncio.Task[None]] = set()
        self._departed: dict[tuple[int, ...], set[asyncio.Task[None]]] = {}
        self._closing = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def step(self) -> int:
        """Plan and send what is due, once, and wait for the answers; returns how much there was to do.

        Counts notices that got a fate and messages that were tried again; 0 when there was nothing.
        """
        handled, tasks = await self._depart(ALL_LANES)
        _raise_first(await asyncio.gather(*tasks, return_exceptions=True))
        return handled

    async def receipts(self) -> int:
        """Read one batch of receipts of each provider; returns how many there were."""
        worker = await self._lease.ensure()
        pulled = [one for one in self._channels.values() if one.receipts_by is ReceiptsBy.PULL]
        return sum([await self._receipts_of(channel, worker) for channel in pulled])

    async def inbound(self) -> int:
        """Fetch what people wrote from the providers that do not call; returns how many messages there were."""
        if self._inbound is None:
            return 0
        taken = 0
        worker = await self._lease.ensure()
        for channel in self._channels.values():
            # Over a connection that brings both, replies go to the one process that reads the receipts: whoever
            # asked besides it would be brought receipts, and not read them.
            pulled = channel.receipts_by is ReceiptsBy.PULL
            if pulled and await self._ledger.receipt_cursor(channel.name, worker) is None:
                continue
            try:
                found = await channel.inbound(RECEIPTS_BATCH, self._inbound_after.get(channel.name, ""))
            except ChannelUnavailable as problem:
                self._complain("replies cannot be read", channel, problem)
                continue
            if found:
                await self._inbound(channel.name, found)
                self._inbound_after[channel.name] = found[-1].id
                taken += len(found)
        return taken

    async def match(self) -> int:
        """Give receipts that came too early to the messages that have become known; returns how many."""
        return await self._receiver.match()

    async def learn(self) -> int:
        """Look up how receipts come in and which templates are approved; 0: there is nothing to go on with at once."""
        now = self._now()
        if self._templates is not None:
            self._routes.set_templates(await self._templates())
        if self._learns:
            self._patience = patience_of(self._routes.open, await self._ledger.paces())
            slowest = max(self._patience.values())
            self._routes.heard(await self._ledger.tallies(now, slowest + TALLIED, slowest))
            self._routes.set_workers(await self._ledger.worker_count())
        standings = [replace(one, detail=outcomes.clean(one.detail)) for one in self._routes.standings]
        await self._ledger.put_standings(await self._lease.ensure(), standings, now)
        await self._ledger.tidy(now)
        return 0

    async def resolve(self) -> int:
        """Find out what became of attempts in doubt; returns how many were looked at.

        What a dead worker left in `sending` is in doubt too. A provider that recognises attempts gets the same
        attempt again; one that can be asked is asked; where neither is possible only a receipt ends the doubt.
        """
        now = self._now()
        ask_at = {name: outcomes.left_at(channel, now) for name, channel in self._channels.items()}
        left = await self._ledger.doubt_left_behind(GRACE, now, ask_at)
        if left:
            count("dispatch.left_behind", left)
            log.warning("messages of a lost worker are in doubt", messages=left)
        halted, _, _ = await self._ledger.halted()
        repeated = 0 if halted else await self._repeat_unknown()
        return left + repeated + await self._ask_unknown() + await self._end_unknown()

    async def run(self) -> None:
        """Do all of this until `close`, then wait for the requests under way; a database that is away is waited for."""
        self._running = asyncio.current_task()
        await self._begin()
        beating = asyncio.create_task(self._beat())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._again(partial(self._pump, CRITICAL), self._poll_s))
                for _ in range(PUMPS):
                    group.create_task(self._again(partial(self._pump, OTHERS), self._poll_s))
                group.create_task(self._again(self.receipts, RECEIPTS_IDLE_S))
                group.create_task(self._again(self.resolve, RESOLVE_IDLE_S))
                group.create_task(self._again(self.match, MATCH_IDLE_S))
                group.create_task(self._again(self.inbound, RECEIPTS_IDLE_S))
                group.create_task(self._again(self.learn, LEARN_EVERY_S))
            await asyncio.gather(*self._flying, return_exceptions=True)
            await self._lease.give_up()
        finally:
            beating.cancel()
            for task in self._flying:
                task.cancel()
            await asyncio.gather(beating, *self._flying, return_exceptions=True)

    async def close(self) -> None:
        """Claim nothing more, wait for the requests under way, and give up the lease."""
        self._closing.set()
        if self._running is not None and self._running is not asyncio.current_task():
            await asyncio.wait([self._running])
        else:
            await asyncio.gather(*self._flying, return_exceptions=True)
            await self._lease.give_up()

    async def next_due_at(self) -> datetime | None:
        """When the first notice or queued message falls due."""
        return await self._ledger.next_due_at(self._shelves)

    async def _begin(self) -> None:
        """Before the first message: was this database restored, and what is approved?"""
        while not self._closing.is_set():
            try:
                await self._notice_restore()
                await self.learn()
            except DatabaseUnavailable as problem:
                log.warning("dispatch waits for the database", problem=str(problem))
                await self._pause(RESOLVE_IDLE_S)
            else:
                return

    async def _notice_restore(self) -> None:
        if await self._ledger.notice_restore(self._now()):
            log.error("this database was restored from a backup: sending is halted; see what was sent since, "
                      "then let it go on with `orderbell dispatch resume`")  # fmt: skip

    async def _pump(self, lanes: Sequence[int]) -> int:
        """Send off one batch of some lanes, and return as soon as the next one may leave."""
        if lanes != CRITICAL:
            await self._give_way()
        handled, tasks = await self._depart(lanes)
        own = self._departed.setdefault(tuple(lanes), set())
        own.update(tasks)
        own -= {task for task in own if task.done()}
        while len(own) >= self._in_flight * max(len(self._channels), 1):
            done, _ = await asyncio.wait(own, return_when=asyncio.FIRST_COMPLETED)
            own -= done
        return handled

    async def _depart(self, lanes: Sequence[int]) -> tuple[int, list[asyncio.Task[None]]]:
        """See what is due, claim it, write it down as `sending`, and set the requests off."""
        worker = await self._lease.ensure()
        now = self._now()
        if worker != self._checked_as:  # a new lease: the database may be another one than it was
            await self._notice_restore()
            self._checked_as = worker
        look = await self._ledger.look(now, lanes)
        if look.halted or not (look.notices or look.queued):
            return 0, []
        if lanes != CRITICAL:
            limit = min(self._batch, BRISK_BATCH) if lanes == OTHERS and self._is_brisk(now) else self._batch
            return await self._take(look, Claim(now, limit, [], worker, lanes))
        self._brisk_until = now + BRISK_FOR
        self._clear.clear()
        try:
            return await self._take(look, Claim(now, self._batch, [], worker, lanes))
        finally:
            self._clear.set()

    def _is_brisk(self, now: datetime) -> bool:
        """Whether somebody waited beside a flood lately: then everything goes in small steps."""
        return self._brisk_until is not None and now < self._brisk_until

    async def _give_way(self) -> None:
        """Let what is critical begin first: for a moment only, so that a flood of it stops nobody."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GIVE_WAY_S):
                await self._clear.wait()

    async def _take(self, look: Look, due: Claim) -> tuple[int, list[asyncio.Task[None]]]:
        """Claim notices and messages that are due, and set the requests off."""
        now, worker = due.now, due.worker
        handled = 0
        tasks: list[asyncio.Task[None]] = []
        try:
            if look.notices:
                planner = Planner(self._shelves, self._routes, now, self._patience, self._plan_at)
                claim = replace(due, names=list(self._shelves))
                began_ns = time_ns()
                planned = await self._ledger.plan_due(claim, partial(planner.plan, worker=worker))
                handled += len(planned.fates) + len(planned.held)
                count("dispatch.planned", len(planned.fates))
                if (tracer := traces.active()) is not None:
                    tracer.planned([fate for fate, _ in planned.fates], planned.held, began_ns)
                if len({fate.notice.tenant for fate, _ in planned.fates}) > 1:
                    self._brisk_until = now + BRISK_FOR
                failpoint("dispatch.lease_committed")
                tasks += self._set_off(planned.requests)
            if look.queued:
                claim = replace(due, names=CHANNELS)
                decided = await self._claim("queued", claim, self._try_again)
                handled += len(decided.moves)
                failpoint("dispatch.lease_committed")
                tasks += self._set_off(decided.requests)
        except BaseException:
            # What was committed without our knowing, or not set off, stands under this lease and under no other.
            self._lease.renounce()
            raise
        return handled, tasks

    async def _claim(
        self, status: outcomes.Doubtful, claim: Claim, judge: Callable[[Waiting, datetime], Move]
    ) -> Moves:
        """Claim messages that wait in a status, and lay those that go out now into requests."""

        def decide(waiting: list[Waiting]) -> Moves:
            moves = [judge(one, claim.now) for one in waiting]
            departures: dict[str, list[Departure]] = {}
            for move in moves:
                if move.status == "sending":
                    was = move.waiting
                    again = move.attempt_id == was.attempt_id
                    ref = move.ref if again else ""
                    leaving = Departure(was.message, move.attempt_id, move.attempt_no, again, ref, move.code, was.tried)
                    departures.setdefault(move.provider or was.provider, []).append(leaving)
            requests = lay_out(departures, self._channels, claim.worker)
            refs = {one.attempt_id: one.ref for request in requests for one in request.departures if one.ref}
            if refs:
                moves = [replace(one, ref=refs.get(one.attempt_id, one.ref)) for one in moves]
            return Moves(moves, requests)

        return await self._ledger.claim_waiting(status, claim, decide)

    def _try_again(self, waiting: Waiting, now: datetime) -> Move:
        """A queued message whose time has come, with the provider that is drawn for it now."""
        key = outcomes.next_attempt(waiting.message, waiting.attempt_no + 1)
        # Its place came, and is good for a moment; asking for another would put it off for ever.
        reserved = waiting.detail == "paced" and waiting.due_at is not None and now - waiting.due_at <= PLACE_KEPT
        choice = self._routes.choose(waiting.message, key, now, waiting.tried, paced=not reserved)
        return outcomes.try_again(waiting, choice, now)

    def _set_off(self, requests: Sequence[Request]) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self._carry(request)) for request in requests]
        self._flying.update(tasks)
        for task in tasks:
            task.add_done_callback(self._landed)
        return tasks

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("request lost its way", problem=f"{type(problem).__name__}: {problem}")

    async def _carry(self, request: Request) -> None:
        """Hand a request over and write down what came of it."""
        channel = self._channels[request.provider]
        critical = request.departures[0].message.lane == "critical"
        self._routes.left(request.provider, request.id, self._now())
        try:
            async with self._slots[request.provider, critical]:
                if not critical:
                    await self._give_way()
                answers = await self._hand_over(request, channel)
                failpoint("dispatch.before_settle")
                if not critical:
                    await self._give_way()
                await self._settle(request, channel, answers)
                failpoint("dispatch.after_settle")
        except BaseException:
            self._lease.renounce()
            raise
        finally:
            self._routes.landed(request.provider, request.id)

    async def _hand_over(self, request: Request, channel: Channel) -> list[Answer]:
        messages = [departure.message for departure in request.departures]
        links = await self._links(messages) if self._links is not None else {}
        batch = [self._outgoing(departure, links) for departure in request.departures]
        failpoint("dispatch.before_send")
        why_not = ""
        if self._links is not None and any(one.text.endswith(LINK_MASK) and one.id not in links for one in messages):
            why_not = outcomes.NO_LINK
        if not self._lease.holds(request.worker):
            # The last look before the first byte: somebody else may be asking about these attempts already.
            count("dispatch.lease_over", len(batch))
            why_not = outcomes.LEASE_OVER
        if why_not:
            return [Answer(out.attempt_id, Outcome.NOT_SENT, detail=why_not) for out in batch]
        began, began_ns = perf_counter(), time_ns()
        try:
            given = await channel.send(batch)
        except Exception:
            # A channel never raises; should it do so all the same, nobody knows what it had sent by then.
            log.exception("channel failed", provider=channel.name)
            given = []
        measure("request_seconds", perf_counter() - began, (channel.name,))
        failpoint("dispatch.after_send")
        answers = outcomes.answers_of(request.departures, given)
        if (tracer := traces.active()) is not None:
            both = zip(request.departures, answers, strict=True)
            tracer.handed(channel.name, [(d.message, d.attempt_no, a.outcome.value) for d, a in both], began_ns)
        return answers

    def _unsure(self, waiting: Waiting) -> Unsure:
        m = self._ledger.as_sent(waiting.message)
        return Unsure(waiting.attempt_id, m.to, waiting.sending_at, waiting.ref, m.text, m.template)

    def _outgoing(self, departure: Departure, links: Mapping[bytes, str]) -> Outgoing:
        message = self._ledger.as_sent(departure.message)
        made = outgoing(departure, message)
        if message.channel != "sms" and (link := links.get(message.id)):
            made = replace(made, link=link)
        if self._unsubscribe is None or message.channel != "email" or not message.marketing:
            return made
        return replace(made, unsubscribe=self._unsubscribe(message))

    async def _settle(self, request: Request, channel: Channel, answers: Sequence[Answer]) -> None:
        now = self._now()
        self._routes.saw(channel.name, [one for one in answers if one.detail not in outcomes.OURS], now)
        settlements = [
            outcomes.settle(
                departure, answer, channel, now, another_at=self._another_at(departure, answer, channel, now)
            )
            for departure, answer in zip(request.departures, answers, strict=True)
        ]
        _note(request, answers, now)
        if any(answer.outcome is Outcome.CHANNEL_DOWN for answer in answers):
            detail = next(answer.detail for answer in answers if answer.outcome is Outcome.CHANNEL_DOWN)
            log.error("provider refuses everything: check its key and account", provider=channel.name, detail=detail)
        refused = [
            _recipient(departure)
            for departure, answer in zip(request.departures, answers, strict=True)
            if answer.outcome is Outcome.REJECTED_RECIPIENT
        ]
        while True:
            try:
                # Before it is settled: should this process die here, the attempt is in doubt and comes again.
                await self._receiver.say(refused, Outcome.REJECTED_RECIPIENT.value)
                named = _is_named(channel)
                _, late = await self._ledger.settle(request, channel.name, settlements, now, named=named)
            except DatabaseUnavailable:
                # Writing the same answers twice does no harm; not writing them would leave the messages in doubt.
                count("dispatch.settle_waits")
                if self._closing.is_set():
                    raise
                await asyncio.sleep(SETTLE_PAUSE_S)
            else:
                report_late(late, channel.name)
                return

    def _another_at(self, departure: Departure, answer: Answer, channel: Channel, now: datetime) -> datetime | None:
        """From when another provider could carry what this one did not."""
        if answer.outcome is Outcome.ACCEPTED:
            return None
        refused = answer.outcome is Outcome.REJECTED_CONTENT
        name = f"{channel.name}{REFUSES_CONTENT}" if refused else channel.name
        return self._routes.another_at(departure.message, (*departure.tried, name), now)

    async def _receipts_of(self, channel: Channel, worker: int) -> int:
        after = await self._ledger.receipt_cursor(channel.name, worker)
        if after is None:
            return 0
        try:
            limit = BRISK_RECEIPTS if self._is_brisk(self._now()) else RECEIPTS_BATCH
            found = await channel.receipts(limit, after)
        except ChannelUnavailable as problem:
            count("dispatch.receipts_unavailable")
            self._complain("receipts cannot be read", channel, problem)
            return 0
        if found:
            await self._give_way()
            await self._receiver.page(channel.name, found, after)
        return len(found)

    async def _repeat_unknown(self) -> int:
        """Send unknown attempts again under their own id, where the provider recognises them."""
        handled = 0
        for channel in self._channels.values():
            if channel.recovery is Recovery.KEY:
                claim = Claim(self._now(), self._batch, [channel.name], await self._lease.ensure())
                try:
                    decided = await self._claim("unknown", claim, partial(self._repeat, channel))
                except BaseException:
                    self._lease.renounce()
                    raise
                _raise_first(await asyncio.gather(*self._set_off(decided.requests), return_exceptions=True))
                handled += len(decided.moves)
                left = [move.waiting for move in decided.moves if move.status == "unknown"]
                await self._by_class(channel.name, left, claim.now)
        return handled

    def _repeat(self, channel: Channel, waiting: Waiting, now: datetime) -> Move:
        """An unknown attempt, once more with the code of its template: without it the same words would be refused."""
        code = self._routes.code_of(channel, waiting.message)
        if channel.needs_template and not code:
            return outcomes.leave(waiting, now)
        return replace(outcomes.repeat(channel, waiting, now), code=code)

    async def _ask_unknown(self) -> int:
        """Ask about unknown attempts, where the provider can be asked."""
        looked_at = 0
        for channel in self._channels.values():
            if channel.recovery is Recovery.LOOKUP:
                claim = Claim(self._now(), self._batch, [channel.name], await self._lease.ensure())
                decided = await self._claim("unknown", claim, partial(outcomes.ask, channel))
                asked = [move.waiting for move in decided.moves if move.due_at is not None]
                looked_at += len(decided.moves)
                if asked:
                    await self._look_up(channel, asked, claim.now)
        return looked_at

    async def _look_up(self, channel: Channel, asked: Sequence[Waiting], now: datetime) -> None:
        try:
            found = await channel.lookup([self._unsure(waiting) for waiting in asked])
        except ChannelUnavailable as problem:
            count("dispatch.lookup_unavailable")
            self._complain("provider cannot be asked", channel, problem)
            found = []
        except Exception:
            # A channel raises nothing else; should it do so all the same, the others are asked nevertheless.
            log.exception("channel failed", provider=channel.name)
            found = []
        by_id = {waiting.attempt_id: waiting for waiting in asked}
        known = [one for one in found if one.attempt_id in by_id]
        for one in known:
            count(f"dispatch.lookup_{one.fate}")
        failed = [_recipient(by_id[one.attempt_id]) for one in known if one.fate is Fate.FAILED]
        await self._receiver.say(failed, "failed")
        settlements = [outcomes.resolve(by_id[one.attempt_id], one, now) for one in known]
        if settlements:
            named = _is_named(channel)
            await self._ledger.settle(None, channel.name, settlements, now, named=named)
        await self._by_class(
            channel.name, [by_id[name] for name in by_id.keys() - {one.attempt_id for one in known}], now
        )

    async def _end_unknown(self) -> int:
        """Let the class decide where nobody can be asked, and no receipt came."""
        ended = 0
        for channel in self._channels.values():
            if channel.recovery is Recovery.NONE:
                claim = Claim(self._now(), self._batch, [channel.name], await self._lease.ensure())
                decided = await self._claim("unknown", claim, outcomes.leave)
                await self._by_class(channel.name, [move.waiting for move in decided.moves], claim.now)
                ended += len(decided.moves)
        # Those of providers that are not used any more: there is nobody to ask.
        claim = Claim(self._now(), self._batch, list(self._channels), await self._lease.ensure())
        decided = await self._claim("orphaned", claim, outcomes.leave)
        await self._by_class("", [move.waiting for move in decided.moves], claim.now)
        return ended + len(decided.moves)

    async def _by_class(self, provider: str, waiting: Sequence[Waiting], now: datetime) -> None:
        """End the doubts that nobody can resolve, as the class of each message wants it."""
        over = [outcomes.give_way(one, now) for one in waiting]
        settlements = [one for one in over if one is not None]
        if settlements:
            count("dispatch.in_doubt_resend", len(settlements))
            await self._ledger.settle(None, provider, settlements, now)

    def _complain(self, words: str, channel: Channel, problem: Exception) -> None:
        """Log a trouble that comes again and again, now and then."""
        now = self._now()
        last = self._complained.get((words, channel.name))
        if last is None or now - last >= COMPLAIN_EVERY:
            self._complained[words, channel.name] = now
            log.warning(words, provider=channel.name, problem=str(problem))

    async def _beat(self) -> None:
        """Renew the lease, whatever the other loops are waiting for."""
        while True:
            try:
                await self._lease.ensure()
            except DatabaseUnavailable:
                count("dispatch.lease_waits")
            await asyncio.sleep(RENEW_AFTER_S / 2)

    async def _again(self, act: Callable[[], Awaitable[int]], idle_s: float) -> None:
        """Do something again and again until `close`, with a pause whenever there was nothing to do."""
        while not self._closing.is_set():
            try:
                busy = await act()
            except DatabaseUnavailable as problem:
                log.warning("dispatch waits for the database", problem=str(problem))
                busy = 0
            except Exception:
                # Whatever it was, the other loops go on, and so does this one.
                log.exception("dispatch failed")
                count("dispatch.failed")
                busy = 0
            if not busy:
                await self._pause(idle_s)

    async def _pause(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._closing.wait()
        except TimeoutError:
            return


def _note(request: Request, answers: Sequence[Answer], now: datetime) -> None:
    """Put what came of a request into the figures."""
    for departure, answer in zip(request.departures, answers, strict=True):
        message = departure.message
        count(f"dispatch.{answer.outcome}")
        tally("messages", (message.channel, request.provider, answer.outcome))
        if answer.outcome is Outcome.ACCEPTED:
            measure("tell_seconds", (now - message.created_at).total_seconds(), (message.lane,))


def _is_named(channel: Channel) -> bool:
    """Whether the provider will speak of attempts by its own references alone."""
    return channel.receipts_by is not ReceiptsBy.NONE and not channel.receipts_name_attempts


def _recipient(one: Departure | Waiting) -> Recipient:
    m = one.message
    return Recipient(one.attempt_id, m.tenant, m.contact, m.order_no, m.topic, m.channel, m.told_at)


def _raise_first(results: Sequence[BaseException | None]) -> None:
    for result in results:
        if result is not None:
            raise result
