"""Lists of stolen passwords: one that stands there is refused, however strong it looks (OWASP ASVS 5.0, 6.2.12).

Two forms are known, told apart by the first line:

- SHA-1 digests in hexadecimal, sorted, each perhaps with `:count`: the form in which Have I Been Pwned gives its list
  away (https://haveibeenpwned.com/Passwords). It is searched in the file itself, some 35 reads for a billion lines.
- Passwords, one a line, the most common first. Those that are long enough to be chosen at all are kept as digests of
  8 bytes, read when the first password is judged.
"""

import hashlib
import re
from array import array
from bisect import bisect_left
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Final

import structlog

from orderbell.errors import SettingsInvalid

KEPT_MAX: Final = 2_000_000
"""So many passwords of a list are kept, 16 MB of digests; the rest is left out with a word in the log."""

_SHA1: Final = re.compile(rb"([0-9A-Fa-f]{40})(:\d+)?")
_OTHER_DIGEST: Final = re.compile(rb"[0-9A-Fa-f]{32}(:\d+)?|[0-9A-Fa-f]{48,}(:\d+)?|\$\w+\$.*")
_LINE_MAX: Final = 4096
_PROBES: Final = 64

log = structlog.get_logger()


class BreachedPasswords:
    """The list in a file; texts are compared as they are given, so whoever asks brings them into one form.

    Args:
        path: The file; SettingsInvalid when it cannot be read, is empty, or holds digests of another kind.
        length_min: Shorter passwords are refused anyway and not kept.
    """

    def __init__(self, path: Path, length_min: int) -> None:
        self._path, self._length_min = path, length_min
        self._kept: array[int] | None = None
        self._reading = Lock()
        try:
            with path.open("rb") as file:
                first = file.readline(_LINE_MAX).removeprefix(b"\xef\xbb\xbf").strip()
                self._hashed = _SHA1.fullmatch(first) is not None
                self._size = file.seek(0, 2)
                in_order = not self._hashed or _is_sorted(file, self._size)
        except OSError as problem:
            raise SettingsInvalid(f"breached_passwords: {path} cannot be read: {problem.strerror}") from problem
        if not self._size:
            raise SettingsInvalid(f"breached_passwords: {path} is empty")
        if _OTHER_DIGEST.fullmatch(first):
            raise SettingsInvalid(f"breached_passwords: {path} holds digests, but not SHA-1; give passwords, or SHA-1")
        if not in_order:
            raise SettingsInvalid(f"breached_passwords: {path} is not sorted: `LC_ALL=C sort -o FILE FILE` mends it")

    def holds(self, password: str) -> bool:
        """Whether a password is on the list, in this case of letters or in lower case; SettingsInvalid when it is gone.

        It reads from the disk: not for the event loop.
        """
        try:
            if self._hashed:
                return any(self._stands_there(text) for text in {password, password.casefold()})
            with self._reading:
                if self._kept is None:
                    self._kept = self._read()
        except OSError as problem:
            raise SettingsInvalid(f"breached_passwords: {self._path} cannot be read: {problem.strerror}") from problem
        wanted = _short_digest(password)
        place = bisect_left(self._kept, wanted)
        return place < len(self._kept) and self._kept[place] == wanted

    def _stands_there(self, password: str) -> bool:
        wanted = hashlib.sha1(password.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
        low, high = 0, self._size
        with self._path.open("rb") as file:
            while low < high:  # the first place from which on all digests are greater or the one
                middle = (low + high) // 2
                found = _digest_from(file, middle)
                low, high = (low, middle) if not found or found >= wanted else (middle + 1, high)
            return _digest_from(file, low) == wanted

    def _read(self) -> "array[int]":
        kept: set[int] = set()
        with self._path.open("rb") as file:
            while line := file.readline(_LINE_MAX):
                text = line.rstrip(b"\r\n").decode("utf-8", "replace")
                if len(text) >= self._length_min:
                    if len(kept) >= KEPT_MAX:
                        log.warning("the list of stolen passwords is longer than what is kept of it", kept=len(kept))
                        break
                    kept.add(_short_digest(text))
        return array("Q", sorted(kept))


def _short_digest(text: str) -> int:
    digest = hashlib.blake2b(text.casefold().encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest())


def _digest_from(file: BinaryIO, offset: int) -> str:
    """The digest of the first line that begins at or after an offset, in lower case; empty at the end."""
    file.seek(max(offset - 1, 0))
    if offset:
        file.readline(_LINE_MAX)
    found = _SHA1.match(file.readline(_LINE_MAX))
    return found[1].decode().lower() if found else ""


def _is_sorted(file: BinaryIO, size: int) -> bool:
    seen = [_digest_from(file, size * number // _PROBES) for number in range(_PROBES)]
    seen = [digest for digest in seen if digest]  # the last probe may find the end
    return seen == sorted(seen)
