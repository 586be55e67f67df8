"""The pages of settings: team, keys, brand and trail do what they say, and show whatever was written as plain text."""

import csv
import io
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from litestar.datastructures import Address, Headers

from orderbell.app.accounts import Clerk, shown
from orderbell.errors import AccountRefused
from orderbell.settings import Settings
from orderbell.store.brand import Brand, Brands, wrong_fields
from orderbell.store.keys import KeyRing
from orderbell.store.postgres import Store
from orderbell.web.account.door import label_of
from orderbell.web.client_address import client_address
from orderbell.web.csv import csv_line, plain_cell
from tests.web.front_site import PASSWORD, RunningFront, running_front

USERS, KEYS, BRAND = "/console/settings/users", "/console/settings/keys", "/console/settings/brand"
XSS = "\"><script>alert(1)</script>'{{7*7}}"
PAGES = (USERS, KEYS, BRAND, "/console/trail", "/console/settings/account", "/console/settings/account/two-step")


def settings_site(store: Store) -> AbstractAsyncContextManager[RunningFront]:
    """A site with the pages of signing in and of settings only."""
    return running_front(store, more=[])


def link_in(text: str) -> str:
    """The path of the one-time link that a page shows."""
    return "/enter/" + text.partition("/enter/")[2].partition("<")[0]


async def test_invited_person_comes_in(store: Store) -> None:
    """Whoever is added must come in by the link that is shown once, with the role, and then by a password."""
    async with settings_site(store) as front:
        owner = await front.signed_in("owner")
        answer = await owner.post(USERS, {"name": "小李", "role": "agent"})
        assert answer.status_code == 200
        assert "/enter/" not in (await owner.get(USERS)).text
        browser = front.browser()
        assert (await browser.post(link_in(answer.text))).status_code == 303
        found = await front.sessions.find(browser.token)
        assert found is not None
        assert (found.name, found.tenant, found.role) == ("小李", "acme", "agent")
        taken = await owner.post(USERS, {"name": "小李", "role": "viewer"})
        assert (taken.status_code, "已经有了" in taken.text) == (422, True)
        assert (await owner.post(USERS, {"name": "x", "role": "king"})).status_code == 422
        assert (await front.actions())[:2] == ["session.open", "user.invite"]


async def test_name_of_another_shops_person_is_no_way_in(store: Store) -> None:
    """Adding a name that works elsewhere must neither give a link to that account nor change it."""
    async with settings_site(store) as front:
        await front.person("bob", "owner", "other")
        owner = await front.signed_in("owner")
        answer = await owner.post(USERS, {"name": "BOB", "role": "owner"})
        assert (answer.status_code, "/enter/" in answer.text) == (422, False)
        bob = await front.accounts.find("bob")
        assert bob is not None
        assert await front.accounts.tenants_of(bob.account) == ["other"]


async def test_link_for_who_works_elsewhere_too(store: Store) -> None:
    """An owner must get no link into an account that works for another shop as well, nor into a disabled one."""
    async with settings_site(store) as front:
        owner = await front.signed_in("owner")
        both, gone = await front.person("both", "viewer"), await front.person("gone", "viewer")
        await front.accounts.join("other", both, "owner", front.clock())
        assert (await owner.post(f"{USERS}/{gone}/disable")).status_code == 303
        for account in (both, gone):
            answer = await owner.post(f"{USERS}/{account}/link")
            assert (answer.status_code, "/enter/" in answer.text) == (422, False)
        assert (await owner.post(f"{USERS}/{gone}/enable")).status_code == 303
        answer = await owner.post(f"{USERS}/{gone}/link")
        assert (await front.browser().post(link_in(answer.text))).status_code == 303


async def test_owner_ends_and_disables(store: Store) -> None:
    """An owner must be able to end a session, change a role and disable somebody, each at once; the last owner stays."""
    async with settings_site(store) as front:
        owner = await front.signed_in("owner")
        account = await front.person("ann", "viewer")
        ann = front.browser()
        await ann.sign_in("ann")
        page = await owner.get(f"{USERS}/{account}")
        assert page.status_code == 200
        (session,) = await front.sessions.list(account)
        assert (await owner.post(f"{USERS}/{account}/sessions/{session.session}/end")).status_code == 303
        assert (await ann.get("/console/settings/account")).status_code == 303
        await ann.sign_in("ann")
        refused = await ann.get(USERS, accept="text/html", accept_language="zh")
        assert (refused.status_code, "您的角色是“只看”" in refused.text) == (403, True)
        assert (await owner.post(f"{USERS}/{account}/role", {"role": "owner"})).status_code == 303
        assert (await ann.get(USERS)).status_code == 200
        assert (await ann.post(f"{USERS}/{account}/role", {"role": "viewer"})).status_code == 303
        assert (await owner.post(f"{USERS}/{account}/disable")).status_code == 303
        assert (await ann.get("/console/settings/account")).status_code == 303
        assert (await ann.sign_in("ann")).status_code == 401
        me = await front.accounts.find("owner-acme-0")
        assert me is not None
        for path, form in (("role", {"role": "viewer"}), ("disable", {})):
            answer = await owner.post(f"{USERS}/{me.account}/{path}", form)
            assert (answer.status_code, "至少要有一位店主" in answer.text) == (422, True)


async def test_what_is_not_there_is_told_in_the_language_of_the_account(store: Store) -> None:
    """A page that cannot be shown must say why in words of whoever is signed in, whatever the browser prefers."""
    async with settings_site(store) as front:
        owner = await front.signed_in("owner")
        told = await owner.get(f"{USERS}/999", accept="text/html", accept_language="zh-CN")
        assert (told.status_code, "这里没有这位员工。" in told.text) == (404, True)
        assert (await owner.post("/console/settings/account/language", {"locale": "en"})).status_code == 303
        told = await owner.get(f"{USERS}/999", accept="text/html", accept_language="zh-CN")
        assert (told.status_code, "Nobody of this number works here." in told.text) == (404, True)
        assert '<html lang="en"' in told.text


async def test_keys_are_made_with_scopes_and_revoked(store: Store) -> None:
    """A key must be shown once, do what was ticked and no more, and nothing once it is revoked."""
    async with settings_site(store) as front:
        owner = await front.signed_in("owner")
        for wrong in ({}, {"scope": "users:write"}, {"scope": ["orders:read", "everything"]}, {"scope": ""}):
            assert (await owner.post(KEYS, wrong)).status_code == 422
        long = {"scope": "orders:read", "label": "x" * 61}
        assert (await owner.post(KEYS, long)).status_code == 422
        answer = await owner.post(KEYS, {"scope": ["orders:read", "cases:read"], "label": "店铺"})
        key = "ob_" + answer.text.partition("ob_")[2].partition("<")[0]
        caller = await KeyRing(store.pool).caller_of(key)
        assert caller is not None
        assert (caller.tenant, sorted(caller.scopes)) == ("acme", ["cases:read", "orders:read"])
        listed = (await owner.get(KEYS)).text
        assert key not in listed
        assert caller.fingerprint in listed
        path = f"{KEYS}/{caller.fingerprint}/revoke"
        assert [(await owner.post(path)).status_code for _ in range(2)] == [303, 404]
        assert await KeyRing(store.pool).caller_of(key) is None
        assert (await front.actions())[:2] == ["key.revoke", "key.make"]


async def test_brand(store: Store) -> None:
    """What customers see must be kept when it makes sense, and refused by field, without loss, when it does not."""
    async with settings_site(store) as front:
        operator = await front.signed_in("operator")
        form = {"name": "好店", "phone": "400-800 1234", "website": "https://shop.example/a", "color": "#0A4F8A"}
        assert (await operator.post(BRAND, form)).status_code == 303
        kept = Brand("好店", "400-800 1234", "https://shop.example/a", "#0a4f8a")
        assert await Brands(store).brand_of("acme") == kept
        assert await Brands(store).brand_of("other") == Brand()
        for wrong in (
            {"name": "x" * 41}, {"phone": "call me"}, {"website": "javascript:alert(1)"}, {"color": "red;}"},
            {"color": "#ffee00"}, {"website": "https://a:b@shop.example"}, {"website": "https://shop.example/\"'>"},
        ):  # fmt: skip
            answer = await operator.post(BRAND, form | wrong)
            assert (answer.status_code, answer.text.count('class="wrong"')) == (422, 1), wrong
            assert "400-800 1234" in answer.text or "phone" in wrong
        assert await Brands(store).brand_of("acme") == kept
        assert wrong_fields(Brand()) == {}


async def test_what_is_written_is_shown_as_text(store: Store) -> None:
    """A script in any field of settings must be shown as words by every page, in both languages."""
    async with settings_site(store) as front:
        owner = await front.signed_in("owner")
        account = await front.person(XSS, "owner")
        evil = front.browser(user_agent=f"Firefox {XSS}")
        answer = await evil.sign_in(XSS)
        assert answer.status_code == 303, answer.text
        assert XSS not in (await owner.post(USERS, {"name": XSS, "role": "viewer"})).text
        assert XSS not in (await owner.post(USERS, {"name": XSS * 3, "role": "viewer"})).text
        await owner.post(USERS, {"name": "\"'><img src=x onerror=a()>", "role": "viewer"})
        await owner.post(KEYS, {"label": XSS, "scope": "orders:read"})
        await Brands(store).set("acme", Brand(XSS, XSS, XSS, XSS), front.clock())
        await front.trail.write("acme", XSS, XSS, XSS, {XSS: XSS})
        refused = await owner.post(BRAND, {"name": XSS * 3, "phone": XSS, "website": XSS, "color": XSS})
        texts = [refused.text, (await front.browser().sign_in(XSS, "wrong")).text]
        texts.append((await front.browser().get(f"/sign-in?next=/{XSS}")).text)
        for who in (owner, evil):
            for path in (*PAGES, f"{USERS}/{account}", f"/console/trail?actor={XSS}&action={XSS}"):
                for language in ("zh", "en"):
                    answer = await who.get(path, accept_language=language)
                    assert answer.status_code == 200
                    texts.append(answer.text)
        for text in texts:
            assert "<script>alert" not in text
            assert "<img src=x" not in text
            assert ">49<" not in text
            assert " onerror=" not in text.replace("&#34;", '"').partition("<main")[0]
        assert any("&lt;script&gt;alert(1)" in text for text in texts)


async def test_pages_carry_their_policy(store: Store) -> None:
    """Every page must forbid what it does not need, carry no inline style or handler, and be kept nowhere."""
    async with running_front(store, Settings(public_url="https://bell.example"), more=[]) as front:
        owner = await front.signed_in("owner")
        for who, path in [(owner, path) for path in PAGES] + [(front.browser(), "/sign-in")]:
            answer = await who.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["strict-transport-security"].startswith("max-age=31536000")
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert " style=" not in answer.text
            assert " onclick=" not in answer.text


async def test_trail_is_paged_and_exported(store: Store) -> None:
    """Every line must come once over the pages, and in the file, where nothing can be taken for a formula."""
    async with settings_site(store) as front:
        owner = await front.signed_in("owner")
        for number in range(120):
            await front.trail.write("acme", "user:ann", f"thing.{number}", "=cmd|'/c calc'!A0", {"to": "@x"})
        await front.trail.write("other", "user:bob", "theirs")
        seen: list[str] = []
        path = "/console/trail?action=thing"
        while path:
            text = (await owner.get(path)).text
            seen += [part.partition("<")[0] for part in text.split("<code>")[1:]]
            _, _, rest = text.partition('class="pager"')
            path = rest.partition('href="')[2].partition('"')[0].replace("&amp;", "&")
        assert seen == [f"thing.{number}" for number in range(119, -1, -1)]
        answer = await owner.get("/console/trail.csv")
        assert answer.headers["content-disposition"] == 'attachment; filename="trail.csv"'
        rows = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert len(rows) == 121
        assert {row[3] for row in rows[1:]} == {"'=cmd|'/c calc'!A0"}
        assert "theirs" not in answer.text


@pytest.mark.parametrize(
    "start", ["=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠", " =", "\u3000=", "\ufeff="]
)
def test_cell_that_would_be_a_formula(start: str) -> None:
    """Whatever a spreadsheet could take for a formula must begin with an apostrophe, and stay one cell of one row."""
    text = f'{start}HYPERLINK("http://evil.example","a")\r\n"b",c'
    assert plain_cell(text).startswith("'")
    (row,) = csv.reader(io.StringIO(csv_line([text, "fine"]), newline=""))
    assert row[0].replace("�", "\0") == "'" + text
    assert row[1] == "fine"


def test_cells_of_other_kinds() -> None:
    """Numbers must stay numbers, times be UTC, nothing be empty."""
    at = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
    assert [plain_cell(value) for value in (-5, 1.5, None, at, "13800138000", "")] == [
        "-5", "1.5", "", "2026-03-02T12:00:00Z", "13800138000", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("hops", "forwarded", "address"),
    [
        (0, ["198.51.100.1"], "192.0.2.7"),
        (1, [], "192.0.2.7"),
        (1, ["198.51.100.1"], "198.51.100.1"),
        (1, ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        (1, ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
        (2, ["6.6.6.6, 198.51.100.1, 10.0.0.1"], "198.51.100.1"),
        (2, ["198.51.100.1"], "192.0.2.7"),
        (1, ["6.6.6.6, nonsense"], "192.0.2.7"),
        (1, ["198.51.100.1:4711"], "198.51.100.1"),
        (1, ["[2001:db8:1:2:3:4:5:6]:4711"], "2001:db8:1:2::/64"),
        (1, ["2001:db8:1:2:ffff::1"], "2001:db8:1:2::/64"),
        (1, ["::ffff:198.51.100.1"], "198.51.100.1"),
        (1, ["198.51.100.1, "], "192.0.2.7"),
    ],
)
def test_address_of_a_client(hops: int, forwarded: list[str], address: str) -> None:
    """Only what trusted proxies added may be believed, whatever a client writes before it."""
    headers = Headers([(b"x-forwarded-for", one.encode()) for one in forwarded])
    connection: Any = SimpleNamespace(client=Address("192.0.2.7", 1234), headers=headers)
    assert client_address(connection, hops) == address


def test_browsers_are_called_by_their_names() -> None:
    """A session must be listed by words that people know."""
    agents = {
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0": "Edge, Windows",
        "Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 Chrome/140.0 MicroMessenger/8.0": "WeChat, Android",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 15_0) AppleWebKit/605.1 Version/18.0 Safari/605.1": "Safari, macOS",
        "": "?, ?",
    }
    assert {agent: label_of(agent) for agent in agents} == agents


async def test_clerk(store: Store) -> None:
    """The command line must add, list, change, disable, reset and link, and say what is not there."""
    async with settings_site(store) as front:
        clerk, hour = Clerk(store, Settings(), front.clock), timedelta(hours=1)
        link = await clerk.add("ann", "new-shop", "owner", hour)
        assert link.startswith("http://127.0.0.1:8470/enter/")
        assert await clerk.add("ANN", "acme", "viewer", hour) == ""
        browser = front.browser()
        assert (await browser.post("/enter/" + link.rpartition("/")[2])).status_code == 303
        form = {"password": PASSWORD, "again": PASSWORD}
        assert (await browser.post("/console/settings/account/password", form)).status_code == 303
        (row,) = [shown(one) for one in await clerk.list()]
        assert (row.name, row.roles, row.state) == ("ann", ["acme: viewer", "new-shop: owner"], "password")
        await clerk.set_role("ann", "acme", "agent")
        link = await clerk.link("ann", hour, reset=True)
        assert (await browser.get("/console/settings/account")).status_code == 303
        assert (await front.browser().sign_in("ann")).status_code == 401
        await clerk.set_disabled("ann", disabled=True)
        assert (await front.browser().post("/enter/" + link.rpartition("/")[2])).status_code == 404
        assert [shown(one).state for one in await clerk.list()] == ["disabled"]
        with pytest.raises(AccountRefused, match="disabled"):
            await clerk.link("ann", hour)
        for wrong in (
            clerk.link("bob", hour),
            clerk.set_role("ann", "nowhere", "agent"),
            clerk.set_disabled("x", disabled=True),
        ):
            with pytest.raises(AccountRefused, match="orderbell account"):
                await wrong
        assert "user.reset" in await front.actions("new-shop")
