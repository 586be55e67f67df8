"""Attempts on the site that no single page is to blame for: each holds what somebody with bad intentions must not get."""

import asyncio
import html
import re
from datetime import datetime, timedelta

import httpx
import pytest

from orderbell.store.activation import Activations, Draft
from orderbell.store.keys import create_key
from orderbell.store.pages import cursor_of
from orderbell.store.postgres import Store
from orderbell.store.sessions import IDLE
from orderbell.web.console.live import CHECKED_EVERY, LISTENERS_OF_ONE_MAX
from orderbell.web.signed_in import COOKIE
from tests.web.console_site import Console, running_console
from tests.web.front_site import running_front
from tests.web.playbook_site import running_playbooks

PATIENCE_S = 20


async def test_open_page_does_not_keep_a_session_going(store: Store) -> None:
    """What a page asks for by itself must not count as use: who left it open is signed out when the time is over."""
    async with running_front(store) as front:
        browser = await front.signed_in("viewer")
        for _ in range(4):
            front.clock.turn(IDLE.total_seconds() / 4 - 1)
            assert (await browser.get("/console/figures", hx_request="true")).status_code == 200
        front.clock.turn(10)
        gone = await browser.get("/console/figures", hx_request="true")
        assert (gone.status_code, gone.headers["hx-redirect"].partition("?")[0]) == (401, "/sign-in")
        used = await front.signed_in("viewer")
        for _ in range(4):
            front.clock.turn(IDLE.total_seconds() / 2)
            assert (await used.get("/console/orders")).status_code == 200


async def test_sessions_that_are_over_are_not_open(store: Store) -> None:
    """Who is signed out, disabled or works for another shop by now must not be found among those who may listen."""
    async with running_front(store) as front:
        account = await front.person("ann", "viewer")
        await front.accounts.join("other", account, "viewer", front.clock())
        names = []
        browsers = [front.browser() for _ in range(3)]
        for browser in browsers:
            browser.cookies[COOKIE] = await front.sessions.open(account, tenant="acme") or ""
            found = await front.sessions.find(browser.token)
            assert found is not None
            names.append((found.session, "acme"))
        assert await front.sessions.still_open({account}) == set(names)
        _, leaves, turns = browsers
        await leaves.post("/sign-out")
        await turns.post("/console/tenant", {"tenant": "other"})
        turned = (names[2][0], "other")
        assert await front.sessions.still_open({account}) == {names[0], turned}
        await front.accounts.set_member_disabled("acme", account, front.clock())
        assert await front.sessions.still_open({account}) == {turned}
        front.clock.turn(IDLE.total_seconds())
        assert await front.sessions.still_open({account}) == set()


async def _is_over(console: Console, feed_sessions: set[tuple[str, str]]) -> bool:
    headers = {"cookie": "__Host-orderbell=viewer.acme"}
    async with console.http.stream("GET", "/console/live", headers=headers) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        feed_sessions.clear()
        console.town.clock.turn(CHECKED_EVERY.total_seconds())
        try:
            async with asyncio.timeout(PATIENCE_S):
                async for _ in lines:
                    pass
        except TimeoutError:
            return False
    return True


async def test_stream_of_somebody_signed_out_is_closed(store: Store) -> None:
    """The feed asks by itself whether those who listen are signed in, and closes the stream of who is not."""
    sessions = {("", "acme")}

    async def still_open(_: object) -> set[tuple[str, str]]:
        return set(sessions)

    async with running_console(store, still_open=still_open) as console:
        assert await _is_over(console, sessions)


async def test_one_account_takes_not_all_places(store: Store) -> None:
    """However many feeds one account opens, there must be room for others."""
    async with running_console(store) as console, asyncio.timeout(PATIENCE_S):
        headers = {"cookie": "__Host-orderbell=viewer.acme"}
        answers = [
            await console.http.send(console.http.build_request("GET", "/console/live", headers=headers), stream=True)
            for _ in range(LISTENERS_OF_ONE_MAX)
        ]
        for answer in answers:
            await anext(answer.aiter_lines())
        refused = await console.http.get("/console/live", headers=headers)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
        for answer in answers:
            await answer.aclose()


PAGES = ("/", "/sign-in", "/setup?token=x", "/enter/x", "/track", f"/t/{'a' * 22}", f"/l/{'a' * 22}", "/nothing")


async def test_headers_that_are_none_break_nothing(store: Store) -> None:
    """Headers that no browser sends must never be answered with 500, which fills the log with traces."""
    hostile = (
        {"host": "shop.example:99999"}, {"host": "["}, {"host": "a b"}, {"host": "[::1"}, {"origin": "http://["},
        {"hx-request": "true", "hx-current-url": "http://["}, {"cookie": "=;;__Host-orderbell=\xff"},
        {"x-forwarded-for": "[,"}, {"authorization": "Bearer \xe9"}, {"accept-language": "\xff,;q"},
    )  # fmt: skip
    async with running_front(store) as front:
        for headers in hostile:
            sent = {
                name.encode(): value.encode("latin-1") for name, value in {"accept": "text/html", **headers}.items()
            }
            for path in (*PAGES, "/console", "/v1/orders", "/metrics"):
                for method in ("GET", "POST"):
                    answer = await front.http.request(method, front.url + path, headers=sent)
                    assert answer.status_code < 500, (method, path, headers)


@pytest.mark.parametrize(
    "path", ["//evil.example/x", "/%09/evil.example", "/%5Cevil.example", "/%0A%2Fevil.example", "///evil.example"]
)
async def test_no_page_links_to_where_its_address_says(store: Store, path: str) -> None:
    """A page that repeats its own address in links must lead nowhere else, whatever the address looks like."""
    async with running_front(store) as front:
        answer = await front.http.get(
            httpx.URL(front.url).copy_with(raw_path=path.encode()), headers={"accept": "text/html"}
        )
        links = re.findall(r'(?:href|action)="([^"]*)"', answer.text)
        assert links
        for link in map(html.unescape, links):
            assert httpx.URL(front.url).join(link).host == "127.0.0.1", link
            assert re.match(r"/(?![/\\\s])|[?#]|$", link), link
            assert link.isprintable()


async def test_texts_that_no_table_holds_find_nothing(store: Store) -> None:
    """U+0000 in ids and parameters must be answered as what does not exist."""
    async with running_front(store) as front:
        key = await create_key(store, "acme")
        headers = {"authorization": f"Bearer {key}"}
        for path in ("/v1/contacts/a%00b/explain", "/v1/contacts/ann/explain?topic=%00", "/v1/orders/a%00b/explain"):
            assert (await front.http.get(path, headers=headers)).status_code == 404, path


FORMS = ("/console/playbook", "/console/playbook/retail/draft", "/console/playbook/retail/activate",
         "/console/playbook/retail/trial", "/console/settings/account/language", "/console/settings/users")  # fmt: skip
PART = b'--x\r\nContent-Disposition: form-data; name="body"\r\nContent-Type: text/plain; charset=%s\r\n\r\nhi\xff\r\n--x--\r\n'


async def test_forms_that_are_none_are_refused(store: Store) -> None:
    """Whatever is sent in place of a form must be refused, without reading thousands of fields, and never be a 500."""
    plain, parts = "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"
    bodies = (
        (parts, PART % b"utf-7"), (parts, PART % b"bogus"), (parts, b"--x\r\n\r\nhi\r\n--x--\r\n"), (parts, b"--x"),
        ("application/json", b'{"body": ["a"]}'), (plain, b"&".join(b"f%d=1" % n for n in range(5000))),
        (plain, b"&".join([b"body=1"] * 5000)), (plain, b"body=" + b"%F0%9F%98%80" * 100_000),
        (plain, b"body=a&seen=0001-01-01T00:00:00%2B23:59&name=%FF&days=1&sure=1&role=owner&locale=en"),
    )  # fmt: skip
    async with running_front(store) as front:
        owner = await front.signed_in("owner")
        sent = {**owner.headers, "cookie": f"{COOKIE}={owner.token}"}
        for path in FORMS:
            for media_type, body in bodies:
                answer = await front.http.post(path, headers={**sent, "content-type": media_type}, content=body)
                assert answer.status_code < 500, (path, media_type, body[:40])
                wanted = (413, 415, 400) if media_type != plain or len(body) > 1000 else (200, 303, 404, 409, 422)
                assert answer.status_code in wanted, (path, media_type, body[:40], answer.status_code)


async def test_every_answer_says_that_it_is_not_kept(store: Store) -> None:
    """Answers of the API, problems and redirects too must be kept by nobody and be taken for what they are."""
    async with running_front(store) as front:
        key = await create_key(store, "acme")
        for path in (
            "/v1/orders",
            "/v1/hooks",
            "/v1/contacts?phone=1",
            "/v1/nothing",
            "/healthz",
            "/console",
            "/sign-in",
        ):
            answer = await front.http.get(path, headers={"authorization": f"Bearer {key}"})
            assert answer.headers.get_list("cache-control") == ["no-store"], path
            assert answer.headers.get_list("x-content-type-options") == ["nosniff"], path
        kept = await front.http.get("/static/console.css")
        assert "immutable" in kept.headers["cache-control"]


async def test_numbers_and_moments_that_no_table_holds(store: Store) -> None:
    """Numbers, moments and cursors beyond what the database holds must be refused or find nothing."""
    huge = "9" * 23
    early, late = "0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59"
    async with running_front(store) as front:
        owner = await front.signed_in("owner")
        for way in ("role", "disable", "enable", "link", "sessions/x/end"):
            assert (await owner.post(f"/console/settings/users/{huge}/{way}", {"role": "owner"})).status_code == 404
        assert (await owner.get(f"/console/settings/users/{huge}")).status_code == 404
        key = await create_key(store, "acme")
        after = f"after={cursor_of(2**40, 0, '', '')}"
        for path in (
            f"/v1/orders?opened_from={early}", f"/v1/orders?opened_until={late}", f"/v1/messages?created_from={late}",
            f"/v1/orders/A1/timeline?{after}",
        ):  # fmt: skip
            answer = await front.http.get(path, headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == 422, (path, answer.text)


async def test_newer_draft_is_not_dropped(store: Store) -> None:
    """Who throws away a draft that they looked at must not throw away what somebody else has saved since."""
    async with running_playbooks(store) as site:
        await site.save("name: retail\n")
        first = await site.page("/console/playbook/retail/draft")
        (seen,) = {html.unescape(one) for one in re.findall(r'name="seen" value="([^"]+)"', first)}
        drafts = Activations(store, "acme")
        newer = Draft("retail", "# newer\n", "", datetime.fromisoformat(seen) + timedelta(seconds=1), "user:bob")
        await drafts.put_draft(newer, datetime.fromisoformat(seen))
        assert (await site.post("/console/playbook/retail/draft/drop", {"seen": seen})).status_code == 409
        assert await drafts.draft("retail") == newer
        again = {"seen": newer.updated_at.isoformat()}
        assert (await site.post("/console/playbook/retail/draft/drop", again)).status_code == 303
        assert await drafts.draft("retail") is None
        assert (await site.post("/console/playbook/retail/draft/drop", again)).status_code == 303


async def test_ticket_of_before_the_second_step(store: Store) -> None:
    """A link that was made before the second step was turned on must open nothing any more."""
    async with running_front(store) as front:
        account = await front.person("ann")
        ticket = await front.sessions.make_ticket(account, timedelta(days=3))
        await front.accounts.set_two_step(account, b"s" * 20)
        assert (await front.browser().post(f"/enter/{ticket}")).status_code == 404
