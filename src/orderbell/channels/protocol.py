"""What every way out must offer, and the closed lists of what may become of a message.

Anything that carries messages to people is a `Channel`: the sandbox, an SMS gateway, a mail service. A
channel knows one provider's wire and nothing else; who is told, when, and what to do after a failure is
decided elsewhere from the values of this file. The rule behind them all: **success is only what the provider
said clearly**. Whatever might have been sent and was not clearly answered is `Outcome.UNKNOWN`, and is never
sent again without asking first.
"""

import contextlib
import datetime as dt
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Literal, Protocol

import msgspec

from orderbell.errors import OrderBellError


class Veiled(msgspec.Struct, frozen=True):
    """A struct that may hold secrets, and shows numbers and hosts only: what is printed ends up in logs."""

    def __repr__(self) -> str:
        """Name every field; the words of all but a few stay hidden, and so does whatever is nested in it."""
        return f"{type(self).__name__}({', '.join(f'{name}={self._shown(name)}' for name in self.__struct_fields__)})"

    __str__ = __repr__

    def _shown(self, name: str) -> str:
        value = getattr(self, name)
        plain = isinstance(value, int | float) or name in _PLAIN_NAMES
        return repr(value) if plain or not value else "…"


_PLAIN_NAMES = frozenset({"host", "kind", "name", "sender", "sign"})


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


class Scope(StrEnum):
    """What a `THROTTLED` answer is about."""

    PROVIDER = "provider"
    """The account or the whole provider: nothing else should be sent there for the time being."""
    RECIPIENT = "recipient"
    """This address only; others may go out."""


class ReceiptsBy(StrEnum):
    """How a provider's receipts come."""

    PULL = "pull"
    """They are asked for, with a cursor: `Channel.receipts`."""
    CALLBACK = "callback"
    """It calls us, or says so over a connection of ours: `Channel.hear`."""
    NONE = "none"
    """There are none: accepted is all that will ever be known."""


class Outgoing(msgspec.Struct, frozen=True):
    """One attempt to hand over one message.

    `attempt_id` is 16 bytes and goes to the provider in hexadecimal where it takes such a thing; `channel` is one of
    sms, email, push, wechat, inbox, staff, webhook; `to` is an address of that channel (phones in E.164); `subject` is
    for mail and for titles; `topic` groups messages in reports.

    `text` is the finished text, signature included. Providers that only send approved templates use the others:
    `template` is our text with `{name}` for each variable, without signature; `slots` are the names and the finished
    words, in the order in which they stand in the template; `template_code` is the provider's name of the approved
    template, empty where there is none (then it must be rejected as content).

    `ref` is what `Channel.ref_of` gave, `unsubscribe` the one-click address of marketing mail (RFC 8058), `link` the
    page that a tap opens, `valid_until` the moment from which nobody wants to read it any more.
    """

    attempt_id: bytes
    channel: str
    to: str
    text: str
    subject: str = ""
    topic: str = ""
    template: str = ""
    slots: tuple[tuple[str, str], ...] = ()
    template_code: str = ""
    urgent: bool = False
    marketing: bool = False
    ref: str = ""
    order_no: str = ""
    link: str = ""
    unsubscribe: str = ""
    valid_until: dt.datetime | None = None


class Answer(msgspec.Struct, frozen=True):
    """What came of one attempt.

    `detail` is for people and in the provider's words: it may quote an address, so treat it as personal data.
    `scope` says whom a `THROTTLED` is about.
    """

    attempt_id: bytes
    outcome: Outcome
    provider_ref: str = ""
    detail: str = ""
    retry_after_s: float = 0.0
    scope: Scope = Scope.PROVIDER


class Receipt(msgspec.Struct, frozen=True):
    """The provider's later word on a message: delivered or not, and when (`at`, aware UTC).

    It names its attempt by `attempt_id`, or by `provider_ref` where that is all the provider knows (then the id is
    empty). `cursor` is where to go on reading once this receipt has been stored (see `Channel.receipts`). `gone`: the
    address will never take another message.
    """

    attempt_id: bytes
    provider_ref: str
    delivered: bool
    detail: str
    at: dt.datetime
    cursor: str = ""
    gone: bool = False


class Unsure(msgspec.Struct, frozen=True):
    """An attempt whose fate is asked for: what is known of it, so that a provider can look for it.

    `ref` is that of `Channel.ref_of` or of the answer, empty where there was none; `sent_at` is aware UTC.
    """

    attempt_id: bytes
    to: str = ""
    sent_at: dt.datetime | None = None
    ref: str = ""
    text: str = ""
    template: str = ""
    template_code: str = ""


class Found(msgspec.Struct, frozen=True):
    """What the provider knows about one attempt."""

    attempt_id: bytes
    fate: Fate
    provider_ref: str = ""
    detail: str = ""


class Callback(msgspec.Struct, frozen=True):
    """A request in which a provider tells us something.

    `kind` is the last part of the path (such as `receipts`), empty where the provider has one address for everything;
    names of headers are in small letters; `url` is the public address that the provider called, query included;
    `query` and `form` keep the last value of each name, `form` is read from an urlencoded body.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    kind: str = ""


class InboundSms(msgspec.Struct, frozen=True):
    """A message from a person: `id` is the provider's, the same each time it is told; `sender` in E.164."""

    id: str
    sender: str
    text: str
    at: dt.datetime


class Review(msgspec.Struct, frozen=True):
    """A provider's word on a template or signature: `name` is its code, or the signature's text."""

    kind: Literal["template", "signature"]
    name: str
    state: Literal["in_review", "approved", "rejected"]
    reason: str = ""


class Heard(msgspec.Struct, frozen=True):
    """What a callback says, and how it must be answered once that has been stored.

    `gone` are addresses that will never take another message (a follower who left), each with the channel;
    `complaints` are attempts whose recipients called them spam. `grants` are permissions, for `Shared.grant`: an
    address, a scope (WeChat's template id) and how many more messages its owner allowed; a count of 0 says that he
    took back all of them.
    """

    receipts: tuple[Receipt, ...] = ()
    inbound: tuple[InboundSms, ...] = ()
    reviews: tuple[Review, ...] = ()
    gone: tuple[tuple[str, str], ...] = ()
    complaints: tuple[bytes, ...] = ()
    grants: tuple[tuple[str, str, int], ...] = ()
    status: int = 200
    answer: bytes = b""
    content_type: str = "application/json"


class CallbackRefused(OrderBellError):
    """A callback is not the provider's, or cannot be read; `status` is the HTTP answer that it gets."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class Finding(msgspec.Struct, frozen=True):
    """What a check of a provider's account found: fine or not, in words that say what to do."""

    fine: bool
    words: str


class Limits(msgspec.Struct, frozen=True):
    """What a provider allows; 0 or nothing means no limit.

    `per_second` counts messages; `per_recipient` are pairs of a count and the seconds within which one address may get
    so many, `per_template` the same for one address and one template.
    """

    per_second: float = 0.0
    per_recipient: tuple[tuple[int, float], ...] = ()
    per_template: tuple[tuple[int, float], ...] = ()


class Token(msgspec.Struct, frozen=True):
    """An access token and how long it is good for."""

    value: str
    good_until: dt.datetime


class Shared(Protocol):
    """What all processes of an installation share about one provider: its access token, and grants of people."""

    async def token(self, fetch: Callable[[], Awaitable[Token]], stale: str = "") -> str:
        """Give the token that is good now. One process fetches it when it is over, or equals `stale`; others wait.

        Raises:
            ChannelUnavailable: as `fetch` does.
        """
        ...

    async def grant(self, to: str, scope: str, count: int = 1) -> None:
        """Put down that somebody allowed `count` more messages of a kind; 0 takes all that they allowed back."""
        ...

    async def spend(self, to: str, scope: str) -> bool:
        """Use up one grant; False when there is none."""
        ...


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
    def key_window_s(self) -> float:
        """For how many seconds it recognises an attempt (`Recovery.KEY`); 0: for good."""
        ...

    @property
    def receipts_by(self) -> ReceiptsBy:
        """How its receipts come."""
        ...

    @property
    def receipts_name_attempts(self) -> bool:
        """Whether each of its receipts bears our attempt id, so that its own references need not be kept."""
        ...

    @property
    def confirms_delivery(self) -> bool:
        """Whether a receipt says that a message arrived; some only say when it did not."""
        ...

    @property
    def needs_template(self) -> bool:
        """Whether it only sends texts whose template it has approved."""
        ...

    @property
    def limits(self) -> Limits:
        """What it allows."""
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

    def takes(self, to: str) -> bool:
        """Whether an address is of the kind that this provider knows, where a channel has several kinds."""
        ...

    def together(self, outgoing: Outgoing) -> Hashable:
        """What messages must have in common to share a request; None for all that share everything."""
        ...

    def ref_of(self, first: bytes, outgoing: Outgoing) -> str:
        """By what the provider will name this message in its receipts, where that is known before it is sent.

        `first` is the id of the first attempt of its request. Empty where only the answer tells.
        """
        ...

    async def inbound(self, limit: int, after: str = "") -> list[InboundSms]:
        """Fetch what people wrote, where it does not come by callback; `after` is the id of the last one stored.

        Raises:
            ChannelUnavailable: the provider could not be asked.
        """
        ...

    async def lookup(self, attempts: Sequence[Unsure]) -> list[Found]:
        """Ask what became of attempts whose answer was lost.

        An attempt about which the provider gave no clear word is left out of the result: it stays unknown.

        Raises:
            ChannelUnavailable: the provider could not be asked.
        """
        ...

    def hear(self, callback: Callback) -> Heard:
        """Read what the provider tells us; pure, nothing is stored.

        Raises:
            CallbackRefused: it is not from the provider, or cannot be read.
        """
        ...

    def listening(self, tell: Callable[[Heard], Awaitable[None]]) -> AbstractAsyncContextManager[None]:
        """Listen for what comes over a connection of its own, not by HTTP, as long as the block lasts.

        `tell` stores what was heard, and may raise; nothing is confirmed before it returns.

        Raises:
            OSError: the address is taken or not allowed.
        """
        ...

    async def check(self) -> list[Finding]:
        """Ask the provider whether credentials, signature and account are right, without sending anything."""
        ...

    async def close(self) -> None:
        """Give up the connections; the channel is of no use afterwards."""
        ...


class Provider:
    """What most providers have in common; a channel overrides what its provider does otherwise.

    Subclasses set `name` and `carries` and write `send`.
    """

    name: str
    carries: frozenset[str]
    batch_max: int = 1
    price_millifen: int = 0
    recovery: Recovery = Recovery.NONE
    lookup_after_s: float = 0.0
    key_window_s: float = 0.0
    receipts_by: ReceiptsBy = ReceiptsBy.NONE
    receipts_name_attempts: bool = False
    confirms_delivery: bool = True
    needs_template: bool = False
    limits: Limits = Limits()

    def takes(self, to: str) -> bool:
        """See `Channel.takes`: all of them."""
        return True

    def together(self, outgoing: Outgoing) -> Hashable:
        """See `Channel.together`: anything goes with anything."""
        return None

    def ref_of(self, first: bytes, outgoing: Outgoing) -> str:
        """See `Channel.ref_of`: nothing is known before the answer."""
        return ""

    async def receipts(self, limit: int, after: str = "") -> list[Receipt]:
        """See `Channel.receipts`: there are none to be asked for."""
        return []

    async def inbound(self, limit: int, after: str = "") -> list[InboundSms]:
        """See `Channel.inbound`: nothing comes this way."""
        return []

    async def lookup(self, attempts: Sequence[Unsure]) -> list[Found]:
        """See `Channel.lookup`: nobody can be asked."""
        return []

    def hear(self, callback: Callback) -> Heard:
        """See `Channel.hear`: nobody calls."""
        raise CallbackRefused(f"{self.name} does not call", 404)

    def listening(self, tell: Callable[[Heard], Awaitable[None]]) -> AbstractAsyncContextManager[None]:
        """See `Channel.listening`: nobody comes."""
        return contextlib.nullcontext()

    async def check(self) -> list[Finding]:
        """See `Channel.check`: there is nothing to ask."""
        return []

    async def close(self) -> None:
        """See `Channel.close`: there is nothing to give up."""
