"""What a rig is: a provider under test, channels to it, and levers that put the provider into each situation.

A rig is a module in `tests/channels/rigs` with an async context manager `rig(folder)`; all of `test_conformance.py`
then holds for its provider as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from orderbell.channels.protocol import Channel, Outcome, Outgoing, Receipt
from orderbell.sandbox.faults import Faults


class Situation(StrEnum):
    """What a provider can be in the middle of."""

    HEALTHY = "healthy"
    SERVER_ERROR = "server_error"
    """A server error without any word that the provider documents."""
    THROTTLING = "throttling"
    NEVER_ANSWERS = "never_answers"
    """Takes the messages, then says nothing."""
    CUTS_ANSWER = "cuts_answer"
    """Takes the messages, then breaks the connection in the middle of its answer."""
    STRANGE_CODE = "strange_code"
    """Answers with the status of success and a code that is in no manual."""
    BAD_CREDENTIALS = "bad_credentials"
    """Key, account or signature are refused."""
    CANNOT_DELIVER = "cannot_deliver"
    LOSES_RECEIPTS = "loses_receipts"
    GONE = "gone"
    """Nothing listens any more."""


FAULTS = {
    Situation.HEALTHY: Faults(),
    Situation.SERVER_ERROR: Faults(refuse=1),
    Situation.THROTTLING: Faults(throttle=1),
    Situation.NEVER_ANSWERS: Faults(timeout_after_accept=1),
    Situation.CUTS_ANSWER: Faults(cut_after_accept=1),
    Situation.STRANGE_CODE: Faults(error_body=1),
    Situation.CANNOT_DELIVER: Faults(fail_delivery=1),
    Situation.LOSES_RECEIPTS: Faults(lose_receipts=1),
}

EXPECTED: Mapping[Situation, tuple[Outcome, bool]] = {
    Situation.SERVER_ERROR: (Outcome.UNKNOWN, False),
    Situation.THROTTLING: (Outcome.THROTTLED, False),
    Situation.NEVER_ANSWERS: (Outcome.UNKNOWN, True),
    Situation.CUTS_ANSWER: (Outcome.UNKNOWN, True),
    Situation.STRANGE_CODE: (Outcome.UNKNOWN, False),
    Situation.BAD_CREDENTIALS: (Outcome.CHANNEL_DOWN, False),
    Situation.CANNOT_DELIVER: (Outcome.ACCEPTED, True),
    Situation.LOSES_RECEIPTS: (Outcome.ACCEPTED, True),
    Situation.GONE: (Outcome.NOT_SENT, False),
}
"""The outcome of every message, and whether the provider took it."""


@dataclass(frozen=True)
class Facts:
    """What is peculiar to a provider.

    `expected` overrules `EXPECTED`; None where the situation cannot occur with it. `bad` are messages that must be
    refused alone, with the outcome. `retry_after` tells whether a throttled answer names a time.
    `lists_receipts_once` is whether the receipts of many messages come each once and in the order of sending.
    """

    expected: Mapping[Situation, tuple[Outcome, bool] | None] = field(
        default_factory=lambda: {Situation.BAD_CREDENTIALS: None}
    )
    bad: tuple[tuple[Outgoing, Outcome], ...] = ()
    retry_after: bool = True

    def expectation(self, situation: Situation) -> tuple[Outcome, bool] | None:
        """The outcome in a situation, and whether the message is taken."""
        return self.expected[situation] if situation in self.expected else EXPECTED[situation]


class Rig(Protocol):
    """A provider under test, with two channels to it."""

    facts: Facts

    @property
    def channel(self) -> Channel:
        """A channel that waits long enough for any machine."""
        ...

    @property
    def impatient(self) -> Channel:
        """A channel that waits half a second."""
        ...

    def outgoing(self, number: int) -> Outgoing:
        """Make a good message, whose attempt id is its number in 16 bytes; no two numbers are alike to the provider."""
        ...

    async def arrange(self, situation: Situation) -> None:
        """Put the provider into a situation."""

    def handed_over(self) -> list[bytes]:
        """List the attempts that the provider took, in order."""

    async def receipts(self) -> list[Receipt]:
        """All receipts that the provider has given by now, pulled or heard, in order."""
