"""The way in over HTTP: `POST /v1/events` takes a CloudEvent or a list of up to 1,000 and answers after commit.

One event is answered by the status: 202 accepted, 200 duplicate, 409 the id came before with another body, 422 refused,
400 not JSON, 413 too large. A list is answered item for item, in its order, with 200; only when no item could be told
from another is the whole refused. 429 and 503 mean: send the same again later, what was taken meanwhile is
answered as a duplicate.

The route is bare ASGI, because everything that happens comes through it: a handler of Litestar costs 73 µs a request,
Litestar's routing around this one 13. It describes itself in `orderbell.sources.schema`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Final

import msgspec
import structlog
from litestar import asgi
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, ReceiveMessage, Scope, Send

from orderbell.core.events import Answer, Event, Status, parse_events
from orderbell.errors import OrderBellError, ScopeMissing
from orderbell.observe.figures import tally
from orderbell.sources.schema import PATH, describe_route

log = structlog.get_logger()

BODY_BYTES_MAX: Final = 8 * 1024 * 1024
BODY_WITHIN_S: Final = 30
"""How long a client may take over the body of one request."""

MEDIA_TYPES: Final = frozenset(
    {b"application/cloudevents+json", b"application/cloudevents-batch+json", b"application/json"}
)
BUSY_RETRY_AFTER_S: Final = 1
AWAY_RETRY_AFTER_S: Final = 2

Submit = Callable[[list[Event]], Awaitable[list[Answer]]]
"""Has events decided and returns their answers, aligned, after commit."""

TenantOfKey = Callable[[str], Awaitable[str | None]]
"""Says whose API key it is, None when nobody's."""

Now = Callable[[], datetime]
"""The wall clock as aware UTC."""

_BAD_REQUEST, _TOO_LARGE, _CONFLICT, _UNPROCESSABLE = 400, 413, 409, 422
_STATUS_OF: Final = {"not_json": _BAD_REQUEST, "too_large": _TOO_LARGE, "altered_duplicate": _CONFLICT}
_TITLE_OF: Final = {
    "not_json": "Not JSON", "too_large": "Too large", "altered_duplicate": "Same id, another body",
    "batch_too_long": "Too many events in one request", "missing_field": "A field is missing",
    "unknown_type": "Unknown event type", "bad_order_no": "Not an order number", "time_in_future": "Time in the future",
    "reserved": "Reserved name", "not_a_number": "Not a number", "too_deep": "Nested too deeply",
}  # fmt: skip


class Answers(msgspec.Struct, frozen=True):
    """The answer to a list: how many of each, and each, in the order of the list."""

    accepted: int
    duplicate: int
    refused: int
    results: list[Answer]


_encode = msgspec.json.Encoder().encode


def events_route(submit: Submit, tenant_of_key: TenantOfKey, now: Now, *, busy: type[Exception]) -> ASGIRouteHandler:
    """Make the route.

    Args:
        submit: Raises `busy` when more events wait than can be taken soon (answered by 429), and any other
            OrderBellError when they cannot be decided at all (503).
        tenant_of_key: Raises ScopeMissing for a key that may bring no events (403), another OrderBellError when it
            cannot look the key up (503).
        now: Tells when the events were received.
        busy: See `submit`.
    """

    async def take_events(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.WEBSOCKET:
            await send({"type": "websocket.close", "code": 1008, "reason": "only POST is answered here"})
            return
        if scope["method"] != "POST":
            raise turned_away(405, "wrong_method", "Method not allowed", "send events with POST", {"Allow": "POST"})
        tenant = await _tenant(scope["headers"], tenant_of_key)
        body = await _read_body(scope["headers"], receive)
        if body is None:
            return
        parsed = parse_events(body, tenant, now())
        answers = await _submit(parsed, submit, busy)
        if body.lstrip()[:1] != b"[":
            await _answer_one(answers[0], send)
        elif (
            len(answers) == 1 and not answers[0].id and answers[0].reason in {"not_json", "too_deep", "batch_too_long"}
        ):
            raise _refusal(answers[0])
        else:
            await _answer_list(answers, send)

    description = describe_route(Answers, BODY_BYTES_MAX)
    return asgi(PATH, copy_scope=False, opt={"openapi": description, "right": "events:write"})(take_events)


def turned_away(
    status: int, reason: str, title: str, detail: str, headers: dict[str, str] | None = None
) -> HTTPException:
    """A problem document (RFC 9457), to be raised."""
    extra = {"reason": reason, "title": title}
    return HTTPException(detail=detail, status_code=status, headers=headers, extra=extra)


def _refusal(answer: Answer) -> HTTPException:
    title = _TITLE_OF.get(answer.reason, "The event is refused")
    extra = {"reason": answer.reason, "title": title, "field": answer.field, "id": answer.id}
    status = _STATUS_OF.get(answer.reason, _UNPROCESSABLE)
    return HTTPException(detail=answer.detail, status_code=status, extra=extra)


async def _tenant(headers: Iterable[tuple[bytes, bytes]], tenant_of_key: TenantOfKey) -> str:
    scheme, _, key = _header(headers, b"authorization").partition(b" ")
    if scheme.lower() != b"bearer":
        detail = "send an API key of yours: Authorization: Bearer ob_…"
        raise turned_away(401, "no_key", "No API key", detail, {"WWW-Authenticate": 'Bearer realm="orderbell"'})
    try:
        tenant = await tenant_of_key(key.strip().decode("latin-1"))
    except ScopeMissing as problem:
        raise turned_away(403, "missing_scope", "The key may not do this", str(problem)) from problem
    except OrderBellError as problem:
        raise _away(problem) from problem
    if tenant is None:
        challenge = {"WWW-Authenticate": 'Bearer realm="orderbell", error="invalid_token"'}
        raise turned_away(401, "bad_key", "No valid API key", "this API key is not known, or was revoked", challenge)
    return tenant


def _header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    for name, value in headers:
        if name == wanted:
            return value
    return b""


async def _read_body(headers: Iterable[tuple[bytes, bytes]], receive: Receive) -> bytes | None:
    """Read the request's body; None when the client went away over it."""
    media_type = _header(headers, b"content-type").partition(b";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        accepted = ", ".join(sorted(name.decode() for name in MEDIA_TYPES))
        raise turned_away(415, "wrong_media_type", "Unsupported media type", f"Content-Type: send one of {accepted}")
    if _header(headers, b"content-encoding").strip().lower() not in {b"", b"identity"}:
        raise turned_away(415, "wrong_encoding", "Unsupported encoding", "Content-Encoding: send the body uncompressed")
    length = _header(headers, b"content-length")
    if length.isdigit() and (len(length) > len(str(BODY_BYTES_MAX)) or int(length) > BODY_BYTES_MAX):
        raise _body_too_large()
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return _within_limit(message["body"])
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            return await _read_rest(message, receive)
    except TimeoutError:
        detail = f"the body did not arrive within {BODY_WITHIN_S} s"
        raise turned_away(408, "too_slow", "Request timeout", detail, {"Connection": "close"}) from None


async def _read_rest(message: ReceiveMessage, receive: Receive) -> bytes | None:
    parts: list[bytes] = []
    length = 0
    while message["type"] == "http.request":
        parts.append(message["body"])
        length += len(message["body"])
        if length > BODY_BYTES_MAX:
            raise _body_too_large()
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    return None


def _within_limit(body: bytes) -> bytes:
    if len(body) > BODY_BYTES_MAX:
        raise _body_too_large()
    return body


def _body_too_large() -> HTTPException:
    detail = f"a request body has at most {BODY_BYTES_MAX:,} bytes; send the events in several requests"
    return turned_away(_TOO_LARGE, "too_large", _TITLE_OF["too_large"], detail)


async def _submit(parsed: list[Event | Answer], submit: Submit, busy: type[Exception]) -> list[Answer]:
    """Have the events among them decided, and put the answers in their places between the refusals."""
    events = [item for item in parsed if isinstance(item, Event)]
    if len(events) < len(parsed):
        _note_refused(parsed)
    try:
        answers = iter(await submit(events) if events else ())
    except busy as problem:
        headers = {"Retry-After": str(BUSY_RETRY_AFTER_S)}
        detail = "more events wait than can be taken soon; none of these was taken, send them again later"
        raise turned_away(429, "busy", "Too many events", detail, headers) from problem
    except OrderBellError as problem:
        raise _away(problem) from problem
    return [next(answers) if isinstance(item, Event) else item for item in parsed]


def _note_refused(parsed: list[Event | Answer]) -> None:
    # What is decided is counted where it is decided; these go no further than here.
    for item in parsed:
        if isinstance(item, Answer):
            tally("events", (item.status,))
            tally("events_refused", (item.reason,))


def _away(problem: OrderBellError) -> HTTPException:
    # What the problem says may name hosts and accounts: for the log, not for the client.
    log.warning("events turned away", problem=str(problem), kind=type(problem).__name__)
    headers = {"Retry-After": str(AWAY_RETRY_AFTER_S)}
    detail = "nothing can be confirmed at the moment; send the same events with the same ids again later"
    return turned_away(503, "unavailable", "Unavailable", detail, headers)


async def _answer_one(answer: Answer, send: Send) -> None:
    if answer.status is Status.REFUSED:
        raise _refusal(answer)
    await _send_json(202 if answer.status is Status.ACCEPTED else 200, _encode(answer), send)


async def _answer_list(answers: list[Answer], send: Send) -> None:
    await _send_json(200, _encode(counted(answers)), send)


def counted(answers: list[Answer]) -> Answers:
    """Answers with how many there are of each kind."""
    counts = dict.fromkeys(Status, 0)
    for answer in answers:
        counts[answer.status] += 1
    return Answers(counts[Status.ACCEPTED], counts[Status.DUPLICATE], counts[Status.REFUSED], answers)


async def _send_json(status: int, body: bytes, send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
