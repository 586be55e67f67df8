"""The second step of signing in: a code that an app on the phone shows (TOTP, RFC 6238)."""

import base64
import binascii
import hmac
import secrets
from datetime import datetime
from typing import Final

import segno
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from markupsafe import Markup

STEP_S: Final = 30
DRIFT: Final = 1
"""By how many steps a phone's clock may be wrong."""

_DIGITS: Final = 6
_SECRET_LENGTH: Final = 20
_SECRET_LENGTHS: Final = range(16, 65)


def new_secret() -> bytes:
    """A secret as RFC 4226 advises."""
    return secrets.token_bytes(_SECRET_LENGTH)


def matching_step(secret: bytes, code: str, now: datetime) -> int | None:
    """The time step whose code this is, None when of none that counts now.

    Whoever takes the code must see to it that no step counts twice (RFC 6238, 5.2).
    """
    digits = "".join(code.split())
    if len(digits) != _DIGITS or not digits.isascii() or not digits.isdigit():
        return None
    totp, current, found = _totp(secret), int(now.timestamp()) // STEP_S, None
    for step in range(current - DRIFT, current + DRIFT + 1):
        if hmac.compare_digest(totp.generate(step * STEP_S), digits.encode()):
            found = step
    return found


def code_at(secret: bytes, at: datetime) -> str:
    """The code that the app shows at a moment."""
    return _totp(secret).generate(int(at.timestamp())).decode()


def spell_secret(secret: bytes) -> str:
    """A secret as people type it: base32."""
    return base64.b32encode(secret).decode().rstrip("=")


def read_secret(text: str) -> bytes | None:
    """A secret as people type it, None when it is none."""
    plain = "".join(text.split()).upper()
    try:
        secret = base64.b32decode(plain + "=" * (-len(plain) % 8))
    except (binascii.Error, ValueError):
        return None
    return secret if len(secret) in _SECRET_LENGTHS else None


def qr_of(secret: bytes, name: str, title: str) -> Markup:
    """The secret as a picture for the app's camera, an SVG without styles."""
    address = _totp(secret).get_provisioning_uri(name, "OrderBell")
    drawn = segno.make(address, error="m", micro=False).svg_inline(
        scale=5, border=4, dark="#000", light="#fff", title=title, svgclass="qr", lineclass=None, omitsize=False
    )
    return Markup(drawn)  # noqa: S704 - drawn by us; the title is escaped by segno


def _totp(secret: bytes) -> TOTP:
    return TOTP(secret, _DIGITS, SHA1(), STEP_S, enforce_key_length=False)  # noqa: S303 - what apps speak
