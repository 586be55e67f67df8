"""One click ends advertising, and nothing that is not a click does."""

from datetime import UTC, datetime

import httpx
import pytest

from orderbell.core.model import Contact, encode_state
from orderbell.serving import serving
from orderbell.sources.unsubscribe import read_token, unsubscribe_route, unsubscribe_token
from orderbell.store.people import People
from orderbell.store.postgres import Store
from orderbell.web.site import create_site
from tests.database import VAULT

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TOKEN = unsubscribe_token(VAULT.index_key, "acme", "ann")


async def _ready() -> list[str]:
    return []


@pytest.fixture
async def store(database: str) -> Store:
    """A store with one person who agreed to advertising."""
    opened = await Store.open(database, VAULT, connections=2)
    ann = Contact("acme", "ann", email="ann@example.com", marketing="yes")
    body = VAULT.seal("acme", "ann", encode_state(ann))
    await opened.pool.execute("DELETE FROM contact")
    await opened.pool.execute("INSERT INTO contact VALUES ('acme', 'ann', $1, $2)", body, NOON)
    return opened


async def test_only_a_post_unsubscribes(store: Store) -> None:
    """A scanner that opens the link must change nothing; the one click of RFC 8058 must end advertising for good."""
    people = People(store, "acme")
    site = create_site([unsubscribe_route(lambda tenant: People(store, tenant), VAULT.index_key, lambda: NOON)], _ready)
    async with serving(site) as url, httpx.AsyncClient() as client:
        shown = await client.get(f"{url}/u/{TOKEN}", headers={"accept-language": "en"})
        assert (shown.status_code, "Unsubscribe" in shown.text) == (200, True)
        assert shown.headers["cache-control"] == "no-store"
        before = await people.find("ann")
        assert before is not None
        assert before.marketing == "yes"
        done = await client.post(f"{url}/u/{TOKEN}", data={"List-Unsubscribe": "One-Click"})
        assert done.status_code == 200
        assert "set-cookie" not in done.headers
    after = await people.find("ann")
    assert after is not None
    assert (after.marketing, after.states) == ("no", before.states)  # a click in a mail says nothing of the phone
    [record] = await people.consents("ann", 10)
    assert (record.scope, record.given, record.source.startswith("unsubscribe link")) == ("marketing", False, True)
    await store.close()


async def test_token_that_is_not_ours(store: Store) -> None:
    """A token that was changed, or made for another tenant, must look like nothing at all."""
    site = create_site([unsubscribe_route(lambda tenant: People(store, tenant), VAULT.index_key, lambda: NOON)], _ready)
    async with serving(site) as url, httpx.AsyncClient() as client:
        for token in (TOKEN[:-2] + "AA", "x", "A" * 60, TOKEN + "AAAA"):
            assert (await client.post(f"{url}/u/{token}")).status_code == 404, token
    await store.close()


def test_token_names_tenant_and_contact() -> None:
    """What goes in must come out, and only under the key of that tenant."""
    assert read_token(VAULT.index_key, TOKEN) == ("acme", "ann")
    assert read_token(lambda _: VAULT.index_key("other"), TOKEN) is None
    assert read_token(VAULT.index_key, unsubscribe_token(VAULT.index_key, "a", "李雷")) == ("a", "李雷")
