"""After a restore from a backup: find out what had been sent in the time that the database does not know.

What waits to be told at the moment of the backup may long have been told. So everything that was due before the restore
is planned as *may have gone out*, all providers that can be asked are asked about it, and only what none of them has
ever seen is sent. Ids of messages and attempts are derived from their notices, so the providers know them by the same
names as before.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import structlog
from msgspec import Struct
from msgspec.structs import replace

from orderbell.channels.protocol import Channel, ChannelUnavailable, Fate, Found, Recovery, Unsure
from orderbell.core.events import ChannelName
from orderbell.core.turn import Shelf
from orderbell.dispatch.outcomes import NO_WORD, clean, next_attempt
from orderbell.dispatch.planning import Planner
from orderbell.dispatch.routes import Routes
from orderbell.store.ledger import Claim, Ledger, Move, Pending, Planned, Status, Waiting

BATCH = 500
ATTEMPTS_ASKED = 3
"""So many attempts of a message are asked about; more were hardly made between a backup and its restore."""

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
    await ledger.doubt_everything(now)
    await _plan_doubtful(ledger, shelves, routes, patience, since or now)
    found = Reconciled()
    waiting = await ledger.restored()
    for start in range(0, len(waiting), BATCH):
        batch = waiting[start : start + BATCH]
        moves = await _look_into(routes, batch, now, found)
        await ledger.reconcile(moves, now)
        progress(start + len(batch), len(waiting))
    return found


async def _plan_doubtful(
    ledger: Ledger,
    shelves: Mapping[str, Shelf],
    routes: Routes,
    patience: Mapping[ChannelName, timedelta],
    since: datetime,
) -> None:
    """Plan what was due before the restore, without sending any of it."""
    worker = await ledger.take_lease("reconciling", timedelta(minutes=5))
    planner = Planner(shelves, routes, since, patience)

    def plan(pendings: Sequence[Pending]) -> Planned:
        planned = planner.plan(pendings, worker)
        planned.doubtful = [one for request in planned.requests for one in request.departures]
        planned.doubtful += [one.departure for one in planned.delayed]
        planned.requests, planned.delayed = [], []
        return planned

    while True:
        planned = await ledger.plan_due(Claim(since, BATCH, list(shelves), worker), partial(plan))
        if not planned.fates and not planned.held:
            break
    await ledger.give_up_lease(worker)


async def _look_into(routes: Routes, batch: Sequence[Waiting], now: datetime, found: Reconciled) -> list[Move]:
    asked = {one.message.id: _attempts(one) for one in batch}
    known: dict[bytes, tuple[str, Found]] = {}
    unasked: set[str] = set()
    for channel in routes.channels.values():
        if channel.recovery is Recovery.LOOKUP:
            mine = [
                unsure for one in batch if one.message.channel in channel.carries for unsure in asked[one.message.id]
            ]
            try:
                answers = await channel.lookup(mine) if mine else []
            except ChannelUnavailable as problem:
                log.warning("provider cannot be asked", provider=channel.name, problem=str(problem))
                unasked |= channel.carries
                continue
            for answer in answers:
                if answer.fate is not Fate.NOT_FOUND:
                    known[answer.attempt_id] = (channel.name, answer)
    return [_judge(routes, one, known, unasked, now, found) for one in batch]


def _judge(
    routes: Routes,
    one: Waiting,
    known: Mapping[bytes, tuple[str, Found]],
    unasked: set[str],
    now: datetime,
    found: Reconciled,
) -> Move:
    message = one.message
    for unsure in _attempts(one):
        if unsure.attempt_id in known:
            provider, word = known[unsure.attempt_id]
            status: Status = "accepted"
            if word.fate is not Fate.ACCEPTED:
                status = "delivered" if word.fate is Fate.DELIVERED else "failed"
            found.sent += 1
            return Move(
                one,
                status,
                unsure.attempt_id,
                max(one.attempt_no, 1),
                None,
                "found",
                provider,
                clean(word.provider_ref),
            )
    if message.channel in unasked:
        found.unasked += 1
        return Move(one, "unknown", one.attempt_id, one.attempt_no, None, "restored", one.provider)
    carriers = [channel for channel in routes.channels.values() if message.channel in channel.carries]
    if not all(_is_sure(channel) for channel in carriers) and not message.resend:
        found.unknowable += 1
        return Move(one, "unknown", one.attempt_id, one.attempt_no, None, NO_WORD, one.provider)
    found.not_sent += 1
    if message.valid_until < now:
        return Move(one, "failed", one.attempt_id, one.attempt_no, None, "out_of_date")
    # Where a provider recognises attempts the first one comes again, which cannot be taken twice; else a new one.
    keyed = any(channel.recovery is Recovery.KEY for channel in carriers)
    return Move(one, "queued", one.attempt_id, 0 if keyed else ATTEMPTS_ASKED, now, "never_sent")


def _is_sure(channel: Channel) -> bool:
    """Whether a message that this provider carried before would not be carried twice."""
    return channel.recovery is Recovery.LOOKUP or (channel.recovery is Recovery.KEY and not channel.key_window_s)


def _attempts(one: Waiting) -> list[Unsure]:
    message = one.message
    whole = Unsure(one.attempt_id, message.to, message.told_at, one.ref, message.text, message.template)
    return [replace(whole, attempt_id=next_attempt(message, number)) for number in range(1, ATTEMPTS_ASKED + 1)]
