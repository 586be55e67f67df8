"""One bound SMPP 3.4 connection: requests and their answers by sequence number, and what the SMSC brings.

What is written is built by the PDU classes of aiosmpplib. Its `ESME` is not used (0.7.4): it takes a status that is not
in the manual (0x400 to 0x4FF belong to the makers of SMSCs) or a receipt with seconds in its date for a broken line and
drops the connection with everything under way, answers a receipt before anybody has stored it, keeps messages queued
over a lost connection, and walks through all waiting receipts for every message.
"""

import asyncio
import contextlib
import itertools
import ssl
import struct
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import structlog
from aiosmpplib.protocol import (  # type: ignore[import-untyped] # annotated, but without py.typed
    BindTransceiver,
    BindTransmitter,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    SmppMessage,
    Unbind,
    UnbindResp,
)
from aiosmpplib.state import SmppCommand, SmppCommandStatus  # type: ignore[import-untyped] # as above

from orderbell.observe import failpoint

log = structlog.get_logger(__name__)

_HEADER: Final = struct.Struct("!IIII")
_ANSWER_BIT: Final = 0x8000_0000
# message_payload holds 64 kB; a longer PDU is an accident or an attack.
_PDU_BYTES_MAX: Final = 128 * 1024
_SEQUENCE_MAX: Final = 0x7FFF_FFFF
_OVERDUE_MAX: Final = 10_000
_UNBIND_WITHIN_S: Final = 1.0
_CLOSE_WITHIN_S: Final = 1.0
_UNANSWERED: Final = frozenset({int(SmppCommand.OUTBIND), int(SmppCommand.ALERT_NOTIFICATION)})


class SessionLost(Exception):
    """The connection is gone; `perhaps_sent` is false only if no byte of the request was written."""

    def __init__(self, reason: str, *, perhaps_sent: bool) -> None:
        super().__init__(reason)
        self.perhaps_sent = perhaps_sent


class BindRefused(Exception):
    """The SMSC refused to bind, with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(name_of(status))
        self.status = status


class Pdu(msgspec.Struct, frozen=True):
    """A PDU as it came; `status` is a plain number, for SMSCs have statuses of their own."""

    command: int
    status: int
    sequence: int
    body: bytes


class Place(msgspec.Struct, frozen=True):
    """Where an SMSC listens, and how long it is waited for; `tls` is None where it speaks in plain."""

    host: str
    port: int
    connect_timeout_s: float
    timeout_s: float
    enquire_link_s: float
    tls: ssl.SSLContext | None = None


def name_of(status: int) -> str:
    """A status in words: its name in the manual (SMPP 3.4 section 5.1.3), and the number."""
    known = status in SmppCommandStatus.__members__.values()
    return f"{SmppCommandStatus(status).name} (0x{status:X})" if known else f"status 0x{status:X}"


class Session:
    """A connection that is bound; made by `bind`.

    Attributes:
        receives: whether the SMSC may bring receipts and replies over it.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        place: Place,
        brought: Callable[["Session", Pdu], None],
    ) -> None:
        self.receives = False
        self._reader = reader
        self._writer = writer
        self._place = place
        self._brought = brought
        self._numbers = itertools.cycle(range(1, _SEQUENCE_MAX + 1))
        self._asked: dict[int, asyncio.Future[Pdu]] = {}
        self._overdue: dict[int, Callable[[Pdu], None]] = {}
        self._users = 0
        self._free = asyncio.Event()
        self._free.set()
        self._lost = ""
        self._reading = asyncio.create_task(self._read())
        self._keeping: asyncio.Task[None] | None = None

    @classmethod
    async def bind(cls, place: Place, bind: BindTransceiver, brought: Callable[["Session", Pdu], None]) -> "Session":
        """Connect and bind; `brought` is called with each deliver_sm, which must be answered with `answer`.

        Raises:
            SessionLost: the SMSC cannot be reached or does not answer.
            BindRefused: it does not want us.
        """
        try:
            async with asyncio.timeout(place.connect_timeout_s):
                reader, writer = await asyncio.open_connection(place.host, place.port, ssl=place.tls)
        except (OSError, TimeoutError) as problem:
            words = str(problem) or "no connection in time"
            raise SessionLost(words, perhaps_sent=False) from problem
        session = cls(reader, writer, place, brought)
        try:
            await session._introduce(bind)
        except BaseException as problem:
            await session._drop("not bound")
            if isinstance(problem, TimeoutError):
                raise SessionLost("no answer to bind", perhaps_sent=False) from problem
            raise
        return session

    async def _introduce(self, bind: BindTransceiver) -> None:
        answer = await self.ask(bind)
        if answer.status or answer.command == SmppCommand.GENERIC_NACK:
            raise BindRefused(answer.status)
        self.receives = not isinstance(bind, BindTransmitter)
        self._keeping = asyncio.create_task(self._keep())

    @property
    def is_open(self) -> bool:
        """Whether the connection still stands, as far as is known."""
        return not self._lost

    async def ask(self, request: SmppMessage, late: Callable[[Pdu], None] | None = None) -> Pdu:
        """Write a request and wait for its answer; `late` is called with one that comes after nobody waits any more.

        Raises:
            SessionLost: the connection was lost before the answer came.
            TimeoutError: none came in time.
        """
        if self._lost:
            raise SessionLost(self._lost, perhaps_sent=False)
        number = next(self._numbers)
        request.sequence_num = number
        answer: asyncio.Future[Pdu] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self._writer.write(request.pdu())
            async with asyncio.timeout(self._place.timeout_s):
                with contextlib.suppress(ConnectionError):  # the reader tells the same to all who wait
                    await self._writer.drain()
                answered = await answer
            failpoint("smpp.answer_unread")
            return answered
        except (TimeoutError, asyncio.CancelledError):
            if late is not None and len(self._overdue) < _OVERDUE_MAX:
                self._overdue[number] = late
            raise
        finally:
            del self._asked[number]

    async def enquire(self) -> None:
        """Make sure that the SMSC is there, and that everything it wrote before has been read.

        Raises:
            SessionLost: it is not there.
        """
        try:
            await self.ask(EnquireLink())
        except TimeoutError as problem:
            await self._drop("no answer to enquire_link")
            raise SessionLost("no answer to enquire_link", perhaps_sent=True) from problem

    def answer(self, sequence: int, status: int) -> bool:
        """Answer a deliver_sm; False if the connection is gone."""
        if self._lost:
            return False
        self._writer.write(DeliverSmResp(sequence_num=sequence, command_status=SmppCommandStatus(status)).pdu())
        return True

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Keep the session from being closed in good order between two requests that belong together."""
        self._users += 1
        self._free.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._free.set()

    async def settled(self, within_s: float) -> None:
        """Wait until nobody uses it any more, but not for longer than `within_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._free.wait()

    async def close(self) -> None:
        """Unbind, and close the connection."""
        if self.is_open:
            with contextlib.suppress(SessionLost, TimeoutError):
                async with asyncio.timeout(_UNBIND_WITHIN_S):
                    await self.ask(Unbind())
        await self._drop("closed")

    async def _drop(self, reason: str) -> None:
        self._lose(reason)
        tasks = [task for task in (self._reading, self._keeping) if task is not None and task is not _current()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(_CLOSE_WITHIN_S):
                await self._writer.wait_closed()
        except TimeoutError:  # the other side reads nothing any more
            self._writer.transport.abort()
        except OSError:
            pass

    def _lose(self, reason: str) -> None:
        if self._lost:
            return
        self._lost = reason
        self._writer.close()
        if self._keeping is not None and self._keeping is not _current():
            self._keeping.cancel()
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(SessionLost(reason, perhaps_sent=True))

    async def _keep(self) -> None:
        while self.is_open:
            await asyncio.sleep(self._place.enquire_link_s)
            with contextlib.suppress(SessionLost):
                await self.enquire()

    async def _read(self) -> None:
        reason = "connection closed by the SMSC"
        try:
            while self.is_open:
                await self._handle(await self._next())
        except asyncio.IncompleteReadError:
            pass
        except (OSError, ValueError) as problem:
            reason = f"connection lost: {problem}"
        finally:
            self._lose(reason)

    async def _next(self) -> Pdu:
        length, command, status, sequence = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
        if not _HEADER.size <= length <= _PDU_BYTES_MAX:
            raise ValueError(f"a PDU of {length} bytes")
        return Pdu(command, status, sequence, await self._reader.readexactly(length - _HEADER.size))

    async def _handle(self, pdu: Pdu) -> None:
        if pdu.command & _ANSWER_BIT:
            self._take_answer(pdu)
        elif pdu.command == SmppCommand.DELIVER_SM:
            self._brought(self, pdu)
        elif pdu.command == SmppCommand.ENQUIRE_LINK:
            self._writer.write(EnquireLinkResp(sequence_num=pdu.sequence).pdu())
        elif pdu.command == SmppCommand.UNBIND:
            self._writer.write(UnbindResp(sequence_num=pdu.sequence).pdu())
            self._lose("the SMSC unbound")
        elif pdu.command not in _UNANSWERED:
            status = SmppCommandStatus.ESME_RINVCMDID
            self._writer.write(GenericNack(sequence_num=pdu.sequence, command_status=status).pdu())

    def _take_answer(self, pdu: Pdu) -> None:
        waiting = self._asked.get(pdu.sequence)
        if waiting is not None and not waiting.done():
            waiting.set_result(pdu)
        elif (late := self._overdue.pop(pdu.sequence, None)) is not None:
            late(pdu)
        else:
            log.info("an answer of the SMSC belongs to nothing", command=hex(pdu.command), status=hex(pdu.status))


def _current() -> asyncio.Task[object] | None:
    return asyncio.current_task()
