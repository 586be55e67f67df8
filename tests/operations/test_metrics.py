"""`/metrics`: what it tells, whom it tells, and that asking it often costs the database nothing."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orderbell.app.platform import Platform, open_platform
from orderbell.errors import DatabaseUnavailable
from orderbell.observe.figures import GAUGES, HISTOGRAMS, PREFIX, TALLIES, Labels
from orderbell.serving import bind
from orderbell.settings import Settings
from orderbell.store.gauges import HOT_TABLES
from orderbell.store.postgres import Store
from orderbell.web.metrics import Metrics, may_read

SECRET = bytes(range(32)).hex()  # that of the tests' vault
TOKEN = "a-token-for-metrics"
WITHIN_S = 60

Read = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(text: str) -> Read:
    """What stands in an exposition, by name and labels."""
    families = text_string_to_metric_families(text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


@pytest.fixture
async def platform(store: Store, tmp_path: Path) -> AsyncIterator[Platform]:
    """A whole platform that lets somebody with a token read its figures."""
    settings = Settings(
        database_url=store.dsn, data_dir=str(tmp_path), secret_key=SECRET, port=0, sandbox_port=0, metrics_token=TOKEN
    )
    async with open_platform(settings) as opened:
        yield opened


async def metrics_of(url: str, **headers: str) -> httpx.Response:
    """Ask for the figures."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        return await http.get(f"{url}/metrics", headers=named)


async def tell_of_an_order(platform: Platform) -> None:
    """Have a payment fail, send one event twice and one that makes no sense, and wait for the message."""
    people = {"buyer": {"id": "ann", "phone": "+8613800138000"}}
    events = [
        {"id": "1", "type": "order.placed", "data": {"people": people}},
        {"id": "2", "type": "payment.failed", "data": {}},
        {"id": "2", "type": "payment.failed", "data": {}},
        {"id": "3", "type": "no.such.thing", "data": {}},
    ]
    key = await platform.add_tenant("acme")
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        body = msgspec.json.encode([{"source": "shop", "subject": "A1", **event} for event in events])
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        answer = await http.post(f"{platform.url}/v1/events", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    async with asyncio.timeout(WITHIN_S):
        told = "SELECT count(*) FROM message WHERE status = 'delivered'"
        while not await platform.store.pool.fetchval(told):  # noqa: ASYNC110 - a real worker gives no signal
            await asyncio.sleep(0.02)


async def test_metrics_tell_what_happened(platform: Platform) -> None:
    """Events, turns, messages, receipts, requests and the database stand in one exposition, every family named."""
    before = read((await metrics_of(platform.url)).text)
    await tell_of_an_order(platform)
    answer = await metrics_of(platform.url)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    after = read(answer.text)

    def grown(name: str, **labels: str) -> float:
        key = (f"orderbell_{name}", tuple(sorted(labels.items())))
        return after.get(key, 0.0) - before.get(key, 0.0)

    assert grown("events_total", status="accepted") == 2
    assert grown("events_total", status="duplicate") == 1
    assert grown("events_total", status="refused") == 1
    assert grown("events_refused_total", reason="unknown_type") == 1
    assert grown("messages_total", channel="sms", provider="sandbox", outcome="accepted") == 1
    assert grown("receipts_total", provider="sandbox", outcome="delivered") >= 1
    assert grown("turn_seconds_count") == grown("turn_events_count") >= 1
    assert grown("turn_events_sum") == 3
    assert grown("tell_seconds_count", lane="critical") + grown("tell_seconds_count", lane="service") == 1
    assert grown("http_requests_total", method="POST", route="/v1/events", status="200") == 1
    assert after["orderbell_database_up", ()] == 1
    assert after["orderbell_provider_state", (("provider", "sandbox"), ("reason", ""))] == 0
    assert {dict(labels)["table"] for name, labels in after if name == "orderbell_database_dead_rows"} == set(
        HOT_TABLES
    )
    for name in (*(f"{one}_total" for one in TALLIES), *HISTOGRAMS, *GAUGES):
        assert f"# HELP {PREFIX}{name} " in answer.text


async def test_metrics_are_told_to_nobody_else(platform: Platform) -> None:
    """A caller behind a proxy finds nothing there, nor does one with a wrong token; the right one opens."""
    assert (await metrics_of(platform.url)).status_code == 200
    for headers in (
        {"x_forwarded_for": "203.0.113.9"}, {"forwarded": "for=203.0.113.9"}, {"via": "1.1 proxy"},
        {"authorization": "Bearer wrong"}, {"authorization": "Bearer"}, {"x_forwarded_for": "127.0.0.1"},
    ):  # fmt: skip
        answer = await metrics_of(platform.url, **headers)
        assert (answer.status_code, "orderbell_" in answer.text) == (404, False), headers
        missing = await metrics_of(f"{platform.url}/nowhere", **headers)
        assert answer.json() == missing.json()
    opened = await metrics_of(platform.url, x_forwarded_for="203.0.113.9", authorization=f"Bearer {TOKEN}")
    assert opened.status_code == 200


@pytest.mark.parametrize(
    ("peer", "headers", "token", "may"),
    [
        ("127.0.0.1", {}, "", True),
        ("::1", {}, "", True),
        ("10.0.0.7", {}, "", False),
        ("10.0.0.7", {}, TOKEN, False),
        ("10.0.0.7", {"authorization": f"Bearer {TOKEN}"}, TOKEN, True),
        ("10.0.0.7", {"authorization": "Bearer "}, "", False),
        ("10.0.0.7", {"authorization": f"Basic {TOKEN}"}, TOKEN, False),
        ("127.0.0.1", {"x-real-ip": "10.0.0.7"}, TOKEN, False),
        ("10.0.0.7", {"authorization": "Bearer ü"}, TOKEN, False),
    ],
)
def test_who_may_read(peer: str, headers: Mapping[str, str], token: str, may: bool) -> None:
    """This machine without a proxy, or the token; an empty token opens nothing."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert may_read({"headers": raw, "client": (peer, 4711)}, token) is may


async def test_database_is_looked_at_once_however_many_ask() -> None:
    """Twenty callers at once, and twenty more right after, cost one look."""
    looks = 0

    async def look() -> Mapping[str, Mapping[Labels, float]]:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0)
        return {"workers": {(): 3.0}}

    metrics = Metrics(look, dict)
    for _ in range(2):
        answers = await asyncio.gather(*(metrics.render("") for _ in range(20)))
        assert all(b"orderbell_workers 3.0" in body for body, _ in answers)
    assert looks == 1


async def test_figures_of_the_process_stay_when_the_database_is_away() -> None:
    """What the database would say is missing rather than stale, and `database_up` is 0."""

    async def look() -> Mapping[str, Mapping[Labels, float]]:
        raise DatabaseUnavailable("PostgreSQL does not answer")

    body, _ = await Metrics(look, lambda: {"intake_waiting": {(): 7.0}}).render("")
    found = read(body.decode())
    assert found["orderbell_database_up", ()] == 0
    assert found["orderbell_intake_waiting", ()] == 7
    assert ("orderbell_workers", ()) not in found


async def test_worker_without_web_listens_for_metrics(store: Store, tmp_path: Path) -> None:
    """A process without a site tells its figures at the port that is set, and whether it is ready."""
    with bind("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
    settings = Settings(
        database_url=store.dsn, data_dir=str(tmp_path), secret_key=SECRET, sandbox_port=0, metrics_port=port
    )
    async with open_platform(settings, web=False) as worker, httpx.AsyncClient(trust_env=False) as http:
        assert worker.metrics_url == f"http://127.0.0.1:{port}"
        text = (await metrics_of(worker.metrics_url)).text
        assert "orderbell_provider_state" in text
        assert (await http.get(f"{worker.metrics_url}/readyz")).json() == {"status": "ready"}
        assert (await http.get(f"{worker.metrics_url}/v1/events")).status_code == 404
