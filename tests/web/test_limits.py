"""The limit of an API key: how many requests pass, what the others are told, and whom it leaves alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest
from litestar import Router, get, post
from litestar.types import ControllerRouterHandler

from orderbell.serving import serving
from orderbell.store.keys import SCOPES, ApiCaller
from orderbell.web.access import keyed
from orderbell.web.api import limits as module
from orderbell.web.api.limits import BUCKETS_MAX, Limits, limited
from orderbell.web.site import create_site


class Watch:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Read it."""
        return self.now_s


@get("/v1/things", opt={"right": "orders:read"}, sync_to_thread=False)
def read_things() -> list[str]:
    """Read."""
    return []


@post("/v1/things", opt={"right": "people:write"}, sync_to_thread=False)
def change_things() -> list[str]:
    """Change."""
    return []


async def caller_of_key(key: str) -> ApiCaller | None:
    """Know two keys."""
    return ApiCaller("acme", frozenset(SCOPES), key) if key in {"ob_a", "ob_b"} else None


async def ready() -> Sequence[str]:
    """Miss nothing."""
    return []


@contextlib.asynccontextmanager
async def limited_site(limits: Limits) -> AsyncIterator[httpx.AsyncClient]:
    """Run a site whose routes lie behind the limits; the client has the first key."""
    routes: list[ControllerRouterHandler] = [keyed([read_things, change_things], caller_of_key)]
    router = Router("/", route_handlers=routes, middleware=[limited(limits, caller_of_key)])
    async with (
        serving(create_site([router], ready)) as url,
        httpx.AsyncClient(base_url=url, headers={"authorization": "Bearer ob_a"}, trust_env=False) as http,
    ):
        yield http


async def test_key_that_asks_too_often_is_told_when_to_come_again() -> None:
    """A burst must pass, the next request must be refused as a problem that says how long to wait, and then pass."""
    watch = Watch()
    async with limited_site(Limits(2, 3, watch)) as http:
        for left in (2, 1, 0):
            response = await http.get("/v1/things")
            assert response.status_code == 200
            assert response.headers["ratelimit-policy"] == '"key";q=3;w=2'
            assert response.headers["ratelimit"].startswith(f'"key";r={left};t=')
        refused = await http.post("/v1/things")
        assert (refused.status_code, refused.json()["reason"]) == (429, "too_many_requests")
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["ratelimit"] == '"key";r=0;t=2'
        watch.now_s += int(refused.headers["retry-after"])
        assert (await http.get("/v1/things")).status_code == 200


async def test_limit_is_each_keys_own() -> None:
    """What one key asks must not use up what another has, and no key at all must be told so, not limited."""
    async with limited_site(Limits(1, 1, Watch())) as http:
        assert (await http.get("/v1/things")).status_code == 200
        assert (await http.get("/v1/things")).status_code == 429
        other = {"authorization": "Bearer ob_b"}
        assert (await http.get("/v1/things", headers=other)).status_code == 200
        for stranger in ("Bearer ob_c", "Basic x", ""):
            for _ in range(3):
                response = await http.get("/v1/things", headers={"authorization": stranger})
                assert (response.status_code, "ratelimit" in response.headers) == (401, False)
        assert (await http.get("/healthz")).status_code == 200


async def test_many_at_once_get_no_more_than_the_burst() -> None:
    """Requests that come together must share one bucket."""
    async with limited_site(Limits(1, 5, Watch())) as http:
        answers = await asyncio.gather(*(http.get("/v1/things") for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 15


def test_bucket_fills_up_and_no_further() -> None:
    """A key that rests must get its burst back, never more."""
    watch = Watch()
    limits = Limits(10, 4, watch)
    assert [limits.take("a").given for _ in range(6)] == [True] * 4 + [False] * 2
    watch.now_s += 0.05
    assert not limits.take("a").given
    watch.now_s += 0.05
    assert limits.take("a").given, "a tenth of a second is worth one"
    watch.now_s += 3600
    assert [limits.take("a").given for _ in range(5)] == [True] * 4 + [False]


def test_keys_that_are_all_in_use_do_not_pile_up_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many keys ask without a rest, no more buckets than that are kept; who asked longest ago begins anew."""
    monkeypatch.setattr(module, "BUCKETS_MAX", 3)
    limits = Limits(1, 100, Watch())
    left = {name: limits.take(name).left for name in ("a", "b", "c", "a", "d", "a", "d")}
    assert len(limits._buckets) == 3
    assert left == {"a": 97, "b": 99, "c": 99, "d": 98}
    assert limits.take("b").left == 99


def test_buckets_do_not_pile_up() -> None:
    """Keys that rest must be forgotten, those in use must not."""
    watch = Watch()
    limits = Limits(1, 100, watch)
    for number in range(BUCKETS_MAX - 1):
        limits.take(f"k{number}")
    watch.now_s += 60
    busy = [limits.take("busy").left for _ in range(50)][-1]
    limits.take("one more")
    assert len(limits._buckets) < 10
    assert limits.take("busy").left == busy - 1
