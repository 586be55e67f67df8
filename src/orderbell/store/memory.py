"""The in-memory host: the same turns and plans as on PostgreSQL, with heaps of timers and a virtual clock.

Scenarios, tests and backtests run here. It sends nothing; a planned message counts as told.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from orderbell.core.events import Answer, ChannelName, Event, Status
from orderbell.core.model import (
    NOTHING_HEARD,
    Amends,
    Consent,
    Contact,
    Entry,
    Fate,
    History,
    Message,
    Notice,
    Order,
    Outlook,
    Plan,
    Reason,
)  # fmt: skip
from orderbell.core.plan import PATIENCE, plan
from orderbell.core.turn import (
    AnomalyLine,
    CaseLine,
    Key,
    KeyOf,
    Move,
    Shelf,
    Turn,
    contact_keys,
    no_key,
    refuse_stray,
    run_turn,
)

ALL_CHANNELS: frozenset[ChannelName] = frozenset({"sms", "email", "push", "wechat", "inbox"})


class MemoryHost:
    """A whole OrderBell in dictionaries.

    `keep_journal=False` drops the journal lines (a backtest of a million events needs none of them). Messages are
    accepted at once, and receipts come in time but from the channels in `without_receipts`. `watch` takes every plan
    with its moment instead of `messages` and `fates`, so that a long run does not pile them up.
    """

    def __init__(
        self,
        shelves: Mapping[str, Shelf],
        *,
        channels: frozenset[ChannelName] = ALL_CHANNELS,
        keep_journal: bool = True,
        without_receipts: frozenset[ChannelName] = frozenset(),
        key_of: KeyOf = no_key,
        watch: Callable[[Plan, datetime], None] | None = None,
    ) -> None:
        self.shelves, self.keep_journal, self.without_receipts = shelves, keep_journal, without_receipts
        self.key_of, self._watch = key_of, watch
        self.patience = dict.fromkeys(sorted(channels), PATIENCE)
        self.journal: list[Entry] = []
        self.orders: dict[Key, Order] = {}
        self.contacts: dict[Key, Contact] = {}
        self.histories: dict[Key, History] = {}
        self.consents: list[Consent] = []
        self.amends: list[Amends] = []
        self.fates: list[Fate] = []
        self.messages: list[Message] = []
        self.anomalies: dict[tuple[str, str, str, datetime], AnomalyLine] = {}
        self.cases: dict[tuple[str, bytes], CaseLine] = {}
        self.queue: dict[Key, dict[bytes, Notice]] = {}
        self.step_count = 0
        self._seen: dict[tuple[str, str, str], bytes] = {}
        self._timers: list[tuple[datetime, Key]] = []
        self._due: list[tuple[datetime, Key]] = []

    def feed(self, events: Sequence[Event]) -> list[Answer]:
        """Take a batch in, as one turn; the answers stand in the order of the events."""
        answers: list[Answer] = []
        fresh: list[Event] = []
        for event in events:
            stray = refuse_stray(self.shelves, event)
            if stray is not None:
                answers.append(stray)
                continue
            known = self._seen.get(event.key)
            if known is None:
                self._seen[event.key] = event.body_hash
                fresh.append(event)
                answers.append(Answer(event.id, Status.ACCEPTED))
            else:
                answers.append(self._again(event, known))
        known_orders = {key: self.orders[key] for event in fresh if (key := event.order_key) in self.orders}
        known_people = {key: self.contacts[key] for key in self._keys(fresh, known_orders)}
        self._keep(run_turn(self.shelves, fresh, known_orders, known_people, key_of=self.key_of))
        return answers

    def _keys(self, fresh: Sequence[Event], known_orders: Mapping[Key, Order]) -> Iterable[Key]:
        return (key for key in contact_keys(self.shelves, fresh, known_orders, self.key_of) if key in self.contacts)

    def advance(self, until: datetime) -> None:
        """Let time pass: fire timers and plan notices, each at its own moment, up to and including `until`."""
        while True:
            timer_at = self._timers[0][0] if self._timers else None
            queue_at = self._due[0][0] if self._due else None
            moments = [at for at in (timer_at, queue_at) if at is not None and at <= until]
            if not moments:
                return
            now = min(moments)
            if timer_at == now:
                self._fire(now)
            else:
                self._plan(now)

    def next_due_at(self) -> datetime | None:
        """When something happens next by itself."""
        moments = [heap[0][0] for heap in (self._timers, self._due) if heap]
        return min(moments) if moments else None

    def _again(self, event: Event, known: bytes) -> Answer:
        if known == event.body_hash:
            return Answer(event.id, Status.DUPLICATE)
        self.journal_add([altered_duplicate(event)])
        return altered_answer(event)

    def journal_add(self, entries: Iterable[Entry]) -> None:
        """Write journal lines, where a journal is kept."""
        if self.keep_journal:
            self.journal.extend(entries)

    def _keep(self, turn: Turn) -> None:
        self.step_count += len(turn.entries)
        self.journal_add(turn.entries)
        self.contacts.update(turn.contacts)
        self.consents += turn.consents
        self.amends += turn.amends
        self.anomalies.update(turn.anomalies)
        self.cases.update(turn.cases)
        for key, order in turn.orders.items():
            old = self.orders.get(key)
            self.orders[key] = order
            due_at = order.next_due_at
            if due_at is not None and (old is None or old.next_due_at != due_at):
                heapq.heappush(self._timers, (due_at, key))
        for move in turn.moves:
            self._move(move)
        for notice in turn.notices:
            self._enqueue(notice)

    def _move(self, move: Move) -> None:
        old, new = move.keys
        waiting = self.queue.get(old, {})
        for notice in list(waiting.values()):
            moved = move.of(notice)
            if moved is not None:
                del waiting[notice.id]
                self._enqueue(moved)
        if not waiting:
            self.queue.pop(old, None)
        if old in self.histories:
            self.histories[new] = move.heard(self.histories[old], self.histories.get(new, NOTHING_HEARD))

    def _enqueue(self, notice: Notice) -> None:
        key = (notice.tenant, notice.contact)
        self.queue.setdefault(key, {})[notice.id] = notice
        heapq.heappush(self._due, (notice.due_at, key))

    def _fire(self, now: datetime) -> None:
        keys: list[Key] = []
        while self._timers and self._timers[0][0] <= now:
            due_at, key = heapq.heappop(self._timers)
            if self.orders[key].next_due_at == due_at:
                keys.append(key)
        due = {key: self.orders[key] for key in dict.fromkeys(keys)}
        self._keep(run_turn(self.shelves, (), due, {}, due=sorted(due), until=now))

    def _plan(self, now: datetime) -> None:
        keys: set[Key] = set()
        while self._due and self._due[0][0] <= now:
            keys.add(heapq.heappop(self._due)[1])
        for key in sorted(keys):
            pending = self.queue.get(key, {})
            known = [notice for notice in pending.values() if notice.created_at <= now]  # a batch may run ahead
            if not any(notice.due_at <= now for notice in known):
                continue
            tenant, name = key
            contact = self.contacts.get(key) or Contact(tenant, name)
            history = self.histories.get(key, NOTHING_HEARD)
            outlook = Outlook(self.patience, self._statuses(known))
            planned = plan(self.shelves[tenant].playbooks, contact, history, known, now, outlook)
            if planned.history is not history:
                self.histories[key] = planned.history
            for fate in planned.fates:
                pending.pop(fate.notice.id, None)
                if fate.kind == "held":
                    self._enqueue(fate.notice)
            if self._watch is not None:
                self._watch(planned, now)
            else:
                self.messages.extend(planned.messages)
                self.fates.extend(fate for fate in planned.fates if fate.kind != "held")
            if not self.queue[key]:
                del self.queue[key]

    def _statuses(self, notices: Iterable[Notice]) -> dict[bytes, str]:
        silent = self.without_receipts
        tries = (one for notice in notices for one in notice.tried)
        return {one.message_id: "accepted" if one.channel in silent else "delivered" for one in tries}


def altered_duplicate(event: Event) -> Entry:
    """The journal line of an event that came again with another body."""
    detail = "an event of this id came before with another body; the first one stands"
    return Entry(event, event.received_at, 0, "", Reason.ALTERED_DUPLICATE, b"[]", detail)


def altered_answer(event: Event) -> Answer:
    """The answer to such an event."""
    detail = "id: this id was used before with another body; give every event an id of its own"
    return Answer(event.id, Status.REFUSED, Reason.ALTERED_DUPLICATE, "id", detail)
