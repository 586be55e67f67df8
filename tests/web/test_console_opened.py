"""The page of what people open: shares by topic and channel, which are low, and the way to the words."""

import re

from orderbell.playbooks import load_shelf
from orderbell.store.links import OpenRate
from orderbell.store.postgres import Store
from orderbell.web.console.opened import JUDGED_FROM, opened_of
from tests.town import people
from tests.web.console_site import Console, running_console


async def _links(console: Console, topic: str, channel: str, sent: int, clicked: int) -> None:
    """Put down messages with a link, some of which somebody followed, and a scanner all of them."""
    pool = console.town.store.pool
    await pool.execute(
        "INSERT INTO link (tenant, code_hash, order_no, contact, message_id, topic, channel, made_at)"
        " SELECT tenant, sha256(convert_to($1 || $2 || n, 'UTF8')), order_no, contact, message_id, $1, $2, $4"
        " FROM (SELECT * FROM message LIMIT 1) m, generate_series(1, $3::int) n",
        topic, channel, sent, console.town.clock(),
    )  # fmt: skip
    await pool.execute(
        "INSERT INTO hit (tenant, code_hash, at, visitor, human, reason)"
        " SELECT 'acme', sha256(convert_to($1 || $2 || n, 'UTF8')), $4, '\\x00', n <= $5::int, 'person'"
        " FROM generate_series(1, $3::int) n",
        topic, channel, sent, console.town.clock(), clicked,
    )  # fmt: skip


def _row(page: str, words: str) -> str:
    rows: list[str] = re.findall(r"<tr>.*?</tr>", page, re.DOTALL)
    return next(row for row in rows if words in row)


async def test_opened_shows_shares_by_topic_and_channel(store: Store) -> None:
    """A share counts people; a low one stands first and leads to its texts; too few are not judged."""
    async with running_console(store, public_url="https://bell.example") as console:
        await console.tell("order.placed", people=people())
        await console.tell("payment.failed")
        await console.settle()
        await _links(console, "shipped", "push", 100, 60)
        await _links(console, "payment_failed", "push", 50, 5)
        await _links(console, "refunded", "email", JUDGED_FROM - 1, 20)
        page = await console.page("/console/messages/opened", lang="en")
        looked = await console.page("/console/messages/opened?days=7", role="viewer", lang="en")
        await store.pool.execute("UPDATE link SET made_at = made_at - interval '20 days'")
        older = await console.page("/console/messages/opened?days=7", lang="en")
        listed = await console.page("/console/messages", lang="en")
        theirs = await console.page("/console/messages/opened", tenant="other", lang="en")
    assert page.index("5 / 50") < page.index("60 / 100")
    low = _row(page, "5 / 50")
    assert "10.0%" in low
    assert ">Low<" in low
    assert "Change the words" in low
    assert "/console/playbook/retail/texts?topic=payment_failed&amp;channel=push" in low
    assert ">Low<" not in _row(page, "60 / 100")
    assert "too early to say" in _row(page, f"20 / {JUDGED_FROM - 1}")
    assert "See the words" in looked
    assert "Change the words" not in looked
    assert "No message went out with a link yet" in older
    assert 'href="/console/messages/opened"' in listed
    assert "No message went out with a link yet" in theirs


async def test_opened_without_links_says_what_they_need(store: Store) -> None:
    """Where the installation knows no address of its own, the page says so instead of showing nothing."""
    async with running_console(store) as console:
        page = await console.page("/console/messages/opened")
    assert "public_url" in page


def test_opened_judges_against_the_same_channel() -> None:
    """Half of what a channel reaches together is low, however much another channel reaches; unknown topics stay."""
    rates = [
        OpenRate("shipped", "email", 1000, 100, 900), OpenRate("gone", "email", 40, 1, 40),
        OpenRate("shipped", "push", 1000, 600, 700), OpenRate("late", "push", 29, 0, 0),
    ]  # fmt: skip
    rows = opened_of(rates, load_shelf(""))
    assert [(one.topic, one.channel, one.is_low) for one in rows] == [
        ("gone", "email", True), ("shipped", "email", False), ("shipped", "push", False), ("late", "push", False),
    ]  # fmt: skip
    assert [one.share for one in rows] == [1 / 40, 0.1, 0.6, None]
    assert rows[0].texts == []
    assert {name for name, _ in rows[1].texts} <= set(load_shelf("").playbooks)
