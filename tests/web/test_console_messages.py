"""The lists of messages and cases: what they show, how they are narrowed, and who may see them."""

import csv
import io
import re

from orderbell.channels.protocol import Outcome
from orderbell.store.postgres import Store
from tests.town import people
from tests.web.console_site import Console, running_console


async def _told(console: Console, order_no: str = "A1", **person: object) -> None:
    await console.tell("order.placed", order_no, people=people(**person))
    await console.tell("payment.failed", order_no, reason="no money")
    await console.settle()


async def test_messages_show_what_was_sent_and_what_came_of_it(store: Store) -> None:
    """Each row has its status, its order, the masked address and the text; tabs show what wants a look."""
    async with running_console(store) as console:
        await _told(console, "A1")
        console.town.channel.outcomes[:] = [Outcome.UNKNOWN]
        await _told(console, "B1", id="bob", phone="+8613900139111")
        await console.rollup.round()
        page = await console.page("/console/messages", lang="en")
        unknown = await console.page("/console/messages?state=unknown", lang="en")
        failed = await console.page("/console/messages?state=failed", lang="en")
    assert "138****8000" in page
    assert "13800138000" not in page
    assert {"A1", "B1"} <= set(re.findall(r">(A1|B1)</a>", page))
    assert set(re.findall(r">(A1|B1)</a>", unknown)) == {"B1"}
    assert "no clear answer" in unknown
    assert "All messages arrived" in failed


async def test_messages_are_narrowed(store: Store) -> None:
    """Channel, topic, provider, order and day narrow the list; a day that is none is told beside its field."""
    async with running_console(store) as console:
        await _told(console)
        for query, count in (
            ("channel=sms", 1), ("channel=email", 0), ("topic=payment_failed", 1), ("topic=x", 0), ("provider=none", 0),
            ("provider=scripted", 1), ("order_no=A1", 1), ("order_no=A2", 0), ("day=2026-03-02", 1), ("day=2026-03-01", 0),
        ):  # fmt: skip
            page = await console.page(f"/console/messages?{query}")
            assert len(re.findall(r'class="excerpt"', page)) == count, query
        wrong = await console.page("/console/messages?day=yesterday", lang="en")
    assert 'id="w-day"' in wrong
    assert "This is not a date" in wrong


async def test_message_opens_its_details(store: Store) -> None:
    """A page for browsers, a piece for htmx; another tenant's message is not there."""
    async with running_console(store) as console:
        console.town.channel.outcomes[:] = [Outcome.RETRY_LATER]
        await _told(console)
        name = (await store.pool.fetchval("SELECT message_id FROM message")).hex()
        page = await console.page(f"/console/messages/{name}", lang="en")
        piece = await console.get(f"/console/messages/{name}", htmx=True)
        theirs = await console.get(f"/console/messages/{name}", tenant="other")
        strange = await console.get("/console/messages/zz")
    assert "<html" in page
    assert "<html" not in piece.text
    assert "scripted" in page
    assert "Tries that failed" in page
    assert (theirs.status_code, strange.status_code) == (404, 404)


async def test_messages_export_is_a_file(store: Store) -> None:
    """The file holds the rows that were looked for, with addresses masked."""
    async with running_console(store) as console:
        await _told(console)
        answer = await console.get("/console/messages.csv?channel=sms", lang="en", role="viewer")
    rows = list(csv.reader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert rows[0][:3] == ["id", "order", "topic"]
    assert [row[1] for row in rows[1:]] == ["A1"]
    assert "13800138000" not in answer.text


async def test_cases_show_whose_they_are(store: Store) -> None:
    """An open case stands there with its owner and its order; owners and states narrow the list."""
    async with running_console(store) as console:
        await console.tell("order.placed", people=people())
        await console.tell("payment.succeeded")
        await console.tell("stock.short", product="tea")
        page = await console.page("/console/cases", lang="en")
        other = await console.page("/console/cases?owner=finance", lang="en")
        done = await console.page("/console/cases?state=resolved", lang="en")
        theirs = await console.page("/console/cases", tenant="other", lang="en")
        viewed = await console.page("/console/cases", role="viewer", lang="en")
    assert "out of stock" in page
    assert "The warehouse" in page
    assert 'href="/console/orders/A1"' in page
    for empty, words in ((theirs, "a case appears here"), (other, "This team has none"), (done, "case.resolved")):
        assert words in empty
        assert "/console/orders/A1" not in empty
    assert "Next: open the order" in page
    assert 'href="/console/people/ann"' in page
    assert 'href="/console/orders/A1"' in viewed
    assert "/console/people/ann" not in viewed
