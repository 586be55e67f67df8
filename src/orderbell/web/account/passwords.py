"""Passwords: hashed with argon2id (RFC 9106) beside the event loop, and refused when anybody would guess them.

A check costs the same whether there is such an account or not: some hash is always verified. Besides what is common, an
installation may name a list of stolen passwords, which nobody may choose either (`orderbell.web.account.breached`).
"""

import asyncio
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from orderbell.web.access import say_no
from orderbell.web.account.breached import BreachedPasswords

Result = TypeVar("Result")

LENGTH_MIN: Final = 12
LENGTH_MAX: Final = 128
AT_ONCE: Final = 2
"""How many are worked out at the same time; each takes 19 MiB and a core."""

WAITING_MAX: Final = 40
"""How many may wait; beyond it nobody would be patient enough."""

_REPEATED_MAX: Final = 4
_DISTINCT_MIN: Final = 5

# The OWASP cheat sheet's second choice of argon2id parameters: 19 MiB, two passes.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)

# Those of the lists of leaked passwords that are long enough to pass, and their local cousins.
_COMMON_WORDS: Final = """
    123456789012 1234567890123 12345678901234 123456789123 1234567890qwe 123456789abc 1q2w3e4r5t6y 1q2w3e4r5t6y7u
    1qaz2wsx3edc 1qaz2wsx3edc4rfv 1qazxsw23edc qwertyuiop12 qwertyuiop123 qwertyuiopas qwertyuiop[] qwerty123456
    qwerty12345678 qwertyqwerty asdfghjkl123 asdfghjklzxcvbnm zxcvbnm123456 qazwsxedcrfv qazwsxedc123 password1234
    password12345 password123456 passwordpassword password2024 password2025 password2026 passw0rd1234 p@ssw0rd1234
    p@ssword1234 letmein12345 letmein123456 welcome12345 welcome123456 iloveyou1234 iloveyou12345 iloveyou123456
    iloveyouforever administrator administrator1 admin1234567 admin12345678 admin123456789 adminadminadmin
    changeme1234 changemechangeme trustno1trustno1 superman1234 baseball1234 football1234 sunshine1234 princess1234
    dragon123456 monkey123456 abc123456789 abcd12345678 abc123abc123 a123456789012 a1b2c3d4e5f6 aa1234567890
    aa123456789a abcdefghijkl abcdefghijklm woaini1314520 woaini123456 woaini520131 woaini5201314 5201314520131
    520131452013 5201314woaini 1314520woaini zhangwei1234 wangwei12345 qq1234567890 qq123456789a nihao1234567
    mima12345678 mima123456789 mimamima1234 orderbell123 orderbell1234 orderbellorderbell dingdong1234
    dingdongdingdong correcthorsebatterystaple thequickbrownfox unknownunknown testtesttest test12345678
    guestguest12 rootrootroot toortoortoor secretsecret q1w2e3r4t5y6 zaq12wsxcde3 zaq1zaq1zaq1 147258369147
    147258369258 987654321098 098765432109 111222333444 112233445566 123123123123 123321123321 121212121212
    """
_COMMON: Final = frozenset(_COMMON_WORDS.split())
_ROWS: Final = ("0123456789" * 3, "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm", "1234567890" * 3)


def weakness(password: str, *names: str) -> str:
    """What is wrong with a new password, as a word: too_short, too_long, too_common, like_the_name; empty when fine."""
    password = _read(password)
    if len(password) < LENGTH_MIN:
        return "too_short"
    if len(password) > LENGTH_MAX:
        return "too_long"
    plain = password.casefold()
    if any(name and plain in {name, name + name, name[::-1]} for name in (_read(one).casefold() for one in names)):
        return "like_the_name"
    return "too_common" if plain in _COMMON or _is_pattern(plain) else ""


def _is_pattern(plain: str) -> bool:
    """Whether it is one short piece over and over, or a row of the keyboard."""
    repeated = any(plain == (plain[:size] * len(plain))[: len(plain)] for size in range(1, _REPEATED_MAX + 1))
    rows = any(plain in row or plain in row[::-1] for row in _ROWS)
    return repeated or rows or len(set(plain)) < _DISTINCT_MIN


def breached_in(file: str) -> BreachedPasswords | None:
    """The list of stolen passwords that an installation names, None for none; SettingsInvalid as it says."""
    return BreachedPasswords(Path(file).expanduser(), LENGTH_MIN) if file else None


class Passwords:
    """Hashes and checks, a few at a time; of more than can be waited for, the rest is answered 503."""

    def __init__(self, breached: BreachedPasswords | None = None) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._breached = breached

    async def weakness(self, password: str, *names: str) -> str:
        """What is wrong with a new password, as `weakness` says it, or `breached`: it is on a list of stolen ones."""
        found = weakness(password, *names)
        if found or self._breached is None:
            return found
        return "breached" if await self._in_turn(self._breached.holds, _read(password)) else ""

    async def hash(self, password: str) -> str:
        """The hash to be kept of a password."""
        return await self._in_turn(_hash, password)

    async def fits(self, hashed: str, password: str) -> bool:
        """Whether a password is the one of this hash; an empty hash fits none, at the same cost."""
        return await self._in_turn(_fits, hashed, password)

    async def warm_up(self) -> None:
        """Work the stand-in for missing hashes out, so that not even the first check tells anything."""
        await self._in_turn(_fits, "", "")

    async def _in_turn(self, work: Callable[..., Result], *given: str) -> Result:
        if self._waiting >= WAITING_MAX:
            say_no(503, "busy", "Busy", "too many people are signing in at the moment; try again in a minute")
        self._waiting += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(work, *given)
        finally:
            self._waiting -= 1


def is_outdated(hashed: str) -> bool:
    """Whether a hash was made with other parameters than new ones are."""
    return bool(hashed) and _HASHER.check_needs_rehash(hashed)


def _read(password: str) -> str:
    # however a keyboard composes a sign, it is the same one (NIST SP 800-63B, 3.1.1.2)
    return unicodedata.normalize("NFKC", password)


def _hash(password: str) -> str:
    return _HASHER.hash(_read(password))


def _fits(hashed: str, password: str) -> bool:
    try:
        _HASHER.verify(hashed or _stand_in(), _read(password)[: LENGTH_MAX + 1])
    except (VerificationError, InvalidHashError):
        return False
    return bool(hashed)


@cache
def _stand_in() -> str:
    return _HASHER.hash("nobody")
