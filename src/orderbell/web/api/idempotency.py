"""`Idempotency-Key`: a change that is sent again with the same key is made once, and gets the first answer again.

As draft-ietf-httpapi-idempotency-key-header-07: the key is a text of up to 255 characters, in quotation marks or not,
that the client chose at random. It belongs to the API key that sent it and to one request: method, address, body, and
the version that it was made for (`If-Match`). Another request under it is refused with 422, one that comes while the
first is under way with 409. Answers are remembered for 24 hours. What says "not now" or "not you" (401, 403, 408, 429,
5xx) is no answer: the key is free again.

Events need no such key, they have ids of their own.
"""

import asyncio
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Middleware, Receive, ReceiveMessage, Scope, Send
from msgspec import Struct

from orderbell.errors import DatabaseUnavailable
from orderbell.observe import count
from orderbell.store.idempotency import Claim, Given, KnownAnswers
from orderbell.web.access import CallerOf, say_no
from orderbell.web.api.limits import bearer_of

METHODS: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
HEADER: Final = "Idempotency-Key"
BODY_BYTES_MAX: Final = 2 * 1024 * 1024
ANSWER_BYTES_MAX: Final = 1024 * 1024
"""A longer answer is not kept, so its key is free again; no change has one."""

BODY_WITHIN_S: Final = 30
RETRY_AFTER_S: Final = 1

_NO_ANSWER: Final = frozenset({401, 403, 408, 429})
_SERVER_ERROR: Final = 500
_KEPT_HEADERS: Final = frozenset({
    b"content-type", b"location", b"etag", b"cache-control", b"x-content-type-options", b"deprecation",
})  # fmt: skip
_KEY = re.compile(r'"?([!#-~]{1,255})"?')

log = structlog.get_logger()

KnownOf = Callable[[str], KnownAnswers]
"""The answers of a tenant."""


class _Answer(Struct, array_like=True):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(_Answer).decode


def once(known_of: KnownOf, caller_of_key: CallerOf, now: Callable[[], datetime]) -> Middleware:
    """Makes changes that bring an `Idempotency-Key` once; lies before the routes that need an API key."""
    middleware = _Once(known_of, caller_of_key, now)

    def wrap(app: ASGIApp) -> ASGIApp:
        return middleware(app)  # a function, because Litestar makes deep copies of all but functions

    return wrap


class _Once(ASGIMiddleware):
    scopes = (ScopeType.HTTP,)

    def __init__(self, known_of: KnownOf, caller_of_key: CallerOf, now: Callable[[], datetime]) -> None:
        self._known_of, self._caller_of_key, self._now = known_of, caller_of_key, now

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        named = _header(scope["headers"], b"idempotency-key")
        api_key = bearer_of(scope["headers"])
        if scope["type"] != ScopeType.HTTP or scope["method"] not in METHODS or named is None or not api_key:
            await next_app(scope, receive, send)
            return
        caller = await self._caller_of_key(api_key)
        if caller is None:
            await next_app(scope, receive, send)  # which says so
            return
        name = _read_name(named)
        body = await _read_body(receive)
        if body is None:
            return
        known = self._known_of(caller.tenant)
        found = await known.claim(
            known.hash_of(api_key.encode(), name), f"{scope['method']} {scope['path_template']}",
            known.hash_of(*_request_of(scope), body), self._now(),
        )  # fmt: skip
        if isinstance(found, Claim):
            await self._answer_first(known, found, (scope, _again(body, receive), send), next_app)
        elif isinstance(found, Given):
            count("api.replayed")
            await _send(_decode(found.answer), send, replayed=True)
        elif found == "mismatch":
            detail = f"{HEADER}: this key was used for another request; take a new one"
            say_no(422, "idempotency_mismatch", "The request is refused", detail, HEADER)
        else:
            raise _in_progress()

    async def _answer_first(
        self, known: KnownAnswers, claim: Claim, asked: tuple[Scope, Receive, Send], next_app: ASGIApp
    ) -> None:
        scope, receive, send = asked
        answer = _Answer(_SERVER_ERROR, [], b"")

        async def hold(message: Message) -> None:
            nonlocal answer
            if message["type"] == "http.response.start":
                answer = _Answer(message["status"], list(message.get("headers", [])), b"")
            elif message["type"] == "http.response.body":
                answer.body += message["body"]

        await next_app(scope, receive, hold)
        try:
            if _is_final(answer):
                kept = [(name, value) for name, value in answer.headers if name.lower() in _KEPT_HEADERS]
                await known.keep(claim, answer.status, _encode(_Answer(answer.status, kept, answer.body)))
            else:
                await known.release(claim)
        except DatabaseUnavailable as problem:
            # The change is made, and its answer is true; the key stays claimed for some minutes.
            log.warning("answer not kept", problem=str(problem))
        await _send(answer, send)


def _is_final(answer: _Answer) -> bool:
    return answer.status < _SERVER_ERROR and answer.status not in _NO_ANSWER and len(answer.body) <= ANSWER_BYTES_MAX


def _header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    return next((value for name, value in headers if name == wanted), None)


def _read_name(named: bytes) -> bytes:
    found = _KEY.fullmatch(named.decode("latin-1").strip())
    if found is None:
        detail = f"{HEADER}: choose a key of 1 to 255 visible ASCII characters, such as a UUID"
        say_no(422, "wrong_value", "The request is refused", detail, HEADER)
    return found[1].encode()


def _request_of(scope: HTTPScope) -> tuple[bytes, ...]:
    media_type, seen = (_header(scope["headers"], name) or b"" for name in (b"content-type", b"if-match"))
    return scope["method"].encode(), scope["path"].encode(errors="replace"), scope["query_string"], media_type, seen


async def _read_body(receive: Receive) -> bytes | None:
    """Read the body, which is part of what the key stands for; None when the client went away over it."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                body += message["body"]
                if len(body) > BODY_BYTES_MAX:
                    detail = f"a request with {HEADER} has at most {BODY_BYTES_MAX:,} bytes"
                    say_no(413, "too_large", "Too large", detail)
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        say_no(408, "too_slow", "Request timeout", f"the body did not arrive within {BODY_WITHIN_S} s")


def _again(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read already, then what comes after it."""
    given = False

    async def receive_again() -> ReceiveMessage:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def _send(answer: _Answer, send: Send, *, replayed: bool = False) -> None:
    headers = answer.headers
    if replayed:
        length = str(len(answer.body)).encode()
        headers = [*headers, (b"content-length", length), (b"idempotent-replayed", b"true")]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})


def _in_progress() -> HTTPException:
    detail = f"{HEADER}: the first request with this key is still under way; send the same again soon"
    extra = {"reason": "in_progress", "title": "In progress", "field": HEADER}
    return HTTPException(detail=detail, status_code=409, headers={"Retry-After": str(RETRY_AFTER_S)}, extra=extra)
