"""A pretended SMSC: speaks SMPP 3.4 over TCP, takes messages, brings receipts and replies, misbehaves when told to.

PDUs are read and written by smpp34, another hand's library than that of the channel. Its `Server` is not used: it binds
anybody whatever the password, turns a status that is not in the manual into RSYSERR, and cannot break one connection.

As a real SMSC it holds receipts and replies until a connection that may receive is bound, has only `window` of them
unanswered at once, brings again what a lost connection left unanswered, and brings what was put off (RX_T_APPN) again
on the next bind or when told to.
"""

import asyncio
import contextlib
import datetime as dt
import itertools
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Literal

import smpp34
from aiosmpplib.codec import find_codec_info  # type: ignore[import-untyped] # annotated, but without py.typed

from orderbell.sandbox.ledger import Delivery
from orderbell.sandbox.simulator import Clock, Simulator, Taken, utc_now

IdForm = Literal["decimal", "hex"]

RINVMSGLEN: Final = 0x01
RINVBNDSTS: Final = 0x04
RALYBND: Final = 0x05
RSYSERR: Final = 0x08
RINVDSTADR: Final = 0x0B
RINVPASWD: Final = 0x0E
RINVSYSID: Final = 0x0F
RINVESMCLASS: Final = 0x43
RTHROTTLED: Final = 0x58
RINVEXPIRY: Final = 0x62
RX_T_APPN: Final = 0x64
NO_MANUAL: Final = 0x4FF
"""A status from the range that belongs to the makers of SMSCs."""

_HEADER: Final = struct.Struct("!IIII")
_ANSWER_BIT: Final = 0x8000_0000
_GENERIC_NACK: Final = 0x8000_0000
_BINDS: Final = {0x01: (False, True), 0x02: (True, False), 0x09: (True, True)}
_SUBMIT_SM: Final = 0x04
_DELIVER_SM_RESP: Final = 0x8000_0005
_UNBIND: Final = 0x06
_ENQUIRE_LINK: Final = 0x15
_SUBMIT_SM_RESP: Final = _SUBMIT_SM | _ANSWER_BIT
_PDU_BYTES_MAX: Final = 70_000
# What else comes within this time after a cut is taken as well: the customer had written it before it could know.
_CUT_AFTER_S: Final = 0.05
_UCS2: Final = 8
_HEADER_FLAG: Final = 0x40
_CONCATENATION_BYTES: Final = 6
_OCTETS_MAX: Final = 140
_SEPTETS_MAX: Final = 160
_SEPTETS_PART_MAX: Final = 153
_UNITS_PART_MAX: Final = 67
_TIME_LENGTH: Final = 16
_RECEIPTED_MESSAGE_ID: Final = 0x001E
_NETWORK_ERROR_CODE: Final = 0x0423
_MESSAGE_STATE: Final = 0x0427
_STATES: Final = {Delivery.DELIVERED: (2, "DELIVRD", "000"), Delivery.FAILED: (5, "UNDELIV", "027")}


class _Refused(Exception):
    """A submit_sm is refused with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(hex(status))
        self.status = status


class _Line:
    """One connection of a customer."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.sends = self.receives = self.is_cut = False
        self.unanswered: dict[int, dict[str, Any]] = {}
        self._numbers = itertools.count(1)

    @property
    def is_bound(self) -> bool:
        return self.sends or self.receives

    def write(self, command: int, status: int, sequence: int, body: bytes = b"") -> None:
        self.writer.write(_HEADER.pack(_HEADER.size + len(body), command, status, sequence) + body)

    def bring(self, fields: dict[str, Any]) -> None:
        number = next(self._numbers)
        self.unanswered[number] = fields
        self.writer.write(smpp34.DeliverSm(**fields, sequence_number=number).encode())

    def unbind(self) -> None:
        self.write(_UNBIND, 0, next(self._numbers))


class SmscSimulator(Simulator):
    """An SMSC with one account; `listening` makes it reachable.

    Args:
        system_id: of the account.
        password: of the account.
        clock: tells the time as aware UTC.
        window: how many receipts and replies may be unanswered on one connection.
        zone: the time zone of the dates in receipts.

    Attributes:
        fail_with: answer this status to every submit_sm, and take nothing; 0: do not.
        bind_with: answer this status to every bind; 0: look at system id and password.
        answer_ids: how the number of a message is written in submit_sm_resp.
        receipt_ids: the same in the text of receipts.
        receipt_style: where a receipt says what it says: in its options, its text, or both.
        with_seconds: write dates in receipts with seconds, as some SMSCs do.
        receipts_first: bring the receipt before the answer to submit_sm.
        per_second: refuse more messages than this within one second of the clock with RTHROTTLED; 0: no limit.
        binds_max: refuse more connections than this with RALYBND; 0: no limit.
        withhold: keep the answers to submit_sm back until `release`.
        is_silent: read what comes and do nothing.
        bound: names of the binds so far: transmitter, receiver or transceiver.
        refused: statuses of the binds that were refused.
        put_off: receipts and replies that the customer wants to be brought again later.
        rejected: statuses with which receipts and replies were turned down for good.
    """

    def __init__(
        self,
        *,
        system_id: str = "orderbell",
        password: str = "dingdong",  # noqa: S107 - the well-known one of a pretended account
        clock: Clock = utc_now,
        window: int = 10,
        zone: dt.tzinfo = dt.UTC,
    ) -> None:
        super().__init__(clock=clock)
        self.system_id = system_id
        self.password = password
        self.window = window
        self.zone = zone
        self.fail_with = self.bind_with = self.per_second = self.binds_max = 0
        self.answer_ids: IdForm = "decimal"
        self.receipt_ids: IdForm = "decimal"
        self.receipt_style: Literal["both", "options", "text"] = "both"
        self.with_seconds = self.receipts_first = False
        self.withhold = self.is_silent = False
        self.bound: list[str] = []
        self.refused: list[int] = []
        self.put_off: list[dict[str, Any]] = []
        self.rejected: list[int] = []
        self._lines: dict[asyncio.Task[None], _Line] = {}
        self._queue: deque[dict[str, Any]] = deque()
        self._withheld: list[tuple[_Line, int, bytes]] = []
        self._happened = asyncio.Event()
        self._ids = itertools.count(0xA1)
        self._this_second = (0, 0)

    @contextlib.asynccontextmanager
    async def listening(
        self, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[int]:
        """Take customers for as long as the block lasts, over TLS if there is a certificate; gives the port.

        Raises:
            OSError: the port is taken or not allowed.
        """
        server = await asyncio.start_server(self._serve, host, port, ssl=tls)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            self.drop()
            if self._lines:
                await asyncio.wait(set(self._lines))
            await self.close()

    @property
    def unstored(self) -> int:
        """How many receipts and replies the customer has not yet answered with success."""
        unanswered = sum(len(line.unanswered) for line in self._lines.values())
        return unanswered + len(self._queue) + len(self.put_off)

    @property
    def is_connected(self) -> bool:
        """Whether anybody is connected."""
        return bool(self._lines)

    @property
    def is_bound(self) -> bool:
        """Whether anybody is bound."""
        return any(line.is_bound for line in self._lines.values())

    @property
    def is_receiving(self) -> bool:
        """Whether anybody is bound who may receive."""
        return any(line.receives for line in self._lines.values())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true of this SMSC."""
        while not condition():
            self._happened.clear()
            await self._happened.wait()

    def release(self) -> None:
        """Give the answers that were withheld."""
        self.withhold = False
        for line, sequence, body in self._withheld:
            line.write(_SUBMIT_SM_RESP, 0, sequence, body)
        self._withheld.clear()

    def drop(self) -> None:
        """Break all connections."""
        for line in self._lines.values():
            line.writer.transport.abort()

    def unbind(self) -> None:
        """Ask all customers to leave."""
        for line in self._lines.values():
            line.unbind()

    def reply(self, sender: str, text: str, *, gsm: bool = False, reference: int = 7) -> None:
        """Bring a message of a person, in parts if it is long; `sender` with its country and without +."""
        encode = find_codec_info("gsm0338" if gsm else "utf-16-be").encode
        room = _SEPTETS_PART_MAX if gsm else 2 * _UNITS_PART_MAX
        encoded: bytes = encode(text, "strict")[0]
        parts = [encoded]
        if len(encoded) > (_SEPTETS_MAX if gsm else _OCTETS_MAX):
            parts = [encoded[start : start + room] for start in range(0, len(encoded), room)]
            parts = [bytes((5, 0, 3, reference, len(parts), n)) + part for n, part in enumerate(parts, 1)]
        for part in parts:
            self.bring(
                source_addr=sender,
                source_addr_ton=1,
                source_addr_npi=1,
                destination_addr="1065",
                short_message=part,
                esm_class=_HEADER_FLAG if len(parts) > 1 else 0,
                data_coding=0 if gsm else _UCS2,
            )

    def bring(self, **fields: Any) -> None:  # noqa: ANN401 - the fields of a deliver_sm, as smpp34 names them
        """Bring a deliver_sm as soon as somebody may receive it."""
        self._queue.append(fields)
        self._pump()

    def bring_again(self) -> None:
        """Bring again what the customer put off."""
        self._queue.extend(self.put_off)
        self.put_off.clear()
        self._pump()

    def _pump(self) -> None:
        for line in self._lines.values():
            while line.receives and self._queue and len(line.unanswered) < self.window:
                line.bring(self._queue.popleft())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = _Line(writer)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs is in one
        self._lines[task] = line
        try:
            while not writer.is_closing():
                head = await reader.readexactly(_HEADER.size)
                length = _HEADER.unpack(head)[0]
                if not _HEADER.size <= length <= _PDU_BYTES_MAX:
                    break
                frame = head + await reader.readexactly(length - _HEADER.size)
                if not self.is_silent:
                    self._handle(line, frame)
                self._happened.set()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            del self._lines[task]
            self._queue.extendleft(reversed(line.unanswered.values()))
            self._happened.set()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self._pump()

    def _handle(self, line: _Line, frame: bytes) -> None:
        _, command, status, sequence = _HEADER.unpack(frame[: _HEADER.size])
        try:
            pdu = smpp34.decode(frame)
        except smpp34.SmppError:
            line.write(_GENERIC_NACK, 0x02, sequence)
            return
        if isinstance(pdu, smpp34.SubmitSm):
            self._submit(line, pdu, sequence)
        elif command == _DELIVER_SM_RESP:
            self._answered(line, sequence, status)
        elif command in _BINDS and isinstance(pdu, smpp34.RawPdu):
            self._bind(line, command, sequence, pdu.body)
        elif command == _ENQUIRE_LINK:
            line.write(command | _ANSWER_BIT, 0, sequence)
        elif command == _UNBIND:
            line.write(command | _ANSWER_BIT, 0, sequence)
            line.writer.close()
        elif not command & _ANSWER_BIT:
            line.write(_GENERIC_NACK, 0x03, sequence)

    def _bind(self, line: _Line, command: int, sequence: int, body: bytes) -> None:
        system_id, password = (field.decode("latin-1") for field in (*body.split(b"\0"), b"", b"")[:2])
        status = self.bind_with
        if not status and system_id != self.system_id:
            status = RINVSYSID
        if not status and password != self.password:
            status = RINVPASWD
        others = sum(other.is_bound for other in self._lines.values())
        if not status and (line.is_bound or (self.binds_max and others >= self.binds_max)):
            status = RALYBND
        if status:
            self.refused.append(status)
            line.write(command | _ANSWER_BIT, status, sequence)
            return
        line.sends, line.receives = _BINDS[command]
        self.bound.append({0x01: "receiver", 0x02: "transmitter", 0x09: "transceiver"}[command])
        line.write(command | _ANSWER_BIT, 0, sequence, b"SMSC\0" + bytes.fromhex("0210000134"))
        if line.receives:
            self.bring_again()

    def _answered(self, line: _Line, sequence: int, status: int) -> None:
        fields = line.unanswered.pop(sequence, None)
        if fields is not None and status == RX_T_APPN:
            self.put_off.append(fields)
        elif fields is not None and status:
            self.rejected.append(status)
        self._pump()

    def _submit(self, line: _Line, submit: smpp34.SubmitSm, sequence: int) -> None:
        try:
            self._look(line, submit)
        except _Refused as refused:
            line.write(_SUBMIT_SM_RESP, refused.status, sequence)
            return
        number = next(self._ids)
        taken = self._keep(number, submit)
        if submit.registered_delivery & 1 and taken.delivery is not Delivery.SILENT:
            if self.receipts_first:
                self._bring_receipt(number, taken)
            else:
                self.later(self._receipt_later(number, taken))
        body = _write_id(number, self.answer_ids).encode() + b"\0"
        if line.is_cut or self.dice.strikes(self.faults.timeout_after_accept):
            return
        if self.dice.strikes(self.faults.cut_after_accept):
            self._cut(line, body, sequence)
        elif self.withhold:
            self._withheld.append((line, sequence, body))
        elif self.faults.slow_ms:
            asyncio.get_running_loop().call_later(
                self.faults.slow_ms / 1000, line.write, _SUBMIT_SM_RESP, 0, sequence, body
            )
        else:
            line.write(_SUBMIT_SM_RESP, 0, sequence, body)

    def _look(self, line: _Line, submit: smpp34.SubmitSm) -> None:
        """See whether a message is to be taken.

        Raises:
            _Refused: it is not.
        """
        if not line.sends:
            raise _Refused(RINVBNDSTS)
        faults = self.faults
        for share, status in ((faults.refuse, RSYSERR), (faults.throttle, RTHROTTLED), (faults.error_body, NO_MANUAL)):
            if self.dice.strikes(share):
                raise _Refused(status)
        if self.fail_with:
            raise _Refused(self.fail_with)
        if self._is_too_quick():
            raise _Refused(RTHROTTLED)
        status = _find_fault(submit)
        if status:
            raise _Refused(status)

    def _is_too_quick(self) -> bool:
        second = int(self.clock().timestamp())
        count = self._this_second[1] + 1 if second == self._this_second[0] else 1
        self._this_second = (second, count)
        return 0 < self.per_second < count

    def _cut(self, line: _Line, body: bytes, sequence: int) -> None:
        line.is_cut = True
        whole = _HEADER.pack(_HEADER.size + len(body), _SUBMIT_SM_RESP, 0, sequence) + body
        line.writer.write(whole[: len(whole) // 2])
        asyncio.get_running_loop().call_later(_CUT_AFTER_S, line.writer.close)

    def _keep(self, number: int, submit: smpp34.SubmitSm) -> Taken:
        message = submit.short_message
        part = None
        if submit.esm_class & _HEADER_FLAG:
            part, message = tuple(message[3:6]), message[_CONCATENATION_BYTES:]
        name = "utf-16-be" if submit.data_coding == _UCS2 else "gsm0338"
        return self.keep(
            str(number),
            submit.destination_addr,
            find_codec_info(name).decode(message, "replace")[0],
            source=submit.source_addr,
            coding=submit.data_coding,
            esm_class=submit.esm_class,
            part=part,
            octets=submit.short_message,
            validity_period=submit.validity_period,
            registered_delivery=submit.registered_delivery,
            destination_ton=submit.dest_addr_ton,
        )

    async def _receipt_later(self, number: int, taken: Taken) -> None:
        self._bring_receipt(number, taken)

    def _bring_receipt(self, number: int, taken: Taken) -> None:
        state, word, error = _STATES[taken.delivery]
        pattern = "%y%m%d%H%M%S" if self.with_seconds else "%y%m%d%H%M"
        submitted, done = (moment.astimezone(self.zone).strftime(pattern) for moment in (taken.at, self.clock()))
        ref = _write_id(number, self.receipt_ids)
        text = (
            f"id:{ref} sub:001 dlvrd:{int(state == 2):03d} submit date:{submitted} done date:{done} "  # noqa: PLR2004
            f"stat:{word} err:{error} text:"
        )
        options = [
            smpp34.Tlv(_RECEIPTED_MESSAGE_ID, ref.encode() + b"\0"),
            smpp34.Tlv(_MESSAGE_STATE, bytes((state,))),
            smpp34.Tlv(_NETWORK_ERROR_CODE, b"\x03" + int(error).to_bytes(2, "big")),
        ]
        self.bring(
            source_addr=taken.to,
            source_addr_ton=1,
            destination_addr=str(taken.fields["source"]),
            short_message=b"" if self.receipt_style == "options" else text.encode(),
            esm_class=0x04,
            tlvs=[] if self.receipt_style == "text" else options,
        )


def _write_id(number: int, form: IdForm) -> str:
    return f"{number:X}" if form == "hex" else str(number)


def _find_fault(submit: smpp34.SubmitSm) -> int:
    """The status with which a message is refused for what it is, 0 if it is not."""
    digits, message = submit.destination_addr, submit.short_message
    if not digits.isdigit() or not 5 <= len(digits) <= 15:  # noqa: PLR2004 - E.164
        return RINVDSTADR
    validity = submit.validity_period
    if validity and (len(validity) != _TIME_LENGTH or validity[-1] not in "R+-" or not validity[:-1].isdigit()):
        return RINVEXPIRY
    header = 0
    if submit.esm_class & _HEADER_FLAG:
        header = _CONCATENATION_BYTES
        if message[:3] != b"\x05\x00\x03" or not 1 <= message[5] <= message[4]:
            return RINVESMCLASS
    if submit.data_coding == _UCS2:
        too_long = len(message) > _OCTETS_MAX
    else:
        too_long = len(message) - header > (_SEPTETS_PART_MAX if header else _SEPTETS_MAX)
    return RINVMSGLEN if too_long or len(message) <= header else 0
