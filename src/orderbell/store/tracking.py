"""The customer's page in the database: whose it is, what it shows beside the order, and what came in by it.

A page belongs to one person in one order. Its token is 22 base62 characters, 131 bits of an HMAC-SHA256 under the
tenant's key, so it can be made again at any time and only its SHA-256 is stored (ASVS 11.5.1 asks for 128 bits). As
the person is part of what is signed, whoever leaves an order, such as the holder of a mistyped number, loses the page.
"""

import hashlib
import hmac
import string
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct

from orderbell.core.model import Contact, Order, decode_contact, decode_order
from orderbell.store.postgres import Connection, Store
from orderbell.store.rows import columns

ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
TOKEN_LENGTH: Final = 22
PAGE_SOURCE: Final = "page"
"""The source of the events that people make on their page."""

CORRECTIONS_MAX: Final = 20
"""The newest corrections of an order that are shown."""

KEPT: Final = timedelta(days=90)
"""How long clicks and what was written into forms are kept."""

LINKS_KEPT: Final = timedelta(days=365)
"""How long the links of messages work, where their page still does."""

_ROOM: Final = len(ALPHABET) ** TOKEN_LENGTH
_FOR_PAGES: Final = "tracking"

_HAND_OUT = """
INSERT INTO tracking (tenant, token_hash, order_no, contact, made_at)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::timestamptz[]) ON CONFLICT DO NOTHING
"""
_WHOSE = "SELECT tenant, order_no, contact FROM tracking WHERE token_hash = $1"
_ORDER = "SELECT state FROM orders WHERE tenant = $1 AND order_no = $2"
_CONTACTS = "SELECT contact, body FROM contact WHERE tenant = $1 AND contact = ANY ($2::text[])"
_ANOMALIES = """
SELECT name, opened_at, closed_at FROM anomaly WHERE tenant = $1 AND order_no = $2 ORDER BY opened_at, name
"""
_STAGES = """
SELECT stage, min(at) AS at FROM journal WHERE tenant = $1 AND order_no = $2 AND version > 0
GROUP BY stage ORDER BY min(version)
"""
_CHOICE = """
SELECT event, at FROM journal
WHERE tenant = $1 AND order_no = $2 AND type = 'choice.made' AND source = $3 AND verdict = 'applied'
ORDER BY version DESC LIMIT 1
"""
_HEARD = "SELECT EXISTS (SELECT FROM event_key WHERE tenant = $1 AND source = $2 AND event_id = $3)"
_CORRECT = """
INSERT INTO correction (tenant, order_no, correction_id, contact, body, made_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING
"""
_CORRECTIONS = """
SELECT correction_id, contact, body, made_at FROM correction
WHERE tenant = $1 AND order_no = $2 ORDER BY made_at DESC, correction_id LIMIT $3
"""
_CORRECTED = "SELECT max(made_at) FROM correction WHERE tenant = $1 AND order_no = $2 AND contact = $3"
_FORGET = """
WITH hits AS (DELETE FROM hit WHERE tenant = $1 AND at < $2),
    links AS (DELETE FROM link WHERE tenant = $1 AND made_at < $3)
DELETE FROM correction WHERE tenant = $1 AND made_at < $2
"""
_TENANTS = "SELECT tenant FROM tenant ORDER BY tenant"


class _Chosen(Struct, frozen=True):
    option: str = ""
    days: int = 0


class _Choice(Struct, frozen=True):
    data: _Chosen = _Chosen()


_decode_choice = msgspec.json.Decoder(_Choice).decode


class Trouble(Struct, frozen=True):
    """Something that is wrong with an order, or was."""

    name: str
    opened_at: datetime
    closed_at: datetime | None = None


class Chosen(Struct, frozen=True):
    """What somebody last chose on the page."""

    option: str
    days: int
    at: datetime


class Correction(Struct, frozen=True):
    """What a person wrote into the form for addresses."""

    id: str
    contact: str
    text: str
    made_at: datetime


class Page(Struct, frozen=True):
    """What a token opens: the order, and the one whose page it is; `contact` is None where nobody is named."""

    order: Order
    contact: Contact | None = None
    troubles: tuple[Trouble, ...] = ()


class Steps(Struct, frozen=True):
    """When an order reached its stages, what was last chosen on its page, and when its address was last corrected."""

    reached: tuple[tuple[str, datetime], ...] = ()
    chosen: Chosen | None = None
    corrected_at: datetime | None = None


def token_of(key: bytes, purpose: str, *names: str) -> str:
    """22 base62 characters that nobody without the key can make; one name after another, none holds a zero byte."""
    digest = hmac.digest(key, "\0".join((purpose, *names)).encode(), "sha256")
    rest, token = int.from_bytes(digest) % _ROOM, ""
    for _ in range(TOKEN_LENGTH):
        rest, place = divmod(rest, len(ALPHABET))
        token += ALPHABET[place]
    return token


def hash_of(token: str) -> bytes:
    """What is stored of a token or code."""
    return hashlib.sha256(token.encode()).digest()


def is_token(text: str, length: int = TOKEN_LENGTH) -> bool:
    """Whether a text has the form of a token; no other is looked up."""
    return len(text) == length and text.isascii() and text.isalnum()


class Tracking:
    """The pages of all tenants. Every method that reads or writes raises DatabaseUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store, self._vault = store, store.vault

    def token(self, tenant: str, order_no: str, contact: str = "") -> str:
        """The token of somebody's page, whether it was handed out or not."""
        return token_of(self._vault.index_key(tenant), _FOR_PAGES, order_no, contact)

    async def token_for(self, tenant: str, order_no: str, at: datetime, contact: str = "") -> str:
        """The token of somebody's page in an order, to be handed out; '' is the page of the principal."""
        await self.hand_out([(tenant, order_no, contact)], at)
        return self.token(tenant, order_no, contact)

    async def hand_out(self, pages: Iterable[tuple[str, str, str]], at: datetime) -> None:
        """Write down that pages may be opened, each by tenant, order and contact; once is enough."""
        lines = [
            (tenant, hash_of(self.token(tenant, order_no, contact)), order_no, contact, at)
            for tenant, order_no, contact in sorted(set(pages))
        ]
        async with self._store.connection() as connection:
            await connection.execute(_HAND_OUT, *columns(lines, 5))

    async def whose(self, token: str) -> tuple[str, str, str] | None:
        """Tenant, order and contact of a token; None where it is nobody's."""
        if not is_token(token):
            return None
        async with self._store.connection() as connection:
            row = await connection.fetchrow(_WHOSE, hash_of(token))
        return (row[0], row[1], row[2]) if row is not None else None

    async def open(self, token: str) -> Page | None:
        """What a token opens; None where it is nobody's, or its holder has no part in the order any more."""
        whose = await self.whose(token)
        return await self.page(*whose) if whose is not None else None

    async def page(self, tenant: str, order_no: str, contact: str = "") -> Page | None:
        """The page of a person in an order; None where there is no such order, or the person has no part in it.

        Who is known by another id by now, with the same phone or mail address, is the same person.
        """
        async with self._store.connection() as connection:
            state = await connection.fetchval(_ORDER, tenant, order_no)
            if state is None:
                return None
            order = decode_order(state)
            person = await self._person(connection, order, contact) if contact else None
            if contact and person is None:
                return None
            rows = await connection.fetch(_ANOMALIES, tenant, order_no)
        return Page(order, person, tuple(Trouble(*row) for row in rows))

    async def steps(self, tenant: str, order_no: str, contact: str = "") -> Steps:
        """What the page tells beside the order; of months whose journal was dropped nothing is known."""
        async with self._store.connection() as connection:
            reached = await connection.fetch(_STAGES, tenant, order_no)
            choice = await connection.fetchrow(_CHOICE, tenant, order_no, PAGE_SOURCE)
            corrected_at = await connection.fetchval(_CORRECTED, tenant, order_no, contact)
        data = _decode_choice(choice["event"]).data if choice is not None else None
        chosen = Chosen(data.option, data.days, choice["at"]) if data is not None and choice is not None else None
        return Steps(tuple((row["stage"], row["at"]) for row in reached), chosen, corrected_at)

    async def holders(self, tenant: str, order_no: str) -> tuple[Order, list[Contact]] | None:
        """An order and the people in it, for whoever has to prove that they are one of them."""
        async with self._store.connection() as connection:
            state = await connection.fetchval(_ORDER, tenant, order_no)
            order = decode_order(state) if state is not None else None
            names = [party.contact for party in order.parties] if order is not None else []
            # asked for nobody as well: an order that is not there takes as long as one that is
            people = await self._contacts(connection, tenant, names)
        return (order, [people[name] for name in names if name in people]) if order is not None else None

    async def was_heard(self, tenant: str, event_id: str) -> bool:
        """Whether the page has brought this event before."""
        async with self._store.connection() as connection:
            return bool(await connection.fetchval(_HEARD, tenant, PAGE_SOURCE, event_id))

    async def correct(self, order: Order, correction_id: bytes, contact: str, text: str, at: datetime) -> None:
        """Keep what somebody wrote into the form for addresses, sealed; a second time under the same id is none."""
        body = self._vault.seal(order.tenant, correction_id, text.encode())
        async with self._store.connection() as connection:
            await connection.execute(_CORRECT, order.tenant, order.no, correction_id, contact, body, at)

    async def corrections(self, tenant: str, order_no: str) -> list[Correction]:
        """What people wrote into the form for addresses, the newest first."""
        async with self._store.connection() as connection:
            found = await connection.fetch(_CORRECTIONS, tenant, order_no, CORRECTIONS_MAX)
        return [
            Correction(name.hex(), contact, self._vault.open(tenant, name, body).decode(), made_at)
            for name, contact, body, made_at in found
        ]

    async def forget(self, now: datetime) -> None:
        """Drop clicks and corrections that are older than `KEPT`, links that are older than `LINKS_KEPT`."""
        async with self._store.connection() as connection:
            for row in await connection.fetch(_TENANTS):
                await connection.execute(_FORGET, row["tenant"], now - KEPT, now - LINKS_KEPT)

    async def _person(self, connection: Connection, order: Order, contact: str) -> Contact | None:
        names = [party.contact for party in order.parties]
        people = await self._contacts(connection, order.tenant, [contact, *names])
        if contact in names:
            return people.get(contact)
        before = people.get(contact)
        return next((people[name] for name in names if name in people and _is_same(before, people[name])), None)

    async def _contacts(self, connection: Connection, tenant: str, names: Sequence[str]) -> dict[str, Contact]:
        rows = await connection.fetch(_CONTACTS, tenant, names)
        return {row[0]: decode_contact(self._vault.open(tenant, row[0], row[1])) for row in rows}


def _is_same(one: Contact | None, other: Contact) -> bool:
    if one is None:
        return False
    return bool((one.phone and one.phone == other.phone) or (one.email and one.email == other.email))
