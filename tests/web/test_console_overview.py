"""The overview: figures that lead to lists, first steps where there is nothing, and a feed that tells as it happens."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from orderbell.store.postgres import Store
from orderbell.web.console.live import micros_of
from orderbell.web.console.overview import ENOUGH
from tests.town import people
from tests.web.console_site import Console, running_console

PATIENCE_S = 20


@asynccontextmanager
async def _listening(
    console: Console, since: str, *, tenant: str = "acme", lang: str = "zh", last: str = ""
) -> AsyncIterator[AsyncIterator[str]]:
    headers = {"cookie": f"__Host-orderbell=viewer.{tenant}", "accept-language": lang}
    if last:
        headers["last-event-id"] = last
    async with console.http.stream("GET", f"/console/live?since={since}", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield answer.aiter_lines()


async def _next(lines: AsyncIterator[str], word: str) -> str:
    async with asyncio.timeout(PATIENCE_S):
        async for line in lines:
            if line.startswith("data: ") and word in line:
                return line
    raise AssertionError(word)


async def test_overview_of_nothing_says_what_to_do_first(store: Store) -> None:
    """A new shop is told to make a key, if it is theirs to make, and shown the first event as a command."""
    async with running_console(store) as console:
        owner = await console.page("/console", lang="en")
        viewer = await console.page("/console", role="viewer")
    assert "/v1/events" in owner
    assert "Authorization: Bearer ob_" in owner
    assert console.url in owner
    assert 'href="/console/settings/keys"' in owner
    assert "/console/settings/keys" not in viewer
    assert "三步" in viewer


async def test_cost_is_told_where_there_are_prices(store: Store) -> None:
    """What a day cost is the sum of the providers' prices; where none is known the page must not claim that it is 0."""
    async with running_console(store) as console:
        assert "no provider has a price yet" in await console.page("/console", lang="en")
    async with running_console(store, price_millifen={"scripted": 4500}) as console:
        await console.tell("order.placed", "A1", people=people())
        await console.tell("payment.failed", "A1", reason="no money")
        await console.settle()
        for _ in range(3):
            await console.rollup.round()
        sent = await store.pool.fetchval("SELECT count(*) FROM message WHERE provider = 'scripted'")
        page = await console.page("/console", lang="en")
    assert "no provider has a price yet" not in page
    assert sent > 0
    assert re.search(rf"Cost today</p>\s*<p class=.card-value.>¥{sent * 0.045:.2f}<", page)


async def test_overview_counts_and_leads_to_lists(store: Store) -> None:
    """Lights, anomalies, cases and messages of the day are counted, and each figure is a link to what it counts."""
    async with running_console(store) as console:
        await console.tell("order.placed", "A1", people=people())
        await console.tell("payment.failed", "A1", reason="no money")
        await console.settle()
        await console.tell("order.placed", "A2", people=people())
        await console.tell("payment.succeeded", "A2")
        await console.tell("stock.short", "A2", product="tea")
        for _ in range(3):
            await console.rollup.round()
        page = await console.page("/console", lang="en")
        piece = (await console.get("/console/figures", lang="en", htmx=True)).text
    assert "/v1/events" not in page
    assert "Given to the warehouse" in page
    for link in ("/console/orders?light=red", "/console/orders?anomaly=payment_failed", "/console/cases?owner=warehouse",
                 "/console/messages?state=unknown"):  # fmt: skip
        assert link in piece, link
    assert re.search(r'light=red">[^<]+</a></p><p class="card-value big">2<', piece)
    assert "100.0%" in piece
    assert "<html" not in piece
    assert 'hx-swap="innerMorph"' in page
    assert page.count("<script>") == 0


async def test_overview_draws_the_hour_where_enough_goes_on_else_the_day(store: Store) -> None:
    """A few events in the last hour are shown among those of the day, by the hour; many by the minute."""
    async with running_console(store) as console:
        await console.tell("order.placed", people=people())
        await console.rollup.round()
        first = await console.page("/console", lang="en")
        console.town.clock.turn(3 * 3600)
        await console.tell("payment.failed")
        await console.rollup.round()
        few = await console.page("/console", lang="en")
        console.town.clock.turn(3 * 3600)
        uncounted = await console.page("/console/figures", lang="en")
        for _ in range(ENOUGH):
            await console.tell("payment.failed")
        await console.rollup.round()
        many = await console.page("/console/figures", lang="en")
    assert "Events per minute in the last hour" in first
    assert "Events per hour in the last 24 hours" in few
    assert _series(few) == [0, 0, 1, 0, 0, 1]
    assert _series(uncounted) == _series(few), "hours that nobody has counted are not empty ones"
    assert "Events per minute in the last hour" in many
    assert sum(_series(many)) == ENOUGH


def _series(page: str) -> list[int]:
    found = re.search(r"data-chart='([^']*)'", page)
    assert found is not None
    series: list[int] = json.loads(found[1])["series"][0]["data"]
    return series


async def test_feed_tells_what_happens_in_the_language_of_the_page(store: Store) -> None:
    """A page hears of an event a moment later, as a line with a link; another tenant's page hears nothing of it."""
    async with running_console(store) as console:
        since = str(micros_of(console.town.clock()))
        async with (
            _listening(console, since) as chinese,
            _listening(console, since, lang="en") as english,
            _listening(console, since, tenant="other") as elsewhere,
        ):
            await console.tell("order.placed", "A1")
            await console.tell("order.placed", "O1", tenant="other")
            line = await _next(chinese, "A1")
            assert "下单" in line
            assert 'href="/console/orders/A1"' in line
            assert "The order was placed" in await _next(english, "A1")
            assert "A1" not in await _next(elsewhere, "<li")


async def test_feed_goes_on_where_a_page_lost_it(store: Store) -> None:
    """What happened while a page was away comes when it is back, once."""
    async with running_console(store) as console:
        await console.tell("order.placed", "A1")
        lost_at = console.town.clock()
        console.town.clock.turn(30)
        await console.tell("order.placed", "A2")
        async with _listening(console, "0", last=str(micros_of(lost_at + timedelta(seconds=10)))) as lines:
            assert "A2" in await _next(lines, "<li")
            await console.tell("order.placed", "A3")
            assert "A3" in await _next(lines, "<li")


async def test_feed_takes_any_marker(store: Store) -> None:
    """A marker that makes no sense begins now."""
    async with running_console(store) as console:
        for since in ("", "x", "9" * 30, "-1", "99999999999999999"):
            async with _listening(console, since) as lines:
                await console.tell("order.placed", f"N{len(since)}")
                assert f"N{len(since)}" in await _next(lines, "<li")


async def test_feed_shows_hostile_numbers_as_text(store: Store) -> None:
    """An order number that is markup stays text in the feed."""
    async with running_console(store) as console, _listening(console, "") as lines:
        await console.tell("order.placed", "<script>x()</script>")
        line = await _next(lines, "script")
    assert "<script>" not in line
