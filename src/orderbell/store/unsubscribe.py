"""Tokens of the links that end advertising: they name tenant and contact, and stand for themselves.

They are authenticated with a key of the tenant, so nothing needs to be stored for them, and they go on working for as
long as a mail lies somewhere.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Final

_TAG_LENGTH: Final = 16
_PURPOSE: Final = b"unsubscribe\0"

KeyOf = Callable[[str], bytes]
"""The key of a tenant by which tokens are authenticated (`Vault.index_key`)."""


def unsubscribe_token(key_of: KeyOf, tenant: str, contact: str) -> str:
    """The token of a person of a tenant; about 50 characters more than their ids."""
    named = f"{tenant}\0{contact}".encode()
    return base64.urlsafe_b64encode(_tag(key_of(tenant), named) + named).decode().rstrip("=")


def read_token(key_of: KeyOf, token: str) -> tuple[str, str] | None:
    """Tenant and contact of a token, None where it is none of ours."""
    try:
        whole = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        tenant, separator, contact = whole[_TAG_LENGTH:].decode().partition("\0")
    except ValueError:
        return None
    if not separator or not tenant or not contact:
        return None
    right = hmac.compare_digest(whole[:_TAG_LENGTH], _tag(key_of(tenant), whole[_TAG_LENGTH:]))
    return (tenant, contact) if right else None


def _tag(key: bytes, named: bytes) -> bytes:
    return hmac.new(key, _PURPOSE + named, hashlib.sha256).digest()[:_TAG_LENGTH]
