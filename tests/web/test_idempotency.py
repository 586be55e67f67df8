"""`Idempotency-Key`: a change is made once, and whoever asks again gets the first answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
from litestar import Request, Response, Router, get, patch, post
from litestar.types import ControllerRouterHandler

from orderbell.errors import DatabaseUnavailable
from orderbell.serving import serving
from orderbell.store.idempotency import CLAIMED_MAX, REMEMBERED, KnownAnswers, forget_answers
from orderbell.store.keys import KeyRing, create_key
from orderbell.store.postgres import Store
from orderbell.web.access import keyed, say_no
from orderbell.web.api.idempotency import BODY_BYTES_MAX, once
from orderbell.web.site import create_site
from tests.dispatch.rig import Clock


@dataclass
class Shop:
    """A site with one thing to change; every change leaves its body in `changes`."""

    store: Store
    http: httpx.AsyncClient = field(init=False)
    other: httpx.AsyncClient = field(init=False)
    colleague: httpx.AsyncClient = field(init=False)
    clock: Clock = field(default_factory=Clock)
    changes: list[bytes] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def change(self, request: Request[Any, Any, Any]) -> Response[dict[str, int]]:
        """Change it, or fail as `answers` says."""
        self.began.set()
        await self.go_on.wait()
        body = await request.body()
        status = self.answers.pop(0) if self.answers else 201
        if status >= 500:
            raise RuntimeError("broken")
        if status >= 400:
            say_no(status, "refused", "Refused", "not now")
        self.changes.append(body)
        return Response({"number": len(self.changes)}, status_code=status, headers={"Location": "/v1/things/1"})

    def routes(self) -> list[ControllerRouterHandler]:
        """The routes."""

        @post(["/v1/things", "/v1/others"], opt={"right": "people:write"})
        async def change_by_post(request: Request[Any, Any, Any]) -> Response[dict[str, int]]:
            return await self.change(request)

        @patch("/v1/things", opt={"right": "people:write"})
        async def change_by_patch(request: Request[Any, Any, Any]) -> Response[dict[str, int]]:
            return await self.change(request)

        @get("/v1/things", opt={"right": "people:read"})
        async def count_changes() -> int:
            return len(self.changes)

        return [change_by_post, change_by_patch, count_changes]

    async def send(self, key: str = "k1", body: bytes = b"one", path: str = "/v1/things") -> httpx.Response:
        """Send a change."""
        return await self.http.post(path, content=body, headers={"idempotency-key": key})


@contextlib.asynccontextmanager
async def open_shop(store: Store) -> AsyncIterator[Shop]:
    """Run a shop on a database, with two keys of one tenant and one of another."""
    shop = Shop(store)
    shop.go_on.set()
    ring = KeyRing(store.pool)
    only_once = once(partial(KnownAnswers, store), ring.caller_of, shop.clock)
    router = Router("/", route_handlers=[keyed(shop.routes(), ring.caller_of)], middleware=[only_once])

    async def ready() -> Sequence[str]:
        return []

    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(create_site([router], ready)))
        for name, tenant in (("http", "acme"), ("colleague", "acme"), ("other", "other")):
            headers = {"authorization": f"Bearer {await create_key(store, tenant)}"}
            client = httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=20)
            setattr(shop, name, await stack.enter_async_context(client))
        yield shop


async def test_change_that_is_sent_again_is_made_once(store: Store) -> None:
    """The second answer must be the first, word for word, and say that it is one of before."""
    async with open_shop(store) as shop:
        first, second, quoted = await shop.send(), await shop.send(), await shop.send('"k1"')
        assert "idempotent-replayed" not in first.headers
        for again in (second, quoted):
            assert again.headers["idempotent-replayed"] == "true"
            assert (again.status_code, again.content) == (first.status_code, first.content) == (201, b'{"number":1}')
            for name in ("location", "content-type", "content-length"):
                assert again.headers[name] == first.headers[name]
        assert shop.changes == [b"one"]
        assert (await shop.send("k2")).json() == {"number": 2}
        for _ in range(2):
            await shop.http.post("/v1/things", content=b"three")
        assert len(shop.changes) == 4, "without a key every request counts"


async def test_another_request_under_the_same_key_is_refused(store: Store) -> None:
    """Another body, address, method or version that was seen must be refused, and the first answer stay."""
    async with open_shop(store) as shop:
        first = await shop.send()
        others = [
            await shop.send(body=b"two"),
            await shop.send(path="/v1/others"),
            await shop.send(path="/v1/things?x=1"),
            await shop.http.patch("/v1/things", content=b"one", headers={"idempotency-key": "k1"}),
            await shop.http.post("/v1/things", content=b"one", headers={"idempotency-key": "k1", "if-match": '"2"'}),
        ]
        for response in others:
            assert response.headers["content-type"] == "application/problem+json"
            problem = response.json()
            assert (response.status_code, problem["reason"]) == (422, "idempotency_mismatch")
            assert problem["field"] == "Idempotency-Key"
        assert (await shop.send()).content == first.content
        assert shop.changes == [b"one"]


async def test_one_that_comes_too_early_is_told_to_wait(store: Store) -> None:
    """While the first is under way the second must not be made, and get the answer afterwards."""
    async with open_shop(store) as shop:
        shop.go_on.clear()
        first = asyncio.create_task(shop.send())
        await shop.began.wait()
        early = await shop.send()
        assert (early.status_code, early.json()["reason"], early.headers["retry-after"]) == (409, "in_progress", "1")
        shop.go_on.set()
        assert (await first).status_code == 201
        assert (await shop.send()).content == (await first).content
        assert shop.changes == [b"one"]


async def test_many_at_once_make_one_change(store: Store) -> None:
    """Of requests that race, one must be made; the others are told to wait, or its answer."""
    async with open_shop(store) as shop:
        answers = await asyncio.gather(*(shop.send() for _ in range(12)))
        assert shop.changes == [b"one"]
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert (await shop.send()).json() == {"number": 1}


async def test_refusal_is_an_answer_and_a_breakdown_is_none(store: Store) -> None:
    """A refusal must be given again; after "not now" and after a breakdown the change must be tried anew."""
    async with open_shop(store) as shop:
        shop.answers = [422]
        for _ in range(2):
            assert (await shop.send()).status_code == 422
        shop.answers = [500, 429, 201]
        assert [(await shop.send("k2")).status_code for _ in range(4)] == [500, 429, 201, 201]
        assert shop.changes == [b"one"]


async def test_keys_of_others_are_others(store: Store) -> None:
    """The same words from another tenant, or another API key, must be another key."""
    async with open_shop(store) as shop:
        await shop.send()
        for client in (shop.other, shop.colleague):
            response = await client.post("/v1/things", content=b"one", headers={"idempotency-key": "k1"})
            assert (response.status_code, "idempotent-replayed" in response.headers) == (201, False)
        assert len(shop.changes) == 3


async def test_answers_are_forgotten_after_a_day(store: Store) -> None:
    """A day later the key must be free, and old rows must go."""
    async with open_shop(store) as shop:
        await shop.send()
        shop.clock.at += REMEMBERED - timedelta(seconds=1)
        assert (await shop.send(body=b"two")).status_code == 422
        assert await forget_answers(store, shop.clock()) == 0
        shop.clock.at += timedelta(seconds=1)
        assert (await shop.send(body=b"two")).status_code == 201
        shop.clock.at += REMEMBERED
        assert await forget_answers(store, shop.clock()) == 1
        assert await store.pool.fetchval("SELECT count(*) FROM idempotency") == 0


async def test_key_of_a_request_that_died_is_free_again(store: Store) -> None:
    """What a process claimed that died must not be claimed for ever."""
    async with open_shop(store) as shop:
        await shop.send()
        await store.pool.execute("UPDATE idempotency SET status = NULL, answer = NULL")
        assert (await shop.send()).status_code == 409
        shop.clock.at += CLAIMED_MAX
        assert (await shop.send()).json() == {"number": 2}


async def test_answer_that_cannot_be_kept_is_given_all_the_same(store: Store) -> None:
    """When the database goes away after the change, the client must hear what was done."""
    async with open_shop(store) as shop:

        async def fail(*_: object) -> None:
            raise DatabaseUnavailable("gone")

        kept, KnownAnswers.keep = KnownAnswers.keep, fail  # type: ignore[assignment, method-assign]
        try:
            assert (await shop.send()).status_code == 201
        finally:
            KnownAnswers.keep = kept  # type: ignore[method-assign]
        assert (await shop.send()).status_code == 409, "nobody else may do it again"


async def test_bad_keys_are_refused(store: Store) -> None:
    """A key that is none must be refused before anything is done; reads need none and ignore it."""
    async with open_shop(store) as shop:
        for key in ("", '""', "a b", "ü".encode().decode("latin-1"), "x" * 256):
            response = await shop.http.post("/v1/things", headers=[(b"idempotency-key", key.encode("latin-1"))])
            assert (response.status_code, response.json()["field"]) == (422, "Idempotency-Key"), key
        large = await shop.send(body=b"x" * (BODY_BYTES_MAX + 1))
        assert (large.status_code, large.json()["reason"]) == (413, "too_large")
        for stranger in ({"authorization": ""}, {"authorization": "Bearer ob_x"}):
            response = await shop.http.post("/v1/things", headers={"idempotency-key": "k1", **stranger})
            assert response.status_code == 401
        assert shop.changes == []
        for _ in range(2):
            response = await shop.http.get("/v1/things", headers={"idempotency-key": "k1"})
            assert (response.status_code, "idempotent-replayed" in response.headers) == (200, False)


async def test_nothing_readable_is_kept(store: Store) -> None:
    """Neither the key, nor the body, nor the answer may lie in the database as they were."""
    async with open_shop(store) as shop:
        await shop.send("secret-key", b"+8613800138000")
        row = await store.pool.fetchrow("SELECT * FROM idempotency")
    assert row is not None
    assert row["route"] == "POST /v1/things"
    kept = b"".join(value if isinstance(value, bytes) else str(value).encode() for value in row.values())
    for secret in (b"secret-key", b"13800138000", b"number"):
        assert secret not in kept
