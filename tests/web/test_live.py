"""Pages that hear of changes: one statement for all, bounded, and gone when the site ends."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from litestar import Request, Response, get

from orderbell.errors import DatabaseUnavailable
from orderbell.serving import serving
from orderbell.store.postgres import Store
from orderbell.web.live import Live
from orderbell.web.site import create_site
from tests.guests import running_pages


class Numbers:
    """Versions by name, and how often they were asked for."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {"a": 1, "b": 1}
        self.asked: list[list[str]] = []
        self.away = False
        self.calls: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, keys: Sequence[str]) -> dict[str, int]:
        """Answer, or be away."""
        self.asked.append(list(keys))
        self.calls.put_nowait(None)
        if self.away:
            raise DatabaseUnavailable("away")
        return {key: self.known[key] for key in keys if key in self.known}


@asynccontextmanager
async def running_live(live: Live[str]) -> AsyncIterator[httpx.AsyncClient]:
    """Serve `/live?of=` and `/live?of=&v=` to a browser."""

    @get("/live", opt={"public": "a test"})
    async def follow(request: Request[Any, Any, Any]) -> Response[Any]:
        seen = request.query_params.get("v")
        return await live.respond(request, [request.query_params["of"]], int(seen) if seen else None)

    async def ready() -> Sequence[str]:
        return []

    async with (
        serving(create_site([follow], ready)) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as http,
    ):
        yield http
        await live.close()


async def next_line(lines: AsyncIterator[str], begin: str) -> str:
    """The next line that begins so."""
    async with asyncio.timeout(20):
        async for line in lines:
            if line.startswith(begin):
                return line
    raise AssertionError(f"the stream ended before {begin!r}")


async def until(live: Live[Any], count: int) -> None:
    """Wait until so many pages are open."""
    async with asyncio.timeout(20):
        while live.open_count != count:  # noqa: ASYNC110 - the server finds out by itself that a reader has gone
            await asyncio.sleep(0.01)


async def test_only_what_changed_is_told() -> None:
    """Of two pages the one whose own changed must hear of it, and one look must ask for all of them together."""
    numbers = Numbers()
    live = Live(numbers, every_s=1000)
    async with running_live(live) as http:
        async with http.stream("GET", "/live?of=a") as a, http.stream("GET", "/live?of=b") as b:
            assert a.headers["content-type"].startswith("text/event-stream")
            assert a.headers["cache-control"] == "no-store"
            of_a, of_b = a.aiter_lines(), b.aiter_lines()
            await next_line(of_a, ": open")
            await next_line(of_b, ": open")
            assert await live.look() == 0
            numbers.known["a"] = 2
            numbers.asked.clear()
            assert await live.look() == 1
            assert numbers.asked == [["a", "b"]]
            assert await next_line(of_a, "data") == "data: 2"
            numbers.known["b"] = 7
            await live.look()
            assert await next_line(of_b, "data") == "data: 7"
        await until(live, 0)


async def test_change_before_the_stream_opens() -> None:
    """What changed between the page and its stream must be told at once."""
    numbers = Numbers()
    live = Live(numbers, every_s=1000)
    numbers.known["a"] = 5
    async with running_live(live) as http, http.stream("GET", "/live?of=a&v=4") as stream:
        assert await next_line(stream.aiter_lines(), "data") == "data: 5"


async def test_silence_has_a_heartbeat() -> None:
    """A silent stream must show that it lives, so that no proxy closes it."""
    live = Live(Numbers(), every_s=1000, heartbeat_s=0.05)
    async with running_live(live) as http, http.stream("GET", "/live?of=a") as stream:
        lines = stream.aiter_lines()
        for _ in range(2):
            await next_line(lines, ": still here")


@pytest.mark.parametrize("limits", [{"streams_max": 2}, {"streams_of_one_max": 2}])
async def test_too_many_pages(limits: dict[str, int]) -> None:
    """One more than may be open must be refused in words, with a time to come back, and let in when one has gone."""
    live = Live(Numbers(), every_s=1000, **limits)
    async with running_live(live) as http, http.stream("GET", "/live?of=a"):
        async with http.stream("GET", "/live?of=b"):
            await until(live, 2)
            refused = await http.get("/live?of=a")
            assert (refused.status_code, refused.json()["reason"]) == (503, "too_many_streams")
            assert int(refused.headers["retry-after"]) > 0
        await until(live, 1)
        async with http.stream("GET", "/live?of=b") as again:
            assert again.status_code == 200


async def test_page_that_reads_nothing_holds_no_place_once_it_is_gone() -> None:
    """News for a page that reads nothing must not pile up, and its place must be free when the browser goes."""
    numbers = Numbers()
    live = Live(numbers, every_s=1000)

    @get("/live", opt={"public": "a test"})
    async def follow(request: Request[Any, Any, Any]) -> Response[Any]:
        return await live.respond(request, ["a"])

    async def ready() -> Sequence[str]:
        return []

    stuck, gone, sent = asyncio.Event(), asyncio.Event(), list[str]()

    async def receive() -> dict[str, Any]:
        if sent:
            await gone.wait()
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:  # noqa: ANN401 - a message of ASGI
        sent.append(message["type"])
        if sent.count("http.response.body") > 1:
            stuck.set()
            await asyncio.Event().wait()  # as where the buffers of both sides are full

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/live",
        "raw_path": b"/live", "query_string": b"", "root_path": "", "scheme": "http", "headers": [],
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    app: Any = create_site([follow], ready)
    served = asyncio.create_task(app(scope, receive, send))
    await until(live, 1)
    for version in range(2, 100):
        numbers.known["a"] = version
        await live.look()
    await asyncio.wait_for(stuck.wait(), 20)
    assert sent == ["http.response.start", "http.response.body", "http.response.body"]
    gone.set()
    await asyncio.wait_for(served, 20)
    await until(live, 0)


async def test_streams_end_with_the_site() -> None:
    """A shutdown must end every stream cleanly, and let no new one in."""
    live = Live(Numbers(), every_s=0.01)
    looking = asyncio.create_task(live.run())
    async with running_live(live) as http, http.stream("GET", "/live?of=a") as stream:
        lines = stream.aiter_lines()
        await next_line(lines, ": open")
        await live.close()
        async with asyncio.timeout(20):
            rest = [line async for line in lines]
        assert "event: changed" not in rest
        assert (await http.get("/live?of=a")).status_code == 503
        await asyncio.wait_for(looking, 20)


async def test_database_that_is_away_is_waited_for() -> None:
    """The loop must outlive it, and tell what changed meanwhile."""
    numbers = Numbers()
    live = Live(numbers, every_s=0.01)
    looking = asyncio.create_task(live.run())
    async with running_live(live) as http, http.stream("GET", "/live?of=a") as stream:
        lines = stream.aiter_lines()
        await next_line(lines, ": open")
        numbers.away = True
        while not numbers.calls.empty():
            numbers.calls.get_nowait()
        for _ in range(3):
            await asyncio.wait_for(numbers.calls.get(), 20)
        numbers.known["a"], numbers.away = 9, False
        assert await next_line(lines, "data") == "data: 9"
    await asyncio.wait_for(looking, 20)


async def test_customer_page_is_told(store: Store) -> None:
    """An event of the order must reach its open page, with the version that the page then shows."""
    async with running_pages(store) as pages:
        path = await pages.short_stock()
        async with pages.http.stream("GET", f"{path}/live?v={await pages.version()}") as stream:
            lines = stream.aiter_lines()
            await next_line(lines, ": open")
            await pages.tell("stock.restored")
            await pages.pages.live.look()
            version = (await next_line(lines, "data")).removeprefix("data: ")
        part = (await pages.http.get(f"{path}/part")).text
        assert f'data-version="{version}"' in part
        assert "<html" not in part
        assert "已付款，正在备货" in part
        assert (await pages.http.get(f"/t/{'x' * 22}/live")).status_code == 404
