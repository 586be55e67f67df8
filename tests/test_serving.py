"""Serving: a port belongs to one process, unless all who listen on it say that they share it."""

import asyncio
import contextlib
from typing import Any

import httpx
import pytest

from orderbell.serving import HEAD_BYTES_MAX, bind, serving

PATIENCE_S = 20


def test_port_is_taken_by_one() -> None:
    """Two who do not share cannot listen on one port."""
    first = bind("127.0.0.1", 0)
    with first, pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", first.getsockname()[1])


def test_port_is_shared_by_those_who_say_so() -> None:
    """Two who share listen on one port; one who does not is still refused."""
    first = bind("127.0.0.1", 0, shared=True)
    port = first.getsockname()[1]
    with first, bind("127.0.0.1", port, shared=True), pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", port)


async def _echo(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - an ASGI application
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{len(scope['headers'])} {length}".encode()})


ENDLESS = {
    "address": (b"GET /", b"a"),
    "header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"a"),
    "name": (b"GET / HTTP/1.1\r\nHost: a\r\nX", b"a"),
    "headers": (b"GET / HTTP/1.1\r\nHost: a\r\n", b"A:b\r\n"),
    "trailers": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A:b\r\n"),
    "chunk": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a"),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_endless_head_is_cut_off(what: str) -> None:
    """Who sends an address, headers or trailers without an end must be cut off, long before memory is short."""
    begin, piece = ENDLESS[what]
    async with serving(_echo) as url, asyncio.timeout(PATIENCE_S):
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begin)
        sent = 0
        with contextlib.suppress(OSError):
            while not reader.at_eof():
                block = piece * (16 * 1024 // len(piece))
                writer.write(block)
                await writer.drain()
                sent += len(block)
                await asyncio.sleep(0)
        writer.close()
        assert sent < 200 * HEAD_BYTES_MAX


async def test_long_bodies_and_usual_heads_pass() -> None:
    """The end of a head is none of bodies, and it counts anew for each request of a connection."""
    async with serving(_echo) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        for _ in range(4):
            large = {"x-large": "a" * (HEAD_BYTES_MAX // 2)}
            answer = await http.post("/" + "a" * 4000, headers=large, content=b"a" * 4_000_000)
            assert answer.text.endswith(" 4000000")
        many = {f"x-{number}": "b" for number in range(300)}
        assert (await http.get("/", headers=many)).status_code == 200
        assert (await http.get("/", headers={"x-large": "a" * 2 * HEAD_BYTES_MAX})).status_code == 400
