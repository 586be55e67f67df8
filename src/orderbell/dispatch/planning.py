"""From pending notices to requests: pure, run inside the transaction that holds the contacts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import structlog

from orderbell.channels.protocol import Channel
from orderbell.core.events import ChannelName
from orderbell.core.model import Fate, History, Message, Outlook, Plan, Reason, derive_id
from orderbell.core.plan import plan
from orderbell.core.turn import Shelf
from orderbell.observe import count
from orderbell.store.ledger import LANE_NUMBERS, Departure, Pending, Planned, Request

PlanAt = Callable[[datetime], datetime]
log = structlog.get_logger()
_NO_PLAYBOOKS = Shelf({})


class Planner:
    """Plans the notices of contacts at one moment, and lays the messages out into requests.

    Args:
        shelves: The playbooks by tenant.
        providers: Which channel of `Message.channel` goes to whom.
        now: The moment of dispatch.
        patience: How long a receipt is waited for, by channel; those that are not in it are closed.
        plan_at: From when a notice fell due to when it is planned; None for `now` (see `plan_punctually`).
    """

    def __init__(
        self,
        shelves: Mapping[str, Shelf],
        providers: Mapping[ChannelName, Channel],
        now: datetime,
        patience: Mapping[ChannelName, timedelta],
        plan_at: PlanAt | None = None,
    ) -> None:
        self._shelves, self._providers, self._now, self._plan_at = shelves, providers, now, plan_at
        self._patience = patience

    def plan(self, pendings: Sequence[Pending], worker: int) -> Planned:
        """Plan all that waits for these contacts; the requests are written under the lease of `worker`."""
        planned = Planned()
        messages: list[Message] = []
        for pending in pendings:
            shelf = self._shelves.get(pending.contact.tenant, _NO_PLAYBOOKS)
            history, fates = self._fates(shelf, pending, messages)
            if history is not pending.history:
                planned.histories[pending.contact.key] = history
            for fate, at in fates:
                if fate.kind == "held":
                    planned.held.append(fate.notice)
                else:
                    planned.fates.append((fate, at))
        departures: dict[str, list[Departure]] = {}
        for message in sorted(map(_writable, messages), key=_lane_of):
            departure = Departure(message, derive_id(self._now, message.id.hex(), 1), 1)
            if message.channel == "inbox":
                planned.inbox.append(departure)
            else:
                departures.setdefault(self._providers[message.channel].name, []).append(departure)
        planned.requests = lay_out(departures, self._providers.values(), worker)
        return planned

    def _fates(
        self, shelf: Shelf, pending: Pending, messages: list[Message]
    ) -> tuple[History, Iterable[tuple[Fate, datetime]]]:
        """What has been heard, and the last fate of every notice that has one; adds the messages."""
        if self._plan_at is not None:
            return self._plan_punctually(shelf, pending, messages, self._plan_at)
        result = self._plan_once(shelf, pending, self._now)
        messages += result.messages
        return result.history, [(fate, self._now) for fate in result.fates]

    def _plan_punctually(
        self, shelf: Shelf, pending: Pending, messages: list[Message], plan_at: PlanAt
    ) -> tuple[History, Iterable[tuple[Fate, datetime]]]:
        """Plan at each moment at which something fell due, with what was known then: a machine that is never late."""
        waiting = {notice.id: notice for notice in pending.notices}
        fates: dict[bytes, tuple[Fate, datetime]] = {}
        history = pending.history
        while due := [notice.due_at for notice in waiting.values() if notice.due_at <= self._now]:
            moment = min(due)
            at = max(plan_at(moment), moment)
            known = [n for n in waiting.values() if n.created_at <= moment or n.due_at <= moment]
            result = self._plan_once(shelf, Pending(pending.contact, history, known, pending.statuses), at)
            messages += result.messages
            history = result.history
            planned = {fate.notice.id for fate in result.fates}
            for notice in known:
                if notice.due_at <= at and notice.id not in planned:
                    del waiting[notice.id]  # without a word on it, planning it again at this moment would never end
            for fate in result.fates:
                fates[fate.notice.id] = (fate, at)
                if fate.kind == "held":
                    waiting[fate.notice.id] = fate.notice
                else:
                    waiting.pop(fate.notice.id, None)
        return history, fates.values()

    def _plan_once(self, shelf: Shelf, pending: Pending, at: datetime) -> Plan:
        outlook = Outlook(self._patience, pending.statuses)
        try:
            return plan(shelf.playbooks, pending.contact, pending.history, pending.notices, at, outlook)
        except Exception:
            # One notice must not stop the batch: each is planned alone, and the one that fails is put on record.
            log.exception("plan failed", tenant=pending.contact.tenant, contact=pending.contact.id)
        messages: list[Message] = []
        fates: list[Fate] = []
        history = pending.history
        for notice in (n for n in pending.notices if n.due_at <= at):
            try:
                alone = plan(shelf.playbooks, pending.contact, history, [notice], at, outlook)
            except Exception:  # noqa: BLE001 - whatever a plan dies of, the notice is kept and shown
                count("dispatch.undecidable")
                alone = Plan((), (Fate(notice, "dropped", Reason.UNDECIDABLE),), history)
            messages += alone.messages
            fates += alone.fates
            history = alone.history
        return Plan(tuple(messages), tuple(fates), history)


def lay_out(departures: Mapping[str, Sequence[Departure]], channels: Iterable[Channel], worker: int) -> list[Request]:
    """Cut the departures of each provider into requests that it takes."""
    sizes = {channel.name: channel.batch_max for channel in channels}
    return [
        Request(name, worker, list(mine[start : start + sizes[name]]))
        for name, mine in departures.items()
        for start in range(0, len(mine), sizes[name])
    ]


def _lane_of(message: Message) -> int:
    return LANE_NUMBERS[message.lane]


def _writable(message: Message) -> Message:
    # PostgreSQL keeps no zero character in a text, and one order's title must not stop a whole batch.
    if "\0" in message.text:
        return msgspec.structs.replace(message, text=message.text.replace("\0", ""))
    return message
