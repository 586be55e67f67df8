"""One trial in a process of its own: past orders under two playbooks, read from stdin, compared on stdout.

A line for each step of the progress (`p` and how many events were taken), at the end `r` and the comparison as JSON. It
lives no longer than `LIVES_MAX_S`, whatever becomes of who started it, and gives way to everything else.
"""

import os
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import BinaryIO, Final

import msgspec
from msgspec import Struct

from orderbell.core.calendar import zone_of
from orderbell.core.events import Answer, Event, Promised, Scanned, parse_event, read_moment
from orderbell.core.playbook import PlaybookSpec, compile_playbook
from orderbell.core.turn import Shelf
from orderbell.core.wording import WordingSpec
from orderbell.insight.comparison import compare
from orderbell.insight.recording import Contender
from orderbell.store.trials import PastEvent

LIVES_MAX_S: Final = 240
_NICE: Final = 10
TENANT: Final = "trial"


class Side(Struct, frozen=True):
    """A playbook as it is kept."""

    label: str
    spec: PlaybookSpec
    wordings: dict[str, WordingSpec]

    def contender(self) -> Contender:
        """The playbook on a shelf of its own, under the name that its orders follow."""
        playbook, problems = compile_playbook(self.spec, self.wordings)
        if playbook is None:
            raise ValueError(problems[0].message)
        return Contender(self.label, Shelf({playbook.name: playbook}, playbook.name))


class Job(Struct, frozen=True):
    """What is to be compared, on which past."""

    before: Side
    after: Side
    events: list[PastEvent]


@dataclass
class Past:
    """Past events as a comparison reads them; one that this release does not take is left out."""

    lines: list[PastEvent]
    timezone: str

    @cached_property
    def _taken(self) -> list[Event]:
        made = []
        for line in self.lines:
            found = parse_event(line.event, TENANT, line.at)
            if not isinstance(found, Answer):
                made.append(msgspec.structs.replace(found, people=line.people))
        return made

    @property
    def order_count(self) -> int:
        """How many orders there are."""
        return len({event.order_no for event in self._taken})

    @property
    def event_count(self) -> int:
        """How many events there are."""
        return len(self._taken)

    @property
    def events(self) -> Iterable[Event]:
        """Everything that happened."""
        return self._taken

    @cached_property
    def promises(self) -> Mapping[str, datetime]:
        """The last promise by order number."""
        zone = zone_of(self.timezone)
        return {
            event.order_no: read_moment(event.data.by, zone)
            for event in self._taken
            if isinstance(event.data, Promised)
        }

    @cached_property
    def delivered(self) -> Mapping[str, datetime]:
        """The time of delivery by order number."""
        return {
            event.order_no: event.time
            for event in self._taken
            if isinstance(event.data, Scanned) and event.data.phase == "delivered"
        }

    @property
    def late(self) -> Iterable[str]:
        """The orders that came after the promise."""
        return [
            number for number, at in self.delivered.items() if number in self.promises and at > self.promises[number]
        ]


def run(job: Job, out: BinaryIO) -> None:
    """Compare, and say how far it is."""
    past = Past(job.events, job.before.spec.timezone)
    taken = 0

    def progress(count: int) -> None:
        nonlocal taken
        taken += count
        out.write(b"p%d\n" % taken)
        out.flush()

    found = compare(past, job.before.contender(), job.after.contender(), tenant=TENANT, progress=progress)
    out.write(b"r" + msgspec.json.encode(found) + b"\n")
    out.flush()


def main() -> None:
    """Read the job, and run it."""
    signal.alarm(LIVES_MAX_S)
    os.nice(_NICE)
    run(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Job), sys.stdout.buffer)


if __name__ == "__main__":
    main()
