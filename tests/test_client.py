"""The Python client against the real server, and against servers that do what servers do on bad days."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

import orderbell
from orderbell.client import EVENTS_MAX, Client, EventRefused, _seconds_of
from orderbell.errors import DatabaseUnavailable, RequestFailed
from tests.raw_server import close_at_once, http_answer, raw_server, read_request, unused_port
from tests.site_server import KEY, TooBusy, running_site

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ACCEPTED = b'{"id":"e1","status":"accepted"}'


def client_of(url: str, *, timeout_s: float = 20) -> Client:
    """Make the client of a shop."""
    return Client(url, key=KEY, source="my-shop", timeout_s=timeout_s)


class Clock:
    """Stands still but for the pauses."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def wind(self, client: Client) -> None:
        """Make a client live by this clock."""
        client._clock, client._sleep = (lambda: sum(self.pauses)), self.pauses.append


def test_client_is_exported() -> None:
    """`orderbell.Client` must be the client, and an unknown name an error."""
    assert orderbell.Client is Client
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = orderbell.no_such_name  # type: ignore[attr-defined]


async def test_tell() -> None:
    """What is told must arrive as it is, and the answer must come back."""
    async with running_site() as site:
        client = client_of(site.url + "/")
        answer = await asyncio.to_thread(client.tell, "payment.failed", "123456", reason="余额不足", id="e1")
        assert (answer.id, answer.status) == ("e1", "accepted")
        answer = await asyncio.to_thread(client.tell, "payment.failed", "123456", reason="余额不足", id="e1")
        assert answer.status == "duplicate"
        (event,) = site.intake.taken
        assert (event.source, event.type, event.order_no) == ("my-shop", "payment.failed", "123456")
        assert getattr(event.data, "reason", "") == "余额不足"
        client.close()


async def test_tell_with_everything() -> None:
    """Time, playbook, people and fields that Python keeps for itself must arrive."""
    async with running_site() as site:
        client = client_of(site.url)

        def tell() -> None:
            at = datetime(2026, 3, 2, 18, 0, tzinfo=timezone(timedelta(hours=8)))
            people = {"buyer": {"phone": "+8613800138000"}}
            client.tell(
                "reply.received", "A1", time=at, playbook="digital", people=people, **{"from": "buyer", "text": "1"}
            )
            client.close()

        await asyncio.to_thread(tell)
        (event,) = site.intake.taken
        assert (event.time, event.playbook) == (NOON - timedelta(hours=2), "digital")
        assert event.people is not None
        assert event.people["buyer"].phone == "+8613800138000"
        assert getattr(event.data, "sender", "") == "buyer"


@pytest.mark.parametrize(
    ("kind", "order_no", "data", "reason", "field"),
    [
        ("payment.succeeded", "A1", {"amount_fen": -1}, "wrong_value", "data.amount_fen"),
        ("payment.succeeded", "A1", {"amount_fen": float("nan")}, "wrong_value", "data.amount_fen"),
        ("payment.succeeded", "A\n1", {}, "bad_order_no", "subject"),
        ("payment.lost", "A1", {}, "unknown_type", "type"),
        ("complaint.opened", "A1", {"text": "x" * 300_000}, "too_large", ""),
    ],
)
async def test_refused_event(kind: str, order_no: str, data: dict[str, Any], reason: str, field: str) -> None:
    """A refusal must be raised at once and name the field."""
    async with running_site() as site:
        client = client_of(site.url)
        with pytest.raises(EventRefused) as refusal:
            await asyncio.to_thread(client.tell, kind, order_no, id="e1", **data)
        assert isinstance(refusal.value, RequestFailed)
        assert (refusal.value.id, refusal.value.reason, refusal.value.field) == ("e1", reason, field)
        assert refusal.value.detail
        assert refusal.value.detail in str(refusal.value)
        client.close()


async def test_altered_event_is_refused() -> None:
    """The same id with another body must be a refusal."""
    async with running_site() as site:
        client = client_of(site.url)
        await asyncio.to_thread(client.tell, "payment.succeeded", "A1", id="e1", amount_fen=1)
        with pytest.raises(EventRefused) as refusal:
            await asyncio.to_thread(client.tell, "payment.succeeded", "A1", id="e1", amount_fen=2)
        assert refusal.value.reason == "altered_duplicate"
        client.close()


async def test_tell_many_in_several_requests() -> None:
    """Long lists must be cut, keep their order, and show refusals in their places."""
    async with running_site() as site:
        client = client_of(site.url)
        events = [client.event("payment.succeeded", f"A{n}", amount_fen=n - 1) for n in range(2 * EVENTS_MAX + 5)]
        answers = await asyncio.to_thread(client.tell_many, events)
        assert [answer.id for answer in answers] == [event["id"] for event in events]
        assert [answer.status for answer in answers] == ["refused"] + ["accepted"] * (2 * EVENTS_MAX + 4)
        assert answers[0].field == "data.amount_fen"
        assert [event.order_no for event in site.intake.taken] == [event["subject"] for event in events[1:]]
        assert site.intake.calls == [EVENTS_MAX - 1, EVENTS_MAX, 5]
        assert await asyncio.to_thread(client.tell_many, []) == []
        (answer,) = await asyncio.to_thread(client.tell_many, [client.event("no.such", "A1", id="x")])
        assert (answer.id, answer.status, answer.field) == ("x", "refused", "type")
        client.close()


async def test_tell_many_of_great_size() -> None:
    """Lists that would not fit in a request by their bytes must be cut as well."""
    async with running_site() as site:
        client = client_of(site.url)
        events = [client.event("complaint.opened", f"A{n}", text="长" * 3_900) for n in range(900)]
        answers = await asyncio.to_thread(client.tell_many, events)
        assert {answer.status for answer in answers} == {"accepted"}
        assert len(site.intake.calls) == 2
        client.close()


async def test_trouble_that_passes() -> None:
    """A server that is busy, away or broken for a moment must be asked again, and what it took must count once."""
    async with running_site() as site:
        client = client_of(site.url)
        site.intake.lose_answer = True
        site.intake.failures += [DatabaseUnavailable("gone in COMMIT"), RuntimeError("bug")]
        answer = await asyncio.to_thread(client.tell, "payment.failed", "A1")
        assert answer.status == "duplicate"
        assert len(site.intake.taken) == 1
        assert len(site.intake.calls) == 3
        client.close()


async def test_busy_server_is_left_alone_for_the_time_it_names() -> None:
    """The pause before the next try must be at least that of Retry-After."""
    async with running_site() as site:
        client, clock = client_of(site.url), Clock()
        clock.wind(client)
        site.intake.failures += [TooBusy("full"), TooBusy("full"), DatabaseUnavailable("away")]
        await asyncio.to_thread(client.tell, "payment.failed", "A1")
        assert clock.pauses == [1, 1, 2]
        client.close()


async def test_trouble_that_stays() -> None:
    """A call must end within its time, and say what the last try said."""
    client, clock = client_of(f"http://127.0.0.1:{unused_port()}", timeout_s=10), Clock()
    clock.wind(client)
    with pytest.raises(RequestFailed, match=r"within 10 s.*ConnectionRefused"):
        await asyncio.to_thread(client.tell, "payment.failed", "A1")
    assert 5 < sum(clock.pauses) <= 10
    assert clock.pauses[0] <= 0.1 < clock.pauses[2] < clock.pauses[4]
    async with running_site() as site:
        client = client_of(site.url, timeout_s=10)
        clock.wind(client)
        site.intake.failures += [DatabaseUnavailable("away") for _ in range(20)]
        with pytest.raises(RequestFailed, match=r"HTTP 503.*nothing can be confirmed"):
            await asyncio.to_thread(client.tell, "payment.failed", "A1")
        client.close()


async def test_server_that_never_answers() -> None:
    """A server that takes the request and is silent must not hold the caller longer than its time."""
    ended = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await reader.read()
        ended.set()

    async with raw_server(hang) as url:
        started = time.monotonic()
        with pytest.raises(RequestFailed, match="did not confirm"):
            await asyncio.to_thread(client_of(url, timeout_s=0.3).tell, "payment.failed", "A1")
        assert time.monotonic() - started < 5
        await ended.wait()


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def cut_in_the_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request and break off in the middle of the answer."""
    await read_request(reader)
    writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\n" + ACCEPTED)
    await writer.drain()


async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak another protocol."""
    await read_request(reader)
    writer.write(b"220 mail.example ESMTP\r\n")
    await writer.drain()


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        (None, 0, 0),
        ("3", 3, 3),
        ("soon", 0, 0),
        ("-1", 0, 0),
        ("Mon, 02 Mar 2026 12:00:00 GMT", 0, 0),
        ("Fri, 02 Mar 2199 12:00:00 GMT", 10**9, 10**10),
        ("Fri, 02 Mar 2199 12:00:00 -0000", 0, 0),
    ],
)
def test_retry_after(header: str | None, least: float, most: float) -> None:
    """Seconds and dates must be understood, what is past or nonsense must be no pause."""
    assert least <= _seconds_of(header) <= most


@pytest.mark.parametrize("bad", [close_at_once, cut_in_the_answer, no_http])
async def test_connection_that_breaks(bad: Behaviour) -> None:
    """Whatever breaks a connection, the same event must be sent again."""
    bodies: list[bytes] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not bodies:
            bodies.append(b"")
            await bad(reader, writer)
        else:
            bodies.append(await read_request(reader))
            writer.write(http_answer(ACCEPTED, status=202))
            await writer.drain()

    async with raw_server(behave) as url:
        with client_of(url) as client:
            answer = await asyncio.to_thread(client.tell, "payment.failed", "A1", id="e1")
        assert answer.status == "accepted"
        assert b'"id":"e1"' in bodies[1]


@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        (http_answer(b"<html>", status=404), "HTTP 404"),
        (http_answer(b"<html>", status=200), "HTTP 200"),
        (http_answer(b"", status=302, headers="location: http://elsewhere/\r\n"), "HTTP 302"),
        (http_answer(b'{"detail":"this API key is not known"}', status=401), "this API key is not known"),
        (http_answer(b'{"id":"e1","status":"perhaps"}', status=200), "HTTP 200"),
        (http_answer(b"\xff", status=400), "HTTP 400"),
    ],
)
async def test_answer_that_asking_again_would_not_better(reply: bytes, hint: str) -> None:
    """What is no answer of OrderBell, or a plain no, must be told at once and never tried again."""
    requests = 0

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        requests += 1
        await read_request(reader)
        writer.write(reply)
        await writer.drain()

    async with raw_server(behave) as url:
        with client_of(url) as client, pytest.raises(RequestFailed, match=hint) as failure:
            await asyncio.to_thread(client.tell, "payment.failed", "A1")
        assert not isinstance(failure.value, EventRefused)
        assert KEY not in str(failure.value)
        assert requests == 1


async def test_fewer_answers_than_events() -> None:
    """Answers that do not match the events must not be taken for any of them."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http_answer(b'{"results":[' + ACCEPTED + b"]}"))
        await writer.drain()

    async with raw_server(behave) as url:
        with client_of(url) as client, pytest.raises(RequestFailed, match="1 answers to 2 events"):
            await asyncio.to_thread(client.tell_many, [client.event("payment.failed", "A1") for _ in range(2)])


async def test_connection_is_kept_and_mended() -> None:
    """Calls must share a connection, and one that the server closed meanwhile must not cost a try."""
    connections = 0

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            await read_request(reader)
            writer.write(http_answer(ACCEPTED, status=202))
            await writer.drain()

    async with raw_server(behave) as url:
        client = client_of(url)
        for told in range(1, 6):
            await asyncio.to_thread(client.tell, "payment.failed", "A1")
            assert connections == (told + 1) // 2
        client.close()


async def test_client_shared_by_threads() -> None:
    """Threads must be able to share a client without mixing their answers."""
    async with running_site() as site:
        client = client_of(site.url)

        def shop(number: int) -> list[str]:
            return [client.tell("payment.failed", f"A{number}", id=f"{number}-{n}").id for n in range(20)]

        told = await asyncio.gather(*(asyncio.to_thread(shop, number) for number in range(8)))
        assert told == [[f"{number}-{n}" for n in range(20)] for number in range(8)]
        assert len(site.intake.taken) == 160
        client.close()


async def test_client_after_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child must not use the connections of its parent."""
    async with running_site() as site:
        client = client_of(site.url)
        await asyncio.to_thread(client.tell, "payment.failed", "A1")
        inherited = client._idle[0][0]
        monkeypatch.setattr("orderbell.client.os.getpid", lambda: -1)
        await asyncio.to_thread(client.tell, "payment.failed", "A1")
        assert [connection for connection, _ in client._idle] != [inherited]
        inherited.close()
        client.close()


def test_ids() -> None:
    """A given id must stay; with a time the content must name the event, without one each must be new."""
    client = client_of("http://127.0.0.1:1")
    assert client.event("payment.failed", "A1", id="e1")["id"] == "e1"
    assert client.event("payment.failed", "A1")["id"] != client.event("payment.failed", "A1")["id"]
    told = client.event("payment.failed", "A1", time=NOON, reason="x")
    elsewhere = client.event("payment.failed", "A1", time=NOON.astimezone(timezone(timedelta(hours=8))), reason="x")
    assert told["id"] == elsewhere["id"]
    assert told["id"] != client.event("payment.failed", "A1", time=NOON, reason="y")["id"]
    assert told["id"] != client.event("payment.failed", "A2", time=NOON, reason="x")["id"]


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("127.0.0.1:8420", KEY),
        ("ftp://127.0.0.1", KEY),
        ("http://", KEY),
        ("http://me:word@127.0.0.1", KEY),
        ("http://127.0.0.1", "sk_1"),
        ("http://127.0.0.1", "ob_1\r\nX: y"),
    ],
)
def test_client_that_makes_no_sense(url: str, key: str) -> None:
    """An address or a key that cannot be one must be refused when the client is made."""
    with pytest.raises(ValueError, match=r"url|key"):
        Client(url, key=key, source="my-shop")


def test_time_without_a_zone() -> None:
    """A time without a zone must be refused before anything is sent."""
    with pytest.raises(ValueError, match="zone"):
        client_of("http://127.0.0.1:1").tell("payment.failed", "A1", time=datetime(2026, 3, 2))  # noqa: DTZ001 - the point


def test_client_hides_its_key() -> None:
    """The key must not be seen where clients are printed."""
    assert KEY not in repr(client_of("http://127.0.0.1:1"))
