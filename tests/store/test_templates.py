"""The state of templates and signatures in the database."""

from datetime import UTC, datetime, timedelta

from orderbell.store.postgres import Store
from orderbell.store.templates import Binding, Templates, digest_of

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=2)
PAID = Binding("ali", "Order {order_no} is paid.", ("order_no",), marketing=False)
OFFER = Binding("ali", "Things are new. Reply R", (), marketing=True)


async def opened(store: Store) -> Templates:
    """Two drafts."""
    templates = Templates(store)
    await templates.draft([PAID, OFFER], NOON)
    return templates


async def test_draft_is_not_approved(store: Store) -> None:
    """What was never handed in may not be used, and stands with its variables in the list."""
    templates = await opened(store)
    first, second = await templates.of("ali")
    assert (first.text, first.names, first.marketing, first.state, first.code) == (
        PAID.text, ("order_no",), False, "draft", "",
    )  # fmt: skip
    assert second.marketing
    assert await templates.approved() == {}
    assert await templates.of("tc") == []


async def test_review_decides_whether_a_text_may_be_used(store: Store) -> None:
    """Only while it is approved does a text have a code to send with; a template can be taken back."""
    templates = await opened(store)
    assert await templates.bind("ali", PAID.text, "SMS_1", "in_review", NOON)
    assert await templates.approved() == {}
    assert await templates.review("ali", "SMS_1", "approved", "", LATER)
    assert await templates.approved() == {"ali": {PAID.text: "SMS_1"}}
    assert await templates.review("ali", "SMS_1", "rejected", "selling words", LATER)
    assert await templates.approved() == {}
    [paid] = [one for one in await templates.of("ali") if one.code]
    assert (paid.state, paid.reason, paid.updated_at) == ("rejected", "selling words", LATER)


async def test_review_of_what_is_not_ours(store: Store) -> None:
    """Another code, or the same one of another provider, changes nothing."""
    templates = await opened(store)
    await templates.bind("ali", PAID.text, "SMS_1", "in_review", NOON)
    assert not await templates.review("ali", "SMS_2", "approved", "", NOON)
    assert not await templates.review("tc", "SMS_1", "approved", "", NOON)
    assert not await templates.bind("ali", "unheard of", "SMS_3", "approved", NOON)
    assert await templates.approved() == {}


async def test_one_code_for_several_texts(store: Store) -> None:
    """A word on a template holds for all texts that fill it."""
    templates = await opened(store)
    for one in (PAID, OFFER):
        await templates.bind("ali", one.text, "T1", "in_review", NOON)
    await templates.review("ali", "T1", "approved", "", NOON)
    assert await templates.approved() == {"ali": {PAID.text: "T1", OFFER.text: "T1"}}


async def test_draft_again_keeps_what_is_known(store: Store) -> None:
    """Drafting a text that has a code must change nothing; a new code takes the place of the old one."""
    templates = await opened(store)
    await templates.bind("ali", PAID.text, "SMS_1", "approved", NOON)
    await templates.draft([PAID], LATER)
    assert await templates.approved() == {"ali": {PAID.text: "SMS_1"}}
    await templates.bind("ali", PAID.text, "SMS_2", "approved", LATER)
    assert await templates.approved() == {"ali": {PAID.text: "SMS_2"}}


async def test_only_what_was_never_handed_in_is_forgotten(store: Store) -> None:
    """A text that stands at the provider stays on record, whoever no longer says it."""
    templates = await opened(store)
    await templates.bind("ali", PAID.text, "SMS_1", "approved", NOON)
    await templates.forget("ali", [PAID.text, OFFER.text])
    assert [one.text for one in await templates.of("ali")] == [PAID.text]


async def test_signature_has_a_state(store: Store) -> None:
    """The last word on a signature holds, with its reason."""
    templates = Templates(store)
    await templates.review_signature("ali", "叮咚", "in_review", "", NOON)
    await templates.review_signature("ali", "叮咚", "rejected", "no trademark", LATER)
    assert await templates.signatures("ali") == [("叮咚", "rejected", "no trademark")]
    assert await templates.signatures("tc") == []


def test_digest_tells_texts_apart() -> None:
    """One letter makes another template; the digest is the same on every machine."""
    assert digest_of("a") != digest_of("b")
    assert digest_of("叮咚").hex() == "b89a6fe038d899748297b7d9a2f47c76"
