"""The console's pages of playbooks, providers and the glossary: what they show, to whom, and what they do."""

import asyncio
import re
from pathlib import Path

import pytest

from orderbell.store.ledger import Ledger, Standing
from orderbell.store.postgres import Store
from orderbell.web.console.glossary import read_terms
from tests.web.playbook_site import Site, running_playbooks

DRAFT = "name: retail\nextends: retail\nnotices:\n  shipped: {within: 6m}\n"
PAGES = ("", "/retail", "/retail/texts", "/retail/versions", "/retail/draft")
EVIL = "<script>alert(1)</script>"


def seen_of(page: str) -> str:
    """The stamp of the draft that a page shows."""
    found = re.search(r'name="seen" value="([^"]*)"', page)
    assert found is not None
    return found[1].replace("&#43;", "+")


async def activated(site: Site, body: str = DRAFT, name: str = "retail", expected: str = "") -> str:
    """Save a draft, activate it as its page says, and give back the page that answers."""
    draft = await site.page(f"/console/playbook/{name}/draft")
    assert (await site.save(body, name, seen=seen_of(draft))).status_code == 303
    draft = await site.page(f"/console/playbook/{name}/draft")
    form = {"expected": expected or site.version(name), "seen": seen_of(draft), "sure": "yes"}
    answer = await site.post(f"/console/playbook/{name}/activate", form)
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.parametrize("lang", ["zh", "en"])
async def test_pages_of_a_shipped_playbook(store: Store, lang: str) -> None:
    """Every page must be there in both languages, with the ladder, the topics and the anomalies."""
    async with running_playbooks(store) as site:
        texts = [await site.page(f"/console/playbook{path}", lang=lang) for path in PAGES]
    assert "digital" in texts[0]
    for said in ("已交给快递，在路上", "parcel_lost") if lang == "zh" else ("With the courier", "parcel_lost"):
        assert said in texts[1]
    assert "/70" in texts[2]
