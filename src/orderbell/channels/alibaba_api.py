"""The API of Alibaba Cloud SMS: how requests are signed, and what its answers mean.

The rules of the signature (ACS3-HMAC-SHA256) are at help.aliyun.com/document_detail/315526.html, the codes at
help.aliyun.com/document_detail/101346.html.
"""

import datetime as dt
import email.utils
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from typing import Final, Literal
from urllib.parse import quote, urlsplit

import msgspec

from orderbell.channels.http import HttpClient, NoReply, Reply, judge
from orderbell.channels.protocol import Outcome, Scope

CHINA: Final = dt.timezone(dt.timedelta(hours=8))

_VERSION: Final = "2017-05-25"
_ALGORITHM: Final = "ACS3-HMAC-SHA256"
_FORM: Final = "application/x-www-form-urlencoded"
_EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
_DETAIL_LENGTH_MAX: Final = 200
_RETRY_AFTER_S_MAX: Final = 3_600.0

_CODES_OF: Final[Mapping[Outcome, tuple[str, ...]]] = {
    Outcome.RETRY_LATER: ("isp.SYSTEM_ERROR", "ServiceUnavailable", "InternalError"),
    Outcome.THROTTLED: ("isv.BUSINESS_LIMIT_CONTROL", "Throttling", "Throttling.User", "Throttling.Api"),
    Outcome.CHANNEL_DOWN: (
        "isv.DAY_LIMIT_CONTROL",
        "isv.MONTH_LIMIT_CONTROL",
        "isp.RAM_PERMISSION_DENY",
        "isp.RAM_PERMISSION_DENYY",
        "isv.OUT_OF_SERVICE",
        "isv.AMOUNT_NOT_ENOUGH",
        "isv.PRODUCT_UN_SUBSCRIPT",
        "isv.PRODUCT_UNSUBSCRIBE",
        "isv.ACCOUNT_NOT_EXISTS",
        "isv.ACCOUNT_ABNORMAL",
        "isv.SECURITY_FROZEN_ACCOUNT",
        "isv.DENY_IP_RANGE",
        "SignatureDoesNotMatch",
        "IncompleteSignature",
        "SignatureNonceUsed",
        "InvalidAccessKeyId.NotFound",
        "InvalidAccessKeyId.Inactive",
        "InvalidSecurityToken.Expired",
        "InvalidSecurityToken.Malformed",
        "MissingSecurityToken",
        "InvalidTimeStamp.Expired",
        "InvalidTimeStamp.Format",
        "InvalidVersion",
        "InvalidAction.NotFound",
        "Forbidden.RAM",
        "NoPermission",
    ),
    Outcome.REJECTED_CONTENT: (
        "isv.SMS_TEMPLATE_ILLEGAL",
        "isv.SMS_SIGNATURE_ILLEGAL",
        "isv.SMS_SIGN_ILLEGAL",
        "isv.SIGN_STATE_ILLEGAL",
        "isv.SMS_SIGNATURE_SCENE_ILLEGAL",
        "isv.SMS_CONTENT_ILLEGAL",
        "isv.SMS_CONTENT_MISMATCH_TEMPLATE_TYPE",
        "isv.UNSUPPORTED_CONTENT",
        "isv.INVALID_PARAMETERS",
        "isv.INVALID_JSON_PARAM",
        "isv.TEMPLATE_MISSING_PARAMETERS",
        "isv.TEMPLATE_PARAMS_ILLEGAL",
        "isv.PARAM_LENGTH_LIMIT",
        "isv.PARAM_NOT_SUPPORT_URL",
        "isv.EXTEND_CODE_ERROR",
        "isv.BLACK_KEY_CONTROL_LIMIT",
        "isv.SMS_TEST_SIGN_TEMPLATE_LIMIT",
        "isv.SMS_TEST_TEMPLATE_PARAMS_ILLEGAL",
        "isv.SMS_TEST_NUMBER_LIMIT",
        # These three speak of phones, but not of phones that never work: a refused recipient is not written to again
        # by anybody, and must not be for a template of the wrong kind, a batch too long or a dislike of marketing.
        "isv.DOMESTIC_NUMBER_NOT_SUPPORTED",
        "isv.MOBILE_COUNT_OVER_LIMIT",
        "isv.CUSTOMER_REFUSED",
    ),
    Outcome.REJECTED_RECIPIENT: ("isv.MOBILE_NUMBER_ILLEGAL",),
}
OUTCOMES: Final = {code: outcome for outcome, codes in _CODES_OF.items() for code in codes}
"""What each documented code means; a code that is not here is unknown, whatever its words are."""

OF_ONE: Final = frozenset(
    {
        "isv.BUSINESS_LIMIT_CONTROL",
        "isv.SMS_CONTENT_ILLEGAL",
        "isv.UNSUPPORTED_CONTENT",
        "isv.INVALID_PARAMETERS",
        "isv.INVALID_JSON_PARAM",
        "isv.TEMPLATE_MISSING_PARAMETERS",
        "isv.TEMPLATE_PARAMS_ILLEGAL",
        "isv.PARAM_LENGTH_LIMIT",
        "isv.PARAM_NOT_SUPPORT_URL",
        "isv.BLACK_KEY_CONTROL_LIMIT",
        "isv.SMS_TEST_TEMPLATE_PARAMS_ILLEGAL",
        "isv.SMS_TEST_NUMBER_LIMIT",
        "isv.DOMESTIC_NUMBER_NOT_SUPPORTED",
        "isv.MOBILE_COUNT_OVER_LIMIT",
        "isv.CUSTOMER_REFUSED",
        "isv.MOBILE_NUMBER_ILLEGAL",
    }
)
"""Refusals that one message can bring upon its whole request, by its phone or its variables; template and signature are
the same for all."""

_REMEDIES: Final = {
    "SignatureDoesNotMatch": "the access key secret is not that of the access key id",
    "InvalidAccessKeyId.NotFound": "there is no such access key id",
    "InvalidAccessKeyId.Inactive": "the access key is disabled: enable it in the RAM console",
    "isp.RAM_PERMISSION_DENY": "grant AliyunDysmsFullAccess to the RAM user of this access key",
    "isp.RAM_PERMISSION_DENYY": "grant AliyunDysmsFullAccess to the RAM user of this access key",
    "Forbidden.RAM": "grant AliyunDysmsFullAccess to the RAM user of this access key",
    "NoPermission": "grant AliyunDysmsFullAccess to the RAM user of this access key",
    "isv.OUT_OF_SERVICE": "the account has run out of money: top it up",
    "isv.AMOUNT_NOT_ENOUGH": "the account has run out of money: top it up",
    "isv.PRODUCT_UN_SUBSCRIPT": "the account has not subscribed to the message service",
    "isv.PRODUCT_UNSUBSCRIBE": "the account has not subscribed to the message service",
    "isv.DENY_IP_RANGE": "messages to the mainland are not taken from this IP address: send from a mainland one",
    "isv.DAY_LIMIT_CONTROL": "the account's own daily limit is reached: raise it in the console",
    "isv.MONTH_LIMIT_CONTROL": "the account's own monthly limit is reached: raise it in the console",
}


class Said(msgspec.Struct, frozen=True):
    """What an answer of the API means for every message of its request; `code` is empty if it had none."""

    outcome: Outcome
    detail: str = ""
    retry_after_s: float = 0.0
    scope: Scope = Scope.PROVIDER
    code: str = ""


class _Coded(msgspec.Struct, frozen=True, rename="pascal"):
    code: str
    message: str = ""


_decode_coded = msgspec.json.Decoder(_Coded).decode


class Api:
    """Signs requests to the API and sends them.

    Args:
        url: where the API is.
        key: id and secret of the access key, and the token of a temporary one or nothing.
        now: the clock, aware UTC; requests are signed with it.
        connect_timeout_s: how long to wait for a connection.
        timeout_s: how long to wait for an answer.
    """

    def __init__(
        self,
        url: str,
        key: tuple[str, str, str],
        now: Callable[[], dt.datetime],
        *,
        connect_timeout_s: float,
        timeout_s: float,
    ) -> None:
        self._key_id, self._key_secret, self._security_token = key
        self._now = now
        self._host = host_of(url)
        self._http = HttpClient(
            url,
            connect_timeout_s=connect_timeout_s,
            timeout_s=timeout_s,
            keep=("date", "x-acs-retry-after"),
        )

    async def ask(self, action: str, query: Mapping[str, str], body: bytes = b"") -> Reply | NoReply:
        """Ask; once more with another nonce if the first was found used, for then nothing was looked at."""
        query_string = canonical_query(query)
        answered = await self._ask_once(action, query_string, body)
        if isinstance(answered, Reply) and _code_of(answered) == "SignatureNonceUsed":
            return await self._ask_once(action, query_string, body)
        return answered

    async def _ask_once(self, action: str, query_string: str, body: bytes) -> Reply | NoReply:
        headers = {
            "content-type": _FORM,
            "host": self._host,
            "x-acs-action": action,
            "x-acs-content-sha256": hashlib.sha256(body).hexdigest() if body else _EMPTY_SHA256,
            "x-acs-date": self._now().astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "x-acs-signature-nonce": secrets.token_hex(16),
            "x-acs-version": _VERSION,
        }
        if self._security_token:
            headers["x-acs-accesskey-id"] = self._key_id
            headers["x-acs-security-token"] = self._security_token
        headers["authorization"] = authorization(self._key_id, self._key_secret, "POST", query_string, headers)
        # It is signed, but written by the client from the address.
        del headers["host"]
        # Without it the answer may come as XML.
        headers["accept"] = "application/json"
        return await self._http.request("POST", f"/?{query_string}", body, headers)

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()


def canonical_query(parameters: Mapping[str, str]) -> str:
    """Write parameters as they are both signed and sent: sorted, and encoded as RFC 3986 has it."""
    return "&".join([f"{quote(name, safe='~')}={quote(parameters[name], safe='~')}" for name in sorted(parameters)])


def canonical_request(method: str, query_string: str, headers: Mapping[str, str]) -> tuple[str, str]:
    """Write what is signed of a request to `/`, and the names of its signed headers.

    `headers` have names in small letters and hold `x-acs-content-sha256`; all of them are signed. The rules are at
    help.aliyun.com/document_detail/315526.html.
    """
    names = sorted(headers)
    signed = ";".join(names)
    lines = "".join([f"{name}:{headers[name].strip()}\n" for name in names])
    return f"{method}\n/\n{query_string}\n{lines}\n{signed}\n{headers['x-acs-content-sha256']}", signed


def authorization(
    access_key_id: str, access_key_secret: str, method: str, query_string: str, headers: Mapping[str, str]
) -> str:
    """Make the `Authorization` header of a request to `/`; for `headers` see `canonical_request`."""
    canonical, signed = canonical_request(method, query_string, headers)
    to_sign = f"{_ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(access_key_secret.encode(), to_sign.encode(), "sha256").hex()
    return f"{_ALGORITHM} Credential={access_key_id},SignedHeaders={signed},Signature={signature}"


def host_of(url: str) -> str:
    """Tell the `Host` that requests to an address have: without the port that its scheme implies."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    implied = {"http": 80, "https": 443}.get(parts.scheme)
    return host if parts.port in {None, implied} else f"{host}:{parts.port}"


def read_answer(answered: Reply | NoReply, now: dt.datetime) -> Said:
    """Say what an answer of the API means; `now` is aware UTC, and what its request was signed with.

    A documented code decides, whatever the HTTP status. Otherwise a 4xx was refused before anything was done, and all
    else is unknown.
    """
    if isinstance(answered, NoReply):
        return Said(Outcome.UNKNOWN if answered.perhaps_sent else Outcome.NOT_SENT, answered.detail)
    verdict = judge(answered)
    coded = _read_code(answered)
    if isinstance(verdict, bytes) and coded.code == "OK":
        return Said(Outcome.ACCEPTED, code="OK")
    outcome = OUTCOMES.get(coded.code)
    if outcome is None and coded.code.startswith("Throttling."):
        outcome = Outcome.THROTTLED
    if outcome is not None:
        return _said_of_code(outcome, coded, answered, now)
    words = short(f"unknown code {coded.code!r}: {coded.message}") if coded.code else "unreadable body"
    if isinstance(verdict, bytes) or coded.code == "OK":
        return Said(Outcome.UNKNOWN, words, code=coded.code)
    retry_after_s = _retry_after_s(answered) if verdict.outcome is Outcome.THROTTLED else verdict.retry_after_s
    detail = short(f"{verdict.detail}: {words}") if coded.code else verdict.detail
    return Said(verdict.outcome, detail, retry_after_s, code=coded.code)


def _said_of_code(outcome: Outcome, coded: _Coded, reply: Reply, now: dt.datetime) -> Said:
    code = coded.code
    detail = short(f"{code}: {_REMEDIES.get(code) or coded.message}")
    if code == "isv.BUSINESS_LIMIT_CONTROL":
        return Said(outcome, detail, until_next_window_s(coded.message, now), Scope.RECIPIENT, code)
    if outcome is Outcome.THROTTLED:
        return Said(outcome, detail, _retry_after_s(reply), code=code)
    if code == "isv.DAY_LIMIT_CONTROL":
        return Said(outcome, detail, _until_next_s("day", now), code=code)
    if code == "isv.MONTH_LIMIT_CONTROL":
        return Said(outcome, detail, _until_next_s("month", now), code=code)
    if code == "InvalidTimeStamp.Expired":
        return Said(outcome, f"{code}: {_clock_words(reply, now)}", code=code)
    return Said(outcome, detail, code=code)


def until_next_window_s(message: str, now: dt.datetime) -> float:
    """Tell for how many seconds a phone is over its limit, from the words of the refusal.

    Minutes and hours are those of the clock; a day ends 24 hours after the first message to the phone, which nobody
    remembers here, so midnight in China is tried. A limit with other words is tried again in the next minute.
    """
    if "小时" in message:
        return _until_next_s("hour", now)
    return _until_next_s("day" if "天" in message else "minute", now)


def _until_next_s(window: Literal["minute", "hour", "day", "month"], now: dt.datetime) -> float:
    """Seconds until the next minute, hour, day or month of the clock in China, and one for clocks that differ."""
    local = now.astimezone(CHINA)
    match window:
        case "minute":
            end = local.replace(second=0, microsecond=0) + dt.timedelta(minutes=1)
        case "hour":
            end = local.replace(minute=0, second=0, microsecond=0) + dt.timedelta(hours=1)
        case "day":
            end = local.replace(hour=0, minute=0, second=0, microsecond=0) + dt.timedelta(days=1)
        case _:
            first = local.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            end = (first + dt.timedelta(days=32)).replace(day=1)
    return (end - local).total_seconds() + 1.0


def _retry_after_s(reply: Reply) -> float:
    """Read how long to wait after a throttled request: in milliseconds by the provider's own header."""
    own = reply.headers.get("x-acs-retry-after", "")
    if own.isascii() and own.isdigit():
        return min(int(own[:9]) / 1000, _RETRY_AFTER_S_MAX)
    return reply.retry_after_s or 1.0


def _clock_words(reply: Reply, now: dt.datetime) -> str:
    """Say how far the clock is off, by the time that the provider's answer bears."""
    remedy = "set the clock of this machine (NTP); 15 minutes are tolerated"
    try:
        theirs = email.utils.parsedate_to_datetime(reply.headers["date"])
        off_s = round((now - theirs).total_seconds())
    except (KeyError, ValueError, TypeError):
        return f"the clock of this machine is off: {remedy}"
    return f"the clock of this machine is {abs(off_s)} s {'ahead' if off_s > 0 else 'behind'}: {remedy}"


def _read_code(reply: Reply) -> _Coded:
    try:
        return _decode_coded(reply.body)
    except (ValueError, RecursionError):
        return _Coded(code="")


def _code_of(reply: Reply) -> str:
    return _read_code(reply).code if reply.status >= 400 else ""  # noqa: PLR2004 - RFC 9110 section 15


def short(words: str | None) -> str:
    """Cut the provider's words to what a person reads."""
    return (words or "")[:_DETAIL_LENGTH_MAX]
