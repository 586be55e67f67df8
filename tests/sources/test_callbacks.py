"""`/v1/callbacks`: who may bring something, how it is answered, and that nothing is answered before it is kept."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from orderbell.channels.protocol import Answer, Callback, CallbackRefused, Heard, Outgoing, Provider, Receipt
from orderbell.errors import DatabaseUnavailable
from orderbell.serving import serving
from orderbell.sources import callbacks
from orderbell.sources.callbacks import BODY_BYTES_MAX, Caller, callbacks_route
from orderbell.web.site import create_site

TOKEN = "t0ken-" + "x" * 30
RECEIPT = Receipt(bytes(16), "r1", delivered=True, detail="", at=datetime(2026, 3, 2, tzinfo=UTC))


class Talker(Provider):
    """A provider that calls us; remembers what it said, and is answered as told."""

    name, carries = "talker", frozenset({"sms"})

    def __init__(self) -> None:
        self.said: list[Callback] = []
        self.heard: Heard | Exception = Heard((RECEIPT,), answer=b'{"code":0}')

    async def send(self, batch: Sequence[Outgoing]) -> list[Answer]:
        """Nobody sends here."""
        raise NotImplementedError

    def hear(self, callback: Callback) -> Heard:
        """Give what was put into `heard`."""
        self.said.append(callback)
        if isinstance(self.heard, Exception):
            raise self.heard
        return self.heard


@dataclass
class Door:
    """The route as it runs; what was kept, and what keeping dies of."""

    http: httpx.AsyncClient
    talker: Talker
    url: str
    kept: list[tuple[str, Heard]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    async def call(self, path: str = f"/v1/callbacks/talker/{TOKEN}/receipts", body: bytes = b"x") -> httpx.Response:
        """Call as the provider does."""
        return await self.http.post(path, content=body)


@contextlib.asynccontextmanager
async def door(public_url: str = "", token: str = TOKEN) -> AsyncIterator[Door]:
    """Open the route for one provider with a token, and one without."""
    talker = Talker()
    opened: list[Door] = []

    async def keep(provider: str, heard: Heard) -> None:
        if opened[0].failures:
            raise opened[0].failures.pop(0)
        opened[0].kept.append((provider, heard))

    async def ready() -> Sequence[str]:
        return []

    callers = {"talker": Caller(talker, token), "silent": Caller(talker, "")}
    async with (
        serving(create_site([callbacks_route(callers, keep, public_url)], ready)) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as http,
    ):
        opened.append(Door(http, talker, url))
        yield opened[0]


async def test_receipt_is_kept_and_answered_exactly() -> None:
    """What was heard must be kept under the provider's name, and answered in its own bytes, status and type."""
    async with door() as opened:
        opened.talker.heard = Heard((RECEIPT,), status=202, answer=b"<Response/>", content_type="text/xml")
        answer = await opened.call()
        assert (answer.status_code, answer.content) == (202, b"<Response/>")
        assert answer.headers["content-type"].partition(";")[0] == "text/xml"
        assert opened.kept == [("talker", opened.talker.heard)]


async def test_callback_as_the_channel_sees_it() -> None:
    """The channel must get method, kind, small headers, the last value of each parameter, and the body as it came."""
    async with door() as opened:
        await opened.http.post(
            f"/v1/callbacks/talker/{TOKEN}/replies?a=1&a=2&b=&c=%E5%8F%AE",
            content=b"\x00\xff",
            headers={"X-Signature": "s"},
        )
        (said,) = opened.talker.said
        assert (said.method, said.kind, said.body) == ("POST", "replies", b"\x00\xff")
        assert said.query == {"a": "2", "b": "", "c": "叮"}
        assert said.headers["x-signature"] == "s"
        assert said.url == f"{opened.url}/v1/callbacks/talker/{TOKEN}/replies?a=1&a=2&b=&c=%E5%8F%AE"


async def test_get_and_a_path_without_kind() -> None:
    """Providers that call by GET, or have one address for everything, must be heard as well."""
    async with door() as opened:
        answer = await opened.http.get(f"/v1/callbacks/talker/{TOKEN}?echostr=7")
        assert answer.status_code == 200
        (said,) = opened.talker.said
        assert (said.method, said.kind, said.query, said.body) == ("GET", "", {"echostr": "7"}, b"")


async def test_other_methods_are_no_callbacks() -> None:
    """Anything but GET and POST must be refused before the channel hears of it."""
    async with door() as opened:
        assert (await opened.http.put(f"/v1/callbacks/talker/{TOKEN}/receipts")).status_code == 405
        assert opened.talker.said == []


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/callbacks/nobody/{TOKEN}/receipts",
        "/v1/callbacks/talker/wrong/receipts",
        f"/v1/callbacks/talker/{TOKEN[:-1]}/receipts",
        f"/v1/callbacks/talker/{TOKEN}x/receipts",
        f"/v1/callbacks/talker/{TOKEN.upper()}/receipts",
        f"/v1/callbacks/talker/%ff%fe{TOKEN}/receipts",
        f"/v1/callbacks/silent/{TOKEN}/receipts",
        "/v1/callbacks/silent/%20/receipts",
        "/v1/callbacks/nobody/%20/receipts",
    ],
)
async def test_strangers_learn_nothing(path: str) -> None:
    """Wrong token, wrong provider and a provider without token must all be answered alike, and never be heard."""
    async with door() as opened:
        wrong = await opened.call(path)
        known = await opened.call("/v1/callbacks/talker/another/receipts")
        assert wrong.status_code == 404
        assert (wrong.content, wrong.headers["content-type"]) == (known.content, known.headers["content-type"])
        assert not opened.talker.said
        assert not opened.kept


@pytest.mark.parametrize(
    "path", ["/v1/callbacks/silent//receipts", "/v1/callbacks/silent/", "/v1/callbacks//", "/v1/callbacks/nobody//x"]
)
async def test_provider_without_token_is_never_open(path: str) -> None:
    """No token in the settings must mean that nobody gets in, not that everybody does."""
    async with door() as opened:
        assert (await opened.call(path)).status_code == 404
        assert opened.talker.said == []


async def test_body_of_the_greatest_size() -> None:
    """A megabyte must be taken; a byte more must be turned away without being heard."""
    async with door() as opened:
        assert (await opened.call(body=bytes(BODY_BYTES_MAX))).status_code == 200
        answer = await opened.call(body=bytes(BODY_BYTES_MAX + 1))
        assert (answer.status_code, answer.json()["reason"]) == (413, "too_large")
        assert len(opened.talker.said) == 1


async def test_slow_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not finish sending must be told so in the end."""
    monkeypatch.setattr(callbacks, "BODY_WITHIN_S", 0.05)
    async with door() as opened:
        parts = urlsplit(opened.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(
            f"POST /v1/callbacks/talker/{TOKEN}/r HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf".encode()
        )
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
        writer.close()
        assert b" 408 " in answer
        assert not opened.talker.said
        assert not opened.kept


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
async def test_channel_that_refuses(status: int) -> None:
    """What is not from the provider must get the channel's status, without a word why, and be kept nowhere."""
    async with door() as opened:
        opened.talker.heard = CallbackRefused("the signature is wrong", status)
        answer = await opened.call()
        assert (answer.status_code, answer.content) == (status, b"")
        assert opened.kept == []


async def test_database_that_is_away() -> None:
    """What could not be kept must be answered with 503 and not in the provider's words, so that it comes again."""
    async with door() as opened:
        opened.failures.append(DatabaseUnavailable("postgresql://secret@host does not answer"))
        answer = await opened.call()
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert b"code" not in answer.content
        assert b"secret" not in answer.content
        assert (await opened.call()).content == b'{"code":0}'


@pytest.mark.parametrize(
    "public", ["https://bell.example.com", "https://bell.example.com/", "https://example.com/bell"]
)
async def test_public_address_is_what_signatures_cover(public: str) -> None:
    """Behind a proxy the channel must see the address that the provider called."""
    async with door(public) as opened:
        await opened.http.post(f"/v1/callbacks/talker/{TOKEN}/a%20b?x=%2F", content=b"")
        (said,) = opened.talker.said
        assert said.url == f"{public.rstrip('/')}/v1/callbacks/talker/{TOKEN}/a%20b?x=%2F"
        assert said.kind == "a b"


@pytest.mark.parametrize("trouble", ["refused", "away", "hear", "keep"])
async def test_logs_hold_no_token(trouble: str) -> None:
    """Whatever goes wrong, the secret part of the address must not reach the log."""
    async with door() as opened:
        if trouble == "refused":
            opened.talker.heard = CallbackRefused("no")
        elif trouble == "away":
            opened.failures.append(DatabaseUnavailable("gone"))
        elif trouble == "hear":
            opened.talker.heard = RuntimeError("a bug of ours")
        else:
            opened.failures.append(RuntimeError("a bug of ours"))
        with capture_logs(processors=[structlog.processors.format_exc_info]) as logged:
            answer = await opened.call()
        assert answer.status_code == {"refused": 400, "away": 503}.get(trouble, 500)
        assert logged
        assert TOKEN not in str(logged)
        assert TOKEN not in answer.text
