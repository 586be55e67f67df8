"""The site: health, problem documents, the OpenAPI document."""

import asyncio
from collections.abc import Sequence

import httpx
import pytest
from litestar import get, post
from litestar.exceptions import HTTPException
from litestar.params import FromQuery, JSONBody

from orderbell import __version__
from orderbell.serving import serving
from orderbell.web import site as room
from orderbell.web.site import _loggable, create_site
from tests.site_server import running_site


@get("/boom", sync_to_thread=False)
def boom() -> None:
    """Die of something nobody foresaw."""
    raise RuntimeError("the secret password")


@get("/upstream", sync_to_thread=False)
def upstream() -> None:
    """Say no as a server, without a reason."""
    raise HTTPException(detail="the secret host", status_code=502)


@post("/double", sync_to_thread=False)
def double(data: JSONBody[dict[str, int]]) -> dict[str, int]:
    """Take a body that Litestar reads."""
    return {name: value * 2 for name, value in data.items()}


@get("/times", sync_to_thread=False)
def times(count: FromQuery[int]) -> int:
    """Take a parameter."""
    return count


async def test_health() -> None:
    """A process that runs must be alive, and ready when nothing is missing."""
    async with running_site() as site:
        assert (await site.http.get("/healthz")).json() == {"status": "alive"}
        assert (await site.http.get("/readyz")).json() == {"status": "ready"}
        site.missing.append("the migrations have not run")
        response = await site.http.get("/readyz")
        assert (response.status_code, response.headers["retry-after"]) == (503, "2")
        assert response.json()["detail"] == "the migrations have not run"
        assert (await site.http.get("/healthz")).status_code == 200


async def test_readiness_that_fails_or_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at readiness that raises or never ends must be a no, without the reason inside."""
    monkeypatch.setattr(room, "READY_WITHIN_S", 0.05)
    raises = True

    async def ready() -> Sequence[str]:
        if raises:
            raise OSError("connect to secret:5432")
        await asyncio.Event().wait()
        return []

    async with serving(create_site([], ready)) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        for _ in range(2):
            response = await http.get("/readyz")
            assert response.status_code == 503
            assert "secret" not in response.text
            raises = False


async def test_errors_are_problem_documents() -> None:
    """Every error must be a problem document that tells nothing of the inside."""
    async with running_site(boom, upstream, double, times) as site:
        for method, path, body, status, field in (
            ("GET", "/nowhere", None, 404, None),
            ("DELETE", "/healthz", None, 405, None),
            ("GET", "/boom", None, 500, None),
            ("GET", "/upstream", None, 500, None),
            ("POST", "/double", b"{", 400, None),
            ("GET", "/times?count=x", None, 422, "count"),
        ):
            response = await site.http.request(method, path, content=body, headers={"content-type": "application/json"})
            problem = response.json()
            assert (response.status_code, problem["status"], problem.get("field")) == (status, status, field), path
            assert response.headers["content-type"] == "application/problem+json"
            assert response.headers["x-content-type-options"] == "nosniff"
            assert {"type", "title", "detail"} <= set(problem)
            assert "secret" not in response.text
            assert "Traceback" not in response.text
        assert (await site.http.post("/double", json={"a": 2})).json() == {"a": 4}


async def test_openapi_document() -> None:
    """The document must name the routes of Litestar and of bare ASGI, and how keys are sent."""
    async with running_site(times) as site:
        response = await site.http.get("/schema/openapi.json")
        document = response.json()
        assert document["info"]["version"] == __version__
        assert {"/healthz", "/readyz", "/times", "/v1/events"} <= set(document["paths"])
        assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
        assert set(document["components"]["schemas"]["Problem"]["required"]) == {"type", "title", "status", "detail"}
        assert (await site.http.get("/schema")).json() == document


def test_secret_addresses_stay_out_of_the_log() -> None:
    """A path that is a secret by itself must not be logged, whatever went wrong."""
    assert _loggable("/v1/callbacks/ali/token/receipts") == "/v1/callbacks/…"
    assert _loggable("/u/token") == "/u/…"
    assert _loggable("/v1/events") == "/v1/events"
