"""People in the console: finding them, their wishes, what they heard, and what a change leaves behind."""

import re

from orderbell.store.postgres import Store
from tests.town import people
from tests.web.console_site import Console, running_console

FORM: dict[str, object] = {"id": "ann", "frequency": "normal", "quiet": "", "marketing": "", "locale": ""}


async def _known(console: Console) -> None:
    await console.tell("order.placed", people=people(email="ann@example.com"))
    await console.tell("payment.failed", reason="no money")
    await console.settle()


async def test_person_is_found_and_shown_masked(store: Store) -> None:
    """The last four digits find somebody; phone and mail stay masked on every page."""
    async with running_console(store) as console:
        await _known(console)
        found = await console.page("/console/people?q=8000")
        page = await console.page("/console/people/ann")
        english = await console.page("/console/people/ann", lang="en")
        nobody = await console.page("/console/people?q=0001")
    assert 'href="/console/people/ann"' in found
    assert "没有找到" in nobody
    for word in ("138****8000", "a***@example.com", "接收偏好", "收到过什么", "A1"):
        assert word in page, word
    assert "Preferences" in english
    assert 'class="bubble' in page
    for secret in ("13800138000", "ann@example.com"):
        assert secret not in found + page + english


async def test_viewer_has_no_people_pages(store: Store) -> None:
    """Every way to people is closed to a viewer; an agent may read and write."""
    async with running_console(store) as console:
        await _known(console)
        for path in ("/console/people", "/console/people?q=8000", "/console/people/ann", "/console/person?id=ann"):
            assert (await console.get(path, role="viewer")).status_code == 403
            assert (await console.get(path, role="agent")).status_code == 200
        assert (await console.post("/console/person/wishes", FORM, role="viewer")).status_code == 403


async def test_wishes_are_changed_with_consent_and_trail(store: Store) -> None:
    """A change holds at once, leaves a record of consent from the console, and a line in the trail without values."""
    async with running_console(store) as console:
        await _known(console)
        wanted = FORM | {
            "mute": ["browse", "transaction:sms"], "frequency": "calm", "quiet": "21:00-09:00", "marketing": "no",
            "locale": "en",
        }  # fmt: skip
        answer = await console.post("/console/person/wishes", wanted, role="agent")
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/people/ann?saved=1")
        contact = await console.town.contact("ann")
        page = await console.page(answer.headers["location"], lang="en")
        consents = await store.pool.fetch("SELECT scope, given, source FROM consent")
        trail = await store.pool.fetch("SELECT actor, action, object, detail FROM trail")
    assert (contact.mute, contact.frequency, contact.quiet) == (("browse", "transaction:sms"), "calm", "21:00-09:00")
    assert (contact.marketing, contact.locale) == ("no", "en")
    assert "Saved" in page
    assert "Opted out of advertising" in page
    assert [tuple(row) for row in consents] == [("marketing", False, "console")]
    assert [tuple(row)[:3] for row in trail] == [("user:agent-name", "person.wishes", "contact:ann")]
    assert "21:00" not in trail[0]["detail"]


async def test_form_that_changes_nothing_writes_nothing(store: Store) -> None:
    """Sent as it came, the form leaves no consent and no line in the trail."""
    async with running_console(store) as console:
        await _known(console)
        assert (await console.post("/console/person/wishes", FORM)).status_code == 303
        assert await store.pool.fetchval("SELECT count(*) FROM trail") == 0
        assert await store.pool.fetchval("SELECT count(*) FROM consent") == 0


async def test_wish_that_makes_no_sense_is_told_beside_its_field(store: Store) -> None:
    """Nothing is saved, what was written stays in the form, and the words stand beside the field."""
    async with running_console(store) as console:
        await _known(console)
        for field, value in (("quiet", "late"), ("frequency", "often"), ("mute", "transaction"), ("locale", "!!")):
            answer = await console.post("/console/person/wishes", FORM | {field: value, "marketing": "yes"})
            assert answer.status_code == 422, field
            assert re.search(rf'id="w-{field}"', answer.text), field
        assert "late" in (await console.post("/console/person/wishes", FORM | {"quiet": "late"})).text
        contact = await console.town.contact("ann")
        unknown = await console.post("/console/person/wishes", FORM | {"id": "nobody"})
    assert (contact.marketing, contact.quiet) == ("", "")
    assert unknown.status_code == 404


async def test_wishes_of_another_tenants_person_stay(store: Store) -> None:
    """Whoever is signed in elsewhere finds nobody of this id."""
    async with running_console(store) as console:
        await _known(console)
        answer = await console.post("/console/person/wishes", FORM | {"frequency": "all"}, tenant="other")
        assert answer.status_code == 404
        assert (await console.town.contact("ann")).frequency == "normal"


async def test_form_from_elsewhere_is_refused(store: Store) -> None:
    """A page of another site cannot change anybody's wishes."""
    async with running_console(store) as console:
        await _known(console)
        headers = {"cookie": "__Host-orderbell=owner.acme", "sec-fetch-site": "cross-site"}
        answer = await console.http.post("/console/person/wishes", data=FORM | {"frequency": "all"}, headers=headers)
        assert answer.status_code == 403
        assert (await console.town.contact("ann")).frequency == "normal"


async def test_reply_of_a_customer_comes_out_as_text(store: Store) -> None:
    """The words of an opt-out are shown as they were written, never as markup."""
    async with running_console(store) as console:
        await _known(console)
        await store.pool.execute(
            "INSERT INTO consent VALUES ('acme', 'ann', 'marketing', false, now(), '<b>x</b>', '<script>y()</script>')"
        )
        page = await console.page("/console/people/ann")
    assert "&lt;script&gt;y()" in page
    assert "<script>y" not in page
    assert "<b>x" not in page
