"""What an answer, or its absence, makes of a message: pure.

=====================  =======================================================================================
answer                 the message becomes
=====================  =======================================================================================
accepted               `accepted`
retry_later, not_sent  `queued` until the back-off is over; `failed` when it would be out of date by then
throttled              the same, after the time that the provider asks for
channel_down           the same, after a longer time
rejected_content       `queued` where another provider may think otherwise; else `rejected`
rejected_recipient     `rejected`
unknown                `unknown`, asked about from `Channel.lookup_after_s` on
=====================  =======================================================================================

Where another provider can carry it, a message that one failed is due again at once: the back-off is for the provider,
not for the person. An attempt that is sent again under its own id (`Recovery.KEY`) may have been taken the first time,
so only an acceptance or a rejection ends its doubt.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal

from orderbell.channels.protocol import Answer, Channel, Fate, Found, Outcome, Recovery, Scope
from orderbell.core.model import Message, Reason, derive_id
from orderbell.dispatch.routes import REFUSES_CONTENT, Choice, Wait
from orderbell.observe import mask
from orderbell.store.ledger import Departure, Move, Settlement, Waiting

Doubtful = Literal["queued", "unknown", "orphaned"]
"""What a message waits in; `orphaned` are unknown ones whose provider is not used any more."""

BACK_OFF_S_MAX = 600.0
_FIRST_BACK_OFF_S = {
    Outcome.RETRY_LATER: 5.0, Outcome.NOT_SENT: 2.0, Outcome.THROTTLED: 1.0, Outcome.CHANNEL_DOWN: 30.0,
}  # fmt: skip
_REJECTED = (Outcome.REJECTED_RECIPIENT, Outcome.REJECTED_CONTENT)
_DOUBLINGS_MAX = 10

ASK_AGAIN_S_MIN = 5.0
ASK_AGAIN_S_MAX = 3600.0
ASKING_ENDS_AFTER = timedelta(days=3)
"""After `valid_until`: providers answer for 7 days or more; who has not said anything clear by then never will."""

DOUBT_ENDS_AFTER = timedelta(minutes=2)
"""How long a receipt or a look-up may take to end a doubt before the class of the message decides."""

REPEAT_S_MIN = 2.0
"""Before an attempt is repeated where the provider recognises it."""

MARKETING_WAITS = timedelta(minutes=30)
"""Advertising that could not leave by then would come at an hour, or after an opt-out, that nobody has looked at."""

LEASE_OVER = "the lease was over"
NO_LINK = "its link could not be kept"
OURS = frozenset({LEASE_OVER, NO_LINK})
"""Why something was not handed over that its provider has nothing to do with."""
NO_WORD = "no_word"
_DETAIL_LENGTH_MAX = 300
_REF_LENGTH_MAX = 300
_WORD_LENGTH_MAX = 20
_LONG_NUMBER = re.compile(r"\d{9,}")
_OUT_OF_DATE = Reason.OUT_OF_DATE.value


def answers_of(departures: Sequence[Departure], answers: Iterable[Answer]) -> list[Answer]:
    """One answer per attempt: an attempt that the channel says nothing about is unknown."""
    given = {answer.attempt_id: answer for answer in answers}
    silent = (Answer(d.attempt_id, Outcome.UNKNOWN, detail="the channel gave no answer") for d in departures)
    return [given.get(answer.attempt_id, answer) for answer in silent]


def settle(
    departure: Departure, answer: Answer, channel: Channel, now: datetime, *, another_at: datetime | None
) -> Settlement:
    """What an answer makes of a message; `another_at` is from when another provider could carry it."""
    outcome, attempt_id = answer.outcome, departure.attempt_id
    if outcome is Outcome.ACCEPTED:
        return Settlement(attempt_id, "accepted", None, ref_of(answer.provider_ref), clean(answer.detail))
    elsewhere = outcome is Outcome.REJECTED_CONTENT and another_at is not None and not departure.repeat
    if outcome in _REJECTED and not elsewhere:
        return Settlement(attempt_id, "rejected", None, "", clean(f"{outcome}: {answer.detail}"), outcome)
    if outcome is Outcome.UNKNOWN or departure.repeat:
        detail = clean(f"{outcome}: {answer.detail}")
        return Settlement(attempt_id, "unknown", ask_at(channel, departure, now), ref_of(answer.provider_ref), detail)
    blames = "" if outcome is Outcome.THROTTLED and answer.scope is Scope.RECIPIENT else channel.name
    due_at = now + timedelta(seconds=0.0 if elsewhere else max(back_off_s(outcome, departure), answer.retry_after_s))
    if blames and another_at is not None:
        due_at = another_at if elsewhere else min(due_at, another_at)
    detail = clean(answer.detail)
    if due_at > departure.message.valid_until:
        return Settlement(attempt_id, "failed", None, "", f"{_OUT_OF_DATE}: {detail}", outcome)
    return Settlement(attempt_id, "queued", due_at, "", detail, outcome, blames + REFUSES_CONTENT * elsewhere)


def back_off_s(outcome: Outcome, departure: Departure) -> float:
    """Seconds until the next try: doubled with each one, and spread by a quarter so that not all come at once.

    The spread comes from the attempt's id: the same attempt waits equally long in every run.
    """
    grown = _FIRST_BACK_OFF_S[outcome] * 2.0 ** min(departure.attempt_no - 1, _DOUBLINGS_MAX)
    spread = int.from_bytes(departure.attempt_id[-2:], "big") / 0xFFFF
    return float(min(grown, BACK_OFF_S_MAX) * (0.75 + spread / 4))


def ask_at(channel: Channel, departure: Departure, now: datetime) -> datetime | None:
    """From when the fate of an attempt may be looked into; None where only a receipt can tell."""
    if channel.recovery is Recovery.LOOKUP:
        return now + timedelta(seconds=channel.lookup_after_s)
    if channel.recovery is Recovery.KEY:  # sent again: with pauses that grow, for who did not answer may be down
        age_s = (now - departure.message.told_at).total_seconds()
        return now + timedelta(seconds=min(max(age_s / 2, channel.lookup_after_s, REPEAT_S_MIN), BACK_OFF_S_MAX))
    return now + DOUBT_ENDS_AFTER if departure.message.resend else None


def left_at(channel: Channel, now: datetime) -> datetime:
    """From when an attempt that a lost worker left may be looked into."""
    if channel.recovery is Recovery.NONE:
        return now + DOUBT_ENDS_AFTER
    return now + timedelta(seconds=channel.lookup_after_s)


def leave(waiting: Waiting, now: datetime) -> Move:
    """An unknown attempt that only a receipt could settle; one whose class decides is looked at again all the same."""
    message = waiting.message
    due_at = now + DOUBT_ENDS_AFTER if message.resend and message.valid_until >= now else None
    return Move(waiting, "unknown", waiting.attempt_id, waiting.attempt_no, due_at, waiting.detail or NO_WORD)


def try_again(waiting: Waiting, choice: Choice | Wait, now: datetime) -> Move:
    """A queued message whose time has come: a new attempt, more waiting, or the end if nobody wants to read it."""
    message = waiting.message
    if message.valid_until < now or (message.marketing and now - message.told_at > MARKETING_WAITS):
        return Move(waiting, "failed", waiting.attempt_id, waiting.attempt_no, None, _OUT_OF_DATE)
    if isinstance(choice, Wait):
        return Move(waiting, "queued", waiting.attempt_id, waiting.attempt_no, choice.until, choice.reason)
    no = waiting.attempt_no + 1
    attempt_id = next_attempt(waiting.message, no)
    return Move(waiting, "sending", attempt_id, no, provider=choice.provider, code=choice.code)


def next_attempt(message: Message, number: int) -> bytes:
    """The id of an attempt: the same each time that it is derived, so a provider that was asked before knows it."""
    return derive_id(message.created_at, message.id.hex(), number)


def repeat(channel: Channel, waiting: Waiting, now: datetime) -> Move:
    """An unknown attempt whose provider recognises it: the same attempt once more, while anybody wants to read it.

    Not after the time for which the provider remembers its keys: from then on only a receipt can tell.
    """
    window_s = channel.key_window_s
    forgotten = bool(window_s) and now - waiting.sending_at > timedelta(seconds=window_s)
    if forgotten or waiting.message.valid_until < now:
        return leave(waiting, now)
    return Move(waiting, "sending", waiting.attempt_id, waiting.attempt_no, ref=waiting.ref)


def ask(channel: Channel, waiting: Waiting, now: datetime) -> Move:
    """An unknown attempt that is asked about now; written before asking, it says when to ask again.

    The pauses grow with the age of the attempt, so a provider that is away for a day is not pestered.
    """
    if now > waiting.message.valid_until + ASKING_ENDS_AFTER:
        return Move(waiting, "unknown", waiting.attempt_id, waiting.attempt_no, None, NO_WORD)
    age_s = (now - waiting.sending_at).total_seconds()
    pause_s = min(max(age_s / 2, channel.lookup_after_s, ASK_AGAIN_S_MIN), ASK_AGAIN_S_MAX)
    due_at = now + timedelta(seconds=pause_s)
    return Move(waiting, "unknown", waiting.attempt_id, waiting.attempt_no, due_at, "asked")


def give_way(waiting: Waiting, now: datetime) -> Settlement | None:
    """End a doubt that nobody can resolve, where the message is of a kind that is rather told twice than never.

    None where it must go on waiting.
    """
    message = waiting.message
    if not message.resend or now - waiting.sending_at < DOUBT_ENDS_AFTER or message.valid_until < now:
        return None
    return Settlement(waiting.attempt_id, "queued", now, "", "in_doubt_resend", Outcome.UNKNOWN, waiting.provider)


def resolve(waiting: Waiting, found: Found, now: datetime) -> Settlement:
    """What the provider's word on an unknown attempt makes of the message.

    Not found means not sent: the message may go out again as a new attempt while it is worth reading, by another
    provider if there is one.
    """
    attempt_id, ref, detail = waiting.attempt_id, ref_of(found.provider_ref), clean(found.detail)
    if found.fate is Fate.NOT_FOUND:
        if waiting.message.valid_until < now:
            return Settlement(attempt_id, "failed", None, "", _OUT_OF_DATE, Outcome.NOT_SENT)
        return Settlement(attempt_id, "queued", now, "", detail, Outcome.NOT_SENT, waiting.provider)
    if found.fate is Fate.DELIVERED:
        return Settlement(attempt_id, "delivered", None, ref, detail)
    return Settlement(attempt_id, "accepted" if found.fate is Fate.ACCEPTED else "failed", None, ref, detail)


def ref_of(text: str) -> str:
    """A provider's reference as the database keeps it: as it is, for by nothing else is it found again."""
    return text[:_REF_LENGTH_MAX].replace("\0", "").encode("utf-8", "replace").decode() if text else ""


@lru_cache(maxsize=1024)  # providers say the same few things all day
def clean(text: str) -> str:
    """A provider's words as the database may keep them: no phone, no zero character or half surrogate, not too long."""
    if not text or (text.isalpha() and len(text) <= _WORD_LENGTH_MAX):
        return text  # a single word, such as DELIVERED, is nobody's number
    text = _LONG_NUMBER.sub("***", text[:_DETAIL_LENGTH_MAX])  # a phone, however it is written
    return mask(text.replace("\0", "").encode("utf-8", "replace").decode())
