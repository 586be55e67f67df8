"""The Python client for shops: tell OrderBell what happened to an order.

::

    client = orderbell.Client("http://127.0.0.1:8470", key="ob_…", source="my-shop")
    client.tell("payment.failed", "123456", reason="余额不足")

It needs nothing but the standard library and msgspec, may be shared by threads, and survives a fork. Whatever may have
been lost on the way is sent again with the same ids, so it counts once.
"""

import contextlib
import hashlib
import http.client
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

import msgspec

from orderbell import __version__
from orderbell.errors import RequestFailed

EVENTS_MAX: Final = 1_000
"""Events in one request."""

BODY_BYTES_MAX: Final = 7 * 1024 * 1024
"""Bytes in one request; the server takes 8 MB."""

_PAUSE_S: Final = 0.1
_PAUSE_MAX_S: Final = 5.0
_IDLE_CONNECTIONS_MAX: Final = 8
_IDLE_S: Final = 4.0  # less than uvicorn keeps an idle connection
_ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
_TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONFLICT, _UNPROCESSABLE, _TOO_LARGE = 409, 422, 413


class Answer(msgspec.Struct, frozen=True):
    """What became of an event; `field` and `detail` say what is wrong with a refused one."""

    id: str
    status: Literal["accepted", "duplicate", "refused"]
    reason: str = ""
    field: str = ""
    detail: str = ""


class EventRefused(RequestFailed):
    """OrderBell refused an event, and would again: it must be mended first."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"the event {answer.id!r} is refused ({answer.reason}): {answer.detail}")
        self.answer = answer
        self.id, self.reason, self.field, self.detail = answer.id, answer.reason, answer.field, answer.detail


class _Problem(msgspec.Struct):
    detail: str = ""
    reason: str = ""
    field: str = ""


class _Answers(msgspec.Struct):
    results: list[Answer]


class _Reply(msgspec.Struct):
    status: int
    body: bytes
    retry_after: str | None


_encode = msgspec.json.Encoder(order="deterministic").encode


class Client:
    """Tells one OrderBell what happens to the orders of one shop.

    Args:
        url: Where OrderBell is, such as `http://127.0.0.1:8470`.
        key: An API key, `ob_…`. It goes over the wire: use https beyond your own machine.
        source: The name of your shop or system; event ids need to be unique within it only.
        timeout_s: How long a call may take in all, tries and pauses included.

    Raises:
        ValueError: `url` is no http or https address, or `key` no API key.
    """

    def __init__(self, url: str, *, key: str, source: str, timeout_s: float = 30.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
            raise ValueError(f"url={url!r}: give an address such as http://127.0.0.1:8470")
        if not key.startswith("ob_") or not key.isascii() or not key.isprintable():
            raise ValueError("key: an API key of OrderBell begins with ob_")
        self.url, self.source, self.timeout_s = url.rstrip("/"), source, timeout_s
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._path = f"{parts.path.rstrip('/')}/v1/events"
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            "User-Agent": f"orderbell-python/{__version__}",
        }
        self._clock: Callable[[], float] = time.monotonic
        self._sleep: Callable[[float], None] = time.sleep
        self._lock = threading.Lock()
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []
        self._process = os.getpid()

    def __repr__(self) -> str:
        return f"Client({self.url!r}, source={self.source!r})"  # never the key

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def tell(
        self,
        type: str,
        order_no: str,
        /,
        *,
        id: str | None = None,
        time: datetime | None = None,
        playbook: str = "",
        **data: object,
    ) -> Answer:
        """Tell that something happened to an order; returns when it is decided and durable.

        Arguments are those of `event`.

        Raises:
            EventRefused: The event is wrong; `field` and `detail` say how. A subclass of RequestFailed.
            RequestFailed: OrderBell could not be asked, or did not confirm within `timeout_s`. The event may count
                all the same: tell it again with the same `id`.
        """
        event = self.event(type, order_no, id=id, time=time, playbook=playbook, **data)
        (answer,) = self._send([_encoded(event)])
        if answer.status == "refused":
            raise EventRefused(answer)
        return answer

    def tell_many(self, events: Iterable[Mapping[str, Any]]) -> list[Answer]:
        """Tell many things in as few requests as they need; the answers are in their order, refusals among them.

        Args:
            events: What `event` returns, or CloudEvents of your own. Those of one order are decided in their order.

        Raises:
            RequestFailed: As `tell`; the events of earlier requests count. Tell the same events again: what was
                taken is answered as a duplicate.
        """
        answers: list[Answer] = []
        for part in _parts(_encoded(event) for event in events):
            answers += self._send(part)
        return answers

    def event(
        self,
        type: str,
        order_no: str,
        /,
        *,
        id: str | None = None,
        time: datetime | None = None,
        playbook: str = "",
        **data: object,
    ) -> dict[str, Any]:
        """Make an event to be told later, or again.

        Args:
            type: What happened, such as `payment.failed`.
            order_no: The number of the order.
            id: Names the event within `source`: what is told twice under one id counts once. Give the id of your own
                row or message, so that it is the same in another process after a crash. Without it, an event with a
                `time` is named by its content and counts once however often it is told; one without is new each time.
            time: When it happened, with a time zone; without it, when it arrives.
            playbook: Which playbook a new order follows, if not the usual one.
            data: The fields of this type, such as `reason` or `amount_fen`; `people` brings phone numbers and the like:
                `people={"buyer": {"phone": "+8613800138000"}}`. A name that Python keeps for itself goes in
                as `**{"from": "buyer"}`.

        Raises:
            ValueError: `time` has no time zone.
        """
        if time is not None and time.tzinfo is None:
            raise ValueError("time: a time zone is missing, such as datetime.now(timezone.utc)")
        event: dict[str, Any] = {"specversion": "1.0", "source": self.source, "type": type, "subject": order_no}
        if time is not None:
            event["time"] = time.astimezone(UTC)
        if playbook:
            event["playbook"] = playbook
        event["data"] = data
        event["id"] = id if id is not None else _name_of(event)
        return event

    def close(self) -> None:
        """Close the idle connections; the client can be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _send(self, events: Sequence[bytes]) -> list[Answer]:
        single = len(events) == 1
        reply = self._ask(events[0] if single else b"[" + b",".join(events) + b"]")
        try:
            if reply.status in {200, 202}:
                if single:
                    return [msgspec.json.decode(reply.body, type=Answer)]
                answers = msgspec.json.decode(reply.body, type=_Answers).results
                if len(answers) == len(events):
                    return answers
                raise RequestFailed(f"{self.url} gave {len(answers)} answers to {len(events)} events")
            problem = msgspec.json.decode(reply.body, type=_Problem)
        except (msgspec.DecodeError, UnicodeDecodeError):
            hint = "; does the address lead to OrderBell?"
            raise RequestFailed(f"{self.url} answers HTTP {reply.status}, but not as OrderBell does{hint}") from None
        if single and reply.status in {_CONFLICT, _UNPROCESSABLE, _TOO_LARGE}:
            name = str(msgspec.json.decode(events[0]).get("id", ""))
            return [Answer(name, "refused", problem.reason, problem.field, problem.detail)]
        raise RequestFailed(f"{self.url} answers HTTP {reply.status}: {problem.detail}")

    def _ask(self, body: bytes) -> _Reply:
        """Ask until there is an answer that asking again would not better, or the time is up."""
        ends_at = self._clock() + self.timeout_s
        pause_s = _PAUSE_S
        while True:
            problem, asked_s = "", 0.0
            try:
                reply = self._ask_once(body, ends_at)
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if reply.status not in _TRY_AGAIN:
                    return reply
                problem = f"HTTP {reply.status}: {reply.body[:200].decode(errors='replace')}"
                asked_s = _seconds_of(reply.retry_after)
            # Half of it by chance, so that clients that failed together do not come back together.
            rest_s = max(asked_s, pause_s * (0.5 + random.random() / 2))  # noqa: S311 - no secret
            pause_s = min(pause_s * 2, _PAUSE_MAX_S)
            if self._clock() + rest_s >= ends_at:
                raise RequestFailed(f"{self.url} did not confirm within {self.timeout_s:g} s; the last try: {problem}")
            self._sleep(rest_s)

    def _ask_once(self, body: bytes, ends_at: float) -> _Reply:
        connection = self._idle_connection()
        if connection is not None:
            # A server may close an idle connection at any time: that says nothing of the next one.
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self._exchange(connection, body, ends_at)
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return self._exchange(kind(self._host, self._port), body, ends_at)

    def _exchange(self, connection: http.client.HTTPConnection, body: bytes, ends_at: float) -> _Reply:
        kept = False
        try:
            connection.timeout = max(ends_at - self._clock(), 0.001)
            if connection.sock is not None:
                connection.sock.settimeout(connection.timeout)
            connection.request("POST", self._path, body, self._headers)
            response = connection.getresponse()
            answer = response.read(_ANSWER_BYTES_MAX)
            if response.length:  # cut in the middle, which reading up to a limit does not tell
                raise http.client.IncompleteRead(answer, response.length)
            kept = response.isclosed() and not response.will_close
            if kept:
                self._keep(connection)
            return _Reply(response.status, answer, response.getheader("Retry-After"))
        finally:
            if not kept:
                connection.close()

    def _idle_connection(self) -> http.client.HTTPConnection | None:
        with self._lock:
            if self._process != os.getpid():
                # After a fork they belong to the parent; two processes on one connection would mix their answers.
                self._process, self._idle = os.getpid(), []
            while self._idle:
                connection, since = self._idle.pop()
                if self._clock() - since < _IDLE_S:
                    return connection
                connection.close()
        return None

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if self._process == os.getpid() and len(self._idle) < _IDLE_CONNECTIONS_MAX:
                self._idle.append((connection, self._clock()))
                return
        connection.close()


def _name_of(event: Mapping[str, Any]) -> str:
    # Without a time two events of the same content may be two events, such as two failed payments.
    return hashlib.sha256(_encoded(event)).hexdigest()[:32] if "time" in event else uuid.uuid4().hex


def _encoded(event: Mapping[str, Any]) -> bytes:
    return _encode(event)


def _parts(events: Iterable[bytes]) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    length = 0
    for event in events:
        if part and (len(part) == EVENTS_MAX or length + len(event) > BODY_BYTES_MAX):
            yield part
            part, length = [], 0
        part.append(event)
        length += len(event) + 1
    if part:
        yield part


def _seconds_of(retry_after: str | None) -> float:
    """Read a Retry-After header (RFC 9110 section 10.2.3) as seconds; nonsense is 0."""
    if retry_after is None:
        return 0.0
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
        return max((moment - datetime.now(UTC)).total_seconds(), 0.0) if moment.tzinfo else 0.0
    except ValueError:
        return 0.0
