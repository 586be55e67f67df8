"""One click ends advertising, and nothing that is not a click does."""

from datetime import UTC, datetime

import httpx

from orderbell.core.model import Contact, encode_state
from orderbell.store.brand import Brand, Brands
from orderbell.store.postgres import Store
from orderbell.store.unsubscribe import read_token, unsubscribe_token
from orderbell.web.guest.desk import MISSES_MAX
from tests.database import VAULT
from tests.guests import Pages, people_of, running_pages

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TOKEN = unsubscribe_token(VAULT.index_key, "acme", "ann")


async def agreed(store: Store) -> None:
    """Have one person in the records who agreed to advertising."""
    ann = Contact("acme", "ann", email="ann@example.com", marketing="yes")
    body = VAULT.seal("acme", "ann", encode_state(ann))
    await store.pool.execute("INSERT INTO contact VALUES ('acme', 'ann', $1, $2)", body, NOON)


async def marketing(pages: Pages) -> str:
    """What the person says to advertising."""
    found = await people_of(pages.store).find("ann")
    assert found is not None
    return found.marketing


async def test_only_a_post_unsubscribes(store: Store) -> None:
    """A scanner that opens the link must change nothing; the one click of RFC 8058 must end advertising for good."""
    await agreed(store)
    people = people_of(store)
    async with running_pages(store) as pages:
        before = await people.find("ann")
        assert before is not None
        shown = await pages.http.get(f"/u/{TOKEN}", headers={"accept-language": "en"})
        assert (shown.status_code, "Stop our advertising?" in shown.text) == (200, True)
        assert shown.headers["cache-control"] == "no-store"
        assert shown.headers["referrer-policy"] == "no-referrer"
        assert await marketing(pages) == "yes"
        async with httpx.AsyncClient(base_url=pages.url, trust_env=False) as program:  # comes from nowhere
            done = await program.post(f"/u/{TOKEN}", data={"List-Unsubscribe": "One-Click"})
        assert done.status_code == 200
        assert "set-cookie" not in done.headers
    after = await people.find("ann")
    assert after is not None
    assert (after.marketing, after.states) == ("no", before.states)  # a click in a mail says nothing of the phone
    [record] = await people.consents("ann", 10)
    assert (record.scope, record.given, record.source.startswith("unsubscribe link")) == ("marketing", False, True)


async def test_page_names_the_shop_in_the_language_of_the_browser(store: Store) -> None:
    """Whoever clicks must see whose advertising ends, in their language, before and after."""
    await agreed(store)
    async with running_pages(store) as pages:
        await Brands(store).set("acme", Brand("<Nina's> 茶"), NOON)
        shown = await pages.http.get(f"/u/{TOKEN}", headers={"accept-language": "zh-CN"})
        assert "退订营销消息？" in shown.text
        assert "&lt;Nina&#39;s&gt; 茶" in shown.text
        done = await pages.http.post(f"/u/{TOKEN}", headers={"accept-language": "en"})
        assert "You are unsubscribed" in done.text
        assert "<form" not in done.text


async def test_token_that_is_not_ours(store: Store) -> None:
    """A token that was changed must look like nothing at all, and who tries many of them be asked to wait."""
    await agreed(store)
    async with running_pages(store) as pages:
        for token in (TOKEN[:-2] + "AA", "x", "A" * 60, TOKEN + "AAAA"):
            assert (await pages.http.post(f"/u/{token}")).status_code == 404, token
        assert await marketing(pages) == "yes"
        guesses = [await pages.http.get("/u/guess") for _ in range(MISSES_MAX)]
        assert guesses[-1].status_code == 429
        assert (await pages.http.get(f"/u/{TOKEN}")).status_code == 200  # a good one always opens


def test_token_names_tenant_and_contact() -> None:
    """What goes in must come out, and only under the key of that tenant."""
    assert read_token(VAULT.index_key, TOKEN) == ("acme", "ann")
    assert read_token(lambda _: VAULT.index_key("other"), TOKEN) is None
    assert read_token(VAULT.index_key, unsubscribe_token(VAULT.index_key, "a", "李雷")) == ("a", "李雷")
