"""The vault: what is sealed opens in its own row with its own secret, and nowhere else."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderbell.core.model import Contact, decode_contact, encode_state
from orderbell.errors import VaultSealed
from orderbell.store.vault import NONCE_LENGTH, OVERHEAD, SEALED, Vault

SECRET = bytes(range(32))
VAULT = Vault(SECRET)
ANN = Contact("acme", "c1", phone="+8613812341234", email="ann@shop.cn")


@given(st.text(), st.text() | st.binary(), st.binary())
def test_sealed_body_opens_in_its_row(tenant: str, name: str | bytes, body: bytes) -> None:
    """Whatever tenant, row and body: it comes back, also in another process with the same secret."""
    sealed = VAULT.seal(tenant, name, body)
    assert sealed[:1] == SEALED
    assert len(sealed) == len(body) + OVERHEAD
    assert Vault(SECRET).open(tenant, name, sealed) == body


def test_sealed_body_shows_nothing() -> None:
    """Neither phone nor mail address stand in it, and the same body never looks the same twice."""
    first, second = (VAULT.seal(ANN.tenant, ANN.id, encode_state(ANN)) for _ in range(2))
    assert decode_contact(VAULT.open(ANN.tenant, ANN.id, first)) == ANN
    assert not any(plain in first for plain in (b"138", b"1234", b"ann", b"shop", b"acme"))
    assert first[1 : 1 + NONCE_LENGTH] != second[1 : 1 + NONCE_LENGTH]
    assert first[-16:] != second[-16:]


@pytest.mark.parametrize(
    ("vault", "tenant", "name"),
    [(VAULT, "acme", "c2"), (VAULT, "other", "c1"), (VAULT, "acm", "ec1"), (Vault(bytes(32)), "acme", "c1")],
    ids=["another row", "another tenant", "the border moved", "another secret"],
)
def test_body_does_not_open_elsewhere(vault: Vault, tenant: str, name: str) -> None:
    """A body that was moved, or meets another secret, must be refused with what to do."""
    sealed = VAULT.seal("acme", "c1", b"body")
    with pytest.raises(VaultSealed, match=r"another secret.*ORDERBELL_SECRET_KEY"):
        vault.open(tenant, name, sealed)


@given(st.binary(max_size=40), st.data())
def test_changed_body_is_refused(body: bytes, data: st.DataObject) -> None:
    """One flipped bit behind the version byte, or a lost end, must be noticed."""
    sealed = VAULT.seal("acme", "c1", body)
    place = data.draw(st.integers(8, len(sealed) * 8 - 1))
    flipped = bytearray(sealed)
    flipped[place // 8] ^= 1 << place % 8
    for wrong in (bytes(flipped), sealed[: place // 8]):
        with pytest.raises(VaultSealed):
            VAULT.open("acme", "c1", wrong)


def test_body_of_an_older_version_comes_as_it_is() -> None:
    """What was written before there was a vault is msgpack, which no sealed body can be taken for."""
    small, large = msgspec.msgpack.encode([0] * 15), encode_state(ANN)
    assert (small[0] >> 4, large[0]) == (0x9, 0xDC)
    for body in (small, large, b""):
        assert VAULT.open("acme", "c1", body) == body


def test_index_keys_differ_by_tenant_and_secret() -> None:
    """The same phone has other ids with another tenant or secret; one tenant's key stays for ever."""
    keys = [VAULT.index_key("acme"), VAULT.index_key("other"), Vault(bytes(32)).index_key("acme")]
    assert len({*keys, SECRET}) == 4
    assert VAULT.index_key("acme") == Vault(SECRET).index_key("acme") == keys[0]
    # Ids in databases hang on this value: it may not change with a version.
    assert keys[0].hex() == "a3d2a7090726c238b2fcdf14a256eb4f79a152fb6d2360abba43704feb012355"


def test_body_of_the_first_version_opens() -> None:
    """What this version seals must open in every later one."""
    sealed = bytes.fromhex("015575624cf61bcb66e01ade3bbf37879b11fb3d95ce1505dcd88b0ed778a19367")
    assert VAULT.open("acme", "c1", sealed) == b"body"


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_secret_of_another_length_is_refused(length: int) -> None:
    """A secret is 32 bytes."""
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(bytes(length))
