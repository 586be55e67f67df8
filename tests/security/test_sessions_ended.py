"""Sessions: a token that was planted never becomes one, and one that is over opens no page, whatever ended it."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import pytest

from orderbell.app.accounts import Clerk
from orderbell.settings import Settings
from orderbell.store.postgres import Store
from orderbell.store.sessions import IDLE, LONGEST
from orderbell.web.account.two_step import code_at, read_secret
from orderbell.web.signed_in import COOKIE
from tests.web.front_site import PASSWORD, Browser, RunningFront, running_front

ACCOUNT: Final = "/console/settings/account"
NEW: Final = "another good password"

End = Callable[[RunningFront, Browser, Browser], Awaitable[None]]
"""Ends the session of the first browser; the second one is another of the same person."""


async def _sign_out(_: RunningFront, mine: Browser, __: Browser) -> None:
    assert (await mine.post("/sign-out")).status_code == 303


async def _new_password(_: RunningFront, __: Browser, other: Browser) -> None:
    form = {"current": PASSWORD, "password": NEW, "again": NEW}
    assert (await other.post(f"{ACCOUNT}/password", form)).status_code == 303


async def _second_step(front: RunningFront, _: Browser, other: Browser) -> None:
    page = (await other.get(f"{ACCOUNT}/two-step")).text
    secret = page.partition('name="secret" value="')[2].partition('"')[0]
    code = code_at(read_secret(secret) or b"", front.clock())
    form = {"secret": secret, "current": PASSWORD, "code": code}
    assert (await other.post(f"{ACCOUNT}/two-step", form)).status_code == 303


async def _disabled(front: RunningFront, _: Browser, __: Browser) -> None:
    await Clerk(front.store, Settings(), front.clock).set_disabled("ann", disabled=True)


async def _out_of_the_shop(front: RunningFront, _: Browser, __: Browser) -> None:
    boss = await front.signed_in("owner")
    ann = await front.accounts.find("ann")
    assert ann is not None
    assert (await boss.post(f"/console/settings/users/{ann.account}/disable")).status_code == 303


async def _reset(front: RunningFront, _: Browser, __: Browser) -> None:
    await Clerk(front.store, Settings(), front.clock).link("ann", timedelta(hours=1), reset=True)


async def _ended_from_elsewhere(front: RunningFront, mine: Browser, other: Browser) -> None:
    found = await front.sessions.find(mine.token, touch=False)
    assert found is not None
    assert (await other.post(f"{ACCOUNT}/sessions/{found.session}/end")).status_code == 303


async def _idle(front: RunningFront, _: Browser, __: Browser) -> None:
    front.clock.turn(IDLE.total_seconds())


async def _too_long(front: RunningFront, mine: Browser, _: Browser) -> None:
    for _turn in range(int(LONGEST / IDLE) * 2):
        front.clock.turn(IDLE.total_seconds() / 2)
        await mine.get(ACCOUNT)


ENDS: Final = (
    _sign_out, _new_password, _second_step, _disabled, _out_of_the_shop, _reset, _ended_from_elsewhere, _idle, _too_long,
)  # fmt: skip


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__.strip("_"))
async def test_token_of_a_session_that_is_over(store: Store, end: End) -> None:
    """Whoever kept a copy of the token must get no page, no piece of one, no file and no change by it."""
    async with running_front(store, more=[]) as front:
        await front.person("ann")
        mine, other = front.browser(), front.browser()
        await mine.sign_in("ann")
        await other.sign_in("ann")
        copy = Browser(front.http, dict(mine.cookies))
        assert (await copy.get(ACCOUNT)).status_code == 200
        await end(front, mine, other)
        for path in (ACCOUNT, "/console/trail", "/console/trail.csv", "/console/settings/users"):
            answer = await copy.get(path)
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in"), path
            assert (await copy.get(path, hx_request="true")).status_code == 401
        assert (await copy.post(f"{ACCOUNT}/language", {"locale": "en"})).headers["location"].startswith("/sign-in")
        assert (await copy.post("/console/tenant", {"tenant": "acme"})).headers["location"].startswith("/sign-in")
        assert await front.sessions.find(copy.token) is None


@pytest.mark.parametrize("planted", ["x" * 43, "", "a" * 44, "0", "ann", "null", "1 OR 1=1"])
async def test_planted_token_never_becomes_a_session(store: Store, planted: str) -> None:
    """Whatever stood in the browser before, by whatever way in, the session must be one that nobody knew."""
    async with running_front(store, more=[]) as front:
        await front.person("ann")
        account = await front.accounts.find("ann")
        assert account is not None
        ticket = await front.sessions.make_ticket(account.account, timedelta(hours=1))
        cookies = {COOKIE: planted} if planted else {}
        for way in ("password", "ticket"):
            browser = Browser(front.http, dict(cookies))
            answer = await (browser.sign_in("ann") if way == "password" else browser.post(f"/enter/{ticket}"))
            assert answer.status_code == 303
            assert browser.token not in {planted, cookies.get(COOKIE)}
            assert len(browser.token) == 43
            assert await front.sessions.find(browser.token) is not None
        assert await front.sessions.find(planted) is None


async def test_token_is_new_at_every_change_of_rights(store: Store) -> None:
    """A sign-in over another, a new password and a second step must each give a new token and end the one before."""
    async with running_front(store, more=[]) as front:
        await front.person("ann")
        browser = front.browser()
        tokens = []
        await browser.sign_in("ann")
        tokens.append(browser.token)
        await browser.sign_in("ann")
        tokens.append(browser.token)
        for change in (_new_password, _second_step):
            if change is _second_step:
                await front.accounts.set_password(1, await _hash_of(front), b"")
                await browser.sign_in("ann")
            await change(front, browser, browser)
            tokens.append(browser.token)
        assert len(set(tokens)) == len(tokens)
        alive = [token for token in tokens if await front.sessions.find(token) is not None]
        assert alive == tokens[-1:]


async def _hash_of(front: RunningFront) -> str:
    """The hash of the usual password, of somebody who has it."""
    other = await front.accounts.credentials_of(await front.person("other"))
    assert other is not None
    return other.password


async def test_tokens_are_random_and_stored_as_hashes(store: Store) -> None:
    """A token must have 256 bits that no other has, and stand nowhere in the database."""
    async with running_front(store, more=[]) as front:
        account = await front.person("ann")
        tokens = [await front.sessions.open(account) or "" for _ in range(200)]
        assert len(set(tokens)) == 200
        assert {len(token) for token in tokens} == {43}
        assert len({token[place] for token in tokens for place in range(43)}) == 64
        stored = await store.pool.fetch("SELECT s::text FROM session s")
        assert not any(token in row[0] for row in stored for token in tokens[:20])
