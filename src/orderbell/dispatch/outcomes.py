"""What an answer, or its absence, makes of a message: pure.

=====================  =======================================================================================
answer                 the message becomes
=====================  =======================================================================================
accepted               `accepted`
retry_later, not_sent  `queued` until the back-off is over; `failed` when it would be out of date by then
throttled              the same, after the time that the provider asks for
channel_down           the same, after a longer time
rejected_*             `rejected`
unknown                `unknown`, asked about from `Channel.lookup_after_s` on
=====================  =======================================================================================

An attempt that is sent again under its own id (`Recovery.KEY`) may have been taken the first time, so only an
acceptance or a rejection ends its doubt.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal

from orderbell.channels.protocol import Answer, Channel, Fate, Found, Outcome, Recovery
from orderbell.core.model import Reason, derive_id
from orderbell.observe import mask
from orderbell.store.ledger import Departure, Move, Settlement, Waiting

Doubtful = Literal["queued", "unknown"]
"""The statuses that a message waits in."""

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

NO_WORD = "no_word"
_DETAIL_LENGTH_MAX = 300
_OUT_OF_DATE = Reason.OUT_OF_DATE.value


def answers_of(departures: Sequence[Departure], answers: Iterable[Answer]) -> list[Answer]:
    """One answer per attempt: an attempt that the channel says nothing about is unknown."""
    given = {answer.attempt_id: answer for answer in answers}
    silent = (Answer(d.attempt_id, Outcome.UNKNOWN, detail="the channel gave no answer") for d in departures)
    return [given.get(answer.attempt_id, answer) for answer in silent]


def settle(departure: Departure, answer: Answer, channel: Channel, now: datetime) -> Settlement:
    """What an answer makes of a message."""
    outcome, attempt_id = answer.outcome, departure.attempt_id
    if outcome is Outcome.ACCEPTED:
        return Settlement(attempt_id, "accepted", provider_ref=clean(answer.provider_ref), detail=clean(answer.detail))
    if outcome in _REJECTED:
        return Settlement(attempt_id, "rejected", None, "", clean(f"{outcome}: {answer.detail}"), outcome)
    if outcome is Outcome.UNKNOWN or departure.repeat:
        detail = clean(f"{outcome}: {answer.detail}")
        return Settlement(attempt_id, "unknown", ask_at(channel, now), "", detail)
    due_at = now + timedelta(seconds=max(back_off_s(outcome, departure), answer.retry_after_s))
    detail = clean(answer.detail)
    if due_at > departure.message.valid_until:
        return Settlement(attempt_id, "failed", None, "", f"{_OUT_OF_DATE}: {detail}", outcome)
    return Settlement(attempt_id, "queued", due_at, "", detail, outcome)


def back_off_s(outcome: Outcome, departure: Departure) -> float:
    """Seconds until the next try: doubled with each one, and spread by a quarter so that not all come at once.

    The spread comes from the attempt's id: the same attempt waits equally long in every run.
    """
    grown = _FIRST_BACK_OFF_S[outcome] * 2.0 ** min(departure.attempt_no - 1, _DOUBLINGS_MAX)
    spread = int.from_bytes(departure.attempt_id[-2:], "big") / 0xFFFF
    return float(min(grown, BACK_OFF_S_MAX) * (0.75 + spread / 4))


def ask_at(channel: Channel, now: datetime) -> datetime | None:
    """From when the fate of an attempt may be asked for; None where only a receipt can tell."""
    return None if channel.recovery is Recovery.NONE else now + timedelta(seconds=channel.lookup_after_s)


def try_again(waiting: Waiting, now: datetime) -> Move:
    """A queued message whose time has come: a new attempt, or the end if nobody wants to read it any more."""
    if waiting.message.valid_until < now:
        return Move(waiting, "failed", waiting.attempt_id, waiting.attempt_no, None, _OUT_OF_DATE)
    attempt_no = waiting.attempt_no + 1
    return Move(waiting, "sending", derive_id(now, waiting.message.id.hex(), attempt_no), attempt_no)


def repeat(waiting: Waiting, now: datetime) -> Move:
    """An unknown attempt whose provider recognises it: the same attempt once more, while anybody wants to read it."""
    if waiting.message.valid_until < now:
        return Move(waiting, "unknown", waiting.attempt_id, waiting.attempt_no, None, NO_WORD)
    return Move(waiting, "sending", waiting.attempt_id, waiting.attempt_no)


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


def resolve(waiting: Waiting, found: Found, now: datetime) -> Settlement:
    """What the provider's word on an unknown attempt makes of the message.

    Not found means not sent: the message may go out again as a new attempt while it is worth reading.
    """
    attempt_id, ref, detail = waiting.attempt_id, clean(found.provider_ref), clean(found.detail)
    if found.fate is Fate.NOT_FOUND:
        if waiting.message.valid_until < now:
            return Settlement(attempt_id, "failed", None, "", _OUT_OF_DATE, Outcome.NOT_SENT)
        return Settlement(attempt_id, "queued", now, "", detail, Outcome.NOT_SENT)
    if found.fate is Fate.DELIVERED:
        return Settlement(attempt_id, "delivered", None, ref, detail)
    return Settlement(attempt_id, "accepted" if found.fate is Fate.ACCEPTED else "failed", None, ref, detail)


def clean(text: str) -> str:
    """A provider's words as the database may keep them: no phone, no zero character or half surrogate, not too long."""
    return mask(text[:_DETAIL_LENGTH_MAX].replace("\0", "").encode("utf-8", "replace").decode())
