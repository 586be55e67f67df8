"""Accounts, memberships, sessions and tickets: who may come in, for how long, and what ends it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from orderbell.errors import AccountRefused
from orderbell.store.accounts import Accounts, Role
from orderbell.store.postgres import Store
from orderbell.store.sessions import DEVICE_KNOWN, IDLE, LONGEST, Sessions, hash_of
from orderbell.store.trail import Trail
from tests.dispatch.rig import Clock


class Rig:
    """Accounts and sessions by one clock."""

    def __init__(self, store: Store) -> None:
        self.clock = Clock()
        self.accounts, self.sessions = Accounts(store), Sessions(store, self.clock)

    async def add(self, name: str = "ann", role: Role = "owner", tenant: str = "acme") -> int:
        """An account with some password."""
        return await self.accounts.add(tenant, name, role, self.clock(), password="$hash")

    async def open(self, account: int, tenant: str = "") -> str:
        """A session that must begin."""
        token = await self.sessions.open(account, tenant=tenant)
        assert token is not None
        return token


async def test_names_are_one_in_any_case_and_width(store: Store) -> None:
    """A name must be found however it is typed, and taken for whoever comes later."""
    rig = Rig(store)
    account = await rig.add(" Ann Lee ")
    for name in ("ann lee", "ANN LEE", "ａｎｎ　ｌｅｅ"):
        found = await rig.accounts.find(name)
        assert found is not None
        assert (found.account, found.name) == (account, "Ann Lee")
        with pytest.raises(AccountRefused, match="already") as refused:
            await rig.add(name, tenant="other")
        assert refused.value.reason == "name_taken"


@pytest.mark.parametrize("name", ["", "   ", "x" * 41, "a\nb", "a\u202eb", "\0"])
async def test_name_that_is_none(store: Store, name: str) -> None:
    """A name that is empty, too long or cannot be read must be refused, and asking for it must find nobody."""
    rig = Rig(store)
    with pytest.raises(AccountRefused) as refused:
        await rig.add(name)
    assert refused.value.reason == "bad_name"
    assert await rig.accounts.find(name) is None
    assert await rig.accounts.credentials(name) is None


async def test_session_is_found_by_its_token_alone(store: Store) -> None:
    """Only the very token finds a session, and only its hash is stored."""
    rig = Rig(store)
    account = await rig.add()
    token = await rig.open(account)
    found = await rig.sessions.find(token)
    assert found is not None
    assert (found.account, found.name, found.tenant, found.role) == (account, "ann", "acme", "owner")
    for other in ("", token[:-1], token[:-1] + "!", token.lower(), "x" * 43):
        assert await rig.sessions.find(other) is None
    stored = await store.pool.fetch("SELECT * FROM session")
    assert [row["token_hash"] for row in stored] == [hash_of(token)]
    assert token not in str([dict(row) for row in stored])


async def test_session_ends_when_idle(store: Store) -> None:
    """A session must end after 30 minutes in which nobody used it, and go on when somebody did."""
    rig = Rig(store)
    token = await rig.open(await rig.add())
    for _ in range(4):
        rig.clock.turn(29 * 60)
        assert await rig.sessions.find(token) is not None
    rig.clock.turn(IDLE.total_seconds())
    assert await rig.sessions.find(token) is None


async def test_session_ends_after_its_longest(store: Store) -> None:
    """However busy somebody is, after 12 hours they must sign in again."""
    rig = Rig(store)
    token = await rig.open(await rig.add())
    for _ in range(35):
        rig.clock.turn(20 * 60)
        assert await rig.sessions.find(token) is not None
    rig.clock.turn(20 * 60)
    assert await rig.sessions.find(token) is None
    assert timedelta(hours=12) == LONGEST
    await rig.open(1)
    assert await store.pool.fetchval("SELECT count(*) FROM session") == 1


async def _disable(rig: Rig, account: int) -> None:
    await rig.accounts.set_disabled(account, rig.clock())


async def _disable_here(rig: Rig, account: int) -> None:
    await rig.accounts.set_member_disabled("acme", account, rig.clock())


async def _change_password(rig: Rig, account: int) -> None:
    await rig.accounts.set_password(account, "$other")


async def _turn_second_step_on(rig: Rig, account: int) -> None:
    await rig.accounts.set_two_step(account, b"s" * 20)


async def _end_by_name(rig: Rig, account: int) -> None:
    for one in await rig.sessions.list(account):
        assert await rig.sessions.end_named(account, one.session)


@pytest.mark.parametrize("end", [_disable, _disable_here, _change_password, _turn_second_step_on, _end_by_name])
async def test_what_ends_sessions(store: Store, end: Callable[[Rig, int], Awaitable[None]]) -> None:
    """Each of these must end the account's sessions at once, and nobody else's."""
    rig = Rig(store)
    account, other = await rig.add("ann", "agent"), await rig.add("bob")
    tokens, kept = [await rig.open(account) for _ in range(2)], await rig.open(other)
    await end(rig, account)
    assert [await rig.sessions.find(token) for token in tokens] == [None, None]
    assert await rig.sessions.find(kept) is not None
    assert await store.pool.fetchval("SELECT count(*) FROM session WHERE account = $1", account) == 0


async def test_role_counts_at_once(store: Store) -> None:
    """A changed role must hold for sessions that are open."""
    rig = Rig(store)
    await rig.add("bob")
    account = await rig.add("ann")
    token = await rig.open(account)
    assert await rig.accounts.set_role("acme", account, "viewer")
    found = await rig.sessions.find(token)
    assert found is not None
    assert found.role == "viewer"


async def test_last_owner_stays(store: Store) -> None:
    """A tenant must never be without an owner, also when two give it up at the same moment."""
    rig = Rig(store)
    ann, bob = await rig.add("ann"), await rig.add("bob")
    done = await asyncio.gather(
        rig.accounts.set_role("acme", ann, "viewer"),
        rig.accounts.set_member_disabled("acme", bob, rig.clock()),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in done) == ["AccountRefused", "bool"]
    members = await rig.accounts.members("acme")
    assert [one.role == "owner" and one.disabled_at is None for one in members].count(True) == 1


async def test_other_tenants_members_are_out_of_reach(store: Store) -> None:
    """A membership must be seen and changed in its own tenant only."""
    rig = Rig(store)
    await rig.add("ann")
    bob = await rig.add("bob", tenant="other")
    token = await rig.open(bob)
    assert await rig.accounts.member("acme", bob) is None
    assert not await rig.accounts.set_role("acme", bob, "viewer")
    assert not await rig.accounts.set_member_disabled("acme", bob, rig.clock())
    (one,) = await rig.sessions.list(bob)
    assert not await rig.sessions.end_named(bob, one.session, "acme")
    assert await rig.sessions.list(bob, "acme") == []
    assert await rig.sessions.find(token) is not None
    assert [member.name for member in await rig.accounts.members("acme")] == ["ann"]


async def test_switch_goes_to_own_tenants_only(store: Store) -> None:
    """Somebody with two shops may turn to the other; nobody to one where they do not work, or no longer do."""
    rig = Rig(store)
    account = await rig.add()
    await rig.add("bob", tenant="third")
    await rig.accounts.join("other", account, "viewer", rig.clock())
    token = await rig.open(account, "acme")
    assert await rig.sessions.switch(token, "other")
    found = await rig.sessions.find(token)
    assert found is not None
    assert (found.tenant, found.role, found.tenants) == ("other", "viewer", ("acme", "other"))
    for tenant in ("third", "", "nowhere", "a\0"):
        assert not await rig.sessions.switch(token, tenant)
    await rig.accounts.set_member_disabled("other", account, rig.clock())
    assert await rig.sessions.find(token) is None
    assert not await rig.sessions.switch(await rig.open(account), "other")


async def test_device_is_known_for_its_account(store: Store) -> None:
    """A device must be known to the account that signed in with it, for half a year, until a password is new."""
    rig = Rig(store)
    ann, bob = await rig.add("ann"), await rig.add("bob")
    device = await rig.sessions.remember_device(ann)
    assert await rig.sessions.know_device(ann, device)
    assert not await rig.sessions.know_device(bob, device)
    assert not await rig.sessions.know_device(ann, device[:-1])
    rig.clock.turn(DEVICE_KNOWN.total_seconds())
    assert not await rig.sessions.know_device(ann, device)
    newer = await rig.sessions.remember_device(ann)
    await rig.accounts.set_password(ann, "$other")
    assert not await rig.sessions.know_device(ann, newer)


async def test_ticket_works_once_and_not_for_ever(store: Store) -> None:
    """A ticket must let in one of many who use it at once, and nobody when it is too old or the account disabled."""
    rig = Rig(store)
    await rig.add("bob")
    account = await rig.add("ann", "viewer")
    ticket = await rig.sessions.make_ticket(account, timedelta(hours=1))
    assert await rig.sessions.look_at_ticket(ticket) == "ann"
    taken = await asyncio.gather(*(rig.sessions.take_ticket(ticket) for _ in range(8)))
    assert sorted(taken, key=str) == [account, *[None] * 7]
    assert await rig.sessions.look_at_ticket(ticket) is None
    old = await rig.sessions.make_ticket(account, timedelta(hours=1))
    rig.clock.turn(3600)
    assert await rig.sessions.take_ticket(old) is None
    late = await rig.sessions.make_ticket(account, timedelta(hours=1))
    await rig.accounts.set_disabled(account, rig.clock())
    assert await rig.sessions.take_ticket(late) is None
    assert await rig.sessions.open(account) is None


async def test_setup_token_until_there_is_an_account(store: Store) -> None:
    """A new token must void the old one, let one in, and none may be had once there is an account."""
    rig = Rig(store)
    old, new = await rig.sessions.make_setup_token(), await rig.sessions.make_setup_token()
    assert old is not None
    assert new is not None
    assert [await rig.sessions.look_at_setup_token(one) for one in (old, new, "")] == [False, True, False]
    taken = await asyncio.gather(*(rig.sessions.take_setup_token(new) for _ in range(5)))
    assert taken.count(True) == 1
    third = await rig.sessions.make_setup_token()
    await rig.add()
    assert not await rig.sessions.look_at_setup_token(third or "")
    assert not await rig.sessions.take_setup_token(third or "")
    assert await rig.sessions.make_setup_token() is None


async def test_code_of_the_second_step_counts_once(store: Store) -> None:
    """A step's code must be taken once, and no earlier one after it; the secret is sealed and in no text."""
    rig = Rig(store)
    account = await rig.add()
    await rig.accounts.set_two_step(account, b"12345678901234567890", step=5)
    assert [await rig.accounts.take_code(account, step) for step in (5, 6, 6, 5, 8, 7)] == [
        False, True, False, False, True, False,
    ]  # fmt: skip
    taken = await asyncio.gather(*(rig.accounts.take_code(account, 9) for _ in range(6)))
    assert taken.count(True) == 1
    found = await rig.accounts.credentials("ann")
    assert found is not None
    assert found.two_step == b"12345678901234567890"
    assert "12345" not in f"{found}{found!r}"
    assert b"12345" not in await store.pool.fetchval("SELECT two_step FROM account")


async def test_trail_is_paged_by_tenant(store: Store) -> None:
    """Every line must come once, the newest first, to its own tenant; what is too long or unreadable is cut."""
    trail = Trail(store, Clock())
    for number in range(7):
        await trail.write("acme", "user:ann", f"thing.{number}", str(number), {"n": number})
    await trail.write("other", "user:bob", "thing.secret", "theirs")
    await trail.write("acme", "key:1", "x\0" * 400, "y" * 1000, {"big": "z" * 10_000, "nul": "\0"})
    first = await trail.read("acme", limit=3)
    rest = await trail.read("acme", first[-1].place, limit=100)
    assert [one.object for one in [*first[1:], *rest]] == [str(n) for n in range(6, -1, -1)]
    assert len(first[0].object) == 300
    assert "cut" in first[0].detail
    assert [one.action for one in await trail.read("acme", actor="user:ann", action="thing.3")] == ["thing.3"]
    assert len([one async for one in trail.read_all("acme")]) == 8
    assert await trail.read("acme", -5) == []
    assert len(await trail.read("acme", 2**70)) == 8
