"""Which events of a batch are new: pure, shared by every host of the turn."""

from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from orderbell.core.events import Answer, Event, Status
from orderbell.core.model import Entry
from orderbell.store.memory import altered_answer, altered_duplicate

EventKey = tuple[str, str, str]


class Sifted(Struct):
    """A batch after the look at its keys.

    `fresh` are the events to decide, in their order; `altered` the journal's lines on events that came again
    with another body (DESIGN.md §4: refused and journalled); `answers` are aligned with the batch.
    """

    fresh: list[Event] = field(default_factory=list)
    altered: list[Entry] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)


def sift(events: Sequence[Event], known: Mapping[EventKey, bytes]) -> Sifted:
    """Split a batch by what is known: `known` maps the keys of earlier batches to the hashes of their bodies.

    The first event of a key that is not known is fresh; every later one is measured by it.
    """
    sifted = Sifted()
    seen: dict[EventKey, bytes] = {}
    for event in events:
        key = event.key
        reference = known.get(key) if key in known else seen.get(key)
        if reference is None:
            seen[key] = event.body_hash
            sifted.fresh.append(event)
            sifted.answers.append(Answer(event.id, Status.ACCEPTED))
        elif reference == event.body_hash:
            sifted.answers.append(Answer(event.id, Status.DUPLICATE))
        else:
            sifted.answers.append(altered_answer(event))
            sifted.altered.append(altered_duplicate(event))
    return sifted


def first_of_each_key(events: Sequence[Event]) -> list[Event]:
    """Return the events that stand first with their key: those whose keys a store must ask for."""
    firsts: dict[EventKey, Event] = {}
    for event in events:
        firsts.setdefault(event.key, event)
    return list(firsts.values())
