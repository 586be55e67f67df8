"""What providers tell us is kept: receipts, replies, reviews and grants, for those whom it concerns."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from orderbell.app.clock import system_clock
from orderbell.app.hearing import Hearing
from orderbell.channels.protocol import Heard, InboundSms, Receipt, Review
from orderbell.core.events import Answer, Event
from orderbell.dispatch.receiving import Receiver
from orderbell.errors import DatabaseUnavailable, OrderBellError
from orderbell.observe import counts
from orderbell.store.ledger import Ledger
from orderbell.store.people import People
from orderbell.store.postgres import Store
from orderbell.store.sharing import SharedByAll
from orderbell.store.templates import Binding, Templates
from tests.town import PHONE, Town, people, running_town

STRANGER = "+8613900139000"
TEXT = "订单{order_no}已发货"


@dataclass
class House:
    """A town that hears: `terms` says for whom a provider is used."""

    town: Town
    hearing: Hearing
    terms: dict[str, frozenset[str]]
    failures: list[OrderBellError] = field(default_factory=list)

    async def write(
        self, text: str, *, phone: str = PHONE, name: str = "m1", provider: str = "scripted", at: datetime | None = None
    ) -> None:
        """Let somebody write to a provider."""
        message = InboundSms(name, phone, text, at or self.town.clock())
        await self.hearing.keep(provider, Heard(inbound=(message,)))

    async def messages(self) -> list[Any]:
        """All messages, the first attempt first."""
        return await self.town.store.pool.fetch("SELECT * FROM message WHERE channel <> 'inbox' ORDER BY attempt_id")


@asynccontextmanager
async def hearing_town(store: Store) -> AsyncIterator[House]:
    """Open a town whose provider is used for everybody."""
    async with running_town(store) as town:
        terms: dict[str, frozenset[str]] = {}
        failures: list[OrderBellError] = []

        async def submit(events: list[Event]) -> list[Answer]:
            if failures:
                raise failures.pop(0)
            return await store.turn(town.shelves, events)

        hearing = Hearing(
            Receiver(Ledger(store), town.clock, submit), Templates(store), partial(People, store),
            shelves=town.shelves, submit=submit, now=town.clock, tenants_of=terms,
            shared_of=lambda name: SharedByAll(store, name, town.clock),
        )  # fmt: skip
        yield House(town, hearing, terms, failures)


async def told(house: House, *tenants: str) -> None:
    """Tell a buyer of each of these tenants something by SMS; all of them have one phone."""
    for tenant in tenants or ("acme",):
        await house.town.tell("order.placed", tenant=tenant, people=people(marketing=True))
        await house.town.tell("payment.failed", tenant=tenant)
    while await house.town.dispatcher.step():
        pass


def receipt(attempt_id: bytes = b"", ref: str = "", *, delivered: bool = True, at: datetime) -> Receipt:
    """Make a receipt."""
    return Receipt(attempt_id, ref, delivered, "DELIVRD" if delivered else "UNDELIV", at)


async def test_receipt_reaches_the_ledger(store: Store) -> None:
    """A receipt by attempt must make its message delivered, and one that failed must be reported to its order."""
    async with hearing_town(store) as house:
        await told(house, "acme", "other")
        first, second = await house.messages()
        at = house.town.clock() + timedelta(seconds=5)
        good, bad = receipt(first["attempt_id"], at=at), receipt(second["attempt_id"], delivered=False, at=at)
        await house.hearing.keep("scripted", Heard((good, bad)))
        assert [row["status"] for row in await house.messages()] == ["delivered", "failed"]
        settled = await store.pool.fetch("SELECT tenant FROM journal WHERE type = 'message.settled'")
        assert [row["tenant"] for row in settled] == [second["tenant"]]
        await house.hearing.keep("scripted", Heard((good, bad)))
        assert [row["status"] for row in await house.messages()] == ["delivered", "failed"]


@pytest.mark.parametrize(("gone", "state"), [(False, "bounced"), (True, "blocked")])
async def test_address_that_is_gone(store: Store, state: str, *, gone: bool) -> None:
    """A receipt which says that there is no such address must close it for good, and no other receipt may."""
    async with hearing_town(store) as house:
        await told(house)
        (message,) = await house.messages()
        bad = Receipt(message["attempt_id"], "", delivered=False, detail="5.1.1", at=house.town.clock(), gone=gone)
        await house.hearing.keep("scripted", Heard((bad,)))
        assert (await house.town.contact("ann")).states["sms"] == state


async def test_complaint_ends_the_channel_and_all_advertising(store: Store) -> None:
    """Who calls a message spam gets no other on that channel and no advertising, once; others are left alone."""
    async with hearing_town(store) as house:
        await told(house, "acme", "other")
        message = (await house.messages())[0]
        complaint = Heard(complaints=(message["attempt_id"], b"nobody's attempt"))
        await house.hearing.keep("elsewhere", complaint)
        assert (await house.town.contact("ann")).marketing == "yes"
        for _ in range(2):
            await house.hearing.keep("scripted", complaint)
        contact = await house.town.contact("ann")
        assert (contact.marketing, contact.states["sms"]) == ("no", "blocked")
        consents = await house.town.people().consents("ann", 9)
        assert (consents[0].given, consents[0].source) == (False, "complaint")
        assert [one.source for one in consents].count("complaint") == 1
        assert (await house.town.contact("ann", "other")).marketing == "yes"


async def test_receipts_of_another_provider_change_nothing(store: Store) -> None:
    """Whoever holds the address of one provider must not be able to touch what another one carried."""
    async with hearing_town(store) as house:
        await told(house, "acme", "other")
        before = [dict(row) for row in await house.messages()]
        forged = [
            receipt(row["attempt_id"], row["provider_ref"], delivered=delivered, at=house.town.clock())
            for row in before
            for delivered in (False, True)
        ]
        await house.hearing.keep("elsewhere", Heard(tuple(forged)))
        await house.hearing.keep("elsewhere", Heard(tuple(receipt(ref=one.provider_ref, at=one.at) for one in forged)))
        await Receiver(Ledger(store), system_clock).match()
        assert [dict(row) for row in await house.messages()] == before
        assert not await store.pool.fetch("SELECT FROM journal WHERE type = 'message.settled'")


async def test_receipt_that_nobody_knows_waits(store: Store) -> None:
    """A receipt by a reference that is not known yet must be kept until the answer says whose it is."""
    async with hearing_town(store) as house:
        await house.hearing.keep("scripted", Heard((receipt(ref="early", at=house.town.clock()),)))
        assert await store.pool.fetchval("SELECT ref FROM receipt WHERE provider = 'scripted'") == "early"


@pytest.mark.parametrize(
    ("terms", "deaf"),
    [(frozenset[str](), frozenset[str]()), (frozenset({"acme"}), frozenset({"other"})), (frozenset({"acme", "other"}), frozenset())],
)  # fmt: skip
async def test_opt_out_reaches_who_uses_the_provider(store: Store, terms: frozenset[str], deaf: frozenset[str]) -> None:
    """TD must be heard by every tenant that uses the provider and knows the number, and by no other."""
    async with hearing_town(store) as house:
        house.terms["scripted"] = terms
        await told(house, "acme", "other")
        await house.write("TD")
        for tenant in ("acme", "other"):
            expected = "yes" if tenant in deaf else "no"
            assert (await house.town.contact("ann", tenant)).marketing == expected, tenant


async def test_opt_out_of_somebody_unknown(store: Store) -> None:
    """A number that nobody knows must change nothing and leave nothing behind."""
    async with hearing_town(store) as house:
        await told(house)
        await house.write("TD", phone=STRANGER)
        assert (await house.town.contact("ann")).marketing == "yes"
        assert await house.town.replies_of() == []


async def test_reply_comes_twice(store: Store) -> None:
    """The same message told again must count once; the id of another provider is another message."""
    async with hearing_town(store) as house:
        await told(house)
        for provider in ("scripted", "scripted", "second"):
            await house.write("在吗", provider=provider)
        names = [name for _, name, _ in await house.town.replies_of()]
        assert sorted(names) == ["scripted:m1", "second:m1"]


@pytest.mark.parametrize("seconds", [-40 * 86400, -60, 600, 8 * 3600, 40 * 86400])
async def test_opt_out_with_a_clock_that_is_off(store: Store, seconds: int) -> None:
    """Whatever time a provider gives a message, an opt-out must count."""
    async with hearing_town(store) as house:
        await told(house)
        await house.write("TD", at=house.town.clock() + timedelta(seconds=seconds))
        assert (await house.town.contact("ann")).marketing == "no"


async def test_opt_out_with_a_strange_id(store: Store) -> None:
    """However a provider names a message, an opt-out must count."""
    async with hearing_town(store) as house:
        for number, name in enumerate(("", "x" * 300, "a b\n\ud83d", "号")):
            await told(house)
            await house.write("TD", name=name)
            assert (await house.town.contact("ann")).marketing == "no", number
            await house.town.http.patch("/v1/contacts/ann", json={"marketing": True})


async def test_messages_without_an_id(store: Store) -> None:
    """Messages whose provider gives no ids must be told apart by what they say."""
    async with hearing_town(store) as house:
        await told(house)
        await house.write("在吗", name="")
        await house.write("在吗", name="")
        await house.write("什么时候到", name="")
        assert len(await house.town.replies_of()) == 2


async def test_half_of_a_character(store: Store) -> None:
    """A message that was cut in the middle of an emoji must be heard."""
    async with hearing_town(store) as house:
        await told(house)
        await house.write("在吗\ud83d\0")
        assert len(await house.town.replies_of()) == 1


async def test_reply_while_nothing_can_be_decided(store: Store) -> None:
    """What cannot be kept must be said, so that the provider brings it again; then it must count."""
    async with hearing_town(store) as house:
        await told(house)
        house.failures.append(DatabaseUnavailable("away"))
        with pytest.raises(DatabaseUnavailable):
            await house.write("在吗")
        await house.write("在吗")
        assert len(await house.town.replies_of()) == 1


async def test_tenant_that_is_not_there(store: Store) -> None:
    """A name in the file of providers that no tenant has must not keep the others from hearing."""
    async with hearing_town(store) as house:
        house.terms["scripted"] = frozenset({"acme", "ghost"})
        await told(house)
        await house.write("TD")
        assert (await house.town.contact("ann")).marketing == "no"


@pytest.mark.parametrize("state", ["in_review", "approved", "rejected"])
async def test_review_changes_the_template(store: Store, state: Any) -> None:  # noqa: ANN401 - one of a few words
    """A review must change the state of its template at its provider, and of no other."""
    async with hearing_town(store) as house:
        templates, now = Templates(store), house.town.clock()
        for provider in ("scripted", "second"):
            await templates.draft([Binding(provider, TEXT, ("order_no",), marketing=False)], now)
            await templates.bind(provider, TEXT, "SMS_1", "in_review", now)
        await house.hearing.keep("scripted", Heard(reviews=(Review("template", "SMS_1", state, "why"),)))
        (mine,), (other,) = await templates.of("scripted"), await templates.of("second")
        assert (mine.state, mine.reason) == (state, "why")
        assert (other.state, other.reason) == ("in_review", "")
        assert bool(await templates.approved()) == (state == "approved")


async def test_review_of_a_foreign_template(store: Store) -> None:
    """A template that is not ours must be passed over with a word in the log."""
    async with hearing_town(store) as house:
        with capture_logs() as logged:
            await house.hearing.keep("scripted", Heard(reviews=(Review("template", "SMS_9", "approved"),)))
        assert [line["code"] for line in logged] == ["SMS_9"]
        assert await Templates(store).approved() == {}


async def test_review_of_a_signature(store: Store) -> None:
    """A signature must be kept with its state, the last word counting."""
    async with hearing_town(store) as house:
        for state in ("in_review", "rejected", "approved"):
            review = Review("signature", "叮咚", state, state)
            await house.hearing.keep("scripted", Heard(reviews=(review,)))
        assert await Templates(store).signatures("scripted") == [("叮咚", "approved", "approved")]


@pytest.mark.parametrize("kind", ["template", "signature"])
async def test_review_with_words_that_no_database_keeps(store: Store, kind: Any) -> None:  # noqa: ANN401 - one of two words
    """A zero character in a provider's words must not make its callback fail for ever."""
    async with hearing_town(store) as house:
        await house.hearing.keep("scripted", Heard(reviews=(Review(kind, "a\0b", "approved", "c\0d"),)))


async def test_grants_are_kept(store: Store) -> None:
    """Permissions must add up per address and template, and 0 must take back all of them."""
    async with hearing_town(store) as house:
        shared = SharedByAll(store, "scripted", house.town.clock)
        await house.hearing.keep("scripted", Heard(grants=(("open1", "t1", 1), ("open1", "t1", 1), ("open2", "t1", 3))))
        assert [await shared.spend("open1", "t1") for _ in range(3)] == [True, True, False]
        assert not await shared.spend("open1", "t2")
        assert not await SharedByAll(store, "second", house.town.clock).spend("open2", "t1")
        await house.hearing.keep("scripted", Heard(grants=(("open2", "t1", 0),)))
        assert not await shared.spend("open2", "t1")


async def test_addresses_that_are_gone_are_counted(store: Store) -> None:
    """What providers say of addresses that are gone must be seen in the metrics."""
    async with hearing_town(store) as house:
        before = counts().get("callbacks.gone", 0)
        await house.hearing.keep("scripted", Heard(gone=(("push", "t1"), ("push", "t2"))))
        assert counts()["callbacks.gone"] == before + 2


async def test_no_phone_reaches_the_log(store: Store) -> None:
    """Whatever is heard, phones must not be logged in clear."""
    async with hearing_town(store) as house:
        await told(house)
        with capture_logs() as logged:
            await house.write("在吗")
            await house.write("TD", phone=STRANGER, name="m2")
            await house.write("x" * 5000, name="m3")
        assert PHONE[3:] not in str(logged)
        assert STRANGER[3:] not in str(logged)
