"""An HTTP client that costs next to nothing: requests are made before the clock starts, answers are hardly read."""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_ACCEPTED = re.compile(rb'\{"accepted":(\d+)')
_OK, _TAKEN = 200, 202


class Line(asyncio.Protocol):
    """One connection with one request at a time; `landed` hears of each answer."""

    def __init__(self, landed: Callable[["Line", int], None]) -> None:
        self._landed = landed
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.sent_at = 0.0
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of a class of their own

    def send(self, request: bytes) -> None:
        """Send the next request."""
        assert self._transport is not None
        self.sent_at = perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Find out whether the answer is complete, and how many events it accepts."""
        received = self._received = self._received + data
        head, found, body = received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n") if found else None
        if length is None or len(body) < int(length[1]):
            return
        self._received = b""
        status = int(received[9:12])
        if status not in (_OK, _TAKEN):
            raise RuntimeError(f"the API answered {received[:500]!r}")
        several = _ACCEPTED.match(body)
        if several and several[1] == b"0":
            raise RuntimeError(f"the API accepted nothing: {body[:500]!r}")
        self._landed(self, int(several[1]) if several else 1)

    def connection_lost(self, problem: Exception | None) -> None:
        """Tell whoever waits."""
        if not self.lost.done():
            self.lost.set_result(problem)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


def request_bytes(url: str, key: str, body: bytes) -> bytes:
    """One POST to `/v1/events`, as it goes over the wire."""
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Outcome:
    """What a run of the client came to: events accepted, and how long each request took in milliseconds."""

    def __init__(self) -> None:
        self.accepted = 0
        self.waits_ms: list[float] = []


async def drive(url: str, queues: Sequence[Sequence[bytes]]) -> Outcome:
    """Send each queue of requests over a connection of its own, the next one when the last is answered."""
    outcome = Outcome()
    rest = [deque(queue) for queue in queues]
    done = asyncio.get_running_loop().create_future()
    lines: dict[Line, deque[bytes]] = {}
    open_count = len(rest)

    def landed(line: Line, accepted: int) -> None:
        nonlocal open_count
        outcome.waits_ms.append((perf_counter() - line.sent_at) * 1000)
        outcome.accepted += accepted
        if lines[line]:
            line.send(lines[line].popleft())
        else:
            open_count -= 1
            if not open_count:
                done.set_result(None)

    for queue in rest:
        lines[await connect(url, landed)] = queue
    for line, queue in lines.items():
        line.send(queue.popleft())
    await _finish(done, lines)
    return outcome


async def pace(url: str, requests: Sequence[bytes], per_s: float, lines_max: int) -> list[float]:
    """Send requests at an even pace whatever the answers take; when each was due by `time.perf_counter`."""
    idle: asyncio.Queue[Line] = asyncio.Queue()
    waiting = len(requests)
    done = asyncio.get_running_loop().create_future()

    def landed(line: Line, _accepted: int) -> None:
        nonlocal waiting
        waiting -= 1
        idle.put_nowait(line)
        if not waiting and not done.done():
            done.set_result(None)

    lines = [await connect(url, landed) for _ in range(lines_max)]
    for line in lines:
        idle.put_nowait(line)
    began = perf_counter()
    moments = [began + number / per_s for number in range(len(requests))]
    for moment, request in zip(moments, requests, strict=True):
        rest_s = moment - perf_counter()
        if rest_s > 0:
            await asyncio.sleep(rest_s)
        (await idle.get()).send(request)
    await _finish(done, lines)
    return moments


async def connect(url: str, landed: Callable[[Line, int], None]) -> Line:
    """Open one connection."""
    parts = urlsplit(url)
    _, line = await asyncio.get_running_loop().create_connection(
        lambda: Line(landed), parts.hostname or "", parts.port or 80
    )
    return line


async def _finish(done: "asyncio.Future[None]", lines: "Sequence[Line] | dict[Line, deque[bytes]]") -> None:
    await asyncio.wait([done, *(line.lost for line in lines)], return_when=asyncio.FIRST_COMPLETED)
    if not done.done():
        raise RuntimeError("the API hung up before it had answered everything")
    for line in lines:
        line.close()
