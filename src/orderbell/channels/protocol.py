"""What every way out must offer, and the closed lists of what may become of a message.

Anything that carries messages to people is a `Channel`: the sandbox, an SMS gateway, a mail service. A
channel knows one provider's wire and nothing else; who is told, when, and what to do after a failure is
decided elsewhere from the values of this file. The rule behind them all: **success is only what the provider
said clearly**. Whatever might have been sent and was not clearly answered is `Outcome.UNKNOWN`, and is never
sent again without asking first.
"""

import datetime as dt
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from orderbell.errors import OrderBellError


class ChannelUnavailable(OrderBellError):
    """The provider could not be asked; nothing was learnt, and asking again later is safe."""


class Outcome(StrEnum):
    """What became of one attempt to hand a message to a provider."""

    ACCEPTED = "accepted"
    """The provider has it and said so."""
    RETRY_LATER = "retry_later"
    """The provider surely did not take it and asks for another try."""
    THROTTLED = "throttled"
    """The provider surely did not take it because we are too quick; wait `Answer.retry_after_s`."""
    REJECTED_RECIPIENT = "rejected_recipient"
    """This provider will never take a message to this address."""
    REJECTED_CONTENT = "rejected_content"
    """This provider will never take this text."""
    CHANNEL_DOWN = "channel_down"
    """The provider surely did not take it, nor would it any other: wrong key, account or URL."""
    NOT_SENT = "not_sent"
    """No byte of the request was written (connection refused, DNS, TLS): free to be sent again or elsewhere."""
    UNKNOWN = "unknown"
    """It may have been taken (answer lost, cut, late, unreadable or 5xx): ask before sending again."""


class Recovery(StrEnum):
    """What a provider offers to somebody whose answer was lost."""

    KEY = "key"
    """It recognises the attempt id: sending the same attempt again cannot make a second message."""
    LOOKUP = "lookup"
    """It can be asked what became of an attempt."""
    NONE = "none"
    """Only a receipt can tell."""


class Fate(StrEnum):
    """What a provider says about an attempt that it is asked for later."""

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    FAILED = "failed"
    """Taken, but could not be delivered."""
    NOT_FOUND = "not_found"
    """Never taken. Only to be believed `Channel.lookup_after_s` or more after the attempt."""


class Outgoing(msgspec.Struct, frozen=True):
    """One attempt to hand over one message.

    `attempt_id` is 16 bytes and goes to the provider in hexadecimal; `channel` is one of sms, email, push,
    wechat, inbox; `to` is an address of that channel; `subject` is for e-mail; `topic` groups messages in
    reports.
    """

    attempt_id: bytes
    channel: str
    to: str
    text: str
    subject: str = ""
    topic: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What came of one attempt.

    `detail` is for people and in the provider's words: it may quote an address, so treat it as personal data.
    """

    attempt_id: bytes
    outcome: Outcome
    provider_ref: str = ""
    detail: str = ""
    retry_after_s: float = 0.0


class Receipt(msgspec.Struct, frozen=True):
    """The provider's later word on a message: delivered or not, and when (`at`, aware UTC).

    `cursor` is where to go on reading once this receipt has been stored (see `Channel.receipts`).
    """

    attempt_id: bytes
    provider_ref: str
    delivered: bool
    detail: str
    at: dt.datetime
    cursor: str = ""


class Found(msgspec.Struct, frozen=True):
    """What the provider knows about one attempt."""

    attempt_id: bytes
    fate: Fate
    provider_ref: str = ""
    detail: str = ""


class Channel(Protocol):
    """One provider, seen from the dispatcher."""

    @property
    def name(self) -> str:
        """Name in the ledger, in metrics and on screens."""
        ...

    @property
    def carries(self) -> frozenset[str]:
        """The channels of `Outgoing.channel` that it takes."""
        ...

    @property
    def batch_max(self) -> int:
        """The most messages of one request; `send` cuts longer batches itself."""
        ...

    @property
    def price_millifen(self) -> int:
        """Price of one SMS segment in 1/1000 fen (4.5 fen are 4,500)."""
        ...

    @property
    def recovery(self) -> Recovery:
        """What it offers after a lost answer."""
        ...

    @property
    def lookup_after_s(self) -> float:
        """Seconds after an attempt from which `Fate.NOT_FOUND` may be believed."""
        ...

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """Hand messages over and say what came of each: one answer per attempt, in the order of the batch.

        Never raises for any trouble of the network or the provider: that is what the outcomes are for.
        Cancelling it leaves the attempts unknown.
        """
        ...

    async def receipts(self, limit: int, after: str = "") -> list[Receipt]:
        """Fetch up to `limit` receipts that come after the cursor `after` ("" is the beginning).

        The channel remembers nothing: store the receipts together with the `cursor` of the last one, and pass
        that next time. To ask with a cursor tells the provider that everything up to it is safely kept. A
        crash between fetching and storing therefore loses nothing; the same receipt may come twice.

        Raises:
            ChannelUnavailable: the provider could not be asked.
        """
        ...

    async def lookup(self, attempt_ids: Sequence[bytes]) -> list[Found]:
        """Ask what became of attempts whose answer was lost.

        An attempt about which the provider gave no clear word is left out of the result: it stays unknown.

        Raises:
            ChannelUnavailable: the provider could not be asked.
        """
        ...

    async def close(self) -> None:
        """Give up the connections; the channel is of no use afterwards."""
        ...
