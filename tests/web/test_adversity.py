"""Attempts on the site that no single page is to blame for: each holds what somebody with bad intentions must not get."""

import asyncio

from orderbell.store.postgres import Store
from orderbell.store.sessions import IDLE
from orderbell.web.console.live import CHECKED_EVERY, LISTENERS_OF_ONE_MAX
from orderbell.web.signed_in import COOKIE
from tests.web.console_site import Console, running_console
from tests.web.front_site import running_front

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
