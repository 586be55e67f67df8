"""What is done with what providers tell us: receipts, replies, reviews of templates, and grants."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

import structlog
from msgspec.structs import replace

from orderbell.channels.protocol import Heard, InboundSms, Shared
from orderbell.core.events import FUTURE_MAX, Answer, ChannelName, Event, Status
from orderbell.core.model import Contact
from orderbell.core.turn import Shelf, agree
from orderbell.dispatch.receiving import Receiver
from orderbell.observe import count
from orderbell.sources.replies import Reply, take_replies_of
from orderbell.store.people import People
from orderbell.store.templates import Templates

Submit = Callable[[list[Event]], Awaitable[list[Answer]]]

_ID_MAX = 100  # with the provider's name before it, an event's id takes no more than 200

log = structlog.get_logger()


class Hearing:
    """Keeps what providers say; on return of each method it is stored.

    Args:
        receiver: Takes receipts.
        templates: The state of templates and signatures.
        people_of: The contacts of a tenant.
        shelves: The playbooks by tenant.
        submit: Has replies decided.
        now: The clock, aware UTC.
        tenants_of: For whom a provider is used, by its name; empty: for all.
        shared_of: The grants of a provider.
    """

    def __init__(
        self,
        receiver: Receiver,
        templates: Templates,
        people_of: Callable[[str], People],
        *,
        shelves: Mapping[str, Shelf],
        submit: Submit,
        now: Callable[[], datetime],
        tenants_of: Mapping[str, frozenset[str]],
        shared_of: Callable[[str], Shared],
    ) -> None:
        self._receiver, self._templates, self._people_of, self._shelves = receiver, templates, people_of, shelves
        self._submit, self._now, self._tenants_of, self._shared_of = submit, now, tenants_of, shared_of

    async def keep(self, provider: str, heard: Heard) -> None:
        """Store all that a callback said."""
        if heard.receipts:
            await self._receiver.take(provider, heard.receipts)
        if heard.inbound:
            await self.inbound(provider, heard.inbound)
        now = self._now()
        for review in heard.reviews:
            name, reason = _storable(review.name), _storable(review.reason)
            if review.kind == "signature":
                await self._templates.review_signature(provider, name, review.state, reason, now)
            elif not await self._templates.review(provider, name, review.state, reason, now):
                log.warning("a template was reviewed that is not ours", provider=provider, code=name)
        for to, scope, number in heard.grants:
            await self._shared_of(provider).grant(to, _storable(scope), number)
        for one in await self._receiver.complainants(provider, heard.complaints) if heard.complaints else ():
            words = f"{provider}: {one.attempt_id.hex()}"
            left = partial(_without, channel=one.channel, at=now)
            await self._people_of(one.tenant).change(one.contact, left, now, "complaint", words)
            count("callbacks.complaints")
        if heard.gone:
            count("callbacks.gone", len(heard.gone))

    async def inbound(self, provider: str, messages: Sequence[InboundSms]) -> None:
        """Take what people wrote: every tenant who uses the provider and knows the number hears it (S3-29, S0-30).

        A sender number that several tenants share cannot tell whose customer it is that answers.
        """
        tenants = self._tenants_of.get(provider) or frozenset(self._shelves)
        for tenant in sorted(tenants):
            people = self._people_of(tenant)
            mine = [one for one in messages if await people.find_by_phone(one.sender)]
            now = self._now()
            replies = [
                Reply(
                    _name_of(provider, one),
                    _storable(one.text),
                    phone=one.sender,
                    time=one.at if one.at - now < FUTURE_MAX else now,
                )
                for one in mine
            ]
            if replies:
                answers = await take_replies_of(people, self._shelves[tenant], tenant, now, replies, self._submit)
                count("replies.taken", sum(answer.status is not Status.REFUSED for answer in answers))


def _without(contact: Contact, *, channel: ChannelName, at: datetime) -> Contact:
    """Who complains gets nothing more on this channel, and no advertising on any."""
    return replace(agree(contact, given=False, at=at), states=contact.states | {channel: "blocked"})


def _name_of(provider: str, message: InboundSms) -> str:
    """By what a message is known again: an id that no event may have must not cost an opt-out."""
    if message.id and len(message.id) <= _ID_MAX and message.id.isprintable():
        return f"{provider}:{message.id}"
    whole = f"{message.id}\0{message.sender}\0{message.text}\0{message.at.isoformat()}"
    return f"{provider}:{hashlib.blake2b(whole.encode('utf-8', 'replace'), digest_size=16).hexdigest()}"


def _storable(text: str) -> str:
    """The text without what PostgreSQL does not keep: zero characters and half surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
