"""What Tencent Cloud SMS tells over HTTP: receipts, replies, and the state of templates and signatures.

Receipts are a list (https://www.tencentcloud.com/document/product/382/43547), everything else is an object.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from orderbell.channels.protocol import CallbackRefused, Heard, InboundSms, Receipt, Review
from orderbell.channels.tencent_codes import BEIJING
from orderbell.channels.tencent_wire import encode, quiet

REVIEWS: Final[Mapping[int, Literal["in_review", "approved", "rejected"]]] = {
    0: "approved",
    1: "in_review",
    # Approved, but not yet in force.
    2: "in_review",
    -1: "rejected",
}
"""The states of templates and signatures: only 0 may be used."""

_HEARD: Final = b'{"result":0,"errmsg":"OK"}'
_DELIVERED: Final = {"SUCCESS": True, "FAIL": False}
_is_mobile = re.compile(r"[0-9]{4,15}\Z").match
_is_number = re.compile(r"\+[1-9][0-9]{6,14}\Z").match


class _Receipt(msgspec.Struct, frozen=True):
    sid: str
    report_status: str
    user_receive_time: str | None = None
    errmsg: str | None = None
    description: str | None = None


class _Thing(msgspec.Struct, frozen=True):
    """A reply, or a word on a template or signature; the names of the latter differ, so several will do."""

    mobile: str | int | None = None
    nationcode: str | int | None = None
    text: str | None = None
    extend: str | int | None = None
    time: int | str | None = None
    status: int | None = None
    template_id: int | str | None = None
    tpl_id: int | str | None = None
    sign_name: str | None = None
    sign: str | None = None
    sign_id: int | str | None = None
    reason: str | None = None
    review_reply: str | None = None
    reply: str | None = None


_decode = msgspec.json.Decoder(list[_Receipt] | _Thing).decode


def read_told(body: bytes, now: dt.datetime) -> Heard:
    """Read a callback; `now` stands for times that are missing or nonsense.

    Receipts that say neither SUCCESS nor FAIL are left out.

    Raises:
        CallbackRefused: it cannot be read.
    """
    try:
        told = _decode(body)
    except (ValueError, RecursionError) as error:
        raise CallbackRefused("cannot be read as a callback of Tencent SMS") from error
    if isinstance(told, list):
        receipts = (_receipt_of(one, now) for one in told if one.sid and one.report_status in _DELIVERED)
        return Heard(receipts=tuple(receipts), answer=_HEARD)
    if told.status is not None:
        return Heard(reviews=(_review_of(told, told.status),), answer=_HEARD)
    if told.mobile is not None and told.text is not None:
        return Heard(inbound=(_inbound_of(told, told.text, now),), answer=_HEARD)
    raise CallbackRefused("neither a receipt nor a reply nor a review")


def _receipt_of(told: _Receipt, now: dt.datetime) -> Receipt:
    words = f"{told.errmsg or told.report_status} {told.description or ''}".strip()
    try:
        at = dt.datetime.fromisoformat(told.user_receive_time or "").replace(tzinfo=BEIJING).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        # Who got nothing got it at no time.
        at = now
    return Receipt(b"", told.sid.replace("\0", ""), _DELIVERED[told.report_status], quiet(words), at)


def _inbound_of(told: _Thing, text: str, now: dt.datetime) -> InboundSms:
    """Read a reply; its id is made of all that it says, because Tencent gives none and may push it again."""
    mobile = str(told.mobile)
    sender = f"+{str(told.nationcode or 86).removeprefix('+')}{mobile}"
    if not _is_mobile(mobile) or not _is_number(sender):
        raise CallbackRefused("a reply from something that is no phone")
    try:
        at = dt.datetime.fromtimestamp(int(told.time or ""), dt.UTC)
    except (ValueError, OverflowError, OSError):
        at = now
    said = encode([sender, told.time, text, told.extend])
    return InboundSms(hashlib.sha256(said).hexdigest()[:32], sender, text.replace("\0", ""), at)


def _review_of(told: _Thing, status: int) -> Review:
    state = REVIEWS.get(status)
    if state is None:
        raise CallbackRefused("a review without a known status")
    reason = quiet(told.reason or told.review_reply or told.reply or "")
    template = told.template_id or told.tpl_id
    if template:
        return Review("template", str(template), state, reason)
    sign = told.sign_name or told.sign or told.sign_id
    if sign:
        return Review("signature", str(sign), state, reason)
    raise CallbackRefused("a review of neither template nor signature")
