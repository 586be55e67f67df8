"""After a restore from a backup: find out what had been sent in the time that the database does not know.

What waits to be told at the moment of the backup may long have been told. So everything that was due before the restore
is planned as *may have gone out*, all providers that can be asked are asked about it, and only what none of them has
ever seen is sent. Ids of messages and attempts are derived from their notices, so the providers know them by the same
names as before.

Each contact is planned moment by moment, as it was before: planned at the moment of the restore, a notice that had been
told at noon would be held for the night, and told again in the morning. Between two moments the providers are asked, so
that what was delivered on one channel is not planned for the next one.

==================================  ====================================================================================
who may carry the message           what becomes of it when nobody has seen it
==================================  ====================================================================================
only providers that can be asked    it goes out as a new attempt
one that recognises attempts        the same attempt goes there again, which cannot be taken twice
any others, or no clear word        it stays unknown, unless its class is rather told twice than never
==================================  ====================================================================================
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from msgspec import Struct
from msgspec.structs import replace

from orderbell.channels.protocol import Channel, ChannelUnavailable, Fate, Found, Recovery, Unsure
from orderbell.core.events import ChannelName
from orderbell.core.model import Notice
from orderbell.core.plan import PATIENCE
from orderbell.core.turn import Shelf
from orderbell.dispatch.outcomes import NO_WORD, next_attempt, ref_of
from orderbell.dispatch.planning import Planner
from orderbell.dispatch.routes import Routes
from orderbell.errors import DatabaseUnavailable
from orderbell.store.ledger import Claim, Ledger, Move, Pending, Planned, Status, Waiting

BATCH = 500
ATTEMPTS_ASKED = 3
"""So many attempts of a message are asked about; more were hardly made between a backup and its restore."""

HELD_PAUSE_S = 0.1
HELD_TRIES = 100
"""How often, and how long in between, to look again for contacts that somebody else holds."""

_LEASE = timedelta(minutes=5)
_AFTER = timedelta(milliseconds=1)

log = structlog.get_logger()

Progress = Callable[[int, int], None]
"""Is told how many messages have been looked into, out of how many."""


class Reconciled(Struct):
    """What a reconciliation found: sent before, never sent, not to be known, and not to be asked now."""

    sent: int = 0
    not_sent: int = 0
    unknowable: int = 0
    unasked: int = 0


async def reconcile(
    ledger: Ledger,
    shelves: Mapping[str, Shelf],
    routes: Routes,
    patience: Mapping[ChannelName, timedelta],
    now: datetime,
    *,
    progress: Progress = lambda _done, _all: None,
) -> Reconciled:
    """Look into everything that may have gone out before the restore; sending must be halted.

    Raises:
        DatabaseUnavailable: It can be begun again.
    """
    _, _, since = await ledger.halted()
    until = since or now
    await ledger.doubt_everything(now)
    worker = await ledger.take_lease("reconciling", _LEASE)
    past = _Past(ledger, shelves, routes, patience, until, worker)
    inquiry = _Inquiry(ledger, routes, now, max(now, until + _AFTER))
    waiting: list[Waiting] | None = await ledger.restored()
    done = whole = 0
    while waiting is not None:
        whole += len(waiting)
        for start in range(0, len(waiting), BATCH):
            batch = waiting[start : start + BATCH]
            await ledger.reconcile(await inquiry.look_into(batch), now)
            done += len(batch)
            progress(done, whole)
        waiting = await past.plan()
    await ledger.give_up_lease(worker)
    return inquiry.found


class _Past:
    """Plans what was due before the restore, without sending any of it."""

    def __init__(
        self,
        ledger: Ledger,
        shelves: Mapping[str, Shelf],
        routes: Routes,
        patience: Mapping[ChannelName, timedelta],
        until: datetime,
        worker: int,
    ) -> None:
        self._ledger, self._shelves, self._routes, self._patience = ledger, shelves, routes, patience
        self._until, self._worker = until, worker

    async def plan(self) -> list[Waiting] | None:
        """Plan the next moment of some contacts; None when nothing is left."""
        claim = Claim(self._until, BATCH, list(self._shelves), self._worker)
        for _ in range(HELD_TRIES):
            planned = await self._ledger.plan_due(claim, self._plan_all)
            if planned.fates or planned.held:
                return [Waiting(d.message, d.attempt_id, d.attempt_no, "", self._until) for d in planned.doubtful]
            due_at = await self._ledger.next_due_at(self._shelves)
            if due_at is None or due_at > self._until:
                return None
            await asyncio.sleep(HELD_PAUSE_S)
        raise DatabaseUnavailable("contacts with notices that are due are held by other work; begin again")

    def _plan_all(self, pendings: Sequence[Pending]) -> Planned:
        whole = Planned()
        for pending in pendings:
            one = self._plan_one(pending)
            whole.fates += one.fates
            whole.held += one.held
            whole.inbox += one.inbox
            # The request was another one before the restore, so is the name that a provider had for it.
            whole.doubtful += [replace(d, ref="") for request in one.requests for d in request.departures]
            whole.doubtful += [delayed.departure for delayed in one.delayed]
            whole.histories.update(one.histories)
        return whole

    def _plan_one(self, pending: Pending) -> Planned:
        later = {n.id: self._postponed(n) for n in pending.notices if _waits_for_unsent(n, pending.statuses)}
        notices = [later.get(notice.id, notice) for notice in pending.notices]
        moment = min((n.due_at for n in notices if n.due_at <= self._until), default=self._until)
        planner = Planner(self._shelves, self._routes, moment, self._patience)
        planned = planner.plan([replace(pending, notices=notices)], self._worker)
        ended = {fate.notice.id for fate, _ in planned.fates} | {notice.id for notice in planned.held}
        planned.held += [notice for name, notice in later.items() if name not in ended]
        return planned

    def _postponed(self, notice: Notice) -> Notice:
        waits = max(self._patience.get(one.channel, PATIENCE) for one in notice.tried)
        return replace(notice, due_at=max(notice.due_at, self._until + waits))


def _waits_for_unsent(notice: Notice, statuses: Mapping[bytes, str]) -> bool:
    """Whether the message whose receipt it waits for has turned out to be still to send."""
    return any(statuses.get(one.message_id) == "queued" for one in notice.tried)


class _Inquiry:
    """Asks the providers about messages, and judges what they say."""

    def __init__(self, ledger: Ledger, routes: Routes, now: datetime, leaves_at: datetime) -> None:
        self._ledger, self._routes, self._now, self._leaves_at = ledger, routes, now, leaves_at
        self.found = Reconciled()

    async def look_into(self, batch: Sequence[Waiting]) -> list[Move]:
        """Say where each message goes."""
        words = {one.message.id: _Words() for one in batch}
        for channel in self._routes.channels.values():
            if channel.recovery is Recovery.LOOKUP:
                mine = [
                    replace(one, message=self._ledger.as_sent(one.message))
                    for one in batch
                    if words[one.message.id].found is None and self._routes.may_carry(channel, one.message)
                ]
                for turn in range(ATTEMPTS_ASKED):
                    # One attempt of each message at a time: some providers find messages by their text, and say
                    # nothing when they are asked for two of one text.
                    mine = await _ask(channel, mine, turn, words) if mine else []
        return [self._judge(one, words[one.message.id]) for one in batch]

    def _judge(self, one: Waiting, words: "_Words") -> Move:
        if words.found is not None:
            self.found.sent += 1
            number, provider, word = words.found
            status: Status = "accepted"
            if word.fate is not Fate.ACCEPTED:
                status = "delivered" if word.fate is Fate.DELIVERED else "failed"
            return Move(one, status, word.attempt_id, number, None, "found", provider, ref_of(word.provider_ref))
        carriers = [c for c in self._routes.channels.values() if self._routes.may_carry(c, one.message)]
        if words.unasked or not carriers:  # whoever carried it then is not there now
            self.found.unasked += 1
            return Move(one, "unknown", one.attempt_id, one.attempt_no, None, "restored", one.provider)
        seen_by_none = not words.unclear and all(channel.recovery is Recovery.LOOKUP for channel in carriers)
        repeated = not seen_by_none and _may_repeat(carriers, one)
        if not seen_by_none and not repeated and not one.message.resend:
            self.found.unknowable += 1
            # With its only carrier's name a receipt of that one still finds it.
            provider = carriers[0].name if len(carriers) == 1 else one.provider
            return Move(one, "unknown", one.attempt_id, one.attempt_no, None, NO_WORD, provider)
        self.found.not_sent += 1
        if one.message.valid_until < self._now:
            return Move(one, "failed", one.attempt_id, one.attempt_no, None, "out_of_date")
        before = 0 if repeated else _first_number(one) + ATTEMPTS_ASKED - 1
        return Move(one, "queued", one.attempt_id, before, self._leaves_at, "never_sent")


class _Words(Struct):
    """What the providers said of a message: who has which attempt, or why nothing is known."""

    found: tuple[int, str, Found] | None = None
    unclear: bool = False
    unasked: bool = False


async def _ask(channel: Channel, mine: Sequence[Waiting], turn: int, words: Mapping[bytes, _Words]) -> list[Waiting]:
    """Ask about one attempt of each message; returns those that were not found."""
    attempts = [(one, _attempt(one, turn)) for one in mine]
    try:
        answers = await channel.lookup([attempt for _, attempt in attempts])
    except ChannelUnavailable as problem:
        log.warning("provider cannot be asked", provider=channel.name, problem=str(problem))
        for one, _ in attempts:
            words[one.message.id].unasked = True
        return []
    given = {answer.attempt_id: answer for answer in answers}
    missing: list[Waiting] = []
    for one, attempt in attempts:
        answer = given.get(attempt.attempt_id)
        if answer is None:
            words[one.message.id].unclear = True
        elif answer.fate is Fate.NOT_FOUND:
            missing.append(one)
        else:
            words[one.message.id].found = (_first_number(one) + turn, channel.name, answer)
    return missing


def _may_repeat(carriers: Sequence[Channel], one: Waiting) -> bool:
    """Whether the first attempt can go out again: only one provider may have had it, and recognises it for good."""
    if len(carriers) != 1 or one.tried or one.attempt_no > 1:
        return False
    return carriers[0].recovery is Recovery.KEY and not carriers[0].key_window_s


def _first_number(one: Waiting) -> int:
    """The number of the first attempt that may have gone out; those before it had failed by the time of the backup."""
    return max(one.attempt_no, 1)


def _attempt(one: Waiting, turn: int) -> Unsure:
    message = one.message
    attempt_id = next_attempt(message, _first_number(one) + turn)
    # What had been sent by the time of the backup is known with its time and its name at the provider.
    sent_at = one.sending_at if one.provider else message.told_at
    ref = one.ref if attempt_id == one.attempt_id else ""
    return Unsure(attempt_id, message.to, sent_at, ref, message.text, message.template)
