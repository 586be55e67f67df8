"""What is done with what providers tell us: receipts, replies, reviews of templates, and grants."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

import structlog

from orderbell.channels.protocol import Heard, InboundSms, Shared
from orderbell.core.events import Answer, Event, Status
from orderbell.core.turn import Shelf
from orderbell.dispatch.receiving import Receiver
from orderbell.observe import count
from orderbell.sources.replies import Reply, take_replies_of
from orderbell.store.people import People
from orderbell.store.templates import Templates

Submit = Callable[[list[Event]], Awaitable[list[Answer]]]

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
            if review.kind == "signature":
                await self._templates.review_signature(provider, review.name, review.state, review.reason, now)
            elif not await self._templates.review(provider, review.name, review.state, review.reason, now):
                log.warning("a template was reviewed that is not ours", provider=provider, code=review.name)
        for to, scope, number in heard.grants:
            await self._shared_of(provider).grant(to, scope, number)
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
            replies = [Reply(f"{provider}:{one.id}", one.text, phone=one.sender, time=one.at) for one in mine]
            if replies:
                answers = await take_replies_of(
                    people, self._shelves[tenant], tenant, self._now(), replies, self._submit
                )
                count("replies.taken", sum(answer.status is not Status.REFUSED for answer in answers))
