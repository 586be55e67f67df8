"""The vault: personal data sealed before they reach the database, and the keys of their blind indexes.

One secret of the installation, from which every tenant gets keys of its own (HKDF-SHA256, RFC 5869): one for bodies
(AES-256-GCM, NIST SP 800-38D) and one for ids that are hashes of a phone or a mail address, so that a person is
found without the database knowing the number. A sealed body names neither tenant nor row, yet opens only there: the
key is the tenant's, and the row's id is authenticated with it.

Nonces are random: up to 2^32 bodies of a tenant, two of them share one with a chance below 2^-32.
"""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orderbell.errors import VaultSealed

SECRET_LENGTH: Final = 32
NONCE_LENGTH: Final = 12
SEALED: Final = b"\x01"
"""The first byte of a sealed body; no msgpack array begins with it."""

OVERHEAD: Final = len(SEALED) + NONCE_LENGTH + 16
"""Bytes by which a sealed body is longer."""

REMEDY: Final = "set ORDERBELL_SECRET_KEY to that one, or put its secret.key back into the data folder"

_BODY_START: Final = len(SEALED) + NONCE_LENGTH
_FOR_BODIES: Final = "orderbell bodies 1"
_FOR_INDEXES: Final = "orderbell blind index 1"


class Vault:
    """Seals and opens the bodies of all tenants of an installation.

    Args:
        secret: 32 bytes that nobody can guess; everything sealed is lost with it.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_LENGTH:
            raise ValueError(f"the secret must be {SECRET_LENGTH} bytes long, not {len(secret)}")
        self._secret = secret
        self._ciphers: dict[str, AESGCM] = {}
        self._index_keys: dict[str, bytes] = {}

    def seal(self, tenant: str, name: str | bytes, body: bytes) -> bytes:
        """Encrypt the body of the row `name`, the id of a contact or of a message.

        Returns:
            A version byte, 12 random bytes, then the ciphertext with its tag: `OVERHEAD` bytes more than the body.
        """
        cipher = self._ciphers.get(tenant) or self._cipher(tenant)
        nonce = os.urandom(NONCE_LENGTH)
        return SEALED + nonce + cipher.encrypt(nonce, body, name.encode() if isinstance(name, str) else name)

    def open(self, tenant: str, name: str | bytes, sealed: bytes) -> bytes:
        """Give back what was sealed for this row; a body of the time before there was a vault comes as it is.

        Raises:
            VaultSealed: It was sealed with another secret or for another row, or was changed since.
        """
        if sealed[:1] != SEALED:
            return sealed
        cipher = self._ciphers.get(tenant) or self._cipher(tenant)
        authentic = name.encode() if isinstance(name, str) else name
        try:
            return cipher.decrypt(sealed[1:_BODY_START], sealed[_BODY_START:], authentic)
        except (InvalidTag, ValueError):
            raise VaultSealed(
                f"personal data of the tenant {tenant!r} cannot be opened: the database was written with another "
                f"secret ({REMEDY}), or the row was changed by hand"
            ) from None

    def index_key(self, tenant: str) -> bytes:
        """The 32 bytes with which phones and mail addresses of a tenant are hashed into ids."""
        key = self._index_keys.get(tenant)
        if key is None:
            key = self._index_keys[tenant] = self._derive(_FOR_INDEXES, tenant)
        return key

    def _cipher(self, tenant: str) -> AESGCM:
        cipher = self._ciphers[tenant] = AESGCM(self._derive(_FOR_BODIES, tenant))
        return cipher

    def _derive(self, purpose: str, tenant: str) -> bytes:
        # A purpose holds no zero byte, so no two pairs are spelled alike.
        return HKDF(SHA256(), SECRET_LENGTH, salt=None, info=f"{purpose}\0{tenant}".encode()).derive(self._secret)
