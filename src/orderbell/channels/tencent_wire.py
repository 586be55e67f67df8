"""How Tencent Cloud SMS is asked and what it answers: the signature TC3, the bodies, and what a refusal says."""

import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit

import msgspec

from orderbell.channels.http import NoReply, Reply, Verdict, judge
from orderbell.channels.protocol import Outcome, Scope
from orderbell.channels.tencent_codes import CLOCK_CODES, meaning_of

CONTENT_TYPE: Final = "application/json; charset=utf-8"
VERSION: Final = "2021-01-11"
ROWS_MAX: Final = 100
SIGNS_MAX: Final = 100
CLOCK_OFF_S_MAX: Final = 300
"""Tencent refuses what was signed by a clock that is off by more."""

_DETAIL_LENGTH_MAX: Final = 200
_PRIVATE: Final = re.compile(r"\+?[0-9]{7,}|AKID\w+")


def day_key(secret_key: str, date: str) -> bytes:
    """Derive the key that signs everything of one UTC day (`date` is like 2026-01-02) for SMS."""
    key = f"TC3{secret_key}".encode()
    for part in (date, "sms", "tc3_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def authorization(secret_id: str, key: bytes, host: str, at_s: int, date: str, body: bytes) -> str:
    """Sign a request by TC3-HMAC-SHA256 (https://cloud.tencent.com/document/product/1278/55260).

    `key` is that of `day_key`, `date` the UTC date of `at_s`, and the body the very bytes that are sent.
    """
    canonical = (
        f"POST\n/\n\ncontent-type:{CONTENT_TYPE}\nhost:{host}\n\ncontent-type;host\n{hashlib.sha256(body).hexdigest()}"
    )
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"TC3-HMAC-SHA256\n{at_s}\n{date}/sms/tc3_request\n{hashed}"
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return (
        f"TC3-HMAC-SHA256 Credential={secret_id}/{date}/sms/tc3_request, "
        f"SignedHeaders=content-type;host, Signature={signature}"
    )


def host_of(url: str) -> str:
    """Tell what the `Host` header of requests to an address says; it is part of the signature."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return host.removesuffix(":443" if parts.scheme == "https" else ":80")


class SendSms(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """Send one text to several numbers."""

    phone_number_set: list[str]
    sms_sdk_app_id: str
    template_id: str
    session_context: str
    template_param_set: tuple[str, ...] = ()
    sign_name: str = ""
    extend_code: str = ""
    sender_id: str = ""


class PullSmsSendStatusByPhoneNumber(msgspec.Struct, frozen=True, rename="pascal"):
    """Ask for what went to a number since `begin_time` (Unix seconds, at most 7 days ago)."""

    phone_number: str
    sms_sdk_app_id: str
    begin_time: int
    offset: int = 0
    limit: int = ROWS_MAX


class SendStatusStatistics(msgspec.Struct, frozen=True, rename="pascal"):
    """Ask for a count; the times are hours of Beijing such as 2026010203."""

    sms_sdk_app_id: str
    begin_time: str
    end_time: str
    limit: int = 0
    offset: int = 0


class DescribeSmsSignList(msgspec.Struct, frozen=True, rename="pascal"):
    """Ask for the signatures of the account."""

    international: int = 0
    limit: int = SIGNS_MAX
    offset: int = 0


class Error(msgspec.Struct, frozen=True, rename="pascal"):
    """Why a whole request was refused."""

    code: str
    message: str | None = None


class Content(msgspec.Struct, frozen=True, rename="pascal"):
    """What every answer has."""

    error: Error | None = None


class Status(msgspec.Struct, frozen=True, rename="pascal"):
    """What came of one number; `code` is "Ok" or an error, `serial_no` is empty for the latter."""

    phone_number: str
    code: str
    serial_no: str | None = None
    message: str | None = None


class Sent(Content, frozen=True, rename="pascal"):
    """The answer to `SendSms`."""

    send_status_set: list[Status] | None = None


class Row(msgspec.Struct, frozen=True, rename="pascal"):
    """What is known about one message; `report_status` is SUCCESS or FAIL."""

    serial_no: str
    user_receive_time: int | None = None
    report_status: str | None = None
    description: str | None = None
    session_context: str | None = None


class Pulled(Content, frozen=True, rename="pascal"):
    """The answer to `PullSmsSendStatusByPhoneNumber`."""

    pull_sms_send_status_set: list[Row] | None = None


class Sign(msgspec.Struct, frozen=True, rename="pascal"):
    """A signature; `status_code` is 0 for approved, 1 in review, 2 approved and not yet in force, -1 rejected."""

    sign_name: str
    status_code: int
    review_reply: str | None = None


class SignList(Content, frozen=True, rename="pascal"):
    """The answer to `DescribeSmsSignList`."""

    describe_sign_list_status_set: list[Sign] | None = None


ContentT = TypeVar("ContentT", bound=Content)


class Envelope(msgspec.Struct, Generic[ContentT], frozen=True, rename="pascal"):
    """What every answer is wrapped in."""

    response: ContentT


encode = msgspec.json.Encoder().encode
decode_any = msgspec.json.Decoder(Envelope[Content]).decode
decode_sent = msgspec.json.Decoder(Envelope[Sent]).decode
decode_pulled = msgspec.json.Decoder(Envelope[Pulled]).decode
decode_signs = msgspec.json.Decoder(Envelope[SignList]).decode


class Trouble(msgspec.Struct, frozen=True):
    """Why nothing came of a request or a message; `code` is empty where it is not Tencent that says so."""

    outcome: Outcome
    detail: str
    retry_after_s: float = 0.0
    scope: Scope = Scope.PROVIDER
    code: str = ""

    @property
    def is_about_a_number(self) -> bool:
        """Whether other numbers may fare better."""
        throttled = self.outcome is Outcome.THROTTLED and self.scope is Scope.RECIPIENT
        return throttled or self.outcome is Outcome.REJECTED_RECIPIENT


def read(
    answered: Reply | NoReply, decode: Callable[[bytes], Envelope[ContentT]], now: dt.datetime
) -> ContentT | Trouble:
    """Read an answer, or say why the whole request came to nothing.

    A refusal in Tencent's own form counts whatever the HTTP status is: it says that nothing was done.
    """
    if isinstance(answered, NoReply):
        return Trouble(Outcome.UNKNOWN if answered.perhaps_sent else Outcome.NOT_SENT, answered.detail)
    try:
        content = decode(answered.body).response
    except (ValueError, RecursionError) as error:
        judged = judge(answered)
        if isinstance(judged, Verdict):
            return Trouble(judged.outcome, judged.detail, judged.retry_after_s)
        return Trouble(Outcome.UNKNOWN, f"unreadable body: {error}"[:_DETAIL_LENGTH_MAX])
    if content.error is not None:
        return refusal(content.error.code, content.error.message or "", now, clock_off_s(answered, now))
    if not 200 <= answered.status < 300:  # noqa: PLR2004 - the success of RFC 9110 section 15
        return Trouble(Outcome.UNKNOWN, f"HTTP {answered.status}")
    return content


def refusal(code: str, message: str, now: dt.datetime, off_s: float | None = None) -> Trouble:
    """Say what an error code means; `off_s` is how far Tencent's clock is ahead of ours, where that is known."""
    meaning = meaning_of(code, now)
    words = f"{code}: {message}"
    if code in CLOCK_CODES:
        words = f"{clock_words(off_s)} ({code})"
    elif code.startswith("AuthFailure.") and off_s is not None and abs(off_s) > CLOCK_OFF_S_MAX:
        words = f"{clock_words(off_s)}; {words}"
    return Trouble(meaning.outcome, quiet(words), meaning.retry_after_s, meaning.scope, quiet(code))


def clock_off_s(answered: Reply | NoReply, now: dt.datetime) -> float | None:
    """How many seconds Tencent's clock is ahead of ours, if the answer tells."""
    date = None if isinstance(answered, NoReply) else answered.headers.get("date")
    try:
        return None if date is None else (parsedate_to_datetime(date) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None


def clock_words(off_s: float | None) -> str:
    """Say how far the clocks are apart."""
    if off_s is None:
        return "our clock is off, by how much is not known"
    return f"our clock is {abs(off_s):.0f} s {'behind' if off_s > 0 else 'ahead of'} Tencent's"


def quiet(words: str) -> str:
    """Shorten what Tencent says, without phones and key ids in it."""
    return _PRIVATE.sub("***", words.replace("\0", ""))[:_DETAIL_LENGTH_MAX]
