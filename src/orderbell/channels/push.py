"""What the push providers have in common: addresses that say whose they are, lifetimes, one request per message.

Several push providers may be configured together, for no single one reaches every phone. An address of channel `push`
therefore begins with its kind, such as `fcm:TOKEN`; one without belongs to whichever provider is there alone.
"""

import asyncio
import datetime as dt
import email.utils
import hashlib
from collections.abc import Callable, Sequence
from typing import ClassVar, Final

import msgspec

from orderbell.channels.http import Reply, Verdict
from orderbell.channels.protocol import (
    Answer,
    ChannelUnavailable,
    Limits,
    Outcome,
    Outgoing,
    Provider,
    Scope,
    Shared,
    Veiled,
)

KINDS: Final = ("jpush", "fcm", "apns", "webpush")
"""The kinds of push addresses, each written before its colon."""

UNREADABLE: Final = (ValueError, RecursionError)
"""What decoding may raise of somebody else's text: it is none of ours, or nested more deeply than the stack is high."""

_AT_ONCE: Final = 10
_DETAIL_LENGTH_MAX: Final = 200
# A Date header counts whole seconds and has been on its way; less than this is no wrong clock.
_CLOCK_GAP_S: Final = 60
_LIFETIME_S: Final = 86_400


class CredentialsRefused(ChannelUnavailable):
    """The provider refuses our account: asking again is of no use before somebody has put it right."""


class PushOptions(Veiled, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What can be configured of every push provider.

    `title` heads messages that have no subject; `lifetime_s` is how long a message waits for a phone that is off,
    where nothing says until when it is of use; `per_second` of 0 is no limit.
    """

    title: str = ""
    lifetime_s: int = _LIFETIME_S
    timeout_s: float = 10.0
    connect_timeout_s: float = 2.0
    per_second: float = 0.0
    price_millifen: int = 0


class Note(msgspec.Struct, frozen=True):
    """A message as every push provider wants it.

    `to` is the address without its kind; `group` is 32 bytes that messages of one order and topic have in common,
    empty where there is no order; `lifetime_s` is 0 where it is of use only at once.
    """

    attempt_id: bytes
    to: str
    title: str
    body: str
    extras: dict[str, str]
    urgent: bool
    lifetime_s: int
    expires_at: dt.datetime
    group: bytes = b""


def strip_kind(to: str, kind: str) -> str | None:
    """Take the kind off an address; None if it is of another kind."""
    for other in KINDS:
        if to.startswith(f"{other}:"):
            return to[len(other) + 1 :] if other == kind else None
    return to


def clock_gap(reply: Reply, now: dt.datetime) -> str:
    """Say how far our clock is off by the Date header of an answer, as the beginning of a detail.

    Empty where it is not off, or nothing tells. It comes first, so that no long error of the provider pushes it out.
    """
    try:
        theirs = email.utils.parsedate_to_datetime(reply.headers.get("date", ""))
    except ValueError:
        return ""
    if theirs.tzinfo is None:
        theirs = theirs.replace(tzinfo=dt.UTC)
    gap_s = (now - theirs).total_seconds()
    if abs(gap_s) < _CLOCK_GAP_S:
        return ""
    return f"our clock is {abs(gap_s):.0f} s {'ahead of' if gap_s > 0 else 'behind'} the provider's: "


def is_unicode(*texts: str) -> bool:
    """Tell whether all texts can be written as UTF-8 (half of a surrogate pair cannot)."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def answer_of(note: Note, read: Verdict | str, scope: Scope = Scope.PROVIDER) -> Answer:
    """Turn what was read into the answer: a text is the provider's name for the message that it took."""
    if isinstance(read, str):
        return Answer(note.attempt_id, Outcome.ACCEPTED, provider_ref=read)
    detail = read.detail[:_DETAIL_LENGTH_MAX]
    return Answer(note.attempt_id, read.outcome, detail=detail, retry_after_s=read.retry_after_s, scope=scope)


class PushChannel(Provider):
    """A provider of push that takes one message per request; subclasses set `kind` and write `_push`."""

    kind: ClassVar[str]
    carries = frozenset({"push"})
    batch_max = 50

    def __init__(self, options: PushOptions, *, name: str, now: Callable[[], dt.datetime], shared: Shared) -> None:
        self.name = name
        self.limits = Limits(per_second=options.per_second)
        self.price_millifen = options.price_millifen
        self._title = options.title
        self._lifetime_s = options.lifetime_s
        self._now = now
        self._shared = shared

    def takes(self, to: str) -> bool:
        """Tell whether an address of channel `push` is this provider's: of its kind, or of none."""
        return bool(strip_kind(to, self.kind))

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """See `Channel.send`; the requests of a batch run side by side, ten at a time."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def send_one(outgoing: Outgoing) -> Answer:
            async with gate:
                return await self._send_one(outgoing)

        return list(await asyncio.gather(*map(send_one, batch)))

    async def _send_one(self, outgoing: Outgoing) -> Answer:
        to = strip_kind(outgoing.to, self.kind)
        if not to or not is_unicode(to):
            detail = f"the address is not of kind {self.kind}"
            return Answer(outgoing.attempt_id, Outcome.REJECTED_RECIPIENT, detail=detail)
        if not is_unicode(outgoing.text, outgoing.subject, outgoing.topic, outgoing.order_no, outgoing.link):
            return Answer(outgoing.attempt_id, Outcome.REJECTED_CONTENT, detail="cannot be written as UTF-8")
        return await self._push(self._note(outgoing, to))

    async def _push(self, note: Note) -> Answer:
        """Hand one message over, and never raise for what the network or the provider does."""
        raise NotImplementedError

    def _note(self, outgoing: Outgoing, to: str) -> Note:
        now = self._now()
        expires_at = outgoing.valid_until or now + dt.timedelta(seconds=self._lifetime_s)
        extras = {"order_no": outgoing.order_no, "link": outgoing.link}
        group = hashlib.sha256(f"{outgoing.order_no}\n{outgoing.topic}".encode()).digest() if outgoing.order_no else b""
        return Note(
            attempt_id=outgoing.attempt_id,
            to=to,
            title=outgoing.subject or self._title,
            body=outgoing.text,
            extras={name: value for name, value in extras.items() if value},
            urgent=outgoing.urgent,
            lifetime_s=max(0, int((expires_at - now).total_seconds())),
            expires_at=expires_at,
            group=group,
        )
