"""What the benchmarks feed: the life stories of the demo's shop, of all three kinds, one event in four about trouble.

Two changes to the demo's shop: people are as many as four fifths of the orders, as in a real shop, and nobody has
receiving hours, so that the hour of the run does not matter.
"""

import random
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct

from orderbell.app.shop import Story, tell_stories
from orderbell.core.events import Event, parse_event
from orderbell.core.turn import Shelf
from orderbell.store.vault import Vault

TENANT = "bench"
SECRET = bytes(range(32))
VAULT = Vault(SECRET)
SEED = 7
NEW_PEOPLE_SHARE = 0.8
RECENT_ORDERS = 400
"""Who comes again was there so many orders ago at least: few people order twice within a minute."""

GAP = timedelta(seconds=30)
BEFORE = timedelta(days=12)
"""So long ago a stream begins whose last event is to lie in the past."""


class Happening(Struct, frozen=True):
    """An event of a stream: when it happens, the number of its order among all, and its CloudEvent."""

    at: datetime
    order: int
    wire: dict[str, Any]

    @property
    def body(self) -> bytes:
        """The CloudEvent as it travels, about 300 to 600 bytes."""
        return msgspec.json.encode(self.wire)

    def event(self, received_at: datetime | None = None) -> Event:
        """The event as the core knows it, heard when it happened unless told otherwise."""
        parsed = parse_event(self.body, TENANT, received_at or self.at)
        assert isinstance(parsed, Event), parsed
        return parsed


def whole_lives(order_count: int, begins_at: datetime) -> list[Happening]:
    """Every event of so many orders, by time: at any moment thousands of orders are open, each for some days."""
    found: list[Happening] = []
    for number, story in enumerate(islice(tell_stories(SEED, begins_at, GAP), order_count)):
        found += _happenings(number, story, story.placed_at)
    return sorted(found, key=lambda happening: happening.at)


def all_at_once(order_count: int, at: datetime) -> list[Happening]:
    """The same in the same order, crowded into the seconds before `at`, so that nothing lies in the future."""
    crowd = whole_lives(order_count, at)
    begins_at = at - timedelta(milliseconds=len(crowd))
    moments = [begins_at + timedelta(milliseconds=place) for place in range(len(crowd))]
    return [
        Happening(moment, happening.order, happening.wire | {"time": moment.isoformat()})
        for moment, happening in zip(moments, crowd, strict=True)
    ]


class Cut(Struct):
    """Orders in the middle of their lives: what has happened by a moment, and the next thing of each."""

    history: list[Happening]
    news: list[Happening]


def middle_of_lives(order_count: int, at: datetime, shelf: Shelf) -> Cut:
    """So many orders, each at a random point of its life at the moment `at`.

    Left out are orders whose next event is told a minute later (the playbook waits for what may cover it):
    a benchmark would only wait.
    """
    dice = random.Random(SEED)
    history: list[Happening] = []
    news: list[Happening] = []
    endless = tell_stories(SEED, at, GAP)
    waiting = _waiting_types(shelf)
    number = 0
    while number < order_count:
        story = next(endless)
        cut = dice.randrange(1, len(story.beats)) if len(story.beats) > 1 else 0
        told = _happenings(number, story, at - story.beats[cut].after)
        if cut and (story.playbook, story.beats[cut].type) not in waiting:
            history += told[:cut]
            news.append(told[cut])
            number += 1
    history.sort(key=lambda happening: happening.at)
    dice.shuffle(news)
    return Cut(history, news)


def _happenings(number: int, story: Story, begins_at: datetime) -> list[Happening]:
    found = []
    for place, beat in enumerate(story.beats):
        at = begins_at + beat.after
        data = beat.data
        if "people" in data:
            data = data | {"people": {role: _person(number, wishes) for role, wishes in data["people"].items()}}
        wire = {
            # time-ordered, as the ids of careful senders are
            "specversion": "1.0", "id": f"{int(at.timestamp() * 1000):012x}-{number:07x}-{place:02x}",
            "source": f"//shop/{story.playbook}", "type": beat.type, "subject": f"{story.order_no}-{number}",
            "time": at.isoformat(), "data": data, "playbook": story.playbook,
        }  # fmt: skip
        found.append(Happening(at, number, wire))
    return found


def _person(number: int, wishes: dict[str, Any]) -> dict[str, Any]:
    dice = random.Random(number)
    known_count = number - RECENT_ORDERS
    who = number if known_count <= 0 or dice.random() < NEW_PEOPLE_SHARE else dice.randrange(known_count)
    kept = {name: value for name, value in wishes.items() if name != "quiet"}
    return kept | {"phone": f"+86139{who:08d}", "email": f"customer{who}@example.com"}


def _waiting_types(shelf: Shelf) -> set[tuple[str, str]]:
    """The playbooks and types of events whose news waits a while for what may cover it."""
    return {
        (name, type_)
        for name, playbook in shelf.playbooks.items()
        for type_, rules in playbook.rules.items()
        for rule in rules
        if rule.when is None and any(playbook.notices[topic].wait for topic in rule.tell)
    }


def batches(events: Iterable[Event], size: int) -> Iterator[list[Event]]:
    """Cut a stream into lists of at most `size`."""
    source = iter(events)
    while batch := list(islice(source, size)):
        yield batch


def batches_of(bodies: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The bodies of requests of `size` events: lists in JSON, or the event itself for one."""
    source = iter(bodies)
    while portion := list(islice(source, size)):
        yield portion[0] if size == 1 else b"[" + b",".join(portion) + b"]"
