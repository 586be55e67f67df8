"""What Twilio's error codes mean: a closed table; what is not in it is never success.

Sources: twilio.com/docs/api/errors, and the pages of the single codes.
"""

from collections.abc import Mapping
from typing import Final

from orderbell.channels.protocol import Outcome

_THROTTLED: Final = {
    14107: "too many messages in this second",
    20429: "too many requests",
    21611: "the queue of this sender is full",
    30001: "the queue of this sender is full",
    30022: "the daily or second limit of this sender is reached",
    63017: "the limit of this sender is reached",
    63018: "the limit of this sender is reached",
}
_LATER: Final = {21730: "Twilio is under maintenance"}
_DOWN: Final = {
    10001: "the account is not active: look into the Twilio console",
    20003: "account_sid, auth_token or api_key are wrong",
    20004: "the key may not do this: use one with rights on messages",
    20005: "the account is not active: look into the Twilio console",
    20006: "access is denied: look into the Twilio console",
    20008: "these are test credentials",
    20404: "there is no such account: compare account_sid",
    21601: "the sender is no number of this account",
    21603: "set sender or messaging_service_sid",
    21606: "the sender is no number of this account, or cannot send SMS there",
    21607: "the sender cannot send SMS",
    21609: "callback_url is no address that Twilio can call",
    21659: "the sender is no number of this account",
    21660: "the sender belongs to another account",
    21661: "the sender cannot send SMS",
    21701: "there is no such messaging service",
    21703: "the messaging service has no sender for this",
    21705: "there is no such messaging service",
    21718: "there is no such messaging service",
    30002: "the account is suspended: pay, or look into the Twilio console",
    30034: "the sender is not registered for A2P 10DLC",
    30038: "the account may not send such messages",
}
# 21408 is a country that the account has not enabled: no fault of the messages to all others, so not of the channel.
_RECIPIENT: Final = {
    21211: "no valid phone number",
    21214: "the number cannot be reached",
    21217: "no valid phone number",
    21265: "the number cannot be a short code",
    21408: "SMS to this country are not enabled in the Twilio console",
    21604: "no number given",
    21608: "a trial account may only send to verified numbers",
    21610: "this person replied STOP",
    21612: "no way from this sender to this number",
    21614: "no mobile number",
    21635: "a landline",
    30004: "blocked by this person",
    30005: "the number does not exist",
    30006: "a landline or an unreachable carrier",
}
_CONTENT: Final = {
    21602: "no text given",
    21605: "the text is too long",
    21617: "the text is longer than 1,600 characters",
    21618: "the text cannot be sent",
    21619: "no text given",
    21624: "the time of validity is not allowed",
    30007: "filtered by the carrier as spam",
    30036: "its time was over",
    90007: "the time of validity is not allowed",
    90014: "the time of validity is not allowed",
}
CODES: Final[Mapping[int, tuple[Outcome, str]]] = {
    code: (outcome, words)
    for outcome, codes in (
        (Outcome.THROTTLED, _THROTTLED),
        (Outcome.RETRY_LATER, _LATER),
        (Outcome.CHANNEL_DOWN, _DOWN),
        (Outcome.REJECTED_RECIPIENT, _RECIPIENT),
        (Outcome.REJECTED_CONTENT, _CONTENT),
    )
    for code, words in codes.items()
}
"""The outcome of each known code, and words for people."""
# Of receipts only; 30003 and 30008 may be temporary.
_LATER_WORDS: Final = {
    30003: "the phone is off or out of reach",
    30008: "the carrier gives no reason",
    30009: "a part of the message was lost",
    30010: "dearer than the highest price that is allowed",
}
_QUEUES: Final = frozenset({21611, 30001, 30022})
_PAUSE_S: Final = 1.0
_PAUSE_OF_QUEUES_S: Final = 60.0


def outcome_of(code: int, status: int) -> tuple[Outcome, str]:
    """Say what an error of Twilio's means, with words for people.

    A code that is not known here was still a refusal if its status is 4xx: nothing was made of the request.
    """
    known = CODES.get(code)
    if known is not None:
        return known
    if status == 429:  # noqa: PLR2004 - RFC 6585 section 4
        return Outcome.THROTTLED, _THROTTLED[20429]
    if status in {401, 403}:
        return Outcome.CHANNEL_DOWN, _DOWN[20003]
    if 400 <= status < 500:  # noqa: PLR2004 - RFC 9110 section 15
        return Outcome.REJECTED_CONTENT, "refused for a reason that is not known here"
    return Outcome.UNKNOWN, "an error that is not known here"


def words_of(code: int | None) -> str:
    """Say an error code in words, where it is known."""
    if code is None:
        return ""
    return _LATER_WORDS.get(code) or CODES.get(code, (None, ""))[1]


def pause_of(code: int) -> float:
    """Say how many seconds to wait after a throttle that names no time: queues empty slowly."""
    return _PAUSE_OF_QUEUES_S if code in _QUEUES else _PAUSE_S
