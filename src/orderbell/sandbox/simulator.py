"""What every simulated provider has in common: it reads requests, misbehaves when told to, and keeps what it took.

A simulator answers exactly as the real provider does, verifies signatures as it does, and keeps its limits. Faults come
from the same list as those of the sandbox (`orderbell.sandbox.faults`):

=========================  ===================================================================================
`refuse`                   the provider's own way to say "server error" (by default HTTP 503 without a body)
`throttle`                 the provider's own way to say "too quick"
`timeout_after_accept`     take the message, never answer
`cut_after_accept`         take the message, close the connection in the middle of the answer
`error_body`               the provider's success status with a code that is in no manual; nothing is taken
`lose_receipts`            take it, deliver it, never say so
`fail_delivery`            take it, then say that it could not be delivered (also for `fail_recipients`)
`slow_ms`                  answer late; what was brought has been taken by then
`receipt_delay_s`          how long after taking a message its receipt is sent
=========================  ===================================================================================

Two paths are no provider's: `GET /_taken` shows the last messages that were taken (`?last=N`, default 50), the newest
last; `GET` and `PUT /_faults` show and set the faults, as JSON.
"""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError

from orderbell.sandbox.faults import Dice, Faults
from orderbell.sandbox.ledger import Delivery

_BODY_BYTES_MAX: Final = 16 * 1024 * 1024
_CALL_WITHIN_S: Final = 5.0
_SHOWN_COUNT: Final = "50"
_COUNT_DIGITS_MAX: Final = 9
TAKEN_PATH: Final = "/_taken"
FAULTS_PATH: Final = "/_faults"
OWN_PATHS: Final = frozenset({TAKEN_PATH, FAULTS_PATH})
"""Paths that every simulator answers itself, for people to look and to play."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Clock = Callable[[], dt.datetime]


_encode: Final = msgspec.json.Encoder(enc_hook=str).encode
_decode_faults: Final = msgspec.json.Decoder(Faults).decode


def utc_now() -> dt.datetime:
    """Tell the wall clock's time."""
    return dt.datetime.now(dt.UTC)


class Asked(msgspec.Struct, frozen=True):
    """A request whose body has been read.

    `query` is as it was sent, `parameters` the same taken apart (the last value of each name); names of headers are in
    small letters.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def parameters(self) -> dict[str, str]:
        """The query, decoded."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        """The body as an urlencoded form, decoded."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))


class Answered(msgspec.Struct, frozen=True):
    """An answer. `took` is set by an answer that took messages: the faults that strike after taking look at it."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    took: bool = False


class Taken(msgspec.Struct, frozen=True):
    """A message that the provider took; `fields` are what else came with it, for tests and pages to look at."""

    ref: str
    to: str
    text: str
    at: dt.datetime
    delivery: Delivery
    fields: Mapping[str, Any] = {}


class Simulator:
    """An ASGI application that pretends to be a provider; subclasses write `answer`.

    Args:
        clock: tells the time as aware UTC.
        callback_url: where receipts and replies are sent, in the provider's form; empty: nowhere.
    """

    def __init__(self, *, clock: Clock = utc_now, callback_url: str = "") -> None:
        self.clock = clock
        self.callback_url = callback_url
        self.taken: list[Taken] = []
        self.dice = Dice(Faults())
        self._closing = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._client: Client | None = None

    @property
    def faults(self) -> Faults:
        """What goes wrong now."""
        return self.dice.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.dice = Dice(faults)

    async def answer(self, asked: Asked) -> Answered:
        """Answer one request as the provider would; faults `refuse`, `throttle` and `error_body` are the subclass's.

        There is nothing at a provider that speaks no HTTP.
        """
        return Answered(404)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3)."""
        if scope["type"] != "http":
            return
        body = await _read_body(receive)
        if body is None:
            await _send(send, Answered(413))
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        asked = Asked(scope["method"], scope["path"], scope["query_string"].decode("latin-1"), headers, body)
        answered = self._play(asked) if asked.path in OWN_PATHS else await self.answer(asked)
        if answered.took and self.faults.slow_ms:
            await self._wait(self.faults.slow_ms / 1000)
        if answered.took and self.dice.strikes(self.faults.timeout_after_accept):
            await self._never(receive)
            return
        await _send(send, answered, cut=answered.took and self.dice.strikes(self.faults.cut_after_accept))

    def _play(self, asked: Asked) -> Answered:
        """Show what was taken, or show and set the faults."""
        if asked.path == FAULTS_PATH and asked.method == "PUT":
            try:
                self.faults = _decode_faults(asked.body)
            except (ValueError, RecursionError) as problem:
                return Answered(400, _encode({"error": f"these are no faults: {problem}"}))
        elif asked.method != "GET":
            return Answered(405, _encode({"error": "GET shows it; only faults can be set, by PUT"}))
        if asked.path == FAULTS_PATH:
            return Answered(body=_encode(self.faults))
        last = asked.parameters.get("last", _SHOWN_COUNT)
        if not (last.isascii() and last.isdigit() and len(last) <= _COUNT_DIGITS_MAX):
            return Answered(400, _encode({"error": "last: how many to show, a whole number"}))
        shown = self.taken[max(0, len(self.taken) - int(last)) :]
        return Answered(body=_encode({"count": len(self.taken), "taken": [_shown(taken) for taken in shown]}))

    def keep(self, ref: str, to: str, text: str, **fields: Any) -> Taken:  # noqa: ANN401 - whatever came with it
        """Put a message down as taken, and decide what becomes of it."""
        taken = Taken(ref, to, text, self.clock(), self.dice.delivery("", to), fields)
        self.taken.append(taken)
        return taken

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something after `receipt_delay_s`, such as sending a receipt; it is dropped when the server stops."""

        async def wait_and_work() -> None:
            await self._wait(self.faults.receipt_delay_s)
            await work

        task = asyncio.get_running_loop().create_task(wait_and_work())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def call(
        self, body: bytes, content_type: str, *, url: str = "", headers: Mapping[str, str] | None = None
    ) -> int:
        """Tell the customer something; returns the HTTP status of the answer, 0 where none came."""
        if self._client is None:
            self._client = ClientBuilder().no_proxy().timeout(dt.timedelta(seconds=_CALL_WITHIN_S)).build()
        request = self._client.post(url or self.callback_url).body_bytes(body)
        try:
            response = await request.headers({"content-type": content_type, **(headers or {})}).build().send()
        except PyreqwestError:
            return 0
        self.last_reply = bytes(await response.bytes())
        return response.status

    async def told(self) -> None:
        """Wait until everything that was to be sent later has been sent."""
        while self._calls:
            await asyncio.wait(set(self._calls))

    def end_waiting(self) -> None:
        """Let go of what waits, so that the server can stop."""
        self._closing.set()

    async def close(self) -> None:
        """Stop calling."""
        self.end_waiting()
        for task in list(self._calls):
            task.cancel()
        if self._calls:
            await asyncio.wait(set(self._calls))
        if self._client is not None:
            await self._client.close()

    async def _wait(self, pause_s: float) -> None:
        if pause_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), pause_s)

    async def _never(self, receive: Receive) -> None:
        """Wait until the client gives up or the server stops, and give no answer."""

        async def client_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        waiting = {asyncio.ensure_future(client_gone()), asyncio.ensure_future(self._closing.wait())}
        _, unfinished = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in unfinished:
            task.cancel()


def _shown(taken: Taken) -> dict[str, Any]:
    """A message as people can read it: bytes, such as those of a mail, as text."""
    fields = {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        for name, value in taken.fields.items()
    }
    return {**msgspec.structs.asdict(taken), "fields": fields}


async def _read_body(receive: Receive) -> bytes | None:
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] != "http.request":
            return bytes(body)
        body += event.get("body", b"")
        if len(body) > _BODY_BYTES_MAX:
            return None
        if not event.get("more_body", False):
            return bytes(body)


async def _send(send: Send, answered: Answered, *, cut: bool = False) -> None:
    headers = [
        (b"content-type", answered.content_type.encode("latin-1")),
        (b"content-length", str(len(answered.body)).encode()),
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in answered.headers),
    ]
    await send({"type": "http.response.start", "status": answered.status, "headers": headers})
    if cut:
        # uvicorn closes the connection of an application that ends before its answer does.
        half = answered.body[: len(answered.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        return
    await send({"type": "http.response.body", "body": answered.body})
