"""What holds for every line of events, whatever it says: laws of deciding and of planning."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orderbell.core import turn
from orderbell.core.decide import SETTLE, decide, light
from orderbell.core.events import Event, Status, TimerDue
from orderbell.core.model import Decision, OpenCase, Order, Party, Reason, SendNotice
from orderbell.core.playbook import Playbook
from tests.core.streams import hosted, stream, trace

PLAYBOOKS = ("retail", "digital", "consignment", "small")
ROOT = Path(__file__).parents[2]
seeds = st.integers(0, 2**32)
counts = st.integers(1, 60)
law = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
Step = tuple[Playbook, Order | None, Event, datetime, Decision]


@contextmanager
def watched() -> Iterator[list[Step]]:
    """Keep every decision that is taken meanwhile."""
    steps: list[Step] = []

    def deciding(
        book: Playbook, order: Order | None, event: Event, now: datetime, parties: tuple[Party, ...] = ()
    ) -> Decision:
        decision = decide(book, order, event, now, parties)
        steps.append((book, order, event, now, decision))
        return decision

    with patch.object(turn, "decide", deciding):
        yield steps


def waits(book: Playbook, order: Order) -> dict[str, datetime]:
    """The deadlines that an order waits for, each with its anchor, by the words of the playbook."""
    found: dict[str, datetime] = {}
    for name, deadline in book.deadlines.items():
        anchor = deadline.anchor(order)
        if order.stage not in deadline.stages or anchor is None or order.fired.get(name) == anchor:
            continue
        if any(anomaly.name in deadline.unless for anomaly in order.anomalies):
            continue
        if deadline.when is None or deadline.when.test(order, None):
            found[name] = anchor
    return found


def check_state(book: Playbook, old: Order | None, event: Event, now: datetime, decision: Decision) -> None:
    """What holds after each decision."""
    new = decision.order
    assert new.version == (old.version if old else 0) + 1
    assert old is None or book.stages[new.stage].rank >= book.stages[old.stage].rank
    names = [anomaly.name for anomaly in new.anomalies]
    assert len(names) == len(set(names))
    assert all(case.anomaly in names for case in new.cases)
    if light(book, new) == "green":
        assert not names
    assert new.timers.keys() == waits(book, new).keys()
    for name, anchor in waits(book, new).items():
        assert new.timers[name] >= min(anchor + book.deadlines[name].after, now + SETTLE)
        assert new.timers[name] >= anchor + book.deadlines[name].after


@law
@given(seeds, counts, st.sampled_from(PLAYBOOKS))
def test_every_decision_keeps_the_laws_of_an_order(seed: int, count: int, name: str) -> None:
    """Stages only climb, versions count, green means well, cases belong to anomalies, timers to deadlines that wait."""
    with watched() as steps:
        host = hosted(stream(seed, count, name), 3, polled=True)
    for step in steps:
        check_state(*step)
    assert all(entry.verdict is not Reason.UNDECIDABLE for entry in host.journal)
    assert len(steps) == len(host.journal)


@law
@given(seeds, counts, st.sampled_from(PLAYBOOKS))
def test_deadlines_fire_in_time_and_once(seed: int, count: int, name: str) -> None:
    """No deadline fires before it is due, and none twice for one anchor; timers never fire in vain."""
    with watched() as steps:
        hosted(stream(seed, count, name))
    fired: set[tuple[str, str, datetime]] = set()
    for book, old, event, now, decision in steps:
        if not isinstance(event.data, TimerDue):
            continue
        assert old is not None
        deadline = book.deadlines[event.data.name]
        anchor = deadline.anchor(old)
        assert anchor is not None
        assert (decision.verdict, now >= anchor + deadline.after) == (Reason.APPLIED, True)
        assert (old.no, deadline.name, anchor) not in fired
        fired.add((old.no, deadline.name, anchor))


@law
@given(seeds, counts, st.sampled_from(PLAYBOOKS))
def test_batches_make_no_difference(seed: int, count: int, name: str) -> None:
    """One by one, by seven or all at once, with time passing in between or not: the same bytes."""
    events = stream(seed, count, name)
    whole = trace(hosted(events))
    assert [trace(hosted(events, size)) == whole for size in (1, 7)] == [True, True]
    assert [trace(hosted(events, size, polled=True)) == whole for size in (1, 7)] == [True, True]


@law
@given(seeds, counts, st.sampled_from(PLAYBOOKS))
def test_events_that_come_again_change_nothing(seed: int, count: int, name: str) -> None:
    """A stream that is fed twice is a stream that was fed once."""
    events = stream(seed, count, name)
    host = hosted(events)
    before, told = trace(host), list(host.messages)
    assert {answer.status for answer in host.feed(events)} == {Status.DUPLICATE}
    doubled = [again for event in events for again in (event, event)]
    assert (trace(host), host.messages) == (before, told)
    assert trace(hosted(doubled, 7)) == before


@law
@given(seeds, counts, st.sampled_from(PLAYBOOKS))
def test_ids_are_unique_and_projections_true(seed: int, count: int, name: str) -> None:
    """No two effects share an id, and what people search by is what the orders say."""
    with watched() as steps:
        host = hosted(stream(seed, count, name))
    effects = [effect for *_, decision in steps for effect in decision.effects]
    ids = [effect.notice.id for effect in effects if isinstance(effect, SendNotice)]
    ids += [effect.case.id for effect in effects if isinstance(effect, OpenCase)]
    ids += [message.id for message in host.messages]
    assert len(ids) == len(set(ids))
    shown = {(line.order_no, line.name, line.opened_at) for line in host.anomalies.values() if line.closed_at is None}
    assert shown == {(o.no, a.name, a.opened_at) for o in host.orders.values() for a in o.anomalies}
    cases = {line.case for line in host.cases.values() if line.closed_at is None}
    assert cases == {case for order in host.orders.values() for case in order.cases}


def test_results_are_those_of_another_process() -> None:
    """Nothing hangs on the order of a set: processes with other hash seeds come to the same bytes."""
    command = [sys.executable, "-m", "tests.core.streams"]
    paths = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    runs = [
        subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert len(runs[0]) == 128


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_streams_reach_what_the_laws_speak_of(name: str) -> None:
    """The random streams are worth something: they open anomalies, fire deadlines, hold, merge and send."""
    host = hosted(stream(10, 1200, name), 7, polled=True)
    assert {fate.kind for fate in host.fates} == {"sent", "merged", "dropped", "done"}
    assert {entry.verdict for entry in host.journal} >= {Reason.APPLIED, Reason.STALE, Reason.NOTHING_TO_DO}
    assert any(entry.event.type == "timer.due" for entry in host.journal)
    assert len(host.anomalies) > 5
