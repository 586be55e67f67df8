"""The seam must tell what surely was not sent from what perhaps was, on real sockets."""

import asyncio
import contextlib
import datetime as dt
import email.utils
import socket
from collections.abc import AsyncIterator

import pytest

from orderbell.channels.http import HttpClient, NoReply, Reply, Verdict, judge, parse_retry_after
from orderbell.channels.protocol import Outcome
from tests.raw_server import (
    Behaviour,
    answering,
    close_at_once,
    hang,
    hang_in_the_answer,
    http_answer,
    raw_server,
    read_request,
    reset_after_reading,
    unused_port,
)


@contextlib.asynccontextmanager
async def client(url: str, *, connect_timeout_s: float = 0.4, timeout_s: float = 0.5) -> AsyncIterator[HttpClient]:
    """Make an impatient client for one test."""
    http = HttpClient(url, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s)
    try:
        yield http
    finally:
        await http.close()


@pytest.mark.parametrize(
    "behave",
    [
        close_at_once,
        reset_after_reading,
        hang,
        hang_in_the_answer,
        answering(b""),
        answering(b"HTTP/1.1 200 OK\r\ncontent-le"),
        answering(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"results"'),
        answering(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        answering(http_answer(b"no gzip", headers="content-encoding: gzip\r\n")),
        answering(http_answer(b" " * (8 * 1024 * 1024 + 1))),
    ],
    ids=[
        "closed at once",
        "reset after reading",
        "no answer",
        "half an answer, then silence",
        "closed after reading",
        "half a head",
        "half a body",
        "another protocol",
        "broken encoding",
        "endless body",
    ],
)
async def test_request_when_connected_then_lost(behave: Behaviour) -> None:
    """Once a connection was made, the request must count as perhaps sent, whatever class the error has."""
    async with raw_server(behave) as url, client(url) as http:
        answered = await http.request("POST", "/", b"x" * 2_000)
    assert isinstance(answered, NoReply)
    assert answered.perhaps_sent
    assert answered.detail


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_request_when_refused(scheme: str) -> None:
    """A refused connection must count as surely not sent."""
    async with client(f"{scheme}://127.0.0.1:{unused_port()}") as http:
        answered = await http.request("POST", "/", b"x")
    assert isinstance(answered, NoReply)
    assert not answered.perhaps_sent


async def test_request_to_unknown_host() -> None:
    """A name that does not resolve must count as surely not sent (RFC 6761: .invalid never resolves)."""
    async with client("http://orderbell.invalid", connect_timeout_s=9, timeout_s=10) as http:
        answered = await http.request("POST", "/", b"x")
    assert isinstance(answered, NoReply)
    assert not answered.perhaps_sent


@pytest.mark.parametrize("behave", [close_at_once, hang], ids=["closed", "silent"])
async def test_request_when_tls_fails(behave: Behaviour) -> None:
    """A TLS handshake that fails or never ends must count as surely not sent."""
    async with raw_server(behave) as url, client(url.replace("http:", "https:"), timeout_s=5) as http:
        answered = await http.request("POST", "/", b"x")
    assert isinstance(answered, NoReply)
    assert not answered.perhaps_sent


async def test_request_when_connecting_times_out() -> None:
    """A connection that is never made must count as surely not sent."""
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # more than its queue holds, so that the next one gets no answer
            other = waiting.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        async with client(f"http://127.0.0.1:{full.getsockname()[1]}", timeout_s=5) as http:
            answered = await http.request("POST", "/", b"x")
    assert isinstance(answered, NoReply)
    assert not answered.perhaps_sent


async def test_request_on_connection_that_the_server_closed() -> None:
    """A kept connection that is cut while it carries the next request must count as perhaps sent."""

    async def answer_then_cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http_answer(b"ok"))
        await writer.drain()
        await read_request(reader)

    async with raw_server(answer_then_cut) as url, client(url) as http:
        first = await http.request("POST", "/", b"x")
        second = await http.request("POST", "/", b"x")
    assert isinstance(first, Reply)
    assert isinstance(second, NoReply)
    assert second.perhaps_sent


async def test_request_detail_hides_address() -> None:
    """An error must not repeat the address, in which some providers want a secret."""
    async with client(f"http://127.0.0.1:{unused_port()}") as http:
        answered = await http.request("POST", "/hook?key=canary", b"x")
    assert isinstance(answered, NoReply)
    assert "canary" not in answered.detail


async def test_request_with_token() -> None:
    """The token must be sent as bearer token, the body as it is."""
    seen: list[bytes] = []

    async def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        seen.append(await reader.readexactly(2))
        writer.write(http_answer(b"ok", headers="retry-after: 7\r\n"))

    async with raw_server(look) as url:
        http = HttpClient(url, token="s3cret")
        assert await http.request("PUT", "/a?b=c", b"{}") == Reply(status=200, body=b"ok", retry_after_s=7)
        await http.close()
    head, body = seen
    assert head.startswith(b"PUT /a?b=c HTTP/1.1\r\n")
    assert b"authorization: bearer s3cret\r\n" in head.lower().replace(b"Bearer", b"bearer")
    assert body == b"{}"


async def test_request_on_closed_client() -> None:
    """A closed client must answer like a failed one, and not raise."""
    async with client(f"http://127.0.0.1:{unused_port()}") as http:
        await http.close()
        assert isinstance(await http.request("GET", "/"), NoReply)


@pytest.mark.parametrize(("connect_timeout_s", "timeout_s"), [(2, 2), (3, 2), (0, 2)])
def test_client_with_contradicting_timeouts(connect_timeout_s: float, timeout_s: float) -> None:
    """Timeouts that could not tell a slow connect from a lost answer must be refused."""
    with pytest.raises(ValueError, match="connect_timeout_s"):
        HttpClient("http://127.0.0.1", connect_timeout_s=connect_timeout_s, timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (301, Outcome.UNKNOWN),
        (303, Outcome.UNKNOWN),
        (400, Outcome.REJECTED_CONTENT),
        (401, Outcome.CHANNEL_DOWN),
        (403, Outcome.CHANNEL_DOWN),
        (404, Outcome.CHANNEL_DOWN),
        (408, Outcome.RETRY_LATER),
        (413, Outcome.REJECTED_CONTENT),
        (422, Outcome.REJECTED_CONTENT),
        (429, Outcome.THROTTLED),
        (500, Outcome.UNKNOWN),
        (502, Outcome.UNKNOWN),
        (503, Outcome.UNKNOWN),
        (599, Outcome.UNKNOWN),
    ],
)
async def test_judge_of_status(status: int, outcome: Outcome) -> None:
    """Every status but success must have one meaning for all messages; redirects are not followed."""
    headers = "retry-after: 5\r\nlocation: /elsewhere\r\n"
    async with (
        raw_server(answering(http_answer(b"", status=status, headers=headers))) as url,
        client(url) as http,
    ):
        judged = judge(await http.request("POST", "/", b"x"))
    assert judged == Verdict(outcome=outcome, detail=f"HTTP {status}", retry_after_s=5)


def test_judge_of_success() -> None:
    """A success must be judged by its body."""
    assert judge(Reply(status=200, body=b"{}")) == b"{}"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("0", 0),
        ("12", 12),
        ("1.5", 1.5),
        ("-3", 0),
        ("999999999", 3_600),
        ("nan", 0),
        ("inf", 0),
        ("soon", 0),
        ("", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", 0),
    ],
)
def test_retry_after(value: str | None, seconds: float) -> None:
    """Seconds and dates must be read; nonsense, the past and the far future must do no harm."""
    assert parse_retry_after(value) == seconds


def test_retry_after_with_date() -> None:
    """A date to come must become the time until then."""
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)
    assert 50 < parse_retry_after(email.utils.format_datetime(moment, usegmt=True)) <= 60
