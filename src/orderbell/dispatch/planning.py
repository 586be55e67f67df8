"""From pending notices to requests: pure, run inside the transaction that holds the contacts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import structlog

from orderbell.channels.protocol import Channel, Outgoing
from orderbell.core.events import ChannelName
from orderbell.core.model import Fate, History, Message, Outlook, Plan, Reason, Told, derive_id
from orderbell.core.plan import plan
from orderbell.core.turn import Key, Shelf
from orderbell.dispatch.routes import Routes, Wait
from orderbell.observe import count
from orderbell.store.ledger import INBOX, LANE_NUMBERS, Delayed, Departure, Pending, Planned, Request

PlanAt = Callable[[datetime], datetime]
log = structlog.get_logger()
_NO_PLAYBOOKS = Shelf({})
_OVER = frozenset({Reason.RECEIPT_CAME, Reason.FELL_BACK, Reason.FALLBACK_STOPPED, Reason.WITHDRAWN, Reason.COVERED})


class Planner:
    """Plans the notices of contacts at one moment, and lays the messages out into requests.

    Args:
        shelves: The playbooks by tenant.
        routes: The ways to the providers.
        now: The moment of dispatch.
        patience: How long a receipt is waited for, by channel; those that are not in it are closed.
        plan_at: From when a notice fell due to when it is planned; None for `now` (see `plan_punctually`).
    """

    def __init__(
        self,
        shelves: Mapping[str, Shelf],
        routes: Routes,
        now: datetime,
        patience: Mapping[ChannelName, timedelta],
        plan_at: PlanAt | None = None,
    ) -> None:
        self._shelves, self._routes, self._now, self._plan_at = shelves, routes, now, plan_at
        self._patience = patience
        self._outlooks: dict[str, Outlook] = {}

    def plan(self, pendings: Sequence[Pending], worker: int) -> Planned:
        """Plan all that waits for these contacts; the requests are written under the lease of `worker`."""
        planned = Planned()
        messages: list[Message] = []
        heard: dict[Key, tuple[Told, ...]] = {}
        for pending in pendings:
            shelf = self._shelves.get(pending.contact.tenant, _NO_PLAYBOOKS)
            written: list[Message] = []
            history, fates = self._fates(shelf, pending, written)
            if written:
                messages += map(_writable, written)
                heard[pending.contact.key] = pending.history.told
            planned.given_up += _given_up(pending, fates)
            if history is not pending.history:
                planned.histories[pending.contact.key] = history
            for fate, at in fates:
                if fate.kind == "held":
                    planned.held.append(fate.notice)
                else:
                    planned.fates.append((fate, at))
        departures: dict[str, list[Departure]] = {}
        for message in sorted(messages, key=_lane_of):
            self._route(message, heard, planned, departures)
        planned.requests = lay_out(departures, self._routes.channels, worker)
        return planned

    def _route(
        self,
        message: Message,
        heard: dict[Key, tuple[Told, ...]],
        planned: Planned,
        departures: dict[str, list[Departure]],
    ) -> None:
        """Find the message its provider; `heard` is what people heard lately, and grows with each message."""
        attempt_id = derive_id(message.created_at, message.id.hex(), 1)
        if message.channel == INBOX:
            planned.inbox.append(Departure(message, attempt_id, 1))
            return
        key = (message.tenant, message.contact)
        choice = self._routes.choose(message, attempt_id, self._now, told=heard[key])
        at = choice.until if isinstance(choice, Wait) else self._now
        heard[key] += (Told(at, message.order_no, message.topic, message.lane, message.channel),)
        if isinstance(choice, Wait):
            count(f"dispatch.{choice.reason}")
            none_yet = Departure(message, derive_id(message.created_at, message.id.hex(), 0), 0)
            planned.delayed.append(Delayed(none_yet, choice.until, choice.reason))
        else:
            departures.setdefault(choice.provider, []).append(Departure(message, attempt_id, 1, code=choice.code))

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

    def _outlook(self, pending: Pending) -> Outlook:
        """What the tenant's planner needs to know; the same for all of a batch but what came of earlier tries."""
        tenant = pending.contact.tenant
        known = self._outlooks.get(tenant)
        if known is None or known.statuses is not pending.statuses:
            known = self._outlooks[tenant] = self._routes.outlook(tenant, self._patience, pending.statuses)
        return known

    def _plan_once(self, shelf: Shelf, pending: Pending, at: datetime) -> Plan:
        outlook = self._outlook(pending)
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


def lay_out(
    departures: Mapping[str, Sequence[Departure]], channels: Mapping[str, Channel], worker: int
) -> list[Request]:
    """Cut the departures of each provider into requests that it takes, each with the name that it will have there."""
    requests: list[Request] = []
    for name, mine in departures.items():
        channel = channels[name]
        alike: dict[object, list[Departure]] = {}
        for departure in mine:
            alike.setdefault(channel.together(outgoing(departure)), []).append(departure)
        for group in alike.values():
            for start in range(0, len(group), channel.batch_max):
                batch = group[start : start + channel.batch_max]
                requests.append(Request(name, worker, [_named(one, batch[0], channel) for one in batch]))
    return requests


def outgoing(departure: Departure, message: Message | None = None) -> Outgoing:
    """An attempt as its channel is told of it; `message` is the departure's with the code of its link."""
    m = message or departure.message
    return Outgoing(
        departure.attempt_id, m.channel, m.to, m.text, m.subject, m.topic, m.template, m.slots, departure.code,
        urgent=m.lane == "critical", marketing=m.marketing, ref=departure.ref, order_no=m.order_no,
        valid_until=m.valid_until,
    )  # fmt: skip


def _named(departure: Departure, first: Departure, channel: Channel) -> Departure:
    ref = channel.ref_of(first.attempt_id, outgoing(departure))
    return msgspec.structs.replace(departure, ref=ref) if ref else departure


def _given_up(pending: Pending, fates: Iterable[tuple[Fate, datetime]]) -> list[tuple[str, bytes]]:
    """Messages that may still wait for a provider although what they say has been told otherwise, or is over."""
    tried = {notice.id: notice.tried for notice in pending.notices if notice.tried}
    if not tried:
        return []
    return [
        (pending.contact.tenant, one.message_id)
        for fate, _ in fates
        if fate.notice.id in tried and (fate.reason in _OVER or len(fate.notice.tried) > len(tried[fate.notice.id]))
        for one in tried[fate.notice.id]
        if pending.statuses.get(one.message_id) == "queued"
    ]


def _lane_of(message: Message) -> int:
    return LANE_NUMBERS[message.lane]


def _writable(message: Message) -> Message:
    # PostgreSQL keeps no zero character in a text, and one order's title must not stop a whole batch.
    if "\0" in message.text:
        return msgspec.structs.replace(message, text=message.text.replace("\0", ""))
    return message
