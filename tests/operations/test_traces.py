"""Traces: the whole way of an event can be followed, over the database and in batches, and nothing leaks into them."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from orderbell.app.platform import Platform, open_platform
from orderbell.app.tracing import open_traces
from orderbell.errors import SettingsInvalid
from orderbell.observe import traces
from orderbell.observe.spans import Spans
from orderbell.settings import Settings
from orderbell.store.postgres import Store
from tests.operations.collector import collector, spans_of

SECRET = bytes(range(32)).hex()  # that of the tests' vault
WITHIN_S = 60
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PEOPLE = {"buyer": {"id": "ann", "phone": "+8613800138000", "email": "ann@shop.example"}}


@pytest.fixture
def seen() -> Iterator[InMemorySpanExporter]:
    """Spans as they ended; traces are on while the test runs."""
    exporter = InMemorySpanExporter()
    spans = Spans(SimpleSpanProcessor(exporter), role="test")
    traces.switch_on(spans)
    yield exporter
    traces.switch_on(None)
    spans.close()


@pytest.fixture
async def platform(seen: InMemorySpanExporter, store: Store, tmp_path: Path) -> AsyncIterator[Platform]:
    """A whole platform that traces."""
    settings = Settings(database_url=store.dsn, data_dir=str(tmp_path), secret_key=SECRET, port=0, sandbox_port=0)
    async with open_platform(settings) as opened:
        yield opened


async def tell(platform: Platform, key: str, *events: tuple[str, str, str], **headers: str) -> None:
    """Send events in one request: id, order, type."""
    told = [
        {"id": id_, "source": "shop", "subject": order_no, "type": kind, "data": {"people": PEOPLE}}
        for id_, order_no, kind in events
    ]
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        named = {"authorization": f"Bearer {key}", "content-type": "application/json", **headers}
        answer = await http.post(f"{platform.url}/v1/events", content=msgspec.json.encode(told), headers=named)
    assert answer.json()["accepted"] == len(events), answer.text


async def receipts(seen: InMemorySpanExporter, count: int) -> tuple[ReadableSpan, ...]:
    """Wait until so many receipts were written down, and give all spans."""
    async with asyncio.timeout(WITHIN_S):
        while Counter(one.name for one in seen.get_finished_spans())["receipt"] < count:  # noqa: ASYNC110 - no signal
            await asyncio.sleep(0.02)
    return seen.get_finished_spans()


def trace_of(span: ReadableSpan) -> int:
    """The id of a span's trace."""
    assert span.context is not None
    return int(span.context.trace_id)


def linked(span: ReadableSpan) -> set[int]:
    """The ids of the traces that a span names."""
    return {link.context.trace_id for link in span.links}


async def test_way_of_an_event_is_one_trace_and_its_request(platform: Platform, seen: InMemorySpanExporter) -> None:
    """The notice's trace holds its decision, plan, hand-over and receipt, and links to the caller's own trace."""
    key = await platform.add_tenant("acme")
    await tell(platform, key, ("1", "A1", "order.placed"), ("2", "A1", "payment.failed"), traceparent=PARENT)
    spans = await receipts(seen, 1)
    (request,) = [one for one in spans if one.name == "POST /v1/events"]
    assert request.parent is not None
    assert f"{trace_of(request):032x}-{request.parent.span_id:016x}" == PARENT[3:-3]
    assert dict(request.attributes or {}) == {"http.route": "/v1/events", "http.response.status_code": 200}
    (receipt, *_) = [one for one in spans if one.name == "receipt"]
    way = [one for one in spans if trace_of(one) == trace_of(receipt)]
    names = [one.name for one in sorted(way, key=lambda one: one.end_time or 0)]
    assert names[0] == "notice"
    assert [name for name in names if name != "plan"][1:] == ["send", "receipt"]
    (root,) = [one for one in way if one.name == "notice"]
    assert root.parent is None
    assert all(
        one.parent.span_id == root.context.span_id for one in way if one is not root and one.parent and root.context
    )
    assert trace_of(request) in linked(root)
    (turn,) = [one for one in spans if one.name == "turn" and trace_of(request) in linked(one)]
    assert trace_of(turn) in linked(root)
    (decide,) = [one for one in spans if one.name == "decide"]
    assert (trace_of(decide), linked(decide)) == (trace_of(request), {trace_of(turn)})
    assert (root.attributes or {})["orderbell.event.id"] == "2"
    notice_ids = await platform.store.pool.fetch("SELECT notice_id FROM notice UNION SELECT notice_id FROM queue")
    assert trace_of(receipt) in {int.from_bytes(row[0], "big") for row in notice_ids}


async def test_batch_is_joined_to_its_requests_by_links(platform: Platform, seen: InMemorySpanExporter) -> None:
    """Requests that are decided together keep their own traces, and each notice finds its own request."""
    key = await platform.add_tenant("acme")
    parents = {f"B{n}": f"00-{n:032x}-{n:016x}-01" for n in range(1, 6)}
    await asyncio.gather(
        *(
            tell(platform, key, (f"{no}p", no, "order.placed"), (f"{no}f", no, "payment.failed"), traceparent=parent)
            for no, parent in parents.items()
        )
    )
    spans = await receipts(seen, 1)
    roots = [one for one in spans if one.name == "notice"]
    for root in roots:
        order_no = str((root.attributes or {})["orderbell.order_no"])
        assert int(parents[order_no][3:35], 16) in linked(root)
    turns = [one for one in spans if one.name == "turn"]
    assert set().union(*map(linked, turns)) >= {int(parent[3:35], 16) for parent in parents.values()}


async def test_traces_hold_no_person(platform: Platform, seen: InMemorySpanExporter) -> None:
    """No phone, mail address or text stands in a span, not even where somebody names an event by a phone."""
    key = await platform.add_tenant("acme")
    await tell(platform, key, ("1", "A1", "order.placed"), ("tel 13800138000", "A1", "payment.failed"))
    spans = await receipts(seen, 1)
    written = "\n".join(one.to_json() for one in spans)
    for secret in ("13800138000", "ann@shop", "支付", key):
        assert secret not in written
    assert "138****8000" in written


async def test_page_for_everybody_continues_no_strangers_trace(platform: Platform, seen: InMemorySpanExporter) -> None:
    """Only the API takes a caller's trace over; a path that holds a secret is shown as its pattern."""
    async with httpx.AsyncClient(trust_env=False) as http:
        await http.get(f"{platform.url}/u/secret-of-ann", headers={"traceparent": PARENT})
        await http.get(f"{platform.url}/nowhere/secret-of-ann", headers={"traceparent": PARENT})
    spans = [one for one in seen.get_finished_spans() if one.name.startswith("GET")]
    assert len(spans) == 2
    assert all(one.parent is None for one in spans)
    assert "secret-of-ann" not in "".join(one.to_json() for one in spans)


def test_share_of_notices_is_the_same_everywhere() -> None:
    """Whether a notice is traced is drawn from its id: every process draws the same."""
    ids = [bytes([n]) * 16 for n in range(1, 256)]
    draws = []
    for _ in range(2):
        exporter = InMemorySpanExporter()
        spans = Spans(SimpleSpanProcessor(exporter), share=0.25)
        spans.heard("sandbox", [((one,), True) for one in ids])
        draws.append({trace_of(one) for one in exporter.get_finished_spans()})
        spans.close()
    assert draws[0] == draws[1]
    assert 32 <= len(draws[0]) <= 96


def test_nothing_of_opentelemetry_is_imported_when_off() -> None:
    """Who does not trace pays nothing, and needs not have it installed."""
    code = "import sys, orderbell.app.platform; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_spans_reach_a_collector(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `traces_url` set, what happened is at the collector when the platform has ended, and tracing is over."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with collector() as (url, received):
        settings = Settings(
            database_url=store.dsn, data_dir=str(tmp_path), secret_key=SECRET, port=0, sandbox_port=0, traces_url=url
        )
        async with open_platform(settings) as platform:
            key = await platform.add_tenant("acme")
            await tell(platform, key, ("1", "A1", "order.placed"), ("2", "A1", "payment.failed"))
            async with asyncio.timeout(WITHIN_S):
                told = "SELECT count(*) FROM message WHERE status = 'delivered'"
                while not await store.pool.fetchval(told):  # noqa: ASYNC110 - a real worker gives no signal
                    await asyncio.sleep(0.02)
    assert traces.active() is None
    names = {span.name for span in spans_of(received)}
    assert {"POST /v1/events", "turn", "decide", "notice", "plan", "send"} <= names
    resource = {one.key: one.value.string_value for one in received[0].resource_spans[0].resource.attributes}
    assert (resource["service.name"], resource["orderbell.role"]) == ("orderbell", "all")


@pytest.mark.parametrize("url", ["collector:4318", "ftp://collector/v1/traces", "http://"])
async def test_bad_address_of_the_collector_is_refused(url: str) -> None:
    """A start with an address that cannot be one says so."""
    with pytest.raises(SettingsInvalid, match="traces_url"):
        async with open_traces(Settings(traces_url=url), "all"):
            pytest.fail("traces were switched on")


async def test_missing_opentelemetry_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the start names it."""
    monkeypatch.setitem(sys.modules, "orderbell.observe.spans", None)
    with pytest.raises(SettingsInvalid, match=r"orderbell\[traces\]"):
        async with open_traces(Settings(traces_url="http://127.0.0.1:4318/v1/traces"), "all"):
            pytest.fail("traces were switched on")
