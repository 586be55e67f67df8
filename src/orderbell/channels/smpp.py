"""SMS over SMPP 3.4: one connection to an SMSC, texts of our own, receipts that wait at the SMSC until they are stored.

What is known after a lost answer: nothing. SMPP has no key that would make a second submit_sm harmless, SMSCs hardly
ever answer query_sm, and a receipt names its message by the number that stood in the lost answer; so recovery is NONE.
An answer that only comes too late is not lost: it tells to which attempt the receipt of that message belongs.

Receipts are pulled: the SMSC brings them over our connection, and is told that it may forget them only when
`receipts` is called with a cursor behind them (see `smpp_inbound`). A crash at any moment loses none; some may come
twice. The cursor means something to this object only: to another one, or after a restart, it is the beginning.

An SMSC gives receipts to any connection that may receive. So only an object that is asked for receipts binds as
transceiver; the others bind as transmitter (`transmitter`), or receipts would wait where nobody asks for them.

A text longer than one SMS goes out in parts, one after the other, each with a user data header. The receipt of the last
part speaks for the whole; when a part after the first is not taken, the message is in doubt, for some of it is out.

Source: SMPP Protocol Specification v3.4, issue 1.2 (smpp.org).
"""

import asyncio
import datetime as dt
import random
import re
import secrets
import ssl
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
import structlog
from aiosmpplib.codec import find_codec_info  # type: ignore[import-untyped] # annotated, but without py.typed
from aiosmpplib.protocol import BindTransceiver, BindTransmitter, SubmitSm  # type: ignore[import-untyped] # as above
from aiosmpplib.state import NPI, TON, PhoneNumber  # type: ignore[import-untyped] # as above

from orderbell.channels.protocol import (
    Answer,
    ChannelUnavailable,
    Finding,
    InboundSms,
    Limits,
    Outcome,
    Outgoing,
    Provider,
    Receipt,
    ReceiptsBy,
    Recovery,
    Shared,
    Veiled,
)
from orderbell.channels.smpp_inbound import (
    ROK,
    Answers,
    Assembly,
    IdForm,
    Owed,
    Report,
    Shelf,
    Unfinished,
    canonical,
    is_message,
    is_receipt,
    read_deliver,
    read_receipt,
    to_phone,
    whole,
)
from orderbell.channels.smpp_session import BindRefused, Pdu, Place, Session, SessionLost, name_of
from orderbell.core.segments import SEPTETS_MAX, SEPTETS_PART_MAX, UNITS_MAX, UNITS_PART_MAX, is_gsm

log = structlog.get_logger(__name__)

_PHONE: Final = re.compile(r"\+?([1-9][0-9]{4,14})")
_BATCH_MAX: Final = 50
_HEADER_FLAG: Final = 0x40
_SUBMIT_SM_RESP: Final = 0x8000_0004
_VALIDITY_MIN: Final = dt.timedelta(minutes=1)
_VALIDITY_MAX: Final = dt.timedelta(weeks=63)
_PARTS_MAX: Final = 255
_DETAIL_LENGTH_MAX: Final = 200
_REFS_MAX: Final = 10_000
# An SMSC brings more as soon as it is told that something was stored; without this pause the next look finds nothing.
_NEXT_WITHIN_S: Final = 0.2
_RX_P_APPN: Final = 0x65

_RETRY: Final = Outcome.RETRY_LATER
_CONTENT: Final = Outcome.REJECTED_CONTENT
_DOWN: Final = Outcome.CHANNEL_DOWN
OUTCOMES: Final[Mapping[int, Outcome]] = {
    0x00: Outcome.ACCEPTED,  # ROK
    0x01: _CONTENT,  # RINVMSGLEN
    0x02: _CONTENT,  # RINVCMDLEN
    0x03: _DOWN,  # RINVCMDID: this account may not submit
    0x04: _RETRY,  # RINVBNDSTS: the connection is not bound for it any more
    0x05: _DOWN,  # RALYBND
    0x06: _CONTENT,  # RINVPRTFLG
    0x07: _DOWN,  # RINVREGDLVFLG: it is the same in every message
    0x08: _RETRY,  # RSYSERR
    0x0A: _DOWN,  # RINVSRCADR: the source is an option of ours, no message would fare better
    0x0B: Outcome.REJECTED_RECIPIENT,  # RINVDSTADR
    0x0D: _DOWN,  # RBINDFAIL
    0x0E: _DOWN,  # RINVPASWD
    0x0F: _DOWN,  # RINVSYSID
    0x14: Outcome.THROTTLED,  # RMSGQFUL
    0x15: _DOWN,  # RINVSERTYP: an option of ours
    0x43: _CONTENT,  # RINVESMCLASS: only texts in parts have one
    0x45: _RETRY,  # RSUBMITFAIL
    0x48: _DOWN,  # RINVSRCTON: an option of ours
    0x49: _DOWN,  # RINVSRCNPI: likewise
    0x50: _DOWN,  # RINVDSTTON: likewise
    0x51: _DOWN,  # RINVDSTNPI: likewise
    0x53: _DOWN,  # RINVSYSTYP: likewise
    0x54: _CONTENT,  # RINVREPFLAG
    0x58: Outcome.THROTTLED,  # RTHROTTLED
    0x61: _CONTENT,  # RINVSCHED
    0x62: _CONTENT,  # RINVEXPIRY
    0x63: _CONTENT,  # RINVDFTMSGID
    0x64: _RETRY,  # RX_T_APPN
    0x65: _CONTENT,  # RX_P_APPN
    0x66: _CONTENT,  # RX_R_APPN
    0xC0: _CONTENT,  # RINVOPTPARSTREAM
    0xC1: _CONTENT,  # ROPTPARNOTALLWD
    0xC2: _CONTENT,  # RINVPARLEN
    0xC3: _CONTENT,  # RMISSINGOPTPARAM
    0xC4: _CONTENT,  # RINVOPTPARAMVAL
    0xFF: _RETRY,  # RUNKNOWNERR
}
"""What an answer to submit_sm means (SMPP 3.4 section 5.1.3); every other status is unknown."""

REFUSALS: Final[Mapping[int, str]] = {
    0x05: "another connection is bound with this system id and the account allows no more: close it, or ask for more",
    0x0D: "ask the operator whether the account is open for this IP address and for this kind of bind",
    0x0E: "correct `password`",
    0x0F: "correct `system_id`",
    0x53: "correct `system_type`",
}
"""Statuses of a refused bind that no second try will change, with what to do about them."""


class SmppOptions(Veiled, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a shop configures; the operator of the SMSC tells most of it.

    Without `tls` everything goes over the line in plain, the password too: then it should be a private one. `ca_pem` is
    a certificate authority to trust besides those of the system.

    `source` is the sender that people see, `source_ton` and `source_npi` its kind (SMPP 3.4 sections 5.2.5 and 5.2.6; 5
    and 0 for a name). Numbers go out with their country as `destination_ton` 1, `destination_npi` 1; those that begin
    with the calling code `country` (such as 86) without it and as `national_ton`. `gsm` is whether data_coding 0 means
    the alphabet of GSM 03.38; if not, everything goes out as UCS-2.

    `answer_id` and `receipt_id` tell how the SMSC writes the number of a message in its answer and in its receipt.
    `receipt_zone` is the time zone of the dates in receipts. `window` is how many messages may be unanswered at once,
    `hold_s` for how long a receipt may stay unanswered while it is being stored: less than the SMSC waits before it
    drops the connection. `validity_max_s` is the longest validity that the SMSC takes; 0 sends none.

    Raises:
        ValueError: SMPP has no room for the system id, the password or the source, or there is no such time zone.
    """

    host: str
    port: int = 2775
    tls: bool = False
    ca_pem: str = ""
    system_id: str
    password: str
    system_type: str = ""
    service_type: str = ""
    source: str = ""
    source_ton: int = 0
    source_npi: int = 0
    destination_ton: int = 1
    destination_npi: int = 1
    national_ton: int = 0
    country: str = ""
    gsm: bool = True
    answer_id: IdForm = "as_is"
    receipt_id: IdForm = "as_is"
    receipt_zone: str = "Asia/Shanghai"
    transmitter: bool = True
    window: int = 10
    per_second: float = 0.0
    parts_max: int = 8
    validity_max_s: float = 259_200.0
    hold_s: float = 8.0
    enquire_link_s: float = 30.0
    connect_timeout_s: float = 5.0
    timeout_s: float = 15.0
    reconnect_s: float = 1.0
    reconnect_max_s: float = 60.0
    refused_reconnect_s: float = 120.0
    price_millifen: int = 4_500

    def __post_init__(self) -> None:
        """See the class."""
        for name, room in (
            ("system_id", 15),
            ("password", 8),
            ("system_type", 12),
            ("service_type", 5),
            ("source", 20),
        ):
            value: str = getattr(self, name)
            if len(value) > room or not value.isascii():
                raise ValueError(f"`{name}` must be ASCII of at most {room} characters (SMPP 3.4)")
        _to_bind(self, transmitter=True)
        PhoneNumber(self.source, TON(self.source_ton), NPI(self.source_npi))
        PhoneNumber("", TON(self.destination_ton), NPI(self.destination_npi))
        TON(self.national_ton)
        try:
            ZoneInfo(self.receipt_zone)
        except (OSError, LookupError, ValueError) as problem:
            raise ValueError(f"`receipt_zone`: there is no time zone {self.receipt_zone!r}") from problem
        if self.window < 1 or not 1 <= self.parts_max <= _PARTS_MAX:
            raise ValueError(f"`window` must be at least 1, `parts_max` between 1 and {_PARTS_MAX}")
        if not 0 <= self.validity_max_s <= _VALIDITY_MAX.total_seconds():
            raise ValueError("`validity_max_s` must be between 0 and 63 weeks (SMPP 3.4)")


class _NotBound(Exception):
    """There is no connection; nothing was written."""

    def __init__(self, outcome: Outcome, words: str) -> None:
        super().__init__(words)
        self.outcome = outcome


class SmppChannel(Provider):
    """An SMSC behind the `Channel` protocol; it connects when it is first needed.

    Args:
        options: see there.
        name: name in the ledger.
        now: the clock, aware UTC.
        shared: not needed, SMPP has no tokens.
    """

    def __init__(self, options: SmppOptions, *, name: str, now: Callable[[], dt.datetime], shared: Shared) -> None:
        self.name = name
        self.carries = frozenset({"sms"})
        self.batch_max = _BATCH_MAX
        self.price_millifen = options.price_millifen
        self.recovery = Recovery.NONE
        self.receipts_by = ReceiptsBy.PULL
        self.limits = Limits(per_second=options.per_second)
        self._options = options
        self._now = now
        self._place = _to_place(options)
        self._zone = ZoneInfo(options.receipt_zone)
        self._window = asyncio.Semaphore(options.window)
        self._references = random.Random()  # noqa: S311 - tells parts apart, hides nothing
        self._binding = asyncio.Lock()
        self._session: Session | None = None
        self._next_bind_at = 0.0
        self._pause_s = 0.0
        self._refusal = _NotBound(Outcome.NOT_SENT, "")
        self._reads = not options.transmitter
        self._asked_at = 0.0
        self._expects = False
        self._came = asyncio.Event()
        self._late_refs: OrderedDict[str, bytes] = OrderedDict()
        shelves = secrets.token_hex(4)
        self._answers = Answers(now, self._hold)
        self._reports: Shelf[Report] = Shelf(f"{shelves}r", self._answers.settle)
        self._replies: Shelf[InboundSms] = Shelf(f"{shelves}i", self._answers.settle)
        self._assembly = Assembly()
        self._endings: set[asyncio.Task[None]] = set()

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """See `Channel.send`."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._send_one(outgoing)) for outgoing in batch]
        return [task.result() for task in tasks]

    async def receipts(self, limit: int, after: str = "") -> list[Receipt]:
        """See `Channel.receipts`; a cursor is the number of a receipt, and the object that numbered it."""
        await self._listen(self._reports, after)
        return [self._to_receipt(cursor, report) for cursor, report in self._reports.read(limit)]

    async def inbound(self, limit: int = 1000, after: str = "") -> list[InboundSms]:
        """Fetch up to `limit` messages of people, oldest first; `after` is the `id` of the last one that is stored.

        As with `receipts`, asking with `after` lets the SMSC forget everything up to it, so a crash loses nothing and
        may bring some twice. The `id` belongs to this object: one that is told again after a restart has another.

        Raises:
            ChannelUnavailable: the SMSC cannot be reached.
        """
        for piece in self._assembly.overdue(self._now()):
            self._put_reply(piece)
        await self._listen(self._replies, after)
        return [msgspec.structs.replace(reply, id=cursor) for cursor, reply in self._replies.read(limit)]

    async def check(self) -> list[Finding]:
        """See `Channel.check`: binds, or asks over the connection that is bound."""
        options = self._options
        try:
            session = await self._bound(at_once=True)
            await session.enquire()
        except _NotBound as problem:
            return [Finding(fine=False, words=str(problem))]
        except SessionLost as problem:
            return [Finding(fine=False, words=f"{options.host}:{options.port} was lost: {problem}")]
        return [Finding(fine=True, words=f"bound to {options.host}:{options.port} as {options.system_id}")]

    async def close(self) -> None:
        """See `Channel.close`; what was not stored yet is brought again on the next bind."""
        async with self._binding:
            await self._unbind()
        if self._endings:
            await asyncio.wait(set(self._endings))

    async def _send_one(self, outgoing: Outgoing) -> Answer:
        attempt_id = outgoing.attempt_id
        try:
            requests = to_requests(outgoing, self._options, self._now(), self._references.randrange(256))
        except Unfit as problem:
            return Answer(attempt_id, problem.outcome, detail=str(problem))
        try:
            async with asyncio.timeout(self._options.timeout_s):
                await self._window.acquire()
        except TimeoutError:
            return Answer(attempt_id, Outcome.NOT_SENT, detail="the SMSC leaves too many messages unanswered")
        try:
            session = await self._bound()
            with session.used():
                return await self._submit_all(session, attempt_id, requests)
        except _NotBound as problem:
            return Answer(attempt_id, problem.outcome, detail=str(problem)[:_DETAIL_LENGTH_MAX])
        finally:
            self._window.release()

    async def _submit_all(self, session: Session, attempt_id: bytes, requests: Sequence[SubmitSm]) -> Answer:
        answer = Answer(attempt_id, Outcome.UNKNOWN)
        for number, request in enumerate(requests):
            answer = await self._submit(session, attempt_id, request)
            if answer.outcome is not Outcome.ACCEPTED:
                return _torn(answer, number, len(requests)) if number else answer
        return answer

    async def _submit(self, session: Session, attempt_id: bytes, request: SubmitSm) -> Answer:
        def late(pdu: Pdu) -> None:
            ref = self._ref_in(pdu)
            if pdu.status == ROK and ref:
                self._late_refs[ref] = attempt_id
                while len(self._late_refs) > _REFS_MAX:
                    self._late_refs.popitem(last=False)

        try:
            pdu = await session.ask(request, late)
        except TimeoutError:
            return Answer(attempt_id, Outcome.UNKNOWN, detail="no answer to submit_sm")
        except SessionLost as problem:
            outcome = Outcome.UNKNOWN if problem.perhaps_sent else Outcome.NOT_SENT
            return Answer(attempt_id, outcome, detail=str(problem)[:_DETAIL_LENGTH_MAX])
        outcome = OUTCOMES.get(pdu.status, Outcome.UNKNOWN)
        if outcome is Outcome.ACCEPTED and pdu.command != _SUBMIT_SM_RESP:
            outcome = Outcome.UNKNOWN
        ref = self._ref_in(pdu) if outcome is Outcome.ACCEPTED else ""
        return Answer(attempt_id, outcome, provider_ref=ref, detail=name_of(pdu.status) if pdu.status else "")

    def _ref_in(self, pdu: Pdu) -> str:
        return canonical(pdu.body.split(b"\0")[0].decode("ascii", "replace"), self._options.answer_id)

    async def _bound(self, *, at_once: bool = False) -> Session:
        """Give the connection, made anew where there is none.

        Raises:
            _NotBound: there is none, and it is too early to try again (unless `at_once`) or another try failed.
        """
        async with self._binding:
            session = self._session
            if session is not None and session.is_open and session.receives >= self._reads:
                return session
            await self._unbind()
            if not at_once and asyncio.get_running_loop().time() < self._next_bind_at:
                raise _NotBound(self._refusal.outcome, str(self._refusal))
            try:
                bind = _to_bind(self._options, transmitter=not self._reads)
                session = self._session = await Session.bind(self._place, bind, self._take)
            except (BindRefused, SessionLost) as problem:
                self._refusal = self._put_off(problem)
                raise self._refusal from problem
            self._next_bind_at = self._pause_s = 0.0
            self._expects = session.receives
            return session

    async def _unbind(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await session.settled(self._options.timeout_s)
            await session.close()

    def _put_off(self, problem: BindRefused | SessionLost) -> _NotBound:
        """Say when to bind again, and what to tell those who want to send until then."""
        options = self._options
        where = f"{options.host}:{options.port}"
        self._pause_s = min(max(2 * self._pause_s, options.reconnect_s), options.reconnect_max_s)
        outcome, pause_s = Outcome.NOT_SENT, self._pause_s
        words = f"{where} cannot be bound to: {problem}"
        if isinstance(problem, BindRefused) and problem.status in REFUSALS:
            outcome, pause_s = Outcome.CHANNEL_DOWN, options.refused_reconnect_s
            words = f"{where} refuses {options.system_id}: {problem}; {REFUSALS[problem.status]}"
        log.warning("not bound to the SMSC", provider=self.name, problem=words, next_in_s=pause_s)
        self._next_bind_at = asyncio.get_running_loop().time() + pause_s
        return _NotBound(outcome, words)

    async def _listen(self, shelf: Shelf[Report] | Shelf[InboundSms], after: str) -> None:
        """Let go of what is stored, and make sure that what the SMSC has brought is here."""
        self._reads = True
        self._asked_at = asyncio.get_running_loop().time()
        forgotten = shelf.forget(after)
        if len(shelf):
            return
        try:
            session = await self._bound()
            if self._expects or forgotten:
                self._expects = False
                self._came.clear()
                await session.enquire()
                if forgotten and not len(shelf):
                    await self._wait_for_next()
        except (_NotBound, SessionLost) as problem:
            raise ChannelUnavailable(f"channel {self.name}: {problem}") from problem

    async def _wait_for_next(self) -> None:
        try:
            async with asyncio.timeout(_NEXT_WITHIN_S):
                await self._came.wait()
        except TimeoutError:
            pass

    def _take(self, session: Session, pdu: Pdu) -> None:
        """Take in what the SMSC brings."""
        try:
            brought = read_deliver(pdu.body)
        except ValueError as problem:
            log.warning("a deliver_sm cannot be read", provider=self.name, problem=str(problem))
            session.answer(pdu.sequence, _RX_P_APPN)
            return
        if is_receipt(brought):
            report = read_receipt(brought, self._options.receipt_id, self._zone)
            owed = self._answers.take(session, pdu.sequence, pdu.body) if report is not None else None
            if report is None:
                session.answer(pdu.sequence, ROK)
            elif owed is not None:
                self._reports.put(report, [owed])
        elif is_message(brought):
            owed = self._answers.take(session, pdu.sequence, pdu.body)
            finished = self._assembly.add(brought, owed, self._now()) if owed is not None else None
            if finished is not None:
                self._put_reply(finished)
        else:
            session.answer(pdu.sequence, ROK)
        self._came.set()

    def _put_reply(self, finished: Unfinished) -> None:
        first = finished.first
        sender = to_phone(first.source, first.source_ton, self._options.country)
        self._replies.put(InboundSms("", sender, whole(finished), self._now()), finished.owed)

    def _hold(self, owed: Owed) -> None:
        asyncio.get_running_loop().call_later(self._options.hold_s, self._give_back, owed)

    def _give_back(self, owed: Owed) -> None:
        """Let the SMSC bring again what was not stored in time; if nobody asks any more, to somebody who does."""
        if not owed.ask_again():
            return
        log.info("a message of the SMSC was not stored in time", provider=self.name)
        if asyncio.get_running_loop().time() - self._asked_at >= self._options.hold_s and self._options.transmitter:
            self._reads = False
            ending = asyncio.get_running_loop().create_task(self._stop_receiving())
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

    async def _stop_receiving(self) -> None:
        async with self._binding:
            if not self._reads and self._session is not None and self._session.receives:
                await self._unbind()

    def _to_receipt(self, cursor: str, report: Report) -> Receipt:
        now = self._now()
        at = min(report.done_at or now, now)  # a zone that is set wrong must not put a receipt into the future
        attempt_id = self._late_refs.get(report.ref, b"")
        return Receipt(attempt_id, report.ref, report.delivered, report.detail, at, cursor)


class Unfit(Exception):
    """A message cannot be written as SMS."""

    def __init__(self, outcome: Outcome, words: str) -> None:
        super().__init__(words)
        self.outcome = outcome


def to_requests(outgoing: Outgoing, options: SmppOptions, now: dt.datetime, reference: int) -> list[SubmitSm]:
    """Write a message as submit_sm: one, or one for each part of a long text, told apart by `reference` (0 to 255).

    Raises:
        Unfit: there is no such phone, or the text is no Unicode, empty or too long.
    """
    found = _PHONE.fullmatch(outgoing.to)
    if found is None:
        raise Unfit(Outcome.REJECTED_RECIPIENT, "no phone number in international form")
    encoding = "gsm0338" if options.gsm and is_gsm(outgoing.text) else "ucs2"
    try:
        parts = split(outgoing.text, encoding, reference)
    except UnicodeEncodeError:
        raise Unfit(Outcome.REJECTED_CONTENT, "the text is no Unicode") from None
    if not 0 < len(parts) <= options.parts_max:
        raise Unfit(Outcome.REJECTED_CONTENT, f"a text of {len(parts)} parts; {options.parts_max} are allowed")
    requests = []
    for number, part in enumerate(parts, start=1):
        request = SubmitSm(
            short_message=outgoing.text,
            source=PhoneNumber(options.source, TON(options.source_ton), NPI(options.source_npi)),
            destination=_to_destination(found[1], options),
            service_type=options.service_type,
            esm_class=_HEADER_FLAG if len(parts) > 1 else 0,
            validity_period=_validity(outgoing, options, now),
            registered_delivery=int(number == len(parts)),
            encoding=encoding,
            auto_message_payload=False,
        )
        request.set_encoded_message(part)
        requests.append(request)
    return requests


def split(text: str, encoding: str, reference: int) -> list[bytes]:
    """Encode a text as it stands in short_message: whole, or in parts behind a header (GSM 03.40 section 9.2.3.24.1).

    No pair of surrogates and no character of the extension table is torn apart. What is too long to be numbered comes
    without headers, for counting only.

    Raises:
        UnicodeEncodeError: the text holds half of a surrogate pair.
    """
    encode = find_codec_info(encoding).encode
    width, room, part_room = (
        (1, SEPTETS_MAX, SEPTETS_PART_MAX) if encoding == "gsm0338" else (2, UNITS_MAX, UNITS_PART_MAX)
    )
    encoded: bytes = encode(text, "strict")[0]
    if len(encoded) <= room * width:
        return [encoded] if encoded else []
    parts = [b""]
    for character in text:
        octets: bytes = encode(character, "strict")[0]
        if len(parts[-1]) + len(octets) > part_room * width:
            parts.append(b"")
        parts[-1] += octets
    if len(parts) > _PARTS_MAX:
        return parts
    return [bytes((5, 0, 3, reference, len(parts), number)) + part for number, part in enumerate(parts, start=1)]


def _to_destination(digits: str, options: SmppOptions) -> PhoneNumber:
    if options.country and digits.startswith(options.country):
        return PhoneNumber(
            digits.removeprefix(options.country), TON(options.national_ton), NPI(options.destination_npi)
        )
    return PhoneNumber(digits, TON(options.destination_ton), NPI(options.destination_npi))


def _validity(outgoing: Outgoing, options: SmppOptions, now: dt.datetime) -> dt.timedelta | None:
    if outgoing.valid_until is None or not options.validity_max_s:
        return None
    longest = dt.timedelta(seconds=options.validity_max_s)
    # In relative form: an SMSC may have another clock than we, and another zone.
    return max(min(outgoing.valid_until - now, longest), _VALIDITY_MIN)


def _to_place(options: SmppOptions) -> Place:
    tls = None
    if options.tls:
        tls = ssl.create_default_context()
        if options.ca_pem:
            tls.load_verify_locations(cadata=options.ca_pem)
    return Place(options.host, options.port, options.connect_timeout_s, options.timeout_s, options.enquire_link_s, tls)


def _to_bind(options: SmppOptions, *, transmitter: bool) -> BindTransceiver:
    kind = BindTransmitter if transmitter else BindTransceiver
    return kind(system_id=options.system_id, password=options.password, system_type=options.system_type)


def _torn(answer: Answer, number: int, total: int) -> Answer:
    detail = f"part {number + 1} of {total}: {answer.detail}; those before it are out"
    return Answer(answer.attempt_id, Outcome.UNKNOWN, detail=detail[:_DETAIL_LENGTH_MAX])
