"""Tencent Cloud SMS (API 2021-01-11), simulated: signature TC3, templates and signatures, limits, history, callbacks.

As at the real one, the HTTP status is always 200. A request that cannot be understood or is not allowed has an `Error`;
what is wrong with a template, a signature, a text or a number is told for each number in `SendStatusSet`.
"""

import datetime as dt
import hashlib
import hmac
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, TypeVar

import msgspec

from orderbell.core.segments import measure
from orderbell.sandbox.ledger import Delivery
from orderbell.sandbox.simulator import Answered, Asked, Clock, Simulator, Taken, utc_now

BEIJING: Final = dt.timezone(dt.timedelta(hours=8))

_VERSION: Final = "2021-01-11"
_CLOCK_OFF_S_MAX: Final = 300
_NUMBERS_MAX: Final = 200
_CONTEXT_BYTES_MAX: Final = 512
_ROWS_MAX: Final = 100
_HISTORY_S: Final = 7 * 86_400
_RECEIPTS_AT_ONCE: Final = 100
_PUSHES_MAX: Final = 3
_MARKETING_HOURS: Final = range(8, 22)

_AUTHORIZATION: Final = re.compile(
    r"TC3-HMAC-SHA256 Credential=([^/\s]+)/(\d{4}-\d{2}-\d{2})/(\w+)/tc3_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})\Z"
)
_PLACEHOLDER: Final = re.compile(r"\{(\d+)\}")
_LINK: Final = re.compile(r"https?://|www\.", re.IGNORECASE)
_CODE: Final = re.compile(r"[0-9]{0,6}")
_HOUR: Final = re.compile(r"[0-9]{10}")
_MAINLAND: Final = re.compile(r"(?:\+86|0086|86)?(1[3-9]\d{9})\Z")
_ABROAD: Final = re.compile(r"\+(?!86)[1-9]\d{6,14}\Z")

Kind = Literal["notice", "marketing", "code"]


class Template(msgspec.Struct, frozen=True):
    """A template: `content` with `{1}`, `{2}`; `international` is 0 for mainland China, 1 for elsewhere, 3 for both.

    `status` is 0 for one that can be used, 1 in review, 2 approved and not yet in force, -1 rejected.
    """

    content: str
    kind: Kind = "notice"
    international: int = 0
    status: int = 0
    name: str = ""
    reply: str = ""


class Sign(msgspec.Struct, frozen=True):
    """The state of a signature; `status` as that of templates."""

    status: int = 0
    international: int = 0
    reply: str = ""


class PhoneLimits(msgspec.Struct, frozen=True):
    """How many messages a phone of mainland China gets; 0 is no limit, `same_content` is for a day."""

    thirty_seconds: int = 0
    hour: int = 0
    day: int = 0
    same_content: int = 0


_NO_LIMITS: Final = PhoneLimits()


class _SendSms(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    phone_number_set: list[str] | None = None
    sms_sdk_app_id: str | None = None
    template_id: str | None = None
    sign_name: str | None = None
    template_param_set: list[str] | None = None
    extend_code: str | None = None
    session_context: str | None = None
    sender_id: str | None = None


class _Pull(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    begin_time: int | None = None
    offset: int | None = None
    limit: int | None = None
    phone_number: str | None = None
    sms_sdk_app_id: str | None = None
    end_time: int | None = None


class _Count(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    begin_time: str | None = None
    end_time: str | None = None
    sms_sdk_app_id: str | None = None
    limit: int | None = None
    offset: int | None = None


class _List(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    international: int | None = None
    template_id_set: list[int] | None = None
    sign_id_set: list[int] | None = None
    limit: int | None = None
    offset: int | None = None


class _Well(msgspec.Struct, frozen=True):
    result: int


_Request = TypeVar("_Request", bound=msgspec.Struct)


class _Refused(Exception):
    """A whole request is refused."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class TencentSimulator(Simulator):
    """Tencent Cloud SMS for one application.

    `fail_with` answers everything with that `Error.Code`; `fail_numbers_with` gives every number that code, and
    `codes` single ones (E.164). `blacklist` are phones that opted out. `balance` is how many segments are paid for,
    None without end. `takes_any_template` is for templates that are not in `templates`: then they have as many
    variables as come and are good everywhere. `taken` has fields `context`, `template`, `parameters` and `fee`
    (segments).

    Args:
        secret_id: the only key id that is known.
        secret_key: its secret.
        sdk_app_id: the application.
        templates: by id.
        signs: by text.
        limits: of phones.
        variable_max: how long a variable may be in mainland China; 0 is any length.
        enforce_hours: refuse marketing between 22:00 and 08:00 of Beijing.
        shows_context: whether the history has `SessionContext`, which Tencent switches on for some accounts.
        push_again_s: after which time a callback that was not answered well comes again, three times in all.
        clock: tells the time as aware UTC.
        callback_url: where receipts, replies and reviews are sent.
    """

    def __init__(
        self,
        *,
        secret_id: str = "AKIDEXAMPLE",  # noqa: S107 - the example of the manual
        secret_key: str = "SECRETEXAMPLE",  # noqa: S107 - likewise
        sdk_app_id: str = "1400006666",
        templates: Mapping[str, Template] | None = None,
        signs: Mapping[str, Sign] | None = None,
        limits: PhoneLimits | None = None,
        variable_max: int = 0,
        enforce_hours: bool = False,
        shows_context: bool = False,
        push_again_s: float = 1.0,
        clock: Clock = utc_now,
        callback_url: str = "",
    ) -> None:
        super().__init__(clock=clock, callback_url=callback_url)
        self.secret_id = secret_id
        self.secret_key = secret_key
        self.sdk_app_id = sdk_app_id
        self.templates = dict(templates or {})
        self.signs = dict(signs or {"腾讯云": Sign()})
        self.limits = limits or PhoneLimits()
        self.variable_max = variable_max
        self.enforce_hours = enforce_hours
        self.shows_context = shows_context
        self.push_again_s = push_again_s
        self.fail_with = ""
        self.fail_numbers_with = ""
        self.codes: dict[str, str] = {}
        self.blacklist: set[str] = set()
        self.balance: int | None = None
        self.takes_any_template = False
        self.requests = 0
        self._history: defaultdict[str, list[Taken]] = defaultdict(list)
        self._due: list[dict[str, str]] = []
        self._pushing = False
        self._actions: dict[str, Callable[[bytes], dict[str, Any]]] = {
            "SendSms": self._send_sms,
            "PullSmsSendStatusByPhoneNumber": self._pull,
            "SendStatusStatistics": self._count,
            "DescribeSmsTemplateList": self._list_templates,
            "DescribeSmsSignList": self._list_signs,
        }

    async def answer(self, asked: Asked) -> Answered:
        """Answer as the API does; every POST to / is one."""
        if asked.path != "/" or asked.method != "POST":
            return Answered(404, b"404 page not found", "text/plain")
        if self.dice.strikes(self.faults.refuse):
            return Answered(503)
        self.requests += 1
        before = len(self.taken)
        try:
            response = self._respond(asked)
        except _Refused as refused:
            response = {"Error": {"Code": refused.code, "Message": str(refused)}}
        response["RequestId"] = f"00000000-0000-4000-8000-{self.requests:012x}"
        body = msgspec.json.encode({"Response": response})
        return Answered(body=body, took=len(self.taken) > before)

    async def send_reply(self, sender: str, text: str, *, extend: str = "") -> int:
        """Let a phone of mainland China (E.164) answer; gives the HTTP status that came back."""
        reply = {
            "extend": extend,
            "mobile": sender.removeprefix("+86"),
            "nationcode": "86",
            "sign": next(iter(self.signs), ""),
            "text": text,
            "time": int(self.clock().timestamp()),
        }
        return await self._push(reply)

    async def review_template(self, template_id: str, *, status: int, reason: str = "") -> int:
        """Approve (0) or reject (-1) a template, and say so; gives the HTTP status that came back."""
        template = self.templates[template_id]
        self.templates[template_id] = msgspec.structs.replace(template, status=status, reply=reason)
        return await self._push({"template_id": int(template_id), "status": status, "reason": reason})

    async def review_sign(self, name: str, *, status: int, reason: str = "") -> int:
        """Approve (0) or reject (-1) a signature, and say so; gives the HTTP status that came back."""
        self.signs[name] = Sign(status=status, reply=reason)
        return await self._push({"sign_name": name, "status": status, "reason": reason})

    def _respond(self, asked: Asked) -> dict[str, Any]:
        action = asked.headers.get("x-tc-action", "")
        self._verify(asked)
        if asked.headers.get("x-tc-version") != _VERSION:
            raise _Refused("NoSuchVersion", "The version of this API is not found.")
        if action not in self._actions:
            raise _Refused("InvalidAction", f"The request action={action} is invalid or not found.")
        if not asked.headers.get("x-tc-region"):
            raise _Refused("MissingParameter", "The request is missing a required parameter `Region`.")
        if self.fail_with:
            raise _Refused(self.fail_with, "This request is to fail.")
        if self.dice.strikes(self.faults.throttle):
            message = f"Your current request times for `{action}` have exceeded the limit of 3000 per second."
            raise _Refused("RequestLimitExceeded", message)
        return self._actions[action](asked.body)

    def _verify(self, asked: Asked) -> None:
        """Verify the signature over the headers that it says it covers."""
        matched = _AUTHORIZATION.match(asked.headers.get("authorization", ""))
        if matched is None:
            raise _Refused("AuthFailure.InvalidAuthorization", "The Authorization header is not valid.")
        secret_id, date, service, names, signature = matched.groups()
        timestamp = asked.headers.get("x-tc-timestamp", "")
        if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 11:  # noqa: PLR2004 - until 5138
            raise _Refused("MissingParameter", "The request is missing a required parameter `Timestamp`.")
        signed_at = dt.datetime.fromtimestamp(int(timestamp), dt.UTC)
        if abs((self.clock() - signed_at).total_seconds()) > _CLOCK_OFF_S_MAX:
            message = "The signature has expired: the timestamp and the server's time differ by more than 5 minutes."
            raise _Refused("AuthFailure.SignatureExpire", message)
        if secret_id != self.secret_id:
            raise _Refused("AuthFailure.SecretIdNotFound", "The SecretId is not found, please check it.")
        expected = self._signature(asked, date, service, names.split(";"), timestamp)
        in_scope = service == "sms" and date == signed_at.date().isoformat()
        covered = {"content-type", "host"} <= set(names.split(";"))
        if not in_scope or not covered or not hmac.compare_digest(expected, signature):
            message = "The provided credentials could not be validated. Please check your signature is correct."
            raise _Refused("AuthFailure.SignatureFailure", message)

    def _signature(self, asked: Asked, date: str, service: str, names: Sequence[str], timestamp: str) -> str:
        unsigned = asked.headers.get("x-tc-content-sha256") == "UNSIGNED-PAYLOAD"
        payload = b"UNSIGNED-PAYLOAD" if unsigned else asked.body
        lines = "".join(f"{name}:{asked.headers.get(name, '').strip()}\n" for name in names)
        hashed = hashlib.sha256(payload).hexdigest()
        canonical = f"{asked.method}\n{asked.path}\n{asked.query}\n{lines}\n{';'.join(names)}\n{hashed}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        key = _day_key(self.secret_key, date, service)
        to_sign = f"TC3-HMAC-SHA256\n{timestamp}\n{date}/{service}/tc3_request\n{digest}"
        return hmac.digest(key, to_sign.encode(), "sha256").hex()

    def _send_sms(self, body: bytes) -> dict[str, Any]:
        request = _decode(body, _SendSms)
        self._require(request, "phone_number_set", "sms_sdk_app_id", "template_id")
        numbers = request.phone_number_set or []
        if not numbers:
            raise _Refused("MissingParameter.EmptyPhoneNumberSet", "The list of phone numbers is empty.")
        if len(numbers) > _NUMBERS_MAX:
            raise _Refused("LimitExceeded.PhoneNumberCountLimit", f"More than {_NUMBERS_MAX} phone numbers.")
        if len((request.session_context or "").encode()) >= _CONTEXT_BYTES_MAX:
            raise _Refused("InvalidParameterValue", f"SessionContext has {_CONTEXT_BYTES_MAX} bytes or more.")
        self._require_application(request.sms_sdk_app_id)
        if len({number.startswith("+86") for number in map(_normal, numbers) if number}) > 1:
            code = "UnsupportedOperation.ContainDomesticAndInternationalPhoneNumber"
            raise _Refused(code, "Numbers of mainland China and of other countries are mixed.")
        told: list[dict[str, str]] = []
        statuses = [self._send_one(number, request, told) for number in numbers]
        if told:
            self.later(self._tell(told))
        return {"SendStatusSet": statuses}

    def _send_one(self, number: str, request: _SendSms, told: list[dict[str, str]]) -> dict[str, Any]:
        to = _normal(number)
        template = self.templates.get(request.template_id or "")
        if template is None and self.takes_any_template and request.template_id:
            template = _any_template(request.template_param_set or [])
        text = "" if template is None else _fill(template.content, request.template_param_set or [])
        if to and to.startswith("+86"):
            text = f"【{request.sign_name or ''}】{text}"
        fee = measure(text, gsm=not text.startswith("【")).parts
        code = self._code_of(to, template, text, fee, request)
        status = {
            "SerialNo": "",
            "PhoneNumber": to or number,
            "Fee": 0,
            "SessionContext": request.session_context or "",
            "Code": code or "Ok",
            "Message": f"{code} of the simulator" if code else "send success",
            "IsoCode": "CN" if to and to.startswith("+86") else "DEF",
        }
        if code:
            return status
        if self.balance is not None:
            self.balance -= fee
        # Many simulators may run at once, and none may give the number of another's message.
        serial = f"2640:{id(self) % 10**6:06d}{int(self.clock().timestamp() * 1e6)}{len(self.taken):07d}"
        fields = {"template": request.template_id, "parameters": request.template_param_set or [], "fee": fee}
        taken = self.keep(serial, to, text, context=request.session_context or "", **fields)
        self._history[to].append(taken)
        if self.callback_url and taken.delivery is not Delivery.SILENT:
            told.append(self._receipt(taken))
        return {**status, "SerialNo": serial, "Fee": fee}

    def _code_of(self, to: str, template: Template | None, text: str, fee: int, request: _SendSms) -> str:
        """Find what is wrong with one message; empty if nothing is."""
        if self.dice.strikes(self.faults.error_body):
            return "FailedOperation.SomethingNew"
        if not to:
            return "InvalidParameterValue.IncorrectPhoneNumber"
        if code := self.codes.get(to) or self.fail_numbers_with:
            return code
        if to in self.blacklist:
            return "FailedOperation.PhoneNumberInBlacklist"
        if code := next(self._faults_of_text(to, template, request), ""):
            return code
        if self.balance is not None and self.balance < fee:
            return "FailedOperation.InsufficientBalanceInSmsPackage"
        return next(self._limits_reached(to, text), "") if to.startswith("+86") else ""

    def _faults_of_text(self, to: str, template: Template | None, request: _SendSms) -> Iterator[str]:
        if template is None or template.status != 0:
            yield "FailedOperation.TemplateUnapprovedOrNotExist"
            return
        parameters = request.template_param_set or []
        if to.startswith("+86"):
            sign = self.signs.get(request.sign_name or "")
            if sign is None or sign.status != 0:
                yield "FailedOperation.SignatureIncorrectOrUnapproved"
            if template.international == 1:
                yield "UnsupportedOperation.GlobalTemplateToChineseMainlandPhone"
            if self.variable_max and any(len(one) > self.variable_max for one in parameters):
                yield "InvalidParameterValue.TemplateParameterLengthLimit"
        elif template.international == 0:
            yield "UnsupportedOperation.ChineseMainlandTemplateToGlobalPhone"
        if len(parameters) != len(set(_PLACEHOLDER.findall(template.content))):
            yield "FailedOperation.TemplateParamSetNotMatchApprovedTemplate"
        if template.kind == "code" and not all(_CODE.fullmatch(one) for one in parameters):
            yield "InvalidParameterValue.TemplateParameterFormatError"
        if any(_LINK.search(one) for one in parameters):
            yield "InvalidParameterValue.ProhibitedUseUrlInTemplateParameter"
        hour = self.clock().astimezone(BEIJING).hour
        if self.enforce_hours and template.kind == "marketing" and hour not in _MARKETING_HOURS:
            yield "FailedOperation.MarketingSendTimeConstraint"

    def _limits_reached(self, to: str, text: str) -> Iterator[str]:
        now, limits = self.clock(), self.limits
        if limits == _NO_LIMITS:
            return
        today = now.astimezone(BEIJING).date()
        ages_s = [(now - taken.at).total_seconds() for taken in self._history[to]]
        of_today = [taken for taken in self._history[to] if taken.at.astimezone(BEIJING).date() == today]
        if limits.thirty_seconds and sum(age_s < 30 for age_s in ages_s) >= limits.thirty_seconds:  # noqa: PLR2004
            yield "LimitExceeded.PhoneNumberThirtySecondLimit"
        if limits.hour and sum(age_s < 3600 for age_s in ages_s) >= limits.hour:  # noqa: PLR2004 - as above, seconds
            yield "LimitExceeded.PhoneNumberOneHourLimit"
        if limits.same_content and sum(taken.text == text for taken in of_today) >= limits.same_content:
            yield "LimitExceeded.PhoneNumberSameContentDailyLimit"
        if limits.day and len(of_today) >= limits.day:
            yield "LimitExceeded.PhoneNumberDailyLimit"

    def _pull(self, body: bytes) -> dict[str, Any]:
        request = _decode(body, _Pull)
        self._require(request, "begin_time", "offset", "limit", "phone_number", "sms_sdk_app_id")
        self._require_application(request.sms_sdk_app_id)
        now_s = self.clock().timestamp()
        begin_s, limit = request.begin_time or 0, request.limit or 0
        end_s = now_s if request.end_time is None else request.end_time
        if not 0 < limit <= _ROWS_MAX:
            raise _Refused("InvalidParameterValue.LimitVerifyFail", f"Limit must be 1 to {_ROWS_MAX}.")
        if request.offset != 0:
            raise _Refused("InvalidParameterValue.OffsetVerifyFail", "Offset must be 0.")
        if begin_s < now_s - _HISTORY_S:
            raise _Refused("InvalidParameterValue.BeginTimeVerifyFail", "BeginTime is more than 7 days ago.")
        if end_s < begin_s:
            raise _Refused("InvalidParameterValue.EndTimeVerifyFail", "EndTime is before BeginTime.")
        delay_s = self.faults.receipt_delay_s
        rows = [
            self._row(taken)
            for taken in self._history.get(_normal(request.phone_number or ""), [])
            if begin_s <= taken.at.timestamp() <= end_s + 1 and taken.at.timestamp() + delay_s <= now_s
        ]
        return {"PullSmsSendStatusSet": rows[:limit]}

    def _row(self, taken: Taken) -> dict[str, Any]:
        country = "86" if taken.to.startswith("+86") else ""
        failed = taken.delivery is Delivery.FAILED
        return {
            "UserReceiveTime": int(taken.at.timestamp() + self.faults.receipt_delay_s),
            "CountryCode": country,
            "SubscriberNumber": taken.to.removeprefix("+").removeprefix(country),
            "PhoneNumber": taken.to,
            "SerialNo": taken.ref,
            "ReportStatus": "FAIL" if failed else "SUCCESS",
            "Description": "UNDELIV" if failed else "DELIVRD",
            "SessionContext": taken.fields["context"] if self.shows_context else "",
        }

    def _receipt(self, taken: Taken) -> dict[str, str]:
        failed = taken.delivery is Delivery.FAILED
        at = (taken.at + dt.timedelta(seconds=self.faults.receipt_delay_s)).astimezone(BEIJING)
        country = "86" if taken.to.startswith("+86") else ""
        return {
            "user_receive_time": at.replace(tzinfo=None).isoformat(" ", "seconds"),
            "nationcode": country,
            "mobile": taken.to.removeprefix("+").removeprefix(country),
            "report_status": "FAIL" if failed else "SUCCESS",
            "errmsg": "UNDELIV" if failed else "DELIVRD",
            "description": "用户短信送达失败" if failed else "用户短信送达成功",
            "sid": taken.ref,
        }

    def _count(self, body: bytes) -> dict[str, Any]:
        request = _decode(body, _Count)
        self._require(request, "begin_time", "end_time", "sms_sdk_app_id", "limit", "offset")
        self._require_application(request.sms_sdk_app_id)
        begin, end = request.begin_time or "", request.end_time or ""
        if not _HOUR.fullmatch(begin) or not _HOUR.fullmatch(end):
            raise _Refused("InvalidParameterValue.BeginTimeVerifyFail", "Times must be like 2026010203.")
        taken = [one for one in self.taken if begin <= one.at.astimezone(BEIJING).strftime("%Y%m%d%H") <= end]
        counts = {
            "FeeCount": sum(one.fields["fee"] for one in taken),
            "RequestCount": len(taken),
            "RequestSuccessCount": len(taken),
        }
        return {"SendStatusStatistics": counts}

    def _list_templates(self, body: bytes) -> dict[str, Any]:
        request = _decode(body, _List)
        self._require(request, "international")
        wanted = [str(number) for number in request.template_id_set or []]
        rows = [
            {
                "TemplateId": int(template_id),
                "International": template.international,
                "StatusCode": template.status,
                "ReviewReply": template.reply,
                "TemplateName": template.name,
                "CreateTime": 0,
                "TemplateContent": template.content,
            }
            for template_id, template in self.templates.items()
            if template.international in {request.international, 3} and (not wanted or template_id in wanted)
        ]
        return {"DescribeTemplateStatusSet": rows if wanted else _page(rows, request, 0)}

    def _list_signs(self, body: bytes) -> dict[str, Any]:
        request = _decode(body, _List)
        self._require(request, "international")
        rows = [
            {
                "SignId": number,
                "International": sign.international,
                "StatusCode": sign.status,
                "ReviewReply": sign.reply,
                "SignName": name,
                "CreateTime": 0,
            }
            for number, (name, sign) in enumerate(self.signs.items(), 1)
            if sign.international == request.international
            and (not request.sign_id_set or number in request.sign_id_set)
        ]
        return {"DescribeSignListStatusSet": rows if request.sign_id_set else _page(rows, request, 10)}

    def _require(self, request: msgspec.Struct, *fields: str) -> None:
        for field in fields:
            if getattr(request, field) in (None, ""):
                name = "".join(part.capitalize() for part in field.split("_"))
                raise _Refused("MissingParameter", f"The request is missing a required parameter `{name}`.")

    def _require_application(self, sdk_app_id: str | None) -> None:
        if sdk_app_id != self.sdk_app_id:
            code = "UnauthorizedOperation.SmsSdkAppIdVerifyFail"
            raise _Refused(code, "The SmsSdkAppId does not belong to the account of the key.")

    async def _tell(self, told: list[dict[str, str]]) -> None:
        """Push receipts, together with all that came due while others were pushed."""
        self._due += told
        if self._pushing:
            return
        self._pushing = True
        try:
            while self._due:
                part, self._due = self._due[:_RECEIPTS_AT_ONCE], self._due[_RECEIPTS_AT_ONCE:]
                await self._push(part)
        finally:
            self._pushing = False

    async def _push(self, content: object) -> int:
        """Tell something until it is answered well, three times at most; gives the last HTTP status."""
        body = msgspec.json.encode(content)
        status = 0
        for push in range(_PUSHES_MAX):
            if push:
                await self._wait(self.push_again_s)
            status = await self.call(body, "application/json")
            if status == 200 and _is_well(self.last_reply):  # noqa: PLR2004 - OK
                break
        return status


@lru_cache(maxsize=16)
def _day_key(secret_key: str, date: str, service: str) -> bytes:
    key = f"TC3{secret_key}".encode()
    for part in (date, service, "tc3_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _page(rows: list[dict[str, Any]], request: _List, usual: int) -> list[dict[str, Any]]:
    limit = usual if request.limit is None else request.limit
    if not 0 <= limit <= _ROWS_MAX:
        raise _Refused("InvalidParameterValue.LimitVerifyFail", f"Limit must be at most {_ROWS_MAX}.")
    offset = request.offset or 0
    return rows[offset : offset + limit]


def _decode(body: bytes, kind: type[_Request]) -> _Request:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        code = "UnknownParameter" if "unknown field" in str(error) else "InvalidParameter"
        raise _Refused(code, str(error)) from error
    except (ValueError, RecursionError) as error:
        raise _Refused("InvalidRequest", "The body is no JSON.") from error


def _normal(number: str) -> str:
    """Spell a number in E.164, empty if it is none; those of mainland China may come without +86."""
    if (matched := _MAINLAND.match(number)) is not None:
        return f"+86{matched[1]}"
    return number if _ABROAD.match(number) else ""


def _any_template(parameters: Sequence[str]) -> Template:
    """A template that all of these fit; its own words are not known, so that they are all of its text."""
    return Template(" ".join(f"{{{place}}}" for place in range(1, len(parameters) + 1)), international=3)


def _fill(content: str, parameters: Sequence[str]) -> str:
    """Put the variables into their places; those that are not there are left as they stand."""

    def value(matched: re.Match[str]) -> str:
        place = int(matched[1])
        return parameters[place - 1] if 0 < place <= len(parameters) else matched[0]

    return _PLACEHOLDER.sub(value, content)


def _is_well(answer: bytes) -> bool:
    try:
        return bool(msgspec.json.decode(answer, type=_Well).result == 0)
    except ValueError:
        return False
