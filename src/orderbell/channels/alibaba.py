"""Alibaba Cloud SMS for the Chinese mainland (dysmsapi 2017-05-25): one message or up to 100 of one template a request.

What there is to know about it (help.aliyun.com/document_detail/419273.html, 419274, 419277, 101346):

- Requests are signed with ACS3-HMAC-SHA256 over what they say, a nonce and the time, which may be 15 minutes off.
- Business errors come with HTTP 200. An error holds for the whole request, so a request of many that was refused for
  the sake of one of them is sent again in halves until the one is found.
- Nothing recognises a message that comes twice. Instead each request carries an `OutId`, which comes back in receipts
  and can be looked for afterwards. It is the same for all messages of a request, hence a message is known by its
  `OutId` and its phone: `Answer.provider_ref` is `<OutId>/<keyed hash of the phone>`, so that no phone stands in the
  database.
- How long a phone is over its limit can be read only from the words of the refusal.
"""

import asyncio
import datetime as dt
import hmac
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Final, Literal, NamedTuple
from urllib.parse import quote

import msgspec

from orderbell.channels.alibaba_api import CHINA, OF_ONE, Api, Said, read_answer, short
from orderbell.channels.http import Reply
from orderbell.channels.protocol import (
    Answer,
    Callback,
    CallbackRefused,
    ChannelUnavailable,
    Fate,
    Finding,
    Found,
    Heard,
    InboundSms,
    Limits,
    Outcome,
    Outgoing,
    Provider,
    Receipt,
    ReceiptsBy,
    Recovery,
    Review,
    Shared,
    Unsure,
)
from orderbell.channels.templates import require_bare_sign

VARIABLE_LENGTH_MAX: Final = 35
# Only these bytes count as heard; anything else, and the provider tells it again after 1, 5 and 10 minutes.
HEARD_ANSWER: Final = '{"code":0,"msg":"接收成功"}'.encode()

_DAY_S: Final = 86_400.0
_OUT_ID_LENGTH: Final = 32
_TAG_LENGTH: Final = 12
_AT_ONCE: Final = 10
_PAGE_SIZE: Final = 50
_PAGES_MAX: Final = 20
# Records are kept for 30 days.
_LOOKUP_DAYS_MAX: Final = 30
# How far the provider's time of a message may lie from ours: its clock, ours, and a request on its way.
_SENT_ABOUT: Final = dt.timedelta(minutes=5)
# Far more than are between naming and sending at any moment.
_NAMED_MAX: Final = 20_000
# A service number of China Mobile, so no person's records are asked for.
_RESERVED_PHONE: Final = "13800138000"

_MAINLAND = re.compile(r"\+861[3-9][0-9]{9}")
_FOREIGN = re.compile(r"\+[2-9][0-9]{6,14}")
_LINK = re.compile(
    r"(?ai)https?:|www\.|\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b"
    r"|[a-z0-9]\.(?:com|cn|net|org|top|cc|io|me|info|biz|vip|shop|xyz|link|ltd|site|online|store|tv|co|hk|tw)\b"
)


_HANDED_OVER_MAX: Final = 500
"""Messages that are taken at once, of any templates; they leave in requests of one template each, side by side."""


class AlibabaOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a shop configures to send through Alibaba Cloud.

    `sign` is the approved signature without 【】. `ref_key` is any secret of ours, the same for as long as receipts are
    awaited: it hides phones in references. `security_token` is for temporary keys (STS). `extend_code` are digits
    appended to the sender's number. `per_template_day` is how many messages of one template one phone may get in a day:
    50, or what the console was set to. `mainland_only` refuses foreign numbers, which no domestic template reaches.
    `lookup_after_s` is from when the provider's records are believed to be complete.

    Raises:
        ValueError: 【】 stand in the signature.
    """

    access_key_id: str
    access_key_secret: str
    sign: str
    ref_key: Annotated[str, msgspec.Meta(min_length=8)]
    security_token: str = ""
    extend_code: Annotated[str, msgspec.Meta(pattern="^[0-9]*$")] = ""
    url: str = "https://dysmsapi.aliyuncs.com"
    connect_timeout_s: float = 2.0
    timeout_s: float = 10.0
    batch_max: Annotated[int, msgspec.Meta(ge=1, le=100)] = 100
    price_millifen: Annotated[int, msgspec.Meta(ge=0)] = 4_500
    per_second: Annotated[float, msgspec.Meta(ge=0)] = 1_000.0
    per_template_day: Annotated[int, msgspec.Meta(ge=1)] = 50
    lookup_after_s: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    mainland_only: bool = True

    def __post_init__(self) -> None:
        """See the class."""
        require_bare_sign("sign", self.sign)

    def __repr__(self) -> str:
        return f"AlibabaOptions(sign={self.sign!r}, url={self.url!r})"


class _Record(msgspec.Struct, frozen=True, rename="pascal"):
    send_status: int | str = 0
    err_code: str | None = None
    out_id: str | None = None
    content: str | None = None
    template_code: str | None = None
    send_date: str | None = None


class _Records(msgspec.Struct, frozen=True, rename="pascal"):
    sms_send_detail_d_t_o: list[_Record] = msgspec.field(name="SmsSendDetailDTO", default_factory=list)


class _Details(msgspec.Struct, frozen=True, rename="pascal"):
    # Without it an empty answer would look like a phone that got nothing.
    total_count: int | str
    records: _Records = msgspec.field(name="SmsSendDetailDTOs", default_factory=_Records)


class _Audit(msgspec.Struct, frozen=True, rename="pascal"):
    reject_info: str | None = None


class _SignState(msgspec.Struct, frozen=True, rename="pascal"):
    sign_status: int | str = -1
    audit_info: _Audit | None = None


class _Element(msgspec.Struct, frozen=True):
    """One element of a callback: of a receipt, a reply or a review, told apart by which fields there are."""

    phone_number: str | None = None
    send_time: str | None = None
    report_time: str | None = None
    success: bool | None = None
    err_code: str | None = None
    err_msg: str | None = None
    out_id: str | None = None
    content: str | None = None
    sequence_id: str | int | None = None
    template_code: str | None = None
    template_status: str | None = None
    sign_name: str | None = None
    sign_status: str | None = None
    reason: str | None = None


class _Ready(NamedTuple):
    """A message that may be sent: `place` is where it stands in the batch, `variables` the JSON object of its slots."""

    place: int
    outgoing: Outgoing
    phone: str
    variables: str


class _Part(NamedTuple):
    """What goes into one request: messages of one template, no phone twice."""

    out_id: str
    members: Sequence[_Ready]


_encode = msgspec.json.Encoder().encode
_decode_details = msgspec.json.Decoder(_Details).decode
_decode_sign = msgspec.json.Decoder(_SignState).decode
_decode_elements = msgspec.json.Decoder(list[_Element]).decode


class AlibabaChannel(Provider):
    """Alibaba Cloud SMS behind the `Channel` protocol.

    Args:
        options: the account and its limits.
        name: name in the ledger.
        now: the clock, aware UTC; requests are signed with it.
        shared: not used, this provider needs no token.
    """

    def __init__(self, options: AlibabaOptions, *, name: str, now: Callable[[], dt.datetime], shared: Shared) -> None:
        self.name = name
        self.carries = frozenset({"sms"})
        self.batch_max = _HANDED_OVER_MAX
        self.price_millifen = options.price_millifen
        self.recovery = Recovery.LOOKUP
        self.lookup_after_s = options.lookup_after_s
        self.receipts_by = ReceiptsBy.CALLBACK
        self.needs_template = True
        self.limits = Limits(per_second=options.per_second, per_template=((options.per_template_day, _DAY_S),))
        self._options = options
        self._now = now
        self._api = Api(
            options.url,
            (options.access_key_id, options.access_key_secret, options.security_token),
            now,
            connect_timeout_s=options.connect_timeout_s,
            timeout_s=options.timeout_s,
        )
        self._keyed = hmac.new(options.ref_key.encode(), digestmod="sha256")
        self._quoted_sign = quote(_encode(options.sign).decode(), safe="~")
        self._quoted_extend_code = quote(f'"{options.extend_code}"', safe="~")
        self._named: dict[tuple[bytes, str], bytes] = {}

    def ref_of(self, first: bytes, outgoing: Outgoing) -> str:
        """See `Channel.ref_of`: the OutId of the request and the hash of the phone.

        A second message to the same phone gets an OutId of its own, as it could not be told from the first otherwise.
        """
        tag = self._tag(outgoing.to)
        holder = self._named.setdefault((first, tag), outgoing.attempt_id)
        if len(self._named) > _NAMED_MAX:
            del self._named[next(iter(self._named))]
        out_id = first if holder == outgoing.attempt_id else outgoing.attempt_id
        return f"{out_id.hex()}/{tag}"

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """See `Channel.send`.

        Answers to messages that were or may have been sent carry the reference that they were sent with, unknown ones
        as well.
        """
        answers: dict[int, Answer] = {}
        ready: list[_Ready] = []
        for place, outgoing in enumerate(batch):
            made = self._make_ready(place, outgoing)
            if isinstance(made, Answer):
                answers[place] = made
            else:
                ready.append(made)
        gate = asyncio.Semaphore(_AT_ONCE)
        for answered in await asyncio.gather(*(self._send_part(part, gate) for part in self._parts_of(ready))):
            answers.update(answered)
        return [answers[place] for place in range(len(batch))]

    async def lookup(self, attempts: Sequence[Unsure]) -> list[Found]:
        """See `Channel.lookup`: the records of a phone and a day are read, and searched for OutId or text.

        Left out are attempts without phone or time, older than 30 days, or whose records cannot be told apart.
        """
        now = self._now()
        days_of = [_days_of(one, now) for one in attempts]
        wanted = dict.fromkeys(day for days in days_of for day in days)
        gate = asyncio.Semaphore(_AT_ONCE)
        read = await asyncio.gather(*(self._records_of(phone, day, gate) for phone, day in wanted))
        records_of = dict(zip(wanted, read, strict=True))
        problems = [records for records in read if isinstance(records, str)]
        if problems and len(problems) == len(read):
            raise ChannelUnavailable(f"channel {self.name}: QuerySendDetails: {problems[0]}")
        times = Counter((one.ref, one.to) for one in attempts)
        found: list[Found] = []
        for one, days in zip(attempts, days_of, strict=True):
            records: list[_Record] = []
            for day in days:
                read_of_day = records_of[day]
                if isinstance(read_of_day, str):
                    break
                records += read_of_day
            else:
                shared_ref = bool(one.ref) and times[one.ref, one.to] > 1
                fate = find(one, records, shared_ref=shared_ref) if days else None
                if fate is not None:
                    found.append(self._to_found(one, fate))
        return found

    def hear(self, callback: Callback) -> Heard:
        """See `Channel.hear`: receipts, replies and reviews, in any mixture.

        The provider signs nothing. Receipts of messages that are not ours (their OutId has another form: the account is
        used by something else too) are left out.
        """
        if callback.method != "POST":
            raise CallbackRefused("callbacks come by POST", 405)
        receipts: list[Receipt] = []
        inbound: list[InboundSms] = []
        reviews: list[Review] = []
        try:
            for element in _decode_elements(callback.body):
                if element.template_status is not None or element.sign_status is not None:
                    reviews += _to_reviews(element)
                elif element.success is not None:
                    receipts += self._to_receipts(element)
                else:
                    inbound.append(_to_inbound(element))
        except (ValueError, OverflowError, RecursionError) as error:
            raise CallbackRefused(f"unreadable: {type(error).__name__}") from error
        return Heard(
            receipts=tuple(receipts),
            inbound=tuple(inbound),
            reviews=tuple(reviews),
            answer=HEARD_ANSWER,
            content_type="application/json;charset=utf-8",
        )

    async def check(self) -> list[Finding]:
        """See `Channel.check`: asks for the records of a reserved number, then for the state of the signature."""
        now = self._now()
        today = now.astimezone(CHINA).strftime("%Y%m%d")
        answered = await self._api.ask("QuerySendDetails", _details_query(_RESERVED_PHONE, today, 1))
        said = read_answer(answered, now)
        # A number that is found fault with shows as well that the key was right.
        if said.outcome not in {Outcome.ACCEPTED, Outcome.REJECTED_RECIPIENT}:
            return [Finding(fine=False, words=f"Alibaba Cloud cannot be used: {said.detail}")]
        fine = Finding(fine=True, words="Alibaba Cloud knows the access key and lets it ask for sent messages")
        return [fine, await self._check_sign()]

    async def close(self) -> None:
        """See `Channel.close`."""
        await self._api.close()

    def _make_ready(self, place: int, outgoing: Outgoing) -> _Ready | Answer:
        """Write a message as the wire wants it, or say why it cannot be sent."""
        refused = Outcome.REJECTED_CONTENT
        phone = wire_phone(outgoing.to, mainland_only=self._options.mainland_only)
        if not outgoing.template_code:
            problem = "there is no approved template for this text"
        elif (problem := fault_of(outgoing.slots)) == "":
            if phone:
                try:
                    outgoing.text.encode()
                    outgoing.template_code.encode()
                    return _Ready(place, outgoing, phone, _encode(dict(outgoing.slots)).decode())
                except UnicodeEncodeError:
                    problem = "cannot be written as UTF-8"
            else:
                refused, problem = Outcome.REJECTED_RECIPIENT, "not a mobile number that this account sends to"
        return Answer(attempt_id=outgoing.attempt_id, outcome=refused, detail=problem)

    def _parts_of(self, ready: Iterable[_Ready]) -> list[_Part]:
        """Cut messages into requests: one template and one OutId each, and no phone twice under one OutId."""
        parts: list[_Part] = []
        groups: dict[tuple[str, str], list[_Ready]] = {}
        seen: set[tuple[str, str]] = set()
        for one in ready:
            out_id = _out_id_of(one.outgoing.ref)
            if (out_id, one.phone) in seen:
                parts.append(_Part(one.outgoing.attempt_id.hex(), [one]))
            else:
                seen.add((out_id, one.phone))
                groups.setdefault((one.outgoing.template_code, out_id), []).append(one)
        for (_, out_id), members in groups.items():
            for start in range(0, len(members), self._options.batch_max):
                chunk = members[start : start + self._options.batch_max]
                parts.append(_Part(out_id or chunk[0].outgoing.attempt_id.hex(), chunk))
        return parts

    async def _send_part(self, part: _Part, gate: asyncio.Semaphore) -> dict[int, Answer]:
        async with gate:
            if len(part.members) == 1:
                answered = await self._api.ask("SendSms", self._single(part))
            else:
                query = {"OutId": part.out_id, "TemplateCode": part.members[0].outgoing.template_code}
                answered = await self._api.ask("SendBatchSms", query, self._batch_body(part.members))
        said = read_answer(answered, self._now())
        if said.code in OF_ONE and len(part.members) > 1:
            middle = len(part.members) // 2
            halves = (_Part(part.out_id, part.members[:middle]), _Part(part.out_id, part.members[middle:]))
            left, right = await asyncio.gather(*(self._send_part(half, gate) for half in halves))
            return left | right
        return {one.place: self._to_answer(one.outgoing, part.out_id, said) for one in part.members}

    def _single(self, part: _Part) -> dict[str, str]:
        (one,) = part.members
        query = {
            "OutId": part.out_id,
            "PhoneNumbers": one.phone,
            "SignName": self._options.sign,
            "TemplateCode": one.outgoing.template_code,
        }
        if one.outgoing.slots:
            query["TemplateParam"] = one.variables
        if self._options.extend_code:
            query["SmsUpExtendCode"] = self._options.extend_code
        return query

    def _batch_body(self, members: Sequence[_Ready]) -> bytes:
        phones = quote('["' + '","'.join([one.phone for one in members]) + '"]', safe="~")
        variables = quote("[" + ",".join([one.variables for one in members]) + "]", safe="~")
        body = (
            f"PhoneNumberJson={phones}&SignNameJson={_quoted_list(self._quoted_sign, len(members))}"
            f"&TemplateParamJson={variables}"
        )
        if self._options.extend_code:
            body += f"&SmsUpExtendCodeJson={_quoted_list(self._quoted_extend_code, len(members))}"
        return body.encode()

    def _to_answer(self, outgoing: Outgoing, out_id: str, said: Said) -> Answer:
        ref = ""
        if said.outcome in {Outcome.ACCEPTED, Outcome.UNKNOWN}:
            ref = outgoing.ref if _out_id_of(outgoing.ref) == out_id else f"{out_id}/{self._tag(outgoing.to)}"
        return Answer(
            attempt_id=outgoing.attempt_id,
            outcome=said.outcome,
            provider_ref=ref,
            detail=said.detail,
            retry_after_s=said.retry_after_s,
            scope=said.scope,
        )

    def _tag(self, phone: str) -> str:
        """Hide a phone (E.164) so that only we can tell whether a reference is about it."""
        keyed = self._keyed.copy()
        keyed.update(phone.encode("utf-8", "replace"))
        return keyed.hexdigest()[:_TAG_LENGTH]

    async def _records_of(self, phone: str, day: str, gate: asyncio.Semaphore) -> list[_Record] | str:
        """Read all records of a phone on a day, or say why that could not be."""
        records: list[_Record] = []
        for page in range(1, _PAGES_MAX + 1):
            async with gate:
                answered = await self._api.ask("QuerySendDetails", _details_query(phone, day, page))
            said = read_answer(answered, self._now())
            if said.outcome is not Outcome.ACCEPTED or not isinstance(answered, Reply):
                return said.detail
            try:
                details = _decode_details(answered.body)
                total = int(details.total_count)
            except (ValueError, RecursionError) as error:
                return short(f"unreadable records: {error}")
            page_records = details.records.sms_send_detail_d_t_o
            records += page_records
            if len(records) >= total:
                return records
            if not page_records:
                return f"only {len(records)} of {total} records came"
        return f"more than {_PAGES_MAX * _PAGE_SIZE} records of one phone and day"

    def _to_found(self, one: Unsure, found: tuple[Fate, _Record | None]) -> Found:
        fate, record = found
        if record is None:
            return Found(attempt_id=one.attempt_id, fate=fate)
        out_id = record.out_id or ""
        ref = f"{out_id}/{self._tag(one.to)}" if _is_out_id(out_id) else ""
        return Found(attempt_id=one.attempt_id, fate=fate, provider_ref=ref, detail=short(record.err_code))

    def _to_receipts(self, element: _Element) -> list[Receipt]:
        at = _instant(element.report_time)
        phone = _e164(element.phone_number)
        out_id = element.out_id or ""
        if not _is_out_id(out_id):
            return []
        words = " ".join(filter(None, (element.err_code, element.err_msg)))
        ref = f"{out_id}/{self._tag(phone)}"
        return [Receipt(b"", ref, bool(element.success), short(words) or "no reason given", at)]

    async def _check_sign(self) -> Finding:
        sign = self._options.sign
        answered = await self._api.ask("GetSmsSign", {"SignName": sign})
        said = read_answer(answered, self._now())
        if said.outcome is Outcome.CHANNEL_DOWN:
            # Sending needs no right to read signatures.
            return Finding(fine=True, words=f"the state of signature {sign} may not be asked for: {said.detail}")
        if said.outcome is not Outcome.ACCEPTED or not isinstance(answered, Reply):
            return Finding(fine=False, words=f"signature {sign}: {said.detail}")
        try:
            state = _decode_sign(answered.body)
        except (ValueError, RecursionError):
            return Finding(fine=False, words=f"signature {sign}: its state cannot be read")
        match str(state.sign_status):
            case "1":
                return Finding(fine=True, words=f"signature {sign} is approved")
            case "0":
                return Finding(fine=False, words=f"signature {sign} is still in review: wait for it")
            case "2":
                reason = state.audit_info.reject_info if state.audit_info is not None else ""
                return Finding(fine=False, words=f"signature {sign} was rejected, apply again: {short(reason)}")
            case other:
                return Finding(fine=False, words=f"signature {sign} is not approved (state {short(other)})")


def wire_phone(phone: str, *, mainland_only: bool) -> str:
    """Write a phone (E.164) as the wire wants it; empty if it is no mobile number or not to be sent to.

    Numbers of +1 are never sent: with 11 digits that begin with 1 they would reach somebody on the mainland.
    """
    if _MAINLAND.fullmatch(phone):
        return phone[3:]
    if mainland_only or phone.startswith("+86") or not _FOREIGN.fullmatch(phone):
        return ""
    return phone[1:]


def fault_of(slots: Sequence[tuple[str, str]]) -> str:
    """Say which variable breaks the provider's rules and how; empty if none does."""
    for name, words in slots:
        if not words:
            return f"variable {name} is empty"
        if len(words) > VARIABLE_LENGTH_MAX:
            return f"variable {name} has {len(words)} characters, more than {VARIABLE_LENGTH_MAX}"
        if _LINK.search(words):
            return f"variable {name} contains an address: only the template itself may"
    return ""


def find(one: Unsure, records: Sequence[_Record], *, shared_ref: bool) -> tuple[Fate, _Record | None] | None:
    """Find out what became of an attempt from the records of its phone; None if they do not tell.

    Its own id as OutId is certain, and so is the OutId of its reference unless another attempt is asked about by the
    same one. Without a reference the text must do, if exactly one message of about that time has it; as long as there
    is another of its template, nothing is said.
    """
    out_id = _out_id_of(one.ref)
    matching = [record for record in records if record.out_id == one.attempt_id.hex()]
    if not matching and out_id:
        matching = [record for record in records if record.out_id == out_id]
        if matching and shared_ref:
            return None
    if not matching and not out_id:
        near = [record for record in records if _is_about(record, one)]
        matching = [record for record in near if one.text and record.content == one.text]
        if len(matching) > 1 or (near and not matching):
            return None
    if not matching:
        return Fate.NOT_FOUND, None
    match str(matching[0].send_status):
        case "1":
            return Fate.ACCEPTED, matching[0]
        case "2":
            return Fate.FAILED, matching[0]
        case "3":
            return Fate.DELIVERED, matching[0]
        case _:
            return None


def _is_about(record: _Record, one: Unsure) -> bool:
    """Tell whether a record may be that of an attempt, by template and time; in doubt it may."""
    if one.template_code and record.template_code and record.template_code != one.template_code:
        return False
    try:
        sent_at = _instant(record.send_date)
    except (ValueError, OverflowError):
        return True
    return one.sent_at is None or abs(sent_at - one.sent_at) <= _SENT_ABOUT


def _days_of(one: Unsure, now: dt.datetime) -> list[tuple[str, str]]:
    """Tell under which phone and days (in China) an attempt stands in the records; empty if it cannot be asked for."""
    phone = wire_phone(one.to, mainland_only=False)
    if not phone or one.sent_at is None or now - one.sent_at > dt.timedelta(days=_LOOKUP_DAYS_MAX):
        return []
    moments = (one.sent_at - _SENT_ABOUT, max(min(one.sent_at + _SENT_ABOUT, now), one.sent_at))
    return [(phone, day) for day in dict.fromkeys(at.astimezone(CHINA).strftime("%Y%m%d") for at in moments)]


def _details_query(phone: str, day: str, page: int) -> dict[str, str]:
    return {"PhoneNumber": phone, "SendDate": day, "PageSize": str(_PAGE_SIZE), "CurrentPage": str(page)}


def _quoted_list(quoted: str, count: int) -> str:
    """Write a JSON list of the same thing many times, percent-encoded."""
    return "%5B" + "%2C".join([quoted] * count) + "%5D"


def _out_id_of(ref: str) -> str:
    return ref.partition("/")[0]


def _is_out_id(text: str) -> bool:
    """Tell whether an OutId has the form of ours: 16 bytes in hexadecimal."""
    if len(text) != _OUT_ID_LENGTH:
        return False
    try:
        return bytes.fromhex(text).hex() == text
    except ValueError:
        return False


def _instant(local: str | None) -> dt.datetime:
    """Read `YYYY-MM-DD HH:MM:SS` in China's time."""
    if local is None:
        raise ValueError("no time")
    return dt.datetime.fromisoformat(local).replace(tzinfo=CHINA).astimezone(dt.UTC)


def _e164(phone: str | None) -> str:
    """Read a phone as callbacks write it: 11 digits on the mainland, otherwise with the country's digits."""
    digits = (phone or "").removeprefix("+").removeprefix("00")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):  # noqa: PLR2004 - more is no phone (E.164)
        raise ValueError("no phone")
    return f"+86{digits}" if _MAINLAND.fullmatch(f"+86{digits}") else f"+{digits}"


def _to_inbound(element: _Element) -> InboundSms:
    if element.content is None or element.sequence_id is None:
        raise ValueError("neither a receipt nor a reply nor a review")
    sent_at = _instant(element.send_time)
    return InboundSms(str(element.sequence_id), _e164(element.phone_number), element.content, sent_at)


_STATES: Final[Mapping[str, Literal["in_review", "approved", "rejected"]]] = {
    "approving": "in_review",
    "approved": "approved",
    "rejected": "rejected",
}


def _to_reviews(element: _Element) -> list[Review]:
    """Read a review; one in a state that has no meaning for us, such as cancelled, is none."""
    if element.template_status is not None:
        kind: Literal["template", "signature"] = "template"
        name, status = element.template_code, element.template_status
    else:
        kind, name, status = "signature", element.sign_name, element.sign_status or ""
    if not name:
        raise ValueError("a review of nothing")
    state = _STATES.get(status)
    return [Review(kind, name, state, element.reason or "")] if state is not None else []
