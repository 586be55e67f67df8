"""Short links in messages: whose page they open, who opened them, and which share of each topic is read (S0-25).

A code is made like the token of a page, from the message's id; only its hash is stored. What a request leaves is the
moment, a verdict and a keyed hash by which two programs are told apart: no address, no name of a browser.
"""

import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from orderbell.core.clicks import BURST, Click, ClickReason, Seen, judge_click
from orderbell.core.model import Message
from orderbell.core.wording import LINK_LENGTH, LINK_MASK
from orderbell.store.postgres import Connection, Store
from orderbell.store.rows import columns
from orderbell.store.tracking import Tracking, hash_of, is_token, token_of
from orderbell.store.vault import Vault

HITS_MAX: Final = 50
"""So many requests for one link are put down; whoever asks more often is no person."""

SEEN_MAX: Final = 10
LINKED: Final = frozenset({"email", "push", "wechat"})
"""The channels whose messages carry a link beside their text. In an SMS it stands in the text, where there is room."""

_FOR_LINKS: Final = "link"
_VISITOR_LENGTH: Final = 8
_EVER: Final = datetime(2000, 1, 1, tzinfo=UTC)

_ADD = """
INSERT INTO link (tenant, code_hash, order_no, contact, message_id, topic, channel, made_at)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[],
    $8::timestamptz[])
ON CONFLICT DO NOTHING
"""
_TARGET = "SELECT tenant, order_no, contact, channel, made_at FROM link WHERE code_hash = $1"
_SEEN = """
SELECT at, visitor, reason FROM hit WHERE tenant = $1 AND code_hash = $2 ORDER BY place DESC LIMIT $3
"""
_HIT = """
INSERT INTO hit (tenant, code_hash, at, visitor, human, reason)
SELECT $1, $2, $3, $4, $5, $6
WHERE (SELECT count(*) FROM hit WHERE tenant = $1 AND code_hash = $2) < $7
"""
# What came before is seen in another light.
_REVISE = """
UPDATE hit SET human = false, reason = $3 WHERE tenant = $1 AND code_hash = $2 AND human AND at > $4
"""
_RATES = """
SELECT l.topic, l.channel, count(*)::int AS sent,
    (count(*) FILTER (WHERE EXISTS (
        SELECT FROM hit h WHERE h.tenant = $1 AND h.code_hash = l.code_hash AND h.human)))::int AS clicked,
    (count(*) FILTER (WHERE EXISTS (
        SELECT FROM hit h WHERE h.tenant = $1 AND h.code_hash = l.code_hash)))::int AS opened
FROM link l JOIN message m ON m.tenant = l.tenant AND m.message_id = l.message_id
WHERE l.tenant = $1 AND l.made_at >= $2 AND m.status IN ('accepted', 'delivered')
GROUP BY l.topic, l.channel ORDER BY sent DESC, l.topic, l.channel
"""


class Target(Struct, frozen=True):
    """The page that a link opens."""

    tenant: str
    order_no: str
    contact: str


class OpenRate(Struct, frozen=True):
    """How many messages of a topic went out with a link on a channel, and how many of those links were followed.

    `clicked` by people, as far as that can be told; `opened` by anybody, scanners and previews included.
    """

    topic: str
    channel: str
    sent: int
    clicked: int
    opened: int


class Links:
    """The short links of all tenants. Every method that reads or writes raises DatabaseUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store, self._vault, self._tracking = store, store.vault, Tracking(store)

    async def codes_for(self, messages: Sequence[Message], at: datetime) -> Mapping[bytes, str]:
        """The codes of the messages that carry a link, by message, ready to be followed."""
        linked = [one for one in messages if one.order_no and (one.channel in LINKED or one.text.endswith(LINK_MASK))]
        if not linked:
            return {}
        codes = {one.id: code_of(self._vault, one) for one in linked}
        lines = [
            (one.tenant, hash_of(codes[one.id]), one.order_no, one.contact, one.id, one.topic, one.channel, at)
            for one in linked
        ]
        async with self._store.connection() as connection:
            await connection.execute(_ADD, *columns(lines, 8))
        await self._tracking.hand_out([(one.tenant, one.order_no, one.contact) for one in linked], at)
        return codes

    def visitor(self, tenant: str, *traits: str) -> bytes:
        """What tells one program that opens links from another."""
        return hmac.digest(self._vault.index_key(tenant), "\0".join(traits).encode(), "sha256")[:_VISITOR_LENGTH]

    async def follow(self, code: str, click: Click, traits: Sequence[str] = ()) -> Target | None:
        """Where a code leads; None where it is nobody's. The request is judged and put down."""
        if not is_token(code, LINK_LENGTH) and not is_token(code):
            return None
        name = hash_of(code)
        async with self._store.connection() as connection:
            row = await connection.fetchrow(_TARGET, name)
            if row is None:
                return None
            seen = [Seen(*one) for one in await connection.fetch(_SEEN, row["tenant"], name, SEEN_MAX)]
            visitor = self.visitor(row["tenant"], *traits)
            known = Click(click.method, click.agent, click.purpose, click.at, visitor, click.trap)
            reason = judge_click(known, row["channel"], row["made_at"], seen)
            await _put_down(connection, row["tenant"], name, known, reason)
        return Target(row["tenant"], row["order_no"], row["contact"])

    async def open_rates(self, tenant: str, since: datetime) -> list[OpenRate]:
        """How often the links of messages since a moment were followed, by topic and channel, most messages first."""
        async with self._store.connection() as connection:
            return [OpenRate(*row) for row in await connection.fetch(_RATES, tenant, since)]


def code_of(vault: Vault, message: Message) -> str:
    """The code of a message's link: 22 base62 characters, 20 in an SMS, where each of them costs room for words."""
    code = token_of(vault.index_key(message.tenant), _FOR_LINKS, message.id.hex())
    return code[:LINK_LENGTH] if message.channel == "sms" else code


def with_code(vault: Vault, message: Message) -> Message:
    """A message as it leaves and as its provider knows it: with the code of its link, where a mask is stored."""
    if not message.text.endswith(LINK_MASK):
        return message
    code = code_of(vault, message)
    slots = tuple((name, code if name == "link" else value) for name, value in message.slots)
    return replace(message, text=message.text.removesuffix(LINK_MASK) + code, slots=slots)


async def _put_down(connection: Connection, tenant: str, name: bytes, click: Click, reason: ClickReason) -> None:
    human = reason is ClickReason.PERSON
    await connection.execute(_HIT, tenant, name, click.at, click.visitor, human, reason.value, HITS_MAX)
    if reason is ClickReason.TRAP:
        await connection.execute(_REVISE, tenant, name, reason.value, _EVER)
    elif reason is ClickReason.BURST:
        await connection.execute(_REVISE, tenant, name, reason.value, click.at - BURST)
