"""Traces: the way of a piece of news from the request that brought it to the receipt, for a collector of OpenTelemetry.

Off unless somebody calls `switch_on`; then only `active()` is asked, and nothing of OpenTelemetry is imported. What
follows is the same whatever writes the spans (`orderbell.observe.spans` is the one that ships).

*A notice is a trace, and its id is the trace's.* The id is sixteen bytes, unique, derived from the decision that made
it; it is in the queue, in the plan, in the message and in the attempt's message. So every process that has a notice in
its hands knows the trace, across the database and across a crash, without a column and without anything that replays
or the two hosts would have to agree on. The last bits of the id are a hash, so every process also draws the same
notices when only a share is traced.

*A request is a trace of its own*, continued from the caller's `traceparent` where there is one: one request may bring
a thousand events, a turn decides the events of many requests, and most events are news to nobody. Links join them:
the turn to its requests, the root of a notice's trace to the request whose event made it.

Rejected: the request's trace going on through the database, which would need a column in every table on the way and
would make one event's trace that of all events of its batch.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from orderbell.core.events import Event
from orderbell.core.model import Fate, Message, Notice
from orderbell.core.turn import Turn

EventKey = tuple[str, str, str]
Origins = Mapping[EventKey, Any]
"""The request that brought an event, as `Tracer.origin` named it."""


class Tracer(Protocol):
    """Writes spans. Times are nanoseconds since 1970 by the real clock, whatever clock the platform runs on."""

    def request(self, scope: Mapping[str, Any]) -> AbstractContextManager[Callable[[str, int], None]]:
        """A request is being answered; call what is given with the pattern of its path and the status."""
        ...

    def origin(self) -> Any:  # noqa: ANN401 - only whoever made it knows what it is
        """The request that is being answered here and now, None outside of one."""
        ...

    def turn(self, origins: Origins) -> AbstractContextManager[None]:
        """A batch is being decided."""
        ...

    def decided(self, turn: Turn) -> None:
        """A turn was committed."""
        ...

    def planned(self, fates: Sequence[Fate], held: Sequence[Notice], began_ns: int) -> None:
        """Plans were committed."""
        ...

    def handed(self, provider: str, handed: Sequence[tuple[Message, int, str]], began_ns: int) -> None:
        """A request to a provider came back: messages, the number of the attempt, the outcome."""
        ...

    def heard(self, provider: str, heard: Sequence[tuple[Sequence[bytes], bool]]) -> None:
        """Receipts were written down: the notices of the message, and whether it was delivered."""
        ...

    def close(self) -> None:
        """Send what is left, and end; may take seconds."""
        ...


_active: Tracer | None = None


def switch_on(tracer: Tracer | None) -> None:
    """Trace from now on with this one; None: no more."""
    global _active  # noqa: PLW0603 - one a process, as its logs and counters
    _active = tracer


def active() -> Tracer | None:
    """Who traces now; None: nobody."""
    return _active


def origin() -> Any:  # noqa: ANN401 - see `Tracer.origin`
    """The request that is being answered here and now; None outside of one, or when nobody traces."""
    return _active.origin() if _active is not None else None


def turn(batch: Callable[[], Sequence[tuple[Any, Sequence[Event]]]]) -> AbstractContextManager[None]:
    """A batch is being decided: what `batch` gives are requests with their events. It is not asked if nobody traces."""
    if _active is None:
        return nullcontext()
    return _active.turn({event.key: one for one, events in batch() if one is not None for event in events})
