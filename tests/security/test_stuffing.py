"""Sign-in under a flood: ten thousand guesses from a thousand addresses cost five password checks, and no owner.

Driven at the door, below HTTP: the throttle is the real one in PostgreSQL, the hasher counts and costs nothing.
"""

import asyncio
from datetime import datetime

from argon2 import PasswordHasher

from orderbell.app.accounts import open_door
from orderbell.playbooks import load_shelf
from orderbell.settings import Settings
from orderbell.store.accounts import Accounts
from orderbell.store.postgres import Store
from orderbell.store.tenants import add_tenant
from orderbell.web.account.door import TRIES_A_NAME, TRIES_AN_ADDRESS, WINDOW, Answer, Door
from orderbell.web.account.passwords import Passwords
from tests.dispatch.rig import Clock
from tests.security.counting import statements

ADDRESSES, TRIES = 1_000, 10_000
AT_ONCE = 50
RIGHT = "the right one of ann"
HASH = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1).hash("nobody will work this out")
SPELLINGS = ("ann", "ANN", "Ann", " ann", "ann\u3000", "\uff41\uff4e\uff4e")
"""One account all the same: guesses under each of them count together."""


class CountingPasswords(Passwords):
    """Notes when a hash would have been worked out, and of what; one password fits."""

    def __init__(self, now: Clock) -> None:
        super().__init__()
        self.now = now
        self.checked: list[tuple[datetime, str]] = []

    async def fits(self, hashed: str, password: str) -> bool:
        """Note the check."""
        self.checked.append((self.now(), hashed))
        return hashed == HASH and password == RIGHT


async def counting_door(store: Store) -> tuple[Door, CountingPasswords, Clock, str]:
    """A door with one account behind it, and the device from which its owner signed in a while ago."""
    clock = Clock()
    await add_tenant(store.pool, "acme", load_shelf(""))
    account = await Accounts(store).add("acme", "ann", "owner", clock(), password=HASH)
    passwords = CountingPasswords(clock)
    door = open_door(store, Settings(), lambda _: load_shelf(""), clock)
    device = await door.sessions.remember_device(account)
    counting = Door(**{name: getattr(door, name) for name in Door.__struct_fields__} | {"passwords": passwords})
    return counting, passwords, clock, device


async def test_ten_thousand_tries_over_a_thousand_addresses(store: Store) -> None:
    """An account must be checked five times in 15 minutes, no refused try cost a hash, and its owner come in meanwhile.

    The owner comes by the device that is known; everybody else may try again when the time is over.
    """
    door, passwords, clock, device = await counting_door(store)
    begun = clock()

    async def guess(number: int) -> Answer:
        address = f"198.51.{number % ADDRESSES // 250}.{number % ADDRESSES % 250}"
        name = SPELLINGS[number % len(SPELLINGS)]
        return await door.check(name, f"guess {number:09}", "", device="", address=address)

    answers: list[Answer] = []
    for first in range(0, TRIES, AT_ONCE):
        answers += await asyncio.gather(*map(guess, range(first, first + AT_ONCE)))
        clock.turn(WINDOW.total_seconds() / TRIES * AT_ONCE * 0.99)
    assert clock() - begun < WINDOW
    assert [hashed for _, hashed in passwords.checked] == [HASH] * TRIES_A_NAME
    assert sum(answer.retry_after_s > 0 for answer in answers) == TRIES - TRIES_A_NAME
    assert not any(answer.account for answer in answers)
    owner = await door.check("ann", RIGHT, "", device=device, address="203.0.113.9")
    assert (owner.account > 0, owner.known_device) == (True, True)
    stranger = await door.check("ann", RIGHT, "", device="", address="203.0.113.9")
    assert (stranger.account, stranger.retry_after_s > 0) == (0, True)
    clock.turn(WINDOW.total_seconds())
    assert (await door.check("ann", RIGHT, "", device="", address="203.0.113.9")).account == owner.account


async def test_no_window_holds_more_than_five_checks(store: Store) -> None:
    """However the tries are spread over the hours, any 15 minutes of them must hold five checks at most."""
    door, passwords, clock, _ = await counting_door(store)
    for number in range(250):
        clock.turn(11 + number % 13)
        await door.check("ann", f"guess {number:09}", "", device="", address=f"198.51.100.{number % 250}")
    moments = [at for at, _ in passwords.checked]
    assert len(moments) > TRIES_A_NAME * 4
    assert all(later - early >= WINDOW for early, later in zip(moments, moments[TRIES_A_NAME:], strict=False))


async def test_one_address_over_ten_thousand_names(store: Store) -> None:
    """One address must get so many checks in 15 minutes and no more, whatever names it tries."""
    door, passwords, _, _ = await counting_door(store)
    for first in range(0, 1_000, AT_ONCE):
        names = (f"name {number}" for number in range(first, first + AT_ONCE))
        await asyncio.gather(*(door.check(name, RIGHT, "", device="", address="198.51.100.1") for name in names))
    assert [hashed for _, hashed in passwords.checked] == [""] * TRIES_AN_ADDRESS


async def test_known_and_unknown_names_cost_the_same(store: Store) -> None:
    """Names of nobody and of accounts that are closed must cost the same statements and hashes as a wrong password."""
    door, passwords, clock, _ = await counting_door(store)
    gone = await door.accounts.add("acme", "gone", "viewer", clock(), password=HASH)
    await door.accounts.set_disabled(gone, clock())
    await door.accounts.add("acme", "new", "viewer", clock())
    seen: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    async with statements(store) as noted:
        for name in ("ann", "nobody", "gone", "new", "", "x" * 500, "a\0b"):
            for number in range(TRIES_A_NAME + 1):
                noted.clear()
                passwords.checked.clear()
                await door.check(name, "wrong", "", device="d" * 43, address=f"{name[:9]} {number}")
                seen.setdefault(name, []).append((tuple(noted), len(passwords.checked)))
    for name, one in seen.items():
        assert one == seen["ann"], name
    assert [hashes for _, hashes in seen["ann"]] == [1] * TRIES_A_NAME + [0]
