"""The simulated shop tells stories that OrderBell understands, and finds in them what is wrong."""

import random
from datetime import UTC, datetime, timedelta
from itertools import islice

import msgspec
import pytest

from orderbell.app.shop import OPENING, PLOTS, Story, tell_stories, tell_story
from orderbell.core.events import Event, parse_event
from orderbell.playbooks import shipped_shelf
from orderbell.store.memory import MemoryHost

OPENS_AT = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
TENANT = "demo"
SHELF = shipped_shelf()
ALL_PLOTS = [(playbook, plot) for playbook, plots in PLOTS.items() for plot in plots]


def first_stories(seed: int, count: int) -> list[Story]:
    """The first stories of a shop that gets an order every ten minutes."""
    return list(islice(tell_stories(seed, OPENS_AT, timedelta(minutes=10)), count))


def events_of(story: Story) -> list[Event]:
    """The story's events as intake reads them; fails on a refusal."""
    events = []
    for index, beat in enumerate(story.beats):
        at = story.placed_at + beat.after
        wire = {
            "specversion": "1.0", "id": f"{story.order_no}/{index}", "source": "shop", "type": beat.type,
            "subject": story.order_no, "time": at, "playbook": story.playbook, "data": beat.data,
        }  # fmt: skip
        parsed = parse_event(msgspec.json.encode(wire), TENANT, at)
        assert isinstance(parsed, Event), parsed
        events.append(parsed)
    return events


def live_through(story: Story) -> MemoryHost:
    """Let a story happen on the in-memory host, and three weeks more."""
    host = MemoryHost({TENANT: SHELF})
    for event in events_of(story):
        host.advance(event.received_at)
        host.feed([event])
    host.advance(story.placed_at + story.beats[-1].after + timedelta(days=21))
    return host


@pytest.mark.parametrize(("playbook", "plot"), ALL_PLOTS)
@pytest.mark.parametrize("seed", range(5))
def test_story_opens_the_anomalies_that_it_names_and_no_other(playbook: str, plot: str, seed: int) -> None:
    """What goes wrong in a story is found; what goes well is left in peace; in the end the light is green again."""
    placed_at = OPENS_AT + timedelta(hours=5 * seed)
    story = tell_story(random.Random(seed), playbook, plot, 1, placed_at)
    host = live_through(story)
    assert {name for _, _, name, _ in host.anomalies} == story.anomalies
    assert host.orders[TENANT, story.order_no].anomalies == ()
    assert [entry.detail for entry in host.journal if entry.detail] == []


def test_stories_follow_the_clock() -> None:
    """Orders come in one after another, and within each the events stand in the order of their times."""
    stories = first_stories(3, 200)
    assert [story.placed_at for story in stories] == sorted(story.placed_at for story in stories)
    for story in stories:
        assert story.beats[0].after == timedelta(0)
        assert [beat.after for beat in story.beats] == sorted(beat.after for beat in story.beats)


def test_stories_of_one_seed_are_the_same() -> None:
    """A seed can be named to see the same shop again; another seed tells otherwise."""
    assert first_stories(7, 100) == first_stories(7, 100)
    assert first_stories(7, 100) != first_stories(8, 100)


def test_stories_are_of_all_kinds_from_the_beginning() -> None:
    """The opening shows all three kinds and some trouble; numbers are given once."""
    stories = first_stories(1, 300)
    assert {story.playbook for story in stories[: len(OPENING)]} == set(PLOTS)
    assert any(story.anomalies for story in stories[: len(OPENING)])
    assert {(story.playbook, story.plot) for story in stories} == set(ALL_PLOTS)
    assert len({story.order_no for story in stories}) == len(stories)


def test_customers_cannot_be_real() -> None:
    """Every phone is of the range that is nobody's, every mail address of the reserved domain; wishes differ."""
    people = [person for story in first_stories(2, 300) for person in story.beats[0].data["people"].values()]
    assert all(person["phone"].startswith("+861380000") and len(person["phone"]) == 14 for person in people)
    assert all(person["email"].endswith("@example.com") for person in people)
    for wish in ("locale", "quiet", "app", "frequency", "tier"):
        assert any(wish in person for person in people), wish
