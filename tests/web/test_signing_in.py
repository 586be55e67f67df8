"""Signing in: who gets in, who never does, what ends a session, and that nothing is told to those outside."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from statistics import median
from urllib.parse import parse_qs, quote, urlsplit

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from orderbell.app.accounts import Clerk, first_run_path, make_ticket
from orderbell.settings import Settings
from orderbell.store.brand import Brands
from orderbell.store.postgres import Store
from orderbell.web.account.door import DEVICE_COOKIE
from orderbell.web.account.passwords import Passwords, weakness
from orderbell.web.account.two_step import code_at, matching_step, read_secret, spell_secret
from orderbell.web.signed_in import COOKIE, own_path
from tests.web.front_site import PASSWORD, Browser, RunningFront, running_front

ACCOUNT = "/console/settings/account"
SECRET = b"12345678901234567890"  # of the examples of RFC 6238


def door(store: Store, settings: Settings | None = None) -> AbstractAsyncContextManager[RunningFront]:
    """A site with the pages of signing in and of settings only."""
    return running_front(store, settings, more=[])


async def is_in(browser: Browser) -> bool:
    """Whether somebody is signed in."""
    answer = await browser.get(ACCOUNT)
    assert answer.status_code in {200, 303}
    return answer.status_code == 200


async def test_sign_in_and_out(store: Store) -> None:
    """A right password must let in by a strict cookie, and signing out must end the session for whoever has its token."""
    async with door(store) as front:
        await front.person("小王")
        browser = front.browser()
        assert not await is_in(browser)
        answer = await browser.sign_in("小王", onwards="/console/trail?actor=小")
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/trail?actor=%E5%B0%8F")
        cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith(f"{COOKIE}="))
        parts = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert parts == {"httponly", "path=/", "samesite=lax", "secure"}
        assert len(browser.token) == 43
        assert await is_in(browser)
        kept = Browser(front.http, dict(browser.cookies))
        assert (await browser.post("/sign-out")).headers["location"] == "/sign-in"
        assert COOKIE not in browser.cookies
        assert not await is_in(kept)
        assert await front.actions() == ["session.end", "session.open"]


async def test_wrong_sign_ins_are_answered_alike(store: Store) -> None:
    """A wrong password, a name of nobody, a disabled account and one without a password must get the same answer."""
    async with door(store) as front:
        await front.person("ann")
        gone = await front.person("gone", "viewer")
        await front.accounts.set_disabled(gone, front.clock())
        await front.accounts.add("acme", "new", "viewer", front.clock())
        pages = set()
        for name, password in [("ann", "wrong" * 4), ("nobody", PASSWORD), ("gone", PASSWORD), ("new", ""), ("", "")]:
            answer = await front.browser().sign_in(name, password)
            pages.add((answer.status_code, len(answer.cookies), answer.text.replace(f'value="{name}"', 'value=""')))
        statuses = {(status, cookies) for status, cookies, _ in pages}
        assert statuses == {(401, 0)}
        assert len({text.split("</head>")[1] for *_, text in pages}) == 1


async def test_unknown_name_costs_as_much(store: Store) -> None:
    """A check of a name that nobody has must take as long as that of a wrong password."""
    async with door(store) as front:
        await front.person("ann")
        passwords = Passwords()
        await passwords.warm_up()
        found = await front.accounts.credentials("ann")
        assert found is not None
        spans: dict[str, list[float]] = {"": [], found.password: []}
        for _ in range(9):
            for hashed, taken in spans.items():
                begun = time.process_time()
                assert not await passwords.fits(hashed, "wrong" * 4)
                taken.append(time.process_time() - begun)
        known, unknown = (median(taken) for taken in spans.values())
        assert 0.5 < known / unknown < 2


async def test_session_is_new_at_sign_in(store: Store) -> None:
    """A token that was put into the browser beforehand must never become a session, nor an older session go on."""
    async with door(store) as front:
        await front.person("ann")
        browser = front.browser()
        browser.cookies[COOKIE] = "x" * 43
        await browser.sign_in("ann")
        first = browser.token
        assert first != "x" * 43
        await browser.sign_in("ann")
        assert browser.token != first
        assert await is_in(browser)
        for old in ("x" * 43, first):
            assert not await is_in(Browser(front.http, {COOKIE: old}))


async def test_stuffing_from_many_addresses(store: Store) -> None:
    """However many addresses try, an account must be checked 5 times in 15 minutes, and its owner still get in."""
    async with door(store, Settings(trusted_hops=1)) as front:
        await front.person("ann")
        owner = front.browser(x_forwarded_for="203.0.113.9")
        assert (await owner.sign_in("ann")).status_code == 303
        assert DEVICE_COOKIE in owner.cookies
        front.clock.turn(16 * 60)

        async def attack(number: int) -> int:
            browser = front.browser(x_forwarded_for=f"198.51.{number % 250}.{number // 250}")
            return (await browser.sign_in("ANN" if number % 2 else "ann", f"guess{number:09}")).status_code

        got = await asyncio.gather(*(attack(number) for number in range(60)))
        assert (got.count(401), got.count(429)) == (5, 55)
        stranger = await front.browser(x_forwarded_for="192.0.2.1").sign_in("ann")
        assert stranger.status_code == 429
        assert int(stranger.headers["retry-after"]) <= 15 * 60
        assert (await owner.post("/sign-out")).status_code == 303
        assert (await owner.sign_in("ann")).status_code == 303
        front.clock.turn(15 * 60)
        assert (await front.browser(x_forwarded_for="192.0.2.1").sign_in("ann")).status_code == 303


async def test_device_of_somebody_else_is_no_way_around(store: Store) -> None:
    """A device that is known to one account must count as a stranger's for another, and has a limit of its own."""
    async with door(store) as front:
        await front.person("ann")
        await front.person("eve")
        eve = front.browser()
        await eve.sign_in("eve")
        got = [(await eve.sign_in("ann", f"guess{number:09}")).status_code for number in range(7)]
        assert got == [401] * 5 + [429] * 2
        got = [(await eve.sign_in("eve", f"guess{number:09}")).status_code for number in range(11)]
        assert got == [401] * 10 + [429]


async def test_one_address_against_many_names(store: Store) -> None:
    """One address must not try many names, and whatever it writes into the headers must not make it another."""
    async with door(store) as front:
        got = []
        for number in range(32):
            browser = front.browser(x_forwarded_for=f"198.51.100.{number}", forwarded=f"for=198.51.100.{number}")
            got.append((await browser.sign_in(f"name{number}", PASSWORD)).status_code)
        assert (got.count(401), got[30:]) == (30, [429, 429])


async def test_second_step(store: Store) -> None:
    """With a second step the password alone must not do, a code counts once, and only those of now and next to it."""
    async with door(store) as front:
        account = await front.person("ann")
        await front.accounts.set_two_step(account, SECRET)
        now = front.clock()
        codes = {drift: code_at(SECRET, now + timedelta(seconds=30 * drift)) for drift in (-2, -1, 0, 1, 2)}
        refused = [(await front.browser().sign_in("ann", code=code)).status_code for code in ("", codes[-2], codes[2])]
        assert refused == [401] * 3
        assert (await front.browser().sign_in("ann", code=f"{codes[0][:3]} {codes[0][3:]}")).status_code == 303
        assert (await front.browser().sign_in("ann", code=codes[0])).status_code == 401  # used up
        front.clock.turn(16 * 60)
        later = code_at(SECRET, front.clock())
        assert (await front.browser().sign_in("ann", "wrong" * 4, later)).status_code == 401
        got = await asyncio.gather(*(front.browser().sign_in("ann", code=later) for _ in range(4)))
        assert sorted(answer.status_code for answer in got) == [303, 401, 401, 401]


def test_codes_are_those_of_the_standard() -> None:
    """The codes must be those of RFC 6238, appendix B, cut to six digits, and of no step that is farther away."""
    for at_s, code in [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")]:
        at = datetime.fromtimestamp(at_s, UTC)
        assert code_at(SECRET, at) == code
        assert matching_step(SECRET, code, at) == at_s // 30
        assert matching_step(SECRET, code, at + timedelta(seconds=61)) is None
    for code in ("", "28708", "2870822", "２８７０８２", "28708a"):
        assert matching_step(SECRET, code, datetime.fromtimestamp(59, UTC)) is None
    assert read_secret(spell_secret(SECRET).lower()) == SECRET
    assert [read_secret(text) for text in ("", "AAAA", "not base 32!", "1" * 32)] == [None] * 4


async def test_turning_the_second_step_on_and_off(store: Store) -> None:
    """It must be on only after a code of its secret and the password, end other sessions, and be off after a password."""
    async with door(store) as front:
        await front.person("ann")
        browser, other = front.browser(), front.browser()
        await browser.sign_in("ann")
        await other.sign_in("ann")
        shown = await browser.get(f"{ACCOUNT}/two-step")
        assert "<svg" in shown.text
        assert "style=" not in shown.text
        secret = shown.text.partition('name="secret" value="')[2].partition('"')[0]
        known = read_secret(secret)
        assert known is not None
        code = code_at(known, front.clock())
        for wrong in ({"current": PASSWORD, "code": "000000"}, {"current": "wrong" * 4, "code": code}):
            answer = await browser.post(f"{ACCOUNT}/two-step", {"secret": secret, **wrong})
            assert answer.status_code == 422
        assert await is_in(other)
        answer = await browser.post(f"{ACCOUNT}/two-step", {"secret": secret, "current": PASSWORD, "code": code})
        assert answer.status_code == 303
        assert [await is_in(one) for one in (browser, other)] == [True, False]
        assert (await front.browser().sign_in("ann", code=code)).status_code == 401  # used to turn it on
        assert (await browser.post(f"{ACCOUNT}/two-step/off", {"current": "wrong" * 4})).status_code == 422
        assert (await browser.post(f"{ACCOUNT}/two-step/off", {"current": PASSWORD})).status_code == 303
        assert (await front.browser().sign_in("ann")).status_code == 303


async def test_new_password(store: Store) -> None:
    """A new password must need the old one, end every session but this, which goes on under a new token."""
    async with door(store) as front:
        await front.person("ann")
        browser, other = front.browser(), front.browser()
        await browser.sign_in("ann")
        await other.sign_in("ann")
        before, new = Browser(front.http, dict(browser.cookies)), "a quite other one"
        wrong = [
            {"current": "wrong" * 4, "password": new, "again": new},
            {"current": PASSWORD, "password": "short", "again": "short"},
            {"current": PASSWORD, "password": new, "again": new + "!"},
            {"current": PASSWORD, "password": "password1234", "again": "password1234"},
        ]
        for form in wrong:
            answer = await browser.post(f"{ACCOUNT}/password", dict(form))
            assert answer.status_code == 422
            assert new not in answer.text
        assert await is_in(other)
        answer = await browser.post(f"{ACCOUNT}/password", {"current": PASSWORD, "password": new, "again": new})
        assert answer.status_code == 303
        assert [await is_in(one) for one in (browser, before, other)] == [True, False, False]
        assert (await front.browser().sign_in("ann")).status_code == 401
        assert (await front.browser().sign_in("ann", new)).status_code == 303


async def test_guessing_the_password_inside(store: Store) -> None:
    """Whoever finds an open browser must not be able to guess the password there without end."""
    async with door(store) as front:
        browser = await front.signed_in("viewer")
        form = {"current": "wrong" * 4, "password": "a quite other one", "again": "a quite other one"}
        for _ in range(10):
            assert "密码不对" in (await browser.post(f"{ACCOUNT}/password", dict(form))).text
        right = {**form, "current": PASSWORD}
        assert "试得太多了" in (await browser.post(f"{ACCOUNT}/password", right)).text


async def test_sessions_are_listed_and_ended(store: Store) -> None:
    """Somebody must see where they are signed in and end it, and nobody a session that is not theirs."""
    async with door(store) as front:
        await front.person("ann")
        browser, phone = front.browser(), front.browser(user_agent="Mozilla/5.0 (iPhone) Safari/604.1")
        await browser.sign_in("ann")
        await phone.sign_in("ann")
        eve = await front.signed_in("viewer")
        page = (await browser.get(ACCOUNT)).text
        assert "Safari, iPhone" in page
        assert page.count("本机") == 1
        (name,) = [one.session for one in await front.sessions.list(1) if one.label == "Safari, iPhone"]
        for who, status in ((eve, 404), (browser, 303), (browser, 404)):
            assert (await who.post(f"{ACCOUNT}/sessions/{name}/end")).status_code == status
        assert [await is_in(one) for one in (browser, phone, eve)] == [True, False, True]


async def test_way_in_to_own_paths_only(store: Store) -> None:
    """After signing in nobody may be sent away from this site, whatever the link said."""
    async with door(store) as front:
        await front.person("ann")
        for onwards in (
            "https://evil.example/", "//evil.example/", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)",
            "/\t/evil.example", "http:evil", "/a\r\nset-cookie: x=1", " /x", "evil", "/%0d%0a" + "\n", "//[",
        ):  # fmt: skip
            answer = await front.browser().get(f"/sign-in?next={quote(onwards)}")
            assert 'name="next" value="/console"' in answer.text
            assert own_path(onwards) == "/console", onwards
        browser = front.browser()
        await browser.sign_in("ann")
        answer = await browser.sign_in("ann", onwards="//evil.example/")
        assert answer.headers["location"] == "/console"
        outside = await front.browser().get("/console/trail?actor=a%26b")
        assert outside.headers["location"] == "/sign-in?next=/console/trail%3Factor%3Da%2526b"
        assert parse_qs(urlsplit(outside.headers["location"]).query)["next"] == ["/console/trail?actor=a%26b"]


@given(st.text(max_size=30))
def test_own_path_stays_here(wanted: str) -> None:
    """Whatever is asked for, the path begins with one slash and no other sign that browsers take for one."""
    path = own_path(wanted)
    assert path.startswith("/")
    assert not path[1:2] or path[1] not in "/\\"
    assert "\\" not in path
    assert path.isprintable()


async def test_pieces_of_pages_for_nobody(store: Store) -> None:
    """A piece of a page for a session that is over must make the browser go to the sign-in page as a whole."""
    async with door(store) as front:
        where = {"hx_request": "true", "hx_current_url": f"{front.url}/console/trail?action=key"}
        answer = await front.browser().get("/console/trail", **where)
        assert answer.status_code == 401
        assert answer.headers["hx-redirect"] == "/sign-in?next=/console/trail%3Faction%3Dkey"


async def test_first_run(store: Store) -> None:
    """The printed link must make one owner of all shops, once, and forms that are wrong must say so and keep it."""
    async with door(store, Settings()) as front:
        assert await first_run_path(store) is not None
        path = await first_run_path(store)
        assert path is not None
        browser = front.browser()
        assert (await browser.get("/setup?token=x")).status_code == 404
        assert (await browser.get(path)).status_code == 200
        token = path.partition("token=")[2]
        form: dict[str, object] = {"token": token, "name": "老板", "password": PASSWORD, "shop": "好<b>店"}
        for wrong in ({"name": ""}, {"password": "short"}, {"password": "老板" * 1}, {"shop": ""}, {"shop": "x" * 41}):
            assert (await browser.post("/setup", {**form, **wrong})).status_code == 422
        assert (await browser.post("/setup", {**form, "token": "y"})).status_code == 404
        got = await asyncio.gather(*(front.browser().post("/setup", dict(form)) for _ in range(3)))
        assert sorted(answer.status_code for answer in got) == [303, 404, 404]
        assert (await browser.get(path)).status_code == 404
        assert await first_run_path(store) is None
        assert (await browser.sign_in("老板")).status_code == 303
        account = await front.accounts.find("老板")
        assert account is not None
        assert await front.accounts.tenants_of(account.account) == ["acme", "other"]
        assert (await Brands(store).brand_of("acme")).name == "好<b>店"


async def test_first_run_makes_the_shop(store: Store) -> None:
    """Where there is no shop yet, one must be made that is named after what was written."""
    async with running_front(store, tenants=(), more=[]) as front:
        path = await first_run_path(store) or ""
        form: dict[str, object] = {"token": path.partition("=")[2], "name": "boss", "password": PASSWORD}
        browser = front.browser()
        assert (await browser.post("/setup", {**form, "shop": "Ann's Shop 1"})).status_code == 303
        assert await front.accounts.all_tenants() == ["ann-s-shop-1"]
        assert await is_in(browser)


async def test_ticket(store: Store) -> None:
    """Looking at a one-time link must use nothing up; its button must sign in once, and ask for a password then."""
    async with door(store) as front:
        path = await make_ticket(store, "acme", "小李", role="agent", now=front.clock)
        browser = front.browser()
        for _ in range(3):
            assert "小李" in (await browser.get(path)).text
        assert (await browser.send("HEAD", path)).status_code in {200, 405}
        answer = await browser.post(path)
        assert (answer.status_code, answer.headers["location"]) == (303, ACCOUNT)
        assert await is_in(browser)
        for used in (path, "/enter/x", "/enter/" + "y" * 43):
            assert (await front.browser().get(used)).status_code == 404
            assert (await front.browser().post(used)).status_code == 404
        form: dict[str, object] = {"password": PASSWORD, "again": PASSWORD}
        assert (await browser.post(f"{ACCOUNT}/password", form)).status_code == 303
        assert (await front.browser().sign_in("小李")).status_code == 303


async def test_ticket_for_a_disabled_account(store: Store) -> None:
    """A link that was made before its account was disabled must let nobody in."""
    async with door(store) as front:
        path = await make_ticket(store, "acme", "ann", now=front.clock)
        await Clerk(store, Settings(), front.clock).set_disabled("ann", disabled=True)
        assert (await front.browser().post(path)).status_code == 404


async def test_plain_http_says_that_https_is_needed(store: Store) -> None:
    """Where the browser would keep no session, the page must say so instead of letting people try in vain."""
    async with door(store) as front:
        await front.person("ann")
        browser = front.browser(host="bell.lan:8470")
        del browser.headers["sec-fetch-site"]
        assert "https" in (await browser.get("/sign-in")).text
        browser.headers["origin"] = "http://bell.lan:8470"
        answer = await browser.sign_in("ann")
        assert (answer.status_code, len(answer.cookies)) == (400, 0)
        assert "https" in answer.text
        browser.headers["origin"] = "https://bell.lan:8470"
        assert (await browser.sign_in("ann")).status_code == 303
        assert "note-warn" not in (await front.browser().get("/sign-in")).text


async def test_forged_forms(store: Store) -> None:
    """A form that another site sends must be refused, whoever is signed in, and change nothing."""
    async with door(store) as front:
        await front.person("ann")
        browser = front.browser()
        await browser.sign_in("ann")
        for headers in (
            {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://evil.example"},
            {"origin": "null"}, {}, {"origin": front.url + ".evil.example"}, {"origin": "https://["},
            {"sec-fetch-site": "cross-site", "origin": front.url},
        ):  # fmt: skip
            forged = Browser(front.http, dict(browser.cookies), dict(headers))
            for path in ("/sign-in", "/sign-out", f"{ACCOUNT}/password", "/console/settings/keys", "/console/tenant"):
                assert (await forged.post(path)).status_code == 403, (headers, path)
        assert await is_in(browser)
        own = Browser(front.http, dict(browser.cookies), {"origin": front.url})
        assert (await own.post("/sign-out")).status_code == 303


async def test_other_shop(store: Store) -> None:
    """The change to another shop must work for one's own shops only."""
    async with door(store) as front:
        account = await front.person("ann", "viewer")
        await front.accounts.join("other", account, "owner", front.clock())
        browser = front.browser()
        await browser.sign_in("ann")
        assert (await browser.get("/console/trail")).status_code == 200  # an owner's shop comes first
        for tenant, status in (("acme", 303), ("nowhere", 404), ("", 404)):
            assert (await browser.post("/console/tenant", {"tenant": tenant})).status_code == status
        assert (await browser.get("/console/trail")).status_code == 403


async def test_no_secret_in_the_log(store: Store) -> None:
    """Passwords, tokens and tickets must stand in no log line, also when something breaks."""
    async with door(store) as front:
        await front.person("ann")
        ticket = await make_ticket(store, "acme", "bob", now=front.clock)
        browser = front.browser()
        with capture_logs() as logs:
            await browser.sign_in("ann", "wrong-canary-wrong")
            await browser.sign_in("ann")
            await store.pool.execute("ALTER TABLE ticket RENAME TO ticket_away")
            await store.pool.execute("ALTER TABLE setup RENAME TO setup_away")
            assert (await browser.get(ticket)).status_code == 500
            assert (await browser.get("/setup?token=canary-token")).status_code == 500
            assert (await browser.get("/sign-in?next=/canary-next")).status_code == 200
        told = str([{**line, "exc_info": repr(line.get("exc_info"))} for line in logs])
        assert logs
        for secret in ("canary", PASSWORD, browser.token, browser.device, ticket.rpartition("/")[2]):
            assert secret not in told


def test_weak_passwords() -> None:
    """What anybody would guess must be refused by the word for it, and any other 12 to 128 signs taken."""
    weak = {
        "": "too_short", "x" * 11: "too_short", "a" * 129: "too_long", "aaaaaaaaaaaa": "too_common",
        "PassWord1234": "too_common", "woaini1314520": "too_common", "qwertyuiopas": "too_common",
        "987654321098": "too_common", "小王小王小王小王小王小王": "too_common", "wang xiaoming": "like_the_name",
        "gnimoaix gnaw": "like_the_name", "１２３４５６７８９０１２": "too_common",
    }  # fmt: skip
    assert {password: weakness(password, "Wang Xiaoming") for password in weak} == weak
    for fine in (
        "correct horse battery",
        "我家的猫今天又吃了三条鱼",
        " " * 6 + "a b c d e",
        "😀🐟🌲🚲📦🔔🍜🎻🧭🪁🥟🎈",
    ):
        assert weakness(fine, "Wang Xiaoming") == ""
