"""The first stage: what does this event change, what is wrong, who must be told what, by when?

`decide` is a pure function; the same playbook, order, event and moment give the same decision everywhere.
Timers are a function of the order's state: after every event the deadlines of the stage are laid out anew, and
the difference to what was armed before are the timer effects.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec

from orderbell.core.asks import interpret
from orderbell.core.events import Event, Staff, TimerDue
from orderbell.core.fold import fold
from orderbell.core.model import (
    BY_DEADLINE,
    Amends,
    Anomaly,
    Case,
    CaseKind,
    ClearTimer,
    CloseAnomaly,
    CloseCase,
    Compensate,
    Decision,
    Effect,
    Light,
    Notice,
    OpenAnomaly,
    OpenCase,
    Order,
    Owner,
    Party,
    Reason,
    SendNotice,
    SetTimer,
    Tone,
    WithdrawNotice,
    derive_id,
)  # fmt: skip
from orderbell.core.playbook import AnomalyRule, Deadline, NoticeRule, Playbook
from orderbell.core.wording import TONES, VARIABLES

PRINCIPALS = frozenset({"buyer", "consignor"})  # every other role is an extra recipient (S0-4)
# A deadline that is found overdue, because its anchor was told late, fires after this: the same sender may have newer
# news right behind, such as the rest of a parcel's scans, and nobody should hear of a silence that was none.
SETTLE = timedelta(minutes=1)
NEXT_WORD_MAX_S = 2 * 86400  # a word that is further away is no comfort
_replace = msgspec.structs.replace


def decide(
    playbook: Playbook, order: Order | None, event: Event, now: datetime, parties: tuple[Party, ...] = ()
) -> Decision:
    """Decide one event.

    `order` is None for the first event of an order; `now` is the moment it counts as heard (never before the order's
    `updated_at`); `parties` are the people of the order after the event. The new order is one version higher.
    """
    if event.type == "reply.received":
        event = interpret(playbook, order, event)
    draft = _Draft(playbook, order, event, now, parties)
    if event.type == "timer.due":
        draft.fire(cast("TimerDue", event.data).name)
    else:
        draft.take()
    return draft.finish()


def light(playbook: Playbook, order: Order) -> Light:
    """Red: something is wrong that needs acting on now; yellow: in progress; green: done (S1-8..10)."""
    shown = playbook.stages[order.stage].light
    for anomaly in order.anomalies:
        rule = playbook.anomalies.get(anomaly.name)
        if rule is None or rule.light == "red":
            return "red"
        shown = "yellow"
    return shown


def _open_order(playbook: Playbook, event: Event, now: datetime) -> Order:
    return Order(
        event.tenant,
        event.order_no,
        playbook.name,
        0,
        playbook.first_stage.name,
        stage_at=now,
        opened_at=now,
        updated_at=now,
    )


class _Draft:
    """A decision in the making: the facts as folded, the changes since, the effects so far."""

    __slots__ = (
        "cause",
        "changes",
        "data",
        "effects",
        "event",
        "fired",
        "now",
        "order",
        "playbook",
        "touched",
        "verdict",
    )

    def __init__(
        self, playbook: Playbook, order: Order | None, event: Event, now: datetime, parties: tuple[Party, ...]
    ) -> None:
        self.playbook, self.event, self.now, self.data = playbook, event, now, event.data
        self.verdict = Reason.APPLIED
        self.cause = event.type
        self.effects: list[Effect] = []
        self.fired = ""
        fresh = order is None
        base = _open_order(playbook, event, now) if order is None else order
        facts = fold(base, event, playbook.timezone)
        if facts is None:
            self.verdict, facts = Reason.STALE, {}
        if parties and parties != base.parties:
            facts["parties"] = parties
            facts["tier"] = next((party.tier for party in parties if party.role == playbook.principal), base.tier)
        self.touched = fresh or bool(facts)
        self.order: Order = _replace(base, version=base.version + 1, updated_at=now, **facts)
        self.changes: dict[str, Any] = {}

    def get(self, name: str) -> Any:  # noqa: ANN401 - any field of an order
        """A field as it stands in the draft."""
        return self.changes[name] if name in self.changes else getattr(self.order, name)

    def take(self) -> None:
        """Apply the playbook to an event from outside."""
        if self.verdict is Reason.STALE:
            return
        kind = self.event.type
        clears = self.playbook.clears.get(kind)
        if clears and self.order.anomalies:
            over = {name for name, when in clears if when is None or when.test(self.order, self.data)}
            self.close((a.name for a in self.get("anomalies") if a.name in over), Reason.ANOMALY_CLEARED)
        self.follow_rules(kind)
        for rule, when in self.playbook.opens.get(kind, ()):
            if when is None or when.test(self.order, self.data):
                self.open(rule, Reason.EVENT_SAYS_SO, kind)
        if kind.startswith("case."):
            self.staff(kind.removeprefix("case."), cast("Staff", self.data))

    def follow_rules(self, kind: str) -> None:
        """Move the stage, set marks, tell people: a rule with a stage tells only when the stage is reached by it."""
        stages = self.playbook.stages
        for rule in self.playbook.rules.get(kind, ()):
            if rule.when is not None and not rule.when.test(self.order, self.data):
                continue
            if rule.during and not self.order.suffers(rule.during):
                continue
            reason = Reason.EVENT_SAYS_SO
            if rule.stage:
                if stages[rule.stage].rank <= stages[self.get("stage")].rank:
                    continue
                self.changes.update(stage=rule.stage, stage_at=self.now)
                reason = Reason.STAGE_REACHED
            if rule.mark or rule.unmark:
                marks = {name: at for name, at in self.get("marks").items() if name not in rule.unmark}
                self.changes["marks"] = marks | dict.fromkeys(rule.mark, self.now)
            if rule.withdraw:
                self.withdraw(rule.withdraw, reason)
            for topic in rule.tell:
                self.tell(topic, reason, "calm")
            for topic in rule.answer:
                self.tell(topic, reason, "calm", getattr(self.data, "sender", "") or self.playbook.principal)

    def fire(self, name: str) -> None:
        """A deadline passed: open what it opens, tell what it tells."""
        order = self.order
        deadline = self.playbook.deadlines.get(name)
        due_at = order.timers.get(name)
        anchor = None if deadline is None else self.anchor(deadline, order)
        # the playbook may be another one than when the timer was set
        if deadline is None or due_at is None or anchor is None or max(due_at, anchor + deadline.after) > self.now:
            self.verdict = Reason.TIMER_GONE
            return
        self.cause, self.fired = f"{BY_DEADLINE}{name}", name
        self.changes["fired"] = order.fired | {name: anchor}
        for anomaly in deadline.open:
            self.open(self.playbook.anomalies[anomaly], Reason.DEADLINE_PASSED, name, anchor, deadline.tone)
        for topic in deadline.tell:
            self.tell(topic, Reason.DEADLINE_PASSED, deadline.tone or "calm")

    def tell(self, topic: str, reason: Reason, tone: Tone, only: str = "") -> None:
        """Tell everybody whom the topic concerns, or `only` those of one role."""
        rule = self.playbook.notices[topic]
        values: dict[str, str | int] | None = None
        for party in self.concerned(rule.to, only):
            if values is None:
                values = self.values(rule.variables)
            heard = self.tone_for(party, rule, tone)  # may come with an effect of its own
            notice = Notice(
                self.new_id(), self.order.tenant, party.contact, self.order.no, party.role, self.playbook.name, topic,
                self.now, self.now + rule.wait, self.now + rule.within, self.now + rule.valid_for, heard, values,
                cause=self.cause, version=self.order.version,
            )  # fmt: skip
            self.effects.append(SendNotice(notice, reason))

    def concerned(self, roles: frozenset[str], only: str = "") -> Iterator[Party]:
        """The people whom news for these roles concern, or `only` those of one role; who has two roles comes once."""
        extras = self.playbook.principal in roles
        seen: set[str] = set()
        for party in self.order.parties:
            meant = party.role in roles or (extras and party.role not in PRINCIPALS)
            if meant and party.contact not in seen and only in ("", party.role):
                seen.add(party.contact)
                yield party

    def tone_for(self, party: Party, rule: NoticeRule, tone: Tone) -> Tone:
        """The tone that a person hears; amends are made once, to whom the order is about, and then handed out."""
        least = rule.ways[party.tier].tone
        if least is not None and TONES.index(least) > TONES.index(tone):
            tone = least
        if tone != "amends":
            return tone
        promised: tuple[str, ...] = self.get("amends")
        if party.role != self.playbook.principal or promised:  # once, whatever their number is by then
            return "sorry"
        if rule.amends:
            what, order = self.playbook.amends, self.order
            amends = Amends(
                self.new_id(), order.tenant, order.no, party.contact, what.kind, what.value_fen, rule.topic, self.now,
                self.now + what.valid_for,
            )  # fmt: skip
            self.changes["amends"] = (*promised, party.contact)
            self.effects.append(Compensate(amends, Reason.AMENDS_PROMISED))
        return tone

    def withdraw(self, topics: tuple[str, ...], reason: Reason) -> None:
        """Take back what may still wait to be told of these topics."""
        for party in self.concerned(frozenset().union(*(self.playbook.notices[topic].to for topic in topics))):
            notice = Notice(
                self.new_id(), self.order.tenant, party.contact, self.order.no, "", self.playbook.name, "", self.now,
                self.now, self.now, self.now, cause=self.cause, withdraws=topics, version=self.order.version,
            )  # fmt: skip
            self.effects.append(WithdrawNotice(notice, reason))

    def values(self, names: tuple[str, ...]) -> dict[str, str | int]:
        """What the topic's texts may need, as it stands now."""
        values: dict[str, str | int] = {}
        for name in names:
            value: str | int | None
            if name == "next":
                value = self.next_word_s()
            elif name == "reason":  # that of this event: the order's last one may be about something else
                value = getattr(self.data, "reason", "") or None
            elif name == "choice":
                value = getattr(self.data, "option", "") or None
            elif name == "state":
                value = self.state()
            else:
                value = VARIABLES[name].value(self.order)
            if value is not None:
                values[name] = value
        return values

    def state(self) -> str:
        """What is to be said of how the order stands: the anomaly that has words for it, else the stage."""
        rules = [self.playbook.anomalies.get(anomaly.name) for anomaly in self.get("anomalies")]
        found = next((rule.name for rule in rules if rule is not None and rule.says), "")
        return f"anomaly.{found}" if found else str(self.get("stage"))

    def next_word_s(self) -> int | None:
        """How long, in seconds, until the order's next deadline that tells somebody, if nothing happens (S1-30)."""
        order = _replace(self.order, **self.changes)
        waits = []
        for deadline in self.playbook.deadlines_at[order.stage]:
            anchor = deadline.anchor(order)
            if anchor is None or not deadline.tells or order.fired.get(deadline.name) == anchor:
                continue
            wait_s = (anchor + deadline.after - self.now).total_seconds()
            if 0 < wait_s <= NEXT_WORD_MAX_S and (deadline.when is None or deadline.when.test(order, self.data)):
                waits.append(int(wait_s))
        return min(waits, default=None)

    def new_id(self) -> bytes:
        order = self.order
        return derive_id(self.now, order.tenant, order.no, order.version, len(self.effects))

    def open(
        self, rule: AnomalyRule, reason: Reason, cause: str, anchor: datetime | None = None, tone: Tone | None = None
    ) -> None:
        """Open an anomaly that is neither open nor left behind by progress: its case, its call-back, its words.

        One that a deadline opened and that an event confirms no longer ends with the deadline.
        """
        anomalies: tuple[Anomaly, ...] = self.get("anomalies")
        known = next((known for known in anomalies if known.name == rule.name), None)
        if known is not None:
            if known.anchor is not None and anchor is None:
                sure = _replace(known, cause=cause, anchor=None)
                self.changes["anomalies"] = tuple(sure if found is known else found for found in anomalies)
            return
        if self.is_behind(rule, self.get("stage")):
            return
        self.changes["anomalies"] = (*anomalies, Anomaly(rule.name, self.now, cause, anchor))
        self.effects.append(OpenAnomaly(rule.name, reason))
        if rule.case_kind is not None:
            self.open_case(rule.name, rule.case_kind, rule.owner, Reason.ANOMALY_OPENED)
        if rule.call_back is not None and rule.call_back.test(self.order, self.data):
            self.open_case(rule.name, "call_back", "service", Reason.VALUABLE_ORDER)
        for topic in rule.tell:
            self.tell(topic, Reason.ANOMALY_OPENED, tone or rule.tone)

    def open_case(self, anomaly: str, kind: CaseKind, owner: Owner, reason: Reason) -> None:
        case = Case(self.new_id(), anomaly, kind, owner, self.now)
        self.changes["cases"] = (*self.get("cases"), case)
        self.effects.append(OpenCase(case, reason))

    def close(self, names: Iterable[str], reason: Reason) -> None:
        """Close anomalies and the cases that were opened for them."""
        closed = set(names)
        if not closed:
            return
        anomalies: tuple[Anomaly, ...] = self.get("anomalies")
        self.changes["anomalies"] = tuple(a for a in anomalies if a.name not in closed)
        rules = {anomaly.name: self.playbook.anomalies.get(anomaly.name) for anomaly in anomalies}
        still = {
            topic for name, rule in rules.items() if rule is not None and name not in closed for topic in rule.tell
        }
        for anomaly in anomalies:
            rule = rules[anomaly.name]
            topics = tuple(topic for topic in rule.tell if topic not in still) if rule is not None else ()
            if topics and anomaly.name in closed:
                self.withdraw(topics, reason)
        self.effects.extend(CloseAnomaly(name, reason) for name in sorted(closed))
        cases: tuple[Case, ...] = self.get("cases")
        self.changes["cases"] = tuple(case for case in cases if case.anomaly not in closed)
        self.effects.extend(CloseCase(case.id, reason) for case in cases if case.anomaly in closed)

    def staff(self, what: str, data: Staff) -> None:
        """Somebody worked on a case: `data.case` is its id in hexadecimal, its anomaly's name, or empty for all."""
        cases: tuple[Case, ...] = self.get("cases")
        meant = [case for case in cases if data.case in ("", case.anomaly, case.id.hex())]
        if what == "acknowledged" and meant:
            done = tuple(_replace(case, state="acknowledged") if case in meant else case for case in cases)
            self.changes["cases"] = done
        elif what == "resolved":
            self.resolve(meant, data.case)
        elif what == "reopened" and data.case in self.playbook.anomalies:
            self.open(self.playbook.anomalies[data.case], Reason.STAFF_SAYS_SO, "case.reopened")

    def resolve(self, meant: list[Case], name: str) -> None:
        """Close what the staff has put right; a call-back that was made does not mend what it was about."""
        if len(meant) == 1 and meant[0].kind == "call_back" and name == meant[0].id.hex():
            self.changes["cases"] = tuple(case for case in self.get("cases") if case is not meant[0])
            self.effects.append(CloseCase(meant[0].id, Reason.STAFF_SAYS_SO))
            return
        names = {case.anomaly for case in meant} | {a.name for a in self.get("anomalies") if a.name == name}
        self.close(names, Reason.STAFF_SAYS_SO)

    def finish(self) -> Decision:
        """Close what progress has ended, lay out the timers, and hand the decision over."""
        order = _replace(self.order, **self.changes) if self.changes else self.order
        while order.anomalies:  # one that ends may be what another counts from
            over, met = self.ended(order)
            if not (over or met):
                break
            self.close(over, Reason.PROGRESS_CLEARS)
            self.close(met, Reason.DEADLINE_MET)
            order = _replace(self.order, **self.changes)
        timers, fired = self.timers(order)
        if timers != order.timers or fired is not order.fired:
            self.tell_timers(order.timers, timers)
            order = _replace(order, timers=timers, fired=fired)
        if self.verdict is Reason.APPLIED and not (self.effects or self.touched or self.changes):
            self.verdict = Reason.NOTHING_TO_DO
        return Decision(order, tuple(self.effects), self.verdict)

    def ended(self, order: Order) -> tuple[list[str], list[str]]:
        """The anomalies that are over because the order moved on, and because what they waited for came."""
        over: list[str] = []
        met: list[str] = []
        for anomaly in order.anomalies:
            rule = self.playbook.anomalies.get(anomaly.name)
            if rule is None:
                continue  # the playbook no longer knows it: a person closes it
            if self.is_behind(rule, order.stage):
                over.append(anomaly.name)
            elif anomaly.anchor is not None and not self.still_waits(order, anomaly):
                met.append(anomaly.name)
        return over, met

    def is_behind(self, rule: AnomalyRule, stage: str) -> bool:
        """Whether an order in that stage has left the anomaly behind."""
        return rule.clears_rank is not None and self.playbook.stages[stage].rank >= rule.clears_rank

    def still_waits(self, order: Order, anomaly: Anomaly) -> bool:
        deadline = self.playbook.deadlines.get(anomaly.cause)
        return deadline is not None and self.anchor(deadline, order) == anomaly.anchor

    def anchor(self, deadline: Deadline, order: Order) -> datetime | None:
        """The moment a deadline counts from, None where the order does not wait for it."""
        if order.stage not in deadline.stages:
            return None
        anchor = deadline.anchor(order)
        if anchor is None or (deadline.when is not None and not deadline.when.test(order, self.data)):
            return None
        if deadline.unless and order.suffers(deadline.unless):
            return None
        return anchor

    def timers(self, order: Order) -> tuple[dict[str, datetime], dict[str, datetime]]:
        """The deadlines that should be armed now; a warning whose time is past already is not given any more."""
        armed: dict[str, datetime] = {}
        fired = order.fired
        for deadline in self.playbook.deadlines_at[order.stage]:
            anchor = self.anchor(deadline, order)
            if anchor is None or fired.get(deadline.name) == anchor:
                continue
            due_at = anchor + deadline.after
            if due_at <= self.now and order.timers.get(deadline.name) != due_at:
                if deadline.is_warning:
                    fired = fired | {deadline.name: anchor}
                    continue
                due_at = min(order.timers.get(deadline.name, self.now + SETTLE), self.now + SETTLE)
            armed[deadline.name] = due_at
        return armed, fired

    def tell_timers(self, old: dict[str, datetime], new: dict[str, datetime]) -> None:
        for name, due_at in new.items():
            if old.get(name) != due_at:
                self.effects.append(
                    SetTimer(name, due_at, Reason.DEADLINE_MOVED if name in old else Reason.DEADLINE_SET)
                )
        for name in old:
            if name not in new:
                reason = Reason.DEADLINE_PASSED if name == self.fired else Reason.DEADLINE_MET
                self.effects.append(ClearTimer(name, reason))
