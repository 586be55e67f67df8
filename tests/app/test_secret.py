"""The secret of an installation: found where it should be, made once, and shown to nobody."""

import base64
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orderbell.app.secret import FILE, data_dir_of, read_secret, secret_file_of
from orderbell.errors import SettingsInvalid
from orderbell.settings import Settings
from orderbell.store import embedded

SECRET = bytes(range(224, 256))
"""One whose base64 has the characters in which the two kinds differ."""

BASE64 = base64.b64encode(SECRET).decode()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of an installation that was never started."""
    return Settings(data_dir=str(tmp_path / "data"))


@pytest.mark.parametrize(
    "text",
    [
        SECRET.hex(), SECRET.hex().upper(), f" {SECRET.hex()}\n", BASE64, BASE64.rstrip("="),
        base64.urlsafe_b64encode(SECRET).decode(),
    ],
)  # fmt: skip
def test_secret_is_read_from_the_settings(text: str, settings: Settings) -> None:
    """Hex and both kinds of base64 count, and no file is made."""
    assert read_secret(Settings(secret_key=text, data_dir=settings.data_dir)) == SECRET
    assert not data_dir_of(settings).exists()


@pytest.mark.parametrize(
    "text", ["swordfish", SECRET.hex()[1:], SECRET.hex() + "00", "z" * 64, BASE64[:-4], "é" * 43, " "]
)
def test_other_secret_is_refused_and_not_repeated(text: str) -> None:
    """The message names the setting and the form, never what was given."""
    with pytest.raises(SettingsInvalid, match=r"ORDERBELL_SECRET_KEY.*64 hex digits.*base64") as refusal:
        read_secret(Settings(secret_key=text))
    assert text == " " or text not in str(refusal.value)


def test_first_start_makes_a_secret(settings: Settings) -> None:
    """It is the owner's alone, stays the same, can be given to other machines, and nothing else is left."""
    secret = read_secret(settings)
    file = secret_file_of(settings)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in file.parent.iterdir()] == [FILE]
    assert read_secret(settings) == secret
    assert read_secret(Settings(secret_key=file.read_text())) == secret
    assert secret != read_secret(Settings(data_dir=str(file.parent / "other")))


def test_processes_that_start_at_once_agree(settings: Settings) -> None:
    """Whoever is first makes the secret of all, however close they are."""
    code = "import sys; from orderbell.app.secret import *; sys.stdin.read(); print(read_secret(Settings(data_dir=sys.argv[1])).hex())"
    command = [sys.executable, "-c", code, settings.data_dir]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    with ThreadPoolExecutor(len(started)) as threads:
        found = list(threads.map(lambda process: process.communicate("")[0], started))
    assert len(set(found)) == 1
    assert len(found[0].strip()) == 64


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_file_open_to_others_is_refused(settings: Settings, mode: int) -> None:
    """A secret that others may read or write is none; the remedy is named."""
    read_secret(settings)
    file = secret_file_of(settings)
    file.chmod(mode)
    with pytest.raises(SettingsInvalid, match=f"mode {mode:03o}.*chmod 600"):
        read_secret(settings)


def test_damaged_file_is_refused_and_kept(settings: Settings) -> None:
    """No new secret takes the place of one that cannot be read: it might be mended."""
    read_secret(settings)
    file = secret_file_of(settings)
    for content in (b"", b"swordfish", bytes(500), "秘密".encode()):
        file.write_bytes(content)
        with pytest.raises(SettingsInvalid, match=FILE):
            read_secret(settings)
        assert file.read_bytes() == content


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """What the system refuses comes with the setting that mends it."""
    (tmp_path / "file").touch()
    with pytest.raises(SettingsInvalid, match="ORDERBELL_SECRET_KEY"):
        read_secret(Settings(data_dir=str(tmp_path / "file")))


def test_failed_start_leaves_no_half_secret(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk gives out before all is written, there is no file, and the next start makes one."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SettingsInvalid, match="No space left"):
            read_secret(settings)
    assert list(data_dir_of(settings).iterdir()) == []
    assert read_secret(settings)


def test_data_folder_is_that_of_the_database() -> None:
    """Without a setting the secret lies beside the bundled database."""
    assert data_dir_of(Settings()) == embedded.default_data_dir().parent
    assert data_dir_of(Settings(data_dir="~/shop")) == Path.home() / "shop"
