"""Stolen passwords: whoever chooses one is told so, in both forms that lists have, and a bad list stops the start."""

import hashlib
import random
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from orderbell.app import doctor
from orderbell.app.accounts import first_run_path, open_door
from orderbell.errors import SettingsInvalid
from orderbell.playbooks import load_shelf
from orderbell.settings import Settings
from orderbell.store.postgres import Store
from orderbell.web.account import breached
from orderbell.web.account.breached import BreachedPasswords
from orderbell.web.account.passwords import LENGTH_MIN, Passwords, breached_in
from tests.web.front_site import PASSWORD, running_front

STOLEN = ("Summer in Paris 1999", "夏天的西瓜和冬天的火锅都好吃", "tr0ub4dor & three", "x'; DROP TABLE--")


def sha1_list(folder: Path, passwords: object, *, end: str = "\r\n", counted: bool = True) -> Path:
    """A file in the form of Have I Been Pwned."""
    assert isinstance(passwords, list | tuple)
    digests = sorted(hashlib.sha1(one.encode(), usedforsecurity=False).hexdigest().upper() for one in passwords)
    file = folder / "sha1.txt"
    lines = [f"{digest}:{number + 1}" if counted else digest for number, digest in enumerate(digests)]
    file.write_bytes("".join(line + end for line in lines).encode())
    return file


@pytest.mark.parametrize(("end", "counted"), [("\r\n", True), ("\n", False)])
def test_every_line_of_a_sorted_list_is_found(tmp_path: Path, end: str, *, counted: bool) -> None:
    """The first, the last and every other digest must be found, and nothing that is not there."""
    there = [f"stolen password {number}" for number in range(2_000)]
    found = BreachedPasswords(sha1_list(tmp_path, there, end=end, counted=counted), LENGTH_MIN)
    assert all(map(found.holds, there))
    assert not any(found.holds(f"own password {number}") for number in range(2_000))
    one = BreachedPasswords(sha1_list(tmp_path, ["only this one"], end=end), LENGTH_MIN)
    assert (one.holds("only this one"), one.holds("ONLY THIS ONE"), one.holds("not this one")) == (True, True, False)


def test_list_without_a_last_line_end(tmp_path: Path) -> None:
    """The last line counts, with a line end behind it or not."""
    file = sha1_list(tmp_path, STOLEN)
    file.write_bytes(file.read_bytes().rstrip())
    assert all(map(BreachedPasswords(file, LENGTH_MIN).holds, STOLEN))


def test_large_list_is_not_read(tmp_path: Path) -> None:
    """A sorted list of gigabytes must be searched by a few reads of it, some forty for each password here."""
    file = sha1_list(tmp_path, STOLEN, end="\n", counted=False)
    lines = file.read_bytes().splitlines()
    dice = random.Random(3)
    digests = sorted({*lines, *(dice.randbytes(20).hex().upper().encode() for _ in range(200_000))})
    file.write_bytes(b"\n".join(digests))
    found = BreachedPasswords(file, LENGTH_MIN)
    reads = 0
    real = breached._digest_from

    def counting(*given: object) -> str:
        nonlocal reads
        reads += 1
        return real(*given)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(breached, "_digest_from", counting)
        assert all(map(found.holds, STOLEN))
    assert reads <= 2 * len(STOLEN) * (len(digests) * 41).bit_length() + 2 * len(STOLEN)


def test_plain_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords of a plain list must be found in any case of letters; short ones and too many are not kept."""
    file = tmp_path / "plain.txt"
    file.write_bytes("\ufeff123456\nqwerty\r\n".encode() + "\r\n".join(STOLEN).encode() + b"\n\xff\xfe broken line\n")
    found = BreachedPasswords(file, LENGTH_MIN)
    assert all(map(found.holds, STOLEN))
    assert found.holds(STOLEN[0].upper())
    assert not any(map(found.holds, ("123456", "qwerty", "a quite other one", "")))
    monkeypatch.setattr(breached, "KEPT_MAX", 2)
    short = BreachedPasswords(file, LENGTH_MIN)
    with capture_logs() as said:
        assert [short.holds(one) for one in STOLEN] == [True, True, False, False]
    assert [one["kept"] for one in said] == [2]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"), (b"8846F7EAEE8FB117AD06BDD830B7586C:5\n", "not SHA-1"), (b"a" * 64 + b"\n", "not SHA-1"),
        (b"$2b$12$abcdefghijklmnopqrstuv\n", "not SHA-1"),
        (b"\n".join(f"{9 - n}{'0' * 39}:1".encode() for n in range(9)), "is not sorted"),
    ],
)  # fmt: skip
def test_list_that_is_none_stops_the_start(tmp_path: Path, content: bytes, says: str) -> None:
    """A list that would never find anything must be refused with a word, not be taken in silence."""
    file = tmp_path / "list.txt"
    file.write_bytes(content)
    with pytest.raises(SettingsInvalid, match=says):
        breached_in(str(file))


async def test_list_that_cannot_be_read(store: Store, tmp_path: Path) -> None:
    """A missing list must stop the start and be told by the doctor; one that goes later must let nothing through."""
    gone = Settings(breached_passwords=str(tmp_path / "none.txt"))
    with pytest.raises(SettingsInvalid, match=r"none\.txt cannot be read: No such file"):
        open_door(store, gone, lambda _: load_shelf(""))
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        breached_in(str(tmp_path))
    findings = await doctor._guarded("passwords", lambda: doctor._passwords(gone))
    assert [(one.name, one.state, "cannot be read" in one.says) for one in findings] == [("passwords", "wrong", True)]
    findings = await doctor._guarded("passwords", lambda: doctor._passwords(Settings()))
    assert [one.state for one in findings] == ["fine"]
    for file in (sha1_list(tmp_path, STOLEN), tmp_path / "plain.txt"):
        file.write_bytes(file.read_bytes() if file.exists() else b"some password of others\n")
        passwords = Passwords(breached_in(str(file)))
        file.unlink()
        with pytest.raises(SettingsInvalid, match="cannot be read"):
            await passwords.weakness("correct horse battery")
    assert await Passwords(breached_in("")).weakness("correct horse battery") == ""


async def test_stolen_password_is_refused_wherever_one_is_chosen(store: Store, tmp_path: Path) -> None:
    """At the first run and at every change, whoever chooses a stolen password must be told so, and keep the old one."""
    settings = Settings(breached_passwords=str(sha1_list(tmp_path, STOLEN)))
    async with running_front(store, settings, more=[]) as front:
        token = (await first_run_path(store) or "").partition("=")[2]
        form: dict[str, object] = {"token": token, "name": "boss", "shop": "shop", "password": STOLEN[1]}
        refused = await front.browser().post("/setup", form)
        assert (refused.status_code, "泄露密码的名单" in refused.text) == (422, True)
        browser = front.browser()
        assert (await browser.post("/setup", {**form, "password": PASSWORD})).status_code == 303
        change = {"current": PASSWORD, "password": STOLEN[0], "again": STOLEN[0]}
        refused = await browser.post("/console/settings/account/password", change, accept_language="en")
        assert (refused.status_code, "list of stolen ones" in refused.text) == (422, True)
        assert (await front.browser().sign_in("boss", STOLEN[0])).status_code == 401
        assert (await front.browser().sign_in("boss", PASSWORD)).status_code == 303
