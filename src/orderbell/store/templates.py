"""Our texts as the providers know them, and the names we send under: each with the state of its approval."""

import hashlib
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from orderbell.store.postgres import Store

_APPROVED = "SELECT provider, text, code FROM template WHERE state = 'approved' AND code <> ''"
_LIST = """
SELECT provider, text, names, marketing, code, state, reason, updated_at FROM template WHERE provider = $1 ORDER BY text
"""
_DRAFT = """
INSERT INTO template (provider, digest, text, names, marketing, updated_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING
"""
_BIND = """
UPDATE template SET code = $3, state = $4, reason = '', updated_at = $5 WHERE provider = $1 AND digest = $2
"""
_REVIEW = """
UPDATE template SET state = $3, reason = $4, updated_at = $5 WHERE provider = $1 AND code = $2 AND $2 <> ''
"""
_SIGNATURE = """
INSERT INTO signature (provider, name, state, reason, updated_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (provider, name) DO UPDATE SET state = excluded.state, reason = excluded.reason,
    updated_at = excluded.updated_at
"""
_SIGNATURES = "SELECT name, state, reason FROM signature WHERE provider = $1 ORDER BY name"
_FORGET = "DELETE FROM template WHERE provider = $1 AND digest = ANY ($2::bytea[]) AND code = ''"


class Binding(Struct, frozen=True):
    """A text of ours at a provider.

    `state` is draft, in_review, approved or rejected; `code` is empty until it has been handed in.
    """

    provider: str
    text: str
    names: tuple[str, ...]
    marketing: bool
    code: str = ""
    state: str = "draft"
    reason: str = ""
    updated_at: datetime | None = None


def digest_of(text: str) -> bytes:
    """By what a text is found: another text, even by one letter, is another template."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class Templates:
    """The templates and signatures of an installation; every method raises DatabaseUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def approved(self) -> dict[str, dict[str, str]]:
        """The codes that may be used, by provider and text."""
        found: dict[str, dict[str, str]] = {}
        async with self._store.connection() as connection:
            for provider, text, code in await connection.fetch(_APPROVED):
                found.setdefault(provider, {})[text] = code
        return found

    async def of(self, provider: str) -> list[Binding]:
        """All templates of a provider."""
        async with self._store.connection() as connection:
            rows = await connection.fetch(_LIST, provider)
        return [Binding(row[0], row[1], tuple(row[2]), *row[3:]) for row in rows]

    async def draft(self, bindings: Sequence[Binding], now: datetime) -> None:
        """Add texts that are not known yet; those that are keep code and state."""
        rows = [(b.provider, digest_of(b.text), b.text, list(b.names), b.marketing, now) for b in bindings]
        async with self._store.connection() as connection:
            await connection.executemany(_DRAFT, rows)

    async def bind(self, provider: str, text: str, code: str, state: str, now: datetime) -> bool:
        """Put down under which code a provider knows a text; False when the text is not known here."""
        async with self._store.connection() as connection:
            done = await connection.execute(_BIND, provider, digest_of(text), code, state, now)
        return str(done) == "UPDATE 1"

    async def review(self, provider: str, code: str, state: str, reason: str, now: datetime) -> bool:
        """Put down what a provider decided about a template; False when no text has that code."""
        async with self._store.connection() as connection:
            done = await connection.execute(_REVIEW, provider, code, state, reason, now)
        return str(done) != "UPDATE 0"

    async def review_signature(self, provider: str, name: str, state: str, reason: str, now: datetime) -> None:
        """Put down what a provider decided about the name that we send under."""
        async with self._store.connection() as connection:
            await connection.execute(_SIGNATURE, provider, name, state, reason, now)

    async def signatures(self, provider: str) -> list[tuple[str, str, str]]:
        """The names that we send under: name, state and reason."""
        async with self._store.connection() as connection:
            return [(row[0], row[1], row[2]) for row in await connection.fetch(_SIGNATURES, provider)]

    async def forget(self, provider: str, texts: Sequence[str]) -> None:
        """Drop texts that no playbook has any more and that were never handed in."""
        async with self._store.connection() as connection:
            await connection.execute(_FORGET, provider, [digest_of(text) for text in texts])
