"""The console's pages of playbooks, providers and the glossary: what they show, to whom, and what they do."""

import asyncio
import html
import re
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from orderbell.store.ledger import Ledger, Standing
from orderbell.store.postgres import Store
from orderbell.web.console.glossary import read_terms
from tests.town import people
from tests.web.playbook_site import Site, running_playbooks

DRAFT = "name: retail\nextends: retail\nnotices:\n  shipped: {within: 6m, channels: [inbox], also: []}\n"
PAGES = ("", "/retail", "/retail/texts", "/retail/versions", "/retail/draft")
NARROW = 3  # tables without a column for the code
EVIL = "<script>alert(1)</script>"


def shows(page: str, *words: str) -> bool:
    """Whether all words stand on a page; what is missing is printed, the page is not."""
    missing = [word for word in words if word not in page]
    if missing:
        print("missing:", missing)  # noqa: T201 - for whoever reads the failure
    return not missing


def seen_of(page: str) -> str:
    """The stamp of the draft that a page shows."""
    found = re.search(r'name="seen" value="([^"]*)"', page)
    return html.unescape(found[1]) if found else ""


async def saved(site: Site, body: str, name: str = "retail") -> str:
    """Save a draft as its page says, and give back the page that then shows it."""
    page = await site.page(f"/console/playbook/{name}/draft")
    answer = await site.save(body, name, seen=seen_of(page))
    assert answer.status_code == 303, answer.status_code
    return await site.page(f"/console/playbook/{name}/draft")


async def activate(site: Site, page: str, name: str = "retail", **changes: str) -> httpx.Response:
    """Press the button of a draft's page."""
    counts = site.following.shelves["acme"].playbooks.get(name)
    form = {"expected": counts.version if counts else "", "seen": seen_of(page), "sure": "yes"} | changes
    return await site.post(f"/console/playbook/{name}/activate", form)


@pytest.mark.parametrize("lang", ["zh", "en"])
async def test_pages_of_a_shipped_playbook(store: Store, lang: str) -> None:
    """Every page must be there in both languages, with the ladder, the topics, the anomalies and the meters."""
    async with running_playbooks(store) as site:
        texts = [await site.page(f"/console/playbook{path}", lang=lang) for path in PAGES]
        by_topic = await site.page("/console/playbook/retail/texts?topic=parcel_lost&tone=amends", lang=lang)
    assert shows(texts[0], "digital", "consignment")
    assert shows(texts[1], "已交给快递，在路上" if lang == "zh" else "With the courier", "parcel_lost", "stock_short")
    assert shows(texts[2], "/70" if lang == "zh" else "/160", "<meter ")
    assert "shipped</code>" not in by_topic
    assert shows(by_topic, "parcel_lost</code>")


async def test_draft_is_checked_tried_and_activated(store: Store) -> None:
    """A draft that lints clean must show what changes before the button, and count once it is confirmed."""
    async with running_playbooks(store) as site:
        begin = await site.page("/console/playbook/retail/draft")
        assert shows(begin, "name: retail", "extends: retail")
        assert "/activate" not in begin, "nothing is saved yet"
        page = await saved(site, DRAFT)
        assert shows(page, "found no problem", "within: 10m", "within: 6m", "/activate", "/trial")
        unsure = await activate(site, page, sure="")
        assert (unsure.status_code, site.version()) == (422, site.desk.files("acme").playbooks["retail"].version)
        done = await activate(site, page)
        assert done.status_code == 200
        assert shows(done.text, "in use", "owner-name", site.version())
        assert site.following.shelves["acme"].playbooks["retail"].spec.notices["shipped"].within == "6m"
        assert await site.desk.of("acme").draft("retail") is None
        again = await site.page("/console/playbook/retail/draft")
        assert shows(again, "within: 6m"), "the next draft begins with what was written"
        assert ("user:owner-name", "playbook.activate", "retail") in await site.actions()


async def test_draft_with_faults_has_no_button(store: Store) -> None:
    """Faults must stand beside the numbers of their lines, and nothing can be activated."""
    async with running_playbooks(store) as site:
        page = await saved(site, DRAFT + "stages:\n  lost: {}\n")
        assert shows(page, "Line 6", "stages.lost", "add a rule with")
        assert "/activate" not in page
        refused = await activate(site, page)
        assert refused.status_code == 409
        assert shows(refused.text, "nothing was activated")
        other = await saved(site, "name: digital\nextends: digital\n")
        assert "/activate" not in other
        assert shows(other, "calls itself digital")


async def test_faults_are_told_in_the_language_of_who_looks(store: Store) -> None:
    """Who reads Chinese must find each fault in Chinese, who reads English in English; what was written is escaped."""
    async with running_playbooks(store) as site:
        await saved(site, f"{DRAFT}stages:\n  '{EVIL}': {{}}\nnote: hello\n")
        chinese = await site.page("/console/playbook/retail/draft", lang="zh")
        english = await site.page("/console/playbook/retail/draft")
        await saved(site, "name: retail\n")
        whole = await site.page("/console/playbook/retail/draft", lang="zh")
    assert shows(chinese, "没有规则会走到阶段「&lt;script&gt;", "加一条规则，写上 <code>stage: &lt;script&gt;")
    assert "nothing leads to" not in chinese
    assert shows(english, "nothing leads to the stage", "add a rule with")
    assert EVIL not in chinese + english
    assert shows(whole, "整份方案", "缺少 <code>principal</code> 这一项")


async def test_somebody_was_quicker(store: Store) -> None:
    """Who activates on a version that no longer counts must be told which one does; so must who saves over a draft."""
    async with running_playbooks(store) as site:
        shipped, page = site.version(), await saved(site, DRAFT)
        other = await site.desk.activate(
            "acme", "retail", DRAFT.replace("6m", "8m"), expected=shipped, actor="user:bob"
        )  # fmt: skip
        assert other is not None
        late = await activate(site, page, expected=shipped)
        assert late.status_code == 409
        assert shows(late.text, "Somebody was quicker", site.version())
        assert shows(await site.page("/console/playbook/retail/draft"), "has come into use")
        clash = await site.save("name: retail\nextends: retail\n# mine\n", seen="2020-01-01T00:00:00+00:00")
        assert clash.status_code == 409
        assert shows(clash.text, "# mine", "within: 6m"), "theirs and mine both stand there"


async def test_rolling_back_on_the_page_of_versions(store: Store) -> None:
    """An older version must be compared and activated again from the list of versions."""
    async with running_playbooks(store) as site:
        shipped = site.version()
        await activate(site, await saved(site, DRAFT))
        first = site.version()
        versions = await site.page("/console/playbook/retail/versions")
        assert shows(versions, first, shipped, "Go back to the version of the files")
        diff = await site.page(f"/console/playbook/retail/diff?old={first}&new={shipped}")
        assert shows(diff, "within: 6m", "within: 10m")
        form = {"version": shipped, "expected": first, "sure": "yes"}
        back = await site.post("/console/playbook/retail/activate", form)
        assert (back.status_code, site.version()) == (200, shipped)
        assert (await site.get("/console/playbook/retail/diff?old=000000000000")).status_code == 404


async def test_new_playbook(store: Store) -> None:
    """A playbook of a new name must begin from the default one, and be listed once it counts."""
    async with running_playbooks(store) as site:
        wrong = await site.post("/console/playbook", {"name": EVIL})
        assert wrong.status_code == 422
        assert EVIL not in wrong.text
        begun = await site.post("/console/playbook", {"name": "vip-line"})
        assert begun.headers["location"] == "/console/playbook/vip-line/draft"
        page = await saved(site, "name: vip-line\nextends: retail\n", "vip-line")
        assert shows(await site.page("/console/playbook"), "vip-line")
        assert (await activate(site, page, "vip-line")).status_code == 200
        assert shows(await site.page("/console/playbook/vip-line"), "activated here")
        assert (await site.get("/console/playbook/vip-line", tenant="other")).status_code == 404


async def test_what_is_in_use_is_named(store: Store) -> None:
    """A refusal because of live orders must name the stages in words, and keep the draft."""
    text = (
        "name: lane\nextends: base\nprincipal: buyer\n"
        "stages: {placed: {}, paid: {}, %s: {}, done: {light: green}, cancelled: {light: green, end: true}}\n"
        "rules:\n  - {on: payment.succeeded, stage: paid}\n  - {on: parcel.packed, stage: %s}\n"
        "  - {on: order.cancelled, stage: cancelled}\n  - {on: order.completed, stage: done}\n"
    )
    async with running_playbooks(store) as site:
        page = await saved(site, text % ("boxed", "boxed"), "lane")
        assert (await activate(site, page, "lane")).status_code == 200
        await site.tell("order.placed", playbook="lane", people=people())
        await site.tell("parcel.packed")
        page = await saved(site, text % ("wrapped", "wrapped"), "lane")
        refused = await activate(site, page, "lane")
        assert refused.status_code == 409
        assert shows(refused.text, "Live orders stand at: boxed")


@pytest.mark.parametrize("body", ["[" * 60_000, "x" * 200_000, "a\0b", "&a [*a]", "name: " + EVIL, ""])
async def test_hostile_draft(store: Store, body: str) -> None:
    """Whatever somebody types, the page must answer, and show it as text."""
    async with running_playbooks(store) as site:
        answer = await site.save(body)
        assert answer.status_code in (303, 413), answer.status_code
        page = await site.page("/console/playbook/retail/draft")
        assert EVIL not in page
        assert "/activate" not in page


async def test_script_in_names_and_texts_is_shown_as_text(store: Store) -> None:
    """Names of stages, topics and texts are data: what looks like a script must never be one."""
    evil = (
        "name: retail\nextends: retail\nstages:\n"
        f"  placed: {{says: {{en: '{EVIL}', zh-CN: '<b>'}}}}\n"
        f"note: '{EVIL}'\nwording:\n  en: {{texts: {{shipped: {{sms: ['{EVIL}']}}}}}}\n"
    )
    async with running_playbooks(store) as site:
        page = await saved(site, evil)
        assert EVIL not in page
        assert shows(page, html.escape(EVIL))
        assert (await activate(site, page)).status_code == 200
        for path in PAGES:
            assert EVIL not in await site.page(f"/console/playbook{path}")
        assert EVIL not in await site.page("/console/playbook/retail/texts?topic=shipped")


async def test_rights_and_tenants(store: Store) -> None:
    """Viewers and agents may look and change nothing; strangers are sent to sign in; another tenant's is not there."""
    async with running_playbooks(store) as site:
        page = await saved(site, DRAFT)
        forms = {
            "/retail/draft": {"body": "x"}, "/retail/draft/drop": {}, "/retail/trial": {"days": "7"},
            "/retail/trial/stop": {}, "/retail/activate": {"sure": "yes", "seen": seen_of(page)}, "": {"name": "new"},
        }  # fmt: skip
        for path, form in forms.items():
            for role in ("viewer", "agent"):
                answer = await site.post(f"/console/playbook{path}", form, role=role)
                assert answer.status_code == 403, (path, role)
            foreign = await site.http.post(f"/console/playbook{path}", data=form)
            assert foreign.status_code in (303, 403), path
        for path in PAGES:
            assert "<button>" not in (await site.page(f"/console/playbook{path}", role="viewer")).split("<main")[1] or (
                path == "/retail/texts"
            )
            assert (await site.http.get(f"/console/playbook{path}")).status_code == 303
        theirs = await site.page("/console/playbook/retail/draft", tenant="other")
        assert "within: 6m" not in theirs
        assert (await site.post("/console/playbook/retail/trial", {"days": "7"}, tenant="other")).status_code == 404
        assert (await site.get("/console/playbook/nobodys")).status_code == 404
        assert (await site.get("/console/playbook/a%00b/draft")).status_code == 404


async def tried(site: Site, days: str = "7") -> str:
    """Try the draft, and wait for what comes of it."""
    begun = await site.post("/console/playbook/retail/trial", {"days": days})
    assert begun.status_code == 303
    while site.trying.is_busy:
        await site.trying.finished()
    return await site.page("/console/playbook/retail/draft")


async def test_trial_on_past_orders(store: Store) -> None:
    """The tenant's own orders must be run under both versions, and what differs be shown before the button."""
    async with running_playbooks(store) as site:
        for number in range(3):
            await site.tell("order.placed", f"A{number}", people=people(), title=EVIL)
            await site.tell("payment.succeeded", f"A{number}")
            await site.tell("parcel.shipped", f"A{number}", tracking_no="SF1", carrier="SF")
        await site.tell("order.placed", "B1", tenant="other", people=people())
        await saved(site, DRAFT)
        page = await tried(site)
        assert shows(page, "3 of 3 orders (100 %) change", "This text was tried on past orders", "9 events")
        assert EVIL not in page
        assert page.index("trial-now") < page.index('id="activate"')
        report = await site.get("/console/playbook/retail/trial/report")
        assert (report.status_code, "attachment" in report.headers["content-disposition"]) == (200, True)
        assert EVIL not in report.text
        assert (await site.get("/console/playbook/retail/trial/report", tenant="other")).status_code == 404
        kept = await store.pool.fetchval("SELECT result FROM trial")
        assert b"138" not in kept, "results quote messages, so they are sealed"
        changed = await saved(site, DRAFT.replace("6m", "7m"))
        assert shows(changed, "another text of the draft")
        assert "This text was tried on past orders" not in changed


async def test_trial_without_orders(store: Store) -> None:
    """Where nothing began in that time, the page must say so instead of comparing nothing."""
    async with running_playbooks(store) as site:
        await saved(site, DRAFT)
        assert shows(await tried(site), "there is nothing to compare")


async def test_trial_one_at_a_time_and_stopped(store: Store) -> None:
    """A tenant has one trial at a time, it can be stopped, and one whose process is gone is given up."""
    async with running_playbooks(store) as site:
        await saved(site, DRAFT)
        await store.pool.execute(
            "INSERT INTO trial (tenant, trial_id, name, version, against, days, started_at, seen_at, actor, total)"
            " VALUES ('acme', gen_random_uuid(), 'retail', 'x', 'y', 7, $1, $1, 'user:bob', 10)", site.clock(),
        )  # fmt: skip
        page = await site.page("/console/playbook/retail/draft")
        assert shows(page, "Running: 0 of 10", "/trial/stop", 'hx-trigger="every 2s"')
        busy = await site.post("/console/playbook/retail/trial", {"days": "7"})
        assert "busy=1" in busy.headers["location"]
        await site.post("/console/playbook/retail/trial/stop", {})
        assert await store.pool.fetchval("SELECT stop FROM trial")
        site.clock.turn(60)
        assert shows(await site.page("/console/playbook/retail/draft"), "The process that ran it is gone")
        assert shows(await tried(site), "there is nothing to compare")


async def test_trial_ends_with_its_process(store: Store) -> None:
    """A site that closes while a trial runs must not wait for it, and the trial must be written down as stopped."""
    async with running_playbooks(store) as site:
        await site.tell("order.placed", "A1", people=people())
        await saved(site, DRAFT)
        assert (await site.post("/console/playbook/retail/trial", {"days": "7"})).status_code == 303
        await asyncio.wait_for(site.trying.close(), 20)
        assert await store.pool.fetchval("SELECT state FROM trial") in ("stopped", "done")


async def test_providers(store: Store) -> None:
    """Health by worker, receipts, price and limits must be shown; a halt stands on top; others' providers stay hidden."""
    async with running_playbooks(store) as site:
        ledger, now = Ledger(store), site.clock()
        worker = await ledger.take_lease("w1", timedelta(hours=1))
        standing = Standing("ali", "open", "failures", f"{EVIL} timeout")
        await ledger.put_standings(worker, [standing], now)
        await store.pool.execute("INSERT INTO tally VALUES ('ali', $1, 10, 0, 9, 18)", now - timedelta(minutes=5))
        await store.pool.execute(
            "INSERT INTO template (provider, digest, text, names, marketing, state)"
            " VALUES ('ali', 'x', 'x', '{}', false, 'approved')"
        )
        page = await site.page("/console/providers", role="viewer")
        assert shows(page, "ali", "Paused", "90.0%", "2.0 seconds", "¥0.0450", "50 a second", "1 approved", "+86")
        assert EVIL not in page
        assert "secret" not in page, "a provider of other tenants"
        assert "secret" in await site.page("/console/providers", tenant="other")
        await ledger.halt("moving house", now)
        assert shows(await site.page("/console/providers"), "Sending is halted: moving house")


async def test_glossary_is_found_in(store: Store) -> None:
    """A word must be found in either language and as code stands for it; what is not there says so."""
    async with running_playbooks(store) as site:
        for wanted, found in (("熔断", "breaker"), ("BREAKER", "熔断器"), ("parcel.shipped", "parcel.shipped</code>")):
            page = await site.page(f"/console/glossary?q={wanted}", lang="zh")
            assert shows(page, found), wanted
        nothing = await site.page(f"/console/glossary?q={EVIL}")
        assert EVIL not in nothing
        assert shows(nothing, "There is no such word")


def test_glossary_says_what_the_document_says() -> None:
    """The words of the page and those of docs/glossary.md must be the same, row by row."""
    document = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows, header = [], 0
    for line in document.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if cells[:1] == ["English"]:
            header = len(cells)
        elif not cells:
            header = 0
        elif header and not set(line) <= set("|- "):
            rows.append([*cells[:2], "" if header == NARROW else cells[2].replace("`", ""), cells[-1].replace("`", "")])
    words = [
        [term.english, term.chinese, "".join(text for text, _ in term.code), "".join(text for text, _ in term.meaning)]
        for section in read_terms()
        for term in section.terms
    ]  # fmt: skip
    assert words == rows
