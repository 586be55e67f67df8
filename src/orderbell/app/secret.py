"""The secret of an installation: from the settings, or from a file of its own that the first start makes."""

import base64
import binascii
import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from orderbell.errors import SettingsInvalid
from orderbell.settings import Settings
from orderbell.store import embedded
from orderbell.store.vault import SECRET_LENGTH

FILE = "secret.key"
FORM = "64 hex digits, or 32 bytes in base64"
LENGTH_MAX = 200
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def data_dir_of(settings: Settings) -> Path:
    """The data folder of the installation, whether it is there or not."""
    return Path(settings.data_dir).expanduser() if settings.data_dir else embedded.default_data_dir().parent


def secret_file_of(settings: Settings) -> Path:
    """Where the secret is kept when no setting names it."""
    return data_dir_of(settings) / FILE


def read_secret(settings: Settings) -> bytes:
    """Find the 32 bytes of the installation's secret, and make them at the first start.

    To be called when the database is open: the bundled server must be the one to make the data folder, because
    its user has to enter it. However many processes start at once, all of them get the same secret.

    Raises:
        SettingsInvalid: The secret has another form, its file is open to other users or cannot be used.
    """
    if settings.secret_key:
        return parse_secret(settings.secret_key, "the setting secret_key (ORDERBELL_SECRET_KEY)")
    file = secret_file_of(settings)
    try:
        if not file.exists():
            _make(file)
        return read_secret_file(file)
    except OSError as problem:
        raise SettingsInvalid(
            f"the secret's file {file} cannot be used: {problem.strerror}; name another folder with "
            "ORDERBELL_DATA_DIR, or give the secret in ORDERBELL_SECRET_KEY (`openssl rand -hex 32` makes one)"
        ) from problem


def read_secret_file(file: Path) -> bytes:
    """Read a secret from a file that only its owner may read.

    Raises:
        SettingsInvalid: Others may read it, or it holds something else.
        OSError: It cannot be read.
    """
    with file.open("rb") as opened:
        mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
        if mode & OTHERS:
            raise SettingsInvalid(f"{file} is open to other users (mode {mode:03o}): `chmod 600 {file}`")
        return parse_secret(opened.read(LENGTH_MAX).decode("ascii", "replace"), str(file))


def parse_secret(text: str, where: str) -> bytes:
    """Read a secret as people write it; base64 may be of the URL kind and without padding.

    Raises:
        SettingsInvalid: Says where it stood and what form it should have, never what was there.
    """
    text = text.strip()
    with suppress(ValueError, binascii.Error):
        if len(text) == 2 * SECRET_LENGTH:
            return bytes.fromhex(text)
        plain = text.rstrip("=").replace("-", "+").replace("_", "/")
        secret = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        if len(secret) == SECRET_LENGTH:
            return secret
    raise SettingsInvalid(f"{where} is no secret: it must be {FORM}")


def _make(file: Path) -> None:
    """Make the file with a new secret, unless somebody else is first.

    It gets its name when it is complete and on disk, and a link never takes the place of what has the name.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=f".{FILE}-", dir=file.parent)  # mode 600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(f"{secrets.token_hex(SECRET_LENGTH)}\n")
            opened.flush()
            os.fsync(opened.fileno())
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        Path(draft).unlink()
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
