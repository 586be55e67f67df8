"""`POST /v1/events` over real sockets: what is taken, what is refused, and what a client is told of trouble."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from litestar import Litestar

from orderbell.core.events import DATA_TYPES, INSIDE_TYPES, Answer, Event, Status
from orderbell.errors import DatabaseUnavailable
from orderbell.serving import serving
from orderbell.sources import events as door
from orderbell.sources.events import BODY_BYTES_MAX, events_route
from orderbell.store.keys import KeyRing, create_key
from orderbell.store.postgres import Store
from orderbell.web.site import create_site
from tests.shop import shelves
from tests.site_server import KEY, NOON, TooBusy, running_site, tenant_of_key

PROBLEM = "application/problem+json"


def event(name: str = "e1", order_no: str = "A1", **data: object) -> dict[str, Any]:
    """Make an event as a shop sends it."""
    return {
        "specversion": "1.0", "id": name, "source": "shop", "type": "payment.succeeded", "subject": order_no,
        "data": data,
    }  # fmt: skip


def encoded(*events: object) -> bytes:
    """Encode one event, or a list when there are more."""
    return json.dumps(events[0] if len(events) == 1 else events).encode()


async def test_single_event() -> None:
    """One event must be answered by the status: new, seen before, seen with another body, wrong."""
    async with running_site() as site:
        assert await site.post(encoded(event(amount_fen=1)), "application/cloudevents+json; charset=utf-8") == (
            202,
            {"id": "e1", "status": "accepted"},
        )
        assert await site.post(encoded(event(amount_fen=1))) == (200, {"id": "e1", "status": "duplicate"})
        status, problem = await site.post(encoded(event(amount_fen=2)))
        assert status == 409
        assert (problem["reason"], problem["field"], problem["id"]) == ("altered_duplicate", "id", "e1")
        status, problem = await site.post(encoded(event("e2", amount_fen=-2)))
        assert status == 422
        assert problem == {
            "type": "urn:orderbell:problem:wrong_value",
            "title": "The event is refused",
            "status": 422,
            "detail": "data.amount_fen: Expected `int` >= 0",
            "reason": "wrong_value",
            "field": "data.amount_fen",
            "id": "e2",
        }
        (taken,) = site.intake.taken
        assert (taken.tenant, taken.received_at) == ("acme", NOON)


async def test_list_of_events() -> None:
    """A list must be answered item for item and in order, bad items among good ones."""
    async with running_site() as site:
        await site.post(encoded(event("e1")))
        body = encoded(event("e1"), event("e2", "A\n1"), event("e3"), 7, event("e1", amount_fen=1), event("e4"))
        status, answer = await site.post(body, "application/cloudevents-batch+json")
        assert status == 200
        assert (answer["accepted"], answer["duplicate"], answer["refused"]) == (2, 1, 3)
        assert [(result["id"], result["status"], result.get("reason")) for result in answer["results"]] == [
            ("e1", "duplicate", None),
            ("e2", "refused", "bad_order_no"),
            ("e3", "accepted", None),
            ("", "refused", "wrong_value"),
            ("e1", "refused", "altered_duplicate"),
            ("e4", "accepted", None),
        ]
        assert answer["results"][1]["field"] == "subject"
        assert [taken.id for taken in site.intake.taken] == ["e1", "e3", "e4"]


async def test_list_without_anything_to_decide() -> None:
    """A list that is empty or all wrong must be answered without asking the intake."""
    async with running_site() as site:
        assert await site.post(b"[]") == (200, {"accepted": 0, "duplicate": 0, "refused": 0, "results": []})
        _, answer = await site.post(b"[1]")
        assert answer["refused"] == 1
        assert site.intake.calls == []


async def test_greatest_list() -> None:
    """A thousand events must be taken at once, one more must be refused as a whole."""
    async with running_site() as site:
        events = [event(f"e{number}", f"A{number}") for number in range(1_001)]
        status, problem = await site.post(json.dumps(events).encode())
        assert (status, problem["reason"]) == (422, "batch_too_long")
        status, answer = await site.post(json.dumps(events[:1_000]).encode())
        assert (status, answer["accepted"], len(answer["results"])) == (200, 1_000, 1_000)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "not_json"),
        (b"[", 400, "not_json"),
        (b'[{"id":', 400, "not_json"),
        (b'{"a":1}{"b":2}', 400, "not_json"),
        (b"\xff\xfe", 400, "not_json"),
        (b"[" * 100_000, 422, "too_deep"),
        (b"{}", 422, "missing_field"),
        (encoded(event(x="x" * 300_000)), 413, "too_large"),
        (b" " * (BODY_BYTES_MAX + 1), 413, "too_large"),
    ],
)
async def test_bad_body(body: bytes, status: int, reason: str) -> None:
    """What is no event must get a problem document with the right status, and never a word of the inside."""
    async with running_site() as site:
        response = await site.http.post("/v1/events", content=body, headers={"content-type": "application/json"})
        assert (response.status_code, response.json()["reason"]) == (status, reason)
        assert response.headers["content-type"] == PROBLEM
        assert "Traceback" not in response.text
        assert site.intake.calls == []


async def test_body_too_large_without_a_length() -> None:
    """A body that is sent in pieces must be cut off at the limit, and taken below it."""

    async def pieces(count: int) -> Any:  # noqa: ANN401 - an async generator of bytes
        for _ in range(count):
            yield b" " * 1024 * 1024
        yield encoded(event())

    async with running_site() as site:
        headers = {"content-type": "application/json"}
        response = await site.http.post("/v1/events", content=pieces(9), headers=headers)
        assert response.status_code == 413
        response = await site.http.post("/v1/events", content=pieces(2), headers=headers)
        assert response.status_code == 202


async def test_body_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not send its body must be let go, and one that goes away must leave no error."""
    monkeypatch.setattr(door, "BODY_WITHIN_S", 0.05)
    async with running_site() as site:
        head = (
            f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        ).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(site.url.rsplit(":", 1)[1]))
        writer.write(head)
        assert (await reader.readline()).split()[1] == b"408"
        writer.close()
        monkeypatch.setattr(door, "BODY_WITHIN_S", 30)
        _, writer = await asyncio.open_connection("127.0.0.1", int(site.url.rsplit(":", 1)[1]))
        writer.write(head)
        await writer.drain()
        writer.close()
        assert (await site.post(encoded(event())))[0] == 202


@pytest.mark.parametrize(
    ("authorization", "status", "reason"),
    [
        ("", 401, "no_key"),
        ("Basic b2I6a2V5", 401, "no_key"),
        ("Bearer", 401, "bad_key"),
        ("Bearer ob_wrong", 401, "bad_key"),
        ("Bearer \xff", 401, "bad_key"),
        ("Bearer ob_broken", 503, "unavailable"),
        (f"bearer  {KEY}", 202, ""),
    ],
)
async def test_key(authorization: str, status: int, reason: str) -> None:
    """Only a valid key must open the door, and the refusal must say how to knock."""
    async with running_site() as site:
        headers = {b"authorization": authorization.encode("latin-1"), b"content-type": b"application/json"}
        response = await site.http.post("/v1/events", content=encoded(event()), headers=headers)
        assert (response.status_code, response.json().get("reason", "")) == (status, reason)
        assert ("www-authenticate" in response.headers) == (status == 401)
        assert "secret" not in response.text
        assert len(site.intake.taken) == (status == 202)


async def test_wrong_method_and_media_type() -> None:
    """Only POST with JSON must be taken, uncompressed."""
    async with running_site() as site:
        response = await site.http.get("/v1/events")
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        for media_type in ("", "text/plain", "application/x-www-form-urlencoded"):
            status, problem = await site.post(encoded(event()), media_type)
            assert (status, problem["reason"]) == (415, "wrong_media_type")
        status, problem = await site.post(encoded(event()), content_encoding="gzip")
        assert (status, problem["reason"]) == (415, "wrong_encoding")


@pytest.mark.parametrize("count", [1, 3])
async def test_trouble_behind_the_door(count: int) -> None:
    """When the intake is full, away or broken, nothing must be said to be accepted, and nothing of the inside told."""
    body = encoded(*(event(f"e{number}") for number in range(count)))
    async with running_site() as site:
        for failure, status, retry_after in (
            (TooBusy("20000 events wait"), 429, "1"),
            (DatabaseUnavailable("postgresql://me:secret@host is away"), 503, "2"),
            (RuntimeError("secret"), 500, None),
        ):
            site.intake.failures.append(failure)
            response = await site.http.post("/v1/events", content=body, headers={"content-type": "application/json"})
            assert (response.status_code, response.headers.get("retry-after")) == (status, retry_after)
            assert response.headers["content-type"] == PROBLEM
            assert "secret" not in response.text
            assert "accepted" not in response.text
        assert (await site.post(body))[0] in {200, 202}


async def test_route_in_the_openapi_document() -> None:
    """The document must describe the route with all types of a shop, and each reference must lead somewhere."""
    async with running_site() as site:
        document = (await site.http.get("/schema/openapi.json")).json()
    operation = document["paths"]["/v1/events"]["post"]
    assert {"200", "202", "400", "401", "409", "413", "415", "422", "429", "503"} <= set(operation["responses"])
    schemas = document["components"]["schemas"]
    assert schemas["CloudEvent"]["properties"]["type"]["enum"] == [
        name for name in DATA_TYPES if name not in INSIDE_TYPES
    ]
    assert set(schemas["Answer"]["required"]) == {"id", "status"}
    references = {part.split('"')[0] for part in json.dumps(document).split('"#/components/schemas/')[1:]}
    assert references <= set(schemas)


async def test_websocket_is_closed() -> None:
    """A websocket on the route must be closed and nothing else."""
    sent: list[Any] = []

    async def send(message: Any) -> None:  # noqa: ANN401 - an ASGI message
        sent.append(message)

    async def receive() -> Any:  # noqa: ANN401 - an ASGI message
        return {"type": "websocket.connect"}

    async def submit(events: list[Event]) -> list[Answer]:
        return [Answer(item.id, Status.ACCEPTED) for item in events]

    async def ready() -> list[str]:
        return []

    site: Litestar = create_site([events_route(submit, tenant_of_key, lambda: NOON, busy=TooBusy)], ready)
    scope: Any = {"type": "websocket", "path": "/v1/events", "headers": [], "query_string": b"", "state": {}}
    await site(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_events_reach_the_database(store: Store) -> None:
    """With the real store behind it, what is answered as accepted must be committed, and a key must open one tenant."""
    key = await create_key(store, "acme")
    shelf = shelves("acme")

    async def submit(events: list[Event]) -> list[Answer]:
        return await store.turn(shelf, events)

    async def ready() -> list[str]:
        return []

    ring = KeyRing(store.pool)
    route = events_route(submit, ring.tenant_of, lambda: datetime.now(UTC), busy=TooBusy)
    async with serving(create_site([route], ready)) as url, running_site() as other:
        other.http.headers["authorization"] = f"Bearer {key}"
        http, headers = other.http, {"content-type": "application/json"}
        placed = event("e0", type="order.placed") | {"type": "order.placed"}
        body = encoded(placed, event("e1", amount_fen=5), event("bad", amount_fen=None), event("e1", amount_fen=6))
        response = await http.post(f"{url}/v1/events", content=body, headers=headers)
        results = response.json()["results"]
        assert [result["status"] for result in results] == ["accepted", "accepted", "refused", "refused"]
        assert results[3]["reason"] == "altered_duplicate"
        again = await http.post(f"{url}/v1/events", content=encoded(placed), headers=headers)
        assert (again.status_code, again.json()["status"]) == (200, "duplicate")
    stages = await store.pool.fetch("SELECT tenant, order_no, stage FROM orders")
    assert [tuple(row) for row in stages] == [("acme", "A1", "paid")]
