"""The sandbox provider: an HTTP server that takes messages like a real one and writes them into its ledger.

=========================  ===================================================================================
`POST /v1/messages`        take up to 1,000 messages; one result each: code, ref, detail
`GET /v1/messages`         `?limit=M`: the latest messages, newest first
`GET /v1/receipts`         `?after=N&limit=M&ledger=L`: delivery receipts with a number above N, in order;
                           all of them where the ledger is no longer L
`POST /v1/lookup`          what became of attempts: accepted, delivered, failed or not_found
`GET /v1/ledger/summary`   counts by channel and topic, repeats, refusals
`GET`, `PUT /v1/faults`    what goes wrong on purpose (`orderbell.sandbox.faults`)
`GET /`                    a page for people
`GET /healthz`             always 200, needs no token
=========================  ===================================================================================

It is a bare ASGI application because it shares the machine with what it measures.
"""

import asyncio
import contextlib
import datetime as dt
import hmac
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from orderbell.sandbox.faults import Dice, Faults
from orderbell.sandbox.ledger import (
    Delivery,
    Entry,
    Incoming,
    Ledger,
    Receipt,
    State,
    parse_attempt_id,
    ref_of,
)
from orderbell.sandbox.page import CONTENT_SECURITY_POLICY, render
from orderbell.sandbox.rules import refusal
from orderbell.serving import bind, serve_alone, serving, url_of

_BATCH_MAX: Final = 1_000
_SHOWN_COUNT: Final = 60
_BODY_BYTES_MAX: Final = 16 * 1024 * 1024
_RETRY_AFTER_S: Final = 1

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Clock = Callable[[], dt.datetime]


class _Batch(msgspec.Struct, frozen=True):
    messages: list[Incoming]


class _Asked(msgspec.Struct, frozen=True):
    attempt_ids: list[str]


class _Result(msgspec.Struct, frozen=True, omit_defaults=True):
    attempt_id: str
    code: str
    ref: str = ""
    detail: str = ""


class _Results(msgspec.Struct, frozen=True):
    results: list[_Result]


class _States(msgspec.Struct, frozen=True):
    results: list[State]


class _Receipts(msgspec.Struct, frozen=True):
    receipts: list[Receipt]
    ledger: str


class _Messages(msgspec.Struct, frozen=True):
    messages: list[Entry]


class _Failure(msgspec.Struct, frozen=True):
    error: str


class _Totals(msgspec.Struct, frozen=True):
    messages: int
    repeats: int
    channels: dict[str, int]
    topics: dict[str, int]
    deliveries: dict[str, int]
    refused: dict[str, int]


class _Request(msgspec.Struct, frozen=True):
    """A request whose body has been read; `client_gone` returns when nobody waits for the answer any more."""

    query: dict[str, list[str]]
    body: bytes
    client_gone: Callable[[], Awaitable[None]]


class _Response(msgspec.Struct, frozen=True):
    """An answer; `cut` breaks the connection in the middle of it."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    cut: bool = False


_Handler = Callable[[_Request], Awaitable[_Response | None]]

_encode = msgspec.json.Encoder().encode
_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_asked = msgspec.json.Decoder(_Asked).decode
_decode_faults = msgspec.json.Decoder(Faults).decode


class _BadRequest(Exception):
    """The request cannot be understood; the message says which field is wrong."""


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Sandbox:
    """The ASGI application; answers one ledger file until `close`.

    Args:
        ledger_path: the ledger; made if missing, otherwise gone on with.
        token: bearer token that every request but `/healthz` must carry, if given.
        clock: tells the time as aware UTC.

    Raises:
        LedgerUnusable: the ledger is damaged or another sandbox has it open.
    """

    def __init__(self, ledger_path: Path, *, token: str | None = None, clock: Clock = _utc_now) -> None:
        self._ledger = Ledger(ledger_path)
        self._authorization = None if token is None else f"Bearer {token}".encode()
        self._clock = clock
        self._dice = Dice(Faults())
        self._refused: Counter[str] = Counter()
        self._closing = asyncio.Event()
        self._handlers: dict[str, dict[str, _Handler]] = {
            "/v1/messages": {"POST": self._take, "GET": self._latest},
            "/v1/receipts": {"GET": self._receipts},
            "/v1/lookup": {"POST": self._look_up},
            "/v1/ledger/summary": {"GET": self._summary},
            "/v1/faults": {"GET": self._show_faults, "PUT": self._set_faults},
            "/": {"GET": self._page},
            "/healthz": {"GET": self._healthy},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] != "http":
            return
        response = await self._answer(scope, receive)
        if response is None:
            return
        headers = [
            (b"content-type", response.content_type),
            (b"content-length", str(len(response.body)).encode()),
            (b"x-content-type-options", b"nosniff"),
            *response.headers,
        ]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if response.cut:
            # uvicorn closes the connection of an application that ends before its answer does.
            half = response.body[: len(response.body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            return
        await send({"type": "http.response.body", "body": response.body})

    def end_waiting(self) -> None:
        """Let go of the requests that would never have been answered, so that the server can stop."""
        self._closing.set()

    def close(self) -> None:
        """Close the ledger; nothing can be taken afterwards."""
        self.end_waiting()
        self._ledger.close()

    async def _answer(self, scope: Scope, receive: Receive) -> _Response | None:
        handlers = self._handlers.get(scope["path"])
        if handlers is None:
            return _failure(404, f"no such path: {scope['path']}")
        handler = handlers.get(scope["method"])
        if handler is None:
            allowed = ", ".join(handlers).encode()
            return _failure(405, f"{scope['method']} is not for this path", (b"allow", allowed))
        if handler != self._healthy and not self._authorized(scope):
            return _failure(401, "wrong or missing bearer token", (b"www-authenticate", b"Bearer"))
        body = await _read_body(receive)
        if body is None:
            return _failure(413, f"body is larger than {_BODY_BYTES_MAX} bytes")

        async def client_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        query = parse_qs(scope["query_string"].decode("latin-1")) if scope["query_string"] else {}
        try:
            return await handler(_Request(query=query, body=body, client_gone=client_gone))
        except (_BadRequest, msgspec.DecodeError) as error:
            return _failure(400, str(error))

    def _authorized(self, scope: Scope) -> bool:
        if self._authorization is None:
            return True
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return hmac.compare_digest(given, self._authorization)

    async def _take(self, request: _Request) -> _Response | None:
        messages = _decode_batch(request.body).messages
        if len(messages) > _BATCH_MAX:
            raise _BadRequest(f"$.messages: {len(messages)} messages; at most {_BATCH_MAX} fit into a request")
        faults = self._dice.faults
        concerned = any(faults.concern(message.channel) for message in messages)
        if concerned and self._dice.strikes(faults.refuse):
            return _failure(503, "refusing on purpose")
        if concerned and self._dice.strikes(faults.throttle):
            retry_after = str(_RETRY_AFTER_S).encode()
            return _failure(429, "throttling on purpose", (b"retry-after", retry_after))
        response = _json(_Results(results=self._record(messages)))
        if not concerned:
            return response
        if faults.slow_ms:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), faults.slow_ms / 1_000)
        if self._dice.strikes(faults.timeout_after_accept):
            await self._never(request)
            return None
        if self._dice.strikes(faults.cut_after_accept):
            return msgspec.structs.replace(response, cut=True)
        return response

    def _record(self, messages: list[Incoming]) -> list[_Result]:
        """Check each message, write those that are taken into the ledger, and say what came of each."""
        results: list[_Result] = []
        taken: list[tuple[bytes, Incoming]] = []
        deliveries: list[Delivery] = []
        number = len(self._ledger)
        for message in messages:
            attempt_id = parse_attempt_id(message.attempt_id)
            refused = self._refusal(message, attempt_id)
            if attempt_id is None or refused is not None:
                code, detail = refused or ("bad_request", "")
                self._refused[code] += 1
                results.append(_Result(attempt_id=message.attempt_id, code=code, detail=detail))
                continue
            taken.append((attempt_id, message))
            deliveries.append(self._dice.delivery(message.channel, message.to))
            ref = ref_of(number + len(taken))
            results.append(_Result(attempt_id=message.attempt_id, code="ok", ref=ref))
        if taken:
            self._ledger.record(taken, deliveries, self._clock())
        return results

    def _refusal(self, message: Incoming, attempt_id: bytes | None) -> tuple[str, str] | None:
        if attempt_id is None:
            return "bad_request", "attempt_id must be 32 lower-case hexadecimal digits"
        refused = refusal(message)
        if refused is not None:
            return refused
        faults = self._dice.faults
        if faults.concern(message.channel) and self._dice.strikes(faults.error_body):
            return "E-4711", "failing on purpose with a code that nobody knows"
        return None

    async def _never(self, request: _Request) -> None:
        """Wait until the client gives up or the server stops, and give no answer."""
        waiting = {
            asyncio.ensure_future(request.client_gone()),
            asyncio.ensure_future(self._closing.wait()),
        }
        _, unfinished = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in unfinished:
            task.cancel()

    async def _latest(self, request: _Request) -> _Response:
        limit = _whole_number(request, "limit", 50, _BATCH_MAX)
        return _json(_Messages(messages=list(islice(reversed(self._ledger.recent), limit))))

    async def _receipts(self, request: _Request) -> _Response:
        after = _whole_number(request, "after", 0, 2**53)
        limit = _whole_number(request, "limit", 100, _BATCH_MAX)
        delay_s = self._dice.faults.receipt_delay_s
        if request.query.get("ledger", [self._ledger.id])[0] != self._ledger.id:
            after = 0  # the numbers of another ledger mean nothing here
        receipts = self._ledger.receipts(after, limit, self._clock(), delay_s)
        return _json(_Receipts(receipts=receipts, ledger=self._ledger.id))

    async def _look_up(self, request: _Request) -> _Response:
        texts = _decode_asked(request.body).attempt_ids
        if len(texts) > _BATCH_MAX:
            raise _BadRequest(f"$.attempt_ids: {len(texts)} ids; at most {_BATCH_MAX} fit into a request")
        now = self._clock()
        states: list[State] = []
        for index, text in enumerate(texts):
            attempt_id = parse_attempt_id(text)
            if attempt_id is None:
                raise _BadRequest(f"$.attempt_ids[{index}]: must be 32 lower-case hexadecimal digits")
            states.append(self._ledger.look_up(attempt_id, now, self._dice.faults.receipt_delay_s))
        return _json(_States(results=states))

    async def _summary(self, _: _Request) -> _Response:
        summary = self._ledger.summary()
        return _json(
            _Totals(
                messages=summary.messages,
                repeats=summary.repeats,
                channels=summary.channels,
                topics=summary.topics,
                deliveries=summary.deliveries,
                refused=dict(self._refused),
            )
        )

    async def _show_faults(self, _: _Request) -> _Response:
        return _json(self._dice.faults)

    async def _set_faults(self, request: _Request) -> _Response:
        self._dice = Dice(_decode_faults(request.body))
        return _json(self._dice.faults)

    async def _page(self, _: _Request) -> _Response:
        entries = islice(reversed(self._ledger.recent), _SHOWN_COUNT)
        return _Response(
            status=200,
            body=render(entries, self._ledger.summary()).encode(),
            content_type=b"text/html; charset=utf-8",
            headers=((b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),),
        )

    async def _healthy(self, _: _Request) -> _Response:
        return _Response(status=200, body=b"ok", content_type=b"text/plain")


def _json(value: msgspec.Struct) -> _Response:
    return _Response(status=200, body=_encode(value))


def _failure(status: int, error: str, *headers: tuple[bytes, bytes]) -> _Response:
    return _Response(status=status, body=_encode(_Failure(error=error)), headers=headers)


async def _read_body(receive: Receive) -> bytes | None:
    """Read the whole body, or None if it is too large."""
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


def _whole_number(request: _Request, name: str, default: int, maximum: int) -> int:
    text = request.query.get(name, [str(default)])[0]
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(maximum)) and int(text) <= maximum):
        raise _BadRequest(f"{name}: must be a whole number from 0 to {maximum}")
    return int(text)


def create_app(ledger_path: Path, *, token: str | None = None, clock: Clock = _utc_now) -> Sandbox:
    """Make the ASGI application over a ledger file (see `Sandbox`)."""
    return Sandbox(ledger_path, token=token, clock=clock)


@contextlib.asynccontextmanager
async def running(
    ledger_path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    clock: Clock = _utc_now,
) -> AsyncIterator[str]:
    """Run a sandbox inside this event loop for as long as the block lasts; gives its address.

    Raises:
        OSError: the port is taken or not allowed.
        LedgerUnusable: the ledger is damaged or in use.
    """
    with contextlib.closing(create_app(ledger_path, token=token, clock=clock)) as sandbox:
        async with serving(sandbox, host=host, port=port, stopping=sandbox.end_waiting) as url:
            yield url


async def serve(
    host: str,
    port: int,
    ledger_path: Path,
    *,
    token: str | None = None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Run a sandbox as a process of its own until SIGINT or SIGTERM.

    `announce` is called with its address once it can be connected to.

    Raises:
        OSError: the port is taken or not allowed.
        LedgerUnusable: the ledger is damaged or in use.
    """
    with contextlib.closing(create_app(ledger_path, token=token)) as sandbox:
        listener = bind(host, port)
        if announce is not None:
            announce(url_of(listener))
        await serve_alone(sandbox, listener)
