"""Two playbooks on the same past: what differs, to the last message."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orderbell.core.model import Tone
from orderbell.core.turn import Shelf
from orderbell.insight.comparison import Change, Comparison, CostPoint, Example, PeopleChange, TopicChange, compare
from orderbell.insight.recording import CapRule, Contender, record
from orderbell.playbooks import shipped_shelf
from orderbell.sources.olist import read_olist
from tests.core import samples
from tests.insight.pasts import ANN, BOB, CAP, Past, compared, paid, past, shipped, side, three_orders

OLIST = Path(__file__).parents[2].parent / "shared" / "data" / "olist"
QUIET = {"buyer": {**ANN["buyer"], "quiet": "12:00-14:00"}}
NO_SMS: dict[str, Any] = {"notices": {"shipped": {"channels": ["push"]}}}


def figures(comparison: Comparison) -> dict[str, tuple[object, object, object]]:
    """The totals by name."""
    return {found.name: (found.before, found.after, found.difference) for found in comparison.figures}


def only_example(comparison: Comparison) -> Example:
    """The one order that changes."""
    (example,) = comparison.examples
    return example


def test_comparison_of_a_playbook_with_itself() -> None:
    """The same playbook on both sides differs in nothing, and nothing is called an example."""
    comparison = compared(three_orders())
    assert comparison.is_same
    assert comparison.orders == {"same": 3}
    assert comparison.examples == ()
    assert {change.difference for change in comparison.figures} == {0}
    for changes in (comparison.topics, comparison.channels, comparison.tiers, comparison.bounds):
        assert {change.difference for change in changes} <= {0}
    assert all(point.before_yuan == point.after_yuan for point in comparison.costs)
    people = comparison.people
    assert (people.more_count, people.fewer_count, people.same_count) == (0, 0, 2)
    assert people.heard_before == people.heard_after


def test_comparison_with_one_more_cap() -> None:
    """What a cap would hold back is told with its numbers, the cap itself, and the orders; the rest is as it was."""
    comparison = compared(three_orders(), caps=CAP)
    totals = figures(comparison)
    assert totals["messages"] == (4, 4, 0)
    assert totals["disturbing"] == (4, 2, -2)
    assert totals["sms_segments"] == (4, 2, -2)
    assert totals["sms_yuan"] == (0.18, 0.09, -0.09)
    assert totals["people_reached"] == (2, 2, 0)
    assert totals["disturbing_per_person"] == (2, 1, -1)
    assert totals["messages_per_order"] == (1.33, 1.33, 0)
    assert comparison.channels == (Change("sms", 4, 2, -2), Change("inbox", 0, 2, 2))
    assert comparison.tiers == (Change("vip", 3, 3, 0), Change("regular", 1, 1, 0))
    assert comparison.people == PeopleChange(
        0, 1, 1, 0, 0, (0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0), (0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    )
    (bound,) = comparison.bounds
    assert (bound.kind, bound.reason, bound.cap) == ("inbox", "capped", CapRule("few", 1, "person", "1d"))
    assert (bound.before, bound.after, bound.difference) == (0, 2, 2)
    assert bound.topics == (Change("paid", 0, 1, 1), Change("shipped", 0, 1, 1))
    assert bound.orders == ("A1",)
    assert comparison.orders == {"channel": 1, "same": 2}
    assert comparison.costs == (CostPoint(samples.NOON.date(), 0.18, 0.09),)


def test_comparison_with_a_cap_that_delays() -> None:
    """A message that a cap makes wait counts as held, and comes later by what the cap says."""
    caps = {"few": {"per": "person", "most": 1, "within": "2h", "then": "delay", "mandatory": True}}
    comparison = compared(past(*paid("A1", ANN), shipped("A1")), caps=caps)
    (bound,) = comparison.bounds
    assert (bound.kind, bound.reason, bound.cap) == ("held", "capped", CapRule("few", 1, "person", "2h"))
    assert comparison.topics[1] == TopicChange("shipped", 1, 1, 0, "", 0, 0, 1, 0, 1.02)
    assert comparison.orders == {"later": 1}


def test_comparison_where_quiet_hours_bind() -> None:
    """What waits for the end of quiet hours is held on one side only, and comes sooner on the other."""
    history = past(*paid("A1", QUIET))
    comparison = compared(history, notices={"paid": {"lane": "critical"}})
    (bound,) = comparison.bounds
    assert (bound.kind, bound.reason, bound.before, bound.after) == ("held", "quiet_hours", 1, 0)
    assert comparison.topics == (TopicChange("paid", 1, 1, 0, "", 0, 0, 0, 1, -1.97),)
    example = only_example(comparison)
    assert (example.kind, example.after[0].mark, example.after[0].shift_h) == ("sooner", "moved", -1.97)
    assert [change.name for change in comparison.hours if change.difference] == ["12", "14"]


@pytest.mark.parametrize(("turned", "kind", "person"), [(False, "silenced", (1, 0)), (True, "started", (0, 1))])
def test_comparison_where_an_order_hears_nothing(turned: bool, kind: str, person: tuple[int, int]) -> None:
    """An order told on one side only is called silenced or started, and so is its buyer."""
    events = paid("B1", BOB)
    events[1] = shipped("B1", 60)
    sides = [side("old"), side("new", **NO_SMS)]
    before, after = reversed(sides) if turned else sides
    comparison = compare(past(*events), before, after, tenant="acme")
    assert comparison.orders == {kind: 1}
    assert (comparison.people.silenced_count, comparison.people.started_count) == person
    (topic,) = comparison.topics
    assert topic.only == ("after" if turned else "before")
    (bound,) = comparison.bounds
    assert (bound.kind, bound.reason, abs(bound.difference)) == ("dropped", "no_endpoint", 1)
    example = only_example(comparison)
    told, silent = (example.after, example.before) if turned else (example.before, example.after)
    assert [line.mark for line in told] == ["new" if turned else "gone"]
    assert silent == ()


def test_comparison_where_only_words_change() -> None:
    """Another text on the same channel at the same time is a change of words, and costs the same."""
    comparison = compared(past(*paid("A1", ANN)), {"texts": {"paid": {"sms": ["{order_no} is paid."]}}})
    assert comparison.orders == {"words": 1}
    assert only_example(comparison).after[0].mark == "reworded"
    assert comparison.figures == tuple(
        Change(found.name, found.before, found.before, 0) for found in comparison.figures
    )


def test_comparison_where_a_topic_is_merged() -> None:
    """What another message covers is told less, and the order hears fewer messages."""
    history = past(*paid("A1", ANN), shipped("A1", 70))
    comparison = compare(history, side("old", notices={"shipped": {"covers": []}}), side("new"), tenant="acme")
    assert comparison.orders == {"fewer": 1}
    assert comparison.topics == (
        TopicChange("paid", 1, 0, -1, "before", 0, 1, 0, 0, 0.0),
        TopicChange("shipped", 1, 1, 0, "", 0, 0, 0, 0, 0.0),
    )
    (bound,) = comparison.bounds
    assert (bound.kind, bound.reason, bound.before, bound.after) == ("merged", "covered", 0, 1)
    assert [line.mark for line in only_example(comparison).before] == ["gone", "same"]


def test_comparison_chooses_examples_of_every_kind() -> None:
    """Orders that change alike are one example, told with how many they are; the choice is always the same."""
    people = [{"buyer": {"id": f"p{n}", "phone": f"+861381234{n:04d}"}} for n in range(30)]
    events = [event for n, person in enumerate(people) for event in paid(f"N{n:02d}", person)]
    events += [shipped(f"N{n:02d}") for n in range(10)]
    changes: dict[str, Any] = {"notices": {"paid": {"wait": "10m"}, "shipped": {"channels": ["push"]}}}
    first, second = (compared(past(*events), **changes) for _ in range(2))
    assert first.orders == {"fewer": 10, "later": 20}
    assert [(example.kind, example.like_count, example.order_no) for example in first.examples] == [
        ("fewer", 10, "N00"), ("later", 20, "N10"),
    ]  # fmt: skip
    assert msgspec.structs.replace(first, before=second.before, after=second.after) == second


def test_comparison_of_an_example() -> None:
    """An example has the order's facts, and both time lines in the person's zone with the texts themselves."""
    people = {"buyer": {**ANN["buyer"], "timezone": "Asia/Shanghai"}}
    example = only_example(compared(past(*paid("A1", people, "Scarf"), shipped("A1")), caps=CAP))
    assert (example.order_no, example.title, example.amount_fen) == ("A1", "Scarf", 19900)
    assert example.opened_at == samples.NOON
    assert example.opened_at.utcoffset() == timedelta(hours=8)
    (first, second) = example.after
    assert (first.mark, first.topic, first.channel, first.role) == ("same", "paid", "sms", "buyer")
    assert (second.mark, second.topic, second.channel, second.cause) == (
        "rerouted",
        "shipped",
        "inbox",
        "parcel.shipped",
    )
    assert "A1: paid." in first.text
    calm: Tone = "calm"
    assert {line.tone for line in (*example.before, *example.after)} == {calm}
    assert [change.name for change in compared(past(*paid("A1", people))).hours if change.after] == ["20"]


def test_comparison_of_lateness() -> None:
    """Where the past promises something, how late orders were told stands among the figures."""
    history = three_orders()
    at = samples.NOON + timedelta(days=3)
    history.promises, history.delivered, history.late = {"A1": samples.NOON}, {"A1": at}, frozenset({"A1"})
    comparison = compared(history)
    assert figures(comparison)["late_never_told"] == (1, 1, 0)
    assert comparison.before.lateness is not None
    assert comparison.before.lateness.late_count == 1
    assert "late_never_told" not in figures(compared(three_orders()))


def test_comparison_of_nothing() -> None:
    """A past without events compares as the same, with no figure of it broken."""
    comparison = compared(Past([]))
    assert comparison.is_same
    assert comparison.costs == ()
    assert all(change.before == change.after == 0 for change in comparison.figures)


def test_comparison_as_json() -> None:
    """A comparison survives its own JSON."""
    comparison = compared(three_orders(), caps=CAP)
    assert msgspec.json.decode(msgspec.json.encode(comparison), type=Comparison).figures == comparison.figures


def test_record_hears_of_its_progress() -> None:
    """The progress of a run adds up to the events of the past."""
    counts: list[int] = []
    record(side(), three_orders(), tenant="acme", progress=counts.append)
    assert sum(counts) == 7


@pytest.mark.skipif(not OLIST.is_dir(), reason="the Olist orders are not here: put them in ../shared/data/olist")
def test_comparison_of_real_orders() -> None:
    """Three hundred real orders compare, and with the shipped playbook against itself nothing differs."""
    history = read_olist(OLIST, tenant="acme", limit=300)
    shelf = shipped_shelf()
    same = compare(history, Contender("retail", shelf), Contender("retail", shelf), tenant="acme")
    assert same.is_same
    assert same.orders == {"same": 300}
    other = compare(
        history, Contender("retail", shelf),
        Contender("digital", Shelf({**shelf.playbooks, "retail": shelf.playbooks["digital"]}, "digital")),
        tenant="acme",
    )  # fmt: skip
    assert not other.is_same
    assert len(other.examples) <= 12
    assert isinstance(other.examples[0].opened_at, datetime)
