"""Tencent Cloud SMS, API 2021-01-11 (https://cloud.tencent.com/document/product/382/55981).

What shapes this file:

- HTTP 200 says nothing: there is a code for the request (`Error.Code`) or one for each number (`SendStatusSet`).
- One request has up to 200 numbers but one set of variables for all of them, so messages with different variables are
  requests of their own; the requests of a batch go out side by side.
- There is no idempotency key, and a receipt names its message by `SerialNo` only. Whoever lost the answer must ask for
  what became of a number. Those rows have neither our id (unless Tencent switches that on for an account) nor the time
  of sending, and come only once the carrier has spoken. So a row must lie close to the attempt to be taken for it, and
  that there is none is believed only after `TencentOptions.absent_after_s`.
"""

import asyncio
import datetime as dt
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Annotated, Final

import msgspec

from orderbell.channels.http import HttpClient, NoReply, Reply
from orderbell.channels.protocol import (
    Answer,
    Callback,
    ChannelUnavailable,
    Finding,
    Found,
    Heard,
    Limits,
    Outcome,
    Outgoing,
    Provider,
    ReceiptsBy,
    Recovery,
    Shared,
    Unsure,
)
from orderbell.channels.templates import require_bare_sign
from orderbell.channels.tencent_codes import BEIJING, CLOCK_CODES
from orderbell.channels.tencent_rows import History, match
from orderbell.channels.tencent_told import REVIEWS, read_told
from orderbell.channels.tencent_wire import (
    CLOCK_OFF_S_MAX,
    CONTENT_TYPE,
    SIGNS_MAX,
    VERSION,
    DescribeSmsSignList,
    PullSmsSendStatusByPhoneNumber,
    SendSms,
    SendStatusStatistics,
    Sent,
    Status,
    Trouble,
    authorization,
    clock_off_s,
    clock_words,
    day_key,
    decode_any,
    decode_pulled,
    decode_sent,
    decode_signs,
    encode,
    host_of,
    quiet,
    read,
    refusal,
)

_BATCH_MAX: Final = 100
_NUMBERS_MAX: Final = 200

# Clocks may be apart; what is too early is sorted out later.
_ASKED_BEFORE_S: Final = 600
# Tencent answers for 7 days; a request may be under way for a while.
_HISTORY_S: Final = 7 * 86_400 - 900
_LOOKUPS_AT_ONCE: Final = 4
_SERIALS_MAX: Final = 20_000
_CLOCK_OFF_S_WORTH_TELLING: Final = 60

_is_number = re.compile(r"\+[1-9][0-9]{6,14}\Z").match
# What is a link without doubt; whether "shop.com" alone is one, Tencent decides.
_has_link = re.compile(r"://|\bwww\.|[a-z0-9-]\.[a-z]{2,}/\w", re.ASCII | re.IGNORECASE).search

_REMEDIES: Final = {
    "AuthFailure.SecretIdNotFound": "check secret_id",
    "AuthFailure.InvalidSecretId": "check secret_id",
    "AuthFailure.SignatureFailure": "check secret_key",
    "AuthFailure.UnauthorizedOperation": "allow the key to use SMS (CAM)",
    "UnauthorizedOperation.RequestIpNotInWhitelist": "add the address of this server to the list in the console",
    "UnauthorizedOperation.ServiceSuspendDueToArrears": "pay the bill",
    "UnauthorizedOperation.SmsSdkAppIdVerifyFail": "check sdk_app_id: it must belong to the account of the key",
    "InvalidParameterValue.SdkAppIdNotExist": "check sdk_app_id",
}


class TencentOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a shop configures for Tencent Cloud SMS.

    `secret_id` and `secret_key` are an API key (CAM), `sdk_app_id` the SMS application that it belongs to; `sign` is
    the text of the approved signature, without 【】, which every message within mainland China needs, `sign_abroad` and
    `sender_id` what messages to other countries go by.

    `variable_max` is how many characters a variable may have in mainland China: 6 for accounts opened after 2024-01-25,
    else what the console shows; 0 leaves it to Tencent. `parallel` bounds the requests of one batch that are under way
    at once. `per_recipient` and `per_template` are pairs of a count and seconds, as set in the console (the default
    there is one equal message in 30 seconds); they are for planning.

    `lookup_after_s` is when to ask for the first time what became of a message whose answer was lost, `absent_after_s`
    how long after an attempt it counts as not sent because Tencent knows of no receipt. The shorter that is, the more
    phones that were switched off get a message twice.

    Raises:
        ValueError: 【】 stand in a signature.
    """

    secret_id: str
    secret_key: str
    sdk_app_id: str
    sign: str = ""
    sign_abroad: str = ""
    sender_id: str = ""
    extend_code: str = ""
    region: str = "ap-guangzhou"
    url: str = "https://sms.tencentcloudapi.com"
    timeout_s: float = 10.0
    connect_timeout_s: float = 2.0
    variable_max: Annotated[int, msgspec.Meta(ge=0)] = 6
    parallel: Annotated[int, msgspec.Meta(ge=1)] = 16
    price_millifen: int = 4_500
    per_second: float = 3_000.0
    per_recipient: tuple[tuple[int, float], ...] = ()
    per_template: tuple[tuple[int, float], ...] = ((1, 30.0),)
    lookup_after_s: float = 30.0
    absent_after_s: float = 1_800.0

    def __post_init__(self) -> None:
        """See the class."""
        require_bare_sign("sign", self.sign)
        require_bare_sign("sign_abroad", self.sign_abroad)

    def __repr__(self) -> str:
        """Show which account it is and nothing secret."""
        return f"TencentOptions(sdk_app_id={self.sdk_app_id!r}, url={self.url!r})"

    __str__ = __repr__


def _alike(outgoing: Outgoing) -> Hashable:
    """What messages of one request must have in common: template, variables, and whether within mainland China."""
    return outgoing.template_code, tuple([value for _, value in outgoing.slots]), is_mainland(outgoing.to)


class TencentChannel(Provider):
    """Tencent Cloud SMS behind the `Channel` protocol.

    Args:
        options: the account and how to use it.
        name: name in the ledger.
        now: the clock, aware UTC; requests are signed with its time, which may be off by 5 minutes.
        shared: not needed.
    """

    def __init__(self, options: TencentOptions, *, name: str, now: Callable[[], dt.datetime], shared: Shared) -> None:
        self.name = name
        self.carries = frozenset({"sms"})
        self.batch_max = _BATCH_MAX
        self.price_millifen = options.price_millifen
        self.recovery = Recovery.LOOKUP
        self.lookup_after_s = options.lookup_after_s
        self.receipts_by = ReceiptsBy.CALLBACK
        self.needs_template = True
        self.limits = Limits(options.per_second, options.per_recipient, options.per_template)
        self._options = options
        self._now = now
        self._host = host_of(options.url)
        self._headers = {"content-type": CONTENT_TYPE, "x-tc-version": VERSION, "x-tc-region": options.region}
        self._day = (-1, "", b"")
        # Which attempt a row is, where the answer came: so that nobody else takes it for theirs.
        self._serials: OrderedDict[str, bytes] = OrderedDict()
        self._http = HttpClient(
            options.url, connect_timeout_s=options.connect_timeout_s, timeout_s=options.timeout_s, keep=("date",)
        )

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """See `Channel.send`; requests that a batch takes go out side by side."""
        answers: dict[bytes, Answer] = {}
        calls = self._plan(batch, answers)
        waiting = iter(calls)

        async def work() -> None:
            for call in waiting:
                await self._call(call, answers)

        if len(calls) == 1:
            await work()
        else:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._options.parallel, len(calls))):
                    group.create_task(work())
        return [answers[outgoing.attempt_id] for outgoing in batch]

    async def lookup(self, attempts: Sequence[Unsure]) -> list[Found]:
        """See `Channel.lookup`; what Tencent has no time for (20 phones a second) is left for the next time."""
        waiting = iter([one for one in attempts if _is_number(one.to)])
        asked: dict[bytes, tuple[Unsure, History]] = {}
        troubles: list[str] = []

        async def work() -> None:
            for one in waiting:
                history = await self._pull(one)
                if isinstance(history, Trouble):
                    troubles.append(history.detail)
                elif history is not None:
                    asked[one.attempt_id] = (one, history)
                if troubles:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_LOOKUPS_AT_ONCE, len(attempts))):
                group.create_task(work())
        if troubles and not asked:
            raise ChannelUnavailable(f"channel {self.name}: cannot look up: {troubles[0]}")
        found = match(asked, self._serials, absent_after_s=self._options.absent_after_s, now=self._now())
        for one in found:
            self._remember(one.provider_ref, one.attempt_id)
        return found

    def hear(self, callback: Callback) -> Heard:
        """See `Channel.hear`; Tencent signs nothing: that the path is secret is all there is."""
        return read_told(callback.body, self._now())

    async def check(self) -> list[Finding]:
        """See `Channel.check`: counts the messages of this hour, then looks for the signature."""
        options = self._options
        hour = self._now().astimezone(BEIJING).strftime("%Y%m%d%H")
        count = SendStatusStatistics(sms_sdk_app_id=options.sdk_app_id, begin_time=hour, end_time=hour)
        answered = await self._ask("SendStatusStatistics", encode(count))
        trouble = read(answered, decode_any, self._now())
        if isinstance(trouble, Trouble):
            return [Finding(fine=False, words=f"Tencent SMS: {_remedy(trouble.code)}: {trouble.detail}")]
        findings = [Finding(fine=True, words=f"Tencent SMS knows the key and the application {options.sdk_app_id}")]
        off_s = clock_off_s(answered, self._now())
        if off_s is not None and abs(off_s) > _CLOCK_OFF_S_WORTH_TELLING:
            words = f"Tencent SMS: set the clock of this server (NTP), {CLOCK_OFF_S_MAX} s are the end: "
            findings.append(Finding(fine=False, words=words + clock_words(off_s)))
        if options.sign:
            findings.append(await self._check_sign(options.sign))
        return findings

    async def close(self) -> None:
        """See `Channel.close`."""
        await self._http.close()

    def _plan(self, batch: Sequence[Outgoing], answers: dict[bytes, Answer]) -> list[dict[str, Outgoing]]:
        """Put messages with the same variables into one request, by number; answer those that cannot go out."""
        calls: dict[Hashable, list[dict[str, Outgoing]]] = {}
        for outgoing in batch:
            fault = self._fault_of(outgoing)
            if fault is not None:
                outcome, detail = fault
                answers[outgoing.attempt_id] = Answer(outgoing.attempt_id, outcome, detail=detail)
                continue
            alike = calls.setdefault(_alike(outgoing), [])
            # A number that is twice in a request gets one answer for both.
            call = next((one for one in alike if outgoing.to not in one and len(one) < _NUMBERS_MAX), None)
            if call is None:
                call = {}
                alike.append(call)
            call[outgoing.to] = outgoing
        return [call for alike in calls.values() for call in alike]

    def _fault_of(self, outgoing: Outgoing) -> tuple[Outcome, str] | None:
        """Say why a message cannot go out, where that is known without asking."""
        if not outgoing.template_code:
            return Outcome.REJECTED_CONTENT, "no approved template (template_code) for this text"
        if not _is_number(outgoing.to):
            return Outcome.REJECTED_RECIPIENT, "not a phone number in E.164"
        mainland = is_mainland(outgoing.to)
        if mainland and not self._options.sign:
            return Outcome.CHANNEL_DOWN, "no signature is configured (sign), mainland China needs one"
        longest = self._options.variable_max if mainland else 0
        for variable, value in outgoing.slots:
            if longest and len(value) > longest:
                detail = f"variable {variable} has {len(value)} characters, the account allows {longest} (variable_max)"
                return Outcome.REJECTED_CONTENT, detail
            if _has_link(value):
                return Outcome.REJECTED_CONTENT, f"variable {variable} has a link, which only the template may have"
        return None

    async def _call(self, call: Mapping[str, Outgoing], answers: dict[bytes, Answer]) -> None:
        """Send one request and put down what came of each of its messages."""
        try:
            body = self._encode_call(call)
        except UnicodeEncodeError:
            sent: Sent | Trouble = Trouble(Outcome.REJECTED_CONTENT, "cannot be written as UTF-8")
        else:
            sent = read(await self._ask("SendSms", body), decode_sent, self._now())
        if isinstance(sent, Trouble):
            if len(call) > 1 and sent.is_about_a_number:
                # Nothing went out; whose number it was is not told.
                for outgoing in call.values():
                    await self._call({outgoing.to: outgoing}, answers)
                return
            answers.update((one.attempt_id, _answer(one, sent)) for one in call.values())
            return
        statuses = {status.phone_number.removeprefix("+"): status for status in sent.send_status_set or ()}
        for number, outgoing in call.items():
            answers[outgoing.attempt_id] = self._answer_of(outgoing, statuses.get(number[1:]))

    def _encode_call(self, call: Mapping[str, Outgoing]) -> bytes:
        first = next(iter(call.values()))
        options, mainland = self._options, is_mainland(first.to)
        return encode(
            SendSms(
                phone_number_set=list(call),
                sms_sdk_app_id=options.sdk_app_id,
                template_id=first.template_code,
                session_context=first.attempt_id.hex(),
                template_param_set=tuple([value for _, value in first.slots]),
                sign_name=options.sign if mainland else options.sign_abroad,
                extend_code=options.extend_code,
                sender_id="" if mainland else options.sender_id,
            )
        )

    def _answer_of(self, outgoing: Outgoing, status: Status | None) -> Answer:
        if status is None:
            return Answer(outgoing.attempt_id, Outcome.UNKNOWN, detail="no answer for this number")
        if status.code == "Ok":
            serial = status.serial_no or ""
            self._remember(serial, outgoing.attempt_id)
            return Answer(outgoing.attempt_id, Outcome.ACCEPTED, provider_ref=serial)
        return _answer(outgoing, refusal(status.code, status.message or "", self._now()))

    async def _ask(self, action: str, body: bytes) -> Reply | NoReply:
        at_s = int(self._now().timestamp())
        day, date, key = self._day
        if day != at_s // 86_400:
            date = dt.datetime.fromtimestamp(at_s, dt.UTC).strftime("%Y-%m-%d")
            key = day_key(self._options.secret_key, date)
            self._day = (at_s // 86_400, date, key)
        headers = {
            **self._headers,
            "x-tc-action": action,
            "x-tc-timestamp": str(at_s),
            "authorization": authorization(self._options.secret_id, key, self._host, at_s, date, body),
        }
        return await self._http.request("POST", "/", body, headers)

    def _remember(self, serial: str, attempt_id: bytes) -> None:
        if serial:
            self._serials[serial] = attempt_id
            if len(self._serials) > _SERIALS_MAX:
                self._serials.popitem(last=False)

    async def _pull(self, one: Unsure) -> History | Trouble | None:
        """Ask for everything that went to a phone since shortly before an attempt; None where it is too long ago."""
        now_s = self._now().timestamp()
        if one.sent_at is None or one.sent_at.timestamp() < now_s - _HISTORY_S:
            return None
        begin_s = max(one.sent_at.timestamp() - _ASKED_BEFORE_S, now_s - _HISTORY_S)
        pull = PullSmsSendStatusByPhoneNumber(
            phone_number=one.to, sms_sdk_app_id=self._options.sdk_app_id, begin_time=int(begin_s)
        )
        answered = await self._ask("PullSmsSendStatusByPhoneNumber", encode(pull))
        pulled = read(answered, decode_pulled, self._now())
        if isinstance(pulled, Trouble):
            return pulled
        off_s = clock_off_s(answered, self._now())
        # A clock that is off by more would not have been answered, so the header is wrong.
        known_off_s = off_s if off_s is not None and abs(off_s) <= CLOCK_OFF_S_MAX else 0.0
        return History(pulled.pull_sms_send_status_set or [], known_off_s)

    async def _check_sign(self, sign: str) -> Finding:
        """Ask what became of the signature; that a key may not ask (those of persons may not) is no fault."""
        answered = await self._ask("DescribeSmsSignList", encode(DescribeSmsSignList()))
        listed = read(answered, decode_signs, self._now())
        if isinstance(listed, Trouble):
            words = f"Tencent SMS: see in the console whether signature {sign} is approved: {listed.detail}"
            return Finding(fine=True, words=words)
        signs = listed.describe_sign_list_status_set or []
        named = [one for one in signs if one.sign_name == sign]
        if any(one.status_code == 0 for one in named):
            return Finding(fine=True, words=f"Tencent SMS has approved the signature {sign}")
        if named:
            state = REVIEWS.get(named[0].status_code, str(named[0].status_code))
            words = f"Tencent SMS: signature {sign} is {state}: {quiet(named[0].review_reply or 'no reason given')}"
            return Finding(fine=False, words=words)
        if len(signs) >= SIGNS_MAX:
            words = f"Tencent SMS: signature {sign} is not among the first {SIGNS_MAX}, see the console"
            return Finding(fine=True, words=words)
        return Finding(
            fine=False, words=f"Tencent SMS: apply for the signature {sign}, the account has none of that name"
        )


def is_mainland(number: str) -> bool:
    """Whether a phone (E.164) is one of mainland China: other templates, signatures and prices hold elsewhere."""
    return number.startswith("+86")


def _remedy(code: str) -> str:
    """Say what to do about a refusal; an empty code is that of no answer at all."""
    if code in CLOCK_CODES:
        return "set the clock of this server (NTP)"
    return _REMEDIES.get(code) or ("look the code up" if code else "check url and network")


def _answer(outgoing: Outgoing, trouble: Trouble) -> Answer:
    return Answer(
        outgoing.attempt_id,
        trouble.outcome,
        detail=trouble.detail,
        retry_after_s=trouble.retry_after_s,
        scope=trouble.scope,
    )
